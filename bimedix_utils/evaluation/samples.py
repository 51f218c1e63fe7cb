"""Per-sample files: one line an item, written window by window; a killed run goes on where the last
whole window ended.

The first line says what the samples are of. Batches depend on their window only, so an unbroken run
and a resumed one write the same bytes on the same machine.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.provenance import shown_path
from ..core.records import Record
from ..core.text import canonical_json, digest
from .scoring import WINDOW, Sample

Scorer = Callable[[Sequence[Record]], Iterable[Sample]]


def path_of(folder: Path, header: dict[str, Any]) -> Path:
    """The file of these samples: readable words of the header and a hash of all of it, so that
    nothing else can be taken for it.
    """
    words = "-".join(
        str(header[name]) for name in ("model", "task", "lang", "protocol") if name in header
    )
    return folder / f"{words}-{digest(header, 8)}.jsonl"


def scored(folder: Path, header: dict[str, Any], records: Sequence[Record], scorer: Scorer) -> Path:
    """Make the samples file of `records` whole and return it; only what is missing is scored.

    `header` names everything the samples depend on (model, task, version, form); the records' own
    hash is added. `scorer` gives a window's samples in order. Raises `InputError` when a sample is
    not that of its record.
    """
    header = {
        **header,
        "items": digest([record.content_hash() for record in records]),
        "n": len(records),
    }
    path = path_of(folder, header)
    folder.mkdir(parents=True, exist_ok=True)
    first = canonical_json(header) + "\n"
    done = _whole_windows(path, first, len(records))
    with open(path, "r+" if path.exists() else "w", encoding="utf-8") as file:
        if not done:
            file.seek(0)
            file.truncate()
            file.write(first)
        else:
            file.seek(0, os.SEEK_END)
        for begin in range(done, len(records), WINDOW):
            window = records[begin : begin + WINDOW]
            samples = list(scorer(window))
            if [sample.hash for sample in samples] != [record.content_hash() for record in window]:
                raise InputError(f"{shown_path(path)}: the scorer gave samples of other items")
            file.write(
                "".join(json.dumps(sample.row(), ensure_ascii=False) + "\n" for sample in samples)
            )
            file.flush()
            os.fsync(file.fileno())
    return path


def _whole_windows(path: Path, first: str, n: int) -> int:
    """Samples to keep; what a kill left behind them (part of a window, part of a line) is cut off,
    and so is an item without an answer.
    """
    if not path.exists():
        return 0
    lines, ends, end = 0, [], 0
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if not (_answered(line) if number else line == first.encode("utf-8")):
                break
            end += len(line)
            lines = number
            ends.append(end)
    if not ends:
        return 0
    keep = lines if lines == n else lines // WINDOW * WINDOW
    os.truncate(path, ends[keep])
    return keep


def _answered(line: bytes) -> bool:
    """Whether a whole sample stands there, of an item that was answered."""
    try:
        return line.endswith(b"\n") and not Sample.of(json.loads(line)).unanswered
    except (ValueError, TypeError, KeyError):
        return False


def read(path: Path) -> Iterator[Sample]:
    """The samples of a file, one by one."""
    with open(path, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield Sample.of(json.loads(line))


def header_of(path: Path) -> dict[str, Any]:
    """What the samples are of."""
    with open(path, encoding="utf-8") as file:
        return json.loads(next(file))
