"""What can be known about the notebooks without running them."""

import ast
import json
import statistics
from pathlib import Path

import pytest

from bimedix_utils.core import parameters
from bimedix_utils.core.provenance import NOTEBOOKS
from bimedix_utils.teacher import settings
from bimedix_utils.training import recipe

pytestmark = pytest.mark.unit
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ALLOWED_MACHINE_DEPENDENT = {
    "00_check_environment": "versions and hardware",
    "06_finetune_qlora": "loss values and curves",
    "07_evaluate_models": "learned scores; compared within bands by test_chain",
    "08_measure_speed": "timings",
    "09_chat": "a learned model's words, and whether somebody watches",
}

# Calls that take their parameters from `run.params`.
READ_TOGETHER = {
    "Teacher.from_run(run": settings.TEACHER_PARAMETERS,
    "training.Recipe.of(run.params)": recipe.RECIPE_PARAMETERS,
    "training.TinySpec.of(run.params)": ("VOCABULARY", "PRETRAIN_STEPS"),
    "training.TrainingSetup.of(run.params)": ("GPU", "PARALLEL"),
}


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(path: Path) -> list[dict]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_there_are_ten_notebooks_in_order():
    assert [path.name[:2] for path in PATHS] == [f"{i:02d}" for i in range(10)]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
class TestEach:
    def test_skeleton(self, path):
        text = "\n".join(source(cell) for cell in cells(path) if cell["cell_type"] == "markdown")
        assert source(cells(path)[0]).startswith(f"# {path.name[:2]} · ")
        for part in (
            "**Purpose.**",
            "**You will learn**",
            "| reads | writes |",
            "| mode | hardware | minutes | cost |",
            "**Next:**",
        ):
            assert part in text, part
        for heading in ("## Results", "## Checks", "## Exercises"):
            assert heading in text, heading
        assert 20 <= len(cells(path)) <= 46  # many short cells rather than few long ones

    def test_cells_are_short_and_hold_no_logic(self, path):
        lengths = []
        for cell in code(path):
            lines = source(cell).splitlines()
            assert max(map(len, lines)) <= 100, max(lines, key=len)
            if "parameters" not in cell["metadata"].get("tags", []):
                assert len(lines) <= 20, lines[0]
                lengths.append(len(lines))
            for node in ast.walk(ast.parse(source(cell))):
                assert not isinstance(node, ast.ClassDef), "a class in a notebook"
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 8, f"{node.name} is longer than 8 lines"
                loops = getattr(node, "generators", [])
                inner = [n for n in ast.walk(node) if loops and n is not node]
                nested = sum(len(getattr(n, "generators", [])) for n in inner) + len(loops)
                assert nested < 3, f"a triple comprehension: {ast.unparse(node)[:80]}"
        assert statistics.median(lengths) <= 6

    def test_parameters_are_the_smoke_preset_and_every_one_is_read(self, path):
        legal = parameters.declared(path)
        assert parameters.preset_values(NOTEBOOKS, "smoke", path) == {
            name: p.default for name, p in legal.items()
        }
        assert all(p.comment for p in legal.values()), "a parameter without its legal values"
        rest = [cell for cell in code(path) if "parameters" not in cell["metadata"].get("tags", [])]
        read = {
            node.id
            for cell in rest
            for node in ast.walk(ast.parse(source(cell)))
            if isinstance(node, ast.Name)
        }
        read |= {"MODE", "RUN", "SEED"}  # by core.start_run
        for call, names in READ_TOGETHER.items():
            read |= set(names) if any(call in source(cell) for cell in rest) else set()
        assert not set(legal) - read, "a parameter nobody reads"

    def test_header_and_footer(self, path):
        texts = [source(cell) for cell in code(path)]
        assert f'run = core.start_run("{path.stem}", globals())' in "\n".join(texts)
        assert texts[-1].strip() == "run.finish()"

    def test_outputs_are_committed_complete_and_clean(self, path):
        counts = [cell["execution_count"] for cell in code(path)]
        assert counts == list(range(1, len(counts) + 1)), "not executed from top to bottom"
        outputs = [output for cell in code(path) for output in cell["outputs"]]
        assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        stored = json.dumps(outputs, ensure_ascii=False)
        roots = {
            "/home/",
            "/tmp/",
            "/root/",
            f"/{NOTEBOOKS.parts[1]}/",
        }  # the last one: wherever this checkout lies
        assert not [root for root in roots if root in stored], "an absolute path"
        assert "application/vnd.bimedix.results+json" in stored, "no results at the end"

    def test_machine_dependent_cells_are_on_the_list_with_a_reason(self, path):
        tagged = [
            cell for cell in code(path) if "machine-dependent" in cell["metadata"].get("tags", [])
        ]
        assert bool(tagged) == (path.stem in ALLOWED_MACHINE_DEPENDENT)

    def test_exercises_have_collapsed_executed_solutions(self, path):
        solutions = [cell for cell in code(path) if "solution" in cell["metadata"].get("tags", [])]
        text = "\n".join(source(cell) for cell in cells(path) if cell["cell_type"] == "markdown")
        asked = text.count("*Starter:*")
        assert 2 <= asked <= 4 and len(solutions) == asked
        for cell in solutions:
            assert cell["metadata"]["jupyter"]["source_hidden"] and cell["outputs"]


@pytest.mark.parametrize("mode", parameters.MODES)
def test_every_preset_gives_every_notebook_legal_values(mode):
    for path in PATHS:
        values = parameters.preset_values(NOTEBOOKS, mode, path)
        assert values["MODE"] == mode
