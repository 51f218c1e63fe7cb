"""The divergence monitor: a training that fails ends at once, with its reason and its last good
checkpoint.
"""

import math
from typing import Any

from ..core.errors import KitError

_WINDOW = 20  # steps whose mean loss is compared
_RATIO = 1.5  # a mean this many times the first one is not noise


class TrainingError(KitError):
    """The loss is NaN or infinite, or far above its first values."""


class DivergenceMonitor:
    """Checks every log entry; raises `TrainingError` naming the step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def check(self, entry: dict[str, Any]) -> None:
        """One log entry: all its numbers must be finite, and its loss, if any, not diverge."""
        for name in ("loss", "grad_norm", "eval_loss"):
            value = entry.get(name, 0.0)
            if not math.isfinite(value):
                raise TrainingError(
                    f"step {entry['step']}: {name} is {value}: lower LEARNING_RATE, or look for a"
                    " damaged row in that step"
                )
        if "loss" not in entry:
            return
        self.losses.append(entry["loss"])
        first, now = sum(self.losses[:_WINDOW]) / _WINDOW, sum(self.losses[-_WINDOW:]) / _WINDOW
        if len(self.losses) >= 2 * _WINDOW and now > _RATIO * first:
            raise TrainingError(
                f"step {entry['step']}: the loss diverges, {first:.2f} over the first {_WINDOW}"
                f" steps and {now:.2f} over the last: lower LEARNING_RATE"
            )
