"""Readers of the multiple-choice sets: MedMCQA, MedQA, PubMedQA, MMLU. Each yields records one at a
time and refuses what it does not know; none looks at file names but to tell MMLU's subject and
PubMedQA's labelled part.

An owner's own id names a row; where there is none, a hash of the question does, and a question that
stands twice is told by a number.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.records import LABELS, Record
from ..core.text import nfc
from . import fields, files

MMLU_SUBJECTS = (
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
    "anatomy",
)
PUBMEDQA_OPTIONS = {"en": ("yes", "no", "maybe"), "ar": ("نعم", "لا", "ربما")}
OFFICIAL_TEST = "test_ground_truth.json"  # PubMedQA's own list of test ids
OFFICIAL_ROWS = 500


def medmcqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Two passes over the file: the first tells where `cop` begins to count, the second reads."""
    seen = set()
    for where, row in files.rows(path):
        fields.need(row, ("id", "question", "opa", "opb", "opc", "opd", "cop"), where)
        if not isinstance(row["cop"], int) or not 0 <= row["cop"] <= 4:
            raise InputError(
                f"{where}: cop is {row['cop']!r}; wanted 1-4 (raw file) or 0-3 (hub copy)"
            )
        seen.add(row["cop"])
    first = fields.first_key(path, "cop", seen)
    for where, row in files.rows(path):
        yield fields.record(
            where,
            id=f"medmcqa:{row['id']}",
            kind="mcqa",
            question=fields.text(row, "question", where),
            answer_index=row["cop"] - first,
            options=[fields.text(row, f"op{letter}", where) for letter in "abcd"],
            answer=fields.text(row, "exp", where, optional=True),
            topic=fields.text(row, "subject_name", where, optional=True),
            **fields.origin("medmcqa", lang, split),
        )


def medqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    names = fields.Names()
    for where, row in files.rows(path):
        fields.need(row, ("question", "options", "answer_idx"), where)
        letters = sorted(row["options"]) if isinstance(row["options"], dict) else []
        if (
            not letters
            or letters != list(LABELS[: len(letters)])
            or row["answer_idx"] not in letters
        ):
            raise InputError(
                f"{where}: options {letters} with answer_idx {row['answer_idx']!r}; wanted letters"
                " A-D and one of them as the key"
            )
        # The owner gives no id: the question's own hash is one that survives any re-ordering of the
        # file.
        owner_id = row.get("id") or names(fields.text(row, "question", where))
        yield fields.record(
            where,
            id=f"medqa:{owner_id}",
            kind="mcqa",
            question=fields.text(row, "question", where),
            topic=fields.text(row, "meta_info", where, optional=True),
            options=[fields.text(row["options"], letter, where) for letter in letters],
            answer_index=letters.index(row["answer_idx"]),
            **fields.origin("medqa", lang, split),
        )


def _distinct(pairs: list[tuple[str, object]]) -> dict:
    """JSON keeps the last of two equal keys without a word; a doubled id must be seen."""
    keys = [key for key, _ in pairs]
    key, times = Counter(keys).most_common(1)[0] if keys else ("", 0)
    if times > 1:
        raise ValueError(f"the key {key} stands twice")
    return dict(pairs)


def _json_object(path: Path) -> dict:
    """A file that is one JSON object keyed by PubMed id. It is held in memory as a whole: the
    owner's format leaves no choice.
    """
    try:
        table = json.loads(read_utf8(path), object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}, line {error.lineno}: not valid JSON ({error.msg})"
        ) from None
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if not isinstance(table, dict):
        raise InputError(
            f"{path.name}: a JSON object keyed by PubMed id was expected, found"
            f" {type(table).__name__}"
        )
    return table


def _pubmedqa_rows(path: Path) -> Iterator[tuple[str, str, str, list, str, str]]:
    """(place, PubMed id, question, contexts, long answer, decision) of the owner's object or of the
    hub copy's rows.
    """
    owner = path.suffix == ".json"
    rows = (
        ((f"{path.name}, entry {key}", row) for key, row in _json_object(path).items())
        if owner
        else files.rows(path)
    )
    question, contexts, answer = (
        ("QUESTION", "CONTEXTS", "LONG_ANSWER") if owner else ("question", "context", "long_answer")
    )
    for where, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON object was expected, found {type(row).__name__}")
        fields.need(
            row, (question, contexts, "final_decision", *([] if owner else ["pubid"])), where
        )
        parts = row[contexts]
        if not owner:
            parts = parts.get("contexts") if isinstance(parts, dict) else parts
        if row["final_decision"] not in PUBMEDQA_OPTIONS["en"]:
            raise InputError(
                f"{where}: final_decision is {row['final_decision']!r}; wanted yes, no or maybe"
            )
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InputError(
                f"{where}: {contexts if owner else 'context.contexts'}: a list of texts wanted,"
                f" found {type(parts).__name__}"
            )
        key = where.rpartition(" ")[2] if owner else str(row["pubid"])
        yield (
            where,
            key,
            fields.text(row, question, where),
            parts,
            fields.text(row, answer, where, optional=True),
            row["final_decision"],
        )


def _official_test(path: Path) -> dict[str, str] | None:
    """{PubMed id: decision} of the owner's test list beside this file, or None. Raises `InputError`
    when it is not the whole list.
    """
    beside = path.with_name(OFFICIAL_TEST)
    if not beside.exists():
        return None
    table = _json_object(beside)
    if len(table) != OFFICIAL_ROWS or not set(table.values()) <= set(PUBMEDQA_OPTIONS["en"]):
        raise InputError(
            f"{OFFICIAL_TEST}: the owner's list has {OFFICIAL_ROWS} ids with yes, no or maybe;"
            f" found {len(table)}"
        )
    return table


def pubmedqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """A row is a test row when its id stands in the owner's list, never by its position. The
    labelled part (`ori_pqal.json`, the hub's pqa_labeled) cannot be read without the list; its
    other rows, the owner's cross-validation half, are validation rows.
    """
    if lang not in PUBMEDQA_OPTIONS:
        raise InputError(
            f"{path.name}: no words for yes, no, maybe in language {lang!r}; add them to"
            " sources.PUBMEDQA_OPTIONS"
        )
    official = _official_test(path)
    labelled = re.search(r"pqal|(?<!un)label", path.name, re.IGNORECASE) is not None
    if labelled and official is None:
        raise InputError(
            f"{path.name}: {OFFICIAL_TEST} is missing. Put the owner's file beside it: it names the"
            f" {OFFICIAL_ROWS} test rows, which no position in this file does"
        )
    missing = set(official or ())
    for where, owner_id, question, contexts, answer, decision in _pubmedqa_rows(path):
        own_split = split
        if official is not None:
            if owner_id in official:
                own_split = "test"
                missing.discard(owner_id)
                if official[owner_id] != decision:
                    raise InputError(
                        f"{where}: final_decision is {decision!r}, {OFFICIAL_TEST} says"
                        f" {official[owner_id]!r}"
                    )
            elif labelled:
                own_split = "validation"
            elif split == "test":
                raise InputError(
                    f"{where}: the name says test, but the id is not in {OFFICIAL_TEST}"
                )
        yield fields.record(
            where,
            id=f"pubmedqa:{owner_id}",
            kind="mcqa",
            question=question,
            context=nfc(" ".join(contexts)),
            options=PUBMEDQA_OPTIONS[lang],
            answer_index=PUBMEDQA_OPTIONS["en"].index(decision),
            answer=answer,
            **fields.origin("pubmedqa", lang, own_split),
        )
    if labelled and missing:
        raise InputError(
            f"{path.name}: {len(missing)} of the {OFFICIAL_ROWS} official test ids are not in it,"
            f" first {min(missing)}"
        )


def mmlu(path: Path, lang: str, split: str) -> Iterator[Record]:
    """The owner's CSV without a header, or the hub copy's rows. The owner gives no id, and the twin
    in another language is known by position only: the row number is the id.
    """
    subject = path.name.removeprefix("mmlu_").split("_test")[0]
    if subject not in MMLU_SUBJECTS:
        raise InputError(
            f"{path.name}: MMLU subject {subject!r} is not one of {', '.join(MMLU_SUBJECTS)}"
        )
    rows = _mmlu_csv(path) if path.suffix == ".csv" else _mmlu_hub(path, subject)
    for index, (where, question, options, key) in enumerate(rows):
        yield fields.record(
            where,
            id=f"mmlu_{subject}:{index}",
            kind="mcqa",
            question=nfc(question),
            options=[nfc(o) for o in options],
            answer_index=key,
            topic=subject,
            **fields.origin(f"mmlu_{subject}", lang, split),
        )


def _mmlu_csv(path: Path) -> Iterator[tuple[str, str, list[str], int]]:
    reader = csv.reader(io.StringIO(read_utf8(path)), strict=True)
    try:
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if len(row) != 6 or row[5] not in tuple("ABCD"):
                raise InputError(
                    f"{where}: wanted 6 columns (question, A, B, C, D, letter) without a header;"
                    f" seen {len(row)} ending in {row[-1:]!r}"
                )
            yield where, row[0], row[1:5], "ABCD".index(row[5])
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV ({error})") from None


def _mmlu_hub(path: Path, subject: str) -> Iterator[tuple[str, str, list[str], int]]:
    for where, row in files.rows(path):
        fields.need(row, ("question", "choices", "answer"), where)
        if row.get("subject", subject) != subject:
            raise InputError(f"{where}: subject is {row['subject']!r} in a file named {subject}")
        if (
            not isinstance(row["choices"], list)
            or len(row["choices"]) != 4
            or not all(isinstance(c, str) for c in row["choices"])
        ):
            raise InputError(
                f"{where}: choices: a list of 4 texts wanted, found {row['choices']!r}"
            )
        if type(row["answer"]) is not int or not 0 <= row["answer"] <= 3:
            raise InputError(f"{where}: answer is {row['answer']!r}; wanted 0-3")
        yield where, fields.text(row, "question", where), row["choices"], row["answer"]
