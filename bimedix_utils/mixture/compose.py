"""How many rows of each task and language a mix takes: by ratio, or by the paper's own composition;
and what could not be met, and why.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

from ..sources.catalogue import COMPONENTS as PAPER_COMPONENTS
from ..sources.composition import paper_composition
from .scan import PAPER_MCQA, TASKS

# The paper's names of its parts, as `sources` lists them, and the task each of them is here.
COMPONENTS = dict(zip(PAPER_COMPONENTS, (*PAPER_MCQA, "qa", "chat"), strict=True))


class Cell(NamedTuple):
    """One task in one language: `taken` rows of `available`, and `why` not all, or not the target.

    `target` is what the composition asks for; where a ratio binds, the rows that would stand beside
    all of the other language's.
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
    """{(task, language): rows} of the text part of BiMed-V, the best composition that could be
    found (see data/paper).
    """
    return {
        (COMPONENTS[part.name], part.lang): part.rows
        for part in paper_composition(path)
        if part.is_text
    }


def by_ratio(
    available: Mapping[tuple[str, str], int], arabic: int, english: int, tolerance: float
) -> list[Cell]:
    """The most rows of each task whose Arabic:English ratio is `arabic`:`english` within
    `tolerance` (relative, 0.02 is 2 %).

    What holds for each task holds for their sum. Languages other than English count as Arabic does:
    together, in proportion.
    """
    # Decimal as written: 0.1 as a binary fraction would allow a row too many.
    slack, part = 1 + Fraction(str(tolerance)), Fraction(arabic, english)
    cells = []
    for task in TASKS:
        languages = sorted(
            {lang for name, lang in available if name == task} | {"en", "ar"},
            key=lambda lang: (lang != "en", lang),
        )
        have = {lang: available.get((task, lang), 0) for lang in languages}
        if not any(have.values()):
            continue
        others = {lang: n for lang, n in have.items() if lang != "en"}
        rows, translated = have["en"], sum(others.values())
        while True:  # whole rows: cutting one side may cut the other
            translated, before = min(translated, floor(rows * part * slack)), translated
            rows, limit = min(rows, floor(translated / part * slack)), rows
            if (translated, rows) == (before, limit):
                break
        taken = {"en": rows, **_shared(others, translated)}
        wanted = {
            "en": ceil(sum(others.values()) / part),
            **_shared(others, ceil(have["en"] * part)),
        }
        for lang in languages:
            cells.append(
                Cell(
                    task,
                    lang,
                    have[lang],
                    wanted[lang],
                    taken[lang],
                    _why(lang, have[lang], wanted[lang], taken[lang], arabic, english),
                )
            )
    return cells


def _why(lang: str, have: int, wanted: int, taken: int, arabic: int, english: int) -> str:
    partner = "Arabic" if lang == "en" else "English"
    if not have:
        return "none present"
    if taken == have:
        return f"too few rows to stand beside all {partner} ones" if taken < wanted else ""
    return f"{arabic}:{english} was reached" if taken else f"no {partner} rows to stand beside"


def _shared(available: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` rows shared out in proportion to what is available; the largest remainders get the
    last ones.
    """
    everything = sum(available.values())
    exact = {
        lang: Fraction(total * n, everything) if everything else Fraction(total, len(available))
        for lang, n in available.items()
    }
    taken = {lang: floor(value) for lang, value in exact.items()}
    for lang in sorted(exact, key=lambda lang: (taken[lang] - exact[lang], lang))[
        : total - sum(taken.values())
    ]:
        taken[lang] += 1
    return taken


def by_target(
    available: Mapping[tuple[str, str], int], wanted: Mapping[tuple[str, str], int]
) -> list[Cell]:
    """Up to the wanted rows of each task and language; what the target does not name is left out,
    and said so.
    """
    cells = []
    for task, lang in sorted(
        set(available) | set(wanted),
        key=lambda place: (TASKS.index(place[0]), place[1] != "en", place[1]),
    ):
        have, target = available.get((task, lang), 0), wanted.get((task, lang), 0)
        taken = min(have, target)
        why = (
            ""
            if taken == target == have
            else (
                "not in the target"
                if not target
                else "too few rows"
                if taken < target
                else "target reached"
            )
        )
        cells.append(Cell(task, lang, have, target, taken, why))
    return cells
