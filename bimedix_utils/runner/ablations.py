"""Ablations: the same training with one thing changed at a time, over three seeds, scored on
held-out questions (`make ablations`).

The command builds the smoke mix, trains and scores every arm with each seed, and writes one table,
data/studies/ablations.csv: for each arm, seed, part of the knowledge world and language, the right
answers. Every arm takes as many optimiser steps as the reference, whose settings are those of
notebook 06 in smoke mode.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import mixture, training
from ..core import parameters
from ..core.errors import command
from ..core.freshness import package_versions
from ..core.provenance import NOTEBOOKS, device_state, resolve_path, shown_path
from ..core.runs import set_seed
from ..core.studies import clean_git_state, write_study
from ..evaluation import scoring
from ..evaluation.prompt_format import PromptFormat
from ..sources import knowledge
from ..training import models
from .pipeline import run_pipeline

ABLATION_SEEDS = (42, 43, 44)
WORLD_PARTS = ("paraphrase", "stated", "transfer")
UNTUNED = "base, not tuned"
_FORMAT = PromptFormat("option_text")
_QUESTIONS = 320  # of each part and language
_COLUMNS = ["arm", "seed", "part", "language", "hits", "n", "right"]


@dataclass(frozen=True)
class Arm:
    """One training; a field that is not given is as in the reference."""

    parts: tuple[str, ...] = tuple(models.LORA_PARTS)
    rank: int | None = None
    langs: tuple[str, ...] = ("en", "ar")
    after: str = ""  # the arm whose adapter the training continues


ARMS = {
    "reference": Arm(),
    "attention only": Arm(parts=("attention",)),
    "attention and experts": Arm(parts=("attention", "experts")),
    "rank 4": Arm(rank=4),
    "English only": Arm(langs=("en",)),
    "Arabic only": Arm(langs=("ar",)),
    "English, then Arabic": Arm(langs=("ar",), after="English only"),
}


def run_ablations() -> Path:
    """Every arm with every seed. Returns the table's path. Raises `KitError`."""
    git = clean_git_state()
    values = parameters.preset_values(NOTEBOOKS, "smoke", NOTEBOOKS / "06_finetune_qlora.ipynb")
    folder = run_pipeline("smoke", "01 02 03 04 05", {"RUN": "ablations"})
    stage = folder / "05_build_bilingual_mix"
    begin, table, arms = time.time(), [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in ABLATION_SEEDS:
            seeded = values | {"SEED": seed}
            for name, rows, facts in train_arms(seeded, stage / "bimed", Path(scratch)):
                table += rows
                arms.setdefault(name, {})[str(seed)] = facts
                seconds, loss = facts.get("seconds", 0), facts["held_out_loss"]
                print(f"seed {seed}  {name:<24} {seconds:6.1f} s  {loss}", flush=True)
    manifest = {
        "arms": arms,
        "parameters": values,
        "mix": json.loads((stage / "run.json").read_text(encoding="utf-8"))["fingerprint"],
        "git": git,
        "versions": package_versions(),
        "device": device_state(),
        "seconds": round(time.time() - begin),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return write_study("ablations", _COLUMNS, table, manifest)


def train_arms(values: dict[str, Any], mix: Path, scratch: Path) -> Iterator[tuple]:
    """Yield (arm, rows of the table, facts) for the base and every arm of one seed.

    The base model is made with that seed as well.
    """
    seed = values["SEED"]
    models.setup_torch(values["THREADS"])
    world = knowledge.choose_relations(
        knowledge.load_relations(resolve_path("data/knowledge")), values["RELATIONS"]
    )
    texts = knowledge.pretraining_and_questions(world)
    base, _ = models.tiny_base(*texts, models.TinySpec.of(values), scratch)
    tests = {
        (part, lang): knowledge.held_out_questions(world, lang, part, _QUESTIONS, seed)
        for part in WORLD_PARTS
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    model, tokenizer = models.load_base(base)
    rows, held = (
        training.filter_long_rows(
            [
                training.encode_record(record, tokenizer, values["MAX_TOKENS"])
                for record in mixture.read_split(mix, split)
            ],
            values["LONG_ROWS"],
        )[0]
        for split in ("train", "validation")
    )
    recipe = training.Recipe.of(values)
    steps = len(training.plan_steps([len(row.input_ids) for row in rows], recipe))
    recipe = replace(recipe, max_steps=steps, keep_best=False)
    untuned = models.for_inference(model)
    yield UNTUNED, *score_arm(UNTUNED, seed, untuned, tokenizer, tests, held)
    for name, arm in ARMS.items():
        begin = time.time()
        model, _ = models.load_base(base)
        set_seed(seed)
        rank = arm.rank or values["LORA_RANK"]
        alpha = rank * values["LORA_ALPHA"] // values["LORA_RANK"]
        adapted = models.add_adapters(model, rank, alpha, arm.parts)
        models.audit_model(adapted, arm.parts)
        if arm.after:
            adapted.load_adapter(scratch / f"{seed} {arm.after}", "default", is_trainable=True)
        own = [row for row in rows if row.lang in arm.langs]
        adapter = scratch / f"{seed} {name}"
        checkpoints = scratch / f"{seed} {name} checkpoints"
        outcome = training.train(adapted, tokenizer, own, [], recipe, checkpoints)
        models.save_adapter(adapted, adapter)
        tuned = models.for_inference(adapted)
        lines, facts = score_arm(name, seed, tuned, tokenizer, tests, held)
        facts |= {
            "steps": outcome.steps,
            "trainable_parameters": models.trainable_share(adapted)[0],
            "rows": len(own),
            "adapter": training.adapter_hash(adapter),
            "seconds": round(time.time() - begin, 1),
        }
        yield name, lines, facts


def score_arm(
    arm: str, seed: int, model: Any, tokenizer: Any, tests: dict, held: list[training.Example]
) -> tuple[list[tuple], dict]:
    """(rows of the table, held-out loss by language) of one model."""
    lines = []
    for (part, lang), records in tests.items():
        samples = scoring.Scorer(model, tokenizer).score(records, _FORMAT)
        right = [sample.correct for sample in samples]
        bits = "".join(str(int(one)) for one in right)
        lines.append((arm, seed, part, lang, sum(right), len(right), bits))
    losses = {
        lang: round(training.answer_loss(model, [row for row in held if row.lang == lang]), 4)
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    return lines, {"held_out_loss": losses}


@command
def main() -> None:
    """The command line."""
    print(f"table: {shown_path(run_ablations())}")


if __name__ == "__main__":
    sys.exit(main())
