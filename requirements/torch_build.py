"""Print the pip arguments that install the pinned PyTorch without fetching gigabytes of CUDA by
surprise.

Standard library only: it runs before anything is installed. On Linux without an NVIDIA driver it
asks pip (a dry run) which file its own configuration would take; a CPU build is taken as it is,
anything else is replaced by PyTorch's CPU wheel index. With a driver, and on other systems, the
default build is right. TORCH_INDEX=<url of a wheel index> overrides everything.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def pinned(text: str) -> str:
    """The torch requirement of the project file."""
    return re.search(r'"(torch==[^"]+)"', text).group(1)


def is_cpu_build(report: dict) -> bool:
    """True when the file pip would take is a CPU build: it says +cpu, or it is not for Linux on x86
    or ARM servers.
    """
    url = report["install"][0]["download_info"]["url"] if report["install"] else ""
    return bool(re.search(r"(\+|%2B)cpu", url))


def arguments(
    requirement: str, index: str, system: str, nvidia: bool, report: dict | None
) -> list[str]:
    """What to hand to `pip install`. `report` is pip's dry-run report, None when the dry run
    failed.
    """
    if index:
        return [requirement, "--index-url", index]
    if system != "Linux" or nvidia or (report is not None and is_cpu_build(report)):
        return [requirement]
    return [requirement, "--index-url", CPU_INDEX]


def dry_run(requirement: str) -> dict | None:
    """pip's own answer to what it would install for this requirement alone; None when it cannot
    say.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
        "--quiet",
        "--report",
        "-",
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout) if done.returncode == 0 else None
    except json.JSONDecodeError:
        return None


if __name__ == "__main__":
    wanted = pinned(PROJECT.read_text(encoding="utf-8"))
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    ask = not chosen and platform.system() == "Linux" and not shutil.which("nvidia-smi")
    print(
        " ".join(
            arguments(
                wanted,
                chosen,
                platform.system(),
                not ask and not chosen,
                dry_run(wanted) if ask else None,
            )
        )
    )
