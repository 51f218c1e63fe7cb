"""Third step: the kept rows as Parquet shards in the order of their ranks.

A shard that is there and complete is not written again.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import InputError
from ..core.files import atomic_file, write_json
from ..core.provenance import hash_path
from ..core.records import Record, arrow_schema, iter_jsonl, iter_parquet
from ..core.text import digest
from .near_duplicates import Location
from .parallel import Map
from .scan import parse_row, record_hash, task_of
from .selection import OK, Candidates, Selection

SHARD_SPLITS = ("train", "validation")
SHARD_SCHEMA = arrow_schema().append(pa.field("task", pa.string()))
_FORMAT = 2  # raise when the same rows give other bytes
_AT_ONCE = 5_000  # rows in memory


def in_validation(rows: Candidates, share: float) -> np.ndarray:
    """True for the validation split: a seeded share of families, so translations stay together."""
    # `family` is a hash that is uniform in 0..2**64; the limit stays inside that range.
    return rows.column("family") < np.uint64(min(share, 1.0) * float(2**64 - 2**12))


def records_table(records: list[Record]) -> pa.Table:
    """Records and their tasks as a table of `SHARD_SCHEMA`."""
    rows = [{**record.model_dump(mode="json"), "task": task_of(record)} for record in records]
    return pa.Table.from_pylist(rows, SHARD_SCHEMA)


def read_split(folder: Path, split: str) -> Iterator[Record]:
    """The records of a split, from the Parquet shards of `folder` or from `<split>.jsonl`.

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


def write_splits(
    rows: Candidates, found: Selection, folder: Path, share: float, shard_rows: int, run_map: Map
) -> list[dict[str, Any]]:
    """Write `folder/data/<split>-00000-of-0000N.parquet`; nothing else stays there.

    `share` goes to the validation split. Gives file, split, rows, bytes and SHA-256 of each shard.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    kept = np.flatnonzero(found.status == OK)
    kept = kept[np.argsort(found.rank[kept], kind="stable")]
    held_out = in_validation(rows, share)[kept]
    jobs = []
    for split, mine in zip(SHARD_SPLITS, (kept[~held_out], kept[held_out]), strict=True):
        starts = range(0, max(1, len(mine)), shard_rows)
        for i, start in enumerate(starts):
            file = data / f"{split}-{i:05d}-of-{len(starts):05d}.parquet"
            jobs.append((file, split, mine[start : start + shard_rows]))
    expected = {file for file, *_ in jobs} | {_facts_file(file) for file, *_ in jobs}
    for stale in set(data.iterdir()) - expected:
        stale.unlink()
    hashes = rows.column("record")
    work = (
        (file, split, [rows.locate(int(row)) for row in part], _rows_hash(hashes[part].tolist()))
        for file, split, part in jobs
    )
    return list(run_map(_write_shard, work))


def _facts_file(shard: Path) -> Path:
    """Beside the shard and written after it: what it holds."""
    return shard.with_name(f".{shard.name}.json")


def _rows_hash(hashes: list[int]) -> str:
    """Names a shard's rows: all their fields, their order and the version of the format."""
    return digest([_FORMAT, hashes], 64)


def _write_shard(job: tuple[Path, str, list[Location], str]) -> dict[str, Any]:
    file, split, locations, expected = job
    facts = _facts_file(file)
    try:
        known = json.loads(facts.read_text(encoding="utf-8"))
        if known["rows_hash"] == expected and hash_path(file) == known["shard"]["sha256"]:
            return known["shard"]
    except (OSError, ValueError, KeyError):
        pass  # absent, or cut short by a kill: written anew
    hashes: list[int] = []
    with atomic_file(file, "wb") as sink:
        with pq.ParquetWriter(sink, SHARD_SCHEMA, compression="zstd") as writer:
            for start in range(0, len(locations), _AT_ONCE):
                records = _read_records(locations[start : start + _AT_ONCE])
                hashes += map(record_hash, records)
                writer.write_table(records_table(records))
        # Inside: then the file keeps its old content or does not appear.
        if _rows_hash(hashes) != expected:
            raise InputError(
                f"{file.name}: an input was changed after it was read. Run again from the first"
                " step"
            )
    shard = {
        "file": f"data/{file.name}",
        "split": split,
        "rows": len(locations),
        "bytes": file.stat().st_size,
        "sha256": hash_path(file),
    }
    write_json(facts, {"rows_hash": expected, "shard": shard})
    return shard


def _read_records(locations: list[Location]) -> list[Record]:
    """The rows in this order; files are read from front to back, which a hard disk needs."""
    order = sorted(range(len(locations)), key=locations.__getitem__)
    found: list[Record | None] = [None] * len(locations)
    for path, group in groupby(order, key=lambda number: locations[number][0]):
        with open(path, "rb") as handle:
            for number in group:
                _, offset, length = locations[number]
                handle.seek(offset)
                found[number] = parse_row(handle.read(length), Path(path), offset)
    return found
