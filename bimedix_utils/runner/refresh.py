"""Execute the notebooks in smoke mode and store their outputs in them: what a reader of the
repository sees.

Nothing that changes from run to run is stored (times, ids of widgets, kernel versions), and cells
tagged `machine-dependent` keep their committed output unless asked: on a clean tree the command
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
from ..core.parameters import declared, preset_values
from ..core.provenance import NOTEBOOKS
from .pipeline import execute, notebooks

KEPT_METADATA = ("tags", "jupyter")


def normalised(notebook: dict[str, Any]) -> str:
    """A notebook as text: execution counts 1, 2, 3 ..., no timings, no papermill cells or metadata,
    sorted keys.
    """
    count = 0
    for cell in notebook["cells"]:
        cell["metadata"] = {
            key: value for key, value in cell["metadata"].items() if key in KEPT_METADATA
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


def merge(committed: dict[str, Any], executed: dict[str, Any], everything: bool) -> dict[str, Any]:
    """The executed notebook's outputs in the committed notebook's cells; machine-dependent ones
    only when `everything` or absent.

    A picture is kept too when its cell's other outputs did not change: two machines draw the same
    figure in other bytes.
    """
    fresh = {cell["id"]: cell for cell in executed["cells"]}
    for cell in committed["cells"]:
        if cell["cell_type"] != "code":
            continue
        new, old = fresh[cell["id"]]["outputs"], cell["outputs"]
        pinned = "machine-dependent" in cell["metadata"].get("tags", [])
        if (
            everything
            or not old
            or not (pinned or _without_pictures(new) == _without_pictures(old))
        ):
            cell["outputs"] = new
    return committed


def _without_pictures(outputs: list[dict]) -> str:
    text = json.dumps(
        [{k: v for k, v in o.items() if k not in ("metadata", "execution_count")} for o in outputs],
        sort_keys=True,
    )
    return re.sub(r'"image/png": "[^"]*"', "", text)


def refresh(everything: bool) -> list[str]:
    """Execute all ten notebooks in a folder of their own; returns the names of those whose stored
    outputs changed.
    """
    changed = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BIMEDIX_RUNS"] = scratch
        for path in notebooks():
            values = preset_values(NOTEBOOKS, "smoke", path)
            assert values == {
                name: parameter.default for name, parameter in declared(path).items()
            }, f"{path.name}: defaults are not the preset"
            folder = Path(scratch) / "smoke"
            execute(path, values, folder)
            before = path.read_text(encoding="utf-8")
            executed = json.loads((folder / "notebooks" / path.name).read_text(encoding="utf-8"))
            after = normalised(merge(json.loads(before), executed, everything))
            if after != before:
                write_text(path, [after])
                changed.append(path.name)
    return changed


def main() -> int:
    """The command line: `--all` renews machine-dependent outputs too."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.runner.refresh", description=__doc__)
    parser.add_argument("--all", action="store_true")
    changed = refresh(parser.parse_args().all)
    print("changed: " + (", ".join(changed) or "nothing"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
