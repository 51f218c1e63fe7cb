"""Damaged rows of a translated benchmark: found by the translation checks before anything is
scored.

Published translated test sets are silently corrupted here and there (lm-evaluation-harness#1596): a
question replaced by another, a number changed, a negation lost, the key kept. A score with such
rows and one without them are two scores.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.errors import InputError
from ..core.language import Language, load_language
from ..core.records import Record
from ..sources.benchmarks import Task
from ..translation.checks import TextPair, adequacy, repeated_targets, run_checks
from ..translation.texts import text_fields, text_pair
from .score_tables import Table, make_table
from .scoring import Sample

TaskKey = tuple[str, str]  # task, language
_COLUMNS = "task, language, rows of the file, damaged, without an original, for example"


@dataclass(frozen=True)
class Damage:
    """What the checks say of one translated task: {row id: reason} of rejected rows, and how many
    rows had no original to check.
    """

    rows: dict[str, str] = field(default_factory=dict)
    unchecked: int = 0


def find_damage(task: Task, originals: Mapping[str, Record], language: Language) -> Damage:
    """Compare each row with its original (`parent_id`, or the id both languages share). Only
    findings that reject count as damage.
    """
    pairs: list[tuple[str, TextPair]] = []
    for record in task.records:
        original = originals.get(record.parent_id or record.id)
        if original is not None and original.lang != record.lang:
            # Explanations are no part of the item.
            shown = [text_fields(row.replace(answer="")) for row in (original, record)]
            pairs.append((record.id, text_pair(*shown, language)))
    found: dict[str, str] = {}
    rules = {row_id: run_checks(p.source, p.candidate, language, p.names) for row_id, p in pairs}
    for flags in (rules, repeated_targets(pairs), adequacy(pairs)[0]):
        for row_id, some in flags.items():
            rejected = [flag for flag in some if flag.severity == "reject"]
            if rejected:
                found.setdefault(row_id, f"{rejected[0].check}: {rejected[0].reason}")
    return Damage(found, len(task.records) - len(pairs))


def find_all_damage(
    table: Mapping[TaskKey, Task], records: Iterable[Record], knowledge: Path
) -> dict[TaskKey, Damage]:
    """The damage of every task that is not English. `records` hold the English originals,
    `knowledge` is the folder of facts (drug names).
    """
    originals = {r.id: r for r in records if r.lang == "en"}
    return {
        key: find_damage(task, originals, load_language(key[1], knowledge))
        for key, task in table.items()
        if key[1] != "en"
    }


def damage_table(table: Mapping[TaskKey, Task], damaged: Mapping[TaskKey, Damage]) -> Table:
    """One row for each translated task."""
    lines = []
    for key, found in damaged.items():
        example = next(iter(found.rows.values()), "-")
        counts = len(table[key].records), len(found.rows), found.unchecked
        lines.append((*key, *counts, example))
    return make_table(lines, _COLUMNS)


def stop_on_damage(damaged: Mapping[TaskKey, Damage]) -> None:
    """The policy `stop`: raises `InputError` with the first damaged rows when there are any."""
    rows = [
        f"{name} {lang} {row_id}: {reason}"
        for (name, lang), found in damaged.items()
        for row_id, reason in found.rows.items()
    ]
    if rows:
        raise InputError(
            f"{len(rows)} damaged rows in translated tasks ({'; '.join(rows[:3])}): fix the file,"
            " or DAMAGED_ROWS = report"
        )


def undamaged_samples(samples: Iterable[Sample], damage: Damage) -> list[Sample]:
    """The samples of undamaged rows."""
    return [sample for sample in samples if sample.id not in damage.rows]


def undamaged_task(task: Task, damage: Damage) -> Task:
    """The task without its damaged rows."""
    kept = tuple(record for record in task.records if record.id not in damage.rows)
    return replace(task, records=kept)
