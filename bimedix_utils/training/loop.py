"""QLoRA fine-tuning through the Hugging Face Trainer: loss on answers only, batches filled by tokens, checkpoints that resume."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import KitError
from .data import IGNORED, Example


class TokenBudgetSampler:
    """Batches of similar length that hold at most `budget` tokens, padding included; seeded, another order each epoch.

    Long rows get small batches and short rows large ones, so that little is spent on padding. A row longer than the budget makes
    a batch of its own.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int, bucket: int = 512):
        self.lengths, self.budget, self.seed, self.bucket = list(lengths), budget, seed, bucket
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def batches(self) -> list[list[int]]:
        """The epoch's batches; the same for the same seed and epoch."""
        rng = random.Random(f"{self.seed}:{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        made: list[list[int]] = []
        for start in range(0, len(order), self.bucket):
            batch: list[int] = []
            for row in sorted(order[start : start + self.bucket], key=lambda i: self.lengths[i]):
                if batch and (len(batch) + 1) * self.lengths[row] > self.budget:
                    made.append(batch)
                    batch = []
                batch.append(row)
            made.append(batch)
        rng.shuffle(made)
        return made

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())


def pad(examples: Sequence[dict], pad_id: int) -> dict[str, Any]:
    """A batch of tensors (rows, longest row): ids padded on the right, labels with -100, attention 0 on padding."""
    import torch

    longest = max(len(example["input_ids"]) for example in examples)

    def fill(key: str, value: int) -> Any:
        return torch.tensor([example[key] + [value] * (longest - len(example[key])) for example in examples])

    attention = torch.tensor([[1] * len(e["input_ids"]) + [0] * (longest - len(e["input_ids"])) for e in examples])
    return {"input_ids": fill("input_ids", pad_id), "labels": fill("labels", IGNORED), "attention_mask": attention}


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. `epochs` passes over the rows, or `max_steps` optimiser steps when positive."""

    learning_rate: float
    epochs: int
    token_budget: int
    warmup: float
    seed: int
    save_steps: int
    max_steps: int = -1


def train(model: Any, tokenizer: Any, examples: list[Example], validation: list[Example], recipe: Recipe, folder: Path) -> list[dict]:
    """Train the adapters and return the log: one entry each logged step and one with `eval_loss` for each epoch.

    Checkpoints with full state go to `folder`; when it holds one, training goes on from there. Raises `KitError` when the loss is
    not a number.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    sampler = TokenBudgetSampler([len(e.input_ids) for e in examples], recipe.token_budget, recipe.seed)
    rows, held = ([{"input_ids": e.input_ids, "labels": e.labels} for e in part] for part in (examples, validation))
    collate = lambda batch: pad(batch, tokenizer.pad_token_id)  # noqa: E731

    class BucketTrainer(Trainer):
        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(rows, batch_sampler=sampler, collate_fn=collate)
            return self.accelerator.prepare(loader)

    gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_ratio=recipe.warmup,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_eval_batch_size=16,
        eval_strategy="epoch" if held else "no",
        logging_steps=10,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=1,
        max_grad_norm=1.0,
        adam_beta2=0.99,  # short runs: the usual 0.999 would remember the first steps to the end
        weight_decay=0.0,
        bf16=gpu,
        optim="paged_adamw_8bit" if gpu else "adamw_torch",
        gradient_checkpointing=gpu,
        use_cpu=not gpu,
        seed=recipe.seed,
        data_seed=recipe.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
    )
    trainer = BucketTrainer(model=model, args=arguments, train_dataset=rows, eval_dataset=held or None, data_collator=collate)
    trainer.remove_callback(PrinterCallback)  # it would print every log entry into the notebook
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    last = max(found, key=lambda path: int(re.sub(r"\D", "", path.name)), default=None)
    model.config.use_cache = False
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    model.config.use_cache = True
    history = trainer.state.log_history
    if any(entry.get("loss") != entry.get("loss") for entry in history):
        raise KitError("the training loss is not a number: lower LEARNING_RATE")
    return history
