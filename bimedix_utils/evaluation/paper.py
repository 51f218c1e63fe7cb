"""The paper's tables, read from `data/paper` and recomputed from their own cells."""

import csv
from dataclasses import dataclass
from pathlib import Path

from ..sources.benchmarks import nine_benchmarks
from .score_tables import Table, make_table

_TABLES = {"en": "english", "ar": "arabic", "both": "bilingual"}
_PAPER_MODELS = {
    "en": "BiMediX (English table row)",
    "ar": "BiMediX (Bilingual)",
    "both": "BiMediX (Bilingual)",
}


@dataclass(frozen=True)
class PaperRow:
    """One printed row: accuracy in percent for each of the nine tasks, the printed mean, and where
    it stands. `cells` maps the paper's column to percent.
    """

    model: str
    cells: dict[str, float]
    printed_mean: float
    source: str

    @property
    def mean(self) -> float:
        """The plain mean of the nine cells."""
        return sum(self.cells.values()) / len(self.cells)


PaperTables = dict[str, list[PaperRow]]


def read_paper_table(folder: Path, lang: str) -> list[PaperRow]:
    """The paper's table for `en`, `ar` or `both` (mean of the two languages' accuracies)."""
    with open(folder / f"{_TABLES[lang]}.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    columns = [one.column for one in nine_benchmarks().values()]
    return [
        PaperRow(
            r["model"], {c: float(r[c]) for c in columns}, float(r["AVG_reported"]), r["source"]
        )
        for r in rows
    ]


def read_paper_tables(folder: Path) -> PaperTables:
    """All three tables by language."""
    return {lang: read_paper_table(folder, lang) for lang in _TABLES}


def paper_models(tables: PaperTables) -> dict[str, PaperRow]:
    """The row of the paper's own model in each table."""
    return {
        lang: next(row for row in tables[lang] if row.model == name)
        for lang, name in _PAPER_MODELS.items()
    }


def means_table(tables: PaperTables) -> Table:
    """Every printed average beside the mean of its cells."""
    rows = [
        (lang, row.model, f"{row.printed_mean:.1f}", f"{row.mean:.2f}")
        for lang, rows in tables.items()
        for row in rows
    ]
    return make_table(rows, "table, model (paper), printed AVG, mean of the nine cells")


def misprinted_means(tables: PaperTables, tolerance: float = 0.051) -> list[list]:
    """[table, model, printed mean, mean of the cells] where the two differ; both are printed to one
    decimal.
    """
    return [
        [lang, row.model, row.printed_mean, round(row.mean, 2)]
        for lang, rows in tables.items()
        for row in rows
        if abs(row.mean - row.printed_mean) > tolerance
    ]


def impossible_cells(rows: list[PaperRow]) -> list[tuple[str, str, float]]:
    """(model, column, percent) of cells that no count of right answers k / n rounds to."""
    found = []
    for row in rows:
        for one in nine_benchmarks().values():
            column, size = one.column, one.items
            near = round(row.cells[column] * size / 100)
            shares = {round(100 * k / size, 1) for k in (near - 1, near, near + 1)}
            if row.cells[column] not in shares:
                found.append((row.model, column, row.cells[column]))
    return found


def implied_english(arabic: PaperRow, both: PaperRow) -> PaperRow:
    """The English scores that a bilingual row implies, when it is the plain mean of both languages:
    twice the mean less the Arabic cell.
    """
    cells = {name: round(2 * both.cells[name] - arabic.cells[name], 1) for name in both.cells}
    mean = 2 * both.printed_mean - arabic.printed_mean
    return PaperRow(f"{both.model}, English implied", cells, mean, "computed from the two tables")


def findings_table(tables: PaperTables) -> Table:
    """What does not add up: means that differ, cells that are no count
    k / n, and the implied English scores beside the row of another model, the English one.
    """
    own = paper_models(tables)
    lines = [(lang, model, "AVG", *means) for lang, model, *means in misprinted_means(tables)]
    for lang in ("en", "ar"):
        for model, column, percent in impossible_cells(tables[lang]):
            lines.append((lang, model, column, percent, "no k / n gives it"))
    implied = implied_english(own["ar"], own["both"])
    printed = {**own["en"].cells, "AVG": own["en"].printed_mean}
    for column, value in {**implied.cells, "AVG": round(implied.mean, 2)}.items():
        lines.append(("en", implied.model, column, f"{printed[column]} (other model)", value))
    return make_table(lines, "table, model, cell, printed, recomputed")
