"""Answer batch request files by a server on this machine, in place of `vllm run-batch`.

python -m bimedix_utils.teacher.answer_files --url http://127.0.0.1:8000/v1    (make answer-batch)

Every `requests/FILE` of a batch folder gets its `results/FILE`; lines that have a result are not
asked again.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import KitError, TeacherError, command
from ..core.provenance import answers_file, shown_path
from .batch import request_of_line
from .http import send_requests
from .pacing import HttpEndpoint
from .permission import is_loopback
from .requests import Request
from .store import Answer


def answer_batch_folder(folder: Path, url: str, concurrency: int = 8) -> int:
    """Answer every request without a result in one batch folder; returns how many were asked.

    Raises `TeacherError` for a server on another machine (a batch service is meant for those) and
    for one that cannot be reached; what had come back by then stays.
    """
    if not is_loopback(url):
        raise TeacherError(
            f"{url} is not this machine: upload the request files to a batch service instead"
        )
    endpoint = HttpEndpoint(url.rstrip("/"), concurrency, timeout=600.0)
    asked = 0
    for path in sorted((folder / "requests").glob("*.jsonl")):
        target = folder / "results" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        known = {line["custom_id"] for line in _lines(target)} if target.exists() else set()
        todo = [request_of_line(line) for line in _lines(path) if line["custom_id"] not in known]
        if not todo:
            continue
        with open(target, "a", encoding="utf-8") as handle:

            def deliver(answers: list[tuple[Request, Answer]]) -> None:
                for request, answer in answers:
                    line = json.dumps(_result(request, answer), ensure_ascii=False)
                    handle.write(line + "\n")
                handle.flush()

            stopped = send_requests(todo, endpoint, deliver)
        if stopped:
            raise TeacherError(f"{url}: {stopped}")
        asked += len(todo)
    return asked


def _result(request: Request, answer: Answer) -> dict[str, Any]:
    """One line of a result file; what the server refuses is a result too, with its status."""
    status = answer.error.removeprefix("HTTP ")
    if answer.text is not None:
        response: dict[str, Any] = {"status_code": 200, "body": json.loads(answer.body)}
    else:
        number = int(status) if status.isdigit() else 500
        response = {"status_code": number, "body": {"error": answer.error}}
    return {"custom_id": request.row_id, "response": response, "error": None}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as handle:
        yield from (json.loads(line) for line in handle if line.endswith("\n") and line.strip())


@command
def main(arguments: list[str] | None = None) -> None:
    """The command line: every batch folder beside the answer store, or the one that is named."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.teacher.answer_files", description=__doc__)
    parser.add_argument("--folder", help="a batch folder; default: all beside the answer store")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args(arguments)
    every = sorted((answers_file().parent / "batch").glob("*/"))
    folders = [Path(given.folder)] if given.folder else every
    folders = [folder for folder in folders if (folder / "requests").is_dir()]
    if not folders:
        raise KitError("no request files: a notebook with TEACHER=batch writes them")
    for folder in folders:
        asked = answer_batch_folder(folder, given.url)
        print(f"{shown_path(folder)}: {asked} requests answered; run the notebook's command again")


if __name__ == "__main__":
    sys.exit(main())
