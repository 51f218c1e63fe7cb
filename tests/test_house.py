"""The house keeps its shape: floors, circles, names, widths, what notebooks import."""

import json
import re
import subprocess
import sys

import pytest

from tests.support import house

pytestmark = pytest.mark.unit
NOTEBOOKS = sorted((house.ROOT / "notebooks").glob("*.ipynb"))


def test_rooms_stand_on_floors_and_no_import_goes_up():
    floor = {name: level for level, name in enumerate(house.FLOORS)}
    rooms = {house.room(path) for path in house.modules()} - {""}
    assert rooms == set(floor), f"rooms and floors differ: {rooms ^ set(floor)}"
    loose = [path.name for path in house.PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert loose == [], f"modules beside the rooms: {loose}"
    used = {(a.split(".")[0], b.split(".")[0]) for a, b in house.imports()}
    up = sorted((a, b) for a, b in used if a in floor and b in floor and floor[b] > floor[a])
    assert up == [], f"imports that go up: {up}"


def test_no_modules_import_each_other_in_a_circle():
    assert house.circles() == []


def test_a_public_name_stands_for_one_thing():
    assert house.names_in_two_places() == {}


def test_file_names_are_told_apart():
    """Figures are figures and tables are tables in every room: all others differ."""
    assert set(house.base_names_in_two_places()) <= {"figures", "tables"}


def test_the_package_is_small_and_narrow():
    told = house.figures()
    print(told)
    # The goal is 20,000 lines; this bound only ever goes down.
    assert told["lines"] <= 26_000 and told["widest line"] <= 100


def test_importing_the_package_loads_nothing_heavy_and_takes_under_half_a_second():
    code = (
        "import time, sys; t = time.perf_counter(); import bimedix_utils;"
        " s = time.perf_counter() - t;"
        " from bimedix_utils import core, training, translation, evaluation, runner;"
        " heavy = {'torch', 'transformers', 'datasets', 'ipywidgets', 'matplotlib', 'peft', 'ray',"
        " 'gradio', 'sklearn', 'scipy.stats'} & set(sys.modules); print(s, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split(maxsplit=1)
    assert float(seconds) < 0.5 and heavy.strip() == "set()"


def code_of(path) -> str:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_rooms_and_none_of_later_notebooks(path):
    own_room = {
        "00": "runner", "01": "sources", "02": "synthesis", "03": "translation", "04": "review",
        "05": "mixture", "06": "training", "07": "evaluation", "08": "speed", "09": "chat",
    }[path.name[:2]]  # fmt: skip
    allowed = [*house.FLOORS[: house.FLOORS.index(own_room) + 1]]
    allowed = ["core", "runner"] if own_room == "runner" else allowed
    code = code_of(path)
    assert not re.search(r"(?:from|import) bimedix_utils\.", code), "a notebook imports rooms"
    taken = re.findall(r"from bimedix_utils import ([^\n]+)", code)
    rooms = {name.strip() for line in taken for name in line.strip("()").split(",")}
    assert rooms <= set(allowed), f"later rooms: {rooms - set(allowed)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermills_help_lists_every_parameter_with_its_type(path):
    """`>=` in a comment made papermill's own help drop the parameter."""
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    from bimedix_utils.core.parameters import declared

    told = {p.name: p for p in _infer_parameters(load_notebook_node(str(path)))}
    for name, parameter in declared(path).items():
        assert told[name].inferred_type_name == type(parameter.default).__name__
        assert told[name].help.strip() == parameter.comment


def test_the_map_names_functions_that_the_rooms_have():
    import importlib

    text = (house.ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 90
    for room, name in re.findall(r"`([a-z]+)\.([A-Za-z_]+)`", text):
        if room in house.FLOORS and name not in ("yaml", "md", "py"):
            assert hasattr(importlib.import_module(f"bimedix_utils.{room}"), name), f"{room}.{name}"
    for path in re.findall(r"`((?:tests|core|data)/[\w./]+\.\w+)`", text):
        assert any((base / path).exists() for base in (house.ROOT, house.PACKAGE)), path


def test_an_installed_package_has_its_data_files():
    """Prompts, languages, templates and style sheets are package data; one pattern each."""
    import tomllib

    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["bimedix_utils"]
    suffixes = {pattern.rsplit(".", 1)[1] for pattern in patterns}
    data = [p for p in house.PACKAGE.rglob("*.*") if p.suffix not in (".py", ".pyc")]
    assert {path.suffix[1:] for path in data if path.is_file()} <= suffixes
