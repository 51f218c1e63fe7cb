"""First step: read every candidate once and keep its features (some 600 bytes), never its text.

Input files are cut into chunks of `CHUNK_BYTES`. The features of a chunk go to one Arrow file named
by the hash of the chunk's bytes and of everything they depend on: a second run, or one that was
killed, computes only what is missing.
"""

import io
import json
import os
import sys
from codecs import BOM_UTF8
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from ..core import records, shingles, text
from ..core.errors import InputError
from ..core.files import atomic_file
from ..core.provenance import hash_path, shown_path
from ..core.records import Record, explain, iter_jsonl
from ..core.shingles import PERMUTATIONS, shingle_hashes, signatures
from ..core.text import digest
from ..sources import catalogue
from . import contamination
from .contamination import RULES, KnownTests, row_words
from .parallel import Map

CHUNK_BYTES = 32 * 2**20
SIGNED_AT_ONCE = 512  # rows
# The multiple-choice sources the paper counts apart; any other multiple-choice row belongs to the
# task "mcqa".
PAPER_MCQA = ("pubmedqa", "medmcqa", "medqa")
TASKS = (*PAPER_MCQA, "mcqa", "qa", "chat")


@dataclass(frozen=True)
class Input:
    """A JSON Lines file of records. `langs`: the languages taken from it, empty for all.

    Of rows with the same id or content the one from the input with the lowest `priority` is kept; a
    mix takes low priorities first.
    """

    path: Path
    priority: int = 0
    langs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Bytes `start` to `end` of an input; a line belongs to the chunk in which it begins."""

    source: Input
    start: int
    end: int
    stamp: tuple[int, int]  # see `file_stamp`


@dataclass(frozen=True)
class Features:
    """Where the features of a chunk are stored, or why the chunk could not be read."""

    chunk: Chunk
    file: Path
    damage: str = ""


def task_of(record: Record) -> str:
    """The paper's task of a record: one of `TASKS`."""
    return record.source if record.source in PAPER_MCQA and record.kind == "mcqa" else record.kind


def family_id(record: Record) -> str:
    """The id shared by a record and its translations, which end in their language.

    Parallel rows must be in the same split.
    """
    return record.id.removesuffix(f":{record.lang}")


def seeded_rank(row_id: str, seed: int) -> int:
    """A pseudo-random 64-bit number of seed and id: the order of the files changes nothing."""
    return int(digest(f"mix:{seed}:{row_id}"), 16)


def record_hash(record: Record) -> int:
    """A 64-bit hash of all fields of a row: it names a shard's rows, and orders equal ids."""
    return int(digest(record.model_dump_json()), 16)


def file_stamp(path: Path) -> tuple[int, int]:
    """(bytes, time of the last change in ns): tells that a file was changed meanwhile."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def cut_into_chunks(inputs: list[Input]) -> list[Chunk]:
    """The inputs cut at multiples of `CHUNK_BYTES`. Raises `InputError` for an absent file."""
    found = []
    for source in inputs:
        if not source.path.is_file():
            raise InputError(f"{shown_path(source.path)}: the input file does not exist")
        stamp = file_stamp(source.path)
        for start in range(0, stamp[0], CHUNK_BYTES):
            found.append(Chunk(source, start, min(start + CHUNK_BYTES, stamp[0]), stamp))
    return found


def scan(
    inputs: list[Input], tests: Path, folder: Path, seed: int, run_map: Map = map
) -> list[Features]:
    """The features of every chunk, computed or found in `folder`; nothing else stays there.

    `tests` is a JSON Lines file of the test rows. A chunk that cannot be read carries the reason in
    `damage`. Raises `InputError` for an absent input, and for absent or damaged tests: no row could
    be trusted then.
    """
    if not tests.is_file():
        raise InputError(f"{tests.name}: the file of test rows does not exist")
    folder.mkdir(parents=True, exist_ok=True)
    for cut in folder.glob("*.partial"):  # of a killed run: a full disk needs the room
        cut.unlink()
    compute = partial(
        compute_features, tests=tests, tests_hash=hash_path(tests), folder=folder, seed=seed
    )
    found = list(run_map(compute, cut_into_chunks(inputs)))
    used = {part.file for part in found}
    for stale in folder.iterdir():
        if stale not in used:
            stale.unlink()
    return found


@lru_cache(maxsize=1)
def _code_hash() -> str:
    """Hash of the code and catalogue a feature depends on: a new rule needs new features."""
    modules = (text, shingles, contamination, records, catalogue, sys.modules[__name__])
    files = [*(Path(module.__file__) for module in modules), catalogue.CATALOGUE]
    return digest([hash_path(path) for path in files])


@lru_cache(maxsize=1)
def load_tests(path: Path, content: str) -> KnownTests:
    """The tests of a file; `content` is its hash: a worker never keeps those of an older file."""
    return KnownTests(iter_jsonl(path))


def compute_features(
    chunk: Chunk, tests: Path, tests_hash: str, folder: Path, seed: int
) -> Features:
    """Compute and store the features of one chunk, unless they are there."""
    raw, offset = read_chunk(chunk)
    languages = list(chunk.source.langs)
    parts = [_code_hash(), blake2b(raw).hexdigest(), offset, languages, tests_hash, seed]
    file = folder / f"{digest(parts)}.arrow"
    if not _is_complete(file):
        known = load_tests(tests, tests_hash)  # outside: damaged tests are no damage of the chunk
        try:
            table = _feature_table(raw, offset, chunk.source, known, seed)
        except InputError as error:
            return Features(chunk, file, str(error))
        with atomic_file(file, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return Features(chunk, file)


def _is_complete(file: Path) -> bool:
    try:
        with pa.memory_map(str(file)) as source:
            pa.ipc.open_file(source)
        return True
    except (OSError, pa.ArrowInvalid):
        return False


def read_chunk(chunk: Chunk) -> tuple[bytes, int]:
    """(the lines that begin inside the chunk, where in the file the first one begins)."""
    with open(chunk.source.path, "rb") as handle:
        start = chunk.start
        if start:
            # From one byte before: a line that begins exactly at `start` belongs to this chunk.
            handle.seek(start - 1)
            start += len(handle.readline()) - 1
        if start >= chunk.end:
            return b"", start
        handle.seek(start)
        raw = handle.read(chunk.end - start)
        return raw + (b"" if raw.endswith(b"\n") else handle.readline()), start


def parse_row(line: bytes, path: Path, offset: int) -> Record:
    """The record of one line. Raises `InputError` naming file and line.

    The file is named with its folder: the shards of many sources have the same names.
    """
    try:
        return Record.model_validate_json(line if offset else line.removeprefix(BOM_UTF8))
    except ValidationError as error:
        with open(path, "rb") as handle:
            number = handle.read(offset).count(b"\n") + 1
        where = f"{shown_path(path)}, line {number}"
        raise InputError(f"{where}: not a record: {explain(error)}") from None


# Columns of the feature table, besides the signature.
_COLUMNS = {
    "id": pa.string(),
    "offset": pa.int64(),
    "length": pa.int32(),
    "rank": pa.uint64(),
    "content": pa.uint64(),
    "record": pa.uint64(),
    "family": pa.uint64(),
    "priority": pa.int16(),
    "group": pa.int32(),
    "key": pa.int8(),
    "test": pa.int32(),
    "rule": pa.int8(),
}


def _feature_table(
    raw: bytes, offset: int, source: Input, tests: KnownTests, seed: int
) -> pa.Table:
    """The features of the rows in `raw`, the bytes of an input from `offset` on."""
    rows: list[tuple] = []
    groups: dict[tuple[str | bool, ...], int] = {}
    excluded: Counter[str] = Counter()
    allowed: dict[tuple[str, str, bool], bool] = {}
    signed, unsigned = [], []
    for line in io.BytesIO(raw):  # splitlines would also cut at a lone carriage return
        begin, offset = offset, offset + len(line)
        if not line.strip():
            continue
        record = parse_row(line, source.path, begin)
        if why := _why_excluded(record, source):
            excluded[why] += 1
            continue
        row = row_words(record)
        own = shingle_hashes(row.everything)
        match = tests.find(record, row, own)
        # The catalogue's answer depends on this only; asking it for every row is slow.
        known = (record.source, record.licence, ":kit-" in record.id)
        if known not in allowed:
            allowed[known] = catalogue.may_publish_record(record)
        group = (record.lang, task_of(record), record.source, record.licence, allowed[known])
        values = (
            record.id,
            begin,
            len(line),
            seeded_rank(record.id, seed),
            int(record.content_hash(), 16),
            record_hash(record),
            int(digest(f"split:{seed}:{family_id(record)}"), 16),
            source.priority,
            groups.setdefault(group, len(groups)),
            -1 if record.answer_index is None else record.answer_index,
            match.test if match else -1,
            RULES.index(match.rule) if match else -1,
        )
        rows.append(values)
        # In groups: the shingles of a whole chunk would take gigabytes.
        unsigned.append(own)
        if len(unsigned) == SIGNED_AT_ONCE:
            signed.append(signatures(unsigned))
            unsigned.clear()
    matrix = np.concatenate([*signed, signatures(unsigned)])
    columns = zip(*rows, strict=True) if rows else [[]] * len(_COLUMNS)
    pairs = zip(_COLUMNS.items(), columns, strict=True)
    arrays = {name: pa.array(column, kind) for (name, kind), column in pairs}
    flat = pa.array(matrix.reshape(-1))
    arrays["signature"] = pa.FixedSizeListArray.from_arrays(flat, PERMUTATIONS)
    facts = {"groups": json.dumps(list(groups)), "excluded": json.dumps(excluded)}
    return pa.table(arrays).replace_schema_metadata(facts)


def _why_excluded(record: Record, source: Input) -> str:
    """Why a row is no candidate of the mix, or ""."""
    if record.split != "train":
        return "test or validation split"
    if record.status != "ok":
        return f"status {record.status}"
    return f"language {record.lang}" if source.langs and record.lang not in source.langs else ""
