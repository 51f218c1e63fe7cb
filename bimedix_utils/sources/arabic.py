"""Reader of BiMediX's nine Arabic test sets. Their columns were not found in any copy, so they are
mapped by inspection.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import InputError
from ..core.records import LABELS, Record
from ..core.text import nfc
from . import fields, files
from .exams import MMLU_SUBJECTS, PUBMEDQA_OPTIONS

BIMEDIX_QUESTION = (
    "question",
    "Question",
    "QUESTION",
    "question_ar",
    "arabic_question",
    "sent1",
    "السؤال",
)
BIMEDIX_OPTIONS = ("options", "choices", "Options", "endings", "options_ar")
BIMEDIX_LETTERED = (("opa", "opb", "opc", "opd"), ("A", "B", "C", "D"), ("option_a", "option_b", "option_c", "option_d"),
                    ("ending0", "ending1", "ending2", "ending3"))  # fmt: skip
BIMEDIX_KEY = (
    "answer_idx",
    "cop",
    "final_decision",
    "label",
    "answerKey",
    "correct_answer",
    "answer",
    "Answer",
    "target",
)
BIMEDIX_ID = {"pubmedqa": ("pubid", "pubmed_id", "id"), "medmcqa": ("id",)}
BIMEDIX_CONTEXT = ("context", "contexts", "CONTEXTS", "abstract", "context_ar")
ARABIC_LETTERS = "أبجد"


def _bimedix_options(row: dict, source: str) -> list[str] | None:
    for name in BIMEDIX_OPTIONS:
        value = row.get(name)
        if isinstance(value, dict) and isinstance(
            value.get("text"), list
        ):  # {"text": [...], "label": [...]}
            value = value["text"]
        if isinstance(value, dict) and sorted(k for k, v in value.items() if v is not None) == list(
            LABELS[: len(value)]
        ):
            value = [value[letter] for letter in sorted(value)]
        if isinstance(value, list) and value and all(isinstance(option, str) for option in value):
            return value
    for names in BIMEDIX_LETTERED:
        if all(isinstance(row.get(name), str) for name in names):
            return [row[name] for name in names]
    return list(PUBMEDQA_OPTIONS["ar"]) if source.endswith("pubmedqa") else None


def _bimedix_key(value: object, options: list[str], first: int) -> int | None:
    """The place of the key given as a number, a Latin or Arabic letter, the option's own text or
    yes, no, maybe.
    """
    if type(value) is int or (
        isinstance(value, str) and value.strip().isdecimal() and value.strip() not in options
    ):
        place = int(value) - first
        return place if 0 <= place < len(options) else None
    if not isinstance(value, str):
        return None
    said = nfc(value).rstrip(".)")
    for alphabet in (LABELS, ARABIC_LETTERS, PUBMEDQA_OPTIONS["en"]):
        if said in list(alphabet[: len(options)]):
            return list(alphabet).index(said)
    texts = [nfc(option).rstrip(".)") for option in options]
    return texts.index(said) if texts.count(said) == 1 else None


def bimedix(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Always test rows: the hub calls the one split of these sets "train". Raises `InputError` with
    the columns seen when question, options or key cannot be found, and never guesses between 0-3
    and 1-4.
    """
    source = re.match(
        r"bimedix_(?:medqa|medmcqa|pubmedqa|mmlu_(?:" + "|".join(MMLU_SUBJECTS) + "))", path.name
    )
    if source is None:
        raise InputError(
            f"{path.name}: wanted bimedix_medqa, bimedix_medmcqa, bimedix_pubmedqa or"
            " bimedix_mmlu_<subject>"
        )
    source, family = source.group(), source.group().removeprefix("bimedix_")
    numbers: dict[str, set[int]] = {}
    for _, row in files.rows(path):  # first pass: where do numbers begin to count?
        for name in BIMEDIX_KEY:
            if type(row.get(name)) is int:
                numbers.setdefault(name, set()).add(row[name])
    names, origin = fields.Names(), fields.origin(source, lang, "test")
    for where, row in files.rows(path):
        question = next(
            (
                row[name]
                for name in BIMEDIX_QUESTION
                if isinstance(row.get(name), str) and row[name].strip()
            ),
            None,
        )
        options = _bimedix_options(row, source)
        key = next((name for name in BIMEDIX_KEY if row.get(name) is not None), None)
        if question is None or options is None or key is None:
            lacking = [
                word
                for word, found in (("question", question), ("options", options), ("key", key))
                if found is None
            ]
            raise InputError(
                f"{where}: no column was found for {', '.join(lacking)}; columns seen:"
                f" {', '.join(map(str, row)) or 'none'}"
            )
        first = fields.first_key(path, key, numbers[key]) if key in numbers else 0
        place = _bimedix_key(row[key], options, first)
        if place is None:
            raise InputError(
                f"{where}: the key {key} = {row[key]!r} names none of {len(options)} options;"
                f" columns seen: {', '.join(row)}"
            )
        context = next((row[name] for name in BIMEDIX_CONTEXT if row.get(name)), "")
        context = context.get("contexts", "") if isinstance(context, dict) else context
        own = next(
            (str(row[name]) for name in BIMEDIX_ID.get(family, ()) if row.get(name) is not None),
            None,
        )
        yield fields.record(
            where,
            id=f"{source}:{own or names(nfc(question))}",
            kind="mcqa",
            question=nfc(question),
            context=nfc(" ".join(context) if isinstance(context, list) else str(context)),
            options=[nfc(option) for option in options],
            answer_index=place,
            topic=family.removeprefix("mmlu_") if family.startswith("mmlu_") else "",
            # The order of these sets is not known to be the English one: only an id of the owner's
            # names the original.
            parent_id=f"{family}:{own}" if own else None,
            **origin,
        )
