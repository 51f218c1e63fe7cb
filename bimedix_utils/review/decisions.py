"""The file of decisions: a log that only grows. One line is one reviewer's word on one text, safe
on disk before the next is asked.
"""

import csv
import fcntl
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.files import read_utf8

COLUMNS = ["row_id", "verdict", "edited", "reviewer", "decided_at", "text_hash", "note"]
TIMED = [
    *COLUMNS,
    "seconds",
]  # `seconds` may be missing: older files and simulated decisions have none
VERDICTS = ("approve", "edit", "reject")
_BOM = b"\xef\xbb\xbf"  # Excel needs it to show Arabic
_LONGEST = 10_000_000  # characters in a cell; Python's own limit is shorter than a long edited chat


@dataclass(frozen=True)
class Decision:
    """A reviewer's word on one row. `edited` holds the corrected values when the verdict is `edit`;
    `seconds` the time it took.
    """

    row_id: str
    verdict: str
    edited: dict | None
    reviewer: str
    decided_at: str
    text_hash: str
    note: str = ""
    seconds: float | None = None


def _table(text: str) -> list[list[str]]:
    csv.field_size_limit(_LONGEST)
    return list(csv.reader(io.StringIO(text, newline="")))


def _last_start(data: bytes) -> int:
    """Where the last row of a CSV file begins: after the last line end that is not inside quotes
    and has something behind it.
    """
    start = quotes = 0
    for line in io.BytesIO(data):
        if quotes % 2 == 0:
            row, quotes = start, 0
        quotes += line.count(b'"')
        start += len(line)
    return row if data else 0


def _cut(data: bytes) -> bool:
    """True when the last row was not written to its end. Every row ends with a line end outside
    quotes.
    """
    return bool(data) and (not data.endswith(b"\n") or data.count(b'"') % 2 == 1)


def _refuse_cut(path: Path, data: bytes) -> None:
    if _cut(data):
        number = max(1, len(_table(data.decode("utf-8-sig", errors="replace"))))
        raise InputError(
            f"{path.name}, row {number}: the last line has no end, as if writing it was cut short."
            " Complete it and end it with a new line, or take it out with decisions.mend(path)"
        )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None


def mend(path: Path) -> str:
    """Take a cut last row out of the file and return its text, empty when nothing was cut. The
    decision on it must be made again.
    """
    if not path.exists():
        return ""
    with open(path, "r+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        data = handle.read()
        if not _cut(data):
            return ""
        start = _last_start(data)
        handle.truncate(start)
        os.fsync(handle.fileno())
        return data[start:].decode("utf-8-sig", errors="replace")


def read_decisions(path: Path) -> list[Decision]:
    """All decisions of a CSV file, in file order; `latest` says which ones count.

    Raises `InputError` naming row and column for anything that cannot be a decision, and for a last
    row that was cut.
    """
    _refuse_cut(path, _bytes(path))
    rows = _table(read_utf8(path))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise InputError(
            f"{path.name}: columns wanted {', '.join(COLUMNS)}; seen"
            f" {', '.join(rows[0]) if rows else 'none'}"
        )
    return [
        _decision(f"{path.name}, row {number}", rows[0], cells)
        for number, cells in enumerate(rows[1:], start=2)
    ]


def _decision(where: str, header: list[str], cells: list[str]) -> Decision:
    if len(cells) != len(header):
        raise InputError(f"{where}: {len(cells)} cells; wanted {len(header)}")
    row = dict(zip(header, cells, strict=True))
    if row["verdict"] not in VERDICTS:
        raise InputError(
            f"{where}: verdict {row['verdict']!r}; wanted one of {', '.join(VERDICTS)}"
        )
    try:
        edited = json.loads(row["edited"]) if row["verdict"] == "edit" else None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: column edited is not JSON ({error.msg}); were straight quotes turned into"
            " curly ones?"
        ) from None
    if row["verdict"] == "edit" and not isinstance(edited, dict):
        raise InputError(
            f"{where}: column edited holds {type(edited).__name__}; a JSON object with the text's"
            " own keys was expected"
        )
    try:
        seconds = float(row["seconds"]) if row.get("seconds") else None
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0 <= seconds < math.inf:
        raise InputError(
            f"{where}: column seconds holds {row['seconds']!r}; a number from 0 up was expected"
        )
    return Decision(**{**{name: row[name] for name in COLUMNS}, "edited": edited}, seconds=seconds)


def person(reviewer: str) -> str:
    """One form of a reviewer's name: "Dr Ada" and "dr ada " are one person, and no second reviewer."""
    return " ".join(reviewer.casefold().split())


def is_simulated(reviewer: str) -> bool:
    """True for the kit's simulated reviewers: their words are never counted as a person's."""
    return person(reviewer).startswith("simulated")


def latest(decisions: Iterable[Decision]) -> list[Decision]:
    """The decisions that count, in file order: of one reviewer's words on one text the last.
    Different reviewers all count.
    """
    kept: dict[tuple[str, str, str], Decision] = {}
    for decision in decisions:
        key = (decision.row_id, person(decision.reviewer), decision.text_hash)
        kept.pop(key, None)
        kept[key] = decision
    return list(kept.values())


def _line(decision: Decision, columns: list[str]) -> str:
    cells = {name: getattr(decision, name) for name in TIMED}
    cells["edited"] = (
        json.dumps(decision.edited, ensure_ascii=False) if decision.edited is not None else ""
    )
    text = io.StringIO(newline="")
    csv.writer(text).writerow(["" if cells.get(name) is None else cells[name] for name in columns])
    return text.getvalue()


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write decisions as a new CSV file (UTF-8 with a byte-order mark, which Excel needs to show
    Arabic).
    """
    decisions = list(decisions)
    columns = TIMED if any(decision.seconds is not None for decision in decisions) else COLUMNS
    with open(path, "w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle).writerow(columns)
        handle.writelines(_line(decision, columns) for decision in decisions)


def append_decision(path: Path, decision: Decision) -> None:
    """Add one decision to the end of a file, safe on disk when this returns; a missing or empty
    file gets its header first.

    The file is locked meanwhile, so that two forms may write to it. Nothing of a failed write
    stays. Raises `InputError` when the last row was cut, when the header is not one of a decisions
    file or has no column for the seconds, and `OSError` when the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        data = handle.read()
        _refuse_cut(path, data)
        columns = (
            _table(data.decode("utf-8-sig", errors="replace").partition("\n")[0])[0]
            if data
            else TIMED
        )
        if not set(COLUMNS) <= set(columns):
            raise InputError(
                f"{path.name}: columns wanted {', '.join(COLUMNS)}; seen {', '.join(columns)}"
            )
        if decision.seconds is not None and "seconds" not in columns:
            raise InputError(
                f"{path.name}: this older file has no column for the seconds; let new decisions go"
                " to a file of their own"
            )
        head = b"" if data else _BOM + (",".join(TIMED) + "\r\n").encode()
        try:
            line = head + _line(decision, columns).encode()
            if handle.write(line) != len(line):
                raise OSError("the disk took only a part of the line")
            os.fsync(handle.fileno())
        except OSError:
            handle.truncate(len(data))
            raise
