"""The one list of dependencies, its front doors, and what an import may cost."""

import ast
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
# The floors of the house, lowest first; a module may import its own floor and those below.
FLOORS = [
    {"errors"},
    {"text"},
    {"provenance", "parameters"},
    {"records", "tasks", "runs", "templates"},
    {"display"},
    {"checks", "teacher", "duplicates", "leakage", "catalogue"},
    {"sources", "hub", "knowledge", "synthesis", "translation", "review", "testsets", "mixture"},
    {"models", "training", "weights", "plan"},
    {"evaluation", "open_ended", "calibration", "speed", "chat", "serve", "router", "launch"},
    {"environment", "report", "publish", "recordings"},
    {"pipeline"},
    {"refresh", "studies"},
    {"ablations"},
]


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
        "import time, sys; t = time.perf_counter(); import bimedix_utils; s = time.perf_counter() -"
        " t;from bimedix_utils import runs, records, sources, display, models, training,"
        " translation;heavy = {'torch', 'transformers', 'datasets', 'ipywidgets', 'matplotlib',"
        " 'peft'} & set(sys.modules);print(s, heavy)"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=1)
    assert float(seconds) < 0.5 and heavy.strip() == "set()"


def test_no_module_imports_one_above_its_floor():
    floor = {name: level for level, group in enumerate(FLOORS) for name in group}
    package = ROOT / "bimedix_utils"
    modules = sorted(package.rglob("*.py"))
    top = {p.relative_to(package).parts[0].removesuffix(".py") for p in modules} - {"__init__"}
    assert top == set(floor), f"floors and modules differ: {top ^ set(floor)}"
    edges = set()
    for path in modules:
        parts = path.relative_to(package).parts
        own = parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                up = node.level - len(parts) + 1  # 1: the import starts at the package itself
                if up == 1:
                    targets = (
                        [node.module.split(".")[0]]
                        if node.module
                        else [alias.name for alias in node.names]
                    )
                    edges |= {(own, target) for target in targets if target in floor}
    wrong = [(a, b) for a, b in sorted(edges) if a != b and floor[b] > floor[a]]
    assert not wrong, f"imports that go up: {wrong}"
    # On one floor no two modules may need each other, directly or around a corner.
    graph = {name: {b for a, b in edges if a == name and b != name} for name in floor}

    def reaches(start: str, goal: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            step == goal or (step not in seen and reaches(step, goal, seen | {step}))
            for step in graph[start]
        )

    assert [name for name in floor if reaches(name, name)] == []
