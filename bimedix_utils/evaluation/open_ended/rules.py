"""What the detectors share: folded text, sentences, compiled patterns, and how well a detector does
on labelled answers.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...core.errors import InputError
from ...core.files import iter_json_lines
from ...core.statistics import wilson
from ...core.text import normalise_letters

FOLDER = "data/sample/open_ended"
DETECTOR_COLUMNS = [
    "detector", "language", "n", "hits", "false alarms", "missed", "precision", "95 % (Wilson)", "recall", "95 % (Wilson) "
]  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?؟؛\n])\s+")


def plain(text: str) -> str:
    """A text as the patterns see it: `checks.text.normalise_letters`, straight apostrophes, single spaces."""
    return re.sub(r"\s+", " ", normalise_letters(text).replace("’", "'")).strip()


def sentences(text: str) -> list[str]:
    """Its sentences, by their final signs."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def compiled(*patterns: str) -> re.Pattern[str]:
    """Any of these patterns, folded as texts are. In Arabic ones `@` before a word means a word's
    begin, after و or ف perhaps.
    """
    return re.compile(
        "|".join(normalise_letters(pattern).replace("@", r"(?<!\w)[وف]?") for pattern in patterns),
        re.IGNORECASE,
    )


def read(path: Path, fields: dict[str, type]) -> list[dict]:
    """Rows of a JSON Lines file with exactly these fields of these types. Raises `InputError`
    naming a line that is wrong.
    """
    found, ids = [], set()
    for number, row in iter_json_lines(path):
        if set(row) != set(fields) or not all(
            type(row[name]) is kind and row[name] != "" for name, kind in fields.items()
        ):
            raise InputError(
                f"{path.name}, line {number}: wanted"
                f" {', '.join(f'{n} ({k.__name__})' for n, k in fields.items())}, none empty"
            )
        if row["id"] in ids:
            raise InputError(f"{path.name}, line {number}: id {row['id']} stands twice")
        ids.add(row["id"])
        found.append(row)
    if not found:
        raise InputError(f"{path.name}: no rows")
    return found


def detection(name: str, lang: str, pairs: Iterable[tuple[bool, bool]]) -> tuple:
    """One line of `DETECTOR_COLUMNS` from (label, detected) pairs. A share of nothing is written
    `not found`.
    """
    pairs = list(pairs)
    hits, alarms, missed = (
        sum(1 for pair in pairs if pair == wanted)
        for wanted in ((True, True), (False, True), (True, False))
    )
    return (
        name,
        lang,
        len(pairs),
        hits,
        alarms,
        missed,
        *share(hits, hits + alarms),
        *share(hits, hits + missed),
    )


def share(hits: int, n: int) -> tuple[str, str]:
    """A share and its Wilson interval as they are shown; `not found` of nothing."""
    if not n:
        return "not found", ""
    low, high = wilson(hits, n)
    return f"{hits / n:.2f}", f"[{low:.2f}, {high:.2f}]"


def by_language(rows: Sequence, langs: Sequence[str]) -> dict[str, list]:
    """Rows (objects with `lang`) of each language that has any."""
    return {lang: found for lang in langs if (found := [row for row in rows if row.lang == lang])}
