"""Per-sample files: resumed after a kill with the same bytes, never taken for another model's,
damaged lines scored again.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from support.tiny import mcqa

from bimedix_utils.core.errors import InputError
from bimedix_utils.evaluation import samples
from bimedix_utils.evaluation.scoring import WINDOW, Sample

pytestmark = pytest.mark.unit
ROWS = [
    mcqa(id=f"q{i}", question=f"Question {i}?", answer_index=i % 4) for i in range(2 * WINDOW + 10)
]
HEADER = {"model": "m", "task": "medqa", "lang": "en", "protocol": "label", "version": "2.x"}


def scorer(calls=None):
    def score(rows):
        (calls if calls is not None else []).append(len(rows))
        return [
            Sample(
                r.id,
                r.lang,
                r.content_hash(),
                r.answer_index,
                (-0.1, -1.0 / 3, -2.0, -3.0),
                (1, 1, 1, 1),
                0.5,
            )
            for r in rows
        ]

    return score


def test_samples_come_back_as_they_were(tmp_path):
    path = samples.complete_samples(tmp_path, HEADER, ROWS, scorer())
    assert list(samples.iter_samples(path)) == scorer()(ROWS) and json.loads(
        path.read_text().splitlines()[0]
    )["n"] == len(ROWS)


@pytest.mark.parametrize("kept", [0, 1, 5, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 3])
def test_a_torn_file_is_completed_and_complete_windows_are_kept(tmp_path, kept):
    whole = samples.complete_samples(tmp_path, HEADER, ROWS, scorer()).read_bytes()
    path = next(tmp_path.iterdir())
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 1 + kept]) + lines[1 + kept][:20])
    calls = []
    assert samples.complete_samples(tmp_path, HEADER, ROWS, scorer(calls)).read_bytes() == whole
    assert sum(calls) == len(ROWS) - kept // WINDOW * WINDOW
    assert (
        samples.complete_samples(tmp_path, HEADER, ROWS, scorer(calls := [])).read_bytes() == whole
        and calls == []
    )


def test_a_damaged_line_is_scored_again(tmp_path):
    path = samples.complete_samples(tmp_path, HEADER, ROWS, scorer())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"q200"', b'"q200'))
    assert samples.complete_samples(tmp_path, HEADER, ROWS, scorer()).read_bytes() == whole


@pytest.mark.parametrize(
    ("unanswered", "again"), [(3, 2 * WINDOW + 10), (WINDOW + 3, WINDOW + 10), (2 * WINDOW + 3, 10)]
)
def test_an_item_without_an_answer_is_asked_again_and_one_that_says_nothing_is_not(
    tmp_path, unanswered, again
):
    def failing(rows):
        return [
            replace(
                s, loglikelihoods=(), text="no answer: HTTP 500" if s.id == f"q{unanswered}" else ""
            )
            for s in scorer()(rows)
        ]

    path = samples.complete_samples(tmp_path, HEADER, ROWS, failing)
    assert [s.id for s in samples.iter_samples(path) if s.unanswered] == [f"q{unanswered}"]
    calls = []
    samples.complete_samples(tmp_path, HEADER, ROWS, scorer(calls))
    assert sum(calls) == again and not any(s.unanswered for s in samples.iter_samples(path))


def test_another_model_version_or_item_has_another_file(tmp_path):
    paths = {
        samples.complete_samples(tmp_path, {**HEADER, **more}, ROWS, scorer())
        for more in ({}, {"model": "n"}, {"version": "3"}, {"base": "b"})
    }
    paths.add(
        samples.complete_samples(
            tmp_path, HEADER, [ROWS[0].replace(question="Other?"), *ROWS[1:]], scorer()
        )
    )
    assert len(paths) == 5


def test_samples_of_other_items_are_refused(tmp_path):
    with pytest.raises(InputError, match="other items"):
        samples.complete_samples(tmp_path, HEADER, ROWS, lambda rows: scorer()(rows[::-1]))


SLOW = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_samples import HEADER, ROWS, scorer
from bimedix_utils.evaluation import samples
def slow(rows):
    time.sleep(0.4)
    return scorer()(rows)
samples.complete_samples(Path(sys.argv[1]), HEADER, ROWS, slow)
"""


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    path = [os.path.dirname(__file__), *sys.path]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(path=path), str(tmp_path / "killed")]
    )
    deadline = time.time() + 60
    while (
        not (found := list((tmp_path / "killed").glob("*")))
        or len(found[0].read_bytes().splitlines()) < 2
    ):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    calls = []
    resumed = samples.complete_samples(tmp_path / "killed", HEADER, ROWS, scorer(calls))
    assert (
        resumed.read_bytes()
        == samples.complete_samples(tmp_path / "whole", HEADER, ROWS, scorer()).read_bytes()
    )
    assert 0 < sum(calls) < len(ROWS) and all(
        json.loads(line) for line in resumed.read_text().splitlines()
    )
