"""What a plan is asked about: the model, its adapters, the recipe, and the GPUs it runs on.

GPUs come by name from data/gpus.csv, which the user edits. A number that no source states is
written `not found` there and is None here.
"""

import csv
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...core.errors import InputError, ParameterError
from ...core.provenance import ROOT, shown_path
from ...sources.catalogue import NOT_FOUND
from ..models.adapters import LORA_PARTS, resolve_targets
from ..recipe import RECIPE_PARAMETERS, Recipe

GPU_TABLE = ROOT / "data" / "gpus.csv"
GB = 10**9  # data sheets do not say which gigabyte they mean; the smaller one is the safe reading
# Field of a setup -> parameter of notebook 06; the recipe's parameters come beside them.
OWN_PARAMETERS = {
    **{"model": "MODEL", "rank": "LORA_RANK", "targets": "LORA_TARGETS", "gpus": "GPUS"},
    **{"max_tokens": "MAX_TOKENS", "gpu": "GPU", "parallel": "PARALLEL"},
}
_LEGAL = {
    "OPTIMISER": ("adamw", "paged_adamw_8bit"),
    "CHECKPOINTING": ("yes", "no"),
    "PARALLEL": ("ddp", "fsdp"),
}


@dataclass(frozen=True)
class Gpu:
    """One line of data/gpus.csv."""

    name: str
    memory_gb: float
    tflops: float | None  # dense bfloat16
    bandwidth: float | None  # GB/s
    usd_per_hour: float | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory in bytes."""
        return int(self.memory_gb * GB)


_NUMBERS = ("memory_gb", "bfloat16_dense_tflops", "bandwidth_gb_per_s", "usd_per_hour")
_COLUMNS = ("name", *_NUMBERS, "source", "date")


def read_gpus(table: Path = GPU_TABLE) -> list[Gpu]:
    """All GPUs, smallest memory first; `InputError` for other columns or a bad number."""
    with open(table, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise InputError(f"{shown_path(table)}: the columns must be {', '.join(_COLUMNS)}")
        rows = list(reader)

    def number(row: dict[str, str], column: str) -> float | None:
        text = row[column]
        if text == NOT_FOUND:
            return None
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = -1.0
        if not 0 <= value < math.inf:
            cell = f"{shown_path(table)}: {row['name']}, {column}: {text!r}"
            raise InputError(f"{cell} is not a number; write {NOT_FOUND!r} for an unknown one")
        return value

    found = []
    for row in rows:
        memory, *others = (number(row, column) for column in _NUMBERS)
        if not memory:
            raise InputError(f"{shown_path(table)}: {row['name']}: a plan needs its memory_gb")
        found.append(Gpu(row["name"], memory, *others, row["source"]))
    return sorted(found, key=lambda gpu: gpu.memory_gb)


def find_gpu(name: str, table: Path = GPU_TABLE) -> Gpu:
    """The GPU of a name. Raises `InputError` that lists the known ones."""
    known = {gpu.name: gpu for gpu in read_gpus(table)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = f"{hint}known: {', '.join(known)}; or add a line with its data sheet's numbers"
        raise InputError(f"no GPU {name!r} in {shown_path(table)}; {names}")
    return known[name]


@dataclass(frozen=True)
class TrainingSetup:
    """One training as planned."""

    model: str
    rank: int
    recipe: Recipe
    targets: tuple[str, ...] = tuple(LORA_PARTS)
    max_tokens: int = 2048  # the longest row
    gpus: int = 1
    gpu: str = ""  # a line of data/gpus.csv; empty: a CPU in float32
    parallel: str = "ddp"
    # Positions that the loss head computes at once. None, all of them, is an upper bound for the
    # kit's head, which reads answers only, in chunks.
    head_tokens: int | None = None

    def __post_init__(self) -> None:
        resolve_targets(self.targets)  # refuses unknown ones
        sizes = {name: getattr(self, name) for name in ("rank", "max_tokens", "gpus")}
        recipe = {name: getattr(self.recipe, name) for name in ("epochs", "micro_tokens")}
        for name, value in (sizes | recipe).items():
            if value < 1:
                raise ParameterError(f"{name} = {value}; must be 1 or more")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainingSetup":
        """The setup in notebook 06's parameters; `ParameterError` for a missing or illegal one."""
        missing = [n for n in (*OWN_PARAMETERS.values(), *RECIPE_PARAMETERS) if n not in values]
        if missing:
            fix = "add them to section 06_finetune_qlora of the preset"
            raise ParameterError(f"a plan needs {', '.join(missing)}: {fix}")
        for name, legal in _LEGAL.items():
            if values[name] not in legal:
                raise ParameterError(f"{name} = {values[name]!r}; must be {' | '.join(legal)}")
        own = {field: values[name] for field, name in OWN_PARAMETERS.items()}
        targets = str(own["targets"]).replace(",", " ").split()
        return cls(**{**own, "targets": tuple(targets)}, recipe=Recipe.of(values))

    def changed(self, **changes: Any) -> "TrainingSetup":
        """This setup with other values; fields of the recipe are named like its own."""
        own = {field.name for field in fields(self)}
        recipe = {name: changes.pop(name) for name in {*changes} - own}
        return replace(self, **{"recipe": replace(self.recipe, **recipe), **changes})

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the forward pass: bfloat16 on a GPU, float32 on a CPU."""
        return 2 if self.gpu else 4

    @property
    def pass_tokens(self) -> int:
        """Tokens of the largest forward pass: a row longer than MICRO_TOKENS is one of its own."""
        return max(self.recipe.micro_tokens, self.max_tokens)

    @property
    def accumulation(self) -> int:
        """Forward passes of one process in one optimiser step, rounded up."""
        return math.ceil(self.recipe.token_budget / (self.recipe.micro_tokens * self.gpus))
