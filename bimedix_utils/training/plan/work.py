"""Steps, floating-point operations, hours and cost of a training.

Counting follows Kaplan et al. 2020 (two operations for each weight and token) with what LoRA
changes: a frozen matrix needs the gradient of its input but none of its own, an adapter needs both.
The peak rate of a data sheet is never reached, and which share is reached was not measured on any
GPU here: hours are a range between two assumed shares.
"""

import json
import math
import re
from dataclasses import dataclass

from ...core.errors import InputError
from ...core.provenance import run_folder, shown_path
from ...sources.composition import COMPOSITION, paper_composition
from .hardware import Gpu
from .setup import Setup
from .shape import Shape

UTILISATION = (0.15, 0.40)  # assumed shares of the data sheet's dense bfloat16 rate
SMALL = ("smoke", "laptop")


@dataclass(frozen=True)
class Rows:
    """How much is read in one epoch, and where the number comes from."""

    rows: int
    tokens: int
    source: str

    @property
    def mean(self) -> float:
        """Tokens in a row."""
        return self.tokens / self.rows


def rows_of(mode: str, run: str = "", tokens_per_row: float | None = None) -> Rows | None:
    """Rows and tokens of an epoch: notebook 05's manifest of this run if there is one, else the
    paper's stated totals.

    Small modes never read the paper's rows: without a manifest they get None. `tokens_per_row`
    replaces the mean length by an assumed one, in any mode. Raises `InputError` when a source holds
    no rows.
    """
    manifest = run_folder(mode, run) / "05_build_bilingual_mix" / "bimed" / "manifest.json"
    if manifest.exists():
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        rows, tokens, source = (
            facts["splits"]["train"],
            round(sum(part["tokens"] or 0 for part in facts["tokens"]["languages"])),
            shown_path(manifest),
        )
    elif mode in SMALL and tokens_per_row is None:
        return None
    else:
        rows, tokens, source = _paper()
    if tokens_per_row is not None:
        tokens, source = (
            round(rows * tokens_per_row),
            f"rows: {source}; ASSUMED {tokens_per_row:g} tokens a row",
        )
    if rows < 1 or tokens < 1:
        raise InputError(f"{source}: no rows or no tokens to plan with; give --tokens-per-row")
    return Rows(rows, tokens, source)


def _paper() -> tuple[int, int, str]:
    """The paper's rows and tokens as data/paper states them, such as '~1.311M' and '632.3M'."""
    printed = {part.component: part.samples for part in paper_composition(COMPOSITION)}

    def stated(part: str) -> int:
        match = re.fullmatch(r"~?([\d.]+)M", printed[part])
        if not match:
            raise InputError(
                f"{shown_path(COMPOSITION)}: {part} is {printed[part]!r}, not a number of millions"
            )
        return round(float(match[1]) * 1e6)

    return (
        stated("BiMed1.3M total"),
        stated("BiMed1.3M tokens"),
        "the paper's rows and tokens (data/paper/composition.csv)",
    )


def flops_per_token(shape: Shape, setup: Setup, row: float) -> dict[str, float]:
    """Operations for one token of a row of `row` tokens: forward, backward and, with checkpointing,
    the second forward pass.

    Causal attention reads half the row on average; its two products cost twice in the backward
    pass. The loss head is counted for all tokens, an upper bound when only answers are learned.
    """
    active = sum(
        shape.layers
        * (shape.per_token if part == "experts" else 1)
        * sum(a * b for a, b in shape.matrices(part))
        for part in ("attention", "router", "experts")
    )
    adapter = sum(
        shape.layers
        * (shape.per_token if part == "experts" else 1)
        * sum(setup.rank * (a + b) for a, b in shape.matrices(part))
        for part in setup.parts
    )
    attention = 2 * 2 * shape.layers * shape.queries * row / 2
    head = 2 * shape.vocabulary * shape.hidden
    layers = 2 * (active + adapter) + attention
    return {
        "forward": layers + head,
        "backward": 2 * active + 4 * adapter + 2 * attention + head,
        "recomputed forward": layers if setup.checkpointing else 0.0,
    }


def steps(setup: Setup, rows: Rows) -> int:
    """Optimiser steps: MAX_STEPS, or those of EPOCHS. Padding is not known beforehand and is not
    counted.
    """
    return setup.max_steps or math.ceil(rows.tokens / setup.step_tokens) * setup.epochs


def tokens_read(setup: Setup, rows: Rows) -> int:
    """Tokens that all steps read."""
    return (
        min(steps(setup, rows) * setup.step_tokens, rows.tokens * setup.epochs)
        if not setup.max_steps
        else (setup.max_steps * setup.step_tokens)
    )


def hours(shape: Shape, setup: Setup, rows: Rows, device: Gpu) -> tuple[float, float] | None:
    """(fewest, most) hours on `setup.gpus` of a GPU, at the assumed shares of its rate; None when
    its rate is not found.
    """
    if not device.tflops:
        return None
    work = sum(flops_per_token(shape, setup, rows.mean).values()) * tokens_read(setup, rows)
    low, high = (
        work / (device.tflops * 1e12 * share * setup.gpus) / 3600 for share in reversed(UTILISATION)
    )
    return low, high


def cost(
    time: tuple[float, float] | None, setup: Setup, price: float | None
) -> tuple[float, float] | None:
    """(least, most) US dollars at the price of one GPU's hour; None when time or price is not
    found.
    """
    return (
        None
        if time is None or price is None
        else (time[0] * setup.gpus * price, time[1] * setup.gpus * price)
    )


def steps_in(span: float, shape: Shape, setup: Setup, rows: Rows, device: Gpu) -> int | None:
    """Optimiser steps that `span` hours hold at the lower assumed rate; None when the GPU's rate is
    not found.
    """
    if not device.tflops:
        return None
    work = sum(flops_per_token(shape, setup, rows.mean).values()) * setup.step_tokens
    return int(span * 3600 * device.tflops * 1e12 * UTILISATION[0] * setup.gpus / work)
