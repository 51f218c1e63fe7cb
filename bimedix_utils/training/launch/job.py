"""A training job on disk: settings and tokenised rows, so that any process can run its share."""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ...core.errors import KitError
from ...core.files import write_json, write_json_lines
from ...core.provenance import hash_path, shown_path
from ...core.text import digest
from ..adapter_card import adapter_hash
from ..examples import Example
from ..loop import TrainingOutcome
from ..models.adapters import LORA_PARTS, resolve_targets
from ..recipe import Recipe

JOB_FILE, OUTCOME_FILE = "job.json", "outcome.json"
TRAIN_FILE, HELD_OUT_FILE = "train.jsonl", "held.jsonl"
# May change between two attempts at one job; everything else makes another job.
_CHANGEABLE = ("processes", "threads")


@dataclass(frozen=True)
class TrainingJob:
    """Settings of one job."""

    base: str | Path  # a folder or a hub id
    recipe: Recipe
    rank: int
    alpha: int
    targets: str | Iterable[str] = tuple(LORA_PARTS)
    processes: int = 1  # of all machines together
    threads: int = 1  # of one process
    parallel: str = "ddp"  # ddp: each process holds the model; fsdp: each holds a part
    rows: dict[str, str] = field(default_factory=dict)  # hashes of its files, by `write_job`

    def __post_init__(self) -> None:
        # "attention" and the names of its modules are one job.
        object.__setattr__(self, "targets", sum(resolve_targets(self.targets).values(), ()))
        if isinstance(self.base, Path):
            object.__setattr__(self, "base", str(self.base.resolve()))

    @property
    def key(self) -> str:
        """What is trained, without on how many processes."""
        return digest({**asdict(self), **dict.fromkeys(_CHANGEABLE)})

    def write(self, folder: Path) -> None:
        """Write the settings into the job's folder."""
        write_json(folder / JOB_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "TrainingJob":
        """The job of a folder; `KitError` when there is none or its rows have changed."""
        try:
            values = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
            if set(values) != {field.name for field in fields(cls)}:
                raise ValueError("written by another version of the kit")
            job = cls(**{**values, "recipe": Recipe(**values["recipe"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            where = f"{shown_path(folder)} holds no training job"
            raise KitError(f"{where} ({error}): notebook 06 writes it") from None
        for name, expected in job.rows.items():
            path = folder / name
            if not path.exists() or hash_path(path) != expected:
                fix = "remove the folder and run section 7 of notebook 06 again"
                name = shown_path(path)
                raise KitError(f"{name} is not the file the job was written with: {fix}")
        return job


@dataclass(frozen=True)
class LaunchedOutcome(TrainingOutcome):
    """The outcome of a launched training, and how it was run."""

    processes: int
    parallel: str
    devices: list[str]  # one for each process, by rank
    seconds: float  # of the training alone, without starting and loading
    tokens: int  # real tokens of the steps trained in that time, all processes together
    adapter: Path
    adapter_hash: str
    padded_tokens: list[list[int]]  # for each process, tokens with padding, step by step
    audit: list[dict[str, Any]]


def write_job(
    folder: Path, job: TrainingJob, examples: Sequence[Example], held: Sequence[Example]
) -> TrainingJob:
    """Write a job, or renew it with other processes or threads: it goes on from its checkpoints.

    Raises `KitError` when the processes cannot split a step equally, without rows, and when the
    folder holds another job, whose checkpoints would be mixed up with this one's.
    """
    job.recipe.per_process(job.processes)
    if not examples:
        raise KitError("no row is left to train on")
    found = TrainingJob.read(folder) if (folder / JOB_FILE).exists() else None
    new = {name: folder / f"{name}.new" for name in (TRAIN_FILE, HELD_OUT_FILE)}
    for path, rows in zip(new.values(), (examples, held), strict=True):
        write_json_lines(path, map(_as_json, rows))
    job = replace(job, rows={name: hash_path(path) for name, path in new.items()})
    if found and found.key != job.key:
        for path in new.values():
            path.unlink()
        names = [n for n, value in vars(job).items() if value != vars(found)[n]]
        changed = ", ".join(name for name in names if name not in _CHANGEABLE)
        where = f"{shown_path(folder)} holds another job ({changed} differ)"
        raise KitError(f"{where}: take another folder, or remove this one")
    for name, path in new.items():
        path.replace(folder / name)
    job.write(folder)
    return job


def _as_json(row: Example) -> dict[str, Any]:
    return {**vars(row), "input_ids": row.input_ids.tolist(), "labels": row.labels.tolist()}


def read_examples(folder: Path, name: str) -> list[Example]:
    """The rows of one of the job's files."""
    found = []
    with open(folder / name, encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            tokens = {key: array("i", row[key]) for key in ("input_ids", "labels")}
            found.append(Example(**{**row, **tokens}))
    return found


def read_outcome(folder: Path) -> LaunchedOutcome | None:
    """The outcome of the folder's job; None when it is not finished or its files changed."""
    try:
        values = json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
        if values.pop("job") != TrainingJob.read(folder).key:
            return None
        found = LaunchedOutcome(**{**values, "adapter": folder / values["adapter"]})
        return found if adapter_hash(found.adapter) == found.adapter_hash else None
    except (OSError, ValueError, TypeError, KitError):
        return None
