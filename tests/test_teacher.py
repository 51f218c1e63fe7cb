"""Requests, the answer store, the http executor against a stub server, and replay."""

import asyncio
import json
import re
import socket
import sqlite3
import types
from dataclasses import replace

import pytest
from support.stub_server import REFUSAL, Stub, completion

from bimedix_utils.errors import TeacherError
from bimedix_utils.teacher import http, requests
from bimedix_utils.teacher.engine import Teacher, ask
from bimedix_utils.teacher.parsing import read
from bimedix_utils.teacher.requests import Prompt, Request
from bimedix_utils.teacher.store import SCHEMA_VERSION, Answer, Store

pytestmark = pytest.mark.unit
KEY = "sk-secret-do-not-show"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No test waits between attempts; the seconds that would have been waited are kept."""
    asked = []

    async def sleep(seconds):
        asked.append(seconds)

    monkeypatch.setattr(http, "asyncio", types.SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)
    return asked


@pytest.fixture
def stub():
    with Stub(answer=lambda text: f"answer to {text}") as server:
        yield server


@pytest.fixture
def teacher(stub, tmp_path):
    return Teacher(backend="http", model="m", url=stub.url, answers=tmp_path / "answers" / "answers.sqlite", concurrency=3, timeout=20)


def some(teacher, *texts):
    return [teacher.request("translate", f"row:{i}", "v1", text) for i, text in enumerate(texts)]


def send(teacher, *texts):
    """The answers to some texts, in order."""
    asked = some(teacher, *texts)
    answers = ask(teacher, asked)
    return [answers[request.id] for request in asked]


# Requests


BASE = Request("translate", "row:1", 0, 0, "v1", "m", (("user", "Hello"),), (("max_tokens", 10), ("temperature", 0.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "score"},
        {"prompt_version": "v2"},
        {"model": "other"},
        {"parameters": (("max_tokens", 11), ("temperature", 0.0))},
        {"parameters": ()},
        {"messages": (("user", "Hello."),)},
        {"messages": (("system", "Hello"),)},
        {"messages": (("user", "Hello"), ("assistant", "Hi"))},
        {"sample": 1},
    ],
)
def test_id_changes_with_what_is_asked(change):
    assert replace(BASE, **change).id != BASE.id


@pytest.mark.parametrize("change", [{"row_id": "row:2"}, {"round": 1}])
def test_id_does_not_change_with_who_asks(change):
    assert replace(BASE, **change).id == BASE.id


def test_id_is_the_same_in_every_process_and_for_every_backend():
    """A changed id would orphan every answer that was paid for, so one is written down here."""
    assert BASE.id == "fbbc09c19688bd74e0900b96059fd562"
    http_teacher, replay_teacher = (Teacher(backend=b, model="m", url=u) for b, u in (("http", "http://127.0.0.1:1"), ("replay", "")))
    assert http_teacher.request("s", "r", "v1", "t").id == replay_teacher.request("s", "r", "v1", "t").id


def test_line_is_an_openai_batch_line():
    assert BASE.line() == {
        "custom_id": BASE.id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10, "temperature": 0.0},
    }
    assert BASE.place == ("translate", "row:1", 0, 0)


def test_prompt_fills_places_and_leaves_braces_in_values_alone():
    text = Prompt("translate", "v1").fill(source_language="English", target_language="Arabic", fields='{"question": "{x}"}')
    assert '{"question": "{x}"}' in text and "from English to Arabic" in text
    with pytest.raises(KeyError):
        Prompt("translate", "v1").fill(fields="")
    with pytest.raises(FileNotFoundError):
        _ = Prompt("translate", "v999").text


def test_a_prompts_tag_changes_with_its_wording_even_when_its_version_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "PROMPTS", tmp_path)
    tags = []
    for text in ("Translate {fields}", "Translate  {fields}"):
        (tmp_path / "translate.v1.txt").write_text(text, encoding="utf-8")
        tags.append(Prompt("translate", "v1").tag)
    assert len(set(tags)) == 2 and all(re.fullmatch(r"v1-[0-9a-f]{8}", tag) for tag in tags)


def test_unknown_teacher_setting_is_refused():
    with pytest.raises(ValueError, match="temprature"):
        Teacher(backend="http", model="m", temprature=1)


# Store


def test_store_gives_back_what_was_put_after_reopening(tmp_path):
    path = tmp_path / "deep" / "answers.sqlite"
    answer = Answer("id1", "نص عربي\n{}", "length", {"prompt_tokens": 3, "completion_tokens": 5}, 1.25)
    store = Store(path)
    store.put(answer, "translate", "row:1", "m")
    store.close()
    again = Store(path)
    assert again.get(["id0", "id1"]) == {"id1": answer}
    assert len(again) == 1
    again.close()


def test_store_is_durable_before_it_is_closed(tmp_path):
    """A killed process never closes its store: a second connection must see the answer at once."""
    store, other = Store(tmp_path / "a.sqlite"), Store(tmp_path / "a.sqlite")
    store.put(Answer("id1", "text"), "translate", "row:1", "m")
    assert other.get(["id1"])["id1"].text == "text"
    store.close()
    other.close()


def test_store_leaves_a_first_answer_alone(tmp_path):
    store = Store(tmp_path / "a.sqlite")
    store.put(Answer("id1", "first"), "translate", "row:1", "m")
    store.put(Answer("id1", "second"), "translate", "row:1", "m")
    assert (len(store), store.get(["id1"])["id1"].text) == (1, "first")
    store.close()


def test_store_without_a_path_keeps_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(None)
    store.put(Answer("id1", "text"), "translate", "row:1", "m")
    assert len(store) == 1
    store.close()
    assert list(tmp_path.iterdir()) == [] and len(Store(None)) == 0


def foreign_store(path, version):
    """A store as another version of the kit might have left it."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE replies (id TEXT)")
    db.execute("INSERT INTO replies VALUES ('kept')")
    db.execute(f"PRAGMA user_version={version}")
    db.commit()
    db.close()


def test_store_of_another_version_is_refused_and_its_rows_stay(tmp_path):
    path = tmp_path / "a.sqlite"
    foreign_store(path, SCHEMA_VERSION + 6)
    with pytest.raises(TeacherError, match=rf"a\.sqlite: answer store of version {SCHEMA_VERSION + 6}, this kit reads {SCHEMA_VERSION}"):
        Store(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT id FROM replies").fetchall() == [("kept",)]
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 6,)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("replies",)]
    db.close()


def test_store_of_another_version_keeps_its_bytes(tmp_path):
    path = tmp_path / "a.sqlite"
    foreign_store(path, SCHEMA_VERSION + 6)
    before = path.read_bytes()
    with pytest.raises(TeacherError, match="nothing was changed"):
        Store(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]


@pytest.mark.parametrize("kind", ["folder is a file", "path is a folder", "not a database"])
def test_store_that_cannot_be_opened_is_a_teacher_error_before_anything_is_sent(kind, tmp_path, stub, teacher):
    path = tmp_path / "here" / "answers.sqlite"
    if kind == "folder is a file":
        path.parent.write_text("not a folder")
    elif kind == "path is a folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_bytes(b"these bytes are no database at all" * 50)
    with pytest.raises(TeacherError, match="cannot be opened .*nothing was asked"):
        send(teacher.model_copy(update={"answers": path}), "one")
    assert stub.total == 0


# http: answers, resume, failures


def test_each_request_is_answered_once_and_never_again(stub, teacher):
    texts = [f"prompt {i}" for i in range(10)]
    first = send(teacher, *texts)
    assert [a.text for a in first] == [f"answer to {t}" for t in texts]
    assert (stub.total, set(stub.counts.values())) == (10, {1})
    assert {a.finish_reason for a in first} == {"stop"} and first[0].usage == {"prompt_tokens": 3, "completion_tokens": 5}
    second = send(teacher, *texts)
    assert (stub.total, second) == (10, first)
    assert [a.text for a in send(teacher, "prompt 3", "new")] == ["answer to prompt 3", "answer to new"]
    assert stub.total == 11


def test_equal_requests_are_asked_once(stub, teacher):
    asked = some(teacher, "same", "same", "other", "same")
    answers = ask(teacher, asked)
    assert (stub.total, stub.count(asked[0].body()), len(answers)) == (2, 1, 2)
    assert all(answers[request.id].text for request in asked)


def test_another_model_or_sample_is_asked_anew(stub, teacher):
    send(teacher, "one")
    send(teacher.model_copy(update={"model": "m2"}), "one")
    ask(teacher, [teacher.request("translate", "row:0", "v1", "one", sample=1)])
    assert stub.total == 3


def test_no_requests_need_no_endpoint(teacher, stub):
    assert ask(teacher.model_copy(update={"url": ""}), []) == {}
    with pytest.raises(TeacherError, match="TEACHER_URL is empty"):
        send(teacher.model_copy(update={"url": ""}), "one")
    assert stub.total == 0


def test_answers_without_a_file_live_for_one_call(stub, teacher):
    memory = teacher.model_copy(update={"answers": None})
    assert send(memory, "one")[0].text == "answer to one"
    send(memory, "one")
    assert stub.total == 2


@pytest.mark.parametrize("first", ["429", "500", "half_json", "empty_choices", "html", "reset", {"choices": None}, {"error": "busy"}, []])
def test_a_passing_failure_is_tried_again(first, stub, teacher):
    stub.program("one", first, "ok")
    assert send(teacher, "one", "two")[0] == send(teacher, "one")[0]
    assert stub.texts.count("one") == 2 and stub.total == 3


def test_retry_after_is_obeyed_and_otherwise_the_wait_grows(stub, teacher, waits):
    stub.program("one", "429", "429", "ok")
    send(teacher, "one")
    assert waits == [0.0, 0.0]
    waits.clear()
    stub.program("two", "500")
    send(teacher, "two")
    assert waits == [2.0, 4.0, 8.0, 16.0]


LASTING = {
    "429": ("HTTP 429", http.ATTEMPTS),
    "500": ("HTTP 500", http.ATTEMPTS),
    "400": ("HTTP 400", 1),
    "redirect": ("HTTP 307", 1),
    "half_json": ("JSONDecodeError", http.ATTEMPTS),
    "html": ("JSONDecodeError", http.ATTEMPTS),
    "empty_choices": ("IndexError", http.ATTEMPTS),
    "reset": ("ServerDisconnectedError|ClientOSError", http.ATTEMPTS),
    "too_long": ("answer too long", 1),
}


@pytest.mark.parametrize("behaviour", LASTING)
def test_a_lasting_failure_ends_with_its_error_and_is_asked_again_next_time(behaviour, stub, teacher, monkeypatch):
    monkeypatch.setattr(http, "MAX_BYTES", 50_000)
    error, attempts = LASTING[behaviour]
    stub.program("bad", behaviour)
    bad, good = send(teacher, "bad", "good")
    assert bad.text is None and bad.error in error.split("|")
    assert good.text == "answer to good"
    assert (stub.texts.count("bad"), stub.texts.count("good")) == (attempts, 1)
    stub.program("bad", "ok")
    bad, good = send(teacher, "bad", "good")
    assert (bad.text, good.text) == ("answer to bad", "answer to good")
    assert (stub.texts.count("bad"), stub.texts.count("good")) == (attempts + 1, 1)


def test_an_answer_that_never_comes_is_given_up_after_the_timeout(stub, teacher, monkeypatch):
    monkeypatch.setattr(http, "ATTEMPTS", 2)
    stub.program("bad", "hang")
    impatient = teacher.model_copy(update={"timeout": 0.5})
    bad, good = send(impatient, "bad", "good")
    assert (bad.text, bad.error, good.text) == (None, "TimeoutError", "answer to good")
    assert stub.texts.count("bad") == 2
    stub.program("bad", "ok")
    assert send(teacher, "bad")[0].text == "answer to bad"


def test_nobody_listens(teacher):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        answer = send(teacher.model_copy(update={"url": f"http://127.0.0.1:{free.getsockname()[1]}/v1"}), "one")[0]
    assert (answer.text, answer.error) == (None, "ClientConnectorError")


def test_cut_and_refused_answers_are_answers_and_are_paid_once(stub, teacher):
    stub.program("cut", "length")
    stub.program("no", "refusal")
    cut, refused = send(teacher, "cut", "no")
    assert (cut.text, cut.finish_reason) == ("answe", "length")
    assert (refused.text, refused.finish_reason) == (REFUSAL, "stop")
    send(teacher, "cut", "no")
    assert stub.total == 2
    assert [read(a, Teacher)[0] for a in (cut, refused)] == ["truncated", "refused"]


def test_refusal_field_of_the_message_is_read(stub, teacher):
    stub.program("no", {"choices": [{"message": {"content": None, "refusal": REFUSAL}, "finish_reason": "stop"}]})
    assert send(teacher, "no")[0].text == REFUSAL


def test_a_wrong_content_type_does_not_lose_a_good_answer(stub, teacher):
    stub.program("one", "html_type")
    assert send(teacher, "one")[0].text == "answer to one"
    assert stub.total == 1


@pytest.mark.parametrize("content", [3, ["text"], {"text": "x"}])
def test_content_that_is_not_text_is_a_failure(content, stub, teacher, monkeypatch):
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    stub.program("one", completion(content))
    assert send(teacher, "one")[0] == Answer(some(teacher, "one")[0].id, None, error="TypeError")


MALFORMED = {
    "message null": {"choices": [{"message": None}]},
    "message text": {"choices": [{"message": "text"}]},
    "usage list": {**completion("text"), "usage": [1]},
    "finish_reason object": completion("text", {"reason": "stop"}),
    "half an emoji": completion("text \ud83d"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_completion_fails_alone(body, stub, teacher, monkeypatch):
    """One odd answer must not end the run for all other rows."""
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    stub.program("bad", body)
    bad, good = send(teacher.model_copy(update={"concurrency": 1}), "bad", "good")
    assert good.text == "answer to good" and bad.text in (None, "text")


def test_answers_are_stored_one_by_one_as_they_arrive(stub, teacher):
    """Killing the process loses only what is under way: when a request is being answered, all answers before it are on disk."""
    stored = []

    def look(body):
        db = sqlite3.connect(teacher.answers)
        stored.append(db.execute("SELECT count(*) FROM answers").fetchone()[0])
        db.close()
        return "ok"

    stub.default = look
    send(teacher.model_copy(update={"concurrency": 1}), "a", "b", "c", "d")
    assert stored == [0, 1, 2, 3]


def test_a_store_that_fails_midway_stops_the_run_and_keeps_what_came_before(stub, teacher):
    """The disk fills up at the third answer: two are kept, and the rest is not sent."""
    full_disk(teacher)
    with pytest.raises(TeacherError, match="mend the disk and run again"):
        send(teacher.model_copy(update={"concurrency": 1}), *"abcdef")
    assert stub.total == 3
    db = sqlite3.connect(teacher.answers)
    assert db.execute("SELECT count(*) FROM answers").fetchone() == (2,)
    db.execute("DROP TRIGGER full")
    db.close()
    send(teacher, *"abcdef")
    assert stub.texts.count("a") == stub.texts.count("b") == 1 and stub.total == 3 + 4


def full_disk(teacher):
    """An answer store that takes two rows and then refuses, as a full disk does."""
    Store(teacher.answers).close()
    db = sqlite3.connect(teacher.answers)
    db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON answers WHEN (SELECT count(*) FROM answers) >= 2 "
        "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    db.close()


def test_no_more_requests_at_once_than_allowed(stub, teacher):
    stub.default = "slow"
    send(teacher, *(f"prompt {i}" for i in range(12)))
    assert (stub.peak, stub.total) == (3, 12)


def test_works_inside_a_running_event_loop(stub, teacher):
    """Jupyter runs every cell inside a loop, where asyncio.run fails."""

    async def cell():
        return send(teacher, "one")

    assert asyncio.run(cell())[0].text == "answer to one"


# http: permission and the key


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/v1",
        "https://10.1.2.3:8000/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1@example.org/v1",
        "http://0.0.0.0:8000/v1",
    ],
)
def test_a_remote_host_needs_permission(url, teacher, monkeypatch, capsys):
    monkeypatch.setattr(http, "send", lambda *_: pytest.fail("a request was sent"))
    with pytest.raises(TeacherError, match="ALLOW_REMOTE = True"):
        send(teacher.model_copy(update={"url": url}), "one", "two")
    said = capsys.readouterr().out
    assert "2 rows go to" in said and "Never send patient data" in said


def test_permission_is_given_and_announced(teacher, monkeypatch, capsys):
    sent = []

    def send(asked, url, concurrency, timeout, arrived):
        sent.append((len(asked), url))
        arrived(asked[0], Answer(asked[0].id, "answer"))

    monkeypatch.setattr(http, "send", send)
    ask(teacher.model_copy(update={"url": "https://example.org/v1", "allow_remote": True}), some(teacher, "one"))
    assert sent == [(1, "https://example.org/v1")] and "1 rows go to example.org" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1", "http://127.9.9.9/v1"])
def test_this_machine_needs_no_permission(url, capsys):
    http.check_permission(url, 3, allow_remote=False)
    assert capsys.readouterr().out == ""


def test_the_key_goes_to_the_endpoint_as_bearer_only_when_there_is_one(stub, teacher, monkeypatch):
    send(teacher, "one")
    assert "Authorization" not in stub.headers[0]
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    send(teacher, "two")
    assert stub.headers[1]["Authorization"] == f"Bearer {KEY}" and stub.headers[1]["Content-Type"] == "application/json"


def test_the_key_is_in_no_message_repr_or_file(stub, teacher, monkeypatch, capsys, caplog):
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    monkeypatch.setattr(http, "ATTEMPTS", 2)
    for behaviour in ("echo_headers", "400", "500", "html", "half_json", "reset", "redirect"):
        stub.program(behaviour, behaviour)
    asked = some(teacher, "fine", "echo_headers", "400", "500", "html", "half_json", "reset", "redirect")
    answers = ask(teacher, asked)
    assert all(headers["Authorization"].endswith(KEY) for headers in stub.headers) and len(stub.headers) >= len(asked)
    assert [a.error for a in answers.values() if a.text is None].count("HTTP 400") == 2
    with pytest.raises(TeacherError) as caught:
        send(teacher.model_copy(update={"url": "http://example.org/v1"}), "more")
    shown = [repr(teacher), teacher.model_dump_json(), repr(answers), repr(asked), str([r.line() for r in asked]), repr(caught.value)]
    shown += [capsys.readouterr().out, caplog.text]
    assert not [text for text in shown if KEY in text]
    files = [p for p in teacher.answers.parent.iterdir()]
    assert files and not [p.name for p in files if KEY.encode() in p.read_bytes()]


def test_a_redirect_is_not_followed(stub, teacher, monkeypatch):
    """The key and the rows must not follow a redirect to another host."""
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    with Stub() as elsewhere:
        stub.redirect_to = elsewhere.url
        stub.program("one", "redirect")
        answer = send(teacher, "one")[0]
        assert (answer.text, answer.error, stub.total, elsewhere.total) == (None, "HTTP 307", 1, 0)


# replay


def line(stage="translate", row_id="row:1", round=0, sample=0, version="v1", finish_reason="stop", text="recorded", **more):
    return {
        "stage": stage, "row_id": row_id, "round": round, "sample": sample, "prompt_version": version, "finish_reason": finish_reason,
        "text": text, "fault": "", **more,
    }  # fmt: skip


@pytest.fixture
def replay(tmp_path):
    """A maker of replay teachers from recordings, each list in a file of its own."""
    folder = tmp_path / "recordings"
    folder.mkdir()

    def make(*files):
        for number, lines in enumerate(files):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
            (folder / f"{number}.jsonl").write_text(text, encoding="utf-8")
        return Teacher(backend="replay", model="recorded", recordings=folder)

    return make


def test_replay_finds_recordings_by_place_in_any_file(replay):
    teacher = replay([line(text="zero")], [line(round=1, text="one", finish_reason="length"), line(stage="score", text="scored")])
    wanted = [("translate", 0), ("translate", 1), ("score", 0)]
    asked = [teacher.request(stage, "row:1", "v1", f"{stage} {round}", round=round) for stage, round in wanted]
    answers = ask(teacher, asked)
    assert [(answers[r.id].text, answers[r.id].finish_reason) for r in asked] == [("zero", "stop"), ("one", "length"), ("scored", "stop")]


def test_replay_survives_a_change_of_wording(replay):
    teacher = replay([line()])
    assert {
        a.text for text in ("old words", "new words") for a in ask(teacher, [teacher.request("translate", "row:1", "v1", text)]).values()
    } == {"recorded"}


def test_replay_without_a_recording(replay):
    teacher = replay([line()])
    request = teacher.request("translate", "row:2", "v1", "text")
    assert ask(teacher, [request]) == {request.id: Answer(request.id, None, error="no recording")}


def test_replay_of_equal_requests_finds_the_recording_of_either_row(replay):
    teacher = replay([line(row_id="row:1")])
    asked = [teacher.request("translate", row_id, "v1", "same text") for row_id in ("row:1", "row:2")]
    assert ask(teacher, asked)[asked[0].id].text == "recorded"


def test_replay_of_another_prompt_version_is_refused(replay):
    teacher = replay([line(version="v0")])
    with pytest.raises(
        TeacherError, match=r"prompt translate is v1; 1 recordings answer another text of it, first row:1 \(v0\).*make orphans.*make rekey"
    ):
        ask(teacher, [teacher.request("translate", "row:1", "v1", "text")])


@pytest.mark.parametrize("files", [[[line(), line(text="again")]], [[line()], [line(text="again")]]], ids=["one file", "two files"])
def test_two_recordings_of_a_place_are_refused(replay, files):
    teacher = replay(*files)
    with pytest.raises(TeacherError, match=r"line \d: a second recording of \('translate', 'row:1', 0, 0\)"):
        ask(teacher, [teacher.request("translate", "row:1", "v1", "text")])


def test_a_recording_without_a_field_is_refused(replay):
    broken = line()
    del broken["finish_reason"]
    with pytest.raises(TeacherError, match="0.jsonl, line 2: a recording needs finish_reason"):
        ask(replay([line(row_id="row:0"), broken]), [])


def test_an_unfinished_skeleton_is_refused(replay):
    with pytest.raises(TeacherError, match="0.jsonl, line 1: an unfinished skeleton"):
        ask(replay([line(prompt="Translate this")]), [])


def test_replay_without_recordings_says_what_to_do(replay):
    with pytest.raises(TeacherError, match="no recordings; .*restore data/recordings"):
        ask(replay(), [])
    with pytest.raises(TeacherError, match="folder of recordings"):
        ask(Teacher(backend="replay", model="m"), [])
