"""The Hugging Face Trainer with four changes: planned steps, a loss of the answers only, verified
checkpoints, and a stop at divergence.

Imports torch and transformers when imported; the package imports it only to train.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from . import checkpoints, fast_lora
from .batches import MicroBatch, micro_batches, shard_for_rank, to_tensors
from .divergence import DivergenceMonitor
from .examples import IGNORE_INDEX, Example
from .recipe import Recipe

# Among several processes the Trainer loads a checkpoint to the device "cpu:0", which torch knows as
# "cpu" only.
torch.serialization.register_package(
    5,
    lambda storage: None,
    lambda storage, location: storage if location.startswith("cpu:") else None,
)


class StepTrainer(Trainer):
    """One item of the data loader is one optimiser step: the micro-batches of this process and the
    token counts of the whole step.

    `loss` is always the mean over the answers' tokens of the step, of all processes, plus the
    router's balancing loss.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        held: Sequence[Example],
        steps: list[list[MicroBatch]],
        recipe: Recipe,
        pad_id: int,
        **kwargs: Any,
    ):
        super().__init__(train_dataset=steps, eval_dataset=list(held) or None, **kwargs)
        self.examples, self.held, self.steps = examples, held, steps
        self.recipe, self.pad_id = recipe, pad_id

    def step(self, examples: Sequence[Example], batches: list[MicroBatch]) -> dict[str, Any]:
        """The micro-batches of this process and, of all processes, `answers` and `real`: tokens
        with a label, tokens without padding.
        """
        rows = [examples[i] for batch in batches for i in batch]
        own = shard_for_rank(batches, self.args.process_index, self.args.world_size)
        packing = self.recipe.packing
        return {
            "batches": [to_tensors(examples, batch, self.pad_id, packing) for batch in own],
            "answers": sum(label != IGNORE_INDEX for e in rows for label in e.labels[1:]),
            "real": sum(len(e.input_ids) for e in rows),
        }

    def get_train_dataloader(self) -> Any:
        # Not prepared by accelerate, which would give whole steps to different processes: `step`
        # splits each one.
        return torch.utils.data.DataLoader(
            self.steps,
            batch_sampler=[[i] for i in range(len(self.steps))],
            collate_fn=lambda steps: self.step(self.examples, steps[0]),
        )

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def losses(self, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        """(summed loss of the answers, balancing loss of the real tokens) of one micro-batch."""
        base = self.accelerator.unwrap_model(model).get_base_model()
        # Padding is on the right, where causal attention never looks from a real token: a mask of
        # ones selects the fast kernel.
        mask = None if self.recipe.packing else torch.ones_like(batch["input_ids"])
        with fast_lora.answer_loss_head(base.lm_head, batch["labels"]):
            out = model(
                input_ids=batch["input_ids"],
                attention_mask=mask,
                position_ids=batch.get("position_ids"),
                output_router_logits=True,
                use_cache=False,
            )
        balance = load_balancing_loss_func(
            out.router_logits, base.num_experts, base.num_experts_per_tok, batch["real"]
        )
        return out.logits, balance if batch["real"].any() else balance.detach().nan_to_num() * 0

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Any:
        model.train()
        coefficient = self.accelerator.unwrap_model(model).config.router_aux_loss_coef
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(inputs["batches"], start=1):
            last = number == len(inputs["batches"])
            with nullcontext() if last else self.accelerator.no_sync(model):
                answers, balance = self.losses(model, batch)
                loss = answers / max(1, inputs["answers"]) + coefficient * balance * (
                    batch["real"].sum() / inputs["real"]
                )
                # The Trainer averages gradients and logged losses over processes; the mean of the
                # step is their sum.
                loss = loss * self.args.world_size
                self.accelerator.backward(loss)
                total += loss.detach()
        return total

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The mean loss of the held-out rows' answers, without the balancing loss; logged as
        `eval_loss`.
        """
        model = self.model_wrapped.eval()
        lengths = [len(e.input_ids) for e in self.held]
        tokens, packing = self.recipe.micro_tokens, self.recipe.packing
        batches = micro_batches(lengths, range(len(self.held)), tokens, packing)
        step = self._prepare_inputs(self.step(self.held, batches))
        losses = [self.losses(model, batch)[0].detach() for batch in step["batches"]]
        total = self.accelerator.reduce(torch.stack(losses).sum(), "sum")
        metrics = {f"{metric_key_prefix}_loss": float(total / max(1, step["answers"]))}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            checkpoints.write_manifest(folder)

    def _load_best_model(self) -> None:
        checkpoints.verify_checkpoint(Path(self.state.best_model_checkpoint))
        super()._load_best_model()


class MetricsLog(TrainerCallback):
    """Every log entry to `metrics.jsonl`, one line each, and through the divergence monitor; a
    resumed run first drops the lines after its checkpoint. The last step is always evaluated.
    """

    def __init__(self, path: Path, on_log: Callable[[list[dict]], None] | None = None):
        self.path, self.callback, self.monitor = path, on_log, DivergenceMonitor()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(entry) + "\n" for entry in state.log_history]
            self.path.write_text("".join(lines), encoding="utf-8")
        for entry in state.log_history:
            self.monitor.check(entry)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any
    ) -> None:
        entry = state.log_history[-1]
        if state.is_world_process_zero:
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(entry) + "\n")
        self.monitor.check(entry)
        if self.callback:
            self.callback(state.log_history)
