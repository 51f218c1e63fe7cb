"""The table of checks, and running them over one translation or over any number.

A new check is a function in a module of this folder and one line in `CHECKS`.
"""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ...core.language import Language, load_language
from . import drugs, quantities, surface, wording
from .pair import Check, Flag, TextPair

CHUNK_ROWS = 500  # rows handed to a worker at once
CheckRow = tuple[str, list[str], list[str], tuple[str, ...]]  # id, source, translation, part names

# Name of the finding -> the function that yields (severity, reason) for it. The order is the order
# of the flags. A check knows words, numbers and the patterns of a language's file, never the gold.
CHECKS: dict[str, Check] = {
    "part_count": surface.part_count,
    "numbers": quantities.numbers,
    "units": quantities.units,
    "frequency": quantities.frequency,
    "negation": wording.negation,
    "exception": wording.exception,
    "side": wording.sides,
    "drug": drugs.drugs,
    "order": wording.option_marks,
    "untranslated": surface.untranslated,
    "script": surface.foreign_script,
    "characters": surface.characters,
    "preamble": surface.preamble,
    "prompt_overlap": surface.prompt_overlap,
    "markup": surface.markup,
    "length": surface.length,
    "truncation": surface.truncation,
    "repetition": surface.repetition,
    "abbreviation": wording.abbreviations,
}


def run_checks(
    source: list[str], candidate: list[str], language: Language, names: Sequence[str] = ()
) -> list[Flag]:
    """What every check finds in one record's texts, in a fixed order."""
    pair = TextPair(source, candidate, language, tuple(names))
    flags: list[Flag] = []
    for name, check in CHECKS.items():
        try:
            flags += [Flag(name, severity, reason) for severity, reason in check(pair)]
        except Exception as error:  # one odd text must not stop a run of a million rows
            flags.append(Flag(name, "human", f"the check itself failed: {type(error).__name__}"))
    return flags


def check_rows(
    rows: Iterable[CheckRow], language: Language, processes: int | None = None
) -> Iterator[tuple[str, list[Flag]]]:
    """(row id, flags) of every row, in order and in bounded memory.

    More than `CHUNK_ROWS` rows are checked on all CPUs, or on `processes`.
    """
    source = iter(rows)
    first = list(itertools.islice(source, CHUNK_ROWS))
    processes = processes or os.cpu_count() or 1
    if len(first) < CHUNK_ROWS or processes == 1:
        for row_id, before, after, names in itertools.chain(first, source):
            yield row_id, run_checks(before, after, language, names)
        return
    # Spawned, not forked: the caller may be a notebook whose libraries hold threads. Few chunks are
    # under way at once, so memory stays bounded.
    loaded = language.code, language.knowledge
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = deque([pool.submit(_check_chunk, first, *loaded)])
        while waiting:
            while len(waiting) < 2 * processes:
                if not (chunk := list(itertools.islice(source, CHUNK_ROWS))):
                    break
                waiting.append(pool.submit(_check_chunk, chunk, *loaded))
            yield from waiting.popleft().result()


def _check_chunk(
    chunk: list[CheckRow], code: str, knowledge: Path | None
) -> list[tuple[str, list[Flag]]]:
    language = load_language(code, knowledge)
    return [(row[0], run_checks(row[1], row[2], language, row[3])) for row in chunk]
