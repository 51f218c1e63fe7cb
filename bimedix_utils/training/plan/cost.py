"""Steps, floating-point operations, hours and cost of a training.

Operations are counted as in Kaplan et al. 2020 (two for each weight and token) with what LoRA
changes: a frozen matrix needs the gradient of its input but none of its own, an adapter needs both.
No training reaches the peak rate of a data sheet, and the reached share was not measured on any GPU
here: hours are a range between two assumed shares.
"""

import json
import math
import re
from dataclasses import dataclass

from ...core.errors import InputError
from ...core.provenance import run_folder, shown_path
from ...sources.composition import COMPOSITION, paper_composition
from ..models.adapters import resolve_targets
from .setup import Gpu, TrainingSetup
from .shape import Shape

UTILISATION = (0.15, 0.40)  # assumed shares of the data sheet's dense bfloat16 rate
Range = tuple[float, float] | None


@dataclass(frozen=True)
class EpochRows:
    """How much one epoch reads, and where the number comes from."""

    rows: int
    tokens: int
    source: str

    @property
    def mean(self) -> float:
        """Tokens in a row."""
        return self.tokens / self.rows


def epoch_rows(mode: str, run: str = "", tokens_per_row: float | None = None) -> EpochRows | None:
    """Rows and tokens of an epoch by notebook 05's manifest, else by the paper's stated totals.

    None: a small mode without a manifest. `tokens_per_row`: an assumed mean length. Raises
    `InputError` when a source holds no rows.
    """
    manifest = run_folder(mode, run) / "05_build_bilingual_mix" / "bimed" / "manifest.json"
    if manifest.exists():
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        rows, source = facts["splits"]["train"], shown_path(manifest)
        tokens = round(sum(part["tokens"] or 0 for part in facts["tokens"]["languages"]))
    elif mode in ("smoke", "laptop") and tokens_per_row is None:
        return None
    else:
        rows, tokens = _stated("BiMed1.3M total"), _stated("BiMed1.3M tokens")
        source = "the paper's rows and tokens (data/paper/composition.csv)"
    if tokens_per_row is not None:
        tokens = round(rows * tokens_per_row)
        source = f"rows: {source}; ASSUMED {tokens_per_row:g} tokens a row"
    if rows < 1 or tokens < 1:
        raise InputError(f"{source}: no rows or no tokens to plan with; give --tokens-per-row")
    return EpochRows(rows, tokens, source)


def _stated(part: str) -> int:
    """A total that data/paper states in millions, such as '~1.311M'."""
    text = {row.component: row.samples for row in paper_composition()}[part]
    match = re.fullmatch(r"~?([\d.]+)M", text)
    if not match:
        raise InputError(f"{shown_path(COMPOSITION)}: {part} is {text!r}, not a number of millions")
    return round(float(match[1]) * 1e6)


def flops_per_token(shape: Shape, setup: TrainingSetup, row: float) -> dict[str, float]:
    """Operations for one token of a row of `row` tokens, by pass.

    Causal attention reads half the row on average; its two matmuls cost twice in the backward pass.
    The loss head is counted for all tokens: an upper bound when only answers are trained on.
    """
    adapted = [name for names in resolve_targets(setup.targets).values() for name in names]
    active = adapter = 0
    for name, (a, b) in shape.matrices.items():
        times = shape.layers * (shape.per_token if name in ("w1", "w2", "w3") else 1)
        active += times * a * b
        adapter += times * setup.rank * (a + b) if name in adapted else 0
    attention = 2 * 2 * shape.layers * shape.queries * row / 2
    head = 2 * shape.vocabulary * shape.hidden
    layers = 2 * (active + adapter) + attention
    # A frozen matrix: 2 forward, 2 for the gradient of its input. An adapter: 2 more for its own.
    return {
        "forward": layers + head,
        "backward": 2 * active + 4 * adapter + 2 * attention + head,
        "recomputed forward": layers if setup.recipe.checkpointing else 0.0,
    }


def optimiser_steps(setup: TrainingSetup, rows: EpochRows) -> int:
    """MAX_STEPS, or the steps of EPOCHS; padding is not known beforehand and is not counted."""
    recipe = setup.recipe
    return recipe.max_steps or math.ceil(rows.tokens / recipe.token_budget) * recipe.epochs


def tokens_read(setup: TrainingSetup, rows: EpochRows) -> int:
    """Tokens that all steps read."""
    most = optimiser_steps(setup, rows) * setup.recipe.token_budget
    return most if setup.recipe.max_steps else min(most, rows.tokens * setup.recipe.epochs)


def _hours(shape: Shape, setup: TrainingSetup, rows: EpochRows, device: Gpu) -> float:
    """Hours for one token on `setup.gpus` GPUs at their full rate."""
    work = sum(flops_per_token(shape, setup, rows.mean).values())
    return work / ((device.tflops or 0) * 1e12 * setup.gpus) / 3600


def training_hours(shape: Shape, setup: TrainingSetup, rows: EpochRows, device: Gpu) -> Range:
    """(fewest, most) hours at the assumed shares of a GPU's rate; None when it is not found."""
    if not device.tflops:
        return None
    ideal = tokens_read(setup, rows) * _hours(shape, setup, rows, device)
    return ideal / UTILISATION[1], ideal / UTILISATION[0]


def training_cost(hours: Range, gpus: int, price: float | None) -> Range:
    """(least, most) US dollars at the price of one GPU's hour; None when either is not found."""
    if hours is None or price is None:
        return None
    return hours[0] * gpus * price, hours[1] * gpus * price


def steps_in(
    span: float, shape: Shape, setup: TrainingSetup, rows: EpochRows, device: Gpu
) -> int | None:
    """Optimiser steps in `span` hours at the lower rate; None: the rate is not found."""
    if not device.tflops:
        return None
    ideal = setup.recipe.token_budget * _hours(shape, setup, rows, device)
    return int(span * UTILISATION[0] / ideal)
