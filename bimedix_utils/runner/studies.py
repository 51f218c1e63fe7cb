"""Studies too long for the default run, or in need of files it does not have: committed tables,
each with its manifest.

python -m bimedix_utils.runner.studies rules RAW_DIR     seconds; needs published dialogues in
RAW_DIR

Each study writes data/studies/<study>.csv and, with what produced it, data/studies/<study>.json.
"""

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

from .. import sources, synthesis
from ..core.errors import InputError, KitError, command
from ..core.files import write_json, write_text
from ..core.provenance import ROOT, git_state, hash_path

FOLDER = ROOT / "data" / "studies"


def rules(raw_dir: Path) -> Path:
    """How often each rule of form objects to the kit's dialogues and to published ones. Returns the
    table's path.

    Raises `InputError` when the folder holds no dialogues.
    """
    published = [
        path for path in sources.find_files(raw_dir) if sources.recognise(path)[0] == "dialogue"
    ]
    if not published:
        raise InputError(f"{raw_dir.name} holds no published dialogues")
    kit = ROOT / "data" / "sample" / "dialogues_train.en.jsonl"
    good = {
        "kit": sources.read_file(kit, kit=True),
        "published": [r for path in published for r in sources.read_file(path)],
    }
    table = []
    for name, rows in good.items():
        usable = [r for r in rows if r.lang == "en" and r.status == "ok"]
        table += [
            (name, rule, sum(not kept(r.turns) for r in usable), len(usable))
            for rule, kept in synthesis.FORM_RULES.items()
        ]
    inputs = {path.name: hash_path(path) for path in [kit, *published]}
    return write(
        "rules",
        ["dialogues", "rule", "objections", "n"],
        table,
        {"inputs": inputs, "git": git_state()},
    )


def clean_state() -> dict[str, Any]:
    """`git_state` of a clean checkout: a manifest names the code that made the table. Raises
    `KitError` on any other.
    """
    git = git_state()
    if git["dirty"]:
        raise KitError("a study is made on a clean checkout: commit first")
    return git


def write(name: str, columns: list[str], table: list[tuple], manifest: dict[str, Any]) -> Path:
    """Write a study: its table, then the manifest that names it by hash. Returns the table's path."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *table])
    path = FOLDER / f"{name}.csv"
    write_text(path, [text.getvalue()])
    write_json(FOLDER / f"{name}.json", {"sha256": hash_path(path), **manifest})
    return path


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.runner.studies",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("study", choices=["rules"])
    parser.add_argument("raw_dir", help="folder with published files")
    given = parser.parse_args()
    print(f"table: {rules(Path(given.raw_dir).resolve()).relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
