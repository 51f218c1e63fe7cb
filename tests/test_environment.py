"""The one list of dependencies, its front doors, and what an import may cost."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements" / "cpu.txt").read_text(encoding="utf-8")


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line).group().lower().replace("_", "-") for line in requirements}


def test_the_lock_holds_every_dependency_at_an_allowed_version():
    from packaging.requirements import Requirement

    locked = dict(re.findall(r"^([\w.-]+)==(\S+)$", LOCK, re.MULTILINE))
    locked = {name.lower().replace("_", "-"): version for name, version in locked.items()}
    for line in PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), []):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[wanted.name]), (
            f"{line} against {locked[wanted.name]}"
        )


def test_the_conda_front_door_adds_no_package_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    assert names(conda) == {"python", "pip", "make"}
    version = next(item for item in conda if item.startswith("python=")).split("=")[1]
    assert version == "3.11" and PROJECT["requires-python"].startswith(">=3.11")
    lines = environment["dependencies"][-1]["pip"]
    assert [line for line in lines if not line.startswith("-")] == []
    assert "-c requirements/cpu.txt" in lines
    extras = re.search(r"-e \.\[([\w,]+)\]", " ".join(lines)).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def test_the_readme_gives_a_reason_for_every_dependency():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in names(PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])):
        assert re.search(rf"^\| `{name}` \| .{{10,}} \|$", readme, re.MULTILINE), (
            f"no reason for {name}"
        )


def load_torch_build():
    spec = importlib.util.spec_from_file_location(
        "torch_build", ROOT / "requirements" / "torch_build.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("index", "system", "nvidia", "url", "wanted"),
    [
        ("", "Linux", False, "file:///wheels/torch-2.13.0+cpu-cp311.whl", []),
        ("", "Linux", False, "https://host/torch-2.13.0%2Bcpu-cp311.whl", []),
        (
            "",
            "Linux",
            False,
            "https://host/torch-2.13.0-cp311-manylinux.whl",
            ["--index-url", "CPU"],
        ),
        ("", "Linux", False, None, ["--index-url", "CPU"]),
        ("", "Linux", True, None, []),
        ("", "Darwin", False, None, []),
        ("https://mirror/cu130", "Linux", False, None, ["--index-url", "https://mirror/cu130"]),
    ],
)
def test_cuda_is_never_fetched_silently(index, system, nvidia, url, wanted):
    build = load_torch_build()
    report = {"install": [{"download_info": {"url": url}}]} if url else None
    found = build.arguments("torch==2.13.0", index, system, nvidia, report)
    assert found == [
        "torch==2.13.0",
        *[build.CPU_INDEX if part == "CPU" else part for part in wanted],
    ]


def test_importing_the_package_loads_nothing_heavy_and_takes_under_half_a_second():
    code = (
        "import importlib, sys, time; t = time.perf_counter(); import bimedix_utils;"
        " s = time.perf_counter() - t; rooms = 'core teacher sources synthesis translation review"
        " mixture training evaluation speed chat runner';"
        " [importlib.import_module(f'bimedix_utils.{room}') for room in rooms.split()];"
        " heavy = {'torch', 'transformers', 'datasets', 'ipywidgets', 'matplotlib', 'peft',"
        " 'pandas', 'sklearn', 'scipy'} & set(sys.modules); print(s, heavy)"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=1)
    assert float(seconds) < 0.5 and heavy.strip() == "set()"
