"""python -m bimedix_utils.runner.publish --mode smoke --repo you/name --what "adapter mix"
(make publish REPO=you/name)

Shows exactly what would be uploaded. Only `--dry-run 0` (make publish DRY_RUN=0) sends it.
"""

import argparse
import sys

from ...core.errors import KitError, ParameterError, command
from ...core.provenance import run_folder, shown_path
from . import KINDS, plan, upload


@command
def main(arguments: list[str] | None = None) -> int:
    """1 when something was refused or went wrong, else 0."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.runner.publish", description=__doc__)
    parser.add_argument("--mode", default="smoke", help="smoke, laptop, gpu or paper")
    parser.add_argument("--run", default="")
    parser.add_argument(
        "--repo",
        default="",
        help="owner/name; with several parts each gets its own, owner/name-part",
    )
    parser.add_argument(
        "--what",
        default="",
        help=f"some of {' '.join(KINDS)}; all that the run has made when empty",
    )
    parser.add_argument("--dry-run", default="1", help="1 shows, 0 sends")
    given = parser.parse_args(arguments)
    if given.dry_run not in ("0", "1"):
        raise ParameterError(f"DRY_RUN = {given.dry_run!r}: 1 shows what would be sent, 0 sends it")
    folder = run_folder(given.mode, given.run)
    parts = given.what.split() or [
        what for what, (_, place) in KINDS.items() if (folder / place).is_dir()
    ]
    if not parts:
        raise KitError(f"nothing to publish in {shown_path(folder)}: run  make run  first")
    planned = [
        plan(folder, what, given.repo if len(parts) == 1 else f"{given.repo}-{what}")
        for what in parts
    ]
    print("\n".join(one.text() for one in planned))
    refused = [one.what for one in planned if one.refused]
    if refused:
        print(f"\nnothing is sent: {', '.join(refused)} refused, see above", file=sys.stderr)
        return 1
    if given.dry_run == "1":
        print("nothing was sent: this is what  DRY_RUN=0  would upload, into private repositories")
        return 0
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    for one in planned:
        try:
            print(f"sent: {upload(one, HfApi())}")
        except (HfHubHTTPError, OSError) as error:
            raise KitError(
                f"{one.what}: the hub refused or could not be reached ({type(error).__name__}); log"
                " in with  hf auth login"
            ) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
