"""GPUs by name, from data/gpus.csv, which the user edits. What no source states is written `not
found` there and is None here.
"""

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import InputError
from ...core.provenance import ROOT, shown_path

TABLE = ROOT / "data" / "gpus.csv"
COLUMNS = (
    "name",
    "memory_gb",
    "bf16_dense_tflops",
    "bandwidth_gb_per_s",
    "usd_per_hour",
    "source",
    "date",
)
UNKNOWN = "not found"
GB = 10**9  # data sheets do not say which gigabyte they mean; the smaller one is the safe reading


@dataclass(frozen=True)
class Gpu:
    """One line of the table: memory in GB, dense bfloat16 TFLOPS, memory bandwidth in GB/s, price
    of an hour in US dollars.
    """

    name: str
    memory_gb: float
    tflops: float | None
    bandwidth: float | None
    usd_per_hour: float | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory in bytes."""
        return int(self.memory_gb * GB)


def gpus(table: Path = TABLE) -> list[Gpu]:
    """All GPUs of the table, smallest memory first. Raises `InputError` for a table with other
    columns or a value that is no number.
    """
    with open(table, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{shown_path(table)}: the columns must be {', '.join(COLUMNS)}")
        rows = list(reader)

    def number(row: dict[str, str], column: str) -> float | None:
        text = row[column]
        if text == UNKNOWN:
            return None
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = -1.0
        if not 0 <= value < float("inf"):
            raise InputError(
                f"{shown_path(table)}: {row['name']}, {column}: {text!r} is no number; write {UNKNOWN!r}"
                " for an unknown one"
            )
        return value

    found = []
    for row in rows:
        memory, tflops, bandwidth, price = (number(row, column) for column in COLUMNS[1:5])
        if not memory:
            raise InputError(
                f"{shown_path(table)}: {row['name']}: a GPU without memory_gb cannot be planned with"
            )
        found.append(Gpu(row["name"], memory, tflops, bandwidth, price, row["source"]))
    return sorted(found, key=lambda gpu: gpu.memory_gb)


def gpu(name: str, table: Path = TABLE) -> Gpu:
    """The GPU of a name. Raises `InputError` that lists the known ones."""
    known = {item.name: item for item in gpus(table)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"no GPU {name!r} in {shown_path(table)}; {hint}known: {', '.join(known)}; or add a line"
            " with its data sheet's numbers"
        )
    return known[name]
