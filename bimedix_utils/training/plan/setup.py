"""What a plan is asked about: the settings of notebook 06 that decide memory, steps and time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import ParameterError
from ..models import LORA_PARTS, resolve_targets

OPTIMISERS = ("adamw", "paged_adamw_8bit")
PARALLEL = ("ddp", "fsdp")


@dataclass(frozen=True)
class Setup:
    """One training as planned. Tokens count padding; `gpu` names a line of data/gpus.csv, empty for
    a CPU in float32.
    """

    model: str
    rank: int
    parts: tuple[str, ...] = tuple(LORA_PARTS)
    epochs: int = 1
    max_steps: int = 0  # 0: by epochs
    step_tokens: int = 8192  # one optimiser step, over all processes
    micro_tokens: int = 2048  # one forward pass of one process
    row_tokens: int = 2048  # the longest row
    optimiser: str = "adamw"
    checkpointing: bool = False
    gpus: int = 1
    gpu: str = ""
    parallel: str = "ddp"

    def __post_init__(self) -> None:
        legal = {"optimiser": OPTIMISERS, "parallel": PARALLEL}
        for name, values in legal.items():
            if getattr(self, name) not in values:
                raise ParameterError(
                    f"{name.upper()} = {getattr(self, name)!r}; wanted one of {' | '.join(values)}"
                )
        resolve_targets(self.parts)
        for name in ("rank", "epochs", "step_tokens", "micro_tokens", "row_tokens", "gpus"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} = {getattr(self, name)}; wanted 1 or more")

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the forward pass: bfloat16 on a GPU, float32 on a CPU (see
        `models.load_base`).
        """
        return 2 if self.gpu else 4

    @property
    def pass_tokens(self) -> int:
        """Tokens of the largest forward pass: a row longer than MICRO_TOKENS makes a pass of its
        own.
        """
        return max(self.micro_tokens, self.row_tokens)

    @property
    def accumulation(self) -> int:
        """Forward passes of one process in one optimiser step."""
        return max(1, math.ceil(self.step_tokens / (self.micro_tokens * self.gpus)))


def setup_of(values: Mapping[str, Any]) -> Setup:
    """The setup that notebook 06's parameters describe. Raises `ParameterError` for one that is
    missing or not legal.
    """
    names = (
        "MODEL",
        "LORA_RANK",
        "LORA_TARGETS",
        "EPOCHS",
        "MAX_STEPS",
        "TOKEN_BUDGET",
        "MICRO_TOKENS",
        "MAX_TOKENS",
        "OPTIMISER",
        "CHECKPOINTING",
    )
    missing = [name for name in (*names, "GPUS", "GPU", "PARALLEL") if name not in values]
    if missing:
        raise ParameterError(
            f"a plan needs {', '.join(missing)}: add them to section 06_finetune_qlora of the"
            " preset"
        )
    if values["CHECKPOINTING"] not in ("yes", "no"):
        raise ParameterError(f"CHECKPOINTING = {values['CHECKPOINTING']!r}; wanted yes | no")
    return Setup(
        model=str(values["MODEL"]),
        rank=values["LORA_RANK"],
        parts=tuple(values["LORA_TARGETS"].replace(",", " ").split()),
        epochs=values["EPOCHS"],
        max_steps=max(0, values["MAX_STEPS"]),
        step_tokens=values["TOKEN_BUDGET"],
        micro_tokens=values["MICRO_TOKENS"],
        row_tokens=values["MAX_TOKENS"],
        optimiser=values["OPTIMISER"],
        checkpointing=values["CHECKPOINTING"] == "yes",
        gpus=values["GPUS"],
        gpu=values["GPU"],
        parallel=values["PARALLEL"],
    )
