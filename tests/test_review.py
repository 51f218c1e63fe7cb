"""The human gate: who is queued, what a decisions file may say, and what becomes of every row."""

import csv
import json

import pytest

from bimedix_utils import review, translation
from bimedix_utils.errors import InputError
from bimedix_utils.review import COLUMNS, Decision

pytestmark = pytest.mark.unit
VALUES = {"question": "ما سبب الألم؟", "options": ["أ", "ب", "ج", "د"], "answer": "السبب «التهاب»، والعلاج 5 ملغ."}
HASH = translation.text_hash(VALUES)


RECORD = {
    "kind": "mcqa", "lang": "en", "source": "toy", "licence": "MIT", "split": "train", "question": "What causes the pain?",
    "options": ["A", "B", "C", "D"], "answer_index": 0, "answer": "It is an inflammation, treated with 5 mg.",
}  # fmt: skip


def state(row_id="row:1", name="human", values=VALUES, note="score 70 is below 85"):
    """A row of 03's states.jsonl, as far as the review reads it."""
    best = {"values": values, "text_hash": translation.text_hash(values), "score": 90, "round": 0} if values else None
    return {"id": row_id, "state": name, "note": note, "best": best, "record": {"id": row_id, **RECORD}}


def decision(verdict="approve", row_id="row:1", edited=None, text_hash=HASH):
    return Decision(row_id, verdict, edited, "Dr A", "2026-01-02", text_hash, "")


def merge(states, decisions=(), policy="hold", share=0.0):
    return review.merge(states, review.queue(states, share, 1), list(decisions), policy)


# The queue


def test_queue_holds_what_was_not_accepted_and_a_sample_of_the_rest():
    states = [state("low"), state("high", "accept"), state("none", "refused", None), state("wait", "held", None)]
    assert [(q["id"], q["queue_reason"]) for q in review.queue(states, 0.0, 1)] == [("low", "low")]
    assert [(q["id"], q["queue_reason"]) for q in review.queue(states, 1.0, 1)] == [("low", "low"), ("high", "sample")]
    assert review.queue(states, 0.0, 1)[0]["best"] == states[0]["best"]


def test_the_sample_is_about_as_large_as_asked_and_changes_with_the_seed():
    drawn = {seed: {i for i in range(4000) if review.sampled(f"row:{i}", 0.2, seed)} for seed in (1, 2)}
    # Four standard errors of a share of 0.2 in 4000 draws.
    assert all(abs(len(rows) / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5 for rows in drawn.values())
    assert drawn[1] != drawn[2]
    assert not any(review.sampled(f"row:{i}", 0.0, 1) for i in range(100)) and all(review.sampled(f"row:{i}", 1.0, 1) for i in range(100))


def test_adding_rows_or_widening_the_sample_moves_no_drawn_row_out():
    few = [state(f"row:{i}", "accept") for i in range(0, 200, 2)]
    many = [state(f"row:{i}", "accept") for i in reversed(range(200))]
    ids = {
        name: {q["id"] for q in review.queue(rows, share, 7)}
        for name, rows, share in (("few", few, 0.3), ("many", many, 0.3), ("wide", many, 0.5))
    }
    assert ids["few"] == {row_id for row_id in ids["many"] if int(row_id[4:]) % 2 == 0} and ids["few"]
    assert ids["many"] < ids["wide"]


# Merging


def test_each_verdict():
    edited = {**VALUES, "question": "ما سبب هذا الألم؟"}
    assert merge([state()], [decision("approve")]) == {"row:1": ("ok", VALUES, "approve by Dr A")}
    assert merge([state()], [decision("edit", edited=edited)]) == {"row:1": ("ok", edited, "edit by Dr A")}
    assert merge([state()], [decision("reject")]) == {"row:1": ("rejected", None, "reject by Dr A")}


def test_a_decision_on_a_sampled_high_score_counts():
    assert merge([state(name="accept")], [decision("reject")], share=1.0)["row:1"][0] == "rejected"


@pytest.mark.parametrize(
    "name, share, policy, status, note",
    [
        ("human", 0.0, "hold", "held", "waits for review"),
        ("human", 0.0, "accept_high_scores", "held", "waits for review"),
        ("accept", 1.0, "hold", "held", "waits for review"),
        ("accept", 1.0, "accept_high_scores", "ok", "high score, not reviewed"),
        ("accept", 0.0, "hold", "ok", "accepted by score and checks"),
        ("accept", 0.0, "accept_high_scores", "ok", "accepted by score and checks"),
    ],
)
def test_each_policy_without_a_decision(name, share, policy, status, note):
    assert merge([state(name=name)], policy=policy, share=share) == {"row:1": (status, VALUES if status == "ok" else None, note)}


def test_rows_without_a_text_keep_their_status_and_no_row_is_lost():
    states = [
        state("a", "refused", None, "I cannot"),
        state("b", "truncated", None),
        state("c", "held", None),
        state("d", "accept"),
        state("e"),
    ]
    merged = merge(states, policy="accept_high_scores")
    assert [(row_id, status) for row_id, (status, _, _) in merged.items()] == [
        ("a", "refused"), ("b", "truncated"), ("c", "held"), ("d", "ok"), ("e", "held"),
    ]  # fmt: skip
    assert merged["a"] == ("refused", None, "I cannot")


@pytest.mark.parametrize("verdict", ["approve", "edit", "reject"])
def test_a_decision_on_a_changed_text_is_void(verdict):
    changed = state(values={**VALUES, "answer": "نص جديد"})
    old = decision(verdict, edited=VALUES if verdict == "edit" else None)
    assert merge([changed], [old]) == {"row:1": ("held", None, "decision void: the text changed")}


def test_a_void_decision_on_a_high_score_leaves_the_policy_to_decide():
    changed = state(name="accept", values={**VALUES, "answer": "نص جديد"})
    assert merge([changed], [decision("reject")], "accept_high_scores", 1.0)["row:1"] == (
        "ok",
        changed["best"]["values"],
        "high score, not reviewed",
    )


def test_merging_changes_neither_its_arguments_nor_its_answer():
    states = [state("row:1"), state("row:2", "accept")]
    queued, decisions = review.queue(states, 1.0, 1), [decision("edit", edited={**VALUES, "answer": "س"})]
    before = json.dumps([states, queued], ensure_ascii=False)
    assert review.merge(states, queued, decisions, "hold") == review.merge(states, queued, decisions, "hold")
    assert json.dumps([states, queued], ensure_ascii=False) == before


def test_a_decision_on_a_row_that_was_never_translated_here():
    with pytest.raises(InputError, match="decision on row:9: no translation of that row was made in this run"):
        review.merge([state("row:1")], [], [decision("approve", row_id="row:9")], "hold")


def test_a_decision_stands_when_another_seed_no_longer_queues_its_row():
    states = [state("row:1", "accept")]
    assert review.merge(states, [], [decision("reject", row_id="row:1")], "hold")["row:1"][0] == "rejected"


@pytest.mark.parametrize("edited", [{"question": "س"}, {**VALUES, "extra": "س"}, {}], ids=["keys missing", "key too many", "none"])
def test_an_edit_with_other_keys(edited):
    with pytest.raises(InputError, match=r"decision on row:1: the edit has .*; wanted .*'answer'.*'options'.*'question'"):
        merge([state()], [decision("edit", edited=edited)])


@pytest.mark.parametrize(
    "edited",
    [{**VALUES, "options": ["أ", "ب", "ج"]}, {**VALUES, "options": "أ ب ج د"}, {**VALUES, "question": 5}],
    ids=["option dropped", "options one text", "number"],
)
def test_an_edit_with_other_counts_or_types(edited):
    with pytest.raises(InputError, match="decision on row:1"):
        merge([state()], [decision("edit", edited=edited)])


@pytest.mark.parametrize("edited", [{**VALUES, "question": " "}, {**VALUES, "options": ["أ", "", "ج", "د"]}])
def test_an_edit_that_empties_a_text(edited):
    with pytest.raises(InputError, match="decision on row:1"):
        merge([state()], [decision("edit", edited=edited)])


def test_a_reviewer_can_put_back_a_dropped_option():
    """The rows a person sees are the faulty ones: the form to keep is that of the English record."""
    faulty = {**VALUES, "options": ["أ", "ب", "ج"]}
    edit = decision("edit", edited=VALUES, text_hash=translation.text_hash(faulty))
    assert merge([state(values=faulty)], [edit]) == {"row:1": ("ok", VALUES, "edit by Dr A")}


def test_a_void_edit_of_another_form_is_void():
    old = decision("edit", edited={"question": "س"}, text_hash="hash of an older text")
    assert merge([state()], [old]) == {"row:1": ("held", None, "decision void: the text changed")}


# The decisions file


def file(tmp_path, *rows, header=COLUMNS):
    path = tmp_path / "decisions.csv"
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def cells(row_id="row:1", verdict="approve", edited="", reviewer="Dr A", decided_at="2026-01-02", text_hash=HASH, note=""):
    return [row_id, verdict, edited, reviewer, decided_at, text_hash, note]


def test_round_trip_with_arabic(tmp_path):
    decisions = [
        Decision("row:1", "edit", VALUES, "د. سلمى", "2026-01-02", HASH, "صححت «الجرعة»، انظر\nالسطر الثاني"),
        Decision("row:2", "approve", None, 'Dr "B", Jr', "2026-01-03", "h2", ""),
        Decision("row:3", "reject", None, "Dr C", "2026-01-03", "h3", "بلا معنى؛ رديء"),
    ]
    path = tmp_path / "decisions.csv"
    review.write_decisions(path, decisions)
    assert review.read_decisions(path) == decisions
    # Excel shows Arabic only behind a byte-order mark, and a reviewer must be able to read the edit.
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and VALUES["question"] in path.read_text(encoding="utf-8")
    review.write_decisions(path, review.read_decisions(path))
    assert review.read_decisions(path) == decisions


def test_columns_may_be_moved_and_added(tmp_path):
    path = file(tmp_path, [*cells()[::-1], "x"], header=[*COLUMNS[::-1], "comment"])
    assert review.read_decisions(path) == [decision()]


def test_a_file_with_a_header_only_decides_nothing(tmp_path):
    assert review.read_decisions(file(tmp_path)) == []
    assert review.read_decisions(file(tmp_path, header=COLUMNS)) == []


def test_an_edited_text_of_another_verdict_is_not_taken(tmp_path):
    assert review.read_decisions(file(tmp_path, cells(edited="{}")))[0].edited is None


CURLY = "{“question”: “س”}"
BROKEN = {
    "verdict unknown": ([cells(), cells("row:2", "accept")], r"row 3: verdict 'accept'; wanted one of approve, edit, reject"),
    "verdict empty": ([cells(verdict="")], r"row 2: verdict ''"),
    "doubled": ([cells(), cells("row:2"), cells()], r"row 4: a second decision for row:1"),
    "curly quotes": ([cells(), cells("row:2", "edit", CURLY)], r"row 3: column edited is not JSON .*curly"),
    "edit without a text": ([cells(verdict="edit")], r"row 2: column edited is not JSON"),
    "cut JSON": ([cells(verdict="edit", edited='{"question": "س"')], r"row 2: column edited is not JSON"),
}


@pytest.mark.parametrize("rows, message", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_a_decision_is_named(rows, message, tmp_path):
    with pytest.raises(InputError, match=rf"decisions\.csv, {message}"):
        review.read_decisions(file(tmp_path, *rows))


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="columns wanted row_id, verdict, .*; seen row_id, verdict"):
        review.read_decisions(file(tmp_path, header=["row_id", "verdict"]))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="empty.csv: columns wanted .*; seen none"):
        review.read_decisions(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="nowhere.csv: cannot be read"):
        review.read_decisions(tmp_path / "nowhere.csv")


def test_a_windows_file_is_named_with_the_cure(tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_bytes(",".join(COLUMNS).encode() + "\nrow:1,approve,,سلمى,,,\n".encode("windows-1256"))
    with pytest.raises(InputError, match="line 2: not UTF-8 .*iconv -f WINDOWS-1256"):
        review.read_decisions(path)


@pytest.mark.parametrize("row", [[], ["row:2"], ["row:2", "approve"], [*cells("row:2"), "x"]], ids=["blank line", "id only", "cut", "long"])
def test_a_row_with_too_few_or_too_many_cells_is_named(row, tmp_path):
    with pytest.raises(InputError, match=rf"row 3: {len(row)} cells; wanted 7"):
        review.read_decisions(file(tmp_path, cells(), row))


@pytest.mark.parametrize("edited", ["null", "5"])
def test_an_edit_that_is_no_object_is_named(edited, tmp_path):
    with pytest.raises(InputError, match=r"row 2|row:1"):
        merge([state()], review.read_decisions(file(tmp_path, cells(verdict="edit", edited=edited))))
