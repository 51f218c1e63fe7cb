"""One training run, from the first step or from the last good checkpoint; the loss of answers."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import KitError
from . import checkpoints
from .batches import micro_batches, plan_steps, to_tensors
from .examples import IGNORE_INDEX, Example
from .recipe import Recipe

_SCHEDULE = {
    "lr_scheduler_type": "cosine",
    # The usual 0.999 would still weigh the first of a few hundred steps at the end.
    "adam_beta2": 0.99,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
PARALLEL = ("ddp", "fsdp")
COMPUTE = ("auto", "float32", "bfloat16")
OPTIMISERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a run. `log` holds an entry for each step (`loss`, `grad_norm`,
    `learning_rate`) and for each held-out `eval_loss`.
    """

    log: list[dict[str, Any]]
    steps: int
    resumed_at: int  # step of the checkpoint the run continued from; 0: from the beginning
    refused: list[str]  # checkpoints that were damaged or unfinished, with the reason
    best_step: int | None  # the checkpoint it ends with, when it keeps the best

    @property
    def losses(self) -> list[dict[str, Any]]:
        """Step, training loss and held-out loss of each log entry."""
        names = ("step", "loss", "eval_loss")
        return [{name: entry[name] for name in names if name in entry} for entry in self.log]

    @property
    def held_out(self) -> list[float]:
        """The held-out losses in order."""
        return [entry["eval_loss"] for entry in self.log if "eval_loss" in entry]


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
    `folder`; the next call continues a run that was killed there.

    A resumed run takes the same steps as an unbroken one and ends with the same adapter, bit by
    bit, on the same machine and number of threads. `every` gets the log after each entry. Started
    by torchrun, every process calls this with the same arguments; with `parallel` = `ddp` each
    holds the whole model, with `fsdp` a shard. Raises `KitError` without rows or when the
    micro-batches of a step cannot be split equally among the processes, and `TrainingError` when
    the loss is NaN, infinite or far above its first values.
    """
    import torch
    from transformers import PrinterCallback

    from . import fast_lora, sharded
    from .trainer import MetricsLog, StepTrainer

    steps = plan_steps([len(e.input_ids) for e in examples], recipe)
    arguments = _arguments(recipe, len(steps), bool(held), folder, parallel)
    recipe.per_process(arguments.world_size)
    # Any id will do: the loss never sees padding.
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    trainer = StepTrainer(examples, held, steps, recipe, pad, model=model, args=arguments)
    if parallel == "fsdp" and not trainer.is_fsdp_enabled:
        # accelerate silently falls back to whole models on CPUs.
        raise KitError(
            "PARALLEL = fsdp shards a model over GPUs, and there are none here: take PARALLEL = ddp"
        )
    trainer.remove_callback(PrinterCallback)  # it would print every log entry into the notebook
    trainer.add_callback(MetricsLog(folder / "metrics.jsonl", every))
    found = checkpoints.latest_checkpoint(folder) if arguments.process_index == 0 else None
    last, refused = _from_rank_0(found)
    caching, model.config.use_cache = model.config.use_cache, False
    with ExitStack() as stack:
        # Undone also when the training fails: a notebook continues with this model.
        stack.callback(setattr, model.config, "use_cache", caching)
        # Otherwise the model would keep computing under autocast.
        stack.callback(trainer.accelerator.unwrap_model, model, keep_fp32_wrapper=False)
        if not torch.cuda.is_available():
            stack.enter_context(fast_lora.fold_lora(model))
        if parallel == "fsdp":
            stack.enter_context(sharded.run_every_expert(model))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    state = trainer.state
    return TrainingOutcome(
        log=[entry for entry in state.log_history if "train_runtime" not in entry],
        steps=state.global_step,
        resumed_at=int(last.name.removeprefix("checkpoint-")) if last else 0,
        refused=refused,
        best_step=state.best_global_step if recipe.keep_best and held else None,
    )


def _from_rank_0(found: Any) -> Any:
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
    """Whether matmuls are computed in bfloat16: on a GPU always, as its base; on a CPU as `compute`
    says, with `auto` where bfloat16 is the faster one.

    Raises `KitError` for an unknown word.
    """
    import torch

    if compute not in COMPUTE:
        raise KitError(f"COMPUTE = {compute!r}; must be {' | '.join(COMPUTE)}")
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
        raise KitError(f"PARALLEL = {parallel!r}; must be {' or '.join(PARALLEL)}")
    if parallel == "fsdp" and int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise KitError(
            "PARALLEL = fsdp shards a model over processes, and there is one: set GPUS to 2 or"
            " more, or PARALLEL = ddp"
        )
    fsdp = parallel == "fsdp"
    low = uses_bfloat16(recipe.compute, gpu)
    # TrainingArguments sets this variable for bfloat16 and leaves it set: the next run of the
    # process would use bfloat16 too.
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
        logging_nan_inf_filter=False,  # the default silently replaces a loss that is NaN
        optim=OPTIMISERS[recipe.optimiser],
        bf16=low,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not gpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        # An expert without tokens has no gradient, and plain data parallelism would wait for it.
        ddp_find_unused_parameters=True,
        ddp_broadcast_buffers=False,  # constants: the same everywhere from the start
        **(
            sharded.fsdp_arguments(recipe, gpu)
            if fsdp
            else {"gradient_checkpointing": recipe.checkpointing}
        ),
        **_SCHEDULE,
    )


def answer_loss(
    model: Any, examples: Sequence[Example], tokens: int = 4096, pad_id: int = 0
) -> float:
    """Mean cross-entropy (natural log) of the answers' tokens over all examples, in micro-batches
    of at most `tokens`; NaN without examples.

    The router's balancing loss is not included; the model is left unchanged.
    """
    import torch

    from . import fast_lora

    head, mode = model.get_output_embeddings(), model.training
    lengths, total, count = [len(e.input_ids) for e in examples], 0.0, 0
    model.eval()
    with torch.no_grad():
        for rows in micro_batches(lengths, range(len(lengths)), tokens, packing=False):
            batch = to_tensors(examples, rows, pad_id, packing=False)
            ids, labels = batch["input_ids"].to(model.device), batch["labels"].to(model.device)
            # Padding is on the right, where no real token looks.
            mask = torch.ones_like(ids)
            settings = {"use_cache": False, "output_router_logits": False}
            with fast_lora.answer_loss_head(head, labels):
                out = model(input_ids=ids, attention_mask=mask, **settings)
            total += float(out.logits)
            count += int((labels[:, 1:] != IGNORE_INDEX).sum())
    model.train(mode)
    return total / count if count else float("nan")
