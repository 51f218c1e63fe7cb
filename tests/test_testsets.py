"""Test sets in the target language: who enters, what never moves, and what is written."""

import json
from dataclasses import replace

import pytest

from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record
from bimedix_utils.review import ReviewDecision, testsets
from bimedix_utils.translation import (
    Flag,
    RowState,
    Version,
    select_test_items,
    text_fields,
    text_hash,
    untranslatable,
)

pytestmark = pytest.mark.unit
THRESHOLD = 95


def item(number, question="Which nerve was injured?", source="mmlu_anatomy", **more):
    common = {
        "kind": "mcqa",
        "lang": "en",
        "source": source,
        "licence": "MIT",
        "split": "test",
        "options": ("a", "b", "c", "d"),
        "answer_index": 2,
    }
    return Record(**{**common, "id": f"{source}:{number}", "question": question, **more})


def state(number, score=97, where="accept", flags=(), record=None):
    record = record or item(number)
    values = {
        **text_fields(record),
        "question": f"أي عصب تأذى {number}؟",
        "options": ["أ", "ب", "ج", "د"],
    }
    version = Version(0, values, [Flag(name, severity, "why") for name, severity in flags], score)
    return RowState(record, where, "note", [version]).row()


def decide(row, verdict="approve", edited=None):
    return ReviewDecision(
        row["id"], verdict, edited, "Amal", "2026-11-24", text_hash(row["best"]["values"])
    )


@pytest.mark.parametrize(
    "question, reason",
    [
        ("What does the abbreviation COPD stand for?", "abbreviation"),
        ("INR stands for which of these?", "abbreviation"),
        ("Which word is spelled correctly?", "spelling"),
        ("The prefix 'hypo-' means:", "word formation"),
        ("What is the plural of bronchus?", "word formation"),
        ("Which drug is given for COPD?", ""),
        ("A patient cannot stand for long. What is the cause?", ""),
        ("Which root of the tooth is longest?", ""),
        ("In which position is the murmur most pronounced?", ""),
        ("A man who stands for 10 hours a day has swollen veins. What is the cause?", ""),
        ("What does NSAID stand for?\nSelect one answer.", "abbreviation"),
        ("He is asked to spell a word and misspelled it. What is the diagnosis?", ""),
        ("A woman has dizzy spells on standing up. What is the diagnosis?", ""),
    ],
)
def test_items_about_an_english_word_are_not_translatable(question, reason):
    """By rule, on what is asked; what is left out is listed on the card."""
    assert untranslatable(item(1, question)) == reason


def test_selected_are_the_english_items_of_the_nine_tasks():
    rows = [
        item(1),
        item(2, lang="ar"),
        item(3, split="train"),
        item(4, source="open"),
        item(5, status="held"),
    ]
    rows.append(item(6, source="medmcqa", split="validation"))
    assert [r.id for r in select_test_items(rows)] == ["mmlu_anatomy:1", "medmcqa:6"]


def test_a_number_of_items_is_drawn_for_each_task_and_order_does_not_matter():
    rows = [item(i, source=source) for source in ("mmlu_anatomy", "medqa") for i in range(20)]
    drawn = {r.id for r in select_test_items(rows, 5, seed=1)}
    assert len(drawn) == 10 and drawn == {r.id for r in select_test_items(rows[::-1], 5, seed=1)}
    assert drawn != {r.id for r in select_test_items(rows, 5, seed=2)}


def test_who_enters_without_a_reviewer():
    states = [
        state(1),
        state(2, score=94),
        state(3, flags=[("numbers", "reject")]),
        state(4, flags=[("abbreviation", "note")]),
        state(5, where="human"),
    ]
    admitted = testsets.admit_test_items(states, [], THRESHOLD)
    assert {row_id.split(":")[1]: status for row_id, (status, *_) in admitted.items()} == {
        "1": "ok",
        "2": "held",
        "3": "held",
        "4": "ok",
        "5": "held",
    }
    assert [q["id"].split(":")[1] for q in testsets.test_item_queue(states, THRESHOLD)] == [
        "2",
        "3",
        "5",
    ]


def test_a_reviewer_outweighs_score_and_checks():
    low, high, bad = (
        state(1, score=40, where="human"),
        state(2),
        state(3, flags=[("numbers", "reject")], where="human"),
    )
    edited = {**high["best"]["values"], "question": "أي عصب أصيب؟"}
    admitted = testsets.admit_test_items(
        [low, high, bad],
        [decide(low), decide(high, "edit", edited), decide(bad, "reject")],
        THRESHOLD,
    )
    assert [admitted[s["id"]][0] for s in (low, high, bad)] == [
        "ok",
        "ok",
        "rejected",
    ] and admitted[high["id"]][1] == edited


def test_a_decision_on_another_text_admits_nobody():
    row = state(1, score=97)
    old = ReviewDecision(row["id"], "approve", None, "Amal", "x", "another hash")
    assert testsets.admit_test_items([row], [old], THRESHOLD)[row["id"]][0] == "held"


def test_a_row_that_was_never_translated_is_not_admitted():
    refused = RowState(item(1), "refused", "no").row()
    assert (
        testsets.admit_test_items([refused], [], THRESHOLD)
        == {"mmlu_anatomy:1": ("refused", None, "no")}
        and testsets.test_item_queue([refused], THRESHOLD) == []
    )


def written(tmp_path, states, excluded=None):
    admitted = testsets.admit_test_items(states, [], THRESHOLD)
    rows = testsets.admitted_records(states, admitted, "ar")
    return (
        testsets.write_test_set(
            tmp_path / "set", states, rows, admitted, excluded or {}, [], THRESHOLD, "ar"
        ),
        rows,
    )


def test_what_is_written_is_read_and_says_what_is_in_it(tmp_path):
    states = [state(1), state(2, score=50, where="human"), state(3, record=item(3, source="medqa"))]
    manifest, rows = written(tmp_path, states, {"mmlu_anatomy:9": "spelling"})
    assert (
        {r.id: r for r in testsets.read_test_set(tmp_path / "set")} == {r.id: r for r in rows}
        and [r.answer_index for r in rows] == [2, 2]
        and all(r.lang == "ar" for r in rows)
    )
    assert (manifest["items"], manifest["of"], manifest["not_admitted"]) == (2, 3, {"held": 1})
    card = (tmp_path / "set" / "README.md").read_text("utf-8")
    assert (
        "2 of 3 items" in card
        and "mmlu_anatomy:9: spelling" in card
        and "never medical advice" in card
        and manifest["version"] in card
    )


def test_a_version_follows_the_texts_and_nothing_else(tmp_path):
    first, _ = written(tmp_path / "a", [state(1)])
    again, _ = written(tmp_path / "b", [state(1)])
    other, _ = written(tmp_path / "c", [state(1), state(2)])
    assert first["version"] == again["version"] != other["version"]


def test_a_changed_key_is_refused(tmp_path):
    states = [state(1)]
    admitted = testsets.admit_test_items(states, [], THRESHOLD)
    rows = [r.replace(answer_index=0) for r in testsets.admitted_records(states, admitted, "ar")]
    with pytest.raises(InputError, match="the keys of the translated set differ"):
        testsets.write_test_set(tmp_path, states, rows, admitted, {}, [], THRESHOLD, "ar")


def test_a_lost_option_is_refused():
    states = [state(1)]
    values = {**states[0]["best"]["values"], "options": ["أ", "ب", "ج"]}
    with pytest.raises(InputError, match="its key or its options are not those of mmlu_anatomy:1"):
        testsets.admitted_records(states, {states[0]["id"]: ("ok", values, "")}, "ar")


def test_a_changed_file_is_refused(tmp_path):
    written(tmp_path, [state(1)])
    path = tmp_path / "set" / "mmlu_anatomy.ar.jsonl"
    row = json.loads(path.read_text("utf-8"))
    path.write_text(
        json.dumps({**row, "answer_index": 0}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with pytest.raises(
        InputError, match="mmlu_anatomy.ar.jsonl is not the file its manifest describes"
    ):
        testsets.read_test_set(tmp_path / "set")


def test_simulated_reviewers_are_not_counted_as_people(tmp_path):
    """The card said "decided by a reviewer" of rows that no person had read."""
    one, two = state(1, score=40, where="human"), state(2, score=40, where="human")
    decisions = [replace(decide(one), reviewer="Simulated B"), decide(two)]
    admitted = testsets.admit_test_items([one, two], decisions, THRESHOLD)
    rows = testsets.admitted_records([one, two], admitted, "ar")
    manifest = testsets.write_test_set(
        tmp_path, [one, two], rows, admitted, {}, decisions, THRESHOLD, "ar"
    )
    assert (manifest["items"], manifest["reviewed"], manifest["simulated"]) == (2, 1, 1)


def test_files_of_an_older_set_do_not_stay(tmp_path):
    written(tmp_path, [state(1), state(2, record=item(2, source="medqa"))])
    written(tmp_path, [state(1)])
    assert [path.name for path in (tmp_path / "set").glob("*.jsonl")] == ["mmlu_anatomy.ar.jsonl"]
