"""The kit's scores against lm-evaluation-harness on the same model and files: log-likelihoods
within 1e-3, accuracies equal.
"""

import pytest
from support import parity
from support.tiny import FORM, TEXTS

from bimedix_utils import sources
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.evaluation.prompt_format import PromptFormat
from bimedix_utils.sources import benchmarks
from bimedix_utils.training import models

pytestmark = [pytest.mark.chain, pytest.mark.filterwarnings("ignore")]
ROWS = 32
WIDE = models.TinySpec(
    vocabulary=500,
    hidden=64,
    inner=64,
    layers=2,
    experts=3,
    heads=2,
    positions=4096,
    steps=3,
    batch=2,
    length=32,
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder, _ = models.tiny_base(TEXTS + FORM, [], WIDE, tmp_path_factory.mktemp("cache"))
    model, tokenizer = models.load_base(folder)
    return models.for_inference(model), tokenizer


def rows_of(folder, kit):
    files = [file for file in sources.find_files(folder) if "dialog" not in file.path.name]
    return benchmarks.group_tasks(
        [record for file in files for record in sources.read_file(file, kit=kit)], ROWS, 1
    )


@pytest.mark.parametrize(
    "form",
    [PromptFormat("label"), PromptFormat("option_text"), PromptFormat("option_text", chat=False)],
    ids=lambda form: form.name,
)
def test_the_kits_rows_score_as_in_the_harness(form, loaded, tmp_path):
    table = rows_of(ROOT / "data" / "sample", kit=True)
    assert len(table) == 18
    check(parity.both(*loaded, list(table.values()), form, tmp_path))


@pytest.mark.parametrize(
    "form", [PromptFormat("label"), PromptFormat("option_text")], ids=lambda form: form.name
)
def test_the_published_rows_score_as_in_the_harness(form, loaded, tmp_path, raw_dir):
    table = rows_of(raw_dir, kit=False)
    assert len(table) == 11 and all(len(task.records) == ROWS for task in table.values())
    check(parity.both(*loaded, list(table.values()), form, tmp_path))


def check(compared):
    for one in compared:
        assert one.largest < parity.AGREE, one
        for ours, theirs in ((one.ours, one.theirs), (one.ours_normalised, one.theirs_normalised)):
            assert abs(ours - theirs) <= len(one.close) / one.n + 1e-9, one
    assert sum(len(one.close) for one in compared) < 0.05 * sum(one.n for one in compared)
