"""QLoRA fine-tuning: rows to tokens, planned steps, the run and its checkpoints, the adapter's
card.
"""

from .batches import plan_batches
from .card import adapter_hash, model_card
from .checkpoints import CheckpointError
from .data import IGNORED, Example, encode, learned, token_table, usable
from .loop import Outcome, train
from .measure import answer_loss
from .recipe import Recipe
from .watch import TrainingError
