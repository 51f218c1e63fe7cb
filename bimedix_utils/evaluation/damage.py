"""Damaged rows of a translated benchmark: found by the translation checks before anything is
scored.

Published translated test sets are silently corrupted here and there (lm-evaluation-harness#1596): a
question replaced by another, a number changed, a negation lost, the key kept. A score with and
without such rows is two scores.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..core.errors import InputError
from ..core.language import Language
from ..core.records import Record
from ..sources.benchmarks import Task
from ..translation.checks import TextPair, adequacy, repeated_targets, run_checks
from ..translation.texts import text_fields, text_pair
from .scoring import Sample


@dataclass(frozen=True)
class Damage:
    """What the checks say of one translated task: {row id: reason} of rows that cannot stand, and
    how many had no original to check.
    """

    rows: dict[str, str] = field(default_factory=dict)
    unchecked: int = 0


def find(task: Task, originals: Mapping[str, Record], language: Language) -> Damage:
    """Compare each row with its original (`parent_id`, or the id both languages share). Only
    findings that reject count as damage.
    """
    pairs: list[tuple[str, TextPair]] = []
    for record in task.records:
        original = originals.get(record.parent_id or record.id)
        if original is not None and original.lang != record.lang:
            shown = [
                text_fields(row.replace(answer="")) for row in (original, record)
            ]  # explanations are no part of the item
            pairs.append((record.id, text_pair(*shown, language)))
    found: dict[str, str] = {}
    rules = {row_id: run_checks(p.source, p.candidate, language, p.names) for row_id, p in pairs}
    for flags in (rules, repeated_targets(pairs), adequacy(pairs)[0]):
        for row_id, some in flags.items():
            rejected = [flag for flag in some if flag.severity == "reject"]
            if rejected:
                found.setdefault(row_id, f"{rejected[0].check}: {rejected[0].reason}")
    return Damage(found, len(task.records) - len(pairs))


def refuse(damage: Mapping[str, Damage]) -> None:
    """Raises `InputError` with the first damaged rows when there are any: the policy `stop`."""
    rows = [
        (name, row_id, reason)
        for name, found in damage.items()
        for row_id, reason in found.rows.items()
    ]
    if rows:
        shown = "; ".join(f"{name} {row_id}: {reason}" for name, row_id, reason in rows[:3])
        raise InputError(
            f"{len(rows)} damaged rows in translated tasks ({shown}): mend the file, or"
            " DAMAGED_ROWS = report"
        )


def without(samples: Iterable[Sample], damage: Damage) -> list[Sample]:
    """The samples of undamaged rows."""
    return [sample for sample in samples if sample.id not in damage.rows]


def sound(task: Task, damage: Damage) -> Task:
    """The task without its damaged rows."""
    return replace(
        task, records=tuple(record for record in task.records if record.id not in damage.rows)
    )
