"""The paper's tables, read from `data/paper` and recomputed from their own cells."""

import csv
from dataclasses import dataclass
from pathlib import Path

from ..sources.benchmarks import nine_benchmarks

TABLES = {"en": "english", "ar": "arabic", "both": "bilingual"}


@dataclass(frozen=True)
class PaperRow:
    """One printed row: accuracy in percent for each of the nine tasks, the printed mean, and where
    it stands.
    """

    model: str
    cells: dict[str, float]  # the paper's column -> percent
    printed_mean: float
    source: str

    @property
    def mean(self) -> float:
        """The plain mean of the nine cells."""
        return sum(self.cells.values()) / len(self.cells)


def table(folder: Path, lang: str) -> list[PaperRow]:
    """The paper's table for `en`, `ar` or `both` (bilingual: mean of the two languages' accuracies
    per task).
    """
    with open(folder / f"{TABLES[lang]}.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    columns = [benchmark.column for benchmark in nine_benchmarks().values()]
    return [
        PaperRow(
            r["model"], {c: float(r[c]) for c in columns}, float(r["AVG_reported"]), r["source"]
        )
        for r in rows
    ]


def misprinted(rows: list[PaperRow], tolerance: float = 0.051) -> list[PaperRow]:
    """Rows whose printed mean is not the mean of their cells (both printed to one decimal)."""
    return [row for row in rows if abs(row.mean - row.printed_mean) > tolerance]


def impossible_cells(rows: list[PaperRow]) -> list[tuple[str, str, float]]:
    """(model, column, percent) of cells that no count of right answers out of the test set's size
    rounds to.
    """
    found = []
    for row in rows:
        for benchmark in nine_benchmarks().values():
            column, size = benchmark.column, benchmark.items
            near = round(row.cells[column] * size / 100)
            if all(
                round(100 * count / size, 1) != row.cells[column]
                for count in (near - 1, near, near + 1)
            ):
                found.append((row.model, column, row.cells[column]))
    return found


def implied_english(arabic: PaperRow, both: PaperRow) -> PaperRow:
    """The English scores that a bilingual row implies, when it is the plain mean of both languages:
    twice the mean less the Arabic cell.
    """
    cells = {
        column: round(2 * both.cells[column] - arabic.cells[column], 1) for column in both.cells
    }
    return PaperRow(
        f"{both.model}, English implied",
        cells,
        2 * both.printed_mean - arabic.printed_mean,
        "computed from the two tables",
    )
