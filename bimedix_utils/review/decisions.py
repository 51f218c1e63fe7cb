"""The file of decisions: a log that only grows.

One line is one reviewer's decision on one text, safe on disk before the next is asked.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.files import file_lock, read_utf8
from ..translation.texts import named_texts
from .parts import corrected_values, same_shape, source_values

DECISION_COLUMNS = ["row_id", "verdict", "edited", "reviewer", "decided_at", "text_hash", "note"]
# Older files and simulated decisions have no seconds.
_TIMED_COLUMNS = [*DECISION_COLUMNS, "seconds"]
REVIEW_VERDICTS = ("approve", "edit", "reject")
_BOM = b"\xef\xbb\xbf"  # Excel needs it to show Arabic
_LONGEST_CELL = 10_000_000  # characters; Python's own limit is shorter than a long edited chat


@dataclass(frozen=True)
class ReviewDecision:
    """A reviewer's decision on one row.

    `edited` holds the corrected values when the verdict is `edit`; `seconds` is the time it took.
    """

    row_id: str
    verdict: str
    edited: dict | None
    reviewer: str
    decided_at: str
    text_hash: str
    note: str = ""
    seconds: float | None = None


def make_decision(
    where: str,
    row: dict,
    verdict: str,
    corrections: dict[str, str],
    reviewer: str,
    decided_at: str,
    note: str,
    seconds: float | None,
) -> ReviewDecision:
    """A decision whose edit is made from corrections by part.

    Raises `InputError` that begins with `where`.
    """
    expected = ", ".join(part for part, _ in named_texts(source_values(row)))
    if verdict not in REVIEW_VERDICTS:
        raise InputError(f"{where}: {_wrong_verdict(verdict)}")
    if not reviewer:
        raise InputError(
            f"{where}: nobody is named as reviewer; fill the column or name one when reading"
        )
    if corrections and verdict != "edit":
        raise InputError(
            f"{where}: {', '.join(corrections)} corrected, but the verdict is {verdict};"
            " corrections need the verdict edit"
        )
    if verdict == "approve" and not same_shape(row):
        raise InputError(
            f"{where}: the candidate does not have the parts of its source ({expected}); edit or"
            " reject it"
        )
    try:
        edited = corrected_values(row, corrections) if verdict == "edit" else None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    text_hash = row["best"]["text_hash"]
    return ReviewDecision(
        row["id"], verdict, edited, reviewer, decided_at, text_hash, note, seconds
    )


def _wrong_verdict(verdict: str) -> str:
    return f"verdict {verdict!r}; expected one of {', '.join(REVIEW_VERDICTS)}"


def reviewer_key(reviewer: str) -> str:
    """One form of a reviewer's name: "Dr Ada" and "dr ada " are one person."""
    return " ".join(reviewer.casefold().split())


def is_simulated(reviewer: str) -> bool:
    """True for the kit's simulated reviewers: their decisions never count as a person's."""
    return reviewer_key(reviewer).startswith("simulated")


def latest_decisions(decisions: Iterable[ReviewDecision]) -> list[ReviewDecision]:
    """The decisions that count, in file order: the last of each reviewer on each text."""
    kept: dict[tuple[str, str, str], ReviewDecision] = {}
    for decision in decisions:
        key = (decision.row_id, reviewer_key(decision.reviewer), decision.text_hash)
        kept.pop(key, None)
        kept[key] = decision
    return list(kept.values())


# Reading


def _table(data: bytes) -> list[list[str]]:
    csv.field_size_limit(_LONGEST_CELL)
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig", errors="replace"), newline="")))


def _is_cut(data: bytes) -> bool:
    """True when the last row lacks its end: a line end outside quotes."""
    return bool(data) and (not data.endswith(b"\n") or data.count(b'"') % 2 == 1)


def _last_row_start(data: bytes) -> int:
    """Where the last row begins: after the last line end outside quotes that has text behind it."""
    start = row = quotes = 0
    for line in io.BytesIO(data):
        if quotes % 2 == 0:
            row, quotes = start, 0
        quotes += line.count(b'"')
        start += len(line)
    return row


def _refuse_cut(path: Path, data: bytes) -> None:
    if _is_cut(data):
        raise InputError(
            f"{path.name}, row {max(1, len(_table(data)))}: the last line has no end, as if writing"
            " it was cut short. Complete it and end it with a new line, or take it out with"
            " review.remove_cut_row(path)"
        )


def _require_columns(path: Path, columns: list[str]) -> None:
    if not set(DECISION_COLUMNS) <= set(columns):
        raise InputError(
            f"{path.name}: expected the columns {', '.join(DECISION_COLUMNS)}; found"
            f" {', '.join(columns) or 'none'}"
        )


def _lock(path: Path):
    return file_lock(path.with_name(f".{path.name}.lock"))


def remove_cut_row(path: Path) -> str:
    """Take a cut last row out of the file and return its text, empty when nothing was cut.

    The decision on it must be made again.
    """
    if not path.exists():
        return ""
    with _lock(path), open(path, "r+b") as handle:
        data = handle.read()
        if not _is_cut(data):
            return ""
        start = _last_row_start(data)
        handle.truncate(start)
        os.fsync(handle.fileno())
        return data[start:].decode("utf-8-sig", errors="replace")


def read_decisions(path: Path) -> list[ReviewDecision]:
    """All decisions of a CSV file, in file order; `latest_decisions` says which ones count.

    Raises `InputError` naming row and column for anything that cannot be a decision, and for a last
    row that was cut.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None
    _refuse_cut(path, data)
    read_utf8(path)  # names a line that is not UTF-8
    rows = _table(data)
    _require_columns(path, rows[0] if rows else [])
    return [
        _parse_row(f"{path.name}, row {number}", rows[0], cells)
        for number, cells in enumerate(rows[1:], start=2)
    ]


def _parse_row(where: str, header: list[str], cells: list[str]) -> ReviewDecision:
    if len(cells) != len(header):
        raise InputError(f"{where}: {len(cells)} cells; expected {len(header)}")
    row = dict(zip(header, cells, strict=True))
    if row["verdict"] not in REVIEW_VERDICTS:
        raise InputError(f"{where}: {_wrong_verdict(row['verdict'])}")
    edited, seconds = None, None
    if row["verdict"] == "edit":
        try:
            edited = json.loads(row["edited"])
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where}: column edited is not JSON ({error.msg}); were straight quotes turned"
                " into curly ones?"
            ) from None
        if not isinstance(edited, dict):
            raise InputError(
                f"{where}: column edited holds {type(edited).__name__}; expected a JSON object with"
                " the text's own keys"
            )
    if row.get("seconds"):
        try:
            seconds = float(row["seconds"])
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise InputError(
                f"{where}: column seconds holds {row['seconds']!r}; expected a number from 0 up"
            )
    fields = {name: row[name] for name in DECISION_COLUMNS}
    return ReviewDecision(**fields | {"edited": edited, "seconds": seconds})


# Writing


def _line(decision: ReviewDecision, columns: list[str]) -> str:
    cells = {name: getattr(decision, name) for name in _TIMED_COLUMNS}
    if decision.edited is not None:
        cells["edited"] = json.dumps(decision.edited, ensure_ascii=False)
    text = io.StringIO(newline="")
    csv.writer(text).writerow(["" if cells.get(name) is None else cells[name] for name in columns])
    return text.getvalue()


def write_decisions(path: Path, decisions: Iterable[ReviewDecision]) -> None:
    """Write decisions as a new CSV file, with the byte-order mark that Excel needs for Arabic."""
    decisions = list(decisions)
    timed = any(decision.seconds is not None for decision in decisions)
    columns = _TIMED_COLUMNS if timed else DECISION_COLUMNS
    with open(path, "w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle).writerow(columns)
        handle.writelines(_line(decision, columns) for decision in decisions)


def append_decision(path: Path, decision: ReviewDecision) -> None:
    """Add one decision to the end of a file, safe on disk when this returns.

    A missing or empty file gets its header first. The file is locked meanwhile, so that two forms
    may write to it; nothing of a failed write stays. Raises `InputError` when the last row was cut,
    when the header is not one of a decisions file or has no column for the seconds, and `OSError`
    when the disk refuses.
    """
    with _lock(path), open(path, "a+b", buffering=0) as handle:
        handle.seek(0)
        data = handle.read()
        _refuse_cut(path, data)
        columns = _table(data.partition(b"\n")[0])[0] if data else _TIMED_COLUMNS
        _require_columns(path, columns)
        if decision.seconds is not None and "seconds" not in columns:
            raise InputError(
                f"{path.name}: this older file has no column for the seconds; let new decisions go"
                " to a file of their own"
            )
        head = b"" if data else _BOM + (",".join(_TIMED_COLUMNS) + "\r\n").encode()
        try:
            line = head + _line(decision, columns).encode()
            if handle.write(line) != len(line):
                raise OSError("the disk took only a part of the line")
            os.fsync(handle.fileno())
        except OSError:
            handle.truncate(len(data))
            raise
