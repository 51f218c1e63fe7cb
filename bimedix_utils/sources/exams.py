"""Readers of exams in odd layouts: PubMedQA, MMLU and BiMediX's nine Arabic test sets."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.language import language_data
from ..core.records import LABELS, Record
from ..core.text import nfc
from . import fields
from .layouts import SourceEntry, layout
from .raw_rows import iter_rows

DECISIONS = ("yes", "no", "maybe")  # PubMedQA's keys, whatever the language of the row
OFFICIAL_TEST = "test_ground_truth.json"  # PubMedQA's own list of test ids
OFFICIAL_ROWS = 500


# --- PubMedQA


def _no_duplicate_keys(pairs: list[tuple[str, object]]) -> dict:
    """JSON keeps the last of two equal keys without a word; a duplicate id must be seen."""
    key, times = Counter(key for key, _ in pairs).most_common(1)[0] if pairs else ("", 0)
    if times > 1:
        raise ValueError(f"duplicate key {key}")
    return dict(pairs)


def _json_object(path: Path) -> dict:
    """One JSON object keyed by PubMed id; its format needs it in memory at once."""
    try:
        table = json.loads(read_utf8(path), object_pairs_hook=_no_duplicate_keys)
    except json.JSONDecodeError as error:
        where = f"{path.name}, line {error.lineno}"
        raise InputError(f"{where}: not valid JSON ({error.msg})") from None
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if not isinstance(table, dict):
        found = type(table).__name__
        raise InputError(
            f"{path.name}: a JSON object keyed by PubMed id was expected, found {found}"
        )
    return table


def _pubmedqa_rows(path: Path) -> Iterator[tuple[str, str, dict]]:
    """(where, PubMed id, row) of the owner's object or of the hub copy's rows, under the hub's
    column names.
    """
    if path.suffix != ".json":
        for where, row in iter_rows(path):
            names = ("question", "context", "final_decision", "pubid")
            fields.need(row, names, where)
            context = row["context"]
            contexts = context.get("contexts") if isinstance(context, dict) else context
            yield where, str(row["pubid"]), {**row, "context.contexts": contexts}
        return
    for key, row in _json_object(path).items():
        where = f"{path.name}, entry {key}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON object was expected, found {type(row).__name__}")
        fields.need(row, ("QUESTION", "CONTEXTS", "final_decision"), where)
        yield where, key, row


def _official_test(path: Path) -> dict[str, str] | None:
    """{PubMed id: decision} of the owner's test list beside this file, or None. Raises `InputError`
    when the list is not complete.
    """
    beside = path.with_name(OFFICIAL_TEST)
    if not beside.exists():
        return None
    table = _json_object(beside)
    if len(table) != OFFICIAL_ROWS or not set(table.values()) <= set(DECISIONS):
        raise InputError(
            f"{OFFICIAL_TEST}: the owner's list has {OFFICIAL_ROWS} ids with yes, no or maybe;"
            f" found {len(table)}"
        )
    return table


@layout("pubmedqa")
def read_pubmedqa(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """A row is a test row when its id is in the owner's list, never by its position. The labelled
    part (`ori_pqal.json`, the hub's pqa_labeled) cannot be read without the list; its other rows,
    the owner's cross-validation half, are validation rows.
    """
    options = language_data(lang)["yes_no_maybe"]
    official = _official_test(path)
    labelled = re.search(r"pqal|(?<!un)label", path.name, re.IGNORECASE) is not None
    if labelled and official is None:
        raise InputError(
            f"{path.name}: {OFFICIAL_TEST} is missing. Put the owner's file beside it: it names the"
            f" {OFFICIAL_ROWS} test rows, which no position in this file does"
        )
    owner = path.suffix == ".json"
    contexts, question = ("CONTEXTS", "QUESTION") if owner else ("context.contexts", "question")
    unseen = set(official or ())
    for where, own, row in _pubmedqa_rows(path):
        decision, parts = row["final_decision"], row[contexts]
        if decision not in DECISIONS:
            raise InputError(f"{where}: final_decision is {decision!r}; expected yes, no or maybe")
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            found = type(parts).__name__
            raise InputError(f"{where}: {contexts}: a list of texts expected, found {found}")
        unseen.discard(own)
        answer = fields.text(row, "LONG_ANSWER" if owner else "long_answer", where, optional=True)
        own_split = _pubmedqa_split(where, own, decision, split, official, labelled)
        yield fields.record(
            where,
            id=f"pubmedqa:{own}",
            kind="mcqa",
            question=fields.text(row, question, where),
            context=nfc(" ".join(parts)),
            options=options,
            answer_index=DECISIONS.index(decision),
            answer=answer,
            **fields.origin("pubmedqa", lang, own_split),
        )
    if labelled and unseen:
        raise InputError(
            f"{path.name}: {len(unseen)} of the {OFFICIAL_ROWS} official test ids are not in it,"
            f" first {min(unseen)}"
        )


def _pubmedqa_split(
    where: str, own: str, decision: str, split: str, official: dict | None, labelled: bool
) -> str:
    if official is None:
        return split
    if own in official:
        if official[own] != decision:
            raise InputError(
                f"{where}: final_decision is {decision!r}, {OFFICIAL_TEST} has {official[own]!r}"
            )
        return "test"
    if split == "test" and not labelled:
        raise InputError(f"{where}: the name says test, but the id is not in {OFFICIAL_TEST}")
    return "validation" if labelled else split


# --- MMLU


@layout("mmlu")
def read_mmlu(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """The owner's CSV without a header, or the hub copy's rows. The owner gives no id, and the
    translation is aligned by position only: the row number is the id.
    """
    subject = path.name.removeprefix("mmlu_").split("_test")[0]
    rows = _mmlu_csv(path) if path.suffix == ".csv" else _mmlu_hub(path, subject)
    for index, (where, question, options, key) in enumerate(rows):
        yield fields.record(
            where,
            id=f"mmlu_{subject}:{index}",
            kind="mcqa",
            question=nfc(question),
            options=[nfc(option) for option in options],
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
                    f"{where}: expected 6 columns (question, A, B, C, D, letter) without a header;"
                    f" seen {len(row)} ending in {row[-1:]!r}"
                )
            yield where, row[0], row[1:5], "ABCD".index(row[5])
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV ({error})") from None


def _mmlu_hub(path: Path, subject: str) -> Iterator[tuple[str, str, list[str], int]]:
    for where, row in iter_rows(path):
        fields.need(row, ("question", "choices", "answer"), where)
        choices, answer = row["choices"], row["answer"]
        if row.get("subject", subject) != subject:
            raise InputError(f"{where}: subject is {row['subject']!r} in a file named {subject}")
        texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
        if not texts or len(choices) != 4:
            raise InputError(f"{where}: choices: a list of 4 texts expected, found {choices!r}")
        if type(answer) is not int or not 0 <= answer <= 3:
            raise InputError(f"{where}: answer is {answer!r}; expected 0-3")
        yield where, fields.text(row, "question", where), choices, answer


# --- BiMediX's Arabic test sets


def _inspected_options(row: dict, source: SourceEntry) -> list[str] | None:
    """The options, in whichever of the entry's columns they are; a name with spaces is a group of
    columns, one for each option.
    """
    for name in source.names("options"):
        group = name.split()
        if len(group) > 1:
            if all(isinstance(row.get(column), str) for column in group):
                return [row[column] for column in group]
            continue
        value = row.get(name)
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            value = value["text"]  # {"text": [...], "label": [...]}
        if isinstance(value, dict):
            letters = sorted(letter for letter, text in value.items() if text is not None)
            if letters == list(LABELS[: len(value)]):
                value = [value[letter] for letter in letters]
        if isinstance(value, list) and value and all(isinstance(option, str) for option in value):
            return value
    return None


def _inspected_key(value: Any, options: list[str], first: int) -> int | None:
    """The index of a key: a number, a letter of either script, yes, no, maybe, an option's text."""
    text = nfc(value).rstrip(".)") if isinstance(value, str) else ""
    if type(value) is int or (value not in options and text.isdecimal() and text == value.strip()):
        index = int(value) - first
        return index if 0 <= index < len(options) else None
    for alphabet in (LABELS, language_data("ar")["option_letters"], DECISIONS):
        if text in list(alphabet[: len(options)]):
            return list(alphabet).index(text)
    texts = [nfc(option).rstrip(".)") for option in options]
    return texts.index(text) if text and texts.count(text) == 1 else None


_OWN_IDS = {"pubmedqa": ("pubid", "pubmed_id", "id"), "medmcqa": ("id",)}


@layout("bimedix", "question options key", "context")
def read_bimedix(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """The columns of these sets were not found in any copy: each field is looked for in the columns
    that the entry lists. Raises `InputError` with the columns seen when question, options or key is
    not found, and never guesses between 0-3 and 1-4.
    """
    name = re.match(source.pattern, path.name).group("name")
    if name is None:
        raise InputError(
            f"{path.name}: expected bimedix_medqa, bimedix_medmcqa, bimedix_pubmedqa or"
            " bimedix_mmlu_<subject>"
        )
    family = name.removeprefix("bimedix_")
    numbers: dict[str, set[int]] = {}
    for _, row in iter_rows(path):  # first pass: where do numbers begin to count?
        for column in source.names("key"):
            if type(row.get(column)) is int:
                numbers.setdefault(column, set()).add(row[column])
    names, origin = fields.ContentNames(), fields.origin(name, lang, "test")
    for where, row in iter_rows(path):
        asked = (row.get(column) for column in source.names("question"))
        question = next((text for text in asked if isinstance(text, str) and text.strip()), None)
        options = _inspected_options(row, source)
        if options is None and family == "pubmedqa":
            options = list(language_data("ar")["yes_no_maybe"])
        key = next((name for name in source.names("key") if row.get(name) is not None), None)
        found = {"question": question, "options": options, "key": key}
        if lacking := [field for field, value in found.items() if value is None]:
            raise InputError(
                f"{where}: no column was found for {', '.join(lacking)}; columns seen:"
                f" {', '.join(map(str, row)) or 'none'}"
            )
        first = fields.first_key(path, key, numbers[key], 4) if key in numbers else 0
        index = _inspected_key(row[key], options, first)
        if index is None:
            raise InputError(
                f"{where}: the key {key} = {row[key]!r} names none of {len(options)} options;"
                f" columns seen: {', '.join(row)}"
            )
        context = next((row[column] for column in source.names("context") if row.get(column)), "")
        context = context.get("contexts", "") if isinstance(context, dict) else context
        context = " ".join(context) if isinstance(context, list) else str(context)
        ids = (row.get(column) for column in _OWN_IDS.get(family, ()))
        own = next((str(value) for value in ids if value is not None), None)
        yield fields.record(
            where,
            id=f"{name}:{own or names(nfc(question))}",
            kind="mcqa",
            question=nfc(question),
            context=nfc(context),
            options=[nfc(option) for option in options],
            answer_index=index,
            topic=family.removeprefix("mmlu_") if family.startswith("mmlu_") else "",
            # The order of these sets is not known to be the English one: only an id of the owner's
            # names the original.
            parent_id=f"{family}:{own}" if own else None,
            **origin,
        )
