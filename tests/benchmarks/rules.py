"""`make bench-rules RAW_DIR=folder`: how often each form rule of notebook 02 objects to the kit's
dialogues and to published ones; writes data/studies/rules.csv. Takes seconds.
"""

import sys
from pathlib import Path

from bimedix_utils import sources, synthesis
from bimedix_utils.core.errors import InputError, command
from bimedix_utils.core.provenance import ROOT, git_state, hash_path
from bimedix_utils.core.studies import write_study


@command
def main() -> None:
    """The command line. Raises `InputError` when the folder holds no dialogues."""
    raw_dir = Path(sys.argv[1]).resolve()
    published = [file for file in sources.find_files(raw_dir) if file.entry.name == "dialogue"]
    if not published:
        raise InputError(f"{raw_dir.name} holds no published dialogues")
    kit = ROOT / "data" / "sample" / "dialogues_train.en.jsonl"
    dialogues = {
        "kit": sources.read_file(kit, kit=True),
        "published": [row for path in published for row in sources.read_file(path)],
    }
    table = []
    for name, rows in dialogues.items():
        usable = [row for row in rows if row.lang == "en" and row.status == "ok"]
        table += [
            (name, rule, sum(not passes(row.turns) for row in usable), len(usable))
            for rule, passes in synthesis.FORM_RULES.items()
        ]
    inputs = {path.name: hash_path(path) for path in [kit, *published]}
    columns = ["dialogues", "rule", "objections", "n"]
    path = write_study("rules", columns, table, {"inputs": inputs, "git": git_state()})
    print(f"table: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
