"""The authoring tools of the recordings, and the recordings against the prompts and faults they
stand for.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from bimedix_utils import synthesis, translation
from bimedix_utils.core.errors import TeacherError
from bimedix_utils.runner import recordings
from bimedix_utils.teacher import replay, requests

pytestmark = pytest.mark.unit
EVERY = replay.read_recordings(recordings.FOLDER)


@pytest.fixture(scope="module")
def asked():
    """Every request of the smoke run, by place."""
    return recordings.smoke_requests()


@pytest.fixture
def folder(tmp_path):
    """A copy of the recordings that a test may damage."""
    copy = tmp_path / "recordings"
    shutil.copytree(recordings.FOLDER, copy)
    return copy


@pytest.fixture
def reworded(monkeypatch, tmp_path):
    """The prompts with one word more in `synthesize_chat`, the version's name left as it was."""
    folder = tmp_path / "a_room" / "prompts"
    folder.mkdir(parents=True)
    for path in requests._ROOMS.glob("*/prompts/*.txt"):
        shutil.copy(path, folder)
    path = folder / "synthesize_chat.v2.txt"
    path.write_text(path.read_text(encoding="utf-8") + "\nThank you.", encoding="utf-8")
    monkeypatch.setattr(requests, "_ROOMS", tmp_path)
    monkeypatch.setattr(synthesis.chats, "CHAT_PROMPT", requests.Prompt(synthesis.CHAT_STAGE, "v2"))


def rows_of(folder) -> list[dict]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def damage(folder, name: str, place: int, **changes) -> None:
    path = folder / name
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[place] = json.dumps({**json.loads(lines[place]), **changes}, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_no_committed_recording_is_orphaned():
    assert list(recordings.orphans()) == []


def test_every_recording_is_labelled_as_written_for_this_kit():
    for row in EVERY.values():
        assert row["author"] and re.fullmatch(r"\d{4}-\d{2}-\d{2}", row["date"])
        assert "paper" not in row["author"] or "not" in row["author"]


def test_every_recording_reads_as_its_fault_says(asked):
    assert {
        place: reason
        for place, row in EVERY.items()
        if (reason := recordings.still_answers(row, *asked[place]))
    } == {}


def test_a_changed_wording_orphans_its_recordings_and_stops_the_run_with_the_command(reworded):
    found = list(recordings.orphans())
    assert len(found) == sum(row["stage"] == synthesis.CHAT_STAGE for row in EVERY.values())
    assert all(
        place[0] == synthesis.CHAT_STAGE and "the prompt is v2-" in reason
        for place, reason in found
    )
    with pytest.raises(
        TeacherError, match="46 recordings answer another text of it.*`make orphans`.*`make rekey`"
    ):
        replay.recorded_answers(
            [request for request, _ in recordings.smoke_requests().values()], recordings.FOLDER
        )


def test_rekey_adopts_a_new_wording_and_leaves_nothing_to_do(reworded, folder):
    before = rows_of(folder)
    assert recordings.rekey(folder) == (46, [])
    assert list(recordings.orphans(folder)) == []
    assert recordings.rekey(folder) == (0, [])
    after = rows_of(folder)
    assert [{**row, "prompt_version": ""} for row in after] == [
        {**row, "prompt_version": ""} for row in before
    ]


def test_rekey_on_a_clean_tree_changes_no_byte(folder):
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    recordings.rekey(folder)
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_rekey_refuses_answers_of_another_structure_and_writes_nothing(reworded, folder):
    damage(folder, "synthesize_chat.jsonl", 3, text='{"dialogue": "new layout"}', fault="")
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    adopted, broken = recordings.rekey(folder)
    assert adopted == 0 and len(broken) == 1 and "parse_failed" in broken[0][1]
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_recording_of_a_row_that_is_gone_is_listed(folder):
    damage(folder, "synthesize_chat.jsonl", 0, row_id="medqa:gone")
    assert (
        (synthesis.CHAT_STAGE, "medqa:gone", 0, 0),
        "no row of the smoke run asks for it",
    ) in list(recordings.orphans(folder))


def test_skeletons_have_the_wanted_structure_and_show_the_prompt(folder):
    path = folder / "mcq_translations.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    dropped = json.loads(lines[0])
    path.write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    skeletons = {
        (row["stage"], row["row_id"], row["round"]): row for row in recordings.missing(folder)
    }
    row = skeletons[dropped["stage"], dropped["row_id"], dropped["round"]]
    assert (
        row["stage"] == "translate"
        and row["prompt_version"] == translation.TRANSLATION_PROMPTS["translate"].tag
    )
    wanted, blank = (
        json.loads(re.sub(r"^```\w*|```$", "", dropped["text"]).strip()),
        json.loads(row["text"]),
    )
    assert blank.keys() == wanted.keys() and len(blank["options"]) == len(wanted["options"])
    assert set(translation.flat_texts(blank)) == {""}
    assert "Translate this medical record" in row["prompt"]
    chat = next(row for row in skeletons.values() if row["stage"] == synthesis.CHAT_STAGE)
    assert [turn["role"] for turn in json.loads(chat["text"])["turns"]] == ["patient", "doctor"] * 2


def test_a_skeleton_put_among_the_recordings_as_it_is_is_refused(folder):
    skeleton = next(iter(recordings.missing(folder)))
    (folder / "new.jsonl").write_text(
        json.dumps(skeleton, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with pytest.raises(TeacherError, match="new.jsonl, line 1: an unfinished skeleton"):
        replay.read_recordings(folder)


def test_the_missing_recordings_are_the_gaps_the_card_states():
    card = (recordings.FOLDER / "README.md").read_text(encoding="utf-8")
    gaps = Counter(row["stage"] for row in recordings.missing())
    assert f"{gaps[synthesis.CHAT_STAGE]} held because no answer is recorded" in card
    train, tests = (
        int(re.search(rf"(\d+) (?:are )?held because no\s{words}", card)[1])
        for words in (r"answer is recorded\. Of 98", "translation")
    )
    assert train + tests == gaps["translate"]
    assert set(gaps) == {synthesis.CHAT_STAGE, "translate", "repair_score"}
    # "one has no repair": a score that cannot be read, left so on purpose
    assert gaps["repair_score"] == 1 and "one has no repair" in card


# Repairs


def test_every_answer_that_is_not_json_and_no_other_asks_for_a_repair(asked):
    repairs = {place for place in asked if place[0].startswith("repair_")}
    unread = {
        place
        for place, row in EVERY.items()
        if row["fault"] == "not_json" and not place[0].startswith("repair_")
    }
    assert repairs == {(f"repair_{stage}", *rest) for stage, *rest in unread} and len(repairs) == 3


def test_a_repair_carries_the_repair_prompts_version_and_the_whole_conversation(asked):
    for place, (request, _) in asked.items():
        if place[0].startswith("repair_"):
            first = asked[(place[0].removeprefix("repair_"), *place[1:])][0]
            assert request.prompt_version == requests.REPAIR.tag != first.prompt_version
            assert request.messages[:1] == first.messages and [
                role for role, _ in request.messages
            ] == ["user", "assistant", "user"]


@pytest.mark.parametrize("stage", [synthesis.CHAT_STAGE, "translate", "refine", "score"])
def test_a_repair_must_have_the_structure_of_what_it_repairs(stage, asked):
    request, record = next(pair for place, pair in asked.items() if place[0] == stage)
    repair = request.repair("not JSON", "no JSON object")
    assert recordings.blank(repair, record) == recordings.blank(request, record)
    assert (
        recordings.wanted_structure(repair, record).model_json_schema()
        == recordings.wanted_structure(request, record).model_json_schema()
    )
    good = {"text": json.dumps(filled(recordings.blank(request, record))), "finish_reason": "stop"}
    assert recordings.still_answers(good, repair, record) == ""
    assert "parse_failed" in recordings.still_answers(
        {**good, "text": '{"other": 1}'}, repair, record
    )


def filled(value):
    """A skeleton with its empty places filled."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    return {"": "words", None: 90}.get(value, value)


def test_the_skeleton_of_a_missing_repair_shows_what_is_wrong():
    (row,) = [row for row in recordings.missing() if row["stage"] == "repair_score"]
    assert json.loads(row["text"]) == {"errors": [], "score": None}
    assert (
        row["prompt_version"] == requests.REPAIR.tag
        and "could not be read: no JSON object" in row["prompt"]
    )


def test_the_card_counts_each_fault():
    card = (recordings.FOLDER / "README.md").read_text(encoding="utf-8")
    table = {
        name: (int(lines), int(rows))
        for name, lines, rows in re.findall(
            r"^\| `(\w+)` \| (\d+) \| (\d+) \| ", card, re.MULTILINE
        )
    }
    counted = {
        name: (len(hits), len({row["row_id"] for row in hits}))
        for name in {row["fault"] for row in EVERY.values()} - {""}
        if (hits := [row for row in EVERY.values() if row["fault"] == name])
    }
    assert table == counted and len(table) == 20


def test_the_command_line_says_what_it_found():
    done = subprocess.run(
        [sys.executable, "-m", "bimedix_utils.runner.recordings", "orphans"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "0 orphaned recordings\n")
