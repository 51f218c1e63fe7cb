"""The command line of the plan.

python -m bimedix_utils.plan --mode paper [--gpu "A100 80GB"] [--gpus 8] [--rank 128] [...]

Prints memory by part, every GPU's answer, steps, tokens, hours and cost; writes plan.json and plan.png into the run's folder. Exit code 1
when the preset's own GPU (or, without one, this machine) cannot hold the training.
"""

import argparse
import sys
from dataclasses import asdict
from typing import Any

from ..errors import KitError
from ..parameters import MODES, preset_values
from ..provenance import NOTEBOOKS, git_state, run_folder, shown, versions, write_json
from . import show, work
from .hardware import GB, UNKNOWN, gpu, gpus
from .memory import CPU_BUFFERS, GPU_CONTEXT
from .setup import OPTIMISERS, PARALLEL, Setup, setup_of
from .shape import find_config, prove, shape_of
from .verdict import Verdict, remedies, this_machine, verdict

NOTEBOOK = "06_finetune_qlora"
# option -> (notebook parameter, type, legal values)
OPTIONS: dict[str, tuple[str, type, tuple[str, ...] | None]] = {
    "model": ("MODEL", str, None),
    "rank": ("LORA_RANK", int, None),
    "parts": ("PARTS", str, None),
    "epochs": ("EPOCHS", int, None),
    "max-steps": ("MAX_STEPS", int, None),
    "token-budget": ("TOKEN_BUDGET", int, None),
    "micro-tokens": ("MICRO_TOKENS", int, None),
    "max-tokens": ("MAX_TOKENS", int, None),
    "optimiser": ("OPTIMISER", str, OPTIMISERS),
    "checkpointing": ("CHECKPOINTING", str, ("yes", "no")),
    "gpus": ("GPUS", int, None),
    "gpu": ("GPU", str, None),
    "parallel": ("PARALLEL", str, PARALLEL),
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.plan", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mode", default="paper", help=" | ".join(MODES))
    parser.add_argument("--run", default="", help="name of the run")
    for option, (name, kind, choices) in OPTIONS.items():
        parser.add_argument(f"--{option}", type=kind, choices=choices, help=f"instead of the preset's {name}")
    parser.add_argument("--tokens-per-row", type=float, help="an assumed mean length instead of the counted or stated one")
    parser.add_argument("--head-tokens", type=int, help="positions the loss head computes at once (default: all, an upper bound)")
    parser.add_argument("--usd-per-hour", type=float, help="price of one GPU's hour instead of the one in data/gpus.csv")
    return parser.parse_args(given)


def setup_from(given: argparse.Namespace) -> Setup:
    """The preset's setup with what the command line changes."""
    changes = {name: getattr(given, option.replace("-", "_")) for option, (name, _, _) in OPTIONS.items()}
    values = preset_values(NOTEBOOKS, given.mode, NOTEBOOKS / f"{NOTEBOOK}.ipynb")
    return setup_of({**values, **{name: value for name, value in changes.items() if value is not None}})


def assumptions(setup: Setup) -> list[str]:
    """What the plan takes for granted, in words."""
    low, high = work.UTILISATION
    context = f"{GPU_CONTEXT / GB:g} GB for" if setup.gpu else f"{CPU_BUFFERS / 1e6:g} MB and a little for each matrix for"
    return [
        f"a GPU reaches {low:.0%} to {high:.0%} of its dense bfloat16 rate: assumed, not measured",
        f"{context} context, library buffers and what the allocator cannot reuse: assumed",
        "a GB is 10^9 bytes; batches are padded, so attention needs a mask; every expert gets an even share of the tokens",
        "steps and hours count no padding; paged optimiser states are counted as if they stayed on the GPU",
        *(["adapters in float32, autocast to bfloat16 with cached copies; one bfloat16 base"] if setup.gpu else []),
    ]


def report(given: argparse.Namespace) -> tuple[dict[str, Any], Verdict]:
    """Compute and print the plan; returns what plan.json holds, and the verdict of the preset's own GPU."""
    setup = setup_from(given)
    own = gpu(setup.gpu) if setup.gpu else this_machine()
    config = find_config(setup.model)
    shape, proof = shape_of(config), prove(config, setup.rank, setup.parts)
    rows = work.rows_of(given.mode, given.run, given.tokens_per_row)
    print(f"{setup.model}: {proof.base:,} parameters, rank {setup.rank} on {', '.join(setup.parts)}: {proof.learning:,} learn,")
    print(f"{proof.share:.2%} of all, {proof.learning / proof.base:.2%} of the base; adapted modules: {proof.targets}\n")
    devices = [own, *(item for item in gpus() if item.name != own.name)] if setup.gpu else [own]
    answers = [verdict(shape, setup, device, given.head_tokens) for device in devices]
    print(f"memory of one process, {setup.gpus} x {own.name}, {setup.parallel}, at its highest ({answers[0].peak.moment})\n")
    print(repr(show.by_part(answers[0].peak)), "\n")
    table, kept = [], []
    for answer in answers:
        price = given.usd_per_hour if given.usd_per_hour is not None and answer is answers[0] else answer.device.usd_per_hour
        hours = work.hours(shape, setup, rows, answer.device)
        cost = work.cost(hours, setup, price)
        day = work.steps_in(24, shape, setup, rows, answer.device)
        table.append((answer.device.name, f"{answer.device.memory_gb:.0f} GB", "yes" if answer.fits else "no", answer.micro_tokens or "none",
                      show.span(hours), UNKNOWN if day is None else day, show.span(cost, "$")))  # fmt: skip
        kept.append({"gpu": answer.device.name, "fits": answer.fits, "why": answer.why, "largest_micro_tokens": answer.micro_tokens,
                     "hours": hours or UNKNOWN, "cost_usd": cost or UNKNOWN,
                     "steps_in_a_day": UNKNOWN if day is None else day})  # fmt: skip
    print(
        repr(show.display.table(table, ["device", "memory", "fits", "most MICRO_TOKENS", "hours", "steps a day, at least", "cost"])), "\n"
    )
    flops = work.flops_per_token(shape, setup, rows.mean)
    count, read = work.steps(setup, rows), work.tokens_read(setup, rows)
    print(f"{rows.rows:,} rows, {rows.tokens:,} tokens, {rows.mean:.0f} a row; source: {rows.source}")
    print(f"{count:,} optimiser steps of at most {setup.step_tokens:,} tokens, {setup.accumulation} forward passes each; {read:,} tokens")
    print(f"{sum(flops.values()) / 1e9:,.1f} GFLOP a token: " + ", ".join(f"{name} {value / 1e9:,.1f}" for name, value in flops.items()))
    print("assumed:", *assumptions(setup), sep="\n  - ")
    result = {
        "mode": given.mode, "setup": asdict(setup), "parameters": proof.parameters, "adapters": proof.adapters, "adapted_modules": proof.targets,
        "share_of_all": proof.share, "memory_bytes": answers[0].peak.parts, "memory_moment": answers[0].peak.moment, "devices": kept,
        "rows": asdict(rows), "steps": count, "tokens": read, "flops_per_token": flops, "assumptions": assumptions(setup),
        "versions": versions(), "git": git_state(),
    }  # fmt: skip
    folder = run_folder(given.mode, given.run)
    write_json(folder / "plan.json", result)
    title = f"Memory of one of {setup.gpus} GPUs, {setup.micro_tokens:,} tokens a pass" if setup.gpu else "Memory on a CPU"
    drawing = show.figure(show.variants(shape, setup, (16, 32, 64, 128) if setup.gpu else ()), None if setup.gpu else [own], title)
    drawing.figure.savefig(folder / "plan.png", dpi=150)
    print(f"\n{shown(folder / 'plan.json')}, {shown(folder / 'plan.png')}")
    return {**result, "remedies": [] if answers[0].fits else remedies(shape, setup, own, given.head_tokens)}, answers[0]


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    try:
        result, own = report(arguments(argv))
        if not own.fits:
            helps = "; ".join(result["remedies"]) or "nothing the plan tries; take a larger GPU"
            raise KitError(f"it does not fit: {own.why}. Any one of these would help: {helps}")
        print(f"it fits: {own.why}")
    except KitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
