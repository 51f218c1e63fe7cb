"""The plan of an evaluation: which tasks are asked in which prompt format."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.files import write_json
from ..core.records import Record
from ..review import testsets
from ..sources import knowledge
from ..sources.benchmarks import Task, group_tasks
from .prompt_format import PromptFormat, task_version, with_few_shot
from .score_tables import Table, make_table

HELD_OUT_PARTS = ("taught", "paraphrase", "stated", "transfer")
Plan = list[tuple[Task, PromptFormat]]


def pipeline_tasks(folder: Path, seed: int) -> list[Task]:
    """Tasks of the test set that notebook 03 translated and 04 wrote to `folder`; their names end
    in `-pipeline`.
    """
    tasks = group_tasks(testsets.read_test_set(folder), None, seed)
    return [replace(task, name=f"{name}-pipeline") for (name, _), task in tasks.items()]


def held_out_tasks(
    relations: list[knowledge.Relation], rows: int, seed: int, langs: Sequence[str] = ("en", "ar")
) -> list[Task]:
    """Held-out questions of the knowledge world, at most `rows` of each part and language."""
    if not rows:
        return []
    return [
        Task(part, lang, tuple(knowledge.held_out_questions(relations, lang, part, rows, seed)))
        for part in HELD_OUT_PARTS
        for lang in langs
    ]


def evaluation_plan(
    benchmarks: Iterable[Task],
    held_out: Iterable[Task],
    permuted: Iterable[Task],
    formats: Sequence[PromptFormat],
    records: Iterable[Record],
    shots: int,
    seed: int,
) -> Plan:
    """Benchmarks in every format with few-shot examples from `records`, held-out questions without
    generation, permuted items by label ranking.
    """
    records = list(records)
    plan = [
        (task, with_few_shot(fmt, task, records, shots, seed))
        for task in benchmarks
        for fmt in formats
    ]
    plan += [(task, fmt) for task in held_out for fmt in formats if fmt.protocol != "generation"]
    plan += [(task, fmt) for task in permuted for fmt in formats if fmt.protocol == "label"]
    return plan


def task_table(table: Mapping[tuple[str, str], Task], fmt: PromptFormat) -> Table:
    """One row for each task and language; the version is that of `fmt`."""
    lines = []
    for (_, lang), task in table.items():
        origin = task.split, task.revision, task_version(task, fmt), task.hash
        lines.append((task.column, lang, len(task.records), f"{task.majority:.2f}", *origin))
    columns = "task, language, n, majority key, split, revision, version, hash"
    return make_table(lines, columns)


def write_task_cards(path: Path, plan: Plan) -> None:
    """Every task with what its scores depend on: version, split, item ids, source revision, prompt
    format, hash of all samples and of each.
    """
    cards = []
    for task, fmt in plan:
        samples = {record.id: record.content_hash() for record in task.records}
        cards.append(
            {
                "task": task.name,
                "language": task.lang,
                "version": task_version(task, fmt),
                "prompt_format": fmt.name,
                "split": task.split,
                "source_revision": task.revision,
                "items": len(task.records),
                "hash": task.hash,
                "samples": samples,
            }
        )
    write_json(path, cards)
