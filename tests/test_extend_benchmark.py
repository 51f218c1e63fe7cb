"""A tenth benchmark is one entry of a `benchmarks.yaml` beside the data, and no Python."""

import csv
from pathlib import Path

import pytest
import yaml

from bimedix_utils import evaluation, sources, translation
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import iter_jsonl, write_jsonl
from bimedix_utils.evaluation.scoring import Scorer

pytestmark = pytest.mark.unit
HEART = {
    "column": "Heart",
    "items": 6,
    "split": "test",
    "labels": "A-C",
    "read": {
        "title": "Heart exam",
        "pattern": r"^heart_exam.*\.csv$",
        "layout": "multiple_choice",
        "columns": {"question": "stem", "options": ["c1", "c2", "c3"], "key": "right"},
        "aligned": True,
    },
}


def write(folder: Path, entries: dict) -> Path:
    text = yaml.safe_dump({"benchmarks": entries}, allow_unicode=True)
    (folder / "benchmarks.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The entry, and six English items as a CSV file with its own column names."""
    with open(tmp_path / "heart_exam.csv", "w", encoding="utf-8", newline="") as handle:
        rows = [[f"Class of drug {i}?", "salicylates", "statins", "opioids"] for i in range(6)]
        keyed = [[*row, "ABC"[i % 3]] for i, row in enumerate(rows)]
        csv.writer(handle).writerows([["stem", "c1", "c2", "c3", "right"], *keyed])
    return write(tmp_path, {"heart_exam": HEART})


def test_notebook_01_reads_its_rows_as_the_split_that_is_scored(data: Path):
    (file,) = sources.find_files(data)
    rows = sources.read_file(file)
    assert (file.entry.name, file.split, len(rows)) == ("heart_exam", "test", 6)
    assert sources.unknown_files(data) == ["benchmarks.yaml"]


def test_later_notebooks_score_it_beside_the_nine(data: Path, base: Path, tmp_path: Path):
    from bimedix_utils.training import models

    stage = tmp_path / "01_prepare_sources"
    sources.write_benchmarks(stage / "benchmarks.yaml", sources.load_benchmarks(data))
    own = [row for file in sources.find_files(data) for row in sources.iter_file(file)]
    sample = Path(__file__).resolve().parents[1] / "data" / "sample"
    kit = sources.read_file(sample / "medqa_test.en.jsonl", rows=6, kit=True)
    write_jsonl(stage / "records.jsonl", [*kit, *own])

    known = sources.load_benchmarks(stage)
    rows = list(iter_jsonl(stage / "records.jsonl"))
    table = sources.group_tasks(rows, 4, 42, benchmarks=known)
    assert list(table) == [("medqa", "en"), ("heart_exam", "en")]
    task = table["heart_exam", "en"]
    assert (task.column, task.split, len(task.records)) == ("Heart", "test", 4)
    selected = translation.select_test_items(rows, 2, 42, known)
    assert sorted(row.source for row in selected) == ["heart_exam"] * 2 + ["medqa"] * 2

    model, tokenizer = models.load_base(base)
    scorer = Scorer(models.for_inference(model), tokenizer)
    fmt = evaluation.PromptFormat("label")
    samples = {
        ("tiny", "label", *key): list(scorer.score(one.records, fmt)) for key, one in table.items()
    }
    mine = samples["tiny", "label", "heart_exam", "en"]
    assert [len(sample.loglikelihoods) for sample in mine] == [3] * 4
    shown, columns = evaluation.average_table(samples, table, ["tiny"], {})
    groups = {row[columns.index("tasks")]: row[columns.index("items")] for row in shown}
    # The mean of the nine stays the paper's: the tenth stands beside it.
    assert groups == {"the nine, plain mean": 4, "heart_exam": 4}


def test_the_nine_are_those_of_the_paper_whatever_is_added(data: Path):
    added = sources.load_benchmarks(data)
    assert len(sources.nine_benchmarks()) == 9 and len(added) == 10
    assert list(added) == [*sources.nine_benchmarks(), "heart_exam"]


def test_another_mmlu_subject_needs_no_reader(tmp_path: Path):
    entry = {key: value for key, value in HEART.items() if key != "read"}
    write(tmp_path, {"mmlu_virology": {**entry, "column": "Viro", "labels": "A-D"}})
    (tmp_path / "virology_test.csv").write_text("Which?,a,b,c,d,B\n", encoding="utf-8")
    (file,) = sources.find_files(tmp_path)
    (row,) = sources.read_file(file)
    assert (row.source, row.key(), row.split) == ("mmlu_virology", "B", "test")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"heart": {**HEART, "colour": "red"}}, "benchmarks.heart.colour: Extra inputs are not"),
        ({"heart": {**HEART, "split": "train"}}, "benchmarks.heart.split: Input should be 'valid"),
        ({"heart": {**HEART, "nine": True}}, "heart: nine is true for the paper's benchmarks only"),
        ({"medqa": HEART}, "medqa: the kit has a benchmark of this name or column"),
        ({"heart": {**HEART, "column": "MedQA"}}, "heart: the kit has a benchmark of this name"),
        ({"heart": {**HEART, "read": None}}, "heart: no source reads it; add `read`"),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused_by_name(tmp_path, entries: dict, message: str):
    with pytest.raises(InputError) as error:
        sources.find_files(write(tmp_path, entries))
    assert str(error.value).startswith("benchmarks.yaml: ") and message in str(error.value)
