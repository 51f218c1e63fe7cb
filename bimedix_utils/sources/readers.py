"""Files of published sets, recognised by name and read row by row.

A file is named `<source>[_anything][.<language>].<ending>`, the language defaulting to English. The
kit's own `data/sample` uses the same names and formats, so the code that reads eight teaching rows
reads the real files.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..core.errors import InputError
from ..core.records import LABELS, IdSet, Record, hash64
from .benchmarks import OWN_BENCHMARKS, Benchmark, load_benchmarks
from .catalogue import KIT_LICENCE
from .data_files import CATALOGUE_FOLDER, StrictModel, read_yaml
from .layouts import LAYOUTS, SourceEntry

OWN_SOURCES = "sources.yaml"  # a user's own entries, beside the data
# A file this long with a key that is nearly always the same letter was read with the wrong rule, or
# is not the owner's.
BALANCE_ROWS, BALANCE_SHARE = 200, 0.6


class _Sources(StrictModel):
    sources: dict[str, SourceEntry]


class SourceFile(NamedTuple):
    """A file whose name is known: the entry that reads it, its language and split."""

    path: Path
    entry: SourceEntry
    lang: str
    split: str


def _entries(path: Path) -> dict[str, SourceEntry]:
    found = read_yaml(path, _Sources).sources
    return {name: entry.model_copy(update={"name": name}) for name, entry in found.items()}


def _of_benchmark(name: str, benchmark: Benchmark) -> SourceEntry:
    return benchmark.read.model_copy(update={"name": name, "split": benchmark.split})


def known_sources(folder: Path | None = None) -> dict[str, SourceEntry]:
    """{source: how it is read}: what a folder's own YAML files name, then the kit's.

    Raises `InputError` for an own entry with a name of the kit's.
    """
    kit, benchmarks = _entries(CATALOGUE_FOLDER / OWN_SOURCES), load_benchmarks(folder)
    own = {name: _of_benchmark(name, b) for name, b in benchmarks.items() if b.read}
    if folder and (path := folder / OWN_SOURCES).is_file():
        own |= _entries(path)
    if taken := own.keys() & kit.keys():
        raise InputError(f"{OWN_SOURCES}: the kit has a source {', '.join(sorted(taken))}: rename")
    for name in benchmarks:
        if not any(name == known or name.startswith(f"{known}_") for known in own | kit):
            raise InputError(f"{OWN_BENCHMARKS}: {name}: no source reads it; add `read`")
    subjects = "|".join(
        name.removeprefix("mmlu_") for name in benchmarks if name.startswith("mmlu_")
    )
    return {
        name: entry.model_copy(update={"pattern": entry.pattern.replace("{subject}", subjects)})
        for name, entry in (own | kit).items()
    }


_kit_sources = cache(known_sources)


def recognise(path: Path, known: dict[str, SourceEntry] | None = None) -> SourceFile | None:
    """What a file's name says, or None for a file of no source in `known`, by default the kit's.

    The language is the last dotted part (`.ar.`), English when there is none. The split is the word
    train, dev / valid(ation) or test in the name; a name with none of them is treated as test, so
    that it can never be trained on by accident. Sets that their owner publishes undivided are what
    their entry says, whatever their name says.
    """
    for entry in (known or _kit_sources()).values():
        if re.match(entry.pattern, path.name):
            lang = re.search(r"\.([a-z]{2})\.(?:jsonl|json|csv|tsv|parquet|xml)$", path.name)
            word = re.search(r"(train|dev|valid|test)", path.name.removeprefix(entry.name))
            split = {"train": "train", "dev": "validation", "valid": "validation"}.get(
                word.group(1) if word else "", "test"
            )
            if entry.train_names and re.search(entry.train_names, path.name):
                split = "train"
            return SourceFile(path, entry, lang.group(1) if lang else "en", entry.split or split)
    return None


def _all_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"the data folder {folder.name!r} does not exist: check RAW_DIR, or leave it empty to"
            " read the kit's data/sample"
        )
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def find_files(folder: Path) -> list[SourceFile]:
    """The recognised files of a folder and its sub-folders, sorted. Raises `InputError` when there
    is none.
    """
    paths, known = _all_files(folder), known_sources(folder)
    files = [file for path in paths if (file := recognise(path, known))]
    if not files:
        names = ", ".join(entry.pattern for entry in known.values())
        raise InputError(
            f"the data folder {folder.name!r} holds no file with a known name; known names match:"
            f" {names}"
        )
    return files


def unknown_files(folder: Path) -> list[str]:
    """The names of the files below a folder that no source reads, sorted: they are listed, so that
    a misspelt name is seen.
    """
    known = known_sources(folder)
    return [path.name for path in _all_files(folder) if recognise(path, known) is None]


def _rows(file: SourceFile, rows: int | None) -> Iterator[Record]:
    read = LAYOUTS[file.entry.layout].read
    return islice(read(file.path, file.entry, file.lang, file.split), rows or None)


def iter_file(
    file: SourceFile | Path, rows: int | None = None, kit: bool = False
) -> Iterator[Record]:
    """The records of one file one by one, at most its first `rows` (0 or None: all), in the owner's
    order. `kit` marks the kit's own sample rows: they carry the kit's licence, and ids that cannot
    be taken for the published ones.

    Raises `InputError` naming file, line, the columns seen and expected; behind the last row also
    for an empty file, a duplicate id, and, from 200 rows on, for keys that are not spread over all
    options.
    """
    found = recognise(file) if isinstance(file, Path) else file
    if found is None:
        raise InputError(f"{file.name}: not a file name this kit knows")
    entry, name = found.entry, found.path.name
    ids, keys, most_options = IdSet(), Counter(), 0
    for record in _rows(found, rows):
        ids.add(record.id)
        if record.kind == "mcqa":
            keys[record.answer_index] += 1
            most_options = max(most_options, len(record.options))
        if kit:
            own_id = record.id if ":kit-" in record.id else record.id.replace(":", ":kit-")
            record = record.replace(id=own_id, licence=KIT_LICENCE)
        if record.lang != "en":
            # A translation of an aligned file is the same item: it carries the English id as its
            # parent and its own language in its id.
            parent = record.id if entry.aligned else record.parent_id
            record = record.replace(id=f"{record.id}:{record.lang}", parent_id=parent)
        yield record
    if not len(ids) and not entry.may_be_empty:
        raise InputError(f"{name}: the file is empty; {entry.title} rows were expected")
    if duplicates := ids.duplicates():
        _refuse_duplicate(found, rows, duplicates)
    if entry.balanced and keys.total() >= BALANCE_ROWS:
        _refuse_unbalanced(name, keys, most_options)


def _refuse_unbalanced(name: str, keys: Counter[int], options: int) -> None:
    counts = {LABELS[index]: keys[index] for index in range(options)}
    if max(counts.values()) > BALANCE_SHARE * keys.total() or not all(counts.values()):
        counted = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise InputError(
            f"{name}: the keys of {keys.total()} rows are {counted}; every option should be right"
            f" in some rows, none in more than {BALANCE_SHARE:.0%} of the rows: is the key"
            " counted from the right end?"
        )


def _refuse_duplicate(file: SourceFile, rows: int | None, duplicates: set[int]) -> None:
    """Reads again to name the first duplicate id, and both rows."""
    first: dict[str, int] = {}
    for number, record in enumerate(_rows(file, rows), start=1):
        if hash64(record.id) in duplicates:
            if record.id in first:
                both = f"rows {first[record.id]} and {number}"
                raise InputError(f"{file.path.name}: duplicate id {record.id} ({both})")
            first[record.id] = number


def read_file(file: SourceFile | Path, rows: int | None = None, kit: bool = False) -> list[Record]:
    """All records of `iter_file` at once: for small files and tests."""
    return list(iter_file(file, rows, kit))
