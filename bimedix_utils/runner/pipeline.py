"""The runner: executes the notebooks in order through papermill, skips what is unchanged, resumes
what failed.

python -m bimedix_utils.runner.pipeline run --mode smoke --nb 03 --set LORA_RANK=8
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from ..core import freshness, parameters
from ..core.errors import KitError, ParameterError
from ..core.files import write_json
from ..core.provenance import NOTEBOOKS, run_folder, shown_path

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def notebooks() -> list[Path]:
    """The ten notebooks in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def selected(numbers: str) -> list[Path]:
    """The notebooks named by `NB`, such as "03" or "06 07"; all of them when it is empty. Raises
    `ParameterError`.
    """
    every = notebooks()
    if not numbers.strip():
        return every
    wanted = [number.zfill(2) for number in numbers.replace(",", " ").split()]
    known = {path.name[:2]: path for path in every}
    for number in wanted:
        if number not in known:
            raise ParameterError(f"NB = {number!r}; wanted one of {' '.join(known)}")
    return [path for number, path in known.items() if number in wanted]


def literal(text: str, default: Any) -> Any:
    """A value typed on the command line, read as the parameter's own type; what cannot be read
    stays text and is refused later.
    """
    if isinstance(default, str):
        return text
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except json.JSONDecodeError:
        return text


def resolved(
    chosen: list[Path], mode: str, overrides: dict[str, str]
) -> dict[Path, dict[str, Any]]:
    """Every chosen notebook's parameters: preset, then overrides where the notebook declares them;
    all checked before any runs.

    An override that another notebook declares is left alone, so that one command line serves every
    NB. Raises `ParameterError` for one that no notebook declares.
    """
    every = {
        name: parameter
        for path in notebooks()
        for name, parameter in parameters.declared(path).items()
    }
    for name in overrides:
        if name not in every:
            raise parameters.unknown_parameter(name, every, "command line")
    table = {}
    for path in chosen:
        legal = parameters.declared(path)
        given = {
            name: legal[name].check(literal(text, legal[name].default))
            for name, text in overrides.items()
            if name in legal
        }
        table[path] = {**parameters.preset_values(NOTEBOOKS, mode, path), **given}
    return table


def run(mode: str, numbers: str, overrides: dict[str, str]) -> Path:
    """Run the chosen notebooks that are not fresh. Returns the run's folder. Raises `KitError` at
    the first that fails.
    """
    chosen = selected(numbers)
    table = resolved(chosen, mode, overrides)
    folder = run_folder(mode, overrides.get("RUN", ""))
    if mode == "smoke":
        # The first look needs no account and no network: a library that tries one anyway fails at
        # once and visibly.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    done = 0
    for path, values in table.items():
        if freshness.is_fresh(path.stem, values):
            print(f"{path.stem:<26} unchanged")
            continue
        execute(path, values, folder)
        done += 1
    collect(folder)
    print(summary(folder))
    print(
        f"{done} of {len(chosen)} notebooks run, {len(chosen) - done} unchanged, results in"
        f" {shown_path(folder)}/results.json"
    )
    return folder


def execute(path: Path, values: dict[str, Any], folder: Path) -> None:
    """One notebook through papermill; the executed copy in `notebooks/`, what it printed in
    `logs/`. Raises `KitError`.
    """
    import logging

    import papermill
    from traitlets.config import Config

    executed, log = folder / "notebooks" / path.name, folder / "logs" / f"{path.stem}.log"
    for target in (executed, log):
        target.parent.mkdir(parents=True, exist_ok=True)
    print(f"{path.stem:<26} ", end="", flush=True)
    begin = time.time()
    logger = logging.getLogger("papermill")
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    os.environ["BIMEDIX_BATCH"] = "1"  # tells notebook 09 that nobody is there to type
    options = {
        "kernel_name": "python3",
        "cwd": NOTEBOOKS,
        "progress_bar": False,
        "log_output": True,
        "autosave_cell_every": 30,
    }
    # Without this the kernel warns on every start that what it sends over the loopback device is
    # not encrypted.
    options["config"] = Config({"KernelManager": {"transport_encryption": "auto"}})
    try:
        papermill.execute_notebook(path, executed, values, **options)
    except papermill.PapermillExecutionError as error:
        trace = [_ANSI.sub("", line) for line in error.traceback]
        log.write_text(log.read_text(encoding="utf-8") + "\n".join(trace) + "\n", encoding="utf-8")
        print("FAILED")
        raise KitError(
            f"{path.stem}: {error.ename}: {error.evalue}\nwhole trace in {shown_path(log)}; the same"
            " command goes on from here"
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


def collect(folder: Path) -> None:
    """Write the run's own results.json and run.json from those of its stages."""
    write_json(folder / "results.json", stage_files(folder, "results.json"))
    write_json(folder / "run.json", stage_files(folder, "run.json"))


def summary(folder: Path) -> str:
    """Seconds and peak memory of each stage, as text."""
    rows = [
        (name, run["seconds"], run["peak_memory_mb"])
        for name, run in stage_files(folder, "run.json").items()
    ]
    lines = [
        f"{'notebook':<26} {'seconds':>8} {'peak MB':>8}",
        *(f"{name:<26} {s:>8.1f} {mb:>8,}" for name, s, mb in rows),
    ]
    return "\n".join(
        [
            *lines,
            (
                f"{'sum':<26} {sum(row[1] for row in rows):>8.1f}"
                f" {max((row[2] for row in rows), default=0):>8,}"
            ),
        ]
    )


def main() -> int:
    """The command line; see the Makefile for the usual calls."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.runner.pipeline", description=__doc__)
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--mode", default="smoke", help="smoke, laptop, gpu or paper")
    parser.add_argument(
        "--nb", default="", help='notebooks to run, such as "03" or "06 07"; all when empty'
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="parameters that differ from the preset",
    )
    arguments = parser.parse_args()
    try:
        overrides = dict(item.split("=", 1) for item in arguments.set if "=" in item)
        bad = [item for item in arguments.set if "=" not in item]
        if bad:
            raise ParameterError(f"{bad[0]!r}: parameters are given as NAME=VALUE")
        for name in ("RAW_DIR", "DATA"):
            if overrides.get(name):
                overrides[name] = str(Path(overrides[name]).resolve())
        if overrides.get("MODEL") and Path(overrides["MODEL"]).exists():
            overrides["MODEL"] = str(Path(overrides["MODEL"]).resolve())
        from .report import build_report

        if arguments.action == "run":
            folder = run(arguments.mode, arguments.nb, overrides)
        else:
            folder = run_folder(arguments.mode, overrides.get("RUN", ""))
        print(f"report: {shown_path(build_report(folder))}")
    except KitError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
