"""Downloads, through the hub's own libraries, from a stand-in hub on this machine: the first one,
and what may differ later.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bimedix_utils import sources
from bimedix_utils.core.errors import InputError
from bimedix_utils.sources import catalogue, hub

pytestmark = pytest.mark.unit
STEPS = Path(__file__).parent / "support" / "hub_steps.py"


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What each step of the steps output; see tests/support/hub_steps.py."""
    folder = tmp_path_factory.mktemp("hub")
    done = subprocess.run(
        [sys.executable, STEPS, folder], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_download_resolves_the_revision_and_locks_hash_and_rows(
    steps: dict, tmp_path: Path
):
    first = steps["first"]
    assert first["status"] == 0 and "OK    medmcqa_train.jsonl  8 rows" in first["output"]
    assert first["files"] == ["catalogue.lock.json", "medmcqa_train.jsonl"]
    assert first["lock"] == {
        "medmcqa_train.jsonl": {
            "hub": "toy/good",
            "config": None,
            "split": "train",
            "revision": steps["first commit"],
            "rows": 8,
            "sha256": hashlib.sha256(steps["content"].encode()).hexdigest(),
        }
    }
    (tmp_path / "medmcqa_train.jsonl").write_text(steps["content"], encoding="utf-8")
    assert (
        "".join(record.key() for record in sources.read_file(tmp_path / "medmcqa_train.jsonl"))
        == "ABCDABCD"
    )


def test_one_configuration_of_a_parquet_repository_is_what_the_reader_reads(
    steps: dict, tmp_path: Path
):
    assert steps["parquet"]["lock"]["pubmedqa_artificial_train.jsonl"]["config"] == "pqa_artificial"
    (tmp_path / "pubmedqa_artificial_train.jsonl").write_text(steps["pubmedqa"], encoding="utf-8")
    first, second = sources.read_file(tmp_path / "pubmedqa_artificial_train.jsonl")
    assert (first.question, first.context, first.split) == (
        "Does pqa_artificial help?",
        "We asked. We saw.",
        "train",
    )
    assert [first.key(), second.key()] == ["A", "B"]


def test_a_second_run_asks_the_hub_nothing(steps: dict):
    assert (
        steps["again"]["status"] == 0
        and steps["again"]["requests"] == 0
        and steps["again"]["lock"] == steps["first"]["lock"]
    )


def test_a_touched_file_is_an_error_with_both_hashes(steps: dict):
    output = steps["touched"]["output"]
    assert steps["touched"]["status"] == 1 and steps["touched"]["requests"] == 0
    assert (
        steps["first"]["lock"]["medmcqa_train.jsonl"]["sha256"] in output
        and hashlib.sha256(b"{}\n").hexdigest() in output
    )


def test_other_content_at_the_same_revision_is_an_error_and_leaves_no_file(steps: dict):
    step = steps["other content"]
    assert (
        step["status"] == 1
        and "the hash in catalogue.lock.json is" in step["output"]
        and "--renew" in step["output"]
    )
    assert step["files"] == ["catalogue.lock.json"] and step["lock"] == steps["first"]["lock"]


def test_another_revision_is_an_error_with_both_until_it_is_renewed(steps: dict):
    step = steps["moved on"]
    assert (
        step["status"] == 1
        and steps["first commit"] in step["output"]
        and steps["second commit"] in step["output"]
    )
    assert step["lock"] == steps["first"]["lock"]
    renewed = steps["renewed"]
    assert (
        renewed["status"] == 0
        and renewed["lock"]["medmcqa_train.jsonl"]["revision"] == steps["second commit"]
    )


def test_another_number_of_rows_than_the_catalogue_states_is_an_error_with_both(steps: dict):
    assert "few: the catalogue states 9 rows for train, the hub gave 8" in steps["few"]["output"]
    assert steps["few"]["files"] == ["catalogue.lock.json", "medmcqa_train.jsonl"]


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("gated", "gated: toy/gated is gated: accept its terms on its hub page"),
        ("absent", "absent: toy/absent is not on the hub, or is private"),
        ("homeless", "homeless: no hub copy is known; put the owner's file (nobody)"),
        (
            "no network",
            "private: toy/good could not be reached (ConnectionError): this needs a network",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_one_sentence(steps: dict, step: str, sentence: str):
    output = [line for line in steps[step]["output"].splitlines() if line.startswith("FAIL")]
    assert steps[step]["status"] == 1 and len(output) == 1 and sentence in output[0]


def test_a_licence_that_does_not_allow_passing_on_is_said(steps: dict):
    assert (
        steps["private"]["status"] == 0
        and "licence not found, redistribution not found: for this machine only"
        in steps["private"]["output"]
    )


def test_an_unknown_source_ends_the_run(steps: dict):
    assert steps["nonsense"]["status"] == 2


def test_a_file_that_is_there_needs_no_network(steps: dict):
    assert steps["kept without a network"]["status"] == 0


def test_a_revision_pinned_in_the_catalogue_must_be_the_locked_one(tmp_path: Path):
    entry = catalogue.load_catalogue().entries["medmcqa"].model_copy(update={"revision": "b" * 40})
    (tmp_path / hub.LOCK).write_text(
        json.dumps({"medmcqa_train.jsonl": {"revision": "a" * 40, "sha256": "0", "rows": 1}})
    )
    with pytest.raises(InputError, match=f"{'a' * 40}, that of the catalogue is {'b' * 40}"):
        hub.download_part("medmcqa", entry, entry.parts[0], tmp_path)


def test_a_file_of_unknown_origin_is_not_overwritten(tmp_path: Path):
    entry = catalogue.load_catalogue().entries["medmcqa"]
    (tmp_path / "medmcqa_train.jsonl").write_text("mine")
    with pytest.raises(InputError, match="is there and not in catalogue.lock.json"):
        hub.download_part("medmcqa", entry, entry.parts[0], tmp_path)
    assert (tmp_path / "medmcqa_train.jsonl").read_text() == "mine"
