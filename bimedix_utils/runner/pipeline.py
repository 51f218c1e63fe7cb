"""The runner: executes the notebooks in order through papermill; skips unchanged ones, resumes
after a failure.

python -m bimedix_utils.runner.pipeline run --mode smoke --nb 03 --set LORA_RANK=8
"""

import argparse
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from ..core import parameters
from ..core.errors import KitError, ParameterError, command
from ..core.files import write_json
from ..core.freshness import is_fresh
from ..core.parameters import notebook_paths
from ..core.provenance import NOTEBOOKS, run_folder, shown_path

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")


def select_notebooks(numbers: str) -> list[Path]:
    """The notebooks of `NB`, such as "03" or "06 07"; all of them when it is empty.

    Raises `ParameterError` for a number that no notebook has.
    """
    known = {path.name[:2]: path for path in notebook_paths()}
    chosen = [number.zfill(2) for number in numbers.replace(",", " ").split()]
    for number in chosen:
        if number not in known:
            raise ParameterError(f"NB = {number!r}; expected one of {' '.join(known)}")
    return [path for number, path in known.items() if number in chosen or not chosen]


def parse_value(text: str, default: Any) -> Any:
    """A value of the command line, read as the type of the parameter's default.

    Text that cannot be read stays text; the parameter's own check refuses it.
    """
    if isinstance(default, str):
        return text
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except json.JSONDecodeError:
        return text


def resolve_parameters(
    chosen: list[Path], mode: str, overrides: dict[str, str]
) -> dict[Path, dict[str, Any]]:
    """Each chosen notebook's parameters: the preset, then the overrides that it declares.

    An override of another notebook is ignored, so that one command line serves every NB. Raises
    `ParameterError` for one that no notebook declares.
    """
    declared = {path: parameters.declared(path) for path in notebook_paths()}
    every = {name: one for legal in declared.values() for name, one in legal.items()}
    for name in overrides:
        if name not in every:
            raise parameters.unknown_parameter(name, every, "command line")
    table = {}
    for path in chosen:
        given = {
            name: legal.check(parse_value(overrides[name], legal.default))
            for name, legal in declared[path].items()
            if name in overrides
        }
        table[path] = {**parameters.preset_values(NOTEBOOKS, mode, path), **given}
    return table


def run_pipeline(mode: str, numbers: str, overrides: dict[str, str]) -> Path:
    """Run the chosen notebooks that are not fresh. Returns the run's folder.

    Raises `KitError` at the first one that fails.
    """
    table = resolve_parameters(select_notebooks(numbers), mode, overrides)
    folder = run_folder(mode, overrides.get("RUN", ""))
    if mode == "smoke":
        # The first look needs no account and no network: a library that tries one fails at once.
        os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    executed = 0
    for path, values in table.items():
        if is_fresh(path.stem, values):
            print(f"{path.stem:<26} unchanged")
            continue
        execute_notebook(path, values, folder)
        executed += 1
    for name in ("results.json", "run.json"):
        write_json(folder / name, stage_files(folder, name))
    print(stage_summary(folder))
    print(
        f"{executed} of {len(table)} notebooks run, {len(table) - executed} unchanged, results in"
        f" {shown_path(folder)}/results.json"
    )
    return folder


def execute_notebook(path: Path, values: dict[str, Any], folder: Path) -> None:
    """One notebook through papermill: the executed copy in `notebooks/`, its output in `logs/`.

    Raises `KitError` with the notebook's own error.
    """
    import papermill
    from traitlets.config import Config

    executed, log = folder / "notebooks" / path.name, folder / "logs" / f"{path.stem}.log"
    for target in (executed, log):
        target.parent.mkdir(parents=True, exist_ok=True)
    print(f"{path.stem:<26} ", end="", flush=True)
    begin = time.time()
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    logger = logging.getLogger("papermill")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    os.environ["BIMEDIX_BATCH"] = "1"  # tells notebook 09 that nobody is there to type
    # Without this the kernel warns that its traffic on the loopback device is not encrypted.
    config = Config({"KernelManager": {"transport_encryption": "auto"}})
    try:
        papermill.execute_notebook(
            path,
            executed,
            values,
            kernel_name="python3",
            cwd=NOTEBOOKS,
            progress_bar=False,
            log_output=True,
            autosave_cell_every=30,
            config=config,
        )
    except papermill.PapermillExecutionError as error:
        trace = "\n".join(_ANSI.sub("", line) for line in error.traceback)
        log.write_text(f"{log.read_text(encoding='utf-8')}{trace}\n", encoding="utf-8")
        print("FAILED")
        raise KitError(
            f"{path.stem}: {error.ename}: {error.evalue}\nwhole trace in {shown_path(log)}; the"
            " same command goes on from here"
        ) from None
    finally:
        logger.removeHandler(handler)
        handler.close()
    print(f"{time.time() - begin:6.1f} s")


def stage_files(folder: Path, name: str) -> dict[str, dict]:
    """{notebook: content} of `run.json` or `results.json` of every complete stage, in order."""
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"[0-9][0-9]_*/{name}"))
    }


def stage_summary(folder: Path) -> str:
    """Seconds and peak memory of each stage, as text."""
    runs = stage_files(folder, "run.json")
    rows = [(name, run["seconds"], run["peak_memory_mb"]) for name, run in runs.items()]
    seconds, memory = sum(row[1] for row in rows), max((row[2] for row in rows), default=0)
    lines = [f"{name:<26} {s:>8.1f} {mb:>8,}" for name, s, mb in [*rows, ("sum", seconds, memory)]]
    return "\n".join([f"{'notebook':<26} {'seconds':>8} {'peak MB':>8}", *lines])


def _overrides(items: list[str]) -> dict[str, str]:
    """{name: value} of NAME=VALUE words; folders that exist become absolute."""
    for item in items:
        if "=" not in item:
            raise ParameterError(f"{item!r}: parameters are given as NAME=VALUE")
    overrides = dict(item.split("=", 1) for item in items)
    for name in ("RAW_DIR", "DATA", "MODEL"):
        value = overrides.get(name)
        if value and (name != "MODEL" or Path(value).exists()):
            overrides[name] = str(Path(value).resolve())
    return overrides


@command
def main() -> None:
    """The command line; see the Makefile for the usual calls."""
    parser = argparse.ArgumentParser("bimedix_utils.runner.pipeline", description=__doc__)
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--mode", default="smoke", help="smoke, laptop, gpu or paper")
    parser.add_argument("--nb", default="", help='notebooks, such as "03" or "06 07"; empty: all')
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters")
    given = parser.parse_args()
    overrides = _overrides(given.set)
    from .report import build_report

    if given.action == "run":
        folder = run_pipeline(given.mode, given.nb, overrides)
    else:
        folder = run_folder(given.mode, overrides.get("RUN", ""))
    print(f"report: {shown_path(build_report(folder))}")


if __name__ == "__main__":
    sys.exit(main())
