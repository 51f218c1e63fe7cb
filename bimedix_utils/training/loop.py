"""One training run, from the first step or from the last good checkpoint."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import KitError
from . import checkpoints
from .batches import plan_steps
from .divergence import DivergenceMonitor
from .examples import Example
from .recipe import Recipe

_SCHEDULE = {
    "lr_scheduler_type": "cosine",
    "adam_beta2": 0.99,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
# 0.99: the usual 0.999 would remember the first of a few hundred steps to the end.
PARALLEL = ("ddp", "fsdp")
COMPUTE = ("auto", "float32", "bfloat16")
OPTIMISERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run did. `log` holds an entry for each step (`loss`, `grad_norm`, `learning_rate`) and
    for each held-out `eval_loss`.
    """

    log: list[dict[str, Any]]
    steps: int
    resumed_at: int  # the step of the checkpoint it went on from; 0: from the beginning
    refused: list[str]  # checkpoints that were damaged or unfinished, with the reason
    best_step: int | None  # the checkpoint it ends with, when it keeps the best


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    held: Sequence[Example],
    recipe: Recipe,
    folder: Path,
    every: Callable[[list[dict]], None] | None = None,
    parallel: str = "ddp",
) -> TrainingOutcome:
    """Train the adapters of `model`. Checkpoints, `metrics.jsonl` and TensorBoard files go to
    `folder`; a run killed there goes on.

    The steps are the same ones an unbroken run takes, and so is the adapter, to the last bit, on
    the same machine and number of threads. `every` gets the log after each entry. Started by
    torchrun, every process calls this with the same arguments; `parallel` says how they work
    together: `ddp` (each holds the whole model) or `fsdp` (each holds a part). Raises `KitError`
    without rows or when the passes of a step do not divide among the processes, and `TrainingError`
    when the loss is no number or grows far above where it began.
    """
    import torch
    from transformers import PrinterCallback

    from . import fast_lora, sharded
    from .trainer import Metrics, StepTrainer

    steps = plan_steps([len(e.input_ids) for e in examples], recipe)
    arguments = _arguments(recipe, len(steps), bool(held), folder, parallel)
    recipe.per_process(arguments.world_size)
    pad = (
        tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    )  # never seen: it only fills rows up
    trainer = StepTrainer(examples, held, steps, recipe, pad, model=model, args=arguments)
    if parallel == "fsdp" and not trainer.is_fsdp_enabled:
        # accelerate falls back to whole models on processors, and says nothing.
        raise KitError(
            "PARALLEL = fsdp shards a model over GPUs, and there are none here: take PARALLEL = ddp"
        )
    trainer.remove_callback(PrinterCallback)  # it would print every log entry into the notebook
    trainer.add_callback(Metrics(folder / "metrics.jsonl", DivergenceMonitor(), every))
    last, refused = _agreed(
        checkpoints.latest_checkpoint(folder) if arguments.process_index == 0 else None
    )
    caching, model.config.use_cache = model.config.use_cache, False
    with ExitStack() as ways:
        # Undone also where the training fails: a notebook goes on with this model.
        ways.callback(setattr, model.config, "use_cache", caching)
        ways.callback(
            trainer.accelerator.unwrap_model, model, keep_fp32_wrapper=False
        )  # else it would go on computing under autocast
        if not torch.cuda.is_available():
            ways.enter_context(fast_lora.fold_lora(model))
        if parallel == "fsdp":
            ways.enter_context(sharded.run_every_expert(model))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    state = trainer.state
    return TrainingOutcome(
        [entry for entry in state.log_history if "train_runtime" not in entry],
        state.global_step,
        int(last.name.removeprefix("checkpoint-")) if last else 0,
        refused,
        state.best_global_step if recipe.keep_best and held else None,
    )


def _agreed(found: Any) -> Any:
    """What rank 0 found, in every process: on a shared disk two machines may see a checkpoint at
    different moments.
    """
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    box = [found]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def uses_bfloat16(compute: str, gpu: bool) -> bool:
    """Whether products are computed in bfloat16: on a GPU always, as its base; on a processor as
    `compute` says.

    `auto` takes it where the processor multiplies it faster than float32. Raises `KitError` for an
    unknown word.
    """
    import torch

    if compute not in COMPUTE:
        raise KitError(f"COMPUTE = {compute!r}; wanted {' | '.join(COMPUTE)}")
    # Without these instructions bfloat16 is converted in software, and slower.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return gpu or compute == "bfloat16" or compute == "auto" and native


def _arguments(
    recipe: Recipe, steps: int, evaluate: bool, folder: Path, parallel: str = "ddp"
) -> Any:
    import torch
    from transformers import TrainingArguments

    from . import sharded

    gpu = torch.cuda.is_available()
    if parallel not in PARALLEL:
        raise KitError(f"PARALLEL = {parallel!r}; wanted {' or '.join(PARALLEL)}")
    if parallel == "fsdp" and int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise KitError(
            "PARALLEL = fsdp shards a model over processes, and there is one: set GPUS to 2 or"
            " more, or PARALLEL = ddp"
        )
    low = uses_bfloat16(recipe.compute, gpu)
    # TrainingArguments writes this variable for bfloat16 and leaves it: the next run of the process
    # would compute in it unasked.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if low else "no"
    return TrainingArguments(
        output_dir=str(folder),
        logging_dir=str(folder / "tensorboard"),
        report_to=["tensorboard"],
        learning_rate=recipe.learning_rate,
        warmup_ratio=recipe.warmup,
        max_steps=steps,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=recipe.save_steps,
        save_steps=recipe.save_steps,
        save_total_limit=3,  # the best, the last, and one more while the last is being written
        load_best_model_at_end=recipe.keep_best and evaluate,
        logging_steps=1,
        # by default the Trainer replaces a loss that is no number, and says nothing
        logging_nan_inf_filter=False,
        optim=OPTIMISERS[recipe.optimiser],
        bf16=low,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not gpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        # an expert without tokens has no gradient: plain data parallelism would wait for it for
        # ever
        ddp_find_unused_parameters=True,
        ddp_broadcast_buffers=False,  # constants: the same everywhere from the start
        **(
            sharded.fsdp_arguments(recipe, gpu)
            if parallel == "fsdp"
            else {"gradient_checkpointing": recipe.checkpointing}
        ),
        **_SCHEDULE,
    )
