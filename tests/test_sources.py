"""The readers of published files, on tiny files in their owners' formats and on the real rows found
through RAW_DIR.
"""

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bimedix_utils import sources
from bimedix_utils.core import templates
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record, write_jsonl
from bimedix_utils.sources import raw_rows
from bimedix_utils.sources.layouts import split_speakers

pytestmark = pytest.mark.unit
MMLU_SUBJECTS = [
    name.removeprefix("mmlu_") for name in sources.load_benchmarks() if name.startswith("mmlu_")
]
ROLES = sources.known_sources()["dialogue"].roles

MEDMCQA = {
    "id": "m1",
    "question": "Which  nerve?",
    "opa": "Ulnar",
    "opb": "Radial ",
    "opc": "Median",
    "opd": "Tibial",
    "cop": 4,
}
MEDQA = {
    "question": "A 40-year-old man. Which is it?",
    "answer": "Two",
    "options": {"A": "One", "B": "Two", "C": "Three", "D": "Four"},
    "meta_info": "step1",
    "answer_idx": "B",
}
PUBMEDQA = {
    "QUESTION": "Does it help?",
    "CONTEXTS": ["We asked.", "We saw."],
    "LABELS": ["BACKGROUND", "RESULTS"],
    "final_decision": "maybe",
    "LONG_ANSWER": "It may.",
}
OPEN_QA = {
    "instruction": "Answer this question truthfully",
    "input": "What is anemia?",
    "output": "Too little hemoglobin.",
}
DIALOGUE = {
    "ID": 7,
    "section_header": "CC",
    "section_text": "Knee pain.",
    "dialogue": "Doctor: Where?\r\nPatient: My knee.\r\nDoctor: Since when?",
}
MMLU = ["Which valve?", "Tricuspid", "Pulmonary", "Mitral", "Aortic", "C"]


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(*rows: list[str]) -> str:
    handle = io.StringIO()
    csv.writer(handle, lineterminator="\n").writerows(rows)
    return handle.getvalue()


@pytest.fixture
def write(tmp_path: Path):
    """Write a file of this name and content; its path."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return _write


def refused(path: Path) -> str:
    """The message for a file that must not be read."""
    with pytest.raises(InputError) as error:
        sources.read_file(path)
    return str(error.value)


# --- one tiny file of each owner's format


def test_medmcqa_row(write):
    row = {
        **MEDMCQA,
        "exp": "Because.",
        "subject_name": "Anatomy",
        "topic_name": None,
        "choice_type": "single",
    }
    (record,) = sources.read_file(write("medmcqa_train.jsonl", jsonl(row)))
    assert record == Record(
        id="medmcqa:m1",
        kind="mcqa",
        lang="en",
        source="medmcqa",
        licence="MIT",
        split="train",
        question="Which nerve?",
        options=["Ulnar", "Radial", "Median", "Tibial"],
        answer_index=3,
        answer="Because.",
        topic="Anatomy",
    )


@pytest.mark.parametrize("missing", [{}, {"exp": None, "subject_name": None}])
def test_medmcqa_explanation_and_subject_may_be_absent(write, missing: dict):
    (record,) = sources.read_file(write("medmcqa_train.jsonl", jsonl({**MEDMCQA, **missing})))
    assert (record.answer, record.topic) == ("", "")


def medmcqa_file(*cops: int) -> str:
    return jsonl(*({**MEDMCQA, "id": f"m{i}", "cop": cop} for i, cop in enumerate(cops)))


@pytest.mark.parametrize(
    ("cops", "keys"),
    [
        ((1, 2, 3, 4), "ABCD"),  # the owner's raw file
        ((4,), "D"),
        ((2, 4, 2), "BDB"),
        ((0, 1, 2, 3), "ABCD"),  # the hub copy
        ((0,), "A"),
        ((3, 0, 1), "DAB"),
    ],
)
def test_medmcqa_counting_is_told_by_a_single_0_or_4(write, cops: tuple[int, ...], keys: str):
    records = sources.read_file(write("medmcqa_train.jsonl", medmcqa_file(*cops)))
    assert "".join(record.key() for record in records) == keys


def test_medmcqa_counting_looks_at_the_whole_file_not_at_the_rows_read(write):
    """With only the first rows read, a file without a 4 among them would count from the wrong end
    or not at all.
    """
    records = sources.read_file(write("medmcqa_train.jsonl", medmcqa_file(1, 2, 3, 0)), rows=2)
    assert [record.key() for record in records] == ["B", "C"]


@pytest.mark.parametrize(
    ("cops", "seen"),
    [((1, 2, 3), "[1, 2, 3]"), ((2,), "[2]"), ((0, 1, 4), "[0, 1, 4]"), ((4, 0), "[0, 4]")],
)
def test_medmcqa_ambiguous_or_mixed_counting_is_refused(write, cops: tuple[int, ...], seen: str):
    message = refused(write("medmcqa_train.jsonl", medmcqa_file(*cops)))
    assert f"medmcqa_train.jsonl: cop takes the values {seen}" in message
    assert "cannot be told whether it counts from 0 (hub copy) or 1 (raw file)" in message


@pytest.mark.parametrize("cop", [5, -1, "2", None, 1.0])
def test_medmcqa_key_out_of_any_counting_is_refused(write, cop: Any):
    message = refused(
        write("medmcqa_train.jsonl", jsonl(MEDMCQA, {**MEDMCQA, "id": "m2", "cop": cop}))
    )
    assert (
        message
        == f"medmcqa_train.jsonl, line 2: cop is {cop!r}; expected 1-4 (raw file) or 0-3 (hub copy)"
    )


def test_medqa_row(write):
    (record,) = sources.read_file(write("medqa_us_test.jsonl", jsonl({**MEDQA, "id": "q1"})))
    assert record == Record(
        id="medqa:q1",
        kind="mcqa",
        lang="en",
        source="medqa",
        licence="MIT",
        split="test",
        question=MEDQA["question"],
        options=["One", "Two", "Three", "Four"],
        answer_index=1,
        topic="step1",
    )


def test_medqa_options_are_read_by_letter_not_by_position(write):
    (record,) = sources.read_file(
        write(
            "medqa_test.jsonl",
            jsonl({**MEDQA, "options": {"C": "3", "A": "1", "B": "2"}, "answer_idx": "C"}),
        )
    )
    assert (record.options, record.key()) == (("1", "2", "3"), "C")


def test_medqa_without_an_id_keeps_one_when_rows_move(write):
    first, second = MEDQA, {**MEDQA, "question": "Another?"}
    one = sources.read_file(write("medqa_test.jsonl", jsonl(first, second)))
    two = sources.read_file(write("medqa_train.jsonl", jsonl(second, first)))
    assert {r.question: r.id for r in one} == {r.question: r.id for r in two}
    assert len({r.id for r in one}) == 2 and all(r.id.startswith("medqa:") for r in one)


@pytest.mark.parametrize(
    "changes",
    [
        {"answer_idx": "E"},
        {"answer_idx": "b"},
        {"answer_idx": None},
        {"answer_idx": 1},
        {"options": {"A": "x", "C": "y"}, "answer_idx": "A"},
        {"options": {"1": "x", "2": "y"}, "answer_idx": "1"},
        {"options": {}},
        {"options": ["x", "y"]},
    ],
)
def test_medqa_key_or_letters_that_do_not_fit_are_refused(write, changes: dict):
    message = refused(write("medqa_test.jsonl", jsonl({**MEDQA, **changes})))
    assert message.startswith("medqa_test.jsonl, line 1: options [")
    assert "expected letters A-D and one of them as the key" in message


def test_pubmedqa_row(write):
    (record,) = sources.read_file(write("pubmedqa_test.json", json.dumps({"123": PUBMEDQA})))
    assert record == Record(
        id="pubmedqa:123",
        kind="mcqa",
        lang="en",
        source="pubmedqa",
        licence="MIT",
        split="test",
        question="Does it help?",
        context="We asked. We saw.",
        options=["yes", "no", "maybe"],
        answer_index=2,
        answer="It may.",
    )


def test_pubmedqa_arabic_has_arabic_options_in_the_same_order(write):
    rows = {name: {**PUBMEDQA, "final_decision": name} for name in ("yes", "no", "maybe")}
    records = sources.read_file(write("pubmedqa_test.ar.json", json.dumps(rows)))
    assert [record.options[record.answer_index] for record in records] == ["نعم", "لا", "ربما"]


@pytest.mark.parametrize("decision", ["Yes", "unknown", "", None])
def test_pubmedqa_other_decisions_are_refused(write, decision: Any):
    message = refused(
        write("pubmedqa_test.json", json.dumps({"123": {**PUBMEDQA, "final_decision": decision}}))
    )
    found = f"final_decision is {decision!r}; expected yes, no or maybe"
    assert message == f"pubmedqa_test.json, entry 123: {found}"


def test_pubmedqa_in_a_language_without_option_words_is_refused(write):
    message = refused(write("pubmedqa_test.fr.json", json.dumps({"1": PUBMEDQA})))
    assert message.startswith("no language 'fr': there are ")


def test_pubmedqa_list_is_refused(write):
    message = refused(write("pubmedqa_test.json", json.dumps([PUBMEDQA])))
    assert (
        message == "pubmedqa_test.json: a JSON object keyed by PubMed id was expected, found list"
    )


def test_pubmedqa_broken_json_names_the_line(write):
    assert refused(write("pubmedqa_test.json", '{\n "1": {\n')).startswith(
        "pubmedqa_test.json, line 3: not valid JSON"
    )


def test_mmlu_rows(write):
    quoted = ['Which of "these", if any,\nis it?', "a, b", "c", "d", "e", "A"]
    records = sources.read_file(write("anatomy_test.csv", table(MMLU, quoted)))
    assert records[0] == Record(
        id="mmlu_anatomy:0",
        kind="mcqa",
        lang="en",
        source="mmlu_anatomy",
        licence="MIT",
        split="test",
        question="Which valve?",
        options=["Tricuspid", "Pulmonary", "Mitral", "Aortic"],
        answer_index=2,
        topic="anatomy",
    )
    assert (records[1].id, records[1].question, records[1].options[0]) == (
        "mmlu_anatomy:1",
        'Which of "these", if any, is it?',
        "a, b",
    )


@pytest.mark.parametrize("subject", MMLU_SUBJECTS)
def test_mmlu_subject_is_the_source(write, subject: str):
    (record,) = sources.read_file(write(f"mmlu/{subject}_test.en.csv", table(MMLU)))
    assert (record.source, record.topic, record.id) == (
        f"mmlu_{subject}",
        subject,
        f"mmlu_{subject}:0",
    )


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (["question", "A", "B", "C", "D", "answer"], "seen 6 ending in ['answer']"),
        (MMLU[:5], "seen 5 ending in ['Aortic']"),
        ([*MMLU, "x"], "seen 7 ending in ['x']"),
        ([*MMLU[:5], "E"], "seen 6 ending in ['E']"),
        ([*MMLU[:5], ""], "seen 6 ending in ['']"),
        ([*MMLU[:5], "c"], "seen 6 ending in ['c']"),
        (["0", *MMLU[:5]], "seen 6 ending in ['Aortic']"),
    ],
)
def test_mmlu_other_shapes_are_refused_with_line_seen_and_expected(
    write, row: list[str], seen: str
):
    message = refused(write("anatomy_test.csv", table(MMLU, row)))
    assert (
        message
        == "anatomy_test.csv, line 2: expected 6 columns (question, A, B, C, D, letter) without a"
        f" header; {seen}"
    )


def test_mmlu_broken_quoting_is_refused_with_the_line(write):
    message = refused(write("anatomy_test.csv", table(MMLU) + '"open,a,b,c,d,A\n'))
    assert message.startswith("anatomy_test.csv, line 2: not valid CSV")


@pytest.mark.parametrize("letter", ["AB", "BC", "ABCD"])
def test_mmlu_key_of_several_letters_is_refused(write, letter: str):
    """A key "BC" was read as B."""
    message = refused(write("anatomy_test.csv", table([*MMLU[:5], letter])))
    assert message.startswith("anatomy_test.csv, line 1: expected 6 columns") and message.endswith(
        f"seen 6 ending in ['{letter}']"
    )


def test_open_qa_row(write):
    (record,) = sources.read_file(write("open_qa_train.jsonl", jsonl({**OPEN_QA, "id": "o1"})))
    assert record == Record(
        id="open_qa:o1",
        kind="qa",
        lang="en",
        source="open_qa",
        licence="not found",
        split="train",
        question="What is anemia?",
        answer="Too little hemoglobin.",
    )


def test_open_qa_asks_by_instruction_when_the_input_is_empty(write):
    (record,) = sources.read_file(
        write(
            "open_qa_train.jsonl", jsonl({**OPEN_QA, "instruction": "What is gout?", "input": ""})
        )
    )
    assert record.question == "What is gout?"


def test_open_qa_without_an_answer_is_refused(write):
    message = refused(write("open_qa_train.jsonl", jsonl(OPEN_QA, {**OPEN_QA, "output": " "})))
    assert (
        message == "open_qa_train.jsonl, line 2: row: Value error, an open question needs an answer"
    )


def test_dialogue_row(write):
    (record,) = sources.read_file(write("mts_dialog_validation.jsonl", jsonl(DIALOGUE)))
    assert record == Record(
        id="dialogue:7",
        kind="chat",
        lang="en",
        source="dialogue",
        licence="CC-BY-4.0",
        split="validation",
        topic="CC",
        turns=[
            {"role": "doctor", "text": "Where?"},
            {"role": "patient", "text": "My knee."},
            {"role": "doctor", "text": "Since when?"},
        ],
    )


def turns_of(dialogue: str) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in split_speakers(dialogue, ROLES, "here")]


@pytest.mark.parametrize(
    ("dialogue", "turns"),
    [
        ("Doctor: A\nDoctor: B\nPatient: C", [("doctor", "A B"), ("patient", "C")]),
        ("Doctor: A\nand more\n\nPatient: C", [("doctor", "A and more"), ("patient", "C")]),
        ("Guest_clinician: A\nGuest_family: B", [("doctor", "A"), ("patient", "B")]),
        ("DOCTOR : A\r patient:B", [("doctor", "A"), ("patient", "B")]),
        ("المريض: ألم\nالطبيب: أين؟", [("patient", "ألم"), ("doctor", "أين؟")]),
        ("المريضة: ألم\nالطبيبة: أين؟", [("patient", "ألم"), ("doctor", "أين؟")]),
        (
            "Doctor: Take it at 10:30.\nPatient: Note: I will.",
            [("doctor", "Take it at 10:30."), ("patient", "Note: I will.")],
        ),
        (
            "Doctor: Rules.\nFirst: rest.\nPatient: Yes.",
            [("doctor", "Rules. First: rest."), ("patient", "Yes.")],
        ),
        ("Doctor:\nPatient: Hello.", [("patient", "Hello.")]),
    ],
)
def test_speakers_become_turns(dialogue: str, turns: list[tuple[str, str]]):
    assert turns_of(dialogue) == turns


@pytest.mark.parametrize(
    "dialogue", ["Nurse: Hello.\nPatient: Hello.", "Hello there.\nDoctor: Yes?", "الممرض: مرحبًا"]
)
def test_an_unknown_first_speaker_is_refused_with_the_known_ones(write, dialogue: str):
    message = refused(
        write("dialogues_train.jsonl", jsonl(DIALOGUE, {**DIALOGUE, "ID": 8, "dialogue": dialogue}))
    )
    assert message.startswith(
        "dialogues_train.jsonl, line 2: a dialogue line starts without a known speaker (patient,"
        " doctor, المريض"
    )
    assert repr(dialogue.split("\n")[0]) in message


@pytest.mark.parametrize(
    ("dialogue", "turns"),
    [
        (
            "Doctor: Any pain?\nPatient:\nYes, in the knee.",
            [("doctor", "Any pain?"), ("patient", "Yes, in the knee.")],
        ),
        (
            "Patient:\nMy knee hurts.\nDoctor:\n\nSince when?",
            [("patient", "My knee hurts."), ("doctor", "Since when?")],
        ),
        ("Doctor: A\nPatient:\nDoctor: B", [("doctor", "A B")]),
    ],
)
def test_words_on_the_line_after_the_speaker_are_the_speakers(
    dialogue: str, turns: list[tuple[str, str]]
):
    """The patient's answer was put into the doctor's mouth."""
    assert turns_of(dialogue) == turns


def test_a_monologue_is_kept_and_rejected_with_the_reason(write):
    alone = {**DIALOGUE, "ID": 8, "dialogue": "Doctor: All well.\nDoctor: Go home."}
    good, bad = sources.read_file(write("dialogues_train.jsonl", jsonl(DIALOGUE, alone)))
    assert (good.status, good.note) == ("ok", "")
    assert (bad.status, bad.note) == ("rejected", "only one speaker")
    assert [turn.text for turn in bad.turns] == ["All well. Go home."]


def test_a_dialogue_without_words_is_refused(write):
    message = refused(write("dialogues_train.jsonl", jsonl({**DIALOGUE, "dialogue": "\n"})))
    assert message == "dialogues_train.jsonl, line 1: row: Value error, a chat needs turns"


# --- what every reader refuses

ROWS = {
    "medmcqa_train.jsonl": (MEDMCQA, "opd"),
    "medqa_train.jsonl": (MEDQA, "answer_idx"),
    "open_qa_train.jsonl": (OPEN_QA, "output"),
    "dialogues_train.jsonl": (DIALOGUE, "dialogue"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_column_names_file_line_expected_missing_and_seen(write, name: str):
    row, column = ROWS[name]
    short = {key: value for key, value in row.items() if key != column}
    message = refused(write(name, "\n" + jsonl(short)))
    assert message.startswith(f"{name}, line 2: columns expected ")
    expected = re.fullmatch(r".*columns expected (.*); missing (.*); seen (.*)", message)
    assert column in expected[1].split(", ")
    assert expected[2] == column
    assert expected[3] == ", ".join(short)


def test_a_missing_field_of_pubmedqa_names_the_entry(write):
    short = {key: value for key, value in PUBMEDQA.items() if key != "CONTEXTS"}
    message = refused(write("pubmedqa_test.json", json.dumps({"1": PUBMEDQA, "2": short})))
    assert message.startswith(
        "pubmedqa_test.json, entry 2: columns expected QUESTION, CONTEXTS, final_decision; missing"
        " CONTEXTS; seen QUESTION"
    )


def test_a_row_without_any_column_says_none_was_seen(write):
    assert refused(write("open_qa_train.jsonl", "{}\n")).endswith(
        "missing input, instruction, output; seen none"
    )


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", [*ROWS, "anatomy_test.csv", "pubmedqa_test.json"])
def test_an_empty_file_is_refused_by_name(write, name: str, content: str):
    if name == "anatomy_test.csv":
        content = content.strip()
    elif name == "pubmedqa_test.json":
        content = "{}"
    message = refused(write(name, content))
    title = sources.recognise(Path(name)).entry.title
    assert message == f"{name}: the file is empty; {title} rows were expected"


@pytest.mark.parametrize("name", ROWS)
def test_a_duplicate_id_is_refused_with_both_rows(write, name: str):
    row = {"id": "y", **ROWS[name][0]}
    other = (
        {**row, "ID": 8, "id": "x", "dialogue": "Doctor: A\nPatient: B"}
        if name.startswith("dialogues")
        else {**row, "id": "x"}
    )
    message = refused(write(name, jsonl(row, other, row)))
    assert message.startswith(f"{name}: duplicate id ") and message.endswith("(rows 1 and 3)")


def test_a_duplicate_id_in_pubmedqa_is_refused(write):
    """The first of two entries with one id vanished."""
    one, two = json.dumps(PUBMEDQA), json.dumps({**PUBMEDQA, "QUESTION": "Another?"})
    message = refused(write("pubmedqa_test.json", f'{{"1": {one}, "2": {one}, "1": {two}}}'))
    assert message == "pubmedqa_test.json: duplicate key 1"


@pytest.mark.parametrize("name", ROWS)
def test_a_truncated_last_line_is_refused(write, name: str):
    row = ROWS[name][0]
    message = refused(write(name, jsonl(row) + jsonl({**row, "id": "x", "ID": "x"})[:30]))
    assert message.startswith(f"{name}, line 2, column ") and "fetch it again" in message


@pytest.mark.parametrize(
    "name", ["anatomy_test.ar.csv", "open_qa_train.ar.jsonl", "pubmedqa_test.ar.json"]
)
def test_a_windows_1256_file_is_refused_with_the_command(write, name: str):
    assert f"iconv -f WINDOWS-1256 -t UTF-8 '{name}'" in refused(
        write(name, "سؤال\n".encode("windows-1256"))
    )


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("medmcqa_train.jsonl", {**MEDMCQA, "question": None}),
        ("medqa_train.jsonl", {**MEDQA, "id": "q", "question": 5}),
        ("open_qa_train.jsonl", {**OPEN_QA, "output": None}),
    ],
)
def test_a_column_of_another_type_is_refused(write, name: str, row: dict):
    message = refused(write(name, jsonl(row)))
    assert message.startswith(f"{name}, line 1: column ") and "text expected, found " in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "medmcqa_train.jsonl",
            jsonl({**MEDMCQA, "opb": None}),
            ", line 1: column opb: text expected, found NoneType None",
        ),
        (
            "medmcqa_train.jsonl",
            jsonl({**MEDMCQA, "exp": 5}),
            ", line 1: column exp: text expected, found int 5",
        ),
        (
            "medqa_train.jsonl",
            jsonl({**MEDQA, "question": None}),
            ", line 1: column question: text expected, found NoneType None",
        ),
        (
            "medqa_train.jsonl",
            jsonl({**MEDQA, "options": {"A": "x", "B": None}}),
            ", line 1: column B: text expected, found NoneType None",
        ),
        (
            "medqa_train.jsonl",
            jsonl({**MEDQA, "meta_info": 1}),
            ", line 1: column meta_info: text expected, found int 1",
        ),
        (
            "open_qa_train.jsonl",
            jsonl({**OPEN_QA, "input": 3}),
            ", line 1: column input: text expected, found int 3",
        ),
        (
            "dialogues_train.jsonl",
            jsonl({**DIALOGUE, "dialogue": None}),
            ", line 1: column dialogue: text expected, found NoneType None",
        ),
        (
            "pubmedqa_test.json",
            json.dumps({"1": {**PUBMEDQA, "QUESTION": None}}),
            ", entry 1: column QUESTION: text expected, found NoneType None",
        ),
        (
            "pubmedqa_test.json",
            json.dumps({"1": {**PUBMEDQA, "CONTEXTS": "We saw."}}),
            ", entry 1: CONTEXTS: a list of texts expected, found str",
        ),
        (
            "pubmedqa_test.json",
            json.dumps({"1": 5}),
            ", entry 1: a JSON object was expected, found int",
        ),
    ],
    ids=[
        "option",
        "exp",
        "question",
        "medqa-option",
        "meta_info",
        "input",
        "dialogue",
        "QUESTION",
        "CONTEXTS",
        "entry",
    ],
)
def test_any_column_of_another_type_names_file_place_and_column(
    write, name: str, content: str, message: str
):
    """A null option became the word "None", CONTEXTS as one text became single letters, the others
    a TypeError from inside.
    """
    assert refused(write(name, content)) == name + message


# --- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("medmcqa_dev.first1000.jsonl", ("medmcqa", "en", "validation")),
        ("medmcqa_train.ar.jsonl", ("medmcqa", "ar", "train")),
        ("medmcqa.jsonl", ("medmcqa", "en", "test")),
        ("medqa_us_4options_test.first300.jsonl", ("medqa", "en", "test")),
        ("medqa_train.en.jsonl", ("medqa", "en", "train")),
        ("medqa.ar.jsonl", ("medqa", "ar", "test")),
        ("pubmedqa_validation.json", ("pubmedqa", "en", "validation")),
        ("pubmedqa_pqal.json", ("pubmedqa", "en", "test")),
        ("anatomy_test.ar.csv", ("mmlu", "ar", "test")),
        ("professional_medicine_test.csv", ("mmlu", "en", "test")),
        ("open_qa_train.fr.jsonl", ("open_qa", "fr", "train")),
        ("open_qa.jsonl", ("open_qa", "en", "test")),
        ("mts_dialog_validation.jsonl", ("dialogue", "en", "validation")),
        ("mts_dialog.jsonl", ("dialogue", "en", "test")),
        ("dialogues_train.ar.jsonl", ("dialogue", "ar", "train")),
        ("README.md", None),
        ("medmcqa_train.json", None),
        ("pubmedqa_test.jsonl", ("pubmedqa", "en", "test")),
        ("pubmedqa_artificial_train.jsonl", ("pubmedqa", "en", "train")),
        ("ori_pqaa.json", ("pubmedqa", "en", "train")),
        ("ori_pqal.json", ("pubmedqa", "en", "test")),
        ("test_ground_truth.json", None),
        ("mmlu_anatomy_test.jsonl", ("mmlu", "en", "test")),
        ("mmlu_astronomy_test.jsonl", None),
        ("Anatomy_test.csv", None),
        ("HealthCareMagic-100k.json", ("healthcaremagic", "en", "train")),
        ("icliniq_train.jsonl", ("icliniq", "en", "train")),
        ("medical_meadow_flashcards.parquet", ("medical_meadow", "en", "train")),
        ("medicationqa_train.jsonl", ("medicationqa", "en", "train")),
        ("umls_qa.jsonl", ("umls_qa", "en", "train")),
        ("TREC-2017-LiveQA-Medical-Train-1.xml", ("liveqa", "en", "train")),
        ("TREC-2017-LiveQA-Medical-Test.xml", None),
        ("0000001_1.xml", ("medquad", "en", "train")),
        (
            "bimedix_medqa_train.ar.jsonl",
            ("bimedix", "ar", "test"),
        ),  # the hub calls the split of these test sets "train"
        ("BiMed-V_stage2.json", ("bimed_v", "en", "train")),
        ("astronomy_test.csv", None),
        ("anatomy_dev.csv", None),
        ("my_medqa_test.jsonl", None),
        ("medmcqa_train.jsonl.partial", None),
    ],
)
def test_source_language_and_split_are_told_by_the_name(
    name: str, expected: tuple[str, str, str] | None
):
    """A name without a split word is test, so that it can never be trained on by accident."""
    found = sources.recognise(Path("somewhere_train") / name)
    assert (found and (found.entry.name, found.lang, found.split)) == expected


def test_find_files_gives_the_known_ones_sorted(write, tmp_path: Path):
    for name in (
        "mmlu/anatomy_test.csv",
        "medqa_test.jsonl",
        "README.md",
        "deep/er/open_qa_train.jsonl",
    ):
        write(name, "x")
    (tmp_path / "medqa_folder.jsonl").mkdir()
    found = [f.path.relative_to(tmp_path).as_posix() for f in sources.find_files(tmp_path)]
    assert found == ["deep/er/open_qa_train.jsonl", "medqa_test.jsonl", "mmlu/anatomy_test.csv"]


def test_find_files_refuses_a_missing_folder_and_names_the_parameter(tmp_path: Path):
    with pytest.raises(
        InputError,
        match=r"the data folder 'nothing' does not exist: check RAW_DIR, or leave it empty",
    ):
        sources.find_files(tmp_path / "nothing")


def test_find_files_refuses_a_folder_without_known_names_and_lists_them(write, tmp_path: Path):
    write("train.jsonl", "{}")
    with pytest.raises(
        InputError, match=r"holds no file with a known name; known names match: \^medmcqa"
    ):
        sources.find_files(tmp_path)


def test_a_file_with_an_unknown_name_is_refused(write):
    assert refused(write("train.jsonl", "{}")) == "train.jsonl: not a file name this kit knows"


# --- ids, languages, licences, first rows


def test_rows_limits_and_keeps_the_owners_order(write):
    path = write("medmcqa_train.jsonl", medmcqa_file(4, 1, 2, 3))
    assert [r.id for r in sources.read_file(path, rows=2)] == ["medmcqa:m0", "medmcqa:m1"]
    assert len(sources.read_file(path, rows=99)) == len(sources.read_file(path)) == 4


def test_a_row_in_another_language_points_at_its_english_original(write):
    english = sources.read_file(write("anatomy_test.csv", table(MMLU)))
    arabic = sources.read_file(
        write("anatomy_test.ar.csv", table(["أي صمام؟", "أ", "ب", "ج", "د", "C"]))
    )
    assert (english[0].id, english[0].parent_id) == ("mmlu_anatomy:0", None)
    assert (arabic[0].id, arabic[0].parent_id, arabic[0].lang) == (
        "mmlu_anatomy:0:ar",
        "mmlu_anatomy:0",
        "ar",
    )


OWNERS = {
    "medmcqa_train.jsonl": (jsonl(MEDMCQA), "MIT"),
    "medqa_train.jsonl": (jsonl(MEDQA), "MIT"),
    "pubmedqa_test.json": (json.dumps({"1": PUBMEDQA}), "MIT"),
    "anatomy_test.csv": (table(MMLU), "MIT"),
    "open_qa_train.jsonl": (jsonl(OPEN_QA), "not found"),
    "mts_dialog_train.jsonl": (jsonl(DIALOGUE), "CC-BY-4.0"),
}


@pytest.mark.parametrize("name", OWNERS)
def test_published_rows_carry_their_owners_licence(write, name: str):
    content, licence = OWNERS[name]
    (record,) = sources.read_file(write(name, content))
    assert record.licence == licence
    assert ":kit-" not in record.id


@pytest.mark.parametrize("name", OWNERS)
def test_the_kits_own_rows_carry_its_licence_and_an_id_of_their_own(write, name: str):
    path = write(name, OWNERS[name][0])
    (published,), (own,) = sources.read_file(path), sources.read_file(path, kit=True)
    assert own.licence == sources.KIT_LICENCE == "CC-BY-4.0"
    assert own.id == published.id.replace(":", ":kit-")
    assert own.content_hash() == published.content_hash()


def test_a_kit_id_is_marked_once(write):
    (record,) = sources.read_file(
        write("medmcqa_train.ar.jsonl", jsonl({**MEDMCQA, "id": "kit-medmcqa-001"})), kit=True
    )
    assert (record.id, record.parent_id) == (
        "medmcqa:kit-medmcqa-001:ar",
        "medmcqa:kit-medmcqa-001",
    )


# --- the hub's layouts, and one file of each further owner


def test_medmcqa_hub_rows_are_read_from_parquet_too(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    rows = [{**MEDMCQA, "id": f"m{i}", "cop": i, "exp": None} for i in range(4)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "medmcqa_train.parquet")
    records = sources.read_file(tmp_path / "medmcqa_train.parquet")
    assert [(r.id, r.key(), r.split) for r in records] == [
        (f"medmcqa:m{i}", "ABCD"[i], "train") for i in range(4)
    ]


def test_a_broken_parquet_file_is_refused(write):
    assert refused(write("medmcqa_train.parquet", "not parquet")).startswith(
        "medmcqa_train.parquet: not a Parquet file"
    )


HUB_PUBMEDQA = {
    "pubid": 123,
    "question": "Does it help?",
    "context": {"contexts": ["We asked.", "We saw."], "labels": [], "meshes": []},
    "long_answer": "It may.",
    "final_decision": "maybe",
}


def test_pubmedqa_hub_row_is_the_owners_row(write):
    owner = sources.read_file(write("pubmedqa_test.json", json.dumps({"123": PUBMEDQA})))
    hub = sources.read_file(write("pubmedqa_hub_test.jsonl", jsonl(HUB_PUBMEDQA)))
    assert hub == owner


def test_pubmedqa_artificial_is_training_data(write):
    (record,) = sources.read_file(
        write("pubmedqa_artificial.jsonl", jsonl({**HUB_PUBMEDQA, "final_decision": "yes"}))
    )
    assert (record.split, record.key()) == ("train", "A")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"context": {"contexts": "We saw."}},
            "context.contexts: a list of texts expected, found str",
        ),
        ({"context": None}, "context.contexts: a list of texts expected, found NoneType"),
        ({"final_decision": 0}, "final_decision is 0; expected yes, no or maybe"),
    ],
)
def test_pubmedqa_hub_rows_of_another_shape_are_refused(write, change: dict, message: str):
    assert (
        refused(write("pubmedqa_test.jsonl", jsonl({**HUB_PUBMEDQA, **change})))
        == f"pubmedqa_test.jsonl, line 1: {message}"
    )


def official(
    write, first: int = 0, decisions: tuple[str, ...] = ("maybe",), rows: int = 500
) -> Path:
    """The owner's list of test ids, from id 1000 + first on."""
    return write(
        "test_ground_truth.json",
        json.dumps({str(1000 + first + i): decisions[i % len(decisions)] for i in range(rows)}),
    )


def labelled(write, name: str = "pubmedqa_labeled.jsonl", ids: range = range(1000, 2000)) -> Path:
    if name.endswith("jsonl"):
        return write(name, jsonl(*({**HUB_PUBMEDQA, "pubid": i} for i in ids)))
    return write(name, json.dumps({str(i): PUBMEDQA for i in ids}))


@pytest.mark.parametrize("name", ["pubmedqa_labeled.jsonl", "ori_pqal.json"])
def test_pubmedqa_test_rows_are_the_owners_ids_wherever_they_stand(write, name: str):
    official(write, first=250)
    records = sources.read_file(labelled(write, name))
    test = {r.id for r in records if r.split == "test"}
    assert test == {f"pubmedqa:{i}" for i in range(1250, 1750)} and Counter(
        r.split for r in records
    ) == {"test": 500, "validation": 500}


@pytest.mark.parametrize("name", ["pubmedqa_labeled.jsonl", "ori_pqal.json", "pubmedqa_pqal.json"])
def test_the_labelled_part_without_the_owners_list_is_refused_and_never_cut_by_position(
    write, name: str
):
    message = refused(labelled(write, name))
    assert f"{name}: test_ground_truth.json is missing. Put the owner's file beside it" in message


def test_an_official_list_that_is_not_whole_is_refused(write):
    official(write, rows=499)
    assert "has 500 ids with yes, no or maybe; found 499" in refused(labelled(write))


def test_a_labelled_file_that_lacks_official_test_rows_is_refused(write):
    official(write)
    assert "1 of the 500 official test ids are not in it, first 1000" in refused(
        labelled(write, ids=range(1001, 2000))
    )


def test_a_decision_that_differs_from_the_official_one_is_refused(write):
    official(write, decisions=("yes",))
    assert "final_decision is 'maybe', test_ground_truth.json has 'yes'" in refused(labelled(write))


def test_a_test_file_with_a_row_that_is_no_official_test_row_is_refused(write):
    official(write)
    path = write("pubmedqa_test.jsonl", jsonl({**HUB_PUBMEDQA, "pubid": 7}))
    assert (
        refused(path) == "pubmedqa_test.jsonl, line 1: the name says test, but the id is not in"
        " test_ground_truth.json"
    )


def test_mmlu_hub_rows_are_the_owners_rows(write):
    row = {"question": MMLU[0], "subject": "anatomy", "choices": MMLU[1:5], "answer": 2}
    assert sources.read_file(write("mmlu_anatomy_test.jsonl", jsonl(row))) == sources.read_file(
        write("anatomy_test.csv", table(MMLU))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 4}, "answer is 4; expected 0-3"),
        ({"answer": "C"}, "answer is 'C'; expected 0-3"),
        ({"answer": True}, "answer is True; expected 0-3"),
        (
            {"choices": ["a", "b", "c"]},
            "choices: a list of 4 texts expected, found ['a', 'b', 'c']",
        ),
        ({"subject": "virology"}, "subject is 'virology' in a file named anatomy"),
    ],
)
def test_mmlu_hub_rows_of_another_shape_are_refused(write, change: dict, message: str):
    row = {
        "question": "q",
        "subject": "anatomy",
        "choices": ["a", "b", "c", "d"],
        "answer": 0,
        **change,
    }
    assert (
        refused(write("mmlu_anatomy_test.jsonl", jsonl(row)))
        == f"mmlu_anatomy_test.jsonl, line 1: {message}"
    )


ALPACA = {
    "instruction": "If you are a doctor, answer.",
    "input": "My knee hurts.",
    "output": "Rest it.",
}
PUBLISHED_QA = {
    "medical_meadow_flashcards.json": ("medical_meadow", ALPACA, "CC, version not stated"),
    "HealthCareMagic-100k.json": ("healthcaremagic", ALPACA, "not found"),
    "icliniq_train.jsonl": (
        "icliniq",
        {
            "input": "My knee hurts.",
            "answer_icliniq": "Rest it.",
            "answer_chatgpt": "no",
            "answer_chatdoctor": "no",
        },
        "not found",
    ),
    "umls_qa.jsonl": ("umls_qa", ALPACA, "UMLS Metathesaurus License"),
    "medicationqa.jsonl": (
        "medicationqa",
        {"Question": "My knee hurts.", "Focus (Drug)": "x", "Answer": "Rest it."},
        "not found",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED_QA)
def test_published_question_answer_sets(write, name: str):
    source, row, licence = PUBLISHED_QA[name]
    empty = {key: "" if value == "Rest it." else value for key, value in row.items()}
    rows = [row, row, empty]
    first, again, alone = sources.read_file(
        write(name, json.dumps(rows) if name.endswith("json") else jsonl(*rows))
    )
    assert (first.source, first.kind, first.split, first.licence) == (
        source,
        "qa",
        "train",
        licence,
    )
    assert (first.question, first.answer, first.status) == ("My knee hurts.", "Rest it.", "ok")
    assert (
        again.id == f"{first.id}-2" and again.content_hash() == first.content_hash()
    )  # kept: finding duplicates is notebook 05's work
    assert (alone.status, alone.note) == ("rejected", "no answer in the owner's file")


def test_a_published_set_with_other_columns_is_refused_with_the_columns_seen(write):
    message = refused(write("icliniq_train.jsonl", jsonl({"prompt": "x", "reply": "y"})))
    assert message.endswith(
        "columns expected input or instruction with answer_icliniq or output; seen prompt, reply"
    )


LIVEQA = """<?xml version="1.0" encoding="UTF-8"?><NLM-QUESTIONS>
<NLM-QUESTION questionid="Q1"><SUBJECT>gout</SUBJECT><MESSAGE>What is   gout?</MESSAGE>
<SUB-QUESTIONS><SUB-QUESTION subqid="Q1-S1"><ANNOTATIONS><FOCUS>gout</FOCUS></ANNOTATIONS><ANSWERS>
<ANSWER answerid="Q1-S1-A1">A disease.</ANSWER><ANSWER answerid="Q1-S1-A2">Of
joints.</ANSWER></ANSWERS></SUB-QUESTION></SUB-QUESTIONS></NLM-QUESTION>
<NLM-QUESTION qid="1.0"><SUBJECT>Lyme &amp; ticks</SUBJECT><MESSAGE></MESSAGE>
<SUB-QUESTIONS><SUB-QUESTION><ANSWERS><ANSWER>Tests.</ANSWER>
</ANSWERS></SUB-QUESTION></SUB-QUESTIONS></NLM-QUESTION></NLM-QUESTIONS>"""


def test_liveqa_has_a_row_for_each_answer(write):
    records = sources.read_file(write("TREC-2017-LiveQA-Medical-Train-1.xml", LIVEQA))
    assert [(r.id, r.question, r.answer, r.topic) for r in records] == [
        ("liveqa:Q1-S1-A1", "What is gout?", "A disease.", "gout"),
        ("liveqa:Q1-S1-A2", "What is gout?", "Of joints.", "gout"),
        ("liveqa:1.0-S1-A1", "Lyme & ticks", "Tests.", ""),
    ]


MEDQUAD = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001_1" source="CancerGov" url="u"><Focus>Gout</Focus><QAPairs>
<QAPair pid="1"><Question qid="0000001_1-1" qtype="information">What is (are) Gout ?</Question>
<Answer>A
disease.</Answer></QAPair>
<QAPair pid="2"><Question qid="0000001_1-2" qtype="treatment">How?</Question>
<Answer></Answer></QAPair></QAPairs></Document>"""


def test_medquad_keeps_pairs_whose_answer_the_owner_removed(write):
    expected, removed = sources.read_file(write("1_CancerGov_QA/0000001_1.xml", MEDQUAD))
    assert (expected.id, expected.question, expected.answer) == (
        "medquad:CancerGov-0000001_1-1",
        "What is (are) Gout ?",
        "A disease.",
    )
    assert (expected.licence, expected.split, expected.topic) == ("CC-BY-4.0", "train", "Gout")
    assert (removed.status, removed.note) == ("rejected", "no answer in the owner's file")


@pytest.mark.parametrize("name", ["0000001.xml", "liveqa.xml"])
def test_xml_with_a_document_type_or_an_entity_is_not_expanded(write, name: str):
    bomb = (
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c'
        ' "&b;&b;&b;">]><Document>&c;</Document>'
    )
    assert (
        refused(write(name, bomb))
        == f"{name}: a document type or an entity is declared, which the owner's files do not do;"
        " it is not read"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("0000001.xml", "<Document><QAPairs>", "0000001.xml, line 1: not valid XML"),
        ("0000001.xml", "<Other/>", "a Document with QAPairs was expected; seen Other"),
        (
            "liveqa.xml",
            "<Questions><Question/></Questions>",
            "no NLM-QUESTION in it; seen Question, Questions",
        ),
    ],
)
def test_xml_of_another_shape_is_refused_with_what_was_seen(
    write, name: str, content: str, message: str
):
    assert message in refused(write(name, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "one JSON list of objects was expected, found an object"),
        ("[1]", "row 1: a JSON object was expected, found int"),
        ('[{"instruction": "a"', "row 1: not valid JSON"),
        ("[" + json.dumps(ALPACA), "the list has no end after row 1"),
        ("[" + json.dumps(ALPACA) + ",", "row 2: not valid JSON (Expecting value); fetch it again"),
        (
            "[" + json.dumps(ALPACA) + " " + json.dumps(ALPACA) + "]",
            "a comma was expected after row 1, found '{'",
        ),
        ("[" + json.dumps(ALPACA) + "] x", "there is text after the end of the list, after row 1"),
        ("[]", "the file is empty; HealthCareMagic rows were expected"),
        ("", "the file is empty; HealthCareMagic rows were expected"),
    ],
)
def test_a_json_list_that_is_not_whole_is_refused(write, content: str, message: str):
    assert message in refused(write("healthcaremagic.json", content))


def test_a_json_list_is_read_alike_however_it_is_cut_into_pieces(
    write, monkeypatch: pytest.MonkeyPatch
):
    rows = [{**ALPACA, "input": f'سؤال \\ " {i}, ] }}'} for i in range(50)]
    path = write(
        "healthcaremagic.json", "\ufeff" + json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    )
    whole = sources.read_file(path)
    for chunk in (1, 2, 7, 64):
        monkeypatch.setattr(raw_rows, "CHUNK", chunk)
        assert sources.read_file(path) == whole
    assert [r.question for r in whole] == [row["input"] for row in rows]


AR = {
    "question": "أي عصب؟",
    "options": {"A": "الأول", "B": "الثاني", "C": "الثالث", "D": "الرابع"},
    "answer_idx": "C",
}
LIST = ["الأول", "الثاني", "الثالث", "الرابع"]


@pytest.mark.parametrize(
    "row",
    [
        AR,
        {"Question": AR["question"], "choices": LIST, "answer": 2},
        {
            "question": AR["question"],
            "choices": {"text": LIST, "label": ["A", "B", "C", "D"]},
            "answerKey": "C",
        },
        {
            "question": AR["question"],
            **dict(zip(("opa", "opb", "opc", "opd"), LIST, strict=True)),
            "cop": 2,
        },
        {"question": AR["question"], **dict(zip("ABCD", LIST, strict=True)), "answer": "ج"},
        {
            "sent1": AR["question"],
            **{f"ending{i}": option for i, option in enumerate(LIST)},
            "label": 2,
        },
        {"question": AR["question"], "options": LIST, "answer": "الثالث"},
    ],
    ids=["medqa", "list", "arc", "medmcqa", "letters", "endings", "text"],
)
def test_bimedix_columns_are_mapped_by_inspection(write, row: dict):
    numeric = next(
        (name for name in ("answer", "cop", "label") if type(row.get(name)) is int), None
    )
    rows = [row, {**row, numeric: 0}] if numeric else [row]
    record = sources.read_file(write("bimedix_medqa_test.ar.jsonl", jsonl(*rows)))[0]
    assert (record.question, record.options, record.key(), record.lang) == (
        "أي عصب؟",
        tuple(LIST),
        "C",
        "ar",
    )
    assert (record.split, record.source, record.licence, record.parent_id) == (
        "test",
        "bimedix_medqa",
        "not found",
        None,
    )


def test_bimedix_numbers_that_do_not_tell_where_they_begin_are_refused(write):
    row = {"question": "س", "choices": LIST, "answer": 2}
    assert "answer takes the values [2], so it cannot be told" in refused(
        write("bimedix_medqa.ar.jsonl", jsonl(row))
    )


def test_bimedix_rows_with_an_owners_id_name_their_original(write):
    row = {"id": "m1", "question": "س", "opa": "أ", "opb": "ب", "opc": "ج", "opd": "د", "cop": 4}
    (record,) = sources.read_file(write("bimedix_medmcqa_train.ar.jsonl", jsonl(row)))
    assert (record.id, record.parent_id, record.key(), record.split) == (
        "bimedix_medmcqa:m1:ar",
        "medmcqa:m1",
        "D",
        "test",
    )


def test_bimedix_pubmedqa_has_yes_no_maybe_and_its_context(write):
    row = {
        "pubid": 9,
        "question": "هل؟",
        "context": {"contexts": ["نص", "آخر"]},
        "final_decision": "no",
    }
    (record,) = sources.read_file(write("bimedix_pubmedqa_test.ar.jsonl", jsonl(row)))
    assert (record.context, record.options[record.answer_index], record.parent_id) == (
        "نص آخر",
        "لا",
        "pubmedqa:9",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "x", "gold": 1},
            "no column was found for question, options, key; columns seen: prompt, gold",
        ),
        (
            {**AR, "answer_idx": "F"},
            (
                "the key answer_idx = 'F' names none of 4 options; columns seen: question, options,"
                " answer_idx"
            ),
        ),
        (
            {**AR, "options": {"A": "x", "C": "y"}},
            "no column was found for options; columns seen: question, options, answer_idx",
        ),
    ],
)
def test_bimedix_rows_that_cannot_be_mapped_are_refused_with_the_columns_seen(
    write, row: dict, message: str
):
    assert (
        refused(write("bimedix_medqa_test.ar.jsonl", jsonl(row)))
        == f"bimedix_medqa_test.ar.jsonl, line 1: {message}"
    )


def llava(*texts: str, **more: Any) -> dict:
    return {
        "id": "x",
        "conversations": [
            {"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)
        ],
        **more,
    }


def test_bimed_v_text_rows_and_rows_with_an_image(write):
    rows = [
        llava("What is gout?", "A disease."),
        llava("ما هو النقرس؟", "مرض."),
        llava("Hi.", "Where?", "My knee.", "Rest."),
        llava("<image>\nWhat is shown?", "A lung.", image="1.jpg"),
        llava("alone"),
    ]
    qa, arabic, chat, image, alone = sources.read_file(
        write("BiMed-V_stage2.json", json.dumps(rows, ensure_ascii=False))
    )
    assert (qa.kind, qa.lang, qa.question, qa.answer, qa.split, qa.licence) == (
        "qa",
        "en",
        "What is gout?",
        "A disease.",
        "train",
        "not found",
    )
    assert (arabic.lang, arabic.parent_id, arabic.id.endswith(":ar")) == ("ar", None, True)
    assert [(t.role, t.text) for t in chat.turns] == [
        ("patient", "Hi."),
        ("doctor", "Where?"),
        ("patient", "My knee."),
        ("doctor", "Rest."),
    ]
    assert (image.status, image.note, image.question) == (
        "rejected",
        "has an image",
        "What is shown?",
    )
    assert (alone.status, alone.note) == ("rejected", "only one speaker")


def test_bimed_v_of_another_layout_is_refused(write):
    assert "columns expected conversations; missing conversations; seen text" in refused(
        write("bimed_v.jsonl", jsonl({"text": "x"}))
    )
    assert "from is system; expected human" in refused(
        write("bimed_v.jsonl", jsonl({"conversations": [{"from": "system", "value": "x"}]}))
    )


# --- balance, streaming, counting


def test_keys_that_are_nearly_all_one_letter_are_refused_from_200_rows_on(write):
    assert (
        len(
            sources.read_file(
                write("medmcqa_train.jsonl", medmcqa_file(*[4] * 150, *[1, 2, 3] * 16))
            )
        )
        == 198
    )
    message = refused(write("medmcqa_train.jsonl", medmcqa_file(*[4] * 152, *[1, 2, 3] * 16)))
    assert (
        "the keys of 200 rows are A 16, B 16, C 16, D 152" in message
        and "none in more than 60%" in message
    )


def test_an_option_that_is_never_right_is_refused_from_200_rows_on(write):
    assert "A 67, B 67, C 66, D 0" in refused(
        write("medmcqa_train.jsonl", medmcqa_file(*([0, 1, 2] * 67)[:200]))
    )


def test_pubmedqa_may_be_sorted_by_decision(write):
    rows = (({**HUB_PUBMEDQA, "pubid": i, "final_decision": "yes"}) for i in range(250))
    assert len(sources.read_file(write("pubmedqa_train.jsonl", jsonl(*rows)))) == 250


def test_rows_come_one_by_one_and_an_error_waits_for_its_row(write):
    rows = sources.iter_file(
        write("open_qa_train.jsonl", jsonl({**OPEN_QA, "id": "1"}) + "{broken\n")
    )
    assert next(rows).id == "open_qa:1"
    with pytest.raises(InputError, match="line 2"):
        next(rows)


def test_zero_rows_means_all(write):
    path = write("medmcqa_train.jsonl", medmcqa_file(4, 1, 2, 3))
    assert len(list(sources.iter_file(path, 0))) == len(list(sources.iter_file(path, None))) == 4


def many_rows(path: Path, count: int) -> Path:
    """A file of `count` rows of 2.5 kB each, JSON Lines or one JSON list."""
    whole, text = path.suffix == ".json", "word " * 500
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("[" if whole else "")
        for i in range(count):
            row = (
                {"instruction": "x", "input": f"{i} {text}", "output": "y"}
                if whole
                else {**MEDMCQA, "question": f"{i} {text}"}
            )
            handle.write(
                ("," if whole and i else "")
                + json.dumps({**row, "id": f"m{i}", "cop": i % 4})
                + "\n"
            )
        handle.write("]" if whole else "")
    return path


@pytest.mark.parametrize("name", ["medmcqa_train.jsonl", "healthcaremagic_train.json"])
def test_a_big_file_does_not_grow_the_process(tmp_path: Path, name: str):
    """A file of 60 MB was held as one text and its rows as a list. Allowed: a third of the file,
    beyond what a small file takes.
    """
    small, big = (
        many_rows(tmp_path / name.replace("_", f"_{count}_"), count) for count in (500, 24_000)
    )
    assert big.stat().st_size > 60_000_000
    code = (
        "import resource, sys, numpy; from pathlib import Path; from bimedix_utils import"
        " sources;read = lambda path: (sum(1 for _ in sources.iter_file(Path(path))),"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss);before, (rows, after) ="
        " read(sys.argv[1])[1], read(sys.argv[2]); print(rows, after - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small, big], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    assert rows == 24_000 and grown < 20_000, f"grew by {grown / 1000:.0f} MB"


def test_the_census_counts_what_goes_by(write):
    english, arabic = (
        [MMLU, ["Other?", *MMLU[1:]]],
        [["أي صمام؟", "أ", "ب", "ج", "د", "C"], ["آخر؟", "أ", "ب", "ج", "د", "D"], MMLU],
    )
    census = sources.Census()
    for name, rows in (("anatomy_test.ar.csv", arabic), ("anatomy_test.csv", english)):
        assert len(list(census.counted(name, sources.iter_file(write(name, table(*rows)))))) == len(
            rows
        )
    lost = {**DIALOGUE, "ID": 8, "dialogue": "Doctor: Alone."}
    list(
        census.counted(
            "d", sources.iter_file(write("dialogues_train.jsonl", jsonl(DIALOGUE, lost)))
        )
    )
    assert census.files == [("anatomy_test.ar.csv", 3, 0), ("anatomy_test.csv", 2, 0), ("d", 2, 1)]
    assert census.aligned_translations() == (
        2,
        1,
        1,
    )  # pairs; the third Arabic row has no original; the second has another key
    assert (
        census.rows == len(census.ids) == 7
        and census.statuses == {"ok": 6, "rejected": 1}
        and not census.ids.duplicates()
    )
    assert census.kinds == {"mcqa": 5, "qa": 0, "chat": 2} and census.notes == {
        ("dialogue", "only one speaker"): 1
    }
    assert census.balance()[1] == ("mmlu_anatomy", "en", 2, "C 2", "C", 1.0)
    assert census.parts == {
        "mmlu_anatomy ar test": 3,
        "mmlu_anatomy en test": 2,
        "dialogue en train": 2,
    }


def test_the_census_counts_training_rows_for_the_papers_parts(write):
    census = sources.Census()
    for name in ("medmcqa_train.jsonl", "medmcqa_dev.jsonl"):
        list(census.counted(name, sources.iter_file(write(name, medmcqa_file(4, 1)))))
    assert census.components == {("MedMCQA", "en"): 2}


def test_an_id_that_stands_in_two_files_is_found(write):
    census = sources.Census()
    for name in ("medmcqa_train.jsonl", "medmcqa_dev.jsonl"):
        list(census.counted(name, sources.iter_file(write(name, medmcqa_file(4, 1)))))
    assert len(census.ids.duplicates()) == 2


def test_examples_are_the_first_pairs_of_each_kind(write, tmp_path: Path):
    rows = [
        r
        for name, content in (
            ("anatomy_test.ar.csv", table(MMLU, MMLU)),
            ("anatomy_test.csv", table(MMLU, MMLU)),
        )
        for r in sources.read_file(write(name, content))
    ]
    write_jsonl(tmp_path / "records.jsonl", rows)
    assert sources.example_pairs(tmp_path / "records.jsonl") == {"mcqa": (rows[2], rows[0])}


# --- the real rows


@pytest.fixture(scope="module")
def published(raw_dir: Path) -> dict[str, list[Record]]:
    """{file name: its records} of every published file."""
    return {file.path.name: sources.read_file(file) for file in sources.find_files(raw_dir)}


SIZES = {
    "medmcqa_dev.first1000.jsonl": 1000,
    "medqa_us_4options_test.first300.jsonl": 300,
    "pubmedqa_test.first200.json": 200,
    "clinical_knowledge_test.en.csv": 265,
    "college_biology_test.en.csv": 144,
    "college_medicine_test.en.csv": 173,
    "medical_genetics_test.en.csv": 100,
    "mts_dialog_validation.jsonl": 100,
}


@pytest.mark.parametrize("name", SIZES)
def test_real_files_are_read_whole(published: dict, name: str):
    assert len(published[name]) == SIZES[name]


def test_real_ids_are_unique_over_all_files(published: dict):
    ids = Counter(record.id for records in published.values() for record in records)
    assert [i for i, n in ids.items() if n > 1] == []


@pytest.mark.parametrize(
    "subject", ["clinical_knowledge", "college_biology", "college_medicine", "medical_genetics"]
)
def test_real_arabic_mmlu_keys_equal_the_english_ones(published: dict, subject: str):
    english, arabic = published[f"{subject}_test.en.csv"], published[f"{subject}_test.ar.csv"]
    assert [r.parent_id for r in arabic] == [r.id for r in english]
    assert [r.key() for r in arabic] == [r.key() for r in english]


BALANCE = {
    "medmcqa_dev.first1000.jsonl": "A 333, B 260, C 211, D 196",
    "medqa_us_4options_test.first300.jsonl": "A 85, B 66, C 82, D 67",
    "clinical_knowledge_test.en.csv": "A 57, B 71, C 58, D 79",
    "college_biology_test.en.csv": "A 37, B 32, C 37, D 38",
    "college_medicine_test.en.csv": "A 36, B 36, C 43, D 58",
    "medical_genetics_test.en.csv": "A 30, B 26, C 20, D 24",
    "pubmedqa_test.first200.json": "A 200",
}


@pytest.mark.parametrize("name", BALANCE)
def test_real_keys_are_balanced_as_counted_in_the_files(published: dict, raw_dir: Path, name: str):
    census = sources.Census()
    list(census.counted(name, published[name]))
    ((_, _, rows, keys, _, _),) = census.balance()
    assert (rows, keys) == (SIZES[name], BALANCE[name])
    if name.endswith(".csv"):  # counted again without the reader
        with open(next(raw_dir.rglob(name)), encoding="utf-8", newline="") as handle:
            letters = Counter(row[5] for row in csv.reader(handle))
        assert keys == ", ".join(f"{letter} {n}" for letter, n in sorted(letters.items()))


def test_real_pubmedqa_decisions_are_the_files_own(published: dict, raw_dir: Path):
    """The owner sorts the official test ids by decision, so the first 200 are all "yes"; the toy
    rows above cover "no" and "maybe".
    """
    owner = json.loads((raw_dir / "pubmedqa_test.first200.json").read_text(encoding="utf-8"))
    records = published["pubmedqa_test.first200.json"]
    assert {r.id.removeprefix("pubmedqa:"): r.options[r.answer_index] for r in records} == {
        i: row["final_decision"] for i, row in owner.items()
    }
    assert Counter(r.options[r.answer_index] for r in records) == {"yes": 200}
    assert all(r.context and r.answer for r in records)


def test_real_medmcqa_keys_count_from_one(published: dict, raw_dir: Path):
    lines = (raw_dir / "medmcqa_dev.first1000.jsonl").read_text(encoding="utf-8").splitlines()
    assert [r.answer_index + 1 for r in published["medmcqa_dev.first1000.jsonl"]] == [
        json.loads(line)["cop"] for line in lines
    ]


def test_real_medqa_key_points_at_the_answer_text(published: dict, raw_dir: Path):
    lines = (
        (raw_dir / "medqa_us_4options_test.first300.jsonl").read_text(encoding="utf-8").splitlines()
    )
    answers = [" ".join(json.loads(line)["answer"].split()) for line in lines]
    assert [
        r.options[r.answer_index] for r in published["medqa_us_4options_test.first300.jsonl"]
    ] == answers


def test_real_dialogues_alternate_and_monologues_are_rejected(published: dict):
    records = published["mts_dialog_validation.jsonl"]
    assert Counter((r.status, r.note) for r in records) == {
        ("ok", ""): 79,
        ("rejected", "only one speaker"): 4,
        ("rejected", "no answer to the patient"): 17,
    }
    for record in records:
        roles = [turn.role for turn in record.turns]
        assert all(a != b for a, b in zip(roles, roles[1:], strict=False))
        # A row of the owner's that only asks once stopped the training of a whole mix.
        assert record.status == "rejected" or templates.to_messages(record)


def test_real_rows_keep_split_and_licence(published: dict):
    expected = {
        (r.source.split("_")[0], r.lang, r.split, r.licence)
        for records in published.values()
        for r in records
        if r.lang == "en"
    }
    assert expected == {
        ("medmcqa", "en", "validation", "MIT"),
        ("medqa", "en", "test", "MIT"),
        ("pubmedqa", "en", "test", "MIT"),
        ("mmlu", "en", "test", "MIT"),
        ("dialogue", "en", "validation", "CC-BY-4.0"),
    }


def test_real_arabic_mmlu_does_not_claim_the_licence_of_the_english_rows(published: dict):
    """The Arabic files come from another owner: an invented licence is a defect, "not found" is
    not.
    """
    assert {
        r.licence
        for name, records in published.items()
        if name.endswith(".ar.csv")
        for r in records
    } <= {"Apache-2.0", "not found"}
