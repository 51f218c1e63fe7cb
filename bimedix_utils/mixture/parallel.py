"""`map` over many items: in this process, in worker processes, or on a Ray cluster.

The results are equal and come in the order of the items.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from ..teacher.ray_backend import connect_ray

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def parallel_map(workers: int, backend: str = "processes") -> Map:
    """A `map` that shares the items among `workers`; `ray` joins the cluster named by RAY_ADDRESS.

    The function must be importable by name and the items small: big data is read from and written
    to files, which under Ray must lie on a file system that every node sees. Raises `KitError` when
    Ray is not installed.
    """
    if backend == "ray":
        return partial(_ray_map, workers)
    return partial(_process_map, workers) if workers > 1 else map


def _process_map(workers: int, function: Callable[[Any], Any], items: Iterable) -> Iterator[Any]:
    items = list(items)
    if len(items) < 2:
        yield from map(function, items)
        return
    # Spawned, not forked: a notebook's process has threads, and a fork would copy their locks in
    # whatever state they are.
    context, workers = get_context("spawn"), min(workers, len(items))
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        yield from pool.map(function, items)


def _end_with_parent() -> None:
    """End this worker when its parent is killed: it must not write beside the next run."""

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _ray_map(workers: int, function: Callable[[Any], Any], items: Iterable) -> Iterator[Any]:
    import pickle

    ray = connect_ray("BACKEND")
    rows = [{"index": index, "item": pickle.dumps(item)} for index, item in enumerate(items)]
    if not rows:
        return

    def call(row: dict) -> dict:
        return {"index": row["index"], "out": pickle.dumps(function(pickle.loads(row["item"])))}

    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(call, concurrency=workers)
    results = {row["index"]: row["out"] for row in done.iter_rows()}
    yield from (pickle.loads(results[index]) for index in range(len(rows)))
