"""What every reader needs: columns that must be there, texts that must be texts, an origin, a name
for rows without one.
"""

from collections import Counter
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from ..core.errors import InputError
from ..core.records import Record, explain, hash64
from ..core.text import digest, nfc
from . import catalogue

_licence = cache(catalogue.licence)


def origin(source: str, lang: str, split: str) -> dict[str, str]:
    return {"source": source, "lang": lang, "split": split, "licence": _licence(source, lang)}


class Names:
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
    missing = [name for name in columns if name not in row]
    if missing:
        raise InputError(
            f"{where}: columns wanted {', '.join(columns)}; missing {', '.join(missing)}; seen"
            f" {', '.join(map(str, row)) or 'none'}"
        )


def record(where: str, **fields: object) -> Record:
    try:
        return Record(**fields)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from None


def text(row: dict, name: str, where: str, optional: bool = False) -> str:
    """A column's text; an `optional` one may be absent or null."""
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise InputError(
            f"{where}: column {name}: text wanted, found {type(value).__name__} {value!r}"
        )
    return nfc(value)


def first_key(path: Path, column: str, seen: set[int]) -> int:
    """0 or 1. A single 0 or 4 decides the counting for the whole file; a file with both, or with
    neither, cannot be trusted.
    """
    if {0, 4} <= seen or (seen and not seen & {0, 4}):
        raise InputError(
            f"{path.name}: {column} takes the values {sorted(seen)}, so it cannot be told whether"
            " it counts from 0 (hub copy) or 1 (raw file)"
        )
    return 0 if 0 in seen else 1
