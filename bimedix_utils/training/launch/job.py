"""A training job on disk: settings and tokenised rows, so that any process can run its share
without a notebook.
"""

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...core.errors import KitError
from ...core.files import write_json, write_json_lines
from ...core.provenance import hash_path, shown_path
from ...core.text import digest
from .. import Example, Recipe, TrainingOutcome, adapter_hash
from ..models import LORA_PARTS, resolve_targets

SETTINGS, OUTCOME, ROWS, HELD = "job.json", "outcome.json", "train.jsonl", "held.jsonl"
MEETS = (
    "processes",
    "threads",
)  # may change between two attempts at one job; everything else makes another job


@dataclass(frozen=True)
class Job:
    """Settings of one job. `processes` counts those of all machines together; `rows` are hashes of
    the row files.
    """

    base: str  # a folder or a hub id
    recipe: Recipe
    rank: int
    alpha: int
    parts: tuple[str, ...]
    parallel: str  # ddp: each process holds the model; fsdp: each holds a part
    processes: int
    threads: int  # of one process
    rows: dict[str, str]

    @property
    def key(self) -> str:
        """What is trained, without on how many processes."""
        return digest({**vars(self), "recipe": vars(self.recipe), **dict.fromkeys(MEETS)})

    def write(self, folder: Path) -> None:
        write_json(folder / SETTINGS, {**vars(self), "recipe": vars(self.recipe)})

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job of a folder. Raises `KitError` when there is none, or when its rows are not those
        it was written with.
        """
        try:
            values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            if set(values) != {field.name for field in fields(cls)}:
                raise ValueError("written by another version of the kit")
            job = cls(
                **{**values, "recipe": Recipe(**values["recipe"]), "parts": tuple(values["parts"])}
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise KitError(
                f"{shown_path(folder)} holds no training job ({error}): write it with launch.prepare"
            ) from None
        for name, wanted in job.rows.items():
            path = folder / name
            if not path.exists() or hash_path(path) != wanted:
                raise KitError(
                    f"{shown_path(path)} is not the file the job was written with: write the job anew"
                    " with launch.prepare"
                )
        return job


@dataclass(frozen=True)
class Launched(TrainingOutcome):
    """The outcome of a launched training, and how it was run."""

    processes: int
    parallel: str
    devices: list[str]  # one for each process, by rank
    seconds: float  # of the training alone, without starting and loading
    tokens: int  # real tokens of the steps trained in that time, all processes together
    adapter: Path
    adapter_hash: str
    shares: list[
        list[int]
    ]  # for each process, tokens with padding of its forward passes, step by step
    audit: list[dict[str, Any]]


def prepare(
    folder: Path,
    base: str | Path,
    examples: Sequence[Example],
    held: Sequence[Example],
    recipe: Recipe,
    rank: int,
    alpha: int,
    parts: str | Sequence[str] = tuple(LORA_PARTS),
    processes: int = 1,
    threads: int = 1,
    parallel: str = "ddp",
) -> Job:
    """Write a job, or find it written already; the same job with other processes or threads goes on
    from its checkpoints.

    Raises `KitError` when the passes of a step do not divide among the processes, without rows, and
    when the folder holds another job, whose checkpoints would be mixed up with this one's.
    """
    recipe.per_process(processes)
    if not examples:
        raise KitError("no row is left to train on")
    folder.mkdir(parents=True, exist_ok=True)
    found = Job.read(folder) if (folder / SETTINGS).exists() else None
    for name, rows in ((ROWS, examples), (HELD, held)):
        lines = (
            {**vars(row), "input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()}
            for row in rows
        )
        write_json_lines(folder / (name + ".new"), lines)
    written = {name: hash_path(folder / (name + ".new")) for name in (ROWS, HELD)}
    modules = sum(resolve_targets(parts).values(), ())  # "attention" and its modules: one job
    place = str(base.resolve()) if isinstance(base, Path) else base
    job = Job(place, recipe, rank, alpha, modules, parallel, processes, threads, written)
    if found and found.key != job.key:
        for name in (ROWS, HELD):
            (folder / (name + ".new")).unlink()
        changed = [
            name
            for name, value in vars(job).items()
            if name not in MEETS and value != vars(found)[name]
        ]
        raise KitError(
            f"{shown_path(folder)} holds another job ({', '.join(changed)} differ): take another folder,"
            " or remove this one"
        )
    for name in (ROWS, HELD):
        (folder / (name + ".new")).replace(folder / name)
    job.write(folder)
    return job


def examples(folder: Path, name: str) -> list[Example]:
    """The rows of one of the job's files."""
    with open(folder / name, encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [
            Example(
                **{
                    **row,
                    "input_ids": array("i", row["input_ids"]),
                    "labels": array("i", row["labels"]),
                }
            )
            for row in rows
        ]


def outcome(folder: Path) -> Launched | None:
    """What came of the folder's job, or None when it was not finished, or when the outcome or the
    adapter is another's.
    """
    try:
        values = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        if values.pop("job") != Job.read(folder).key:
            return None
        found = Launched(**{**values, "adapter": folder / values["adapter"]})
        return found if adapter_hash(found.adapter) == found.adapter_hash else None
    except (OSError, ValueError, TypeError, KitError):
        return None
