"""The rule checks over any number of rows, in order, in bounded memory, on several processors."""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ...core.language import Language, load_language
from . import run_all
from .pair import Flag

CHUNK = 500  # rows handed to a worker at once
Row = tuple[
    str, list[str], list[str], tuple[str, ...]
]  # id, source texts, candidate texts, their names


def stream(
    rows: Iterable[Row], language: Language, processes: int | None = None
) -> Iterator[tuple[str, list[Flag]]]:
    """(row id, flags) of every row, in order. Fewer rows than `CHUNK` are checked here, more on all
    processors (or on `processes`).
    """
    source = iter(rows)
    first = list(itertools.islice(source, CHUNK))
    processes = processes or os.cpu_count() or 1
    if len(first) < CHUNK or processes == 1:
        for row_id, before, after, names in itertools.chain(first, source):
            yield row_id, run_all(before, after, language, names)
        return
    # Spawned, not forked: the caller may be a notebook whose libraries hold threads. Few chunks are
    # under way, so memory stays bounded.
    place = language.code, language.knowledge
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = deque([pool.submit(_checked, first, *place)])
        while waiting:
            while len(waiting) < 2 * processes and (chunk := list(itertools.islice(source, CHUNK))):
                waiting.append(pool.submit(_checked, chunk, *place))
            yield from waiting.popleft().result()


def _checked(chunk: list[Row], code: str, knowledge: Path | None) -> list[tuple[str, list[Flag]]]:
    language = load_language(code, knowledge)
    return [
        (row_id, run_all(before, after, language, names)) for row_id, before, after, names in chunk
    ]
