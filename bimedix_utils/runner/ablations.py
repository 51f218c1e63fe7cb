"""What matters in the recipe: the same training with one thing changed at a time, over three seeds,
on held-out questions.

`make ablations` builds the smoke mix, then trains and scores every arm below with each seed, and
writes one table, data/studies/ablations.csv: for each arm, seed, part of the knowledge world and
language, which questions were answered right. Every arm takes as many optimiser steps of as many
tokens as the reference, whose settings are those of notebook 06 in smoke mode.
"""

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import mixture, training
from ..core import parameters, runs
from ..core.errors import command
from ..core.freshness import package_versions
from ..core.provenance import NOTEBOOKS, device_state, git_state, resolve_path, shown_path
from ..core.studies import write_study
from ..evaluation import scoring
from ..evaluation.forms import Form
from ..sources import knowledge
from ..training import models
from . import pipeline

SEEDS = (42, 43, 44)
FORM = Form("option_text")
PARTS = ("paraphrase", "stated", "transfer")
BASE = "base, not tuned"
COLUMNS = ["arm", "seed", "part", "language", "hits", "n", "right"]


@dataclass(frozen=True)
class Arm:
    """One way to train; what is not named is as in the reference. `after` names the arm whose
    adapter it goes on from.
    """

    parts: tuple[str, ...] = tuple(models.LORA_PARTS)
    rank: int | None = None
    langs: tuple[str, ...] = ("en", "ar")
    after: str = ""


ARMS = {
    "reference": Arm(),
    "attention only": Arm(parts=("attention",)),
    "attention and experts": Arm(parts=("attention", "experts")),
    "rank 4": Arm(rank=4),
    "English only": Arm(langs=("en",)),
    "Arabic only": Arm(langs=("ar",)),
    "English, then Arabic": Arm(langs=("ar",), after="English only"),
}


def run() -> Path:
    """Every arm with every seed. Returns the table's path. Raises `KitError` when a step before the
    training fails.
    """
    values = parameters.preset_values(NOTEBOOKS, "smoke", NOTEBOOKS / "06_finetune_qlora.ipynb")
    folder = pipeline.run("smoke", "01 02 03 04 05", {"RUN": "ablations"})
    mix = folder / "05_build_bilingual_mix" / "bimed"
    begin, table, arms = time.time(), [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in SEEDS:
            for name, rows, facts in one_seed(values | {"SEED": seed}, mix, Path(scratch)):
                table += rows
                arms.setdefault(name, {})[str(seed)] = facts
                print(
                    f"seed {seed}  {name:<24} {facts.get('seconds', 0):6.1f} s "
                    f" {facts['held_out_loss']}",
                    flush=True,
                )
    manifest = {
        "arms": arms,
        "parameters": values,
        "mix": json.loads(
            (folder / "05_build_bilingual_mix" / "run.json").read_text(encoding="utf-8")
        )["fingerprint"],
        "git": git_state(),
        "versions": package_versions(),
        "device": device_state(),
        "seconds": round(time.time() - begin),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return write_study("ablations", COLUMNS, table, manifest)


def one_seed(values: dict[str, Any], mix: Path, scratch: Path) -> Any:
    """Yield (arm, rows of the table, facts) for the base and every arm of one seed. The base model
    is made with that seed as well.
    """
    models.setup_torch(values["THREADS"])
    world = knowledge.choose_relations(
        knowledge.load_relations(resolve_path("data/knowledge")), values["RELATIONS"]
    )
    base, _ = models.tiny_base(
        *knowledge.pretraining_and_questions(world), models.TinySpec.of(values), scratch
    )
    tests = {
        (part, lang): knowledge.held_out_questions(world, lang, part, 320, values["SEED"])
        for part in PARTS
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    model, tokenizer = models.load_base(base)
    rows, held = (
        training.filter_long_rows(
            [
                training.encode_record(r, tokenizer, values["MAX_TOKENS"])
                for r in mixture.read_split(mix, split)
            ],
            values["LONG_ROWS"],
        )[0]
        for split in ("train", "validation")
    )
    recipe = training.Recipe.of(values)
    recipe = replace(
        recipe,
        max_steps=len(training.plan_steps([len(e.input_ids) for e in rows], recipe)),
        keep_best=False,
    )
    yield BASE, *measured(BASE, values["SEED"], models.for_inference(model), tokenizer, tests, held)
    for name, arm in ARMS.items():
        begin = time.time()
        model, _ = models.load_base(base)
        runs.set_seed(values["SEED"])
        rank = arm.rank or values["LORA_RANK"]
        adapted = models.add_adapters(
            model, rank, rank * values["LORA_ALPHA"] // values["LORA_RANK"], arm.parts
        )
        models.audit_model(adapted, arm.parts)
        if arm.after:
            adapted.load_adapter(
                scratch / f"{values['SEED']} {arm.after}", "default", is_trainable=True
            )
        own = [e for e in rows if e.lang in arm.langs]
        outcome = training.train(
            adapted, tokenizer, own, [], recipe, scratch / f"{values['SEED']} {name} checkpoints"
        )
        adapter = scratch / f"{values['SEED']} {name}"
        models.save_adapter(adapted, adapter)
        lines, facts = measured(
            name, values["SEED"], models.for_inference(adapted), tokenizer, tests, held
        )
        facts |= {
            "steps": outcome.steps,
            "learning": models.trainable_share(adapted)[0],
            "rows": len(own),
            "adapter": training.adapter_hash(adapter),
            "seconds": round(time.time() - begin, 1),
        }
        yield name, lines, facts


def measured(
    arm: str, seed: int, model: Any, tokenizer: Any, tests: dict, held: list[training.Example]
) -> tuple[list[tuple], dict]:
    """(rows of the table, held-out loss by language) of one model."""
    lines = []
    for (part, lang), records in tests.items():
        right = [sample.correct for sample in scoring.score(model, tokenizer, records, FORM)]
        lines.append(
            (arm, seed, part, lang, sum(right), len(right), "".join(str(int(r)) for r in right))
        )
    losses = {
        lang: round(training.answer_loss(model, [e for e in held if e.lang == lang]), 4)
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    return lines, {"held_out_loss": losses}


@command
def main() -> None:
    """The command line."""
    print(f"table: {shown_path(run())}")


if __name__ == "__main__":
    sys.exit(main())
