"""A training that has gone wrong should end at once, say so, and leave its last good checkpoint."""

import math
from typing import Any

from ..core.errors import KitError

WINDOW = 20  # steps whose mean loss is compared
DIVERGED = 1.5  # a mean this many times the first one is no noise


class TrainingError(KitError):
    """The loss is not a number, or has grown far above where it began."""


class DivergenceMonitor:
    """Sees every log entry; raises `TrainingError` naming the step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def see(self, entry: dict[str, Any]) -> None:
        """One entry of the log. Entries without a training loss are checked for being numbers only."""
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
        first, now = (sum(part) / WINDOW for part in (self.losses[:WINDOW], self.losses[-WINDOW:]))
        if len(self.losses) >= 2 * WINDOW and now > DIVERGED * first:
            raise TrainingError(
                f"step {entry['step']}: the loss diverges, {first:.2f} over the first {WINDOW}"
                f" steps and {now:.2f} over the last: lower LEARNING_RATE"
            )
