"""QLoRA fine-tuning: rows to tokens, planned steps, the run and its checkpoints, the adapter's
card.
"""

from .adapter_card import adapter_hash, write_adapter_card
from .batches import plan_steps
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
from .launch import LaunchedOutcome, TrainingJob, launch_training, read_outcome, run_job, write_job
from .loop import TrainingOutcome, train
from .measure import answer_loss
from .models import setup_torch
from .plan import (
    DevicePlan,
    EpochRows,
    Gpu,
    ParameterCount,
    PeakMemory,
    Shape,
    TrainingPlan,
    TrainingSetup,
    count_on_meta,
    epoch_rows,
    find_config,
    find_gpu,
    memory_figure,
    peak_memory,
    plan_device,
    plan_training,
    read_gpus,
    remedies,
)
from .recipe import Recipe
