"""The settings of one training run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import KitError

# Parameter of notebook 06 -> field; in a notebook "yes" and "no" stand for True and False.
PARAMETERS = {
    "LEARNING_RATE": "learning_rate",
    "EPOCHS": "epochs",
    "MAX_STEPS": "max_steps",
    "TOKEN_BUDGET": "token_budget",
    "MICRO_TOKENS": "micro_tokens",
    "PACKING": "packing",
    "SAVE_STEPS": "save_steps",
    "KEEP_BEST": "keep_best",
    "OPTIMISER": "optimiser",
    "CHECKPOINTING": "checkpointing",
    "COMPUTE": "compute",
    "SEED": "seed",
}


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. Tokens are counted with padding, over all processes together."""

    learning_rate: float
    epochs: int  # passes over the rows
    token_budget: int  # most tokens of one optimiser step
    micro_tokens: int  # most tokens of one forward pass
    seed: int
    save_steps: int  # optimiser steps between checkpoints; the held-out loss is measured there too
    max_steps: int = 0  # optimiser steps; 0: as many as `epochs` gives
    warmup: float = 0.05  # share of the steps in which the rate rises
    packing: bool = False  # rows one behind the other in one sequence, kept apart by an exact mask
    keep_best: bool = (
        False  # end with the checkpoint of the lowest held-out loss instead of the last
    )
    optimiser: str = "adamw"  # or paged_adamw_8bit, on a GPU
    checkpointing: bool = False  # recompute activations: less memory, a third more time
    # on a processor, of the products: or bfloat16, or auto. What learns and its gradients are
    # float32 always
    compute: str = "float32"

    def __post_init__(self) -> None:
        if self.micro_tokens > self.token_budget:
            raise KitError(
                f"MICRO_TOKENS {self.micro_tokens} is more than TOKEN_BUDGET {self.token_budget}: a"
                " step holds whole forward passes"
            )

    @property
    def passes(self) -> int:
        """Forward passes in one optimiser step, all processes together."""
        return max(1, round(self.token_budget / self.micro_tokens))

    def per_process(self, processes: int) -> int:
        """Forward passes of one process in one optimiser step.

        Raises `KitError` when the passes do not divide among the processes: some would compute an
        empty pass in every step.
        """
        if self.passes % processes:
            whole = -(-self.passes // processes) * processes
            raise KitError(
                f"TOKEN_BUDGET {self.token_budget} / MICRO_TOKENS {self.micro_tokens} is"
                f" {self.passes} forward passes a step, which {processes} processes cannot share"
                f" equally: set MICRO_TOKENS = {self.token_budget // whole} for the same batch, or"
                f" TOKEN_BUDGET = {self.micro_tokens * whole}"
            )
        return self.passes // processes

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe in a notebook's parameters."""
        read = {field: values[name] for name, field in PARAMETERS.items()}
        return cls(
            **{
                field: value == "yes" if value in ("yes", "no") else value
                for field, value in read.items()
            }
        )
