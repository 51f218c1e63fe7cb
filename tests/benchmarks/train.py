"""`make bench-train`: the training step against TRL's SFTTrainer and the plain Trainer; writes
runs/bench/train.json.

One NF4 model (15 M parameters in its blocks, Mixtral's own vocabulary of 32,000), pre-trained for a
minute on the kit's facts; the same 120 rows of the kit's sample, 50 to 500 tokens by Mixtral's own
tokenizer, English and Arabic; the same loss, optimiser, schedule and number of optimiser steps.
Every run is a process of its own; the contenders alternate, once for each seed. `--laptop` adds
the upcycled SmolLM2, where all of them compute in bfloat16 (`--compute`), which is faster for all
on a CPU with bfloat16 instructions.

* vs_trl_best: real tokens a second over those of the fastest of TRL padded, packed and
  padding-free, each without its default gradient checkpointing; vs_trl_default: over TRL as it
  comes; vs_trainer_padded, vs_trainer_grouped: over the Trainer. Medians of the seeds.
* loss_equal: the held-out loss after training, mean of the seeds, is within 1 % of that of the
  fastest TRL; `before` is the base's.
* peak_ratio: most anonymous memory above that of the loaded model, over the same of the fastest
  TRL.
* two_process_speedup: two processes of one thread over one process of one thread, the same steps.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.peak import Peak

from bimedix_utils import sources, training
from bimedix_utils.core.files import write_json
from bimedix_utils.core.provenance import ROOT, git_state, runs_folder
from bimedix_utils.core.templates import to_messages
from bimedix_utils.mixture import tokens
from bimedix_utils.sources import knowledge
from bimedix_utils.training import batches, launch, models

TRL = {
    "trl_padded": {},
    "trl_packing": {"packing": True, "max_length": 1024},
    "trl_padding_free": {"padding_free": True, "max_length": None},
}
CONTENDERS = ("ours", *TRL, "trl_default", "trainer_padded", "trainer_grouped")
RANK, RATE, EPOCHS = 16, 1e-3, 1
BUDGET, MICRO = 4096, 2048
SEEDS = (1, 2, 3)


def coded(record: Any, encode: Any, bos: int, eos: int) -> training.Example:
    """One row in Mixtral's layout, by its own tokenizer."""
    ids, labels = [bos], [training.IGNORE_INDEX]
    for message in to_messages(record):
        answer = message["role"] == "assistant"
        piece = (
            [*encode(message["content"]), eos]
            if answer
            else encode(f"[INST] {message['content']} [/INST]")
        )
        ids += piece
        labels += piece if answer else [training.IGNORE_INDEX] * len(piece)
    return training.Example(record.id, record.lang, array("i", ids), array("i", labels), 0)


def rows(laptop: Path | None) -> tuple[list[training.Example], list[training.Example]]:
    """(120 rows to train on, up to 40 held out), of 50 to 500 tokens, shuffled once for all."""
    records = [
        r
        for path in sorted((ROOT / "data" / "sample").glob("*_train.*"))
        for r in sources.read_file(path, kit=True)
        if r.status == "ok"
    ]
    if laptop:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(laptop)
        made = [training.encode_record(record, tokenizer, 10**6) for record in records]
    else:
        tokenizer = tokens._mixtral_tokenizer()
        made = [
            coded(
                r,
                lambda text: tokenizer.encode(text, bos=False, eos=False),
                tokenizer.bos_id,
                tokenizer.eos_id,
            )
            for r in records
        ]
    fitting = [example for example in made if 50 <= len(example.input_ids) <= 500]
    random.Random(0).shuffle(fitting)
    return fitting[:120], fitting[120:160]


def base(laptop: bool, cache: Path) -> Path:
    """The folder of the model, made once."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    if laptop:
        from bimedix_utils.training import weights

        return models.upcycle_model(
            weights.fetch_model(), experts=4, noise=0.0, seed=0, cache=cache
        )
    folder = cache / "bench-train-32000"
    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_local_experts=8,
        num_experts_per_tok=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        router_aux_loss_coef=0.02,
        output_router_logits=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = MixtralForCausalLM(config).train()
    tokenizer = tokens._mixtral_tokenizer()
    texts = knowledge.pretraining_texts(knowledge.load_relations(ROOT / "data" / "knowledge"))
    random.Random(0).shuffle(texts)
    flat = [token for text in texts[:3000] for token in tokenizer.encode(text, bos=True, eos=True)]
    blocks = torch.tensor(flat[: len(flat) // 128 * 128]).view(-1, 128)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for _ in range(120):
        batch = blocks[torch.randint(len(blocks), (8,))]
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    pad_tokenizer().save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def held_out(model: Any, examples: list[training.Example]) -> float:
    """Mean loss of the answers, row by row, by the plain formula: no contender's own code."""
    import torch

    total = count = 0.0
    models.for_inference(model)
    with torch.no_grad():
        for example in examples:
            labels = torch.tensor(example.labels)[1:]
            logits = model(input_ids=torch.tensor([[*example.input_ids]]), use_cache=False).logits[
                0, :-1
            ]
            total += torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=-100, reduction="sum"
            ).item()
            count += (labels != -100).sum().item()
    return total / count


def one(
    contender: str,
    seed: int,
    folder: Path,
    laptop: Path | None,
    threads: int,
    steps_limit: int,
    compute: str,
) -> dict:
    """One run of one contender in this process."""
    torch = models.setup_torch(threads)
    train, held = rows(laptop)
    recipe = training.Recipe(
        learning_rate=RATE if not laptop else 2e-4,
        epochs=EPOCHS,
        token_budget=BUDGET,
        micro_tokens=MICRO,
        seed=seed,
        save_steps=10**6,
        max_steps=steps_limit,
        compute=compute,
    )
    plan = batches.plan_steps([len(e.input_ids) for e in train], recipe)
    model, _ = models.load_base(folder)
    torch.manual_seed(seed)
    adapted = models.add_adapters(model, RANK if not laptop else 8, 2 * RANK)
    before = held_out(adapted, held)
    adapted.config.output_router_logits = True
    with Peak() as peak, tempfile.TemporaryDirectory() as scratch:
        if contender == "ours":
            seconds, count = run_ours(adapted, train, recipe, plan, Path(scratch))
        else:
            seconds, count = run_other(contender, adapted, train, recipe, plan, scratch)
    return {
        "contender": contender,
        "seed": seed,
        "seconds": seconds,
        "tokens": count,
        "tokens_per_second": count / seconds,
        "steps": len(plan),
        "peak_mb": peak.above,
        "loss_before": before,
        "held_out_loss": held_out(adapted, held),
    }


def run_ours(
    model: Any, train: list, recipe: training.Recipe, plan: list, scratch: Path
) -> tuple[float, int]:
    class Tokenizer:
        pad_token_id = 2

    begin = time.perf_counter()
    training.train(model, Tokenizer, train, [], recipe, scratch)
    return time.perf_counter() - begin, sum(
        len(train[i].input_ids) for step in plan for part in step for i in part
    )


def run_other(
    contender: str, model: Any, train: list, recipe: training.Recipe, plan: list, scratch: str
) -> tuple[float, int]:
    """TRL or the Trainer: as many steps as ours, the same rows in each epoch, so as nearly the same
    tokens as their batches allow.
    """
    import datasets
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments

    seen: list[int] = []
    epoch_steps = sum(
        1
        for _ in batches.plan_steps(
            [len(e.input_ids) for e in train],
            training.Recipe(**{**vars(recipe), "epochs": 1, "max_steps": 0}),
        )
    )
    data = datasets.Dataset.from_list(
        [{"input_ids": [*e.input_ids], "labels": [*e.labels]} for e in train]
    )
    common = {
        "output_dir": scratch,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": recipe.warmup,
        "adam_beta2": 0.99,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "seed": recipe.seed,
        "bf16": recipe.compute == "bfloat16",
        "max_steps": len(plan),
        "data_seed": recipe.seed,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_strategy": "no",
    }
    tokenizer = pad_tokenizer()
    per_step = -(-len(train) // epoch_steps)
    # Two micro-batches a step, as ours: one of all rows was slower and took more memory.
    sizes = {"per_device_train_batch_size": -(-per_step // 2), "gradient_accumulation_steps": 2}
    if contender.startswith("trl"):
        from trl import SFTConfig, SFTTrainer

        options = {"max_length": 2048, **TRL.get(contender, {})}
        if contender != "trl_default":
            options["gradient_checkpointing"] = False
        if options.get("packing"):
            bins = -(-sum(len(e.input_ids) for e in train) // options["max_length"])
            sizes = {
                "per_device_train_batch_size": max(1, -(-bins // epoch_steps // 2)),
                "gradient_accumulation_steps": 2,
            }
        model.config.output_router_logits = True
        arguments = SFTConfig(**common, **sizes, **options)
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=tokenizer
        )
        for parameter in trainer.model.parameters():
            if (
                parameter.requires_grad
            ):  # TRL makes bfloat16 of them by default; all contenders train them in float32
                parameter.data = parameter.data.float()
    else:
        grouped = contender == "trainer_grouped"
        collate = DataCollatorForSeq2Seq(tokenizer)
        arguments = TrainingArguments(
            **common, **sizes, group_by_length=grouped, remove_unused_columns=False
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate)
    inner = trainer.data_collator

    def counting(examples: list) -> Any:
        seen.append(sum(len(e["input_ids"]) for e in examples))
        return inner(examples)

    trainer.data_collator = counting
    trainer.remove_callback(PrinterCallback)
    begin = time.perf_counter()
    trainer.train()
    return time.perf_counter() - begin, sum(seen)


def pad_tokenizer() -> Any:
    """Stands where a tokenizer must stand; the rows are tokens already and only its padding is
    used.
    """
    from transformers import PreTrainedTokenizerFast

    made = models.build_tokenizer(["a"], 300)
    return PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer,
        bos_token="<unk>",
        eos_token="</s>",
        pad_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )


def run_in_rotation(
    folder: Path,
    laptop: Path | None,
    threads: int,
    seeds: int,
    limit: int,
    compute: str,
    contenders: list[str],
) -> list[dict]:
    """Every contender once for each seed, alternating, each in a process of its own."""
    found = []
    for seed in SEEDS[:seeds]:
        for contender in contenders:
            command = [
                sys.executable,
                __file__,
                "--one",
                contender,
                "--seed",
                str(seed),
                "--model",
                str(folder),
                "--threads",
                str(threads),
            ]
            command += [
                "--steps",
                str(limit),
                "--compute",
                compute,
                *(["--tokenizer", str(laptop)] if laptop else []),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(f"{contender} failed:\n{done.stderr[-3000:]}")
            found.append(json.loads(done.stdout.splitlines()[-1]))
            last = found[-1]
            speed, loss, peak = (
                last[name] for name in ("tokens_per_second", "held_out_loss", "peak_mb")
            )
            print(
                f"{contender:16} seed {seed}  {speed:8.1f} tokens/s  loss {loss:.4f}  peak"
                f" {peak:.0f} MB",
                flush=True,
            )
    return found


def ratios(found: list[dict]) -> dict[str, Any]:
    def middle(contender: str, value: str) -> float:
        return statistics.median(run[value] for run in found if run["contender"] == contender)

    def loss(contender: str) -> float:
        return statistics.mean(
            run["held_out_loss"] for run in found if run["contender"] == contender
        )

    present = {run["contender"] for run in found}
    best = max(
        (name for name in TRL if name in present),
        key=lambda name: middle(name, "tokens_per_second"),
    )
    speed = middle("ours", "tokens_per_second")
    difference = abs(loss("ours") / loss(best) - 1)
    return {
        "trl_best": best,
        "vs_trl_best": round(speed / middle(best, "tokens_per_second"), 3),
        **{
            f"vs_{name}": round(speed / middle(name, "tokens_per_second"), 3)
            for name in sorted(present - {"ours"})
        },
        "loss_equal": difference <= 0.01,
        "loss": {
            "before": found[0]["loss_before"],
            "ours": loss("ours"),
            best: loss(best),
            "difference": difference,
        },
        "peak_ratio": round(middle("ours", "peak_mb") / middle(best, "peak_mb"), 3),
        "peak_mb": {"ours": middle("ours", "peak_mb"), best: middle(best, "peak_mb")},
    }


def two_processes(folder: Path, threads: int = 1, rounds: int = 3) -> dict[str, Any]:
    """The same steps in one and in two processes of one thread each, in turn: tokens a second of
    the training alone.
    """
    train, _ = rows(None)
    recipe = training.Recipe(
        learning_rate=RATE,
        epochs=1,
        token_budget=BUDGET,
        micro_tokens=MICRO,
        seed=1,
        save_steps=10**6,
    )
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, rates in found.items():
            with tempfile.TemporaryDirectory() as scratch:
                job = Path(scratch)
                settings = launch.TrainingJob(
                    folder, recipe, RANK, 2 * RANK, processes=processes, threads=threads
                )
                launch.write_job(job, settings, train, [])
                done = launch.run_job(job)
            rates.append(done.tokens / done.seconds)
    speedup = statistics.median(found[2]) / statistics.median(found[1])
    return {
        "two_process_speedup": round(speedup, 3),
        "processes": {str(n): rates for n, rates in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--one", choices=CONTENDERS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--laptop", action="store_true")
    parser.add_argument(
        "--compute",
        choices=("float32", "bfloat16"),
        help="of all contenders; by default float32, with --laptop bfloat16",
    )
    parser.add_argument("--only", default=" ".join(CONTENDERS))
    given = parser.parse_args()
    if given.one:
        print(
            json.dumps(
                one(
                    given.one,
                    given.seed,
                    given.model,
                    given.tokenizer,
                    given.threads,
                    given.steps,
                    given.compute,
                )
            )
        )
        return
    try:
        trl = version("trl")
    except PackageNotFoundError:
        raise SystemExit("TRL is not installed: make setup EXTRAS=bench") from None
    models.setup_torch(given.threads)
    cache = runs_folder() / "cache"
    contenders = [name for name in CONTENDERS if name in given.only.split()]
    compute = given.compute or "float32"
    found = run_in_rotation(
        base(False, cache), None, given.threads, given.seeds, given.steps, compute, contenders
    )
    report: dict[str, Any] = {
        **ratios(found),
        **two_processes(base(False, cache)),
        "compute": compute,
        "runs": found,
    }
    if given.laptop:
        folder = base(True, cache)
        compute = given.compute or "bfloat16"
        found = run_in_rotation(folder, folder, given.threads, 1, 4, compute, contenders)
        report["laptop"] = {**ratios(found), "compute": compute, "runs": found}
    report |= {
        "threads": given.threads,
        "rows": 120,
        "python": platform.python_version(),
        "git": git_state(),
        "versions": {
            "trl": trl,
            **{
                name: version(name)
                for name in ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
            },
        },
    }
    write_json(runs_folder() / "bench" / "train.json", report)
    print(
        json.dumps(
            {
                name: value
                for name, value in report.items()
                if name.startswith(("vs_", "loss", "peak", "trl", "two"))
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
