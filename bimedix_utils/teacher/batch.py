"""Request files for a batch service: `vllm run-batch` on a cluster, or a hosted batch API.

A folder holds `requests/NNNN-<stage>.jsonl`, written here, and `results/*.jsonl`, put there by
whoever ran them. Results may come in any order, partial, repeated, cut in the last line, or of
other stages. A request is written again only after a result says that it failed; the failures that
were known when a file was written are in `failures/NNNN-<stage>.json`.
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
from .store import UNREADABLE_ERRORS, Answer, Deliver, read_body

MAX_FILE_LINES = 50_000  # the usual limits of hosted batch APIs
MAX_FILE_BYTES = 100_000_000
WAITING_FOR_BATCH = "waiting for batch results"
_IMPORTED = 500  # answers delivered together

Approve = Callable[[list[Request], Iterable[Request]], None]


def exchange_batch_files(
    requests: Iterable[Request],
    folder: Path,
    deliver: Deliver,
    approve: Approve = lambda todo, due: None,
    stored: Callable[[Collection[str]], set[str]] = lambda ids: set(),
    max_lines: int = MAX_FILE_LINES,
    max_bytes: int = MAX_FILE_BYTES,
) -> str:
    """Import what has come back; write files for what was never asked or came back as a failure.

    Returns what to do next, or "" when every request is answered. `approve` gets what would be
    written and what was written before and has no answer yet (`stored` tells which ids have one);
    it may raise to stop before anything is written. Holds the missing requests in memory. Raises
    `TeacherError` for a damaged request file and when the disk refuses.
    """
    missing = {request.id: request for request in requests}
    failed, good = _import_results(missing, folder / "results", deliver)
    known = _written(folder)
    waiting = {request_id for request_id in known if failed.get(request_id, 0) <= known[request_id]}
    todo = [request for request_id, request in missing.items() if request_id not in waiting]
    if todo:
        due = waiting - good
        approve(todo, _requests_of(folder, due - stored(due)))
    files = _write_requests(todo, failed, folder, max_lines, max_bytes)
    if files:
        print(
            f"teacher: {len(todo):,} rows are written to files. Never send patient data: they leave"
            " this machine with an upload."
        )
    if not missing:
        return ""
    names = ", ".join(path.name for path in files) or "no new file"
    return (
        f"{len(todo):,} requests written ({names}), {len(missing) - len(todo):,} written before and"
        f" still without a result. Run every file of {folder.name}/requests with `vllm run-batch"
        " -i requests/FILE -o results/FILE --model MODEL` or upload it to a batch API, put the"
        f" results into {folder.name}/results, and run the same command again"
    )


def _import_results(
    missing: dict[str, Request], results: Path, deliver: Deliver
) -> tuple[dict[str, int], set[str]]:
    """Deliver the good results of `missing`, which loses them.

    Returns how often each id failed, and the ids with a good result.
    """
    failures: dict[str, set[str]] = defaultdict(set)  # a failure in two files counts once
    good: set[str] = set()
    batch: list[tuple[Request, Answer]] = []
    for path in sorted(results.glob("*.jsonl")):
        broken = 0
        for raw in _lines(path):
            try:
                line = raw.decode("utf-8")
                value = json.loads(line)
                request_id = value["custom_id"]
                _ = missing.get(request_id)
            except UNREADABLE_ERRORS:
                # half a line of a file that is still being written, or another encoding
                broken += 1
                continue
            if request_id in good:  # a repetition
                continue
            answer = _read_result(request_id, value)
            if answer is None:
                failures[request_id].add(digest(line))
                continue
            good.add(request_id)
            if request_id not in missing:  # of another call
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


def _read_result(request_id: str, value: dict) -> Answer | None:
    """The answer in one result line; None for a failure."""
    try:
        response = value["response"]
        if value.get("error") or response.get("status_code", 200) != 200:
            return None
        # escaped again: half a surrogate pair elsewhere in the body does no harm
        return read_body(request_id, json.dumps(response["body"]))
    except UNREADABLE_ERRORS:
        return None


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as handle:
        for line in handle:
            if text := line.removeprefix(b"\xef\xbb\xbf").strip():
                yield text


def _request_lines(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every line of every request file. Raises `TeacherError` for one that is no request."""
    for path in sorted((folder / "requests").glob("*.jsonl")):
        for number, raw in enumerate(_lines(path), start=1):
            try:
                line = json.loads(raw.decode("utf-8"))
                _ = line["custom_id"] + ""
            except UNREADABLE_ERRORS:  # whether it was asked is not known
                raise TeacherError(
                    f"requests/{path.name}, line {number} is no request: fix the file, or remove it"
                ) from None
            yield path, line


def _written(folder: Path) -> dict[str, int]:
    """Every id ever written, and how many failures of it were known when it was written last."""
    known: dict[str, int] = {}
    notes: tuple[Path | None, dict[str, int]] = (None, {})
    for path, line in _request_lines(folder):
        if path != notes[0]:
            notes = path, _known_failures(folder / "failures" / f"{path.stem}.json")
        request_id = line["custom_id"]
        # In files older than these notes, each further writing answered one failure.
        known[request_id] = max(known.get(request_id, -1) + 1, notes[1].get(request_id, 0))
    return known


def _known_failures(path: Path) -> dict[str, int]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        raise TeacherError(
            f"failures/{path.name} cannot be read: fix the file, or remove it with its request file"
        ) from None


def _requests_of(folder: Path, ids: set[str]) -> Iterator[Request]:
    """What was written under these ids, once each; complete as far as its cost goes."""
    ids = set(ids)
    for path, line in _request_lines(folder):
        if line["custom_id"] in ids:
            ids.remove(line["custom_id"])
            try:
                yield request_of_line(line)
            except UNREADABLE_ERRORS:
                raise TeacherError(
                    f"requests/{path.name} holds a line that is no request: fix the file, or"
                    " remove it"
                ) from None


def request_of_line(line: dict[str, Any]) -> Request:
    """The request in a line of a request file; its row id is the line's `custom_id`."""
    body = dict(line["body"])
    messages = tuple((message["role"], message["content"]) for message in body.pop("messages"))
    model = body.pop("model")
    return Request("", line["custom_id"], 0, 0, "", model, messages, tuple(body.items()))


def _write_requests(
    requests: list[Request], failed: dict[str, int], folder: Path, max_lines: int, max_bytes: int
) -> list[Path]:
    files: list[Path] = []
    part: list[Request] = []
    size = 0
    numbers = [re.match(r"\d+(?=-)", path.name) for path in (folder / "requests").glob("*.jsonl")]
    number = max((int(found[0]) for found in numbers if found), default=0)
    for request in requests:
        length = len(_line(request).encode("utf-8"))
        full = len(part) == max_lines or size + length > max_bytes
        if part and (full or request.stage != part[0].stage):
            files.append(_write_file(folder, number + len(files) + 1, part, failed))
            part, size = [], 0
        part.append(request)
        size += length
    if part:
        files.append(_write_file(folder, number + len(files) + 1, part, failed))
    return files


def _line(request: Request) -> str:
    return json.dumps(request.line(), ensure_ascii=False) + "\n"


def _write_file(folder: Path, number: int, part: list[Request], failed: dict[str, int]) -> Path:
    path = folder / "requests" / f"{number:04d}-{part[0].stage}.jsonl"
    note = folder / "failures" / f"{path.stem}.json"
    known = {request.id: failed[request.id] for request in part if request.id in failed}
    target = note
    try:
        # The note first: without its request file it says nothing.
        if known:
            write_json(note, known)
        else:
            note.unlink(missing_ok=True)
        target = path
        write_text(path, map(_line, part))
    except OSError as error:
        raise TeacherError(
            f"{target.parent.name}/{target.name} could not be written ({error.strerror or error});"
            " run again"
        ) from None
    return path
