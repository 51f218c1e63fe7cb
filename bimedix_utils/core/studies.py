"""Studies: committed tables that take longer than a run or need files it does not have.

A study is `data/studies/<name>.csv` and, with what produced it, `data/studies/<name>.json`.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from .errors import InputError, KitError
from .files import read_utf8, write_json, write_text
from .provenance import ROOT, git_state, hash_path

STUDIES = ROOT / "data" / "studies"


def clean_git_state() -> dict[str, Any]:
    """`git_state` of a clean checkout: a manifest names the code that made the table. Raises
    `KitError` on any other.
    """
    git = git_state()
    if git["dirty"]:
        raise KitError("a study is made on a clean checkout: commit first")
    return git


def write_study(name: str, columns: list[str], rows: list[tuple], manifest: dict[str, Any]) -> Path:
    """Write a study's table, then the manifest with its hash. Returns the table's path."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    path = STUDIES / f"{name}.csv"
    write_text(path, [text.getvalue()])
    write_json(STUDIES / f"{name}.json", {"sha256": hash_path(path), **manifest})
    return path


def read_study(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a study. Raises `InputError` when its manifest describes another table."""
    read_manifest(folder, name)
    return list(csv.DictReader(read_utf8(folder / f"{name}.csv").splitlines()))


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """What produced a study. Raises `InputError` when it describes another table."""
    manifest = json.loads(read_utf8(folder / f"{name}.json"))
    if hash_path(folder / f"{name}.csv") != manifest["sha256"]:
        raise InputError(f"{name}.csv is not the table that {name}.json describes: renew the study")
    return manifest
