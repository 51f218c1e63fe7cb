"""QLoRA fine-tuning through the Hugging Face Trainer: loss on answers only, batches filled by tokens, checkpoints that resume."""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import KitError
from .records import Record
from .templates import messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100  # the label that cross-entropy skips


@dataclass(frozen=True)
class Example:
    """One tokenised conversation: `labels` equals `input_ids` where the model must learn, else -100. `cut` counts lost tokens."""

    id: str
    lang: str
    input_ids: list[int]
    labels: list[int]
    cut: int


def encode(record: Record, tokenizer: "PreTrainedTokenizerFast", max_tokens: int) -> Example:
    """Tokenise one record through the chat template; labels only on the assistant's words and the end token behind them.

    Longer rows are cut at the end and the loss counted. Works with any fast tokenizer: the text is tokenised once, and a token
    is an answer token when it starts at or behind the place where the answer begins.
    """
    conversation = messages(record)
    text, spans = "", []
    for index, message in enumerate(conversation):
        whole = tokenizer.apply_chat_template(conversation[: index + 1], tokenize=False)
        if not whole.startswith(text):
            raise KitError(f"{record.id}: the chat template rewrites earlier turns; answers cannot be told from questions")
        if message["role"] == "assistant":
            spans.append((len(text), len(whole)))
        text = whole
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # An answer's first token may begin with the space before it, and byte-level offsets leave that space out: both are inside.
    labels = [
        token if any(begin <= start and end > start for begin, end in spans) else IGNORED
        for token, (start, _) in zip(coded.input_ids, coded.offset_mapping, strict=True)
    ]
    ids = coded.input_ids
    return Example(record.id, record.lang, ids[:max_tokens], labels[:max_tokens], max(0, len(ids) - max_tokens))


def usable(examples: Sequence[Example], long_rows: str) -> tuple[list[Example], dict[str, tuple[str, str]]]:
    """(rows to train on, {id: (status, why)} of the others). `long_rows`: `cut` trains on what is left of a long row, `skip` does not.

    A row cut before its answer teaches nothing and is left out under either rule.
    """
    good, out = [], {}
    for example in examples:
        if example.cut and long_rows == "skip":
            out[example.id] = ("truncated", "longer than MAX_TOKENS")
        elif all(label == IGNORED for label in example.labels):
            out[example.id] = ("truncated", "no answer left after the cut")
        else:
            good.append(example)
    return good, out


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


def adapter_hash(folder: Path) -> str:
    """SHA-256 of the saved adapter's tensors, in order of name: equal adapters have equal hashes whatever the file's metadata."""
    from safetensors import safe_open

    hasher = hashlib.sha256()
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        for name in sorted(tensors.keys()):
            hasher.update(name.encode())
            hasher.update(tensors.get_tensor(name).contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def model_card(base: str, recipe: Recipe, rank: int, rows: dict[str, int], share: float, folder: Path) -> None:
    """Write the adapter's README.md in the hub's format, from the run's own numbers."""
    settings = json.dumps(vars(recipe), indent=1)
    (folder / "README.md").write_text(
        f"""---
library_name: peft
language: [en, ar]
tags: [medical, research-only]
---

# Adapter of the BiMediX reproducibility kit

**For research only: not medical advice, not for clinical use. Answers may be wrong in either language.**

* base model: {base} in NF4 with double quantisation
* LoRA rank {rank} on attention, experts and router: {share:.2%} of all parameters
* rows: {", ".join(f"{lang} {n:,}" for lang, n in sorted(rows.items()))}

```json
{settings}
```
""",
        encoding="utf-8",
    )
