"""`make bench-memory`: the plan's memory model against measured peaks of small models; writes
data/studies/memory.csv, about 6 minutes.

Each case is a process of its own on one core in float32: an NF4 Mixtral with LoRA on all parts, one
small step so that the optimiser's states exist, then one whole step (forward, loss over all tokens,
backward, AdamW) whose peak is taken. Measured is anonymous resident memory (RssAnon: file mappings
do not count) above what was resident after the imports, sampled every millisecond and checked
against the kernel's own high-water mark. glibc gives memory back at once (one arena, low mmap
threshold), so that the peak is what was in use.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bimedix_utils.core.freshness import package_versions
from bimedix_utils.core.provenance import git_state
from bimedix_utils.core.studies import write_study
from bimedix_utils.training.plan import ForwardPass, Shape, TrainingSetup, peak_memory
from bimedix_utils.training.recipe import Recipe

LIMIT = 0.15  # relative error of the plan
MODELS = {
    "small": Shape(384, 1024, 3, 6, experts=4, vocabulary=2000, kv_heads=2),
    "medium": Shape(512, 1792, 4, 8, experts=4, vocabulary=4000, kv_heads=2),
    "deep": Shape(512, 1024, 8, 8, experts=8, vocabulary=4000, kv_heads=4),
    "large": Shape(768, 2688, 6, 12, experts=8, vocabulary=8000, kv_heads=4),
}
# model, rows, tokens a row, rank, checkpointing
CASES = [
    ("small", 4, 128, 16, False),
    ("small", 8, 256, 16, False),
    ("small", 16, 256, 16, False),
    ("small", 16, 256, 16, True),
    ("small", 32, 256, 8, True),
    ("medium", 8, 128, 16, False),
    ("medium", 4, 512, 32, False),
    ("medium", 16, 256, 16, True),
    ("deep", 8, 128, 16, False),
    ("deep", 8, 256, 16, True),
    ("large", 4, 256, 8, False),
    ("large", 8, 256, 64, True),
    ("large", 4, 128, 64, True),
]
SIZES = "vocabulary hidden inner layers experts per_token heads kv_heads head_size".split()
COLUMNS = [
    *("model", *SIZES, "parameters", "rows", "length", "tokens", "rank", "checkpointing"),
    *("measured_mb", "high_water_mb", "idle_mb", "planned_mb", "error", "moment", "seconds"),
]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def planned(case: tuple) -> Any:
    """The plan's peak for one case."""
    name, rows, length, rank, checkpointing = case
    tokens = rows * length
    recipe = Recipe(1e-4, 1, tokens, tokens, 0, 1, checkpointing=checkpointing)
    setup = TrainingSetup(name, rank, recipe, max_tokens=length)
    return peak_memory(MODELS[name], setup, ForwardPass(tokens, length))


def status() -> dict[str, int]:
    """Bytes of the memory lines of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in lines
        if line.startswith(("RssAnon", "RssFile", "VmHWM"))
    }


def make(name: str, folder: Path) -> None:
    """Write the model with random weights to `folder`."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    shape = MODELS[name]
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_local_experts=shape.experts,
        num_experts_per_tok=shape.per_token,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=1024,
    )
    MixtralForCausalLM(config).save_pretrained(folder)


def measure(case: tuple, folder: Path) -> dict[str, float]:
    """Run one case in this process; megabytes (10^6) above what was resident after the imports."""
    import ctypes

    import bitsandbytes as bnb
    import peft.tuners.lora  # noqa: F401  imported before the base line is taken, as all that follows
    import torch
    import transformers.quantizers.quantizer_bnb_4bit  # noqa: F401
    from transformers import BitsAndBytesConfig, MixtralForCausalLM

    from bimedix_utils.training.models import add_adapters
    from bimedix_utils.training.models.loader import UNQUANTISED_MODULES

    name, rows, length, rank, checkpointing = case
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = status()["RssAnon"]
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=UNQUANTISED_MODULES,
    )
    model = MixtralForCausalLM.from_pretrained(
        folder, quantization_config=quantisation, dtype=torch.float32
    )
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False  # see models.load_base
    for parameter in model.parameters():
        if not isinstance(parameter, bnb.nn.Params4bit):
            parameter.data = (
                parameter.data.clone()
            )  # out of the file's mapping, which RssAnon does not see
    model = add_adapters(model, rank, 2 * rank).train()
    model.config.use_cache = False
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step(batch: int, tokens: int) -> None:
        optimiser.zero_grad(set_to_none=True)
        ids = torch.randint(0, model.config.vocab_size, (batch, tokens))
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()

    step(2, 64)  # the optimiser's states are made at the first step
    optimiser.zero_grad(set_to_none=True)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    idle, most, done = status()["RssAnon"], [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            most[0] = max(most[0], status()["RssAnon"])

    watcher = threading.Thread(target=sample)
    watcher.start()
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark begins anew
    begin = time.perf_counter()
    step(rows, length)
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    end = status()
    return {
        "measured_mb": (most[0] - base) / 1e6,
        "high_water_mb": (end["VmHWM"] - end["RssFile"] - base) / 1e6,
        "idle_mb": (idle - base) / 1e6,
        "seconds": seconds,
    }


def child(arguments: list[str]) -> str:
    """Run this file in a process of its own and return what it prints."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Measure every case, print, write the study; the exit code says whether each is within the
    limit.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        return make(given.make, given.folder)
    if given.case is not None:
        return print(json.dumps(measure(CASES[given.case], given.folder)))
    table, worst, git = [], 0.0, git_state()  # as it was when the measuring began
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(CASES):
            name, rows, length, rank, checkpointing = case
            folder = Path(scratch) / name
            if not folder.exists():
                child(["--make", name, "--folder", str(folder)])
            got = json.loads(
                child(["--case", str(number), "--folder", str(folder)]).splitlines()[-1]
            )
            plan = planned(case)
            error = plan.total / 1e6 / got["measured_mb"] - 1
            worst = max(worst, abs(error))
            shape, flag = MODELS[name], "yes" if checkpointing else "no"
            sizes = [*(getattr(shape, size) for size in SIZES), shape.total]
            megabytes = [round(got[f"{kind}_mb"], 1) for kind in ("measured", "high_water", "idle")]
            megabytes.append(round(plan.total / 1e6, 1))
            row = (name, *sizes, rows, length, rows * length, rank, flag, *megabytes)
            table.append((*row, round(error, 4), plan.moment, round(got["seconds"], 1)))
            print(
                f"{name:7} {rows:3} x {length:4}, rank {rank:3}, checkpointing {flag:3}: measured"
                f" {megabytes[0]:7.1f} MB, planned {megabytes[3]:7.1f} MB, {error:+.1%},"
                f" {plan.moment}",
                flush=True,
            )
    threads = int(ENVIRONMENT["OMP_NUM_THREADS"])
    kept = {
        "versions": package_versions(),
        "threads": threads,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
    write_study(
        "memory",
        COLUMNS,
        table,
        {**kept, "limit": LIMIT, "worst_error": round(worst, 4), "git": git},
    )
    if worst > LIMIT:
        sys.exit(f"missed: the plan is off by {worst:.1%}, more than {LIMIT:.0%}")


if __name__ == "__main__":
    main()
