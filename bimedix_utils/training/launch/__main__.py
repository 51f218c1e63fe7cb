"""Write the launch files of a mode: `python -m bimedix_utils.training.launch --mode paper`."""

import argparse
import sys

from ...core.errors import command
from ...core.parameters import preset_values
from ...core.provenance import NOTEBOOKS, run_folder, shown_path
from .scripts import files


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.training.launch", description=__doc__)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--run", default="")
    given = parser.parse_args()
    values = preset_values(NOTEBOOKS, given.mode, NOTEBOOKS / "06_finetune_qlora.ipynb")
    for path in files(values, run_folder(given.mode, given.run) / "launch"):
        print(shown_path(path))


if __name__ == "__main__":
    sys.exit(main())
