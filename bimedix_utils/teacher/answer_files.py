"""Answer batch request files by an endpoint on this machine: a stand-in for `vllm run-batch` where
there is no GPU.

python -m bimedix_utils.teacher.answer_files --url http://127.0.0.1:8000/v1       (make
answer-batch)

Every `requests/FILE` of a batch folder gets its `results/FILE`, line by line; what stands there
already is not asked again.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..core.errors import KitError, TeacherError, command
from ..core.provenance import answers_file, shown_path
from .permission import is_loopback

_OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # a loopback address needs no proxy, and must not go to one


def answer_line(url: str, line: dict[str, Any], seconds: float = 600.0) -> dict[str, Any]:
    """One line of a result file for one line of a request file; what the endpoint refuses is a
    result too, with its status.
    """
    request = urllib.request.Request(
        f"{url.rstrip('/')}/chat/completions",
        json.dumps(line["body"]).encode("utf-8"),
        {"Content-Type": "application/json"},
    )
    try:
        with _OPENER.open(request, timeout=seconds) as reply:
            status, body = reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        status, body = error.code, {"error": error.read().decode("utf-8", "replace")[:500]}
    return {
        "custom_id": line["custom_id"],
        "response": {"status_code": status, "body": body},
        "error": None,
    }


def answer_batch_folder(folder: Path, url: str, workers: int = 8) -> int:
    """Answer what is still without a result in one batch folder; returns how many requests were
    asked.

    Raises `TeacherError` for an endpoint on another machine (a batch service is meant for those)
    and for one that cannot be reached; what had come back by then stays.
    """
    if not is_loopback(url):
        raise TeacherError(
            f"{url} is not this machine: upload the request files to a batch service instead"
        )
    asked = 0
    for path in sorted((folder / "requests").glob("*.jsonl")):
        target = folder / "results" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        known = {line["custom_id"] for line in _lines(target)} if target.exists() else set()
        todo = [line for line in _lines(path) if line["custom_id"] not in known]
        with open(target, "a", encoding="utf-8") as handle, ThreadPoolExecutor(workers) as pool:
            try:
                for result in pool.map(lambda line: answer_line(url, line), todo):
                    handle.write(json.dumps(result, ensure_ascii=False) + "\n")
                    handle.flush()
                    asked += 1
            except OSError as error:
                pool.shutdown(cancel_futures=True)
                raise TeacherError(
                    f"{url} cannot be reached ({error}): start it with  make serve  and run again"
                ) from None
    return asked


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as handle:
        yield from (json.loads(line) for line in handle if line.endswith("\n") and line.strip())


@command
def main(arguments: list[str] | None = None) -> None:
    """The command line: every batch folder beside the answer store, or the one that is named."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.teacher.answer_files", description=__doc__)
    parser.add_argument(
        "--folder", default="", help="a batch folder; empty: all of those beside the answer store"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    given = parser.parse_args(arguments)
    folders = (
        [Path(given.folder)]
        if given.folder
        else sorted((answers_file().parent / "batch").glob("*/"))
    )
    folders = [folder for folder in folders if (folder / "requests").is_dir()]
    if not folders:
        raise KitError("no request files: a notebook with TEACHER=batch writes them")
    for folder in folders:
        print(
            f"{shown_path(folder)}: {answer_batch_folder(folder, given.url)} requests answered; run the notebook's"
            " command again"
        )


if __name__ == "__main__":
    sys.exit(main())
