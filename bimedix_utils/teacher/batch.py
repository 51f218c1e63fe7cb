"""Request files for a batch service: `vllm run-batch` on a cluster, or a hosted batch API. Same
requests, same store.

A folder holds `requests/NNNN-<stage>.jsonl`, written here, and `results/*.jsonl`, put there by
whoever ran them. Results may be in any order, partial, repeated, cut in the last line, or of other
stages. A request is written again only after a result says it failed; the failures that were known
when a file was written stand in `failures/NNNN-<stage>.json`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import TeacherError
from ..core.files import write_json, write_text
from ..core.text import digest
from .requests import Request
from .store import UNREADABLE, Answer, read_body

MAX_FILE_LINES = 50_000  # of one file; the usual limits of hosted batch APIs
MAX_FILE_BYTES = 100_000_000
WAITING_FOR_BATCH = "waiting for batch results"
_IMPORTED = 500  # answers delivered together

Deliver = Callable[[list[tuple[Request, Answer]]], None]
Approve = Callable[[list[Request], Iterable[Request]], None]


def exchange_batch_files(requests: Iterable[Request], folder: Path, deliver: Deliver, approve: Approve = lambda todo, due: None,
             stored: Callable[[Collection[str]], set[str]] = lambda ids: set(), max_lines: int = MAX_FILE_LINES,
             max_bytes: int = MAX_FILE_BYTES) -> str:  # fmt: skip
    """Import what has come back, then write request files for what was never asked or came back as
    a failure.

    Returns in words what to do next, or "" when every request is answered. Holds the missing
    requests in memory. `approve` is given what would be written and what was written before, in any
    call, and has no answer yet (`stored` tells which ids have one); it may raise to stop before
    anything is written; what had come back is imported by then. Raises `TeacherError` for a request
    file that is damaged and when the disk refuses.
    """
    missing = {request.id: request for request in requests}
    failed, good = _import(missing, folder / "results", deliver)
    known = _written(folder)
    waiting = {request_id for request_id in known if failed.get(request_id, 0) <= known[request_id]}
    todo = [request for request_id, request in missing.items() if request_id not in waiting]
    if todo:
        due = waiting - good
        approve(todo, _named(folder, due - stored(due)))
    files = _write(todo, failed, folder, max_lines, max_bytes)
    if files:
        print(
            f"teacher: {len(todo):,} rows are written to files. Never send patient data: they leave"
            " this machine with an upload."
        )
    if not missing:
        return ""
    names, before = (
        ", ".join(path.name for path in files) or "no new file",
        len(missing) - len(todo),
    )
    return (
        f"{len(todo):,} requests written ({names}), {before:,} written before and still without a"
        f" result. Run every file of {folder.name}/requests with `vllm run-batch -i requests/FILE"
        " -o results/FILE --model MODEL` or upload it to a batch API, put the results into"
        f" {folder.name}/results, and run the same command again"
    )


def _import(
    missing: dict[str, Request], results: Path, deliver: Deliver
) -> tuple[dict[str, int], set[str]]:
    """Deliver the good results of `missing`, which loses them; returns how often each id failed,
    and the ids with a good result.
    """
    failures: dict[str, set[str]] = defaultdict(
        set
    )  # a failure that stands in two files is one failure
    good: set[str] = set()
    batch: list[tuple[Request, Answer]] = []
    for path in sorted(results.glob("*.jsonl")):
        broken = 0
        for raw in _lines(path):
            try:
                line = raw.decode("utf-8")
                value = json.loads(line)
                request_id = value["custom_id"]
                request = missing.get(request_id)
            except UNREADABLE:
                # half a line of a file that is still being written, or one in another encoding
                broken += 1
                continue
            if request_id in good:  # a repetition
                continue
            answer = _read(request_id, value)
            if answer is None:
                failures[request_id].add(digest(line))
                continue
            good.add(request_id)
            if request is None:  # of another call
                continue
            batch.append((missing.pop(request_id), answer))
            if len(batch) == _IMPORTED:
                deliver(batch)
                batch = []
        if broken:
            print(f"teacher: {broken} lines of {path.name} are no results and were left alone")
    if batch:
        deliver(batch)
    return {request_id: len(lines) for request_id, lines in failures.items()}, good


def _read(request_id: str, value: dict) -> Answer | None:
    """The answer in one result line; None for a failure."""
    try:
        response = value["response"]
        if value.get("error") or response.get("status_code", 200) != 200:
            return None
        return read_body(
            request_id, json.dumps(response["body"])
        )  # escaped: half a surrogate pair somewhere in it is none of our business
    except UNREADABLE:
        return None


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as handle:
        yield from (
            line for line in (part.removeprefix(b"\xef\xbb\xbf") for part in handle) if line.strip()
        )


def _requests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every line of every request file. Raises `TeacherError` for one that is no request: it may
    have been asked, or not.
    """
    for path in sorted((folder / "requests").glob("*.jsonl")):
        for number, raw in enumerate(_lines(path), start=1):
            try:
                line = json.loads(raw.decode("utf-8"))
                _ = line["custom_id"] + ""
            except UNREADABLE:
                raise TeacherError(
                    f"requests/{path.name}, line {number} is no request: mend the file, or"
                    " remove it"
                ) from None
            yield path, line


def _written(folder: Path) -> dict[str, int]:
    """Every id ever written, and how many failures of it were known when it was written last."""
    known: dict[str, int] = {}
    told: tuple[Path | None, dict[str, int]] = (None, {})
    for path, line in _requests(folder):
        if path != told[0]:
            told = path, _told(folder / "failures" / f"{path.stem}.json")
        request_id = line["custom_id"]
        # Files of before these notes were kept: each further writing answered one failure.
        known[request_id] = max(known.get(request_id, -1) + 1, told[1].get(request_id, 0))
    return known


def _told(path: Path) -> dict[str, int]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        raise TeacherError(
            f"failures/{path.name} cannot be read: mend the file, or remove it with its request"
            " file"
        ) from None


def _named(folder: Path, ids: set[str]) -> Iterator[Request]:
    """What was written under these ids, once each, as far as its cost goes: messages and
    parameters.
    """
    ids = set(ids)
    for path, line in _requests(folder):
        if line["custom_id"] in ids:
            ids.remove(line["custom_id"])
            try:
                body = dict(line["body"])
                messages = tuple(
                    (message["role"], message["content"]) for message in body.pop("messages")
                )
                yield Request(
                    "",
                    line["custom_id"],
                    0,
                    0,
                    "",
                    body.pop("model"),
                    messages,
                    tuple(body.items()),
                )
            except UNREADABLE:
                raise TeacherError(
                    f"requests/{path.name} holds a line that is no request: mend the file, or"
                    " remove it"
                ) from None


def _write(
    requests: list[Request], failed: dict[str, int], folder: Path, max_lines: int, max_bytes: int
) -> list[Path]:
    files: list[Path] = []
    lines: list[str] = []
    known: dict[str, int] = {}
    size = 0
    numbers = [re.match(r"\d+(?=-)", path.name) for path in (folder / "requests").glob("*.jsonl")]
    number = max((int(found[0]) for found in numbers if found), default=0)

    def flush(stage: str) -> None:
        nonlocal lines, known, size, number
        if lines:
            number += 1
            files.append(folder / "requests" / f"{number:04d}-{stage}.jsonl")
            # The note first: without its request file it says nothing.
            note = folder / "failures" / f"{files[-1].stem}.json"
            _save(note, write_json, known) if known else note.unlink(missing_ok=True)
            _save(files[-1], write_text, lines)
            lines, known, size = [], {}, 0

    stage = ""
    for request in requests:
        line = json.dumps(request.line(), ensure_ascii=False) + "\n"
        length = len(line.encode("utf-8"))
        if request.stage != stage or len(lines) == max_lines or size + length > max_bytes:
            flush(stage)
        stage = request.stage
        lines.append(line)
        size += length
        if request.id in failed:
            known[request.id] = failed[request.id]
    flush(stage)
    return files


def _save(path: Path, write: Callable[[Path, Any], None], value: Any) -> None:
    try:
        write(path, value)
    except OSError as error:
        path.with_name(f"{path.name}.partial").unlink(missing_ok=True)
        raise TeacherError(
            f"{path.parent.name}/{path.name} could not be written ({error.strerror or error}); run"
            " again"
        ) from None
