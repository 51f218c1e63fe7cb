"""The settings of one training run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import KitError

# Parameter of notebook 06 -> field; in a notebook "yes" and "no" stand for True and False.
RECIPE_PARAMETERS = {
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
    """Settings of one training run. Token counts include padding, of all processes together."""

    learning_rate: float
    epochs: int
    token_budget: int  # most tokens of one optimiser step
    micro_tokens: int  # most tokens of one micro-batch (one forward pass)
    seed: int
    save_steps: int  # optimiser steps between checkpoints and held-out losses
    max_steps: int = 0  # optimiser steps; 0: as many as `epochs` gives
    warmup: float = 0.05  # share of the steps in which the learning rate rises
    packing: bool = False  # rows behind each other in one sequence, kept apart by an exact mask
    keep_best: bool = False  # end with the checkpoint of the lowest held-out loss, not the last
    optimiser: str = "adamw"  # or paged_adamw_8bit, on a GPU
    checkpointing: bool = False  # recompute activations: less memory, a third more time
    # Compute dtype of the matmuls on a CPU: float32, bfloat16 or auto. Trainable parameters and
    # their gradients are always float32.
    compute: str = "float32"

    def __post_init__(self) -> None:
        if self.micro_tokens > self.token_budget:
            raise KitError(
                f"MICRO_TOKENS {self.micro_tokens} is more than TOKEN_BUDGET {self.token_budget}:"
                " an optimiser step holds one or more whole micro-batches"
            )

    @property
    def micro_batches(self) -> int:
        """Micro-batches in one optimiser step, of all processes together."""
        return max(1, round(self.token_budget / self.micro_tokens))

    def per_process(self, processes: int) -> int:
        """Micro-batches of one process in one optimiser step.

        Raises `KitError` when they cannot be split equally: some processes would compute an empty
        micro-batch in every step.
        """
        if self.micro_batches % processes:
            n = -(-self.micro_batches // processes) * processes
            raise KitError(
                f"TOKEN_BUDGET {self.token_budget} / MICRO_TOKENS {self.micro_tokens} is"
                f" {self.micro_batches} micro-batches a step, which {processes} processes cannot"
                f" split equally: set MICRO_TOKENS = {self.token_budget // n} for the same batch,"
                f" or TOKEN_BUDGET = {self.micro_tokens * n}"
            )
        return self.micro_batches // processes

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe in a notebook's parameters."""
        words = {"yes": True, "no": False}
        fields = {field: values[name] for name, field in RECIPE_PARAMETERS.items()}
        return cls(**{k: words.get(v, v) if isinstance(v, str) else v for k, v in fields.items()})
