"""Step functions over many pieces: in this process, in worker processes, or on a Ray cluster. Equal
results, in the order of the pieces.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from ..core.errors import KitError
from ..core.provenance import shown_path
from ..teacher.ray_backend import connect_ray

BACKENDS = ("processes", "ray")
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def mapper(workers: int, backend: str = "processes") -> Map:
    """A `map` that shares the pieces among `workers`. One worker works in this process; `ray` joins
    the cluster named by RAY_ADDRESS.

    The function must be importable by name and the pieces small: what is big is read from and
    written to files, which under Ray must lie on a file system that every node sees. Raises
    `KitError` when Ray is not installed.
    """
    if backend == "ray":
        return partial(_ray_map, workers)
    return partial(_process_map, workers) if workers > 1 else map


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises `KitError` naming the folder when its disk is full or may not be written; what was
    finished before stays.
    """
    try:
        yield
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM) and str(folder) in str(error.filename)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not denied:
            raise
        reason = os.strerror(error.errno).lower()
        raise KitError(
            f"{shown_path(folder)}: cannot be written ({reason}). Make room there or take another"
            " folder, and run again"
        ) from None


def _process_map(
    workers: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    pieces = list(items)
    if len(pieces) < 2:
        yield from map(function, pieces)
        return
    # Spawned, not forked: a notebook's process has threads, and a fork would copy their locks in
    # whatever state they are.
    with ProcessPoolExecutor(
        min(workers, len(pieces)), mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        yield from pool.map(function, pieces)


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed: an orphan would wait for ever, or still write
    beside the run that follows.
    """

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _ray_map(workers: int, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    import pickle

    ray = connect_ray("BACKEND")
    rows = [{"place": place, "item": pickle.dumps(item)} for place, item in enumerate(items)]
    if not rows:
        return

    def step(row: dict) -> dict:
        return {"place": row["place"], "result": pickle.dumps(function(pickle.loads(row["item"])))}

    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(step, concurrency=workers)
    results = {row["place"]: row["result"] for row in done.iter_rows()}
    for place in range(len(rows)):
        yield pickle.loads(results[place])
