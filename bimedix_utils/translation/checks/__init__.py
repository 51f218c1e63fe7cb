"""Deterministic checks of a translation, run before any score is believed.

Each check is one function that reads a `Pair` and yields `Flag`s with a severity: `reject` (cannot
stand), `human` (a person must look), `note` (worth knowing). A check knows words, numbers and
patterns of a language's data file, never the gold translation.
"""

from collections.abc import Sequence

from ...core.language import Language, load_language
from . import form, quantities, wording
from .pair import SEVERITIES, Check, Flag, Pair
from .quantities import numbers_of

CHECKS: tuple[Check, ...] = (
    form.part_count, quantities.numbers, quantities.units, quantities.frequency,
    wording.negation, wording.exception, wording.sides, wording.drugs,
    wording.order,
    form.script, form.characters, form.chatter, form.prompt_overlap, form.markup, form.length, form.truncation, form.repetition,
    wording.abbreviations,
)  # fmt: skip


def run_all(
    source: list[str], candidate: list[str], language: Language, names: Sequence[str] = ()
) -> list[Flag]:
    """What every check finds in one record's texts, in a fixed order."""
    pair = Pair(source, candidate, language, tuple(names))
    flags: list[Flag] = []
    for check in CHECKS:
        try:
            flags += check(pair)
        except Exception as error:  # one odd text must not stop a run of a million rows
            flags.append(
                Flag(check.__name__, "human", f"the check itself failed: {type(error).__name__}")
            )
    return flags
