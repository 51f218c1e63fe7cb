"""Ask from many machines: the HTTP executor inside the workers of a Ray cluster (extra `ray`).

Workers only ask; the answers come back to the one process that holds the store. A worker that dies
loses at most its batch under way, which another worker asks again; what it bought of that batch is
not known here, and not counted. `url` may name several endpoints, separated by spaces (one `vllm
serve` a node): workers take them in turn. Each worker reads the key from its own environment, and
keeps its share of the limits per minute; an idle worker's share stays unused.
"""

import itertools
import logging
import os
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..core.errors import TeacherError
from .http import send_requests
from .pacing import HttpEndpoint, Pace
from .requests import Request
from .store import Answer, Deliver, read_body

_FIELDS = ("body", "seconds", "error", "charged", "lost")  # of an answer, as a worker returns it
_ROWS_AT_ONCE = 20_000  # requests handed to the cluster at once: bounds the driver's memory


class RequestWorker:
    """One worker: asks a batch of requests through `send_requests`."""

    def __init__(self, endpoint: HttpEndpoint, urls: list[str]):
        self.endpoint, self.urls = endpoint, urls
        self.pace = Pace()  # of all its batches

    def __call__(self, batch: dict) -> dict:
        """Columns `index` and `request` in; `index` and the fields of each answer out."""
        import pickle

        requests = [pickle.loads(raw) for raw in batch["request"]]
        answers: dict[str, Answer] = {}
        endpoint = replace(self.endpoint, url=self.urls[os.getpid() % len(self.urls)])

        def deliver(part: list[tuple[Request, Answer]]) -> None:
            answers.update((request.id, answer) for request, answer in part)

        stopped = send_requests(requests, endpoint, deliver, pace=self.pace)
        unsent = f"not sent: {stopped}"
        found = [answers.get(r.id) or Answer(r.id, None, error=unsent) for r in requests]
        columns = {name: [getattr(answer, name) for answer in found] for name in _FIELDS}
        return {"index": batch["index"], **columns}


def rate_per_worker(endpoint: HttpEndpoint, workers: int) -> HttpEndpoint:
    """The endpoint with one worker's part of the limits per minute."""
    requests, tokens = endpoint.requests_per_minute / workers, endpoint.tokens_per_minute / workers
    return replace(endpoint, requests_per_minute=requests, tokens_per_minute=tokens)


def unpack_answers(part: list[Request], batch: dict) -> list[tuple[Request, Answer]]:
    """The requests of `part` that a worker was given, with their answers."""
    found = []
    columns = [batch[name] for name in ("index", *_FIELDS)]
    for index, body, seconds, error, charged, lost in zip(*columns, strict=True):
        request = part[int(index)]
        if body:
            answer = read_body(request.id, body, seconds)
        else:
            answer = Answer(request.id, None, error=error, charged=bool(charged))
        found.append((request, replace(answer, lost=int(lost))))
    return found


def connect_ray(parameter: str) -> Any:
    """Ray, joined to the cluster of RAY_ADDRESS or started here; `parameter` asked for it.

    Raises `TeacherError` when Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise TeacherError(f'{parameter} = "ray" needs Ray: pip install -e ".[ray]"') from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about this run is reported
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def send_with_ray(
    requests: Iterable[Request], endpoint: HttpEndpoint, workers: int, deliver: Deliver
) -> None:
    """Send every request from `workers` Ray workers of `endpoint.concurrency` requests each."""
    import pickle

    ray = connect_ray("TEACHER")
    arguments = (rate_per_worker(endpoint, workers), endpoint.url.split())
    source = iter(requests)
    while part := list(itertools.islice(source, _ROWS_AT_ONCE)):
        # Rows that the endpoint refuses are often neighbours: no batch may hold only such rows.
        random.Random().shuffle(part)
        rows = [{"index": i, "request": pickle.dumps(r)} for i, r in enumerate(part)]
        answered = ray.data.from_items(rows).map_batches(
            RequestWorker,
            fn_constructor_args=arguments,
            batch_size=4 * endpoint.concurrency,
            concurrency=workers,
        )
        for batch in answered.iter_batches(batch_size=None, prefetch_batches=1):
            deliver(unpack_answers(part, batch))
