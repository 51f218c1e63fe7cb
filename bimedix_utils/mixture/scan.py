"""First step: read every candidate once and keep of each only what decides its fate (some 600
bytes), never its text.

Input files are cut into pieces of `PIECE_BYTES`. The features of a piece go to one Arrow file named
by the hash of the piece's bytes and of everything they depend on: a second run, or one that was
killed, computes only what is missing.
"""

import io
import json
import os
import sys
from codecs import BOM_UTF8
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from ..core import records, shingles, text
from ..core.errors import InputError
from ..core.provenance import hash_path, shown_path
from ..core.records import Record, explain, iter_jsonl
from ..core.shingles import PERMUTATIONS, shingle_hashes, signatures
from ..core.text import digest
from ..sources import catalogue
from . import contamination
from .contamination import RULES, KnownTests, row_words
from .work import Map

PIECE_BYTES = 32 * 2**20
# The multiple-choice sources the paper counts apart; any other multiple-choice row belongs to the
# task "mcqa".
PAPER_MCQA = ("pubmedqa", "medmcqa", "medqa")
TASKS = (*PAPER_MCQA, "mcqa", "qa", "chat")


@dataclass(frozen=True)
class Input:
    """A JSON Lines file of records. `langs`: the languages taken from it, empty for all. Of rows
    with the same id or content the one from the input with the lowest `priority` is kept; a mix
    takes low priorities first.
    """

    path: Path
    priority: int = 0
    langs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of an input. Lines belong to the piece in which they begin. `stamp`:
    see `stamp_of`.
    """

    source: Input
    start: int
    end: int
    stamp: tuple[int, int]


@dataclass(frozen=True)
class Features:
    """Where the features of a piece lie, or why the piece could not be read."""

    piece: Piece
    file: Path
    damage: str = ""


def task_of(record: Record) -> str:
    """The paper's task of a record: one of `TASKS`."""
    return record.source if record.source in PAPER_MCQA and record.kind == "mcqa" else record.kind


def family(record: Record) -> str:
    """The id shared by a record and its translations, which end in their language: parallel rows
    must land in the same split.
    """
    return record.id.removesuffix(f":{record.lang}")


def rank(row_id: str, seed: int) -> int:
    """A 64-bit number that looks random and depends on seed and id only: another order of the input
    files gives the same mix.
    """
    return int(digest(f"mix:{seed}:{row_id}"), 16)


def pieces(inputs: list[Input]) -> list[Piece]:
    """The inputs cut at multiples of `PIECE_BYTES`. Raises `InputError` for a file that is absent."""
    found = []
    for source in inputs:
        if not source.path.is_file():
            raise InputError(f"{shown_path(source.path)}: the input file does not exist")
        size, time = stamp_of(source.path)
        found += [
            Piece(source, start, min(start + PIECE_BYTES, size), (size, time))
            for start in range(0, size, PIECE_BYTES)
        ]
    return found


def stamp_of(path: Path) -> tuple[int, int]:
    """(bytes, time of the last change in ns) of a file: what tells that it was changed while a mix
    is being made.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def scan(
    inputs: list[Input], tests: Path, folder: Path, seed: int, run_map: Map = map
) -> list[Features]:
    """The features of every piece, computed or found in `folder`. A piece that cannot be read
    carries the reason in `damage`.

    `tests` is a JSON Lines file of the test rows no training row may give away. Nothing else stays
    in `folder`. Raises `InputError` for an input that is absent, and for tests that are absent or
    damaged: no row could be trusted then.
    """
    if not tests.is_file():
        raise InputError(f"{tests.name}: the file of test rows does not exist")
    folder.mkdir(parents=True, exist_ok=True)
    for cut in folder.glob(
        "*.partial"
    ):  # of a run that was killed; on a full disk their room is needed
        cut.unlink()
    found = list(
        run_map(
            partial(features, tests=tests, tests_hash=hash_path(tests), folder=folder, seed=seed),
            pieces(inputs),
        )
    )
    used = {part.file for part in found}
    for stale in folder.iterdir():
        if stale not in used:
            stale.unlink()
    return found


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Hash of the code and catalogue a feature depends on: a changed rule makes stored features
    worthless.
    """
    modules = [
        Path(module.__file__)
        for module in (text, shingles, contamination, records, catalogue, sys.modules[__name__])
    ]
    return digest([hash_path(path) for path in (*modules, catalogue.CATALOGUE)])


@lru_cache(maxsize=1)
def load_tests(path: Path, content: str) -> KnownTests:
    """The tests of a file; `content` is its hash, so that a worker never keeps those of an older
    file.
    """
    return KnownTests(iter_jsonl(path))


def features(piece: Piece, tests: Path, tests_hash: str, folder: Path, seed: int) -> Features:
    """Compute and store the features of one piece, unless they are there."""
    raw, offset = read_piece(piece)
    name = digest(
        [code_hash(), blake2b(raw).hexdigest(), offset, list(piece.source.langs), tests_hash, seed]
    )
    file = folder / f"{name}.arrow"
    if not _whole(file):
        known = load_tests(tests, tests_hash)  # damaged tests are no damage of the piece
        try:
            table = _features(raw, offset, piece.source, known, seed)
        except InputError as error:
            return Features(piece, file, str(error))
        partial_file = file.with_suffix(f".{os.getpid()}.partial")
        with (
            pa.OSFile(str(partial_file), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        os.replace(partial_file, file)
    return Features(piece, file)


def _whole(file: Path) -> bool:
    """Whether a feature file is there and was not cut short by a crash."""
    try:
        with pa.memory_map(str(file)) as source:
            pa.ipc.open_file(source)
        return True
    except (OSError, pa.ArrowInvalid):
        return False


def read_piece(piece: Piece) -> tuple[bytes, int]:
    """(the whole lines that begin inside the piece, where in the file the first one begins)."""
    with open(piece.source.path, "rb") as handle:
        start = piece.start
        if start:
            handle.seek(start - 1)
            start += (
                len(handle.readline()) - 1
            )  # a line that begins exactly at `start` follows a line's end, and is ours
        if start >= piece.end:
            return b"", start
        handle.seek(start)
        raw = handle.read(piece.end - start)
        return raw + (b"" if raw.endswith(b"\n") else handle.readline()), start


def _where(path: Path, offset: int) -> str:
    """File and line of a place. With its folder: the shards of many sources bear the same names."""
    with open(path, "rb") as handle:
        return f"{shown_path(path)}, line {handle.read(offset).count(10) + 1}"


def parse(line: bytes, path: Path, offset: int) -> Record:
    """The record of one line. Raises `InputError` naming file and line."""
    try:
        return Record.model_validate_json(line if offset else line.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise InputError(f"{_where(path, offset)}: not a record: {explain(error)}") from None


def whole_hash(record: Record) -> int:
    """A 64-bit hash of all fields of a row: what a shard is known by, and what orders rows that are
    alike in everything else.
    """
    return int(digest(record.model_dump_json()), 16)


_PLAIN = {"offset": pa.int64(), "length": pa.int32()} | {
    name: pa.uint64() for name in ("rank", "content", "whole", "family")
}
_SMALL = {
    "priority": pa.int16(),
    "group": pa.int32(),
    "key": pa.int8(),
    "leak": pa.int32(),
    "rule": pa.int8(),
}


def _features(raw: bytes, offset: int, source: Input, tests: KnownTests, seed: int) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in ("id", *_PLAIN, *_SMALL)}
    groups: dict[tuple[str | bool, ...], int] = {}
    aside: dict[str, int] = {}
    verdicts: dict[tuple[str, str, bool], bool] = {}
    sketches, pending = [], []
    for line in io.BytesIO(raw):  # splitlines would also cut at a lone carriage return
        begin, offset = offset, offset + len(line)
        if not line.strip():
            continue
        record = parse(line, source.path, begin)
        if (why := _not_a_candidate(record, source)) is not None:
            aside[why] = aside.get(why, 0) + 1
            continue
        row = row_words(record)
        runs = shingle_hashes(row.everything)
        leak = tests.find(record, row, runs)
        known = (
            record.source,
            record.licence,
            ":kit-" in record.id,
        )  # what the verdict depends on; asking for every row is slow
        if known not in verdicts:
            verdicts[known] = catalogue.may_publish_record(record)
        group = (record.lang, task_of(record), record.source, record.licence, verdicts[known])
        values = (
            record.id,
            begin,
            len(line),
            rank(record.id, seed),
            int(record.content_hash(), 16),
            whole_hash(record),
            int(digest(f"split:{seed}:{family(record)}"), 16),
            source.priority,
            groups.setdefault(group, len(groups)),
            -1 if record.answer_index is None else record.answer_index,
            -1 if leak is None else leak.test,
            -1 if leak is None else RULES.index(leak.rule),
        )
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
        pending.append(runs)
        if len(pending) == 512:
            sketches.append(signatures(pending))
            pending.clear()
    matrix = np.concatenate([*sketches, signatures(pending)])
    arrays = {"id": pa.array(columns["id"], pa.string())}
    arrays |= {name: pa.array(columns[name], kind) for name, kind in (_PLAIN | _SMALL).items()}
    arrays["signature"] = pa.FixedSizeListArray.from_arrays(
        pa.array(matrix.reshape(-1)), PERMUTATIONS
    )
    table = pa.table(arrays)
    return table.replace_schema_metadata({"groups": _json(list(groups)), "aside": _json(aside)})


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def _not_a_candidate(record: Record, source: Input) -> str | None:
    """Why a row is no candidate of the mix, or None."""
    if record.split != "train":
        return "test or validation split"
    if record.status != "ok":
        return f"status {record.status}"
    return f"language {record.lang}" if source.langs and record.lang not in source.langs else None
