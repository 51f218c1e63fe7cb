"""Where a result comes from: hashes of files, code, versions, git state and device, and whether a
stage is still fresh.

A stage is fresh when its parameters, notebook code, imported package source, package versions,
inputs and outputs are what they were when its manifest was written. Editing one module therefore
re-runs the stages that import it, and no others.
"""

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import KitError
from .text import digest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
# What can change a number without any file of ours changing: part of every stage fingerprint.
_TRACKED = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
    "sacrebleu",
)


def runs_folder() -> Path:
    """Where runs are written: `runs/` of the project, or the folder named by the variable
    BIMEDIX_RUNS (tests, a big disk).
    """
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
    """A folder or file given as a parameter; a relative one counts from the project's root,
    wherever the kernel runs.
    """
    return Path(path) if os.path.isabs(path) else (ROOT / path).resolve()


def shown_path(path: Path) -> str:
    """A path as outputs may show it: relative to the project or the runs folder, otherwise only its
    last two parts.
    """
    for base, prefix in ((runs_folder(), "runs/"), (ROOT, "")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return ".../" + "/".join(path.parts[-2:])


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    return {name: metadata.version(name) for name in _TRACKED}


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of the sorted names and hashes of a folder's files (hidden files and
    caches left out).
    """
    if path.is_dir():
        files = sorted(
            p
            for p in path.rglob("*")
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
        )
        return digest([[p.relative_to(path).as_posix(), hash_path(p)] for p in files], 64)
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(notebook: str, values: dict[str, Any]) -> str:
    """Hash of parameters, notebook code, the package source it imports and the versions that can
    change a number.
    """
    path = NOTEBOOKS / f"{notebook}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    modules = imported_modules(
        "\n".join(
            line
            for source in code
            for line in source.split("\n")
            if not line.startswith(("%", "!"))
        )
    )
    return digest(
        [
            values,
            code,
            [[p.relative_to(ROOT).as_posix(), hash_path(p)] for p in modules],
            package_versions(),
        ],
        64,
    )


def imported_modules(source: str) -> list[Path]:
    """Files of this package that `source` imports, directly or through other modules of the
    package, with their prompts.
    """
    package = ROOT / "bimedix_utils"
    found: set[Path] = set()

    def visit(tree: ast.AST, folder: Path | None) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                dotted = [
                    alias.name.split(".")
                    for alias in node.names
                    if alias.name.startswith("bimedix_utils.")
                ]
                for parts in dotted:
                    visit(ast.parse(f"from {'.'.join(parts[:-1])} import {parts[-1]}"), None)
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:  # relative: only inside the package
                base = folder
                for _ in range(node.level - 1):
                    base = base.parent
                parts = (node.module or "").split(".") if node.module else []
            elif node.module and node.module.split(".")[0] == "bimedix_utils":
                base, parts = package, node.module.split(".")[1:]
            else:
                continue
            target = base.joinpath(*parts)
            names = [target.with_suffix(".py") if parts else None, target / "__init__.py"]
            names += [target / f"{alias.name}.py" for alias in node.names]
            names += [target / alias.name / "__init__.py" for alias in node.names]
            for path in names:
                if path and path.is_file() and path not in found:
                    found.add(path)
                    visit(ast.parse(path.read_text(encoding="utf-8")), path.parent)

    visit(ast.parse(source), None)
    if any(
        path.parent == package and path.name in ("synthesis.py", "translation.py") for path in found
    ):
        found.update((package / "prompts").glob("*.txt"))
    return sorted(found)


def is_fresh(notebook: str, values: dict[str, Any]) -> bool:
    """True when the stage is complete, lacks nothing, and nothing it depends on has changed:
    fingerprint, inputs and outputs.
    """
    folder = run_folder(values["MODE"], values["RUN"]) / notebook
    try:
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    if manifest.get("incomplete") or manifest["fingerprint"] != fingerprint(notebook, values):
        return False
    paths = [(restore_path(key, folder.parent), value) for key, value in manifest["inputs"].items()]
    paths += [(folder / name, value) for name, value in manifest["outputs"].items()]
    return all(path.exists() and hash_path(path) == value for path, value in paths)


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

    A hub id stays a text: only then is it loaded at its locked commit (see `models.load`).
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
    """Processor, threads and, where PyTorch is loaded, the instruction set it uses and the GPU:
    results hold for these only.
    """
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
