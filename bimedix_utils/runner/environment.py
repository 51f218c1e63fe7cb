"""What this machine has and what the kit needs: the rows of notebook 00."""

import os
import platform
import re
import shutil
import sqlite3
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata

from ..core.parameters import MODES, notebook_paths, preset_values
from ..core.provenance import NOTEBOOKS, ROOT, runs_folder

_MODE_USES = {  # mode -> for whom, model, teacher, data
    "smoke": (
        "first look, CI",
        "tiny bilingual Mixtral made by the kit",
        "recorded answers",
        "data/sample, data/knowledge",
    ),
    "laptop": (
        "a class, no GPU",
        "SmolLM2-135M, upcycled",
        "any OpenAI-compatible endpoint",
        "sample and raw files",
    ),
    "gpu": (
        "one researcher, one GPU",
        "Mixtral-8x7B-Instruct in NF4",
        "any OpenAI-compatible endpoint",
        "hub files, sub-sampled",
    ),
    "paper": (
        "the full reproduction",
        "Mixtral-8x7B-Instruct in NF4",
        "endpoint or cluster",
        "everything",
    ),
}
_DISK_GB = 2  # a smoke run writes under 0.2 GB; the rest is room for the caches of libraries


@dataclass(frozen=True)
class Requirement:
    """One line of the check. `fix` says what to do when `status` is FAIL."""

    name: str
    status: str
    expected: str
    fix: str


def mode_table() -> list[tuple[str, ...]]:
    """(mode, for whom, model, teacher, data) of the four modes."""
    return [(mode, *_MODE_USES[mode]) for mode in MODES]


def pinned_packages() -> list[tuple[str, str]]:
    """(package, version specifier) of the core dependencies, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        re.match(r"([\w-]+)(?:\[.*?\])?(.*)", line).groups() for line in project["dependencies"]
    ]


def check_requirements(mode: str) -> list[Requirement]:
    """Every requirement of a mode with OK or FAIL. Changes nothing."""
    runs = runs_folder()
    while not runs.exists():
        runs = runs.parent
    free = shutil.disk_usage(runs).free / 1e9
    isolated = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    python = "install Python 3.11 or 3.12, then make setup"
    sqlite = sqlite3.sqlite_version_info >= (3, 24)
    writable = os.access(runs, os.W_OK)
    checks = [
        ("python", (3, 11) <= sys.version_info[:2] < (3, 13), ">=3.11,<3.13", python),
        *((name, _installed(name, pin), pin, "make setup") for name, pin in pinned_packages()),
        ("kernel", isolated, "a virtual environment", "make setup, then make lab"),
        ("sqlite", sqlite, ">=3.24", "a Python built with a newer SQLite"),
        (
            "disk",
            free >= _DISK_GB,
            f">={_DISK_GB} GB free",
            "free some, or point BIMEDIX_RUNS at a larger disk",
        ),
        ("runs folder", writable, "writable", "change its permissions, or set BIMEDIX_RUNS"),
    ]
    for part in ("sample", "knowledge", "recordings", "paper"):
        there = any((ROOT / "data" / part).glob("*"))
        checks.append((f"data/{part}", there, "present", "git checkout data"))
    if mode in ("gpu", "paper"):
        import torch

        advice = "make setup TORCH_INDEX=<a CUDA wheel index>, or MODE=laptop"
        checks.append(("GPU", torch.cuda.is_available(), "CUDA", advice))
    return [
        Requirement(name, "OK" if good else "FAIL", expected, fix)
        for name, good, expected, fix in checks
    ]


def _installed(name: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    try:
        return metadata.version(name) in SpecifierSet(specifier, prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def describe_machine() -> list[tuple[str, str]]:
    """(what, found): versions and hardware, for the reader and for bug reports."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("python", platform.python_version()),
        ("cores", str(os.cpu_count())),
        ("memory", f"{memory:.0f} GB"),
        ("CPU capability", torch.backends.cpu.get_cpu_capability()),
        ("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"),
        *((name, metadata.version(name)) for name, _ in pinned_packages()),
    ]


def preset_overview(mode: str) -> list[tuple[str, int, str]]:
    """(notebook, number of parameters, its first own ones) as the mode's preset sets them."""
    rows = []
    for path in notebook_paths():
        values = preset_values(NOTEBOOKS, mode, path)
        shared = ("MODE", "RUN", "SEED", "THREADS")
        own = [f"{name}={value}" for name, value in values.items() if name not in shared]
        rows.append((path.stem, len(values), ", ".join(own[:3]) or "-"))
    return rows
