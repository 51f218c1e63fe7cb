"""Scores side by side: this run's in one column, the paper's in another, never added or mixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.statistics import holm, mcnemar, over_seeds, paired_bootstrap, wilson
from ..core.studies import read_study
from ..sources.benchmarks import Task, nine_benchmarks
from .forms import Form, version
from .paper import PaperRow
from .scoring import Sample

BESIDE = [
    "table",
    "task",
    "paper",
    "this run",
    "difference",
    "n",
    "95 %",
    "protocol",
    "version",
    "deviation",
]
NOT_RUN = "not run in this mode"


def mean(values: Sequence[float]) -> float:
    """The plain mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def hits(samples: Sequence[Sample], normalised: bool = False) -> tuple[int, int]:
    """(right answers, items); `normalised`: by likelihood a character."""
    return sum(
        sample.normalised_correct if normalised else sample.correct for sample in samples
    ), len(samples)


def with_interval(right: int, n: int) -> tuple[float, float, float]:
    """(share, low, high) with the 95 % Wilson interval."""
    return (right / n if n else 0.0, *wilson(right, n))


def macro(scores: dict[str, tuple[int, int]]) -> tuple[int, float, float, float]:
    """(items, plain mean over tasks, low, high): the interval is Wilson's for all items pooled, so
    it is about that share.
    """
    right, n = (sum(pair[i] for pair in scores.values()) for i in (0, 1))
    return n, mean([a / b for a, b in scores.values() if b]), *wilson(right, n)


def category(scores: dict, model: str, table: dict[tuple[str, str], Task], lang: str) -> str:
    """Above, below or not told apart from chance, for all items of a language under label ranking.

    Chance counts each item's own number of options (PubMedQA has three).
    """
    places = [(task, lang_) for task, lang_ in table if lang_ == lang]
    if not places:
        return NOT_RUN
    right, n = (sum(scores[model, "label", *place][i] for place in places) for i in (0, 1))
    chance = mean([1 / len(record.options) for place in places for record in table[place].records])
    low, high = wilson(right, n)
    return (
        "above chance"
        if low > chance
        else "below chance"
        if high < chance
        else "not told apart from chance"
    )


def beside_paper(
    scores: dict,
    model: str,
    table: dict[tuple[str, str], Task],
    reference: dict[str, PaperRow],
    form: Form,
    deviation: str,
    same_rows: bool,
) -> list[tuple[str, ...]]:
    """One row for each task and table (en, ar, both), in the columns of `BESIDE`.

    Bilingual cells are the plain mean of the two languages' accuracies, as in the paper; they carry
    no interval of their own. A difference is given only for `same_rows`: between the published
    items and others there is none to speak of.
    """
    rows = []
    for lang in ("en", "ar", "both"):
        for task, benchmark in nine_benchmarks().items():
            column = benchmark.column
            printed = reference[lang].cells[column]
            langs = ("en", "ar") if lang == "both" else (lang,)
            if not all((task, part) in table for part in langs):
                rows.append(
                    (lang, column, f"{printed:.1f}", NOT_RUN, "-", "-", "-", form.name, "-", "-")
                )
                continue
            each = [scores[model, form.protocol, task, part] for part in langs]
            share = 100 * mean([right / n for right, n in each])
            low, high = wilson(*each[0])
            interval = "-" if lang == "both" else f"[{100 * low:.0f}, {100 * high:.0f}]"
            difference = f"{share - printed:+.1f}" if same_rows else "other rows"
            count, versions = (
                " + ".join(str(n) for _, n in each),
                " ".join(version(table[task, part], form) for part in langs),
            )
            rows.append(
                (
                    lang,
                    column,
                    f"{printed:.1f}",
                    f"{share:.1f}",
                    difference,
                    count,
                    interval,
                    form.name,
                    versions,
                    deviation,
                )
            )
    return rows


@dataclass(frozen=True)
class Paired:
    """Two models on the same items of one task: accuracy difference (second - first), bootstrap
    interval, McNemar's p, and p by Holm.
    """

    task: str
    lang: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def paired(
    first: dict[tuple[str, str], list[Sample]],
    second: dict[tuple[str, str], list[Sample]],
    seed: int,
) -> list[Paired]:
    """Every (task, language) both models answered; one family for Holm's correction. Raises
    `ValueError` when the items differ.
    """
    found = []
    for place in first.keys() & second.keys():
        if [s.hash for s in first[place]] != [s.hash for s in second[place]]:
            raise ValueError(f"{place}: the two models answered other items")
        marks = [s.correct for s in first[place]], [s.correct for s in second[place]]
        found.append((*place, len(first[place]), *paired_bootstrap(*marks, seed), mcnemar(*marks)))
    found.sort()
    adjusted = holm([row[-1] for row in found])
    return [Paired(*row, p_holm) for row, p_holm in zip(found, adjusted, strict=True)]


Arms = dict[tuple[str, str, str], dict[str, list[bool]]]


def arms(folder: Path) -> Arms:
    """The committed ablations: (arm, part, language) -> seed -> right or wrong, question by
    question; see `read_study`.

    Within a part, language and seed every arm answered the same questions in the same order.
    """
    table: Arms = {}
    for row in read_study(folder, "ablations"):
        table.setdefault((row["arm"], row["part"], row["language"]), {})[row["seed"]] = [
            mark == "1" for mark in row["right"]
        ]
    return table


@dataclass(frozen=True)
class Contrast:
    """An arm against the reference: mean difference over seeds with its interval, p over seeds, and
    p by Holm for the whole family.
    """

    arm: str
    lang: str
    shares: tuple[float, ...]  # of the arm, one for each seed
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    # of all seeds' questions pooled: how sure the questions are, were the trainings fixed
    mcnemar: float

    @property
    def reading(self) -> str:
        """What may be said."""
        return (
            ("worse" if self.difference < 0 else "better")
            if self.p_holm < 0.05
            else "no difference shown"
        )


def contrasts(table: Arms, part: str, reference: str = "reference") -> list[Contrast]:
    """Every other arm against the reference in one part of the knowledge world, both languages; one
    family for Holm's correction.
    """
    found = []
    for (arm, own_part, lang), by_seed in table.items():
        if own_part != part or arm == reference:
            continue
        against = table[reference, part, lang]
        shares = [mean(right) for right in by_seed.values()]
        result = over_seeds([mean(by_seed[seed]) - mean(against[seed]) for seed in by_seed])
        pooled = ([r for seed in by_seed for r in rows[seed]] for rows in (against, by_seed))
        found.append((arm, lang, tuple(shares), *result, mcnemar(*pooled)))
    adjusted = holm([row[6] for row in found])
    return [Contrast(*row[:7], p_holm, row[7]) for row, p_holm in zip(found, adjusted, strict=True)]
