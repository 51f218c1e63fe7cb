"""A model small enough for a unit test, and a question for it."""

from pathlib import Path

from bimedix_utils import training
from bimedix_utils.core import records
from bimedix_utils.training import models

TEXTS = [
    "The drug aspirin belongs to the class of salicylates.",
    "ينتمي دواء أسبرين إلى فئة الساليسيلات.",
] * 40
FORM = ["[INST] Question: Options: A. B. C. D. [/INST] The correct answer is A. B. C. D."] * 10
SPEC = models.TinySpec(
    vocabulary=500,
    hidden=64,
    inner=64,
    layers=2,
    experts=3,
    heads=2,
    positions=256,
    steps=3,
    batch=2,
    length=32,
)


def mcqa(lang: str = "en", **changes) -> records.Record:
    fields = {
        "id": "q1",
        "kind": "mcqa",
        "lang": lang,
        "source": "test",
        "licence": "CC-BY-4.0",
        "split": "train",
        "question": "Class of aspirin?",
    }
    return records.Record(
        **{
            **fields,
            "options": ("salicylates", "statins", "opioids", "nitrates"),
            "answer_index": 0,
            **changes,
        }
    )


# Twelve short questions of three lengths, four steps an epoch, a checkpoint every second step.
RECIPE = training.Recipe(
    learning_rate=2e-3, epochs=2, token_budget=200, micro_tokens=100, seed=1, save_steps=2
)


def adapted(base: Path, seed: int = 1) -> tuple:
    """(a 4-bit base with fresh adapters, its tokenizer)."""
    import torch

    model, tokenizer = models.load_base(base)
    torch.manual_seed(seed)
    return models.add_adapters(model, 4, 8), tokenizer


def examples(tokenizer) -> list[training.Example]:
    """Twelve rows of different lengths, half of them Arabic."""
    rows = [
        mcqa(
            ("en", "ar")[i % 2],
            id=f"q{i}",
            question=f"Class of aspirin{' and so on' * (i % 3)}?",
            answer_index=i % 4,
        )
        for i in range(12)
    ]
    return [training.encode_record(row, tokenizer, 256) for row in rows]
