"""Execute the notebooks in smoke mode and store their outputs in them, for readers of the
repository (`make refresh`).

Nothing that changes from run to run is stored (times, ids of widgets, kernel versions). Cells
tagged `machine-dependent` keep their committed output unless asked. On a clean tree the command
changes nothing.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..core.files import write_text
from ..core.parameters import declared, notebook_paths, preset_values
from ..core.provenance import NOTEBOOKS
from .pipeline import execute_notebook

_KEPT_METADATA = ("tags", "jupyter")


def normalise_notebook(notebook: dict[str, Any]) -> str:
    """A notebook as text: execution counts 1, 2, 3 ..., no timings, no papermill metadata."""
    count = 0
    for cell in notebook["cells"]:
        cell["metadata"] = {
            key: value for key, value in cell["metadata"].items() if key in _KEPT_METADATA
        }
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            for output in cell["outputs"]:
                output.pop("transient", None)
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
                if "metadata" in output:
                    output["metadata"] = {}
    notebook["metadata"] = {
        "kernelspec": notebook["metadata"]["kernelspec"],
        "language_info": {"name": "python"},
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def merge_outputs(
    committed: dict[str, Any], executed: dict[str, Any], everything: bool
) -> dict[str, Any]:
    """The executed notebook's outputs in the committed notebook's cells.

    Machine-dependent outputs are replaced only when `everything` or absent. A picture is kept when
    its cell's other outputs did not change: two machines draw the same figure in other bytes.
    """
    fresh = {cell["id"]: cell for cell in executed["cells"]}
    for cell in committed["cells"]:
        if cell["cell_type"] != "code":
            continue
        new, old = fresh[cell["id"]]["outputs"], cell["outputs"]
        pinned = "machine-dependent" in cell["metadata"].get("tags", [])
        unchanged = pinned or _without_pictures(new) == _without_pictures(old)
        if everything or not old or not unchanged:
            cell["outputs"] = new
    return committed


def _without_pictures(outputs: list[dict]) -> str:
    dropped = ("metadata", "execution_count")
    kept = [{k: v for k, v in output.items() if k not in dropped} for output in outputs]
    return re.sub(r'"image/png": "[^"]*"', "", json.dumps(kept, sort_keys=True))


def refresh_notebooks(everything: bool) -> list[str]:
    """Execute all notebooks in a scratch folder; returns those whose stored outputs changed."""
    changed = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BIMEDIX_RUNS"] = scratch
        folder = Path(scratch) / "smoke"
        for path in notebook_paths():
            values = preset_values(NOTEBOOKS, "smoke", path)
            defaults = {name: one.default for name, one in declared(path).items()}
            assert values == defaults, f"{path.name}: defaults are not the preset"
            execute_notebook(path, values, folder)
            before = path.read_text(encoding="utf-8")
            executed = json.loads((folder / "notebooks" / path.name).read_text(encoding="utf-8"))
            merged = merge_outputs(json.loads(before), executed, everything)
            if (after := normalise_notebook(merged)) != before:
                write_text(path, [after])
                changed.append(path.name)
    return changed


def main() -> int:
    """The command line: `--all` renews machine-dependent outputs too."""
    parser = argparse.ArgumentParser("bimedix_utils.runner.refresh", description=__doc__)
    parser.add_argument("--all", action="store_true")
    changed = refresh_notebooks(parser.parse_args().all)
    print("changed: " + (", ".join(changed) or "nothing"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
