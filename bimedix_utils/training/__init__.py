"""QLoRA fine-tuning: rows to tokens, the training run, the adapter's card."""

from .card import adapter_hash, model_card
from .data import IGNORED, Example, encode, usable
from .loop import Recipe, TokenBudgetSampler, pad, train

__all__ = ["IGNORED", "Example", "Recipe", "TokenBudgetSampler", "adapter_hash", "encode", "model_card", "pad", "train", "usable"]
