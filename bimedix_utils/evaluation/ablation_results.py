"""The committed ablation study (`data/studies/ablations.*`): its arms against the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.statistics import holm, mcnemar, over_seeds
from ..core.studies import read_study
from .compare import plain_mean
from .score_tables import Table, make_table

_COLUMNS = (
    "arm, language, right for each seed, difference, 95 % over seeds, p (Holm), McNemar p,"
    " may be said"
)
Arms = dict[tuple[str, str, str], dict[str, list[bool]]]


def read_arms(folder: Path) -> Arms:
    """(arm, part, language) -> seed -> right or wrong, question by question. Within a part,
    language and seed every arm answered the same questions in the same order.
    """
    table: Arms = {}
    for row in read_study(folder, "ablations"):
        by_seed = table.setdefault((row["arm"], row["part"], row["language"]), {})
        by_seed[row["seed"]] = [mark == "1" for mark in row["right"]]
    return table


@dataclass(frozen=True)
class Contrast:
    """An arm against the reference: mean difference over seeds with its interval, p over seeds, and
    p by Holm for the whole family. `shares` are the arm's, one for each seed.

    `mcnemar` pools the questions of all seeds: how sure the questions are, were training fixed.
    """

    arm: str
    lang: str
    shares: tuple[float, ...]
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    mcnemar: float

    @property
    def reading(self) -> str:
        """What may be said."""
        if self.p_holm >= 0.05:
            return "no difference shown"
        return "worse" if self.difference < 0 else "better"


def arm_contrasts(table: Arms, part: str, reference: str = "reference") -> list[Contrast]:
    """Every other arm against the reference in one part of the knowledge world, both languages; one
    family for Holm's correction.
    """
    found = []
    for (arm, own_part, lang), by_seed in table.items():
        if own_part != part or arm == reference:
            continue
        against = table[reference, part, lang]
        shares = tuple(plain_mean(right) for right in by_seed.values())
        differences = [plain_mean(by_seed[s]) - plain_mean(against[s]) for s in by_seed]
        pooled = ([r for s in by_seed for r in rows[s]] for rows in (against, by_seed))
        found.append((arm, lang, shares, *over_seeds(differences), mcnemar(*pooled)))
    adjusted = holm([row[6] for row in found])
    return [Contrast(*row[:7], p, row[7]) for row, p in zip(found, adjusted, strict=True)]


def ablation_table(table: Arms, part: str) -> Table:
    """One row for each arm and language, the reference first."""
    lines: list[tuple] = []
    for (arm, own_part, lang), by_seed in table.items():
        if (arm, own_part) == ("reference", part):
            shares = " ".join(f"{plain_mean(right):.2f}" for right in by_seed.values())
            lines.append((arm, lang, shares, "", "", "", "", ""))
    for c in arm_contrasts(table, part):
        shares = " ".join(f"{share:.2f}" for share in c.shares)
        change = f"{c.difference:+.2f}", f"[{c.low:+.2f}, {c.high:+.2f}]"
        tests = f"{c.p_holm:.3f}", f"{c.mcnemar:.1g}", c.reading
        lines.append((c.arm, c.lang, shares, *change, *tests))
    return make_table(lines, _COLUMNS)


def ablation_intervals(table: Arms, part: str) -> list[tuple[str, float, float, float]]:
    """(name, mean, low, high) over seeds of each arm and language, for `core.interval_chart`."""
    rows: list[tuple[str, float, float, float]] = []
    arms: Mapping = {(arm, lang): rows for (arm, own, lang), rows in table.items() if own == part}
    for (arm, lang), by_seed in arms.items():
        mean, low, high, _ = over_seeds([plain_mean(right) for right in by_seed.values()])
        rows.append((f"{arm} · {lang}", mean, max(0.0, low), min(1.0, high)))
    return rows
