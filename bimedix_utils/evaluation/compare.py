"""Scores side by side: this run's in one column, the paper's in another, never added or mixed."""

from collections.abc import Sequence
from pathlib import Path

from ..records import read_study
from ..tasks import NINE, Task
from .paper import PaperRow
from .scoring import Sample
from .statistics import wilson

BESIDE = ["table", "task", "paper", "this run", "n", "95 %", "protocol", "deviation"]


def mean(values: Sequence[float]) -> float:
    """The plain mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def hits(samples: Sequence[Sample]) -> tuple[int, int]:
    """(right answers, items)."""
    return sum(sample.correct for sample in samples), len(samples)


def with_interval(right: int, n: int) -> tuple[float, float, float]:
    """(share, low, high) with the 95 % Wilson interval."""
    return (right / n if n else 0.0, *wilson(right, n))


def macro(scores: dict[str, tuple[int, int]]) -> tuple[int, float, float, float]:
    """(items, plain mean over tasks, low, high): the interval is Wilson's for all items pooled, so it is about that share."""
    right, n = (sum(pair[i] for pair in scores.values()) for i in (0, 1))
    return n, mean([a / b for a, b in scores.values() if b]), *wilson(right, n)


def category(scores: dict, model: str, table: dict[tuple[str, str], Task], lang: str) -> str:
    """Above, below or not told apart from chance, for all items of a language under label ranking.

    Chance counts each item's own number of options (PubMedQA has three).
    """
    places = [(task, lang_) for task, lang_ in table if lang_ == lang]
    if not places:
        return "not run in this mode"
    right, n = (sum(scores[model, "label", *place][i] for place in places) for i in (0, 1))
    chance = mean([1 / len(record.options) for place in places for record in table[place].records])
    low, high = wilson(right, n)
    return "above chance" if low > chance else "below chance" if high < chance else "not told apart from chance"


def beside_paper(
    scores: dict, model: str, table: dict[tuple[str, str], Task], reference: dict[str, PaperRow], deviation: str
) -> list[tuple[str, ...]]:
    """One row for each task and table (en, ar, both), in the columns of `BESIDE`.

    Bilingual cells are the plain mean of the two languages' accuracies, as in the paper; they carry no interval of their own.
    """
    rows = []
    for lang in ("en", "ar", "both"):
        for task, (column, _) in NINE.items():
            printed = f"{reference[lang].cells[column]:.1f}"
            langs = ("en", "ar") if lang == "both" else (lang,)
            if not all((task, part) in table for part in langs):
                rows.append((lang, column, printed, "not run in this mode", "-", "-", "label ranking", "-"))
                continue
            each = [scores[model, "label", task, part] for part in langs]
            share = 100 * mean([right / n for right, n in each])
            low, high = wilson(*each[0])
            interval = "-" if lang == "both" else f"[{100 * low:.0f}, {100 * high:.0f}]"
            count = " + ".join(str(n) for _, n in each)
            rows.append((lang, column, printed, f"{share:.1f}", count, interval, "label ranking", deviation))
    return rows


def study(folder: Path, name: str) -> dict[tuple[str, str], dict[str, dict[str, tuple[int, int]]]]:
    """A committed study of arms: (part, language) -> arm -> model -> (hits, n); empty when it was not run. See `records.read_study`."""
    table: dict = {}
    for row in read_study(folder, name) if (folder / f"{name}.csv").exists() else ():
        arms = table.setdefault((row["part"], row["language"]), {})
        arms.setdefault(row["arm"], {})[row["model"]] = (int(row["hits"]), int(row["n"]))
    return table
