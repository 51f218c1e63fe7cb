"""A run's folder as the runner leaves it, with the committed notebooks in the place of executed
ones, and its report.
"""

import json
import shutil
from pathlib import Path

from bimedix_utils.core.provenance import NOTEBOOKS
from bimedix_utils.runner import report

CARD = "---\ntags: [medical]\n---\n\n# A card\n\n## Limits\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


def results_of(path: Path) -> dict:
    """What a stage leaves in results.json: a result, a learned share, one that was not run, and a
    sentence that needs escaping.
    """
    learned = {"share": {"hits": 1, "n": 2}, "none": {"hits": 0, "n": 0}}
    return {
        "results": {"rows": 3},
        "learned": learned,
        "counts": {},
        "not_run": [f"{path.stem}: a <teacher>"],
    }


def finished(folder: Path) -> Path:
    """Make the run in `folder`, build its report, return the folder."""
    (folder / "notebooks").mkdir(parents=True)
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        shutil.copy(path, folder / "notebooks")
    (folder / "results.json").write_text(
        json.dumps({path.stem: results_of(path) for path in paths})
    )
    (folder / "run.json").write_text(
        json.dumps({path.stem: {"seconds": 61.0, "peak_memory_mb": 1234} for path in paths})
    )
    mix = folder / "05_build_bilingual_mix" / "bimed"
    mix.mkdir(parents=True)
    (mix / "README.md").write_text(CARD)
    (mix / "manifest.json").write_text("{}")
    (folder / "06_finetune_qlora" / "adapter").mkdir(
        parents=True
    )  # of a stage that was killed: it has no card
    report.build_report(folder)
    return folder
