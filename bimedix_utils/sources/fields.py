"""What every reader needs: columns that must be there, texts that must be texts, ids, origins."""

from collections import Counter
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from ..core.errors import InputError
from ..core.records import Record, explain, hash64
from ..core.text import digest, nfc
from . import catalogue

MISSING = "(not in the file)"  # in a rejected row, for a text that the owner left out
_licence = cache(catalogue.source_licence)


def origin(source: str, lang: str, split: str, licence: str = "") -> dict[str, str]:
    """The fields that say where a row is from; the catalogue knows the published licences."""
    licence = licence or _licence(source, lang)
    return {"source": source, "lang": lang, "split": split, "licence": licence}


class ContentNames:
    """Ids for rows without one: a hash of their content; the second row with the same content ends
    in -2.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._again: Counter[str] = Counter()

    def __call__(self, content: object) -> str:
        name = digest(content)
        if (number := hash64(name)) not in self._seen:
            self._seen.add(number)
            return name
        self._again[name] += 1
        return f"{name}-{self._again[name] + 1}"


def need(row: dict, columns: tuple[str, ...], where: str) -> None:
    """Raises `InputError` with the columns expected, missing and seen."""
    if missing := [name for name in columns if name not in row]:
        raise InputError(
            f"{where}: columns expected {', '.join(columns)}; missing {', '.join(missing)}; seen"
            f" {', '.join(map(str, row)) or 'none'}"
        )


def record(where: str, **values: object) -> Record:
    """A record, or an `InputError` that names the row."""
    try:
        return Record(**values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from None


def pair(where: str, question: str, answer: str, strict: bool = False, **values: object) -> Record:
    """A question and its answer. One without the other is a rejected row, because rows never
    vanish; an `InputError` when `strict`.
    """
    if strict:
        return record(where, kind="qa", question=question, answer=answer, **values)
    if not question or not answer:
        lacking = "answer" if question else "question"
        values |= {"status": "rejected", "note": f"no {lacking} in the owner's file"}
    return record(
        where, kind="qa", question=question or MISSING, answer=answer or MISSING, **values
    )


def text(row: dict, name: str, where: str, optional: bool = False) -> str:
    """A column's text; an `optional` one may be absent or null."""
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise InputError(
            f"{where}: column {name}: text expected, found {type(value).__name__} {value!r}"
        )
    return nfc(value)


def first_key(path: Path, column: str, seen: set[int], last: int) -> int:
    """0 or 1: where a key that counts options begins. A single 0 or `last` (the number of options)
    decides for the whole file; a file with both, or with neither, cannot be trusted.
    """
    if {0, last} <= seen or (seen and not seen & {0, last}):
        raise InputError(
            f"{path.name}: {column} takes the values {sorted(seen)}, so it cannot be told whether"
            " it counts from 0 (hub copy) or 1 (raw file)"
        )
    return 0 if 0 in seen else 1
