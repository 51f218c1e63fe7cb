"""The rows written for this kit: every file parses, the Arabic translation says the same as
the English row, nothing is repeated.
"""

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bimedix_utils import sources
from bimedix_utils.core import provenance, text
from bimedix_utils.core.language import in_language, script_share
from bimedix_utils.translation import checks

pytestmark = pytest.mark.unit

SAMPLE = provenance.ROOT / "data" / "sample"
STEMS = {
    "medmcqa_train": 32,
    "medmcqa_dev": 16,
    "medqa_train": 20,
    "medqa_test": 10,
    "pubmedqa_train": 18,
    "pubmedqa_test": 12,
    "open_qa_train": 40,
    "open_qa_test": 10,
    "dialogues_train": 24,
    **{
        f"mmlu/{subject.removeprefix('mmlu_')}_test": 10
        for subject in (n for n in sources.load_benchmarks() if n.startswith("mmlu_"))
    },
}
CATEGORIES = (
    "ADULT",
    "CHILD",
    "PREGNANCY",
    "ELDERLY",
    "EMERGENCY",
    "MEDICATION_ERROR",
    "MENTAL_HEALTH",
    "UNSAFE_REQUEST",
)
INVENTED = {
    "en": "[Invented abstract, written for teaching.] ",
    "ar": "[ملخص مختلق كتب لغرض التعليم.] ",
}
SUFFIX = {"pubmedqa": "json", "mmlu": "csv"}
FILES = [(stem, lang) for stem in STEMS for lang in ("en", "ar")]


def path_of(stem: str, lang: str) -> Path:
    return SAMPLE / f"{stem}.{lang}.{SUFFIX.get(re.split('[_/]', stem)[0], 'jsonl')}"


def rows_of(stem: str, lang: str) -> dict[str, Any]:
    """{id: row as it stands in the file}, read without the package's readers."""
    path = path_of(stem, lang)
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(content)
    if path.suffix == ".csv":
        return {
            str(number): row
            for number, row in enumerate(csv.reader(content.splitlines(), strict=True))
        }
    lines = [json.loads(line) for line in content.splitlines()]
    return {row.get("id") or row["ID"]: row for row in lines}


def turns_of(row: dict) -> list[tuple[str, str]]:
    return [tuple(line.split(": ", 1)) for line in row["dialogue"].split("\n")]


def fields_of(stem: str, row: Any) -> dict[str, str]:
    """{field: text} of everything in a row that is translated; equal fields in both languages."""
    if stem.startswith("mmlu"):
        return dict(zip(("question", "A", "B", "C", "D"), row, strict=False))
    if stem.startswith("medmcqa"):
        return {name: row[name] for name in ("question", "opa", "opb", "opc", "opd", "exp")}
    if stem.startswith("medqa"):
        return {"question": row["question"], "answer": row["answer"], **row["options"]}
    if stem.startswith("pubmedqa"):
        return {
            "question": row["QUESTION"],
            "long": row["LONG_ANSWER"],
            **{f"context {i}": c for i, c in enumerate(row["CONTEXTS"])},
        }
    if stem.startswith("open_qa"):
        return {name: row[name] for name in ("instruction", "input", "output")}
    return {
        "summary": row["section_text"],
        **{f"turn {i}": said for i, (_, said) in enumerate(turns_of(row))},
    }


def untranslated_of(stem: str, row: Any) -> Any:
    """What must be the same in both languages: keys, labels, categories."""
    if stem.startswith("mmlu"):
        return row[5:]
    names = {
        "medmcqa": ("cop", "subject_name", "topic_name", "choice_type"),
        "medqa": ("answer_idx", "meta_info"),
        "pubmedqa": ("final_decision", "LABELS", "MESHES", "YEAR"),
        "open_qa": (),
        "dialogues": ("section_header",),
    }[
        next(
            name
            for name in ("medmcqa", "medqa", "pubmedqa", "open_qa", "dialogues")
            if stem.startswith(name)
        )
    ]
    return {name: row[name] for name in names}


def texts(stem: str, lang: str) -> Iterator[tuple[str, str]]:
    """(field, text) of every translated text of a file."""
    for row_id, row in rows_of(stem, lang).items():
        for field, value in fields_of(stem, row).items():
            yield f"{row_id} {field}", value


# --- files


def test_the_folder_holds_these_files_and_no_others():
    expected = {path_of(stem, lang) for stem, lang in FILES}
    apart = {
        SAMPLE / "open_ended" / f"{name}.jsonl"
        for name in ("claims", "requests", "labelled_answers", "labelled_stances")
    }
    assert {path for path in SAMPLE.rglob("*") if path.is_file()} == expected | apart | {
        SAMPLE / "README.md"
    }
    assert {file.path for file in sources.find_files(SAMPLE)} == expected, (
        "each file's name is known to the readers"
    )


@pytest.mark.parametrize(("stem", "lang"), FILES)
def test_the_reader_reads_each_row_as_the_kits_own(stem: str, lang: str):
    records = sources.read_file(path_of(stem, lang), kit=True)
    assert len(records) == len(rows_of(stem, lang)) == STEMS[stem]
    assert {(r.lang, r.status, r.licence) for r in records} == {(lang, "ok", "CC-BY-4.0")}
    assert all(re.fullmatch(r"\w+:kit-[\w-]+(?::ar)?", r.id) for r in records), [
        r.id for r in records
    ][:3]
    split = {"train": "train", "dev": "validation", "test": "test"}[stem.rsplit("_", 1)[1]]
    assert {r.split for r in records} == {split}


@pytest.mark.parametrize(("stem", "lang"), FILES)
def test_files_are_plain_utf8_with_unix_line_ends(stem: str, lang: str):
    raw = path_of(stem, lang).read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf") and b"\r" not in raw
    assert raw.endswith(b"\n") and not raw.endswith(b"\n\n")
    decoded = raw.decode("utf-8")
    assert unicodedata.normalize("NFC", decoded) == decoded
    assert "\\u" not in decoded, "Arabic stands readable in the file"


@pytest.mark.parametrize("stem", [stem for stem in STEMS if not stem.startswith("mmlu")])
def test_ids_begin_with_kit_and_are_numbered_over_both_splits(stem: str):
    ids = list(rows_of(stem, "en"))
    assert len(ids) == STEMS[stem]
    assert all(
        re.fullmatch(r"kit-(medmcqa|medqa|pubmedqa|openqa|dialogue)-\d{3}", i) for i in ids
    ), ids
    family = stem.rsplit("_", 1)[0]
    every = [i for other in STEMS if other.startswith(family + "_") for i in rows_of(other, "en")]
    assert sorted(int(i[-3:]) for i in every) == list(range(1, len(every) + 1))


# --- translations


@pytest.mark.parametrize("stem", STEMS)
def test_translations_have_the_same_ids_in_the_same_order(stem: str):
    assert list(rows_of(stem, "en")) == list(rows_of(stem, "ar"))
    english, arabic = (sources.read_file(path_of(stem, lang), kit=True) for lang in ("en", "ar"))
    assert [r.parent_id for r in arabic] == [r.id for r in english]
    assert [r.answer_index for r in arabic] == [r.answer_index for r in english]


@pytest.mark.parametrize("stem", STEMS)
def test_translations_have_equal_keys_layout_and_number_of_parts(stem: str):
    english, arabic = rows_of(stem, "en"), rows_of(stem, "ar")
    for row_id in english:
        assert untranslated_of(stem, arabic[row_id]) == untranslated_of(stem, english[row_id]), (
            row_id
        )
        assert list(fields_of(stem, arabic[row_id])) == list(fields_of(stem, english[row_id])), (
            row_id
        )
        assert stem.startswith("mmlu") or list(arabic[row_id]) == list(english[row_id]), row_id


@pytest.mark.parametrize("stem", STEMS)
def test_translations_hold_the_same_numbers_field_by_field(stem: str):
    english, arabic = dict(texts(stem, "en")), dict(texts(stem, "ar"))
    differing = {
        field: (dict(checks.numbers_of(english[field])), dict(checks.numbers_of(arabic[field])))
        for field in english
        if checks.numbers_of(english[field]) != checks.numbers_of(arabic[field])
    }
    assert differing == {}


def test_the_numbers_test_has_something_to_compare():
    assert (
        sum(len(checks.numbers_of(value)) for stem in STEMS for _, value in texts(stem, "en")) > 500
    )


@pytest.mark.parametrize(("stem", "lang"), FILES)
def test_each_text_is_in_its_own_language(stem: str, lang: str):
    """Single letters, numbers and names such as DNA are the same in both; longer texts not."""
    english = dict(texts(stem, "en"))
    for field, value in texts(stem, lang):
        assert value.strip() == value != "", field
        if lang == "en":
            assert script_share(value, "ar") == 0, field
        elif re.search(r"[a-z]{4}", english[field]):
            assert in_language(value, "ar"), (field, value)


@pytest.mark.parametrize(("stem", "lang"), FILES)
def test_no_tatweel_presentation_forms_isolates_or_other_digits(stem: str, lang: str):
    bad = re.compile(
        r"[\u0640\ufb50-\ufdff\ufe70-\ufeff\u2066-\u2069\u200b-\u200f\u202a-\u202e\ufffd\u0660-\u0669\u06f0-\u06f9\u064c-\u0652\u0670]"
    )
    found = [
        f"{field}: U+{ord(match.group()):04X}"
        for field, value in texts(stem, lang)
        if (match := bad.search(value))
    ]
    assert found == []


@pytest.mark.parametrize("stem", STEMS)
def test_arabic_uses_arabic_punctuation(stem: str):
    """A Latin comma or question mark beside an Arabic letter; a comma between digits is a thousands
    mark and stays.
    """
    found = [
        field for field, value in texts(stem, "ar") if re.search(r"[\u0620-\u064A]\s*[,;?]", value)
    ]
    assert found == []


# --- multiple choice


@pytest.mark.parametrize(
    ("stem", "lang"),
    [field for field in FILES if field[0].startswith(("medmcqa", "medqa", "mmlu"))],
)
def test_options_of_one_question_differ_after_normalisation(stem: str, lang: str):
    for record in sources.read_file(path_of(stem, lang)):
        assert len(record.options) == 4, record.id
        assert len({text.match_key(option) for option in record.options}) == 4, (
            record.id,
            record.options,
        )


@pytest.mark.parametrize("lang", ["en", "ar"])
@pytest.mark.parametrize("stem", ["medqa_train", "medqa_test"])
def test_medqa_answer_is_the_text_of_its_key(stem: str, lang: str):
    for row_id, row in rows_of(stem, lang).items():
        assert row["answer"] == row["options"][row["answer_idx"]], row_id


@pytest.mark.parametrize(
    ("stems", "spread"),
    [
        (("medmcqa_train",), [8, 8, 8, 8]),
        (("medmcqa_dev",), [4, 4, 4, 4]),
        (("medqa_train",), [5, 5, 5, 5]),
        (("medqa_test",), [3, 2, 3, 2]),
        (tuple(stem for stem in STEMS if stem.startswith("mmlu")), [15, 15, 15, 15]),
    ],
    ids=["medmcqa_train", "medmcqa_dev", "medqa_train", "medqa_test", "mmlu"],
)
def test_keys_are_spread_over_the_letters_as_the_data_card_says(
    stems: tuple[str, ...], spread: list[int]
):
    """A constant answer must not score above chance."""
    keys = Counter(r.key() for stem in stems for r in sources.read_file(path_of(stem, "en")))
    assert [keys[letter] for letter in "ABCD"] == spread


def test_medmcqa_rows_have_explanation_subject_and_topic():
    for stem in ("medmcqa_train", "medmcqa_dev"):
        for row_id, row in rows_of(stem, "en").items():
            assert (
                row["exp"]
                and row["subject_name"]
                and row["topic_name"]
                and row["choice_type"] == "single"
            ), row_id
            assert row["cop"] in (1, 2, 3, 4), row_id


# --- PubMedQA layout


def test_pubmedqa_decisions_are_balanced_over_both_files():
    decisions = Counter(
        row["final_decision"]
        for stem in ("pubmedqa_train", "pubmedqa_test")
        for row in rows_of(stem, "en").values()
    )
    assert decisions == {"yes": 10, "no": 10, "maybe": 10}
    assert Counter(row["final_decision"] for row in rows_of("pubmedqa_test", "en").values()) == {
        "yes": 4,
        "no": 4,
        "maybe": 4,
    }


@pytest.mark.parametrize("lang", ["en", "ar"])
@pytest.mark.parametrize("stem", ["pubmedqa_train", "pubmedqa_test"])
def test_invented_abstracts_say_so_and_have_a_label_for_each_part(stem: str, lang: str):
    for row_id, row in rows_of(stem, lang).items():
        assert row["CONTEXTS"][0].startswith(INVENTED[lang]), row_id
        assert sum(INVENTED[lang].strip() in part for part in row["CONTEXTS"]) == 1, row_id
        assert 3 <= len(row["CONTEXTS"]) == len(row["LABELS"]) <= 4, row_id
        assert row["YEAR"] == "not found", row_id


def test_the_notice_reaches_the_record_a_model_reads():
    for lang in ("en", "ar"):
        assert all(
            r.context.startswith(INVENTED[lang])
            for r in sources.read_file(path_of("pubmedqa_test", lang))
        )


# --- dialogues


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_dialogues_come_in_eight_categories_of_three(lang: str):
    assert Counter(
        row["section_header"] for row in rows_of("dialogues_train", lang).values()
    ) == dict.fromkeys(CATEGORIES, 3)


@pytest.mark.parametrize(
    ("lang", "speakers"), [("en", ["Patient", "Doctor"]), ("ar", ["المريض", "الطبيب"])]
)
def test_dialogues_begin_with_the_patient_alternate_and_end_with_the_doctor(
    lang: str, speakers: list[str]
):
    for row_id, row in rows_of("dialogues_train", lang).items():
        turns = turns_of(row)
        exchanges = len(turns) // 2
        assert 3 <= exchanges <= 6, (row_id, exchanges)
        assert [speaker for speaker, _ in turns] == speakers * exchanges, row_id


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_the_reader_gives_each_line_its_own_turn(lang: str):
    """A speaker's name the reader does not know would be glued to the turn before it."""
    for record, row in zip(
        sources.read_file(path_of("dialogues_train", lang)),
        rows_of("dialogues_train", lang).values(),
        strict=True,
    ):
        assert [(turn.role, turn.text) for turn in record.turns] == [
            (("patient", "doctor")[i % 2], said) for i, (_, said) in enumerate(turns_of(row))
        ]


# --- open questions


@pytest.mark.parametrize(
    ("lang", "instruction"),
    [("en", "Answer this question truthfully"), ("ar", "أجب عن هذا السؤال بصدق")],
)
def test_open_questions_share_one_instruction(lang: str, instruction: str):
    assert {
        row["instruction"]
        for stem in ("open_qa_train", "open_qa_test")
        for row in rows_of(stem, lang).values()
    } == {instruction}


# --- no repeats


def asked(stem: str, lang: str) -> Iterator[tuple[str, str]]:
    """(field, what is asked): the question of a row, of a dialogue the patient's first words."""
    name = {"open_qa": "input", "dialogues": "turn 0"}.get(stem.rsplit("_", 1)[0], "question")
    for row_id, row in rows_of(stem, lang).items():
        yield f"{stem} {row_id}", fields_of(stem, row)[name]


@pytest.mark.parametrize("lang", ["en", "ar"])
@pytest.mark.parametrize("form", [text.nfc, text.match_key], ids=["as written", "normalised"])
def test_no_row_repeats_the_question_of_another(lang: str, form: Any):
    """In one file or in two: a test question repeated in a training file would be leaked."""
    fields: dict[str, list[str]] = {}
    for stem in STEMS:
        for field, question in asked(stem, lang):
            fields.setdefault(form(question), []).append(field)
    assert sum(map(len, fields.values())) == sum(STEMS.values()) == 242
    assert [where for where in fields.values() if len(where) > 1] == []
