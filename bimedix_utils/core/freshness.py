"""Is a finished stage still what its inputs would give today?

The fingerprint of a stage covers its parameters, the content of every file or folder that a
parameter names, the notebook's code, the package source that it imports, the data files of these
rooms (prompts, templates, languages), the kit's data that this source names, and the versions that
can change a number. What a notebook registers with `run.input` is compared beside it.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from . import provenance
from .provenance import hash_path, resolve_path, restore_path, run_folder
from .text import digest

# What can change a number without any file of ours changing.
_TRACKED = (
    "torch transformers peft bitsandbytes accelerate datasets tokenizers numpy sacrebleu".split()
)
# Inputs of a run, registered file by file where they are read, and the store of paid answers.
_NOT_KIT_DATA = ("data/raw", "data/answers")


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    return {name: metadata.version(name) for name in _TRACKED}


def fingerprint(notebook: str, values: dict[str, Any]) -> str:
    """Hash, 64 hex digits, of all that decides what `notebook` gives with these parameters."""
    cells = json.loads((provenance.NOTEBOOKS / f"{notebook}.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for source in code for line in source.split("\n") if line[:1] not in "%!"]
    files = depends_on("\n".join(line for line in lines if line))
    hashes = [[path.relative_to(provenance.ROOT).as_posix(), hash_path(path)] for path in files]
    return digest([values, code, hashes, _named_by(values), package_versions()], 64)


def _named_by(values: dict[str, Any]) -> list[list[str]]:
    """Content hash of each file or folder that a parameter names; the locked commit of a hub id."""
    lock = provenance.ROOT / "data" / "raw" / "weights" / "models.lock.json"
    commits = json.loads(lock.read_text("utf-8")) if lock.is_file() else {}
    found = []
    for name, value in values.items():
        if isinstance(value, str) and value and "\n" not in value:
            path = resolve_path(value)
            if path.exists():
                found.append([name, hash_path(path)])
            elif value in commits:
                found.append([name, str(commits[value])])
    return found


def depends_on(source: str) -> list[Path]:
    """Files of the project that `source` uses: modules, their rooms' data files, the kit's data."""
    modules = imported_modules(source)
    package = provenance.ROOT / "bimedix_utils"
    folders = {path.parent for path in modules} | {package / "languages"}
    found = set(modules)
    for folder in folders - {package}:
        found.update(_data_files(folder, folders))
    for text in (source, *(path.read_text("utf-8") for path in modules)):
        found.update(_kit_data(text))
    return sorted(found)


def _data_files(folder: Path, modules: set[Path]) -> Iterator[Path]:
    """Files of a room that are no modules; a sub-folder with modules answers for itself."""
    for path in folder.glob("*"):
        if path.is_dir() and path not in modules and not (path / "__init__.py").exists():
            yield from _data_files(path, modules)
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


def _kit_data(source: str) -> Iterator[Path]:
    """Existing paths below `data/` that the source spells: "data/x" or ROOT / "data" / "x"."""
    names = re.findall(r"""["'](data/[\w./-]+)["']""", source)
    for chain in re.findall(r"""ROOT((?: / ["'][\w.-]+["'])+)""", source):
        names.append("/".join(re.findall(r"[\w.-]+", chain)))
    for name in names:
        path = provenance.ROOT / name
        if name.startswith("data/") and path.exists() and not name.startswith(_NOT_KIT_DATA):
            yield path


def imported_modules(source: str) -> list[Path]:
    """Files of this package that `source` imports, directly or through other modules."""
    package = provenance.ROOT / "bimedix_utils"
    found: set[Path] = set()

    def visit(tree: ast.AST, folder: Path) -> None:
        for target in _imported(tree, folder, package):
            for path in (target.with_suffix(".py"), target / "__init__.py"):
                if path.is_file() and path not in found:
                    found.add(path)
                    visit(ast.parse(path.read_text("utf-8")), path.parent)

    visit(ast.parse(source), package)
    return sorted(found)


def _imported(tree: ast.AST, folder: Path, package: Path) -> Iterable[Path]:
    """Where each import could lie: the named module, its parents, and the names taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [(package.parent, alias.name.split("."), []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.parent if not node.level else [folder, *folder.parents][node.level - 1]
            targets = [(base, (node.module or "").split("."), [a.name for a in node.names])]
        else:
            continue
        for base, parts, names in targets:
            parts = [part for part in parts if part]
            target = base.joinpath(*parts)
            if target == package or target.is_relative_to(package):
                yield from [target, *(target / name for name in names)]
                # Importing a.b.c runs the __init__ of a and a.b as well.
                yield from (parent for parent in target.parents if parent.is_relative_to(package))


def is_fresh(notebook: str, values: dict[str, Any]) -> bool:
    """True when the stage is complete and its fingerprint, inputs and outputs are unchanged."""
    folder = run_folder(values["MODE"], values["RUN"]) / notebook
    try:
        manifest = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    if manifest.get("incomplete") or manifest["fingerprint"] != fingerprint(notebook, values):
        return False
    paths = [(restore_path(key, folder.parent), value) for key, value in manifest["inputs"].items()]
    paths += [(folder / name, value) for name, value in manifest["outputs"].items()]
    return all(path.exists() and hash_path(path) == value for path, value in paths)
