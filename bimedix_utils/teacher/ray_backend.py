"""Ask from many machines: the `http` executor inside the workers of a Ray cluster (optional extra
`ray`). Same requests, same store.

Workers only ask; the answers come back to the one process that holds the store. A worker that dies
loses at most its batch under way, which another worker asks again; what had come back before is
stored and never asked again. `url` may name several endpoints, parted by spaces (one `vllm serve` a
node): workers take them in turn. The key is read from each worker's own environment and never
shipped.

Workers know nothing of each other. Each keeps its share of the limits per minute, so a worker that
stands idle leaves its share unused. What a worker that died had bought of its batch under way is
not known here, and not counted.
"""

import itertools
import logging
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ..core.errors import TeacherError
from .http import HttpEndpoint, Pace, send_requests
from .requests import Request
from .store import Answer, read_body

_FIELDS = ("body", "seconds", "error", "charged", "lost")  # of an answer, as a worker gives it back
_ROWS_AT_ONCE = 20_000  # requests handed to the cluster at once: bounds the driver's memory


class RequestWorker:
    """One worker: asks a batch of requests through `http.send`."""

    def __init__(self, endpoint: HttpEndpoint, urls: list[str]):
        self.endpoint, self.urls = endpoint, urls
        self.pace = Pace()  # of all its batches

    def __call__(self, batch: dict) -> dict:
        """Columns `place` (a number) and `request` in; `place` and the `FIELDS` of each answer out."""
        import pickle

        requests = [pickle.loads(raw) for raw in batch["request"]]
        answers: dict[str, Answer] = {}
        url = self.urls[os.getpid() % len(self.urls)]
        endpoint = replace(self.endpoint, url=url)
        stopped = send_requests(
            requests,
            endpoint,
            lambda part: answers.update({r.id: a for r, a in part}),
            pace=self.pace,
        )
        found = [
            answers.get(r.id) or Answer(r.id, None, error=f"not sent: {stopped}") for r in requests
        ]
        return {
            "place": batch["place"],
            **{name: [getattr(answer, name) for answer in found] for name in _FIELDS},
        }


def rate_per_worker(endpoint: HttpEndpoint, workers: int) -> HttpEndpoint:
    """The endpoint with one worker's part of the limits per minute."""
    requests, tokens = endpoint.requests_per_minute / workers, endpoint.tokens_per_minute / workers
    return replace(endpoint, requests_per_minute=requests, tokens_per_minute=tokens)


def unpack_answers(part: list[Request], batch: dict) -> list[tuple[Request, Answer]]:
    """The requests of `part` that an `Asker` was given, with their answers, from what it gave back."""
    found = []
    for place, body, seconds, error, charged, lost in zip(
        batch["place"], *(batch[name] for name in _FIELDS), strict=True
    ):
        request = part[int(place)]
        answer = (
            read_body(request.id, body, seconds)
            if body
            else Answer(request.id, None, error=error, charged=bool(charged))
        )
        found.append((request, replace(answer, lost=int(lost))))
    return found


def connect_ray(parameter: str) -> Any:
    """Ray, after joining the cluster named by RAY_ADDRESS or starting a local one. `parameter` is
    what asked for it.

    Raises `TeacherError` when Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise TeacherError(f'{parameter} = "ray" needs Ray: pip install -e ".[ray]"') from None
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # nothing about this run is reported to anybody
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def send_with_ray(
    requests: Iterable[Request],
    endpoint: HttpEndpoint,
    workers: int,
    deliver: Callable[[list[tuple[Request, Answer]]], None],
) -> None:
    """Send every request from `workers` Ray workers, each with `endpoint.concurrency` requests
    under way.

    Raises `TeacherError` when Ray is not installed; see `joined`.
    """
    import pickle

    ray = connect_ray("TEACHER")
    urls = endpoint.url.split()
    source = iter(requests)
    while part := list(itertools.islice(source, _ROWS_AT_ONCE)):
        random.Random().shuffle(
            part
        )  # rows the endpoint refuses often stand together: one batch must not be made of them alone
        rows = [
            {"place": place, "request": pickle.dumps(request)} for place, request in enumerate(part)
        ]
        answered = ray.data.from_items(rows).map_batches(
            RequestWorker, fn_constructor_args=(rate_per_worker(endpoint, workers), urls), batch_size=4 * endpoint.concurrency, concurrency=workers,
        )  # fmt: skip
        for batch in answered.iter_batches(batch_size=None, prefetch_batches=1):
            deliver(unpack_answers(part, batch))
