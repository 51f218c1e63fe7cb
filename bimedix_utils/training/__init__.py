"""QLoRA fine-tuning: rows to tokens, planned steps, the run and its checkpoints, the adapter's card."""

from .batches import plan
from .card import adapter_hash, model_card
from .checkpoints import CheckpointError
from .data import IGNORED, Example, encode, usable
from .loop import Outcome, train
from .recipe import Recipe
from .watch import TrainingError

__all__ = [
    "IGNORED",
    "CheckpointError",
    "Example",
    "Outcome",
    "Recipe",
    "TrainingError",
    "adapter_hash",
    "encode",
    "model_card",
    "plan",
    "train",
    "usable",
]
