"""The human gate: who is queued, what a decisions file may say, and what becomes of every row."""

import csv
import dataclasses
import json
import multiprocessing
import os
import re
import threading
from collections import Counter

import pytest

from bimedix_utils import review, translation
from bimedix_utils.core import display
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.files import file_lock
from bimedix_utils.review import DECISION_COLUMNS, ReviewDecision

pytestmark = pytest.mark.unit
VALUES = {
    "question": "ما سبب الألم؟",
    "options": ["أ", "ب", "ج", "د"],
    "answer": "السبب «التهاب»، والعلاج 5 ملغ.",
}
HASH = translation.text_hash(VALUES)


RECORD = {
    "kind": "mcqa",
    "lang": "en",
    "source": "toy",
    "licence": "MIT",
    "split": "train",
    "question": "What causes the pain?",
    "options": ["A", "B", "C", "D"],
    "answer_index": 0,
    "answer": "It is an inflammation, treated with 5 mg.",
}


def state(row_id="row:1", name="human", values=VALUES, note="score 70 is below 85"):
    """A row of 03's states.jsonl, as far as the review reads it."""
    best = (
        {"values": values, "text_hash": translation.text_hash(values), "score": 90, "round": 0}
        if values
        else None
    )
    return {
        "id": row_id,
        "state": name,
        "note": note,
        "best": best,
        "record": {"id": row_id, **RECORD},
    }


def decision(
    verdict="approve", row_id="row:1", edited=None, text_hash=HASH, reviewer="Dr A", seconds=None
):
    return ReviewDecision(row_id, verdict, edited, reviewer, "2026-01-02", text_hash, "", seconds)


def merge(states, decisions=(), policy="hold", share=0.0):
    return review.merge_decisions(
        states, review.review_queue(states, share, 1), list(decisions), policy
    )


# The queue


def test_queue_holds_what_was_not_accepted_and_a_sample_of_the_rest():
    states = [
        state("low"),
        state("high", "accept"),
        state("none", "refused", None),
        state("wait", "held", None),
    ]
    assert [(q["id"], q["queue_reason"]) for q in review.review_queue(states, 0.0, 1)] == [
        ("low", "low")
    ]
    assert [(q["id"], q["queue_reason"]) for q in review.review_queue(states, 1.0, 1)] == [
        ("low", "low"),
        ("high", "sample"),
    ]
    assert review.review_queue(states, 0.0, 1)[0]["best"] == states[0]["best"]


def test_the_sample_is_about_as_large_as_asked_and_changes_with_the_seed():
    drawn = {
        seed: {i for i in range(4000) if review.is_sampled(f"row:{i}", 0.2, seed)}
        for seed in (1, 2)
    }
    # Four standard errors of a share of 0.2 in 4000 draws.
    assert all(
        abs(len(rows) / 4000 - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5 for rows in drawn.values()
    )
    assert drawn[1] != drawn[2]
    assert not any(review.is_sampled(f"row:{i}", 0.0, 1) for i in range(100)) and all(
        review.is_sampled(f"row:{i}", 1.0, 1) for i in range(100)
    )


def test_adding_rows_or_widening_the_sample_moves_no_drawn_row_out():
    few = [state(f"row:{i}", "accept") for i in range(0, 200, 2)]
    many = [state(f"row:{i}", "accept") for i in reversed(range(200))]
    ids = {
        name: {q["id"] for q in review.review_queue(rows, share, 7)}
        for name, rows, share in (("few", few, 0.3), ("many", many, 0.3), ("wide", many, 0.5))
    }
    assert (
        ids["few"] == {row_id for row_id in ids["many"] if int(row_id[4:]) % 2 == 0} and ids["few"]
    )
    assert ids["many"] < ids["wide"]


def scored(row_id, score, source="toy", name="accept"):
    row = state(row_id, name)
    return {
        **row,
        "best": {**row["best"], "score": score},
        "record": {**row["record"], "source": source},
    }


def test_a_stratum_is_a_source_and_a_score_band():
    seen = {
        score: review.stratum(scored("row:1", score))
        for score in (0, 49, 50, 84, 85, 89, 90, 94, 95, 100, None)
    }
    assert list(seen.values()) == [
        "toy 0-49",
        "toy 0-49",
        "toy 50-69",
        "toy 80-84",
        "toy 85-89",
        "toy 85-89",
        "toy 90-94",
        "toy 90-94",
        "toy 95-100",
        "toy 95-100",
        "toy not scored",
    ]


def test_every_stratum_of_accepted_rows_is_seen_by_a_reviewer():
    """A plain sample of a small share often left a small source or a rare band unseen."""
    states = [scored(f"big:{i}", 96) for i in range(400)] + [
        scored("rare:1", 86),
        scored("small:1", 96, "other"),
        scored("small:2", 91, "other"),
    ]
    for seed in range(5):
        drawn = Counter(q["stratum"] for q in review.review_queue(states, 0.05, seed))
        assert set(drawn) == {"toy 95-100", "toy 85-89", "other 95-100", "other 90-94"}
        assert drawn["toy 85-89"] == drawn["other 95-100"] == drawn["other 90-94"] == 1
        assert abs(drawn["toy 95-100"] / 400 - 0.05) < 4 * (0.05 * 0.95 / 400) ** 0.5
    assert review.review_queue(states, 0.0, 1) == []


def test_low_rows_are_all_queued_whatever_the_stratum_and_carry_it():
    queued = review.review_queue(
        [scored("a", 60, name="human"), scored("b", None, name="human")], 0.0, 1
    )
    assert [(q["id"], q["stratum"], q["reviewers"]) for q in queued] == [
        ("a", "toy 50-69", 1),
        ("b", "toy not scored", 1),
    ]


def test_a_seeded_share_of_the_queue_is_reviewed_twice():
    states = [state(f"row:{i}") for i in range(1000)]
    twice = {
        seed: {q["id"] for q in review.review_queue(states, 0.0, seed, 0.3) if q["reviewers"] == 2}
        for seed in (1, 2)
    }
    assert (
        all(abs(len(rows) / 1000 - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5 for rows in twice.values())
        and twice[1] != twice[2]
    )
    assert {q["reviewers"] for q in review.review_queue(states, 0.0, 1)} == {1}
    assert {q["reviewers"] for q in review.review_queue(states, 0.0, 1, 1.0)} == {2}
    # Who is reviewed twice is independent of who is drawn: otherwise those rows would be a
    # special part of the sample.
    assert twice[1] != {f"row:{i}" for i in range(1000) if review.is_sampled(f"row:{i}", 0.3, 1)}


# Merging


def test_each_verdict():
    edited = {**VALUES, "question": "ما سبب هذا الألم؟"}
    assert merge([state()], [decision("approve")]) == {"row:1": ("ok", VALUES, "approve by Dr A")}
    assert merge([state()], [decision("edit", edited=edited)]) == {
        "row:1": ("ok", edited, "edit by Dr A")
    }
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
    assert merge([state(name=name)], policy=policy, share=share) == {
        "row:1": (status, VALUES if status == "ok" else None, note)
    }


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
        ("a", "refused"),
        ("b", "truncated"),
        ("c", "held"),
        ("d", "ok"),
        ("e", "held"),
    ]
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
    queued, decisions = (
        review.review_queue(states, 1.0, 1),
        [decision("edit", edited={**VALUES, "answer": "س"})],
    )
    before = json.dumps([states, queued], ensure_ascii=False)
    assert review.merge_decisions(states, queued, decisions, "hold") == review.merge_decisions(
        states, queued, decisions, "hold"
    )
    assert json.dumps([states, queued], ensure_ascii=False) == before


def test_a_decision_on_a_row_that_was_never_translated_here():
    with pytest.raises(
        InputError, match="decision on row:9: no translation of that row was made in this run"
    ):
        review.merge_decisions([state("row:1")], [], [decision("approve", row_id="row:9")], "hold")


def test_a_decision_stands_when_another_seed_no_longer_queues_its_row():
    states = [state("row:1", "accept")]
    assert (
        review.merge_decisions(states, [], [decision("reject", row_id="row:1")], "hold")["row:1"][0]
        == "rejected"
    )


@pytest.mark.parametrize(
    "edited",
    [{"question": "س"}, {**VALUES, "extra": "س"}, {}],
    ids=["keys missing", "key too many", "none"],
)
def test_an_edit_with_other_keys(edited):
    with pytest.raises(
        InputError,
        match=r"decision on row:1: the edit has .*; expected .*'answer'.*'options'.*'question'",
    ):
        merge([state()], [decision("edit", edited=edited)])


@pytest.mark.parametrize(
    "edited",
    [
        {**VALUES, "options": ["أ", "ب", "ج"]},
        {**VALUES, "options": "أ ب ج د"},
        {**VALUES, "question": 5},
    ],
    ids=["option dropped", "options one text", "number"],
)
def test_an_edit_with_other_counts_or_types(edited):
    with pytest.raises(InputError, match="decision on row:1"):
        merge([state()], [decision("edit", edited=edited)])


@pytest.mark.parametrize(
    "edited", [{**VALUES, "question": " "}, {**VALUES, "options": ["أ", "", "ج", "د"]}]
)
def test_an_edit_that_empties_a_text(edited):
    with pytest.raises(InputError, match="decision on row:1"):
        merge([state()], [decision("edit", edited=edited)])


def test_a_reviewer_can_put_back_a_dropped_option():
    """The rows a person sees are faulty: the form to keep is that of the English record."""
    faulty = {**VALUES, "options": ["أ", "ب", "ج"]}
    edit = decision("edit", edited=VALUES, text_hash=translation.text_hash(faulty))
    assert merge([state(values=faulty)], [edit]) == {"row:1": ("ok", VALUES, "edit by Dr A")}


def test_a_void_edit_of_another_form_is_void():
    old = decision("edit", edited={"question": "س"}, text_hash="hash of an older text")
    assert merge([state()], [old]) == {"row:1": ("held", None, "decision void: the text changed")}


def test_an_approval_of_a_text_that_lost_an_option_is_refused():
    """Such a row used to pass the gate with three of its four options."""
    faulty = {**VALUES, "options": ["أ", "ب", "ج"]}
    with pytest.raises(
        InputError, match="decision on row:1: approves a text that has another form"
    ):
        merge([state(values=faulty)], [decision(text_hash=translation.text_hash(faulty))])


def test_an_unknown_policy_is_named():
    with pytest.raises(InputError, match="policy 'wait'; expected one of hold, accept_high_scores"):
        merge([state()], policy="wait")


# Two reviewers

EDIT, OTHER = {**VALUES, "question": "ما سبب هذا الألم؟"}, {**VALUES, "question": "ما علة الألم؟"}
A, B, C = "Dr A", "Dr B", "Dr C"


def given(reviewer, verdict, edited=None):
    return decision(verdict, edited=edited, reviewer=reviewer)


DOUBLE = {
    "one of two": (2, [given(A, "approve")], ("held", None, "waits for a second reviewer")),
    "one of two rejects": (2, [given(A, "reject")], ("held", None, "waits for a second reviewer")),
    "one speaks twice": (
        2,
        [given(A, "approve"), given(A, "approve")],
        ("held", None, "waits for a second reviewer"),
    ),
    "both approve": (
        2,
        [given(A, "approve"), given(B, "approve")],
        ("ok", VALUES, "approve by Dr A and Dr B"),
    ),
    "both reject": (
        2,
        [given(A, "reject"), given(B, "reject")],
        ("rejected", None, "reject by Dr A and Dr B"),
    ),
    "same edit": (
        2,
        [given(A, "edit", EDIT), given(B, "edit", EDIT)],
        ("ok", EDIT, "edit by Dr A and Dr B"),
    ),
    "other edit": (
        2,
        [given(A, "edit", EDIT), given(B, "edit", OTHER)],
        ("held", None, "reviewers disagree: Dr A edit, Dr B edit"),
    ),
    "differ": (
        2,
        [given(A, "approve"), given(B, "edit", EDIT)],
        ("held", None, "reviewers disagree: Dr A approve, Dr B edit"),
    ),
    "differ, one required": (
        1,
        [given(A, "approve"), given(B, "reject")],
        ("held", None, "reviewers disagree: Dr A approve, Dr B reject"),
    ),
    "agree, one required": (
        1,
        [given(A, "approve"), given(B, "approve")],
        ("ok", VALUES, "approve by Dr A and Dr B"),
    ),
    "a third settles": (
        2,
        [given(A, "approve"), given(B, "edit", EDIT), given(C, "reject")],
        ("rejected", None, "reject by Dr C, after Dr A approve, Dr B edit"),
    ),
    "one gives in": (
        2,
        [given(A, "approve"), given(B, "reject"), given(A, "reject")],
        ("rejected", None, "reject by Dr A and Dr B"),
    ),
    "a third differs from two": (
        2,
        [given(A, "approve"), given(B, "approve"), given(C, "reject")],
        ("held", None, "reviewers disagree: Dr A approve, Dr B approve, Dr C reject"),
    ),
    "a third spoke before they differed": (
        2,
        [given(A, "approve"), given(B, "approve"), given(C, "approve"), given(A, "reject")],
        ("held", None, "reviewers disagree: Dr A reject, Dr B approve, Dr C approve"),
    ),
    "same reviewer later": (
        1,
        [given(A, "approve"), given(A, "edit", EDIT)],
        ("ok", EDIT, "edit by Dr A"),
    ),
}


@pytest.mark.parametrize("reviewers, decisions, expected", DOUBLE.values(), ids=DOUBLE)
def test_two_reviewers(reviewers, decisions, expected):
    states = [state()]
    queued = [{**q, "reviewers": reviewers} for q in review.review_queue(states, 0.0, 1)]
    assert review.merge_decisions(states, queued, decisions, "accept_high_scores") == {
        "row:1": expected
    }


def test_white_space_is_no_disagreement():
    wide = {**EDIT, "question": EDIT["question"].replace(" ", "  ") + " "}
    assert merge([state()], [given(A, "edit", EDIT), given(B, "edit", wide)])["row:1"] == (
        "ok",
        EDIT,
        "edit by Dr A and Dr B",
    )


def test_a_sampled_high_score_with_one_of_two_decisions_does_not_pass_by_policy():
    states = [state(name="accept")]
    queued = review.review_queue(states, 1.0, 1, 1.0)
    assert review.merge_decisions(states, queued, [given(A, "reject")], "accept_high_scores")[
        "row:1"
    ] == ("held", None, "waits for a second reviewer")


def test_a_decision_on_an_older_text_is_no_second_word():
    old = decision("reject", text_hash="hash of an older text", reviewer=B)
    assert merge([state()], [old, given(A, "approve")])["row:1"] == (
        "ok",
        VALUES,
        "approve by Dr A",
    )


def test_a_wrong_edit_can_be_taken_back():
    """Only the words that count are checked: an edit of a wrong form that its author replaced must
    not stop the merge.
    """
    assert (
        merge([state()], [given(A, "edit", {"question": "س"}), given(A, "approve")])["row:1"][0]
        == "ok"
    )


# What an edit changed


def test_differences_name_the_part_and_the_words():
    before = {
        "question": "what is the dose",
        "options": ["5 mg", "10 mg"],
        "answer": "five mg <daily>",
    }
    after = {
        "question": "what is  the dose",
        "options": ["5 mg", "15 mg"],
        "answer": "five mg twice daily",
    }
    changed = review.word_differences(before, after)
    assert changed == [
        ("option 2", [("delete", "10"), ("insert", "15"), ("equal", "mg")]),
        ("answer", [("equal", "five mg"), ("delete", "<daily>"), ("insert", "twice daily")]),
    ]
    shown = display.show_difference(changed, "row:1")
    assert (
        repr(shown)
        == "row:1\noption 2: [-10-] {+15+} mg\nanswer: five mg [-<daily>-] {+twice daily+}"
    )
    page = shown._repr_html_()
    assert (
        re.search("<del [^>]*>&lt;daily&gt;</del> <ins [^>]*>twice daily</ins>", page)
        and "<daily>" not in page
    )


def test_differences_of_chats_and_of_parts_that_one_side_lacks():
    before = {"turns": [{"role": "patient", "text": "ألم شديد"}], "options": ["أ"]}
    after = {
        "turns": [{"role": "patient", "text": "ألم خفيف"}, {"role": "doctor", "text": "منذ متى؟"}],
        "options": ["أ", "ب"],
    }
    assert review.word_differences(before, after) == [
        ("turn 1 patient", [("equal", "ألم"), ("delete", "شديد"), ("insert", "خفيف")]),
        ("turn 2 doctor", [("insert", "منذ متى؟")]),
        ("option 2", [("insert", "ب")]),
    ]
    assert review.word_differences(before, before) == []


def test_a_difference_takes_the_direction_of_its_part():
    shown = display.show_difference(
        [("question", [("equal", "جرعة"), ("delete", "(5 mg)")]), ("answer", [("insert", "dose")])]
    )._repr_html_()
    assert re.search(
        '<td dir="rtl" lang="ar"[^>]*><span dir="rtl"[^>]*>جرعة</span> <del dir="ltr"[^>]*>', shown
    )
    assert re.search('<td dir="ltr"[^>]*><ins dir="ltr"', shown)


# Corrections by part


def test_corrections_by_part_make_an_edit_in_the_form_of_the_source():
    row = state(values={**VALUES, "options": ["أ", "ب", "ج", "د", "ه"]})
    assert review.corrected_values(row, {}) == VALUES  # the fifth option is not in the source
    assert review.corrected_values(row, {"option 2": " “ب” "})["options"] == ["أ", "“ب”", "ج", "د"]
    with pytest.raises(InputError, match="option 5 is corrected, but the source has no such part"):
        review.corrected_values(row, {"option 5": "و"})
    with pytest.raises(InputError, match="option 4 has no translation"):
        review.corrected_values(
            state(values={**VALUES, "options": ["أ", "ب", "ج"]}), {"question": "س"}
        )
    with pytest.raises(InputError, match="an edit without any correction"):
        review.corrected_values(state(), {"question": VALUES["question"]})


# The decisions file


def file(tmp_path, *rows, header=DECISION_COLUMNS):
    path = tmp_path / "decisions.csv"
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def cells(
    row_id="row:1",
    verdict="approve",
    edited="",
    reviewer="Dr A",
    decided_at="2026-01-02",
    text_hash=HASH,
    note="",
):
    return [row_id, verdict, edited, reviewer, decided_at, text_hash, note]


def test_round_trip_with_arabic(tmp_path):
    decisions = [
        ReviewDecision(
            "row:1",
            "edit",
            VALUES,
            "د. سلمى",
            "2026-01-02",
            HASH,
            "صححت «الجرعة»، انظر\nالسطر الثاني",
        ),
        ReviewDecision("row:2", "approve", None, 'Dr "B", Jr', "2026-01-03", "h2", ""),
        ReviewDecision("row:3", "reject", None, "Dr C", "2026-01-03", "h3", "بلا معنى؛ رديء"),
    ]
    path = tmp_path / "decisions.csv"
    review.write_decisions(path, decisions)
    assert review.read_decisions(path) == decisions
    # Excel shows Arabic only behind a byte-order mark, and a reviewer must be able to read the
    # edit.
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and VALUES["question"] in path.read_text(
        encoding="utf-8"
    )
    review.write_decisions(path, review.read_decisions(path))
    assert review.read_decisions(path) == decisions


def test_columns_may_be_reordered_and_added(tmp_path):
    path = file(tmp_path, [*cells()[::-1], "x"], header=[*DECISION_COLUMNS[::-1], "comment"])
    assert review.read_decisions(path) == [decision()]


def test_a_file_with_a_header_only_decides_nothing(tmp_path):
    assert review.read_decisions(file(tmp_path)) == []
    assert review.read_decisions(file(tmp_path, header=DECISION_COLUMNS)) == []


def test_an_edited_text_of_another_verdict_is_not_taken(tmp_path):
    assert review.read_decisions(file(tmp_path, cells(edited="{}")))[0].edited is None


CURLY = "{“question”: “س”}"
BROKEN = {
    "verdict unknown": (
        [cells(), cells("row:2", "accept")],
        r"row 3: verdict 'accept'; expected one of approve, edit, reject",
    ),
    "verdict empty": ([cells(verdict="")], r"row 2: verdict ''"),
    "curly quotes": (
        [cells(), cells("row:2", "edit", CURLY)],
        r"row 3: column edited is not JSON .*curly",
    ),
    "edit without a text": ([cells(verdict="edit")], r"row 2: column edited is not JSON"),
    "cut JSON": (
        [cells(verdict="edit", edited='{"question": "س"')],
        r"row 2: column edited is not JSON",
    ),
}


@pytest.mark.parametrize("rows, message", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_a_decision_is_named(rows, message, tmp_path):
    with pytest.raises(InputError, match=rf"decisions\.csv, {message}"):
        review.read_decisions(file(tmp_path, *rows))


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(
        InputError, match="expected the columns row_id, verdict, .*; found row_id, verdict"
    ):
        review.read_decisions(file(tmp_path, header=["row_id", "verdict"]))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="empty.csv: expected the columns .*; found none"):
        review.read_decisions(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="nowhere.csv: cannot be read"):
        review.read_decisions(tmp_path / "nowhere.csv")


def test_a_windows_file_is_named_with_the_cure(tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_bytes(
        ",".join(DECISION_COLUMNS).encode() + "\nrow:1,approve,,سلمى,,,\n".encode("windows-1256")
    )
    with pytest.raises(InputError, match="line 2: not UTF-8 .*iconv -f WINDOWS-1256"):
        review.read_decisions(path)


@pytest.mark.parametrize(
    "row",
    [[], ["row:2"], ["row:2", "approve"], [*cells("row:2"), "x"]],
    ids=["blank line", "id only", "cut", "long"],
)
def test_a_row_with_too_few_or_too_many_cells_is_named(row, tmp_path):
    with pytest.raises(InputError, match=rf"row 3: {len(row)} cells; expected 7"):
        review.read_decisions(file(tmp_path, cells(), row))


@pytest.mark.parametrize("edited", ["null", "5"])
def test_an_edit_that_is_no_object_is_named(edited, tmp_path):
    with pytest.raises(InputError, match=r"row 2|row:1"):
        merge(
            [state()], review.read_decisions(file(tmp_path, cells(verdict="edit", edited=edited)))
        )


# The log grows


def test_appending_makes_what_reading_finds(tmp_path):
    path = tmp_path / "new" / "decisions.csv"
    words = [
        decision(seconds=3.5),
        dataclasses.replace(
            decision("edit", "row:2", VALUES), note='two\nlines, a "quote" and \u2028 a separator'
        ),
        decision("reject", reviewer="د. سلمى", seconds=0.0),
    ]
    for number, one in enumerate(words, start=1):
        before = path.read_bytes() if path.exists() else b""
        review.append_decision(path, one)
        assert (
            path.read_bytes().startswith(before) and review.read_decisions(path) == words[:number]
        )
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") and path.read_bytes().count(b"row_id") == 1


def test_several_words_on_one_row_are_kept_and_the_last_of_a_reviewer_counts(tmp_path):
    words = [
        decision("approve"),
        decision("reject", reviewer="Dr B"),
        decision("edit", edited=VALUES),
        decision("reject", text_hash="old"),
    ]
    path = tmp_path / "decisions.csv"
    review.write_decisions(path, words)
    assert review.read_decisions(path) == words
    assert review.latest_decisions(words) == words[1:]


def test_a_file_without_seconds_stays_one_and_refuses_what_it_cannot_hold(tmp_path):
    path = file(tmp_path, cells())
    review.append_decision(path, decision("reject", "row:2"))
    assert [d.seconds for d in review.read_decisions(path)] == [None, None]
    with pytest.raises(InputError, match="no column for the seconds"):
        review.append_decision(path, decision("reject", "row:3", seconds=2.0))
    assert len(review.read_decisions(path)) == 2


def test_columns_in_another_order_are_filled_in_that_order(tmp_path):
    path = file(tmp_path, [*cells()[::-1], "x"], header=[*DECISION_COLUMNS[::-1], "comment"])
    review.append_decision(path, decision("edit", "row:2", VALUES))
    assert review.read_decisions(path) == [decision(), decision("edit", "row:2", VALUES)]


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_seconds_that_are_no_time_are_named(seconds, tmp_path):
    with pytest.raises(InputError, match=f"row 2: column seconds holds '{seconds}'"):
        review.read_decisions(
            file(tmp_path, [*cells(), seconds], header=[*DECISION_COLUMNS, "seconds"])
        )


def test_another_file_is_not_written_to(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="table.csv: expected the columns row_id.*; found a, b"):
        review.append_decision(path, decision())
    assert path.read_text() == "a,b\n1,2\n"


def test_a_kill_at_any_byte_of_an_append_is_named_and_never_glued_to(tmp_path):
    """Wherever the write stops: the row is named, nothing is added behind it, and removing it keeps
    every row before it.
    """
    path = tmp_path / "decisions.csv"
    review.append_decision(path, decision(seconds=1.0))
    start = path.stat().st_size
    review.append_decision(
        path,
        dataclasses.replace(
            decision("edit", "row:2", VALUES, seconds=12.5), note='سطر\nثان، "قول"'
        ),
    )
    data = path.read_bytes()
    for size in range(start + 1, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"decisions\.csv, row 3: the last line has no end"):
            review.read_decisions(path)
        with pytest.raises(InputError, match=r"row 3: the last line has no end"):
            review.append_decision(path, decision(row_id="row:3", seconds=1.0))
        assert path.read_bytes() == data[:size]
        assert (
            review.remove_cut_row(path)
            .encode()
            .startswith(data[start:size].decode(errors="ignore").encode())
        )
        assert path.read_bytes() == data[:start] and review.remove_cut_row(path) == ""
    review.append_decision(path, decision(row_id="row:3", seconds=1.0))
    assert [d.row_id for d in review.read_decisions(path)] == ["row:1", "row:3"]


def test_a_kill_in_the_header_is_cut_back_to_an_empty_file(tmp_path):
    path = tmp_path / "decisions.csv"
    for size in (1, 3, 9):
        path.write_bytes(("\ufeff" + ",".join([*DECISION_COLUMNS, "seconds"])).encode()[:size])
        with pytest.raises(InputError, match="row 1: the last line has no end"):
            review.append_decision(path, decision())
        review.remove_cut_row(path)
        review.append_decision(path, decision())
        assert review.read_decisions(path) == [decision()]
        path.unlink()


def test_a_disk_that_refuses_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "decisions.csv"
    review.append_decision(path, decision())
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        review.append_decision(path, decision("reject", "row:2"))
    assert path.read_bytes() == before


def test_a_form_waits_while_another_one_writes(tmp_path):
    """Without the lock two forms that open a new file at once both wrote a header."""
    path = tmp_path / "decisions.csv"
    path.touch()
    with file_lock(tmp_path / ".decisions.csv.lock"):
        second = threading.Thread(target=review.append_decision, args=(path, decision()))
        second.start()
        second.join(0.3)
        assert second.is_alive() and path.read_bytes() == b""
    second.join(10)
    assert review.read_decisions(path) == [decision()]


def _append_many(path, reviewer):
    for number in range(40):
        review.append_decision(
            path, decision("edit", f"row:{number}", {"question": reviewer * 400}, reviewer=reviewer)
        )


def test_two_forms_write_whole_lines(tmp_path):
    path = tmp_path / "decisions.csv"
    workers = [
        multiprocessing.get_context("fork").Process(target=_append_many, args=(path, name))
        for name in ("Dr A", "Dr B", "Dr C")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert Counter(d.reviewer for d in review.read_decisions(path)) == {
        "Dr A": 40,
        "Dr B": 40,
        "Dr C": 40,
    }


def test_the_committed_decisions_are_readable():
    from bimedix_utils.core.provenance import ROOT

    kept = review.read_decisions(ROOT / "data" / "recordings" / "decisions.csv")
    assert kept and all(d.reviewer.startswith("simulated") and d.seconds is None for d in kept)


def test_one_person_under_two_spellings_is_no_second_reviewer():
    """ "Dr Ada" and "dr ada " approved a row that two people were to see."""
    states = [state()]
    queued = [{**row, "reviewers": 2} for row in review.review_queue(states, 1.0, 1)]
    words = [decision(reviewer=name) for name in ("Dr Ada", "dr  ada ")]
    assert review.merge_decisions(states, queued, words, "hold")[states[0]["id"]][::2] == (
        "held",
        "waits for a second reviewer",
    )
    assert review.is_simulated(" Simulated B") and not review.is_simulated("Dr Simula")
