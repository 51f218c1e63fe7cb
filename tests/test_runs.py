"""A run: header, inputs, outputs, accounting, results, manifest, lock, and whether a stage is still
fresh.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bimedix_utils.core import files, freshness, provenance, runs
from bimedix_utils.core.errors import AccountingError, InputError, KitError, ParameterError

pytestmark = pytest.mark.unit

NAME = "02_toy"
CELL = """\
MODE: str = "smoke"  # one of: smoke | laptop | gpu | paper
RUN: str = ""  # any text: a name for this run
SEED: int = 42  # 0..: the seed
LORA_RANK: int = 64  # 1..512: rank of the adapters
"""
VALUES = {"MODE": "smoke", "RUN": "", "SEED": 42, "LORA_RANK": 64}


def write_notebook(folder: Path, name: str, *cells: str, cell: str = CELL) -> Path:
    """A notebook with a parameters cell and the given code cells."""
    written = [{"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}]
    written += [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": cell.splitlines(keepends=True),
        }
    ]
    written += [
        {"cell_type": "code", "metadata": {}, "source": text.splitlines(keepends=True)}
        for text in cells
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": written}), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project: a package of four modules, two notebooks, one data file; runs go to a
    private folder.
    """
    root = tmp_path / "project"
    package = root / "bimedix_utils"
    for room in ("inner", "room/prompts", "languages"):
        (package / room).mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text("from .deep import f\n")
    (package / "deep.py").write_text("def f():\n    from .inner import leaf\n    return leaf\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "leaf.py").write_text("from ..base import x\n")
    (package / "base.py").write_text("x = 1\n")
    (package / "stranger.py").write_text("y = 1\n")
    (package / "room" / "__init__.py").write_text('z = ROOT / "data" / "catalogue"\n')
    (package / "room" / "prompts" / "translate.v1.txt").write_text("Translate.\n")
    (package / "languages" / "ar.yaml").write_text("name: Arabic\n")
    (root / "data" / "catalogue").mkdir(parents=True)
    (root / "data" / "catalogue" / "sources.yaml").write_text("a: 1\n")
    (root / "data" / "rows.txt").write_text("one\n")
    (root / "model" / "adapter").mkdir(parents=True)
    (root / "model" / "adapter" / "adapter_config.json").write_text('{"lora_alpha": 8}')
    write_notebook(root / "notebooks", "01_first", "x = 1")
    write_notebook(
        root / "notebooks", NAME, "%matplotlib inline\nfrom bimedix_utils import toy", "print(toy)"
    )
    monkeypatch.setattr(provenance, "ROOT", root)
    for module in (provenance, runs):
        monkeypatch.setattr(module, "NOTEBOOKS", root / "notebooks")
    for name in ("TOKENIZERS_PARALLELISM", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS"):
        monkeypatch.setenv(
            name, os.environ.get(name, "2")
        )  # `start` sets them for the process: put back afterwards
    monkeypatch.setattr(runs, "_open_runs", {})
    monkeypatch.setenv(
        "GIT_CEILING_DIRECTORIES", str(tmp_path)
    )  # a repository above the temporary folder is not the toy's
    return root


@pytest.fixture
def shown_bundles(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `finish` hands to the notebook's front end."""
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def start(name: str = NAME, **changes: Any) -> runs.Run:
    return runs.start_run(name, {**VALUES, **changes})


def finished(**changes: Any) -> Path:
    """A complete stage with one input and one output; its folder."""
    run = start(**changes)
    run.input("data/rows.txt")
    run.output("out.txt").write_text("result\n")
    run.finish()
    return run.folder


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


# --- the header


def test_start_opens_the_stage_folder_and_says_where(
    project: Path, runs_dir: Path, capsys: pytest.CaptureFixture
):
    run = start(RUN="", SEED=7)
    assert run.folder == runs_dir.resolve() / "smoke" / NAME
    assert run.params == {**VALUES, "SEED": 7}
    assert capsys.readouterr().out == f"{NAME}  mode smoke  seed 7  ->  runs/smoke/{NAME}\n"


def test_start_gives_a_named_run_its_own_folder(project: Path, runs_dir: Path):
    assert start(RUN="night.2").folder == runs_dir.resolve() / "smoke-night.2" / NAME


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", ".hidden", "-x"])
def test_start_refuses_a_run_name_that_is_no_folder_name(project: Path, runs_dir: Path, name: str):
    with pytest.raises(KitError, match="use letters, digits, dot, dash and underscore"):
        start(RUN=name)
    assert not runs_dir.exists()


def test_start_refuses_a_misspelt_parameter_injected_by_papermill(project: Path, runs_dir: Path):
    with pytest.raises(
        ParameterError,
        match=rf"{NAME}\.ipynb: unknown parameter LORA_RNAK; did you mean LORA_RANK\?",
    ):
        start(LORA_RNAK=8, In=["", CELL, "# Parameters\nLORA_RNAK = 8\n"])
    assert not runs_dir.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SEED": "abc"}, r"SEED = 'abc' is str; wanted int"),
        ({"SEED": -1}, r"SEED = -1 is out of range; wanted int, 0.."),
        ({"LORA_RANK": 0}, r"LORA_RANK = 0 is out of range; wanted int, 1\.\.512"),
        ({"MODE": "tiny"}, r"MODE = 'tiny'; wanted str, one of: smoke \| laptop \| gpu \| paper"),
    ],
)
def test_start_refuses_wrong_values_before_it_touches_the_disk(
    project: Path, runs_dir: Path, changes: dict, message: str
):
    with pytest.raises(ParameterError, match=message):
        start(**changes)
    assert not runs_dir.exists()


def test_start_refuses_missing_parameters(project: Path):
    with pytest.raises(
        ParameterError, match="missing SEED; run the cell tagged 'parameters' first"
    ):
        runs.start_run(NAME, {name: value for name, value in VALUES.items() if name != "SEED"})


def test_a_refused_start_leaves_the_last_manifest_alone(project: Path):
    folder = finished()
    with pytest.raises(ParameterError):
        start(SEED="abc")
    assert freshness.is_fresh(NAME, VALUES)
    assert (folder / "results.json").exists()


def test_start_seeds_python_and_numpy(project: Path):
    import numpy

    def draw(seed: int) -> tuple[float, float]:
        start(SEED=seed)
        return random.random(), float(numpy.random.rand())

    assert draw(7) == draw(7) != draw(8)


def test_seed_takes_numbers_wider_than_32_bits():
    runs.set_seed(2**40 + 1)
    first = random.random()
    runs.set_seed(2**40 + 1)
    assert random.random() == first


def test_start_sets_threads_only_where_declared(project: Path):
    os.environ["OMP_NUM_THREADS"] = "2"
    start()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    write_notebook(project / "notebooks", NAME, cell=CELL + "THREADS: int = 3  # 1..256: threads\n")
    start(THREADS=3)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_start_takes_the_last_manifest_away(project: Path):
    """A stage that was started again and did not finish must not look complete."""
    folder = finished()
    start()
    assert not (folder / "run.json").exists()
    assert not (folder / "results.json").exists()
    assert (folder / "out.txt").exists()
    assert not freshness.is_fresh(NAME, VALUES)


# --- the lock

_OTHER_PROCESS = """
import sys
from pathlib import Path
from bimedix_utils.core import files, freshness, provenance, runs
provenance.ROOT = Path(sys.argv[1])
provenance.NOTEBOOKS = runs.NOTEBOOKS = provenance.ROOT / "notebooks"
try:
    runs.start_run(sys.argv[2], {"MODE": "smoke", "RUN": sys.argv[3], "SEED": 42, "LORA_RANK": 64})
except runs.KitError as error:
    print("refused:", error)
"""


def other_process(project: Path, run: str = "") -> str:
    """What a second process says that starts the same stage."""
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, project, NAME, run],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_process_is_refused_while_the_first_holds_the_stage(project: Path):
    run = start()
    (run.folder / "run.json").write_text("{}")  # the loser must not clear what the holder wrote
    said = other_process(project)
    assert said.startswith(
        f"refused: runs/smoke/{NAME} is in use by another process: wait for it, or give this run a"
        " name (RUN=...)"
    )
    assert (run.folder / "run.json").exists()
    run.close()
    assert "refused" not in other_process(project)


def test_a_second_process_may_run_under_another_name(project: Path):
    start()
    assert "refused" not in other_process(project, "beside")


def test_a_finished_stage_is_free_for_another_process(project: Path):
    finished()
    assert "refused" not in other_process(project)


def test_one_kernel_may_run_its_header_twice(project: Path):
    """A reader who runs the header cell again was locked out by the lock of the same kernel."""
    first = start()
    second = start(SEED=7)
    assert second.folder == first.folder
    second.finish()
    assert manifest(second.folder)["parameters"]["SEED"] == 7


# --- accounting


def test_account_counts_each_status_sorted(project: Path):
    run = start()
    counts = run.account("rows", ["a", "b", "c"], {"c": "ok", "b": "held", "a": "ok"})
    assert list(counts.items()) == [("held", 1), ("ok", 2)]
    run.finish()
    assert manifest(run.folder)["counts"] == {"rows": {"rows": 3, "held": 1, "ok": 2}}


def test_account_takes_a_mapping_for_its_keys(project: Path):
    """A dict of records was counted by its values."""
    assert start().account("rows", {"a": object()}, {"a": "ok"}) == {"ok": 1}


@pytest.mark.parametrize(
    ("expected", "statuses", "message"),
    [
        (["a", "b", "c", "d", "e"], {"a": "ok"}, r"rows: 4 rows vanished, first b, c, d$"),
        (["a"], {"a": "ok", "x": "ok"}, r"rows: 1 rows came from nowhere, first x$"),
        (["a", "b", "a"], {"a": "ok", "b": "ok"}, r"rows: 1 rows are duplicates, first a$"),
        ([], {"x": "ok"}, r"rows: 1 rows came from nowhere, first x$"),
        (["a", "b"], {"a": "ok", "c": "ok"}, r"rows: 1 rows vanished, first b$"),
    ],
)
def test_account_stops_when_rows_do_not_add_up(
    project: Path, expected: list, statuses: dict, message: str
):
    run = start()
    with pytest.raises(AccountingError, match=message):
        run.account("rows", expected, statuses)
    run.finish()
    assert manifest(run.folder)["counts"] == {}


def test_tally_proves_counts_without_holding_ids(project: Path):
    run = start()
    assert list(run.tally("rows", 3, {"ok": 2, "rejected": 1, "held": 0}).items()) == [
        ("ok", 2),
        ("rejected", 1),
    ]
    run.finish()
    assert manifest(run.folder)["counts"] == {"rows": {"rows": 3, "ok": 2, "rejected": 1}}


@pytest.mark.parametrize(
    ("rows", "counts", "doubled", "message"),
    [
        (3, {"ok": 2}, (), r"rows: 3 rows came in, the statuses add up to 2 \(\{'ok': 2\}\)"),
        (1, {"ok": 1, "held": 1}, (), r"rows: 1 rows came in, the statuses add up to 2"),
        (2, {"ok": 2}, {5}, r"rows: 1 ids are duplicates"),
    ],
)
def test_tally_stops_when_rows_do_not_add_up(
    project: Path, rows: int, counts: dict, doubled: tuple, message: str
):
    run = start()
    with pytest.raises(AccountingError, match=message):
        run.tally("rows", rows, counts, doubled)
    run.finish()


def test_account_takes_the_keys_of_a_mapping(project: Path):
    """Counter took a mapping's values for counts: rows by id ended in a TypeError."""
    assert start().account("rows", {"a": object()}, {"a": "ok"}) == {"ok": 1}


def test_account_of_no_rows_is_empty(project: Path):
    assert start().account("rows", iter(()), {}) == {}


# --- inputs and earlier stages


def test_input_resolves_from_the_project_and_enters_the_manifest(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # the shell's folder must not matter
    outside = tmp_path / "outside.txt"
    outside.write_text("two\n")
    run = start()
    assert run.input("data/rows.txt") == project / "data" / "rows.txt"
    assert run.input(outside) == outside
    run.finish()
    wanted = {
        "project:data/rows.txt": hashlib.sha256(b"one\n").hexdigest(),
        str(outside): hashlib.sha256(b"two\n").hexdigest(),
    }
    assert manifest(run.folder)["inputs"] == wanted


def test_input_refuses_what_is_absent(project: Path):
    with pytest.raises(InputError, match=r"data/nothing\.txt does not exist"):
        start().input("data/nothing.txt")


def test_stage_refuses_an_unfinished_one_with_the_command_to_run(project: Path):
    start("01_first")
    with pytest.raises(
        InputError, match=r"01_first has not finished in runs/smoke: make run MODE=smoke NB=01$"
    ):
        start().stage("01_first")


def test_stage_names_the_run_in_the_command(project: Path):
    with pytest.raises(
        InputError, match=r"in runs/laptop-night: make run MODE=laptop RUN=night NB=01$"
    ):
        start(MODE="laptop", RUN="night").stage("01_first")


def test_stage_makes_each_output_an_input(project: Path):
    first = start("01_first")
    first.output("rows.txt").write_text("r\n")
    first.output("more").mkdir()
    (first.folder / "more" / "a.txt").write_text("a\n")
    first.finish()
    run = start()
    assert run.stage("01_first") == first.folder
    run.finish()
    inputs = manifest(run.folder)["inputs"]
    assert inputs == {
        f"run:01_first/{name}": provenance.hash_path(first.folder / name)
        for name in ("rows.txt", "more")
    }


def test_stage_refuses_when_an_output_was_deleted(project: Path):
    first = start("01_first")
    first.output("rows.txt").write_text("r\n")
    first.finish()
    (first.folder / "rows.txt").unlink()
    with pytest.raises(InputError, match=r"runs/smoke/01_first/rows\.txt does not exist"):
        start().stage("01_first")


def test_stages_of_different_runs_do_not_mix(project: Path):
    start("01_first").finish()
    with pytest.raises(InputError, match="01_first has not finished in runs/smoke-other"):
        start(RUN="other").stage("01_first")


# --- results and the manifest


def test_finish_writes_results_for_comparing_and_machine_facts_apart(project: Path):
    run = start()
    run.result("rows", 3)
    run.result("text", "ألم")
    assert run.learned("accuracy", 3, 4) == "≈0.750 (n=4)"
    run.machine("tokens_per_second", 12.5)
    run.not_run("the 8-GPU part")
    run.account("rows", ["a"], {"a": "ok"})
    run.finish()
    assert json.loads((run.folder / "results.json").read_text(encoding="utf-8")) == {
        "results": {"rows": 3, "text": "ألم"},
        "learned": {"accuracy": {"hits": 3, "n": 4}},
        "counts": {"rows": {"rows": 1, "ok": 1}},
        "not_run": ["the 8-GPU part"],
    }
    assert manifest(run.folder)["machine"] == {"tokens_per_second": 12.5}


def test_results_file_is_the_same_for_equal_runs(project: Path):
    """Seconds, memory and dates must stay out of results.json."""
    contents = []
    for _ in range(2):
        run = start()
        run.result("b", 1)
        run.result("a", [1, 2])
        run.machine("seconds", len(contents))
        run.finish()
        contents.append((run.folder / "results.json").read_bytes())
    assert contents[0] == contents[1]


def test_finish_shows_the_results_in_the_notebook(project: Path, shown_bundles: list):
    run = start()
    run.result("rows", 3)
    run.result("name", "ألم")
    run.learned("accuracy", 1, 4)
    run.finish()
    (bundle,) = shown_bundles
    assert bundle[runs.RESULTS_MIME] == {
        "results": {"rows": 3, "name": "ألم"},
        "learned": ["accuracy"],
    }
    assert bundle["text/plain"] == 'name: "ألم"\nrows: 3\naccuracy: ≈0.250 (n=4)'


def test_learned_share_of_nothing_is_not_a_number():
    assert runs.learned_text(0, 0) == "not run (n=0)"


def test_not_run_is_said_aloud(project: Path, capsys: pytest.CaptureFixture):
    start().not_run("the 8-GPU part")
    assert "not run in this mode: the 8-GPU part\n" in capsys.readouterr().out


def test_manifest_says_where_the_result_comes_from(project: Path):
    folder = finished()
    told = manifest(folder)
    assert told["notebook"] == NAME
    assert told["parameters"] == VALUES
    assert told["outputs"] == {"out.txt": hashlib.sha256(b"result\n").hexdigest()}
    assert told["fingerprint"] == freshness.fingerprint(NAME, VALUES)
    assert (
        told["git"]["commit"] == "not found"
    )  # the toy project is no repository: said, not invented
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(told["versions"]) > {"torch", "transformers", "peft", "datasets"}
    assert told["device"]["cores"] == os.cpu_count()
    assert told["seconds"] >= 0 and told["peak_memory_mb"] > 1


def test_manifest_is_written_last(
    project: Path, monkeypatch: pytest.MonkeyPatch, shown_bundles: list
):
    """Its existence means complete: whatever else is written must be there before it."""
    written, real = [], runs.write_json

    def watch(path: Path, value: Any) -> None:
        written.append(
            (path.name, sorted(p.name for p in path.parent.iterdir() if not p.name.startswith(".")))
        )
        real(path, value)

    monkeypatch.setattr(runs, "write_json", watch)
    finished()
    assert written == [("results.json", ["out.txt"]), ("run.json", ["out.txt", "results.json"])]
    assert len(shown_bundles) == 1


def test_no_manifest_when_the_results_cannot_be_written(project: Path):
    run = start()
    run.result("bad", object())
    with pytest.raises(TypeError):
        run.finish()
    assert not (run.folder / "run.json").exists()
    assert not freshness.is_fresh(NAME, VALUES)


def test_finish_refuses_an_output_that_was_announced_and_not_written(project: Path):
    run = start()
    run.output("rows.jsonl")
    with pytest.raises(KitError, match=rf"{NAME} announced rows\.jsonl and did not write it"):
        run.finish()
    assert not (run.folder / "run.json").exists()
    assert not (run.folder / "results.json").exists()


# --- freshness


def test_fresh_after_an_unchanged_run(project: Path):
    finished()
    assert freshness.is_fresh(NAME, VALUES)


def test_not_fresh_without_or_with_a_broken_manifest(project: Path):
    assert not freshness.is_fresh(NAME, VALUES)
    folder = finished()
    (folder / "run.json").write_text('{"fingerprint": ')
    assert not freshness.is_fresh(NAME, VALUES)


@pytest.mark.parametrize("changed", [{"SEED": 43}, {"LORA_RANK": 8}, {"EXTRA": 1}])
def test_not_fresh_with_another_parameter(project: Path, changed: dict):
    finished()
    assert not freshness.is_fresh(NAME, {**VALUES, **changed})


def test_a_stage_that_lacks_answers_is_run_again_and_says_so(
    project: Path, capsys: pytest.CaptureFixture
):
    for missing in (0, 3):
        run = start()
        run.incomplete(missing, "answers are missing")
        run.finish()
        assert freshness.is_fresh(NAME, VALUES) == (missing == 0)
    assert (
        "not run in this mode: 3 answers are missing: the same command looks for them again"
        in capsys.readouterr().out
    )


def test_fresh_looks_at_the_named_run_only(project: Path):
    finished()
    assert not freshness.is_fresh(NAME, {**VALUES, "RUN": "other"})


@pytest.mark.parametrize("content", ["one \n", "", None])
def test_not_fresh_after_an_input_changed_or_went(project: Path, content: str | None):
    finished()
    path = project / "data" / "rows.txt"
    path.unlink() if content is None else path.write_text(content)
    assert not freshness.is_fresh(NAME, VALUES)


@pytest.mark.parametrize("content", ["other\n", None])
def test_not_fresh_after_an_output_changed_or_went(project: Path, content: str | None):
    path = finished() / "out.txt"
    path.unlink() if content is None else path.write_text(content)
    assert not freshness.is_fresh(NAME, VALUES)


def test_not_fresh_after_an_earlier_stage_gave_another_output(project: Path):
    def first(content: str) -> None:
        run = start("01_first")
        run.output("rows.txt").write_text(content)
        run.finish()

    first("r\n")
    run = start()
    run.stage("01_first")
    run.finish()
    first("r\n")
    assert freshness.is_fresh(NAME, VALUES), "the same content written again is no change"
    first("s\n")
    assert not freshness.is_fresh(NAME, VALUES)


@pytest.mark.parametrize(
    "module", ["__init__.py", "toy.py", "deep.py", "inner/__init__.py", "inner/leaf.py", "base.py"]
)
def test_not_fresh_after_an_imported_module_changed(project: Path, module: str):
    """Directly imported, through another module, inside a function, and across folders."""
    finished()
    with open(project / "bimedix_utils" / module, "a") as handle:
        handle.write("# edited\n")
    assert not freshness.is_fresh(NAME, VALUES)


@pytest.mark.parametrize(
    "name", ["stranger.py", "room/__init__.py", "room/prompts/translate.v1.txt"]
)
def test_fresh_after_a_file_changed_that_the_stage_does_not_use(project: Path, name: str):
    finished()
    (project / "bimedix_utils" / name).write_text("edited = 1\n")
    assert freshness.is_fresh(NAME, VALUES)


@pytest.mark.parametrize(
    "name",
    [
        "bimedix_utils/room/__init__.py",
        "bimedix_utils/room/prompts/translate.v1.txt",
        "bimedix_utils/languages/ar.yaml",
        "data/catalogue/sources.yaml",
        "model/adapter/adapter_config.json",
    ],
)
def test_one_byte_of_any_kind_of_input_runs_its_stage_again(project: Path, name: str):
    """Editing a language, the catalogue, a prompt or an adapter's config was "unchanged"."""
    cell = CELL + 'MODEL: str = ""  # any text: a folder\n'
    write_notebook(project / "notebooks", NAME, "from bimedix_utils import room", cell=cell)
    values = {**VALUES, "MODEL": "model"}
    runs.start_run(NAME, dict(values)).finish()
    assert freshness.is_fresh(NAME, values)
    with open(project / name, "a") as handle:
        handle.write(" ")
    assert not freshness.is_fresh(NAME, values)


def test_not_fresh_after_a_package_version_changed(project: Path, monkeypatch: pytest.MonkeyPatch):
    finished()
    monkeypatch.setattr(freshness, "package_versions", lambda: {"torch": "0"})
    assert not freshness.is_fresh(NAME, VALUES)


def test_fresh_looks_at_code_cells_not_at_prose_or_outputs(project: Path):
    finished()
    path = project / "notebooks" / f"{NAME}.ipynb"
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = ["# Another title"]
    content["cells"][2]["outputs"] = ["something"]
    path.write_text(json.dumps(content))
    assert freshness.is_fresh(NAME, VALUES)
    content["cells"][3]["source"] = ["print(toy, 1)"]
    path.write_text(json.dumps(content))
    assert not freshness.is_fresh(NAME, VALUES)


def test_fresh_survives_moving_project_and_runs(
    project: Path, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another clone with the same content must not run everything again: the manifest's keys are
    relative.
    """
    finished()
    project.rename(tmp_path / "clone")
    runs_dir.rename(tmp_path / "elsewhere")
    assert not freshness.is_fresh(NAME, VALUES)
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(provenance, "NOTEBOOKS", tmp_path / "clone" / "notebooks")
    monkeypatch.setenv("BIMEDIX_RUNS", str(tmp_path / "elsewhere"))
    assert freshness.is_fresh(NAME, VALUES)


def test_not_fresh_when_code_was_edited_while_the_stage_ran(project: Path):
    """A module edited during a long run was written into the manifest as if the run had used it:
    the old result stayed "unchanged".
    """
    run = start()
    (project / "bimedix_utils" / "toy.py").write_text("from .deep import f\nedited = True\n")
    run.finish()
    assert not freshness.is_fresh(NAME, VALUES)


def test_plain_import_of_a_module_counts_as_imported(project: Path):
    found = freshness.imported_modules("import bimedix_utils.stranger as s")
    assert project / "bimedix_utils" / "stranger.py" in found
    deep = {
        path.name for path in freshness.imported_modules("import json, bimedix_utils.inner.leaf")
    }
    assert deep == {"__init__.py", "leaf.py", "base.py"}


# --- provenance helpers


def test_imported_modules_ignores_other_packages(project: Path):
    assert (
        freshness.imported_modules(
            "import json\nfrom os import path\nfrom bimedix_utilsx import toy"
        )
        == []
    )


def test_imported_modules_of_the_real_package_are_files_with_their_prompts():
    found = {
        path.relative_to(provenance.ROOT).as_posix()
        for path in freshness.depends_on("from bimedix_utils import translation")
    }
    assert {
        "bimedix_utils/translation/rounds.py",
        "bimedix_utils/core/records.py",
        "bimedix_utils/core/text.py",
    } <= found
    assert "bimedix_utils/translation/prompts/translate.v1.txt" in found
    assert {"bimedix_utils/languages/ar.yaml", "bimedix_utils/languages/fa.yaml"} <= found
    assert not any(name.startswith("bimedix_utils/training/") for name in found)


def test_hash_of_a_folder_follows_names_and_contents_not_hidden_files(tmp_path: Path):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("a")
    first = provenance.hash_path(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    assert provenance.hash_path(folder) == first
    (folder / "sub" / "a.txt").rename(folder / "sub" / "b.txt")
    renamed = provenance.hash_path(folder)
    (folder / "sub" / "b.txt").write_text("b")
    assert len({first, renamed, provenance.hash_path(folder)}) == 3


def test_hash_of_a_folder_is_not_fooled_by_a_hidden_parent(tmp_path: Path):
    """Files below a hidden parent folder (such as a cache) are hashed all the same."""
    folder = tmp_path / ".mounted" / "data"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    first = provenance.hash_path(folder)
    (folder / "a.txt").write_text("b")
    assert provenance.hash_path(folder) != first


def test_write_text_keeps_the_old_file_when_writing_breaks(tmp_path: Path):
    path = tmp_path / "rows.txt"
    files.write_text(path, ["old\n"])

    def pieces():
        yield "new\n"
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        files.write_text(path, pieces())
    assert path.read_text() == "old\n"
    files.write_text(path, ["new\n"])
    assert path.read_text() == "new\n"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.txt"]


def test_write_json_is_sorted_readable_utf8(tmp_path: Path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": "ألم"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "a": "ألم",\n "b": 1\n}\n'


@pytest.mark.parametrize(
    ("place", "key"),
    [("runs/smoke/01_x/a", "run:01_x/a"), ("project/data/a", "project:data/a"), ("else/a", None)],
)
def test_portable_keys_are_restored(
    project: Path, runs_dir: Path, tmp_path: Path, place: str, key: str | None
):
    path, run = tmp_path / place, runs_dir / "smoke"
    assert provenance.portable_path(path, run) == (key or str(path))
    assert provenance.restore_path(provenance.portable_path(path, run), run) == path


def test_the_trained_base_is_a_folder_where_there_is_one_else_a_hub_id(
    tmp_path: Path, runs_dir: Path
):
    """A hub id that became a path was loaded at its newest commit, not at the locked one that was
    trained.
    """
    stage = runs_dir / "smoke" / "06_x"
    (stage / "merged").mkdir(parents=True)
    for told, wanted in (
        ("run:06_x/merged", stage / "merged"),
        ("owner/model-8x7B", "owner/model-8x7B"),
    ):
        files.write_json(stage / "base.json", {"model": "a name", "folder": told})
        name, base = provenance.trained_base(stage)
        assert (name, base) == ("a name", wanted) and isinstance(base, type(wanted))


def test_shown_paths_tell_nothing_of_the_machine(project: Path, runs_dir: Path, tmp_path: Path):
    assert provenance.shown_path(runs_dir.resolve() / "smoke" / "a") == "runs/smoke/a"
    assert provenance.shown_path(project / "data" / "a") == "data/a"
    assert provenance.shown_path(Path("/home/someone/secret/x/y.txt")) == ".../x/y.txt"
