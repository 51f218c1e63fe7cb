"""The Hugging Face Trainer, taught four things: planned steps, the loss of the answers alone,
sealed checkpoints, a stop at nonsense.

Imports torch and transformers when imported; the package does so only when it trains.
"""

import json
from collections.abc import Sequence
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
    5, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)


class StepTrainer(Trainer):
    """One item of the data loader is one optimiser step: the forward passes of this process and
    what the whole step counts.

    `loss` everywhere is the mean over the answers' tokens of the step, of all processes, plus the
    router's balancing loss.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        held: Sequence[Example],
        plan: list[list[MicroBatch]],
        recipe: Recipe,
        pad_id: int,
        **kwargs,
    ):
        super().__init__(train_dataset=plan, eval_dataset=list(held) or None, **kwargs)
        self.examples, self.held, self.plan, self.recipe, self.pad_id = (
            examples,
            held,
            plan,
            recipe,
            pad_id,
        )

    def step(self, examples: Sequence[Example], passes: list[MicroBatch]) -> dict[str, Any]:
        """The tensors of this process and, of all processes, `answers` and `real`: tokens with a
        label, tokens without padding.
        """
        whole = [examples[i] for rows in passes for i in rows]
        mine = shard_for_rank(passes, self.args.process_index, self.args.world_size)
        return {
            "passes": [
                to_tensors(examples, rows, self.pad_id, self.recipe.packing) for rows in mine
            ],
            "answers": sum(label != IGNORE_INDEX for e in whole for label in e.labels[1:]),
            "real": sum(len(e.input_ids) for e in whole),
        }

    def get_train_dataloader(self) -> Any:
        # Not prepared by accelerate: it would hand whole steps to different processes; `step`
        # divides each one.
        return torch.utils.data.DataLoader(
            self.plan,
            batch_sampler=[[i] for i in range(len(self.plan))],
            collate_fn=lambda steps: self.step(self.examples, steps[0]),
        )

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def losses(self, model: Any, part: dict[str, Any]) -> tuple[Any, Any]:
        """(summed loss of the answers, balancing loss of the real tokens) of one forward pass."""
        base = self.accelerator.unwrap_model(model).get_base_model()
        # Padding stands on the right, where causal attention never looks from a real token: without
        # a mask the fast kernel is taken.
        mask = None if self.recipe.packing else torch.ones_like(part["input_ids"])
        with fast_lora.answer_loss_head(base.lm_head, part["labels"]):
            out = model(
                input_ids=part["input_ids"],
                attention_mask=mask,
                position_ids=part.get("position_ids"),
                output_router_logits=True,
                use_cache=False,
            )
        balance = load_balancing_loss_func(
            out.router_logits, base.num_experts, base.num_experts_per_tok, part["real"]
        )
        return out.logits, balance if part["real"].any() else balance.detach().nan_to_num() * 0

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Any:
        model.train()
        coefficient = self.accelerator.unwrap_model(model).config.router_aux_loss_coef
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(inputs["passes"], start=1):
            last = number == len(inputs["passes"])
            with nullcontext() if last else self.accelerator.no_sync(model):
                answers, balance = self.losses(model, part)
                loss = answers / max(1, inputs["answers"]) + coefficient * balance * (
                    part["real"].sum() / inputs["real"]
                )
                # The processes' gradients are averaged, and so are the losses the log shows; the
                # step's mean is their sum.
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
        order = range(len(self.held))
        passes = micro_batches(
            [len(e.input_ids) for e in self.held],
            order,
            self.recipe.micro_tokens,
            self.recipe.packing,
        )
        step = self._prepare_inputs(self.step(self.held, passes))
        summed = torch.stack(
            [self.losses(model, part)[0].detach() for part in step["passes"]]
        ).sum()
        metrics = {
            f"{metric_key_prefix}_loss": float(
                self.accelerator.reduce(summed, "sum") / max(1, step["answers"])
            )
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.write_manifest(
                Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            )

    def _load_best_model(self) -> None:
        checkpoints.verify_checkpoint(Path(self.state.best_model_checkpoint))
        super()._load_best_model()


class Metrics(TrainerCallback):
    """Every logged number to `metrics.jsonl`, one line each; a resumed run first drops the lines
    behind its checkpoint.

    The last step is always evaluated and saved. The watch stops a run whose loss is no number or
    has left for good.
    """

    def __init__(self, path: Path, watch: DivergenceMonitor, every: Any = None):
        self.path, self.watch, self.every = path, watch, every

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(
                "".join(json.dumps(entry) + "\n" for entry in state.log_history), encoding="utf-8"
            )
        for entry in state.log_history:
            self.watch.see(entry)

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
        self.watch.see(entry)
        if self.every:
            self.every(state.log_history)
