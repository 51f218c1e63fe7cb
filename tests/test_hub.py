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
STORY = Path(__file__).parent / "support" / "hub_story.py"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What each step of the story said; see tests/support/hub_story.py."""
    folder = tmp_path_factory.mktemp("hub")
    done = subprocess.run(
        [sys.executable, STORY, folder], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_download_resolves_the_revision_and_locks_hash_and_rows(
    told: dict, tmp_path: Path
):
    first = told["first"]
    assert first["status"] == 0 and "OK    medmcqa_train.jsonl  8 rows" in first["said"]
    assert first["files"] == ["catalogue.lock.json", "medmcqa_train.jsonl"]
    assert first["lock"] == {
        "medmcqa_train.jsonl": {
            "hub": "toy/good", "config": None, "split": "train", "revision": told["first commit"], "rows": 8,
            "sha256": hashlib.sha256(told["content"].encode()).hexdigest(),
        }
    }  # fmt: skip
    (tmp_path / "medmcqa_train.jsonl").write_text(told["content"], encoding="utf-8")
    assert (
        "".join(record.key() for record in sources.read_file(tmp_path / "medmcqa_train.jsonl"))
        == "ABCDABCD"
    )


def test_one_configuration_of_a_parquet_repository_is_what_the_reader_reads(
    told: dict, tmp_path: Path
):
    assert told["parquet"]["lock"]["pubmedqa_artificial_train.jsonl"]["config"] == "pqa_artificial"
    (tmp_path / "pubmedqa_artificial_train.jsonl").write_text(told["pubmedqa"], encoding="utf-8")
    first, second = sources.read_file(tmp_path / "pubmedqa_artificial_train.jsonl")
    assert (first.question, first.context, first.split) == (
        "Does pqa_artificial help?",
        "We asked. We saw.",
        "train",
    )
    assert [first.key(), second.key()] == ["A", "B"]


def test_a_second_run_asks_the_hub_nothing(told: dict):
    assert (
        told["again"]["status"] == 0
        and told["again"]["requests"] == 0
        and told["again"]["lock"] == told["first"]["lock"]
    )


def test_a_touched_file_is_an_error_with_both_hashes(told: dict):
    said = told["touched"]["said"]
    assert told["touched"]["status"] == 1 and told["touched"]["requests"] == 0
    assert (
        told["first"]["lock"]["medmcqa_train.jsonl"]["sha256"] in said
        and hashlib.sha256(b"{}\n").hexdigest() in said
    )


def test_other_content_at_the_same_revision_is_an_error_and_leaves_no_file(told: dict):
    step = told["other content"]
    assert (
        step["status"] == 1
        and "the hash in catalogue.lock.json is" in step["said"]
        and "--renew" in step["said"]
    )
    assert step["files"] == ["catalogue.lock.json"] and step["lock"] == told["first"]["lock"]


def test_another_revision_is_an_error_with_both_until_it_is_renewed(told: dict):
    step = told["moved on"]
    assert (
        step["status"] == 1
        and told["first commit"] in step["said"]
        and told["second commit"] in step["said"]
    )
    assert step["lock"] == told["first"]["lock"]
    renewed = told["renewed"]
    assert (
        renewed["status"] == 0
        and renewed["lock"]["medmcqa_train.jsonl"]["revision"] == told["second commit"]
    )


def test_another_number_of_rows_than_the_catalogue_states_is_an_error_with_both(told: dict):
    assert "few: the catalogue states 9 rows for train, the hub gave 8" in told["few"]["said"]
    assert told["few"]["files"] == ["catalogue.lock.json", "medmcqa_train.jsonl"]


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
def test_what_cannot_be_had_is_said_in_one_sentence(told: dict, step: str, sentence: str):
    said = [line for line in told[step]["said"].splitlines() if line.startswith("FAIL")]
    assert told[step]["status"] == 1 and len(said) == 1 and sentence in said[0]


def test_a_licence_that_does_not_allow_passing_on_is_said(told: dict):
    assert (
        told["private"]["status"] == 0
        and "licence not found, passing on not found: for this machine only"
        in told["private"]["said"]
    )


def test_an_unknown_source_ends_the_run(told: dict):
    assert told["nonsense"]["status"] == 2


def test_a_file_that_is_there_needs_no_network(told: dict):
    assert told["kept without a network"]["status"] == 0


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
