"""Request files for a batch service: `vllm run-batch` on a cluster, or a hosted batch API. Same requests, same store.

A folder holds `requests/NNNN-<stage>.jsonl`, written here, and `results/*.jsonl`, put there by whoever ran them. Results may be in any
order, partial, repeated, cut in the last line, or of other stages. A request is written again only after a result says it failed.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..provenance import write_text
from ..text import digest
from .requests import Request
from .store import Answer, read_body

MAX_LINES = 50_000  # of one file; the usual limits of hosted batch APIs
MAX_BYTES = 100_000_000
WAITING = "waiting for batch results"
_IMPORTED = 500  # answers delivered together


def exchange(requests: Iterable[Request], folder: Path, deliver: Callable[[list[tuple[Request, Answer]]], None],
             approve: Callable[[list[Request]], None] = lambda todo: None, max_lines: int = MAX_LINES,
             max_bytes: int = MAX_BYTES) -> str:  # fmt: skip
    """Import what has come back, then write request files for what was never asked or came back as a failure.

    Returns in words what to do next, or "" when every request is answered. Holds the missing requests in memory. `approve` may raise to
    stop before anything is written; what had come back is imported by then.
    """
    missing = {request.id: request for request in requests}
    failed = _import(missing, folder / "results", deliver)
    written = Counter(_ids(folder / "requests"))
    waiting = {request_id for request_id in missing if written[request_id] > failed[request_id]}
    todo = [request for request_id, request in missing.items() if request_id not in waiting]
    approve(todo)
    files = _write(todo, folder / "requests", max_lines, max_bytes)
    if not missing:
        return ""
    names = ", ".join(path.name for path in files) or "no new file"
    return (
        f"{len(todo):,} requests written ({names}), {len(waiting):,} written before and still without a result. Run every file of "
        f"{folder.name}/requests with `vllm run-batch -i requests/FILE -o results/FILE --model MODEL` or upload it to a batch API, put the "
        f"results into {folder.name}/results, and run the same command again"
    )


def _import(missing: dict[str, Request], results: Path, deliver: Callable[[list[tuple[Request, Answer]]], None]) -> Counter[str]:
    """Deliver the good results of `missing`, which loses them; returns how often each id came back as a failure."""
    failures: dict[str, set[str]] = defaultdict(set)  # a failure that stands in two files is one failure
    batch: list[tuple[Request, Answer]] = []
    for path in sorted(results.glob("*.jsonl")):
        broken = 0
        for line in _lines(path):
            try:
                value = json.loads(line)
                request = missing.get(value["custom_id"])
            except (ValueError, LookupError, TypeError, RecursionError):
                broken += 1  # half a line of a file that is still being written
                continue
            if request is None:  # of another stage, or a repetition
                continue
            if answer := _read(request, value):
                batch.append((missing.pop(request.id), answer))
            else:
                failures[request.id].add(digest(line))
            if len(batch) == _IMPORTED:
                deliver(batch)
                batch = []
        if broken:
            print(f"teacher: {broken} lines of {path.name} are no results and were left alone")
    if batch:
        deliver(batch)
    return Counter({request_id: len(lines) for request_id, lines in failures.items()})


def _read(request: Request, value: dict) -> Answer | None:
    """The answer in one result line; None for a failure."""
    try:
        response = value["response"]
        if value.get("error") or response.get("status_code", 200) != 200:
            return None
        return read_body(request.id, json.dumps(response["body"]))  # escaped: half a surrogate pair somewhere in it is none of our business
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig", errors="replace") as handle:
        yield from (line for line in handle if line.strip())


def _ids(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.jsonl")):
        yield from (json.loads(line)["custom_id"] for line in _lines(path))


def _write(requests: list[Request], folder: Path, max_lines: int, max_bytes: int) -> list[Path]:
    files: list[Path] = []
    lines: list[str] = []
    size = 0
    number = max((int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9]-*.jsonl")), default=0)

    def flush(stage: str) -> None:
        nonlocal lines, size, number
        if lines:
            number += 1
            files.append(folder / f"{number:04d}-{stage}.jsonl")
            write_text(files[-1], lines)
            lines, size = [], 0

    stage = ""
    for request in requests:
        line = json.dumps(request.line(), ensure_ascii=False) + "\n"
        length = len(line.encode("utf-8"))
        if request.stage != stage or len(lines) == max_lines or size + length > max_bytes:
            flush(stage)
        stage = request.stage
        lines.append(line)
        size += length
    flush(stage)
    return files
