"""Studies too long for the default run, or in need of files it does not have: committed tables, each with its manifest.

python -m bimedix_utils.studies seeds             about 4 minutes for each seed on two cores
python -m bimedix_utils.studies rules RAW_DIR     seconds; needs published dialogues in RAW_DIR

Each writes data/studies/<study>.csv and, with what produced it, data/studies/<study>.json.
"""

import argparse
import csv
import io
import re
import sys
from pathlib import Path
from typing import Any

from . import pipeline, sources, synthesis
from .errors import InputError, KitError
from .provenance import ROOT, git_state, hash_path, write_json, write_text

FOLDER = ROOT / "data" / "studies"
CHAIN = "01 02 03 04 05 06 07"
# study -> arm -> the parameters in which it differs from the smoke preset
STUDIES: dict[str, dict[str, dict[str, Any]]] = {"seeds": {f"seed {seed}": {"SEED": seed} for seed in (42, 43, 44)}}
COLUMNS = ["arm", "part", "language", "model", "hits", "n"]
_HELD_OUT = re.compile(r"(base|tuned) (taught|paraphrase|stated|transfer) (en|ar)")


def rows(arm: str, learned: dict[str, dict[str, int]]) -> list[tuple]:
    """The held-out scores of one arm, from the learned numbers of notebook 07: one row a model, part and language."""
    found = [(_HELD_OUT.fullmatch(name), value) for name, value in learned.items()]
    return [(arm, match[2], match[3], match[1], value["hits"], value["n"]) for match, value in found if match]


def run(name: str) -> Path:
    """Run every arm of a study, then write its table and the manifests that produced it. Returns the table's path.

    A finished arm is not repeated as long as nothing it depends on has changed; raises `KitError` at the first arm that fails.
    """
    table, manifests = [], {}
    for arm, changes in STUDIES[name].items():
        overrides = {**{key: str(value) for key, value in changes.items()}, "RUN": f"{name}-{arm.replace(' ', '-')}"}
        folder = pipeline.run("smoke", CHAIN, overrides)
        results, runs = pipeline.stage_files(folder, "results.json"), pipeline.stage_files(folder, "run.json")
        table += rows(arm, results["07_evaluate_models"]["learned"])
        kept = ("parameters", "fingerprint", "git", "versions", "device", "seconds", "peak_memory_mb")
        manifests[arm] = {stage: {key: manifest[key] for key in kept} for stage, manifest in runs.items()}
    return write(name, COLUMNS, table, {"arms": manifests})


def rules(raw_dir: Path) -> Path:
    """How often each rule of form objects to the kit's dialogues and to published ones. Returns the table's path.

    Raises `InputError` when the folder holds no dialogues.
    """
    published = [path for path in sources.find_files(raw_dir) if sources.recognise(path)[0] == "dialogue"]
    if not published:
        raise InputError(f"{raw_dir.name} holds no published dialogues")
    kit = ROOT / "data" / "sample" / "dialogues_train.en.jsonl"
    good = {"kit": sources.read_file(kit, kit=True), "published": [r for path in published for r in sources.read_file(path)]}
    table = []
    for name, rows in good.items():
        usable = [r for r in rows if r.lang == "en" and r.status == "ok"]
        table += [(name, rule, sum(not kept(r.turns) for r in usable), len(usable)) for rule, kept in synthesis.FORM_RULES.items()]
    inputs = {path.name: hash_path(path) for path in [kit, *published]}
    return write("rules", ["dialogues", "rule", "objections", "n"], table, {"inputs": inputs, "git": git_state()})


def write(name: str, columns: list[str], table: list[tuple], manifest: dict[str, Any]) -> Path:
    """Write a study: its table, then the manifest that names it by hash. Returns the table's path."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *table])
    path = FOLDER / f"{name}.csv"
    write_text(path, [text.getvalue()])
    write_json(FOLDER / f"{name}.json", {"sha256": hash_path(path), **manifest})
    return path


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.studies", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=[*STUDIES, "rules"])
    parser.add_argument("raw_dir", nargs="?", default="", help="folder with published files, for the study `rules`")
    given = parser.parse_args()
    try:
        path = rules(Path(given.raw_dir).resolve()) if given.study == "rules" else run(given.study)
        print(f"table: {path.relative_to(ROOT)}")
    except KitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
