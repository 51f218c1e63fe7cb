"""The committed study of `make bench-speed`: what was measured and predicted at 1 to 32 rows,
several times over.
"""

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..core.studies import read_study


@dataclass(frozen=True)
class Studied:
    """One precision, batch and dense model over all repeats: the medians' median and range, the
    predictions' median, the errors.
    """

    precision: str
    batch: int
    against: str
    measured: float
    least: float
    greatest: float
    predicted: float
    errors: tuple[float, ...]
    weights_over_cache: str

    @property
    def worst(self) -> float:
        """The error farthest from 0."""
        return max(self.errors, key=abs)


def studied(folder: Path) -> list[Studied]:
    """The lines of data/studies/speed.csv, repeats joined. Raises `InputError` when its manifest
    describes another table.
    """
    groups: dict[tuple[str, int, str], list[dict[str, str]]] = defaultdict(list)
    for row in read_study(folder, "speed"):
        groups[row["precision"], int(row["batch"]), row["against"]].append(row)
    found = []
    for (precision, batch, against), rows in groups.items():
        numbers = {
            name: [float(row[name]) for row in rows] for name in ("measured", "predicted", "error")
        }
        measured = numbers["measured"]
        middle = (
            statistics.median(measured),
            min(measured),
            max(measured),
            statistics.median(numbers["predicted"]),
        )
        found.append(
            Studied(
                precision,
                batch,
                against,
                *middle,
                tuple(numbers["error"]),
                rows[0]["weights_over_cache"],
            )
        )
    return found


def conditions(folder: Path) -> dict:
    """The study's manifest: cache, threads, rounds, limit, load of the machine, versions, commit."""
    return json.loads((folder / "speed.json").read_text(encoding="utf-8"))
