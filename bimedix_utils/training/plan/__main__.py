"""The command line of the plan.

python -m bimedix_utils.training.plan --mode paper [--gpu "A100 80GB"] [--gpus 8] [--rank 128] [...]

Prints memory by part, every GPU's answer, steps, tokens, hours and cost; writes plan.json and
plan.png into the run's folder. Exit code 1 when the preset's own GPU (or, without one, this
machine) cannot hold the training.
"""

import argparse
import sys

from ...core.errors import command
from ...core.files import write_json
from ...core.freshness import package_versions
from ...core.parameters import MODES, preset_values
from ...core.provenance import NOTEBOOKS, git_state, run_folder, shown_path
from . import show
from .setup import OPTIMISERS, PARALLEL, Setup, setup_of
from .whole import Plan, make
from .work import rows_of

NOTEBOOK = "06_finetune_qlora"
# option -> (notebook parameter, type, legal values)
OPTIONS: dict[str, tuple[str, type, tuple[str, ...] | None]] = {
    "model": ("MODEL", str, None),
    "rank": ("LORA_RANK", int, None),
    "targets": ("LORA_TARGETS", str, None),
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
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.training.plan",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--mode", default="paper", help=" | ".join(MODES))
    parser.add_argument("--run", default="", help="name of the run")
    for option, (name, kind, choices) in OPTIONS.items():
        parser.add_argument(
            f"--{option}", type=kind, choices=choices, help=f"instead of the preset's {name}"
        )
    parser.add_argument(
        "--tokens-per-row",
        type=float,
        help="an assumed mean length instead of the counted or stated one",
    )
    parser.add_argument(
        "--head-tokens",
        type=int,
        help="positions the loss head computes at once (default: all, an upper bound)",
    )
    parser.add_argument(
        "--usd-per-hour",
        type=float,
        help="price of one GPU's hour instead of the one in data/gpus.csv",
    )
    return parser.parse_args(given)


def setup_from(given: argparse.Namespace) -> Setup:
    """The preset's setup with what the command line changes."""
    changes = {
        name: getattr(given, option.replace("-", "_")) for option, (name, _, _) in OPTIONS.items()
    }
    values = preset_values(NOTEBOOKS, given.mode, NOTEBOOKS / f"{NOTEBOOK}.ipynb")
    return setup_of(
        {**values, **{name: value for name, value in changes.items() if value is not None}}
    )


def write(made: Plan, mode: str, run: str) -> None:
    """Write plan.json and plan.png into the run's folder."""
    import matplotlib

    matplotlib.use("agg")  # no window: the figure is only written
    folder, setup = run_folder(mode, run), made.setup
    write_json(
        folder / "plan.json",
        {"mode": mode, **made.as_json(), "versions": package_versions(), "git": git_state()},
    )
    if setup.gpu:
        processes = f"one of {setup.gpus} GPUs ({setup.parallel})" if setup.gpus > 1 else "one GPU"
        drawing = show.figure(
            show.variants(made.shape, setup),
            title=f"Memory of {processes}, {setup.micro_tokens:,} tokens a pass",
        )
    else:
        drawing = show.figure(
            [(f"rank {setup.rank}", made.own.peak)],
            [],
            f"Memory on a CPU, {setup.micro_tokens:,} tokens a pass",
        )
    drawing.figure.savefig(folder / "plan.png", dpi=150)
    print(f"\nwritten: {shown_path(folder / 'plan.json')}, {shown_path(folder / 'plan.png')}")


@command
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    given = arguments(argv)
    made = make(
        setup_from(given),
        rows_of(given.mode, given.run, given.tokens_per_row),
        given.usd_per_hour,
        given.head_tokens,
    )
    print(show.text(made))
    write(made, given.mode, given.run)
    made.check()
    print(f"it fits: {made.own.why}")


if __name__ == "__main__":
    sys.exit(main())
