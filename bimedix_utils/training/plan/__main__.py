"""The command line of the plan: memory by part, every GPU, steps, tokens, hours and cost.

python -m bimedix_utils.training.plan --mode paper [--gpu "A100 80GB"] [--set LORA_RANK=64 GPUS=4]

Writes plan.json into the run's folder. Exit code 1 when the preset's own GPU (or,
without one, this machine) cannot hold the training.
"""

import argparse
import sys
from typing import Any

from ...core.errors import ParameterError, command
from ...core.files import write_json
from ...core.freshness import package_versions
from ...core.parameters import MODES, declared, preset_values, unknown_parameter
from ...core.provenance import NOTEBOOKS, git_state, run_folder, shown_path
from .cost import epoch_rows
from .planner import plan_training
from .report import plan_text
from .setup import TrainingSetup

NOTEBOOK = NOTEBOOKS / "06_finetune_qlora.ipynb"


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.training.plan",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    option = parser.add_argument
    option("--mode", default="paper", help=" | ".join(MODES))
    option("--run", default="", help="name of the run")
    option("--gpu", help="a name in data/gpus.csv instead of the preset's GPU")
    option("--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of notebook 06")
    option("--tokens-per-row", type=float, help="an assumed mean length of a row")
    option("--head-tokens", type=int, help="positions the loss head computes at once (all)")
    option("--usd-per-hour", type=float, help="price of one GPU's hour")
    return parser.parse_args(given)


def _overrides(items: list[str]) -> dict[str, Any]:
    """NAME=VALUE items as checked values. Raises `ParameterError` for an unknown or illegal one."""
    legal, found = declared(NOTEBOOK), {}
    for item in items:
        name, _, text = item.partition("=")
        if name not in legal:
            raise unknown_parameter(name, legal, "--set")
        kind = type(legal[name].default)
        try:
            found[name] = legal[name].check(kind(text))
        except ValueError:
            raise ParameterError(f"{item}: must be {legal[name].describe()}") from None
    return found


@command
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    given = _arguments(argv)
    values = preset_values(NOTEBOOKS, given.mode, NOTEBOOK) | _overrides(given.set)
    setup = TrainingSetup.of({**values, "GPU": given.gpu} if given.gpu else values)
    setup = setup.changed(head_tokens=given.head_tokens)
    rows = epoch_rows(given.mode, given.run, given.tokens_per_row)
    plan = plan_training(setup, rows, given.usd_per_hour)
    print(plan_text(plan))
    path = run_folder(given.mode, given.run) / "plan.json"
    facts = {"mode": given.mode, "versions": package_versions(), "git": git_state()}
    write_json(path, {**plan.as_json(), **facts})
    print(f"\nwritten: {shown_path(path)}")
    plan.check()
    print(f"it fits: {plan.own.why}")


if __name__ == "__main__":
    sys.exit(main())
