"""Notebook parameters: the declaration, the check of each value, what papermill injects, and
presets.
"""

import json
from pathlib import Path

import pytest

from bimedix_utils.core import parameters
from bimedix_utils.core.errors import ParameterError
from bimedix_utils.core.parameters import Parameter

pytestmark = pytest.mark.unit

CELL = """\
MODE: str = "smoke"  # one of: smoke | laptop | gpu | paper
RUN: str = ""  # any text: a name for this run
SEED: int = 42  # 0..: the seed
SHARE: float = 0.2  # 0..1: part of the rows
LORA_RANK: int = 64  # 1..512: rank of the adapters
ALLOW_REMOTE: bool = False  # one of: True | False: lets rows leave this machine
"""
VALUES = {
    "MODE": "smoke",
    "RUN": "",
    "SEED": 42,
    "SHARE": 0.2,
    "LORA_RANK": 64,
    "ALLOW_REMOTE": False,
}


def write_notebook(path: Path, *tagged: str) -> Path:
    """A notebook file with a plain first cell and one cell tagged `parameters` for each text."""
    cells = [{"cell_type": "code", "metadata": {}, "source": ["print(1)"]}]
    cells += [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": text.splitlines(keepends=True),
        }
        for text in tagged
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "06_toy.ipynb", CELL)


def test_declared_reads_names_defaults_and_comments_in_order(notebook: Path):
    found = parameters.declared(notebook)
    assert {name: parameter.default for name, parameter in found.items()} == VALUES
    assert list(found) == list(VALUES)
    assert found["LORA_RANK"].comment == "1..512: rank of the adapters"
    assert found["MODE"].choices == ("smoke", "laptop", "gpu", "paper")
    assert found["SEED"].choices == ()


def test_declared_takes_a_hash_inside_a_string_for_text(tmp_path: Path):
    found = parameters.declared(
        write_notebook(
            tmp_path / "n.ipynb", 'MODEL: str = "a#b"  # any text: a name\nOTHER: float = -1.5\n'
        )
    )
    assert found["MODEL"] == Parameter("MODEL", "a#b", "any text: a name")
    assert found["OTHER"] == Parameter("OTHER", -1.5, "")


@pytest.mark.parametrize("tagged", [(), (CELL, CELL)])
def test_declared_wants_exactly_one_tagged_cell(tmp_path: Path, tagged: tuple[str, ...]):
    with pytest.raises(
        ParameterError,
        match=rf"n\.ipynb: one cell tagged 'parameters' is needed, found {len(tagged)}",
    ):
        parameters.declared(write_notebook(tmp_path / "n.ipynb", *tagged))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("A: int = 1\nB: int = A + 1\n", "B is not a literal"),
        ("A: int = 1\nB: str = open('x')\n", "B is not a literal"),
        ("A: int = 1\nimport os\n", r"something else than NAME: type = literal \(line 2\)"),
        ("seed = 1\n", r"something else than NAME: type = literal \(line 1\)"),
        ("A, B = 1, 2\n", r"something else than NAME: type = literal \(line 1\)"),
        ("A += 1\n", r"something else than NAME: type = literal \(line 1\)"),
    ],
)
def test_declared_refuses_anything_but_literals(tmp_path: Path, cell: str, message: str):
    with pytest.raises(ParameterError, match=message):
        parameters.declared(write_notebook(tmp_path / "n.ipynb", cell))


def check(default: object, comment: str, value: object) -> object:
    return Parameter("X", default, comment).check(value)


@pytest.mark.parametrize(
    ("default", "comment", "value"),
    [
        (1, "1..: rows", 1),
        (1, "1..: rows", 10**9),
        (0.1, "0..1: share", 0.0),
        (0.1, "0..1: share", 1.0),
        (0.05, "0..0.5: share", 0.5),
        (1e-4, "1e-6..1: rate", 1e-6),
        (-1, "-5..5: shift", -5),
        ("a", "one of: a | b: which", "b"),
        (8, "one of: 4 | 8 | 16", 16),
        (False, "True lets rows leave", True),
        ("", "any text: a folder", "/somewhere"),
        (3, "", 4),
    ],
)
def test_check_passes_legal_values_unchanged(default: object, comment: str, value: object):
    assert check(default, comment, value) == value


def test_check_widens_whole_numbers_to_float_only():
    widened = check(0.5, "0..1: share", 1)
    assert widened == 1.0 and type(widened) is float


@pytest.mark.parametrize(
    ("default", "value", "seen", "wanted"),
    [
        (42, "abc", "str", "int"),
        (42, "7", "str", "int"),
        (42, 7.0, "float", "int"),
        (42, True, "bool", "int"),
        (0.5, True, "bool", "float"),
        (0.5, "0.5", "str", "float"),
        (False, 0, "int", "bool"),
        (False, "False", "str", "bool"),
        ("a", 1, "int", "str"),
        ("a", None, "NoneType", "str"),
    ],
)
def test_check_refuses_another_type_and_names_both(
    default: object, value: object, seen: str, wanted: str
):
    with pytest.raises(ParameterError, match=rf"X = .* is {seen}; wanted {wanted}, any value"):
        check(default, "", value)


@pytest.mark.parametrize(
    ("default", "comment", "value"),
    [
        (1, "1..: rows", 0),
        (42, "0..: the seed", -1),
        (0.1, "0..1: share", 1.01),
        (0.1, "0..1: share", -0.01),
        (0.1, "0..1: share", float("nan")),
        (0.05, "0..0.5: share", 0.51),
        (1e-4, "1e-6..1: rate", 1e-7),
        (64, "1..512: rank", 513),
        (-1, "-5..5: shift", -6),
    ],
)
def test_check_refuses_values_out_of_range_and_gives_the_range(
    default: object, comment: str, value: object
):
    with pytest.raises(ParameterError) as error:
        check(default, comment, value)
    assert f"X = {value!r} is out of range" in str(error.value)
    assert comment in str(error.value)


@pytest.mark.parametrize("value", ["big", "Smoke", "smoke ", "smoke | laptop", ""])
def test_check_refuses_a_wrong_choice_and_lists_the_legal_ones(value: str):
    with pytest.raises(ParameterError, match=r"wanted str, one of: smoke \| laptop: the dial"):
        check("smoke", "one of: smoke | laptop: the dial", value)


def test_namespace_gives_checked_values_only_for_declared_names(notebook: Path):
    space = {**VALUES, "SHARE": 1, "SEED": 7, "OTHER": 3, "In": ["", CELL]}
    assert parameters.parameters_from_namespace(notebook, space) == {
        **VALUES,
        "SHARE": 1.0,
        "SEED": 7,
    }


def test_namespace_refuses_a_misspelt_name_injected_by_papermill(notebook: Path):
    """papermill ignores it: LORA_RNAK would train for a day at the default rank."""
    injected = "# Parameters\nSEED: int = 1\nLORA_RNAK = 8\n"
    with pytest.raises(ParameterError) as error:
        parameters.parameters_from_namespace(
            notebook, {**VALUES, "SEED": 1, "LORA_RNAK": 8, "In": ["", CELL, injected]}
        )
    message = str(error.value)
    assert "06_toy.ipynb: unknown parameter LORA_RNAK" in message
    assert "did you mean LORA_RANK?" in message
    assert "Legal: MODE, RUN, SEED, SHARE, LORA_RANK, ALLOW_REMOTE" in message


def test_namespace_lists_legal_names_when_none_is_near(notebook: Path):
    with pytest.raises(ParameterError) as error:
        parameters.parameters_from_namespace(
            notebook, {**VALUES, "In": ["# Parameters\nQQQQ = 1\n"]}
        )
    assert "unknown parameter QQQQ; Legal: MODE" in str(error.value)
    assert "did you mean" not in str(error.value)


def test_namespace_takes_injected_known_names(notebook: Path):
    space = {
        **VALUES,
        "LORA_RANK": 8,
        "In": ["", CELL, "# Parameters\nLORA_RANK = 8\nMODE = 'smoke'\n"],
    }
    assert parameters.parameters_from_namespace(notebook, space)["LORA_RANK"] == 8


def test_namespace_leaves_names_of_ordinary_cells_alone(notebook: Path):
    assert (
        parameters.parameters_from_namespace(
            notebook, {**VALUES, "In": ["TABLE = 1\nLORA_RNAK = 2", "# a comment\nX = 1"]}
        )
        == VALUES
    )


def test_namespace_refuses_a_mistyped_seed(notebook: Path):
    with pytest.raises(ParameterError, match=r"SEED = 'abc' is str; wanted int, 0..: the seed"):
        parameters.parameters_from_namespace(notebook, {**VALUES, "SEED": "abc"})


def test_namespace_names_what_is_missing_and_the_cell_to_run(notebook: Path):
    space = {name: value for name, value in VALUES.items() if name not in ("SEED", "SHARE")}
    with pytest.raises(
        ParameterError,
        match=r"06_toy\.ipynb: missing SEED, SHARE; run the cell tagged 'parameters' first",
    ):
        parameters.parameters_from_namespace(notebook, space)


def test_papermill_writes_the_mark_that_is_looked_for():
    """The guard reads papermill's own comment: if papermill changes it, unknown parameters would
    pass again.
    """
    from papermill.translators import PythonTranslator

    assert PythonTranslator.codify({"LORA_RNAK": 8}, comment="Parameters").startswith(
        parameters._INJECTED
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two notebooks and one preset."""
    write_notebook(
        tmp_path / "01_one.ipynb",
        'MODE: str = "smoke"  # one of: smoke | laptop\nSEED: int = 42  # 0..: seed\n'
        "ROWS: int = 5  # 1..: rows\n",
    )
    write_notebook(
        tmp_path / "02_two.ipynb",
        'MODE: str = "smoke"  # one of: smoke | laptop\nSHARE: float = 0.5  # 0..1: share\n',
    )
    return tmp_path


def write_preset(folder: Path, text: str, mode: str = "smoke") -> None:
    (folder / "presets").mkdir(exist_ok=True)
    (folder / "presets" / f"{mode}.yaml").write_text(text, encoding="utf-8")


def test_preset_joins_the_shared_section_with_the_notebooks_own(folder: Path):
    write_preset(
        folder,
        "all:\n  MODE: smoke\n  SEED: 1\n  ROWS: 9\n01_one:\n  ROWS: 3\n02_two:\n  SHARE: 1\n",
    )
    assert parameters.preset_values(folder, "smoke", folder / "01_one.ipynb") == {
        "MODE": "smoke",
        "SEED": 1,
        "ROWS": 3,
    }
    assert parameters.preset_values(folder, "smoke", folder / "02_two.ipynb") == {
        "MODE": "smoke",
        "SHARE": 1.0,
    }


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "all:\n  MODE: smoke\n  SEED: 1\n01_one:\n  ROSW: 3\n",
            r"smoke\.yaml, 01_one: unknown parameter ROSW; did you mean ROWS\?",
        ),
        ("all:\n  MODE: smoke\n  SEDE: 1\n01_one:\n  ROWS: 3\n", r"smoke\.yaml: 01_one needs SEED"),
        (
            "all:\n  MODE: smoke\n  SEED: 1\n01_oen:\n  ROWS: 3\n",
            r"smoke\.yaml: sections 01_oen name no notebook",
        ),
        (
            "all:\n  MODE: smoke\n  SEED: 1\n01_one:\n  ROWS: 0\n",
            r"ROWS = 0 is out of range; wanted int, 1..: rows",
        ),
        (
            'all:\n  MODE: smoke\n  SEED: "1"\n01_one:\n  ROWS: 3\n',
            r"SEED = '1' is str; wanted int",
        ),
    ],
)
def test_preset_refuses_mistakes_with_the_place(folder: Path, preset: str, message: str):
    write_preset(folder, preset)
    with pytest.raises(ParameterError, match=message):
        parameters.preset_values(folder, "smoke", folder / "01_one.ipynb")


def test_preset_refuses_an_unknown_mode(folder: Path):
    with pytest.raises(
        ParameterError, match=r"MODE = 'tiny'; wanted one of smoke \| laptop \| gpu \| paper"
    ):
        parameters.preset_values(folder, "tiny", folder / "01_one.ipynb")


def test_preset_of_a_notebook_without_a_section_is_the_shared_one(folder: Path):
    write_preset(folder, "all:\n  MODE: smoke\n  SHARE: 0.25\n02_two:\n")
    assert parameters.preset_values(folder, "smoke", folder / "02_two.ipynb") == {
        "MODE": "smoke",
        "SHARE": 0.25,
    }
