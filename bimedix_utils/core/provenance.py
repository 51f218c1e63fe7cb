"""Where files lie, and where a result comes from: paths, hashes, git state and device."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from .errors import KitError
from .text import digest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def runs_folder() -> Path:
    """Where runs are written: `runs/`, or the folder that the variable BIMEDIX_RUNS names."""
    return Path(os.environ.get("BIMEDIX_RUNS") or ROOT / "runs").resolve()


def answers_file() -> Path:
    """The one store of teacher answers: paid work, outside every run. BIMEDIX_ANSWERS names another
    file (tests, a shared disk).
    """
    return Path(
        os.environ.get("BIMEDIX_ANSWERS") or ROOT / "data" / "answers" / "answers.sqlite"
    ).resolve()


def run_folder(mode: str, run: str) -> Path:
    """`runs/<mode>` or `runs/<mode>-<run>`. A run name is letters, digits, dot, dash and
    underscore.
    """
    if run and not re.fullmatch(r"[\w][\w.-]*", run):
        raise KitError(f"RUN = {run!r}: use letters, digits, dot, dash and underscore")
    return runs_folder() / (f"{mode}-{run}" if run else mode)


def resolve_path(path: str) -> Path:
    """A path given as a parameter; a relative one starts at the project's root."""
    return Path(path) if os.path.isabs(path) else (ROOT / path).resolve()


def shown_path(path: Path) -> str:
    """A path as outputs may show it: inside project or runs folder, else its last two parts."""
    for base, prefix in ((runs_folder(), "runs/"), (ROOT, "")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return ".../" + "/".join(path.parts[-2:])


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of a folder's files without hidden ones."""
    if path.is_dir():
        files = sorted(
            p
            for p in path.rglob("*")
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
        )
        return digest([[p.relative_to(path).as_posix(), hash_path(p)] for p in files], 64)
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def portable_path(path: Path, run: Path) -> str:
    """A key that means the same in another clone: `run:` files relative to the run, `project:`
    files to the root, others absolute.
    """
    for prefix, base in (("run:", run), ("project:", ROOT)):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return str(path)


def restore_path(key: str, run: Path) -> Path:
    """The path a `portable` key names in this clone."""
    prefix, _, rest = key.partition(":")
    return (
        {"run": run, "project": ROOT}[prefix] / rest if prefix in ("run", "project") else Path(key)
    )


def trained_base(stage: Path) -> tuple[str, Path | str]:
    """(name, folder or hub id) of the base model that notebook 06's stage folder says it trained.

    A hub id stays a text: only then is it loaded at its locked commit (see `training.load_base`).
    """
    told = json.loads((stage / "base.json").read_text(encoding="utf-8"))
    folder = restore_path(told["folder"], stage.parent)
    return told["model"], folder if folder.is_dir() else told["folder"]


def git_state() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain")
    return {
        "commit": git("rev-parse", "HEAD") or "not found",
        "dirty": bool(changes) if changes is not None else "not found",
    }


def device_state() -> dict[str, Any]:
    """CPU, threads and, with PyTorch loaded, its instruction set and GPU: results hold there."""
    device: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        device["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        device["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return device
