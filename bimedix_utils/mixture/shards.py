"""Third step: the kept rows as Parquet shards in the order of their ranks. A shard that is there
and whole is not written again.
"""

import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import InputError
from ..core.files import write_json
from ..core.provenance import hash_path
from ..core.records import Record, arrow_schema, iter_jsonl, iter_parquet
from ..core.text import digest
from .decide import OK, Decision, Rows
from .near import Place
from .scan import parse, task_of, whole_hash
from .work import Map

SPLITS = ("train", "validation")
SCHEMA = arrow_schema().append(pa.field("task", pa.string()))
VERSION = 2  # raise when the same rows give other bytes


def held_out(rows: Rows, share: float) -> np.ndarray:
    """True for the rows of the validation split: a seeded share of the families, so that a row and
    its translations stay together.
    """
    return rows.column("family") < np.uint64(min(share, 1.0) * float(2**64 - 2**12))


def table_of(records: list[Record]) -> pa.Table:
    """Records as a table with fixed column types and their task."""
    rows = [record.model_dump(mode="json") for record in records]
    columns = [
        pa.array([row[name] for row in rows], SCHEMA.field(name).type)
        for name in Record.model_fields
    ]
    return pa.table(
        [*columns, pa.array([task_of(record) for record in records], pa.string())], schema=SCHEMA
    )


def read(folder: Path, split: str) -> Iterator[Record]:
    """The records of a split, one by one: from the Parquet shards of `folder`, or from
    `<split>.jsonl` where someone brought their own.

    Raises `InputError` when there is neither.
    """
    if files := sorted((folder / "data").glob(f"{split}-*.parquet")):
        for file in files:
            yield from iter_parquet(file)
    elif (folder / f"{split}.jsonl").is_file():
        yield from iter_jsonl(folder / f"{split}.jsonl")
    else:
        raise InputError(
            f"{folder.name}: neither data/{split}-*.parquet nor {split}.jsonl is there"
        )


def write(
    rows: Rows,
    found: Decision,
    folder: Path,
    validation_share: float,
    shard_rows: int,
    run_map: Map = map,
) -> list[dict[str, Any]]:
    """Write `folder/data/<split>-00000-of-0000N.parquet`, and nothing else stays there. File,
    split, rows, bytes, SHA-256 of each.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    kept = np.flatnonzero(found.status == OK)
    kept = kept[np.argsort(found.order[kept], kind="stable")]
    held = held_out(rows, validation_share)[kept]
    work = []
    for split, mine in zip(SPLITS, (kept[~held], kept[held]), strict=True):
        parts = [
            mine[start : start + shard_rows] for start in range(0, max(1, len(mine)), shard_rows)
        ]
        work += [
            (f"{split}-{i:05d}-of-{len(parts):05d}.parquet", split, part)
            for i, part in enumerate(parts)
        ]
    wanted = {name for name, _, _ in work}
    for stale in data.iterdir():
        if stale.name not in wanted and stale.name.removesuffix(".json").lstrip(".") not in wanted:
            stale.unlink()
    jobs = (
        (data / name, split, [rows.place(int(row)) for row in part], rows_hash(rows, part))
        for name, split, part in work
    )
    return list(run_map(_shard, jobs))


def rows_hash(rows: Rows, part: np.ndarray) -> str:
    """What a shard's rows are, whatever file they come from: all their fields, their order and the
    version of the format.
    """
    return _hash_of(rows.column("whole")[part].tolist())


def _hash_of(whole: list[int]) -> str:
    return digest([VERSION, whole], 64)


def _shard(job: tuple[Path, str, list[Place], str]) -> dict[str, Any]:
    file, split, places, wanted = job
    note = file.with_name(f".{file.name}.json")  # beside the shard: what it holds, written after it
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["rows_hash"] == wanted and hash_path(file) == known["shard"]["sha256"]:
            return known["shard"]
    except (OSError, ValueError, KeyError):
        pass  # absent, or cut short by a kill: written anew
    part, whole = file.with_name(f"{file.name}.{os.getpid()}.partial"), []
    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        for start in range(0, len(places), 5_000):
            records = _records(places[start : start + 5_000])
            whole += map(whole_hash, records)
            writer.write_table(table_of(records))
    if _hash_of(whole) != wanted:
        part.unlink()
        raise InputError(
            f"{file.name}: an input was changed after it was read. Run again from the first step"
        )
    os.replace(part, file)
    shard = {
        "file": f"data/{file.name}",
        "split": split,
        "rows": len(places),
        "bytes": file.stat().st_size,
        "sha256": hash_path(file),
    }
    write_json(note, {"rows_hash": wanted, "shard": shard})
    return shard


def _records(places: list[Place]) -> list[Record]:
    """The rows at these places, in this order; files are read from front to back, which a hard disk
    needs.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    found: list[Record | None] = [None] * len(places)
    for path, group in groupby(order, key=lambda number: places[number][0]):
        with open(path, "rb") as handle:
            for number in group:
                _, offset, length = places[number]
                handle.seek(offset)
                found[number] = parse(handle.read(length), Path(path), offset)
    return found
