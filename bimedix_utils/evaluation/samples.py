"""Per-sample files: one line per item, written window by window. A killed run goes on where the
last complete window ended.

The first line is a header that says what the samples are of. Batches depend on their window only,
so an unbroken run and a resumed one write the same bytes on the same machine.
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


def _samples_path(folder: Path, header: dict[str, Any]) -> Path:
    """Readable words of the header and a hash of all of it: no other run's file has this name."""
    names = [name for name in ("model", "task", "lang", "protocol") if name in header]
    words = "-".join(str(header[name]) for name in names)
    return folder / f"{words}-{digest(header, 8)}.jsonl"


def complete_samples(
    folder: Path,
    header: dict[str, Any],
    records: Sequence[Record],
    score: Callable[[Sequence[Record]], Iterable[Sample]],
) -> Path:
    """Complete the samples file of `records` and return it; only what is missing is scored.

    `header` names everything the samples depend on (model, task, version, prompt format); the
    records' own hash is added. `score` gives a window's samples in order. Raises `InputError` when
    a sample is not that of its record.
    """
    items = digest([record.content_hash() for record in records])
    header = {**header, "items": items, "n": len(records)}
    path, first = _samples_path(folder, header), canonical_json(header) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    done = _keep_complete_windows(path, first, len(records))
    with open(path, "a" if done else "w", encoding="utf-8") as file:
        if not done:
            file.write(first)
        for begin in range(done, len(records), WINDOW):
            window = records[begin : begin + WINDOW]
            samples = list(score(window))
            if [sample.hash for sample in samples] != [record.content_hash() for record in window]:
                raise InputError(f"{shown_path(path)}: the scorer gave samples of other items")
            file.write("".join(json.dumps(s.row(), ensure_ascii=False) + "\n" for s in samples))
            file.flush()
            os.fsync(file.fileno())
    return path


def _keep_complete_windows(path: Path, first: str, n: int) -> int:
    """The number of samples kept; the file is cut behind them. A part of a window, a part of a line
    and an item without an answer are not kept.
    """
    if not path.exists():
        return 0
    ends = []
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if not (_answered(line) if number else line == first.encode("utf-8")):
                break
            ends.append((ends[-1] if ends else 0) + len(line))
    if not ends:
        return 0
    lines = len(ends) - 1
    keep = lines if lines == n else lines // WINDOW * WINDOW
    os.truncate(path, ends[keep])
    return keep


def _answered(line: bytes) -> bool:
    """Whether the line holds a complete sample of an item that was answered."""
    try:
        return line.endswith(b"\n") and not Sample.from_row(json.loads(line)).unanswered
    except (ValueError, TypeError, KeyError):
        return False


def iter_samples(path: Path) -> Iterator[Sample]:
    """The samples of a file, one by one."""
    with open(path, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield Sample.from_row(json.loads(line))
