"""What this machine has and what the kit needs: the rows of notebook 00."""

import os
import platform
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from importlib import metadata

from ..core import parameters
from ..core.provenance import NOTEBOOKS, ROOT, runs_folder

MODES = [
    (
        "smoke",
        "first look, CI",
        "tiny bilingual Mixtral made by the kit",
        "recorded answers",
        "data/sample, data/knowledge",
    ),
    (
        "laptop",
        "a class, no GPU",
        "SmolLM2-135M, upcycled",
        "any OpenAI-compatible endpoint",
        "sample and raw files",
    ),
    (
        "gpu",
        "one researcher, one GPU",
        "Mixtral-8x7B-Instruct in NF4",
        "any OpenAI-compatible endpoint",
        "hub files, sub-sampled",
    ),
    (
        "paper",
        "the full reproduction",
        "Mixtral-8x7B-Instruct in NF4",
        "endpoint or cluster",
        "everything",
    ),
]
_DISK_GB = 2  # a smoke run writes under 0.2 GB; the rest is room for the environment's own caches


@dataclass(frozen=True)
class Requirement:
    """One line of the check. `mend` says what to do when `status` is FAIL."""

    name: str
    status: str
    wanted: str
    mend: str


def _line(name: str, good: bool, wanted: str, mend: str) -> Requirement:
    return Requirement(name, "OK" if good else "FAIL", wanted, mend)


def pinned() -> list[tuple[str, str]]:
    """(package, version specifier) of the core dependencies, from the one list in pyproject.toml."""
    import re
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        re.match(r"([\w-]+)(?:\[.*?\])?(.*)", line).groups() for line in project["dependencies"]
    ]


def requirements(mode: str) -> list[Requirement]:
    """Every requirement of a mode with OK or FAIL. Looks, and changes nothing."""
    from packaging.specifiers import SpecifierSet

    result = [
        _line(
            "python",
            (3, 11) <= sys.version_info[:2] < (3, 13),
            ">=3.11,<3.13",
            "install Python 3.11 or 3.12, then make setup",
        )
    ]
    for name, wanted in pinned():
        try:
            good = metadata.version(name) in SpecifierSet(wanted, prereleases=True)
        except metadata.PackageNotFoundError:
            good = False
        result.append(_line(name, good, wanted, "make setup"))
    result.append(
        _line(
            "kernel",
            sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ,
            "a virtual environment",
            "make setup, then make lab",
        )
    )
    result.append(
        _line(
            "sqlite",
            sqlite3.sqlite_version_info >= (3, 24),
            ">=3.24",
            "a Python built with a newer SQLite",
        )
    )
    folder = runs_folder()
    while not folder.exists():
        folder = folder.parent
    room = shutil.disk_usage(folder).free / 1e9
    result.append(
        _line(
            "disk",
            room >= _DISK_GB,
            f">={_DISK_GB} GB free",
            "free some, or point BIMEDIX_RUNS at a larger disk",
        )
    )
    result.append(
        _line(
            "runs folder",
            os.access(folder, os.W_OK),
            "writable",
            "mend its permissions, or set BIMEDIX_RUNS",
        )
    )
    for part in ("sample", "knowledge", "recordings", "paper"):
        result.append(
            _line(
                f"data/{part}",
                any((ROOT / "data" / part).glob("*")),
                "present",
                "git checkout data",
            )
        )
    if mode in ("gpu", "paper"):
        import torch

        result.append(
            _line(
                "GPU",
                torch.cuda.is_available(),
                "CUDA",
                "make setup TORCH_INDEX=<a CUDA wheel index>, or MODE=laptop",
            )
        )
    return result


def describe() -> list[tuple[str, str]]:
    """(what, found): versions and hardware, for the reader and for bug reports."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    rows = [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("python", platform.python_version()),
    ]
    rows += [
        ("cores", str(os.cpu_count())),
        ("memory", f"{memory:.0f} GB"),
        ("CPU capability", torch.backends.cpu.get_cpu_capability()),
    ]
    rows.append(("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"))
    return rows + [(name, metadata.version(name)) for name, _ in pinned()]


def plan(mode: str) -> list[tuple[str, int, str]]:
    """(notebook, number of parameters, the ones special to it) as the mode's preset sets them."""
    rows = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        values = parameters.preset_values(NOTEBOOKS, mode, path)
        own = [
            f"{name}={value}"
            for name, value in values.items()
            if name not in ("MODE", "RUN", "SEED", "THREADS")
        ]
        rows.append((path.stem, len(values), ", ".join(own[:3]) or "-"))
    return rows
