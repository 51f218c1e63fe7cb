"""QLoRA fine-tuning: rows to tokens, planned steps, the run and its checkpoints, the adapter's
card.
"""

from .batches import plan_steps
from .card import adapter_hash, model_card
from .checkpoints import CheckpointError
from .divergence import TrainingError
from .examples import (
    IGNORE_INDEX,
    Example,
    decode_rows,
    encode_record,
    filter_long_rows,
    token_table,
)
from .loop import TrainingOutcome, train
from .measure import answer_loss
from .recipe import Recipe
