"""How many rows of each task and language a mix takes: by ratio, or by the paper's composition.

Each cell also says what could not be met, and why.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

from ..sources.catalogue import COMPONENTS
from ..sources.composition import paper_composition
from .scan import PAPER_MCQA, TASKS

# The paper's names of its parts, as the catalogue lists them, and the task each of them is here.
PAPER_TASKS = dict(zip(COMPONENTS, (*PAPER_MCQA, "qa", "chat"), strict=True))
Counts = Mapping[tuple[str, str], int]  # {(task, language): rows}


class MixCell(NamedTuple):
    """One task in one language: `taken` rows of `available`; `why` not all, or not the target.

    `target` is what the composition asks for; by ratio, the rows that match all rows of the other
    language.
    """

    task: str
    lang: str
    available: int
    target: int
    taken: int
    why: str

    @property
    def missing(self) -> int:
        """Rows short of the target."""
        return max(0, self.target - self.taken)


def paper_targets(path: Path) -> dict[tuple[str, str], int]:
    """{(task, language): rows} of the text part of BiMed-V, the best table that was found."""
    parts = [part for part in paper_composition(path) if part.is_text]
    return {(PAPER_TASKS[part.name], part.lang): part.rows for part in parts}


def cells_by_ratio(available: Counts, arabic: int, english: int, tolerance: float) -> list[MixCell]:
    """The most rows of each task whose Arabic:English ratio is `arabic`:`english`.

    `tolerance` is relative (0.02 is 2 %). What holds for each task holds for their sum. Languages
    other than English share the Arabic part, in proportion.
    """
    # Fractions of the decimals as written: 0.1 as a binary number would allow a row too many.
    slack, part = 1 + Fraction(str(tolerance)), Fraction(arabic, english)
    cells = []
    for task in TASKS:
        languages = {lang for name, lang in available if name == task} | {"en", "ar"}
        have = {lang: available.get((task, lang), 0) for lang in sorted(languages, key=_english)}
        if not any(have.values()):
            continue
        others = {lang: n for lang, n in have.items() if lang != "en"}
        rows, translated = have["en"], sum(others.values())
        while True:  # rows are whole numbers: cutting one side may cut the other
            translated, before = min(translated, floor(rows * part * slack)), translated
            rows, limit = min(rows, floor(translated / part * slack)), rows
            if (translated, rows) == (before, limit):
                break
        taken = {"en": rows, **_in_proportion(others, translated)}
        target = {"en": ceil(sum(others.values()) / part)}
        target |= _in_proportion(others, ceil(have["en"] * part))
        for lang, n in have.items():
            why = _why_by_ratio(lang, n, target[lang], taken[lang], f"{arabic}:{english}")
            cells.append(MixCell(task, lang, n, target[lang], taken[lang], why))
    return cells


def _english(lang: str) -> tuple[bool, str]:
    """Sorting key: English first."""
    return lang != "en", lang


def _why_by_ratio(lang: str, have: int, target: int, taken: int, ratio: str) -> str:
    partner = "Arabic" if lang == "en" else "English"
    if not have:
        return "no rows available"
    if taken == have:
        return f"too few rows for all {partner} ones" if taken < target else ""
    return f"{ratio} was reached" if taken else f"no {partner} rows"


def _in_proportion(available: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` rows shared in proportion to `available`; largest remainders get the last ones."""
    everything = sum(available.values())
    share = {
        lang: Fraction(total * n, everything) if everything else Fraction(total, len(available))
        for lang, n in available.items()
    }
    taken = {lang: floor(value) for lang, value in share.items()}
    by_remainder = sorted(share, key=lambda lang: (taken[lang] - share[lang], lang))
    for lang in by_remainder[: total - sum(taken.values())]:
        taken[lang] += 1
    return taken


def cells_by_target(available: Counts, targets: Counts) -> list[MixCell]:
    """Up to the target rows of each task and language; a cell without a target is left out."""
    keys = set(available) | set(targets)
    cells = []
    for task, lang in sorted(keys, key=lambda key: (TASKS.index(key[0]), *_english(key[1]))):
        have, target = available.get((task, lang), 0), targets.get((task, lang), 0)
        taken = min(have, target)
        if not target:
            why = "not in the target" if have else ""
        elif taken < target:
            why = "too few rows"
        else:
            why = "target reached" if taken < have else ""
        cells.append(MixCell(task, lang, have, target, taken, why))
    return cells


def tasks_off_ratio(
    cells: list[MixCell], arabic: int, english: int, tolerance: float
) -> dict[str, tuple[int, int]]:
    """{task: (English rows, rows of other languages)} where the ratio does not hold; "all" is their
    sum.
    """
    taken: dict[str, list[int]] = {}
    for cell in cells:
        for name in (cell.task, "all"):
            taken.setdefault(name, [0, 0])[cell.lang != "en"] += cell.taken
    slack = 1 + tolerance
    return {
        task: (en, other)
        for task, (en, other) in taken.items()
        if en * arabic > other * english * slack or other * english > en * arabic * slack
    }
