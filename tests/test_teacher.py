"""Requests, the answer store, the engine that fills it, permission and the key, repair turns, and
replay.
"""

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict
from support.stub_server import REFUSAL, Stub, completion

from bimedix_utils.core.errors import TeacherError
from bimedix_utils.core.parameters import declared
from bimedix_utils.core.provenance import NOTEBOOKS, ROOT
from bimedix_utils.teacher import engine, http, pacing, requests
from bimedix_utils.teacher import store as store_module
from bimedix_utils.teacher.engine import ask, ask_structured, fill_store
from bimedix_utils.teacher.parsing import parse_answer
from bimedix_utils.teacher.permission import is_loopback, require_local_or_allowed
from bimedix_utils.teacher.requests import REPAIR, Prompt, Request
from bimedix_utils.teacher.settings import SEND_PARAMETER, TEACHER_PARAMETERS, Teacher
from bimedix_utils.teacher.store import SCHEMA_VERSION, Answer, Store, read_body

pytestmark = pytest.mark.unit
KEY = "sk-secret-do-not-show"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.002)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(store_module, "LOCK_SECONDS", 0)
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)


@pytest.fixture
def stub():
    with Stub(answer=lambda text: f"answer to {text}") as server:
        yield server


@pytest.fixture
def teacher(stub, tmp_path):
    return Teacher(
        backend="http",
        model="m",
        url=stub.url,
        answers=tmp_path / "answers" / "answers.sqlite",
        concurrency=3,
        timeout=20,
    )


def some(teacher, *texts):
    return [teacher.request("translate", f"row:{i}", "v1", text) for i, text in enumerate(texts)]


def send(teacher, *texts):
    """The answers to some texts, in order."""
    asked = some(teacher, *texts)
    answers = ask(teacher, asked)
    return [answers[request.id] for request in asked]


# Requests


BASE = Request(
    "translate",
    "row:1",
    0,
    0,
    "v1",
    "m",
    (("user", "Hello"),),
    (("max_tokens", 10), ("temperature", 0.0)),
)


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
    http_teacher, replay_teacher = (
        Teacher(backend=b, model="m", url=u)
        for b, u in (("http", "http://127.0.0.1:1"), ("replay", ""))
    )
    assert (
        http_teacher.request("s", "r", "v1", "t").id
        == replay_teacher.request("s", "r", "v1", "t").id
    )


def test_line_is_an_openai_batch_line():
    assert BASE.line() == {
        "custom_id": BASE.id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 10,
            "temperature": 0.0,
        },
    }
    assert BASE.recording_key == ("translate", "row:1", 0, 0)


def test_prompt_fills_places_and_leaves_braces_in_values_alone():
    text = Prompt("translate", "v1").fill(
        source_language="English", target_language="Arabic", fields='{"question": "{x}"}'
    )
    assert '{"question": "{x}"}' in text and "from English to Arabic" in text
    with pytest.raises(KeyError):
        Prompt("translate", "v1").fill(fields="")
    with pytest.raises(FileNotFoundError):
        _ = Prompt("translate", "v999").text


def test_a_prompts_tag_changes_with_its_wording_even_when_its_version_does_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(requests, "_ROOMS", tmp_path)
    prompts = tmp_path / "a_room" / "prompts"
    prompts.mkdir(parents=True)
    tags = []
    for text in ("Translate {fields}", "Translate  {fields}"):
        (prompts / "translate.v1.txt").write_text(text, encoding="utf-8")
        tags.append(Prompt("translate", "v1").tag)
    assert len(set(tags)) == 2 and all(re.fullmatch(r"v1-[0-9a-f]{8}", tag) for tag in tags)


REPAIRED = BASE.repair('{"a": {1', "Expecting {value}")


def test_a_repair_is_a_stage_of_its_own_that_shows_the_answer_and_what_is_wrong_with_it():
    assert (REPAIRED.stage, REPAIRED.prompt_version) == ("repair_translate", REPAIR.tag)
    assert REPAIRED.messages[:2] == (("user", "Hello"), ("assistant", '{"a": {1'))
    assert (
        REPAIRED.messages[2][0] == "user"
        and "could not be read: Expecting {value}" in REPAIRED.messages[2][1]
    )
    assert (REPAIRED.model, REPAIRED.parameters, REPAIRED.row_id, REPAIRED.sample) == (
        BASE.model,
        BASE.parameters,
        BASE.row_id,
        BASE.sample,
    )


@pytest.mark.parametrize(
    "answer, problem", [('{"a": {2', "Expecting {value}"), ('{"a": {1', "another problem")]
)
def test_a_repair_of_another_answer_or_problem_is_another_request(answer, problem):
    assert BASE.repair(answer, problem).id != REPAIRED.id


def test_a_teacher_takes_its_settings_from_a_notebooks_parameters(tmp_path):
    given = {
        "TEACHER": "http",
        "TEACHER_MODEL": "m",
        "TEACHER_URL": "http://127.0.0.1:1/v1",
        "ALLOW_REMOTE": True,
        "CONCURRENCY": 5,
        "REQUESTS_PER_MINUTE": 6,
        "TOKENS_PER_MINUTE": 7,
        "MAX_COST_USD": 1.5,
        "ANSWER_TOKENS": 99,
        "MODE": "smoke",
    }
    made = Teacher.from_parameters(given, answers=tmp_path / "a.sqlite")
    assert (made.backend, made.model, made.url, made.allow_remote) == (
        "http",
        "m",
        "http://127.0.0.1:1/v1",
        True,
    )
    assert (made.concurrency, made.requests_per_minute, made.tokens_per_minute) == (5, 6, 7)
    assert (made.max_cost_usd, made.max_tokens, made.answers) == (1.5, 99, tmp_path / "a.sqlite")
    assert dict(made.request("s", "r", "v1", "t").parameters)["max_tokens"] == 99
    assert TEACHER_PARAMETERS.keys() == given.keys() - {"MODE"}


@pytest.mark.parametrize("number", ["02", "03", "07"])
def test_the_notebooks_declare_the_shared_parameters_as_the_table_does(number):
    """Each notebook holds them as plain literals: an edit in one place only is found here."""
    legal = declared(next(NOTEBOOKS.glob(f"{number}_*.ipynb")))
    assert {name: legal[name] for name in TEACHER_PARAMETERS} == TEACHER_PARAMETERS
    assert legal.get("SEND", SEND_PARAMETER) == SEND_PARAMETER


def test_unknown_teacher_setting_is_refused():
    with pytest.raises(ValueError, match="temprature"):
        Teacher(backend="http", model="m", temprature=1)


# Store


ODD = (
    '{ "choices" : [ {"message":{"content":"نص\\n{}", "role":"assistant"},'
    '"finish_reason":"length"} ],"x":[1.50, null],'
    '"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n'
)


def row(number=0, text="text", cost=None, **changed):
    """A request and its answer, as the engine stores them."""
    request = replace(BASE, messages=(("user", f"{number}"),), row_id=f"row:{number}", **changed)
    return request, read_body(request.id, json.dumps(completion(text)), 1.25), cost


def stored(path):
    """The texts in a store's file, looked at from outside."""
    db = sqlite3.connect(path)
    texts = [
        json.loads(body)["choices"][0]["message"]["content"]
        for (body,) in db.execute("SELECT body FROM answers ORDER BY rowid")
    ]
    db.close()
    return texts


def test_store_gives_back_what_was_put_after_reopening(tmp_path):
    path = tmp_path / "deep" / "answers.sqlite"
    answer = read_body(BASE.id, ODD, 1.2345678)
    assert (answer.text, answer.finish_reason, answer.usage) == (
        "نص\n{}",
        "length",
        {"prompt_tokens": 3, "completion_tokens": 5},
    )
    store = Store(path, fill=True)
    store.put([(BASE, answer, 0.5)])
    store.close()
    again = Store(path)
    assert again.get(["00" * 16, BASE.id]) == {BASE.id: answer} and answer.body == ODD
    assert len(again) == 1
    again.close()


def test_store_is_durable_before_it_is_closed(tmp_path):
    """A killed process never closes its store: a second connection must see the answers at once."""
    store, other = Store(tmp_path / "a.sqlite", fill=True), Store(tmp_path / "a.sqlite")
    store.put([row(0), row(1)])
    assert other.get([row(0)[0].id])[row(0)[0].id].text == "text" and len(other) == 2
    store.close()
    other.close()


def test_store_leaves_a_first_answer_alone(tmp_path):
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row(text="first"), row(text="second")])
    store.put([row(text="third"), row(1, "other")])
    store.close()
    assert stored(tmp_path / "a.sqlite") == ["first", "other"]


def test_store_without_a_path_keeps_nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(None, fill=True)
    store.put([row()])
    assert len(store) == 1
    store.close()
    assert list(tmp_path.iterdir()) == [] and len(Store(None)) == 0


def test_store_names_whose_answer_it_is(tmp_path):
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row(7, cost=0.25)])
    store.close()
    db = sqlite3.connect(tmp_path / "a.sqlite")
    names = (
        "stage, row_id, round, sample, prompt_version, model, finish_reason, prompt_tokens,"
        " completion_tokens, seconds, cost_usd"
    )
    assert db.execute(f"SELECT {names} FROM answers").fetchall() == [
        ("translate", "row:7", 0, 0, "v1", "m", "stop", 3, 5, 1.25, 0.25)
    ]
    db.close()


def test_totals_are_sums_by_model_and_stage():
    store = Store(None)
    store.put(
        [row(0, cost=0.5), row(1, cost=0.25), row(2), row(3, stage="score"), row(4, model="other")]
    )
    found = {(total["model"], total["stage"]): total for total in store.totals()}
    assert found.keys() == {("m", "translate"), ("m", "score"), ("other", "translate")}
    total = found["m", "translate"]
    assert (
        total["answers"],
        total["prompt_tokens"],
        total["completion_tokens"],
        total["mean_seconds"],
    ) == (3, 9, 15, 1.25)
    assert (total["cost_usd"], total["priced"], found["m", "score"]["cost_usd"]) == (0.75, 2, None)


def test_known_keeps_the_order_and_the_repetitions(monkeypatch):
    monkeypatch.setattr(store_module, "_LOOKUP", 3)
    store = Store(None)
    store.put([row(number) for number in range(0, 20, 2)])
    asked = [row(number)[0] for number in [*range(20), 4, 5, 4]]
    assert list(store.known(asked)) == [
        (request, int(request.row_id[4:]) % 2 == 0) for request in asked
    ]


@pytest.mark.parametrize("number", [0, 1, 3, 6])
def test_known_leaves_nothing_out_at_the_end_of_a_chunk(number, monkeypatch):
    monkeypatch.setattr(store_module, "_LOOKUP", 3)
    asked = [row(i)[0] for i in range(number)]
    assert list(Store(None).known(asked)) == [(request, False) for request in asked]


def test_known_reads_no_further_than_a_chunk():
    read_so_far = count()
    known = Store(None).known(row(next(read_so_far))[0] for _ in range(10 * store_module._LOOKUP))
    next(known)
    assert next(read_so_far) == store_module._LOOKUP


# Store: what is refused


VERSION_1 = (
    "CREATE TABLE answers (id TEXT PRIMARY KEY, stage TEXT, row_id TEXT, model TEXT, text TEXT NOT"
    " NULL, finish_reason TEXT, usage TEXT, seconds REAL, arrived TEXT DEFAULT CURRENT_TIMESTAMP)"
    " WITHOUT ROWID"
)


def foreign_store(path, version):
    """A store as another version of the kit left it."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(VERSION_1)
    db.execute("INSERT INTO answers (id, text) VALUES ('kept', 'paid for')")
    db.execute(f"PRAGMA user_version={version}")
    db.commit()
    db.close()


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 6])
@pytest.mark.parametrize("filling", [False, True])
def test_store_of_another_version_is_refused_and_keeps_its_bytes(version, filling, tmp_path):
    path = tmp_path / "a.sqlite"
    foreign_store(path, version)
    before = path.read_bytes()
    with pytest.raises(
        TeacherError,
        match=(
            rf"a\.sqlite is an answer store of version {version}, this kit reads {SCHEMA_VERSION};"
            r" nothing was"
        ),
    ):
        Store(path, fill=filling)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} <= {"a.sqlite", "a.sqlite.lock"}


def test_a_database_that_is_no_answer_store_is_refused_and_keeps_its_bytes(tmp_path):
    path = tmp_path / "cookies.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE cookies (name TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(TeacherError, match="answer store"):
        Store(path)
    assert path.read_bytes() == before


def test_a_damaged_store_is_a_teacher_error(stub, teacher):
    texts = [f"text {i}" for i in range(300)]
    send(teacher, *texts)
    damaged = bytearray(teacher.answers.read_bytes())
    damaged[8192 : len(damaged) // 2] = b"\xff" * (len(damaged) // 2 - 8192)
    teacher.answers.write_bytes(damaged)
    with pytest.raises(TeacherError, match="malformed"):
        send(teacher, *texts)
    assert stub.total == 300


@pytest.mark.parametrize("name", ["a.sqlite", "new/a.sqlite"])
def test_looking_makes_no_file(name, tmp_path):
    """An estimate made the store, its folder and two more files, and failed where nothing may be
    written.
    """
    for store in (Store(tmp_path / name), Store(tmp_path / name)):
        assert (len(store), store.totals(), store.get(["00" * 16]), list(store.known([BASE]))) == (
            0,
            [],
            {},
            [(BASE, False)],
        )
        store.close()
    assert list(tmp_path.iterdir()) == []


def test_looking_leaves_a_store_as_it_lies(tmp_path):
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row()])
    store.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store = Store(tmp_path / "a.sqlite")
    assert len(store) == 1
    with pytest.raises(TeacherError, match="readonly"):
        store.put([row(1)])
    store.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_send_false_makes_no_store(teacher):
    assert (
        parse_answer(send(teacher.model_copy(update={"send": False}), "one")[0], Teacher)[0]
        == "held"
    )
    assert not teacher.answers.parent.exists()


def test_two_names_of_a_store_are_one_store(tmp_path):
    """Through a link the lock was another one: two processes paid for the same answers."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "real" / "a.sqlite")
    first = Store(tmp_path / "real" / "a.sqlite", fill=True)
    with pytest.raises(TeacherError, match="is being filled by another process"):
        Store(tmp_path / "link.sqlite", fill=True)
    first.close()


def test_a_refused_store_leaves_no_file_open(tmp_path):
    """A notebook keeps its last exception, and the exception kept the connection."""
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(TeacherError) as caught:
        Store(path, fill=True)
    still_open = [
        link
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink() and str(path) in str(link.readlink())
    ]
    assert caught.value and still_open == []


def test_a_store_whose_making_was_cut_short_is_made_by_the_next_run(tmp_path, monkeypatch):
    """Killed between the table and its version, it was nobody's store for ever after."""
    table = store_module._TABLE
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", "2; no SQL")
    with pytest.raises(TeacherError, match="cannot be opened"):
        Store(tmp_path / "a.sqlite", fill=True)
    monkeypatch.undo()
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row()])
    store.close()
    assert stored(tmp_path / "a.sqlite") == ["text"] and table


def test_a_closed_store_refuses_and_does_not_crash(tmp_path):
    """An answer that came after Ctrl-C had closed the store took the interpreter with it."""
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row()])
    store.close()
    store.close()
    with pytest.raises(TeacherError, match="1 answers came after the store was closed"):
        store.put([row(1)])
    with pytest.raises(TeacherError, match="is closed"):
        len(store)
    assert stored(tmp_path / "a.sqlite") == ["text"]


def test_a_stored_body_that_todays_reader_refuses_is_an_answer_without_text(stub, teacher):
    """It ended the run with a KeyError, for all rows and for ever."""
    send(teacher, "one", "two")
    with sqlite3.connect(teacher.answers) as db:
        db.execute("UPDATE answers SET body = '{}' WHERE row_id = 'row:0'")
    db.close()
    one, two = send(teacher, "one", "two")
    assert (one.text, one.error, one.body, two.text, stub.total) == (
        None,
        "unreadable",
        "{}",
        "answer to two",
        2,
    )
    assert parse_answer(one, Teacher)[0] == "failed"


def test_store_of_another_version_is_refused_before_anything_is_sent(stub, teacher):
    teacher.answers.parent.mkdir()
    foreign_store(teacher.answers, 1)
    with pytest.raises(
        TeacherError,
        match="nothing was changed. Keep the file and name another one in BIMEDIX_ANSWERS",
    ):
        send(teacher, "one")
    assert stub.total == 0


@pytest.mark.parametrize("kind", ["folder is a file", "path is a folder", "not a database"])
def test_store_that_cannot_be_opened_is_a_teacher_error_before_anything_is_sent(
    kind, tmp_path, stub, teacher
):
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


def test_store_in_a_folder_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(
        TeacherError, match=r"cannot be opened .*Permission denied.*nothing was asked"
    ):
        Store(tmp_path / "a.sqlite", fill=True)


def test_store_that_is_being_filled_cannot_be_filled_by_another_but_can_be_read(tmp_path):
    first = Store(tmp_path / "a.sqlite", fill=True)
    with pytest.raises(
        TeacherError,
        match=r"a\.sqlite is being filled by another process: wait for it, or name another store",
    ):
        Store(tmp_path / "a.sqlite", fill=True)
    reader = Store(tmp_path / "a.sqlite")
    first.put([row()])
    assert len(reader) == 1
    reader.close()
    first.close()


def test_a_run_is_refused_before_anything_is_sent_while_another_fills_the_store(stub, teacher):
    other = Store(teacher.answers, fill=True)
    with pytest.raises(TeacherError, match="being filled by another process"):
        send(teacher, "one")
    other.close()
    assert stub.total == 0 and send(teacher, "one")[0].text == "answer to one"


@pytest.mark.parametrize("refused", ["other version", "no database"])
def test_a_refused_store_is_given_back(refused, tmp_path):
    path = tmp_path / "a.sqlite"
    if refused == "other version":
        foreign_store(path, 1)
    else:
        path.write_bytes(b"no database" * 100)
    with pytest.raises(TeacherError) as caught:
        Store(path, fill=True)
    assert caught.value.__traceback__, (
        "kept, so that nothing is given back by the garbage collector"
    )
    path.unlink()
    Store(path, fill=True).close()


def test_a_store_that_is_given_back_in_time_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "LOCK_SECONDS", 2)
    first = Store(tmp_path / "a.sqlite", fill=True)
    timer = threading.Timer(0.2, first.close)
    timer.start()
    Store(tmp_path / "a.sqlite", fill=True).close()
    timer.join()


def test_a_store_is_given_back_when_the_run_fails(stub, teacher):
    stub.program("one", 401)
    with pytest.raises(TeacherError, match="HTTP 401"):
        send(teacher, "one")
    Store(teacher.answers, fill=True).close()


FULL = (
    "CREATE TRIGGER full BEFORE INSERT ON answers WHEN (SELECT count(*) FROM answers) >= 2 BEGIN"
    " SELECT RAISE(ABORT, 'disk is full'); END"
)


def test_answers_are_stored_together_or_not_at_all(tmp_path):
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row(0)])
    store._db.execute(FULL)
    with pytest.raises(TeacherError, match=r"\(disk is full\)"):
        store.put([row(1), row(2)])
    assert stored(tmp_path / "a.sqlite") == ["text"]
    store.put([row(1)])
    store.close()
    assert stored(tmp_path / "a.sqlite") == ["text", "text"]


def test_a_full_disk_is_a_teacher_error_and_none_of_the_answers_is_stored(tmp_path):
    store = Store(tmp_path / "a.sqlite", fill=True)
    store.put([row(0)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(
        TeacherError,
        match=(
            r"an answer could not be stored \(database or disk is full\); what was stored before is"
            r" safe"
        ),
    ):
        store.put([row(1), row(2, "x" * 100_000)])
    assert stored(tmp_path / "a.sqlite") == ["text"]
    store._db.execute("PRAGMA max_page_count=10000")
    store.put([row(1)])
    store.close()
    assert stored(tmp_path / "a.sqlite") == ["text", "text"]


# Engine: fill and ask


def test_each_request_is_answered_once_and_never_again(stub, teacher):
    texts = [f"prompt {i}" for i in range(10)]
    first = send(teacher, *texts)
    assert [a.text for a in first] == [f"answer to {t}" for t in texts]
    assert (stub.total, set(stub.counts.values())) == (10, {1})
    assert {a.finish_reason for a in first} == {"stop"} and first[0].usage == {
        "prompt_tokens": 3,
        "completion_tokens": 5,
    }
    second = send(teacher, *texts)
    assert (stub.total, second) == (10, first)
    assert [a.text for a in send(teacher, "prompt 3", "new")] == [
        "answer to prompt 3",
        "answer to new",
    ]
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


def test_answers_that_are_stored_need_no_endpoint(stub, teacher):
    first = send(teacher, "one")
    assert send(teacher.model_copy(update={"url": ""}), "one") == first
    assert send(teacher.model_copy(update={"url": "https://example.org/v1"}), "one") == first


def test_answers_without_a_file_live_for_one_call(stub, teacher):
    memory = teacher.model_copy(update={"answers": None})
    assert send(memory, "one")[0].text == "answer to one"
    send(memory, "one")
    assert stub.total == 2


def test_fill_refuses_what_can_be_read_only_once(stub, teacher):
    with pytest.raises(TypeError, match="the requests are read twice"):
        fill_store(teacher, iter(some(teacher, "one")))
    with pytest.raises(TypeError, match="the requests are read twice"):
        fill_store(teacher, (request for request in some(teacher, "one")))
    assert stub.total == 0


def test_fill_needs_something_to_fill(stub, teacher):
    """Without a store the answers were bought and thrown away, and `replay` asked the endpoint of
    its url.
    """
    with pytest.raises(TeacherError, match="no answer store to fill"):
        fill_store(teacher.model_copy(update={"answers": None}), some(teacher, "one"))
    with pytest.raises(TeacherError, match="replay has recordings and fills no store"):
        fill_store(teacher.model_copy(update={"backend": "replay"}), some(teacher, "one"))
    assert stub.total == 0


def test_half_a_surrogate_pair_in_a_prompt_names_its_row(stub, teacher):
    """It ended in a UnicodeEncodeError that named no row."""
    with pytest.raises(
        TeacherError, match="translate, row row:1: its text holds half a surrogate pair"
    ):
        send(teacher, "fine", "half \ud83d")
    assert stub.total == 0


def test_rows_that_are_refused_do_not_block_the_others_for_ever(stub, teacher):
    """Thirty refused rows at the head of a file: every run asked the same twenty and stopped."""
    texts = [f"text {i}" for i in range(90)]
    for text in texts[:30]:
        stub.program(text, 400)
    for _ in range(6):  # chance decides which are asked first
        answers = send(teacher, *texts)
        if sum(answer.text is not None for answer in answers) == 60:
            break
    assert [answer.text is not None for answer in answers] == [False] * 30 + [True] * 60
    assert set(stub.good.values()) == {1}


def test_fill_takes_any_collection_that_starts_anew(stub, teacher):
    class Table:
        def __iter__(self):
            return (
                teacher.request("translate", f"row:{i}", "v1", f"text {i % 7}") for i in range(20)
            )

    outcome = fill_store(teacher, Table())
    assert (outcome.failed, outcome.stopped, stub.total) == ({}, "", 7) and len(
        stored(teacher.answers)
    ) == 7


def test_fill_says_which_requests_failed_and_why(stub, teacher):
    stub.program("bad", 400)
    outcome = fill_store(teacher, some(teacher, "good", "bad"))
    assert (outcome.failed, outcome.stopped) == (
        {some(teacher, "good", "bad")[1].id: "HTTP 400"},
        "",
    )


def test_a_body_is_stored_as_it_came(stub, teacher):
    stub.program("one", ODD.encode())
    answer = send(teacher, "one")[0]
    db = sqlite3.connect(teacher.answers)
    assert db.execute("SELECT body FROM answers").fetchall() == [(ODD,)]
    db.close()
    assert answer == read_body(answer.request_id, ODD, answer.seconds)


def test_a_failure_is_not_stored_and_is_asked_again_next_time(stub, teacher):
    stub.program("bad", 400)
    bad, good = send(teacher, "bad", "good")
    assert (bad, good.text) == (Answer(bad.request_id, None, error="HTTP 400"), "answer to good")
    assert stored(teacher.answers) == ["answer to good"]
    stub.program("bad", "ok")
    assert [a.text for a in send(teacher, "bad", "good")] == ["answer to bad", "answer to good"]
    assert (stub.texts.count("bad"), stub.texts.count("good")) == (2, 1)


def test_answers_are_stored_one_by_one_as_they_arrive(stub, teacher):
    """Killing the process loses only what is under way: when a request is being answered, all
    answers before it are on disk.
    """
    seen = []

    def look(body):
        seen.append(len(stored(teacher.answers)))
        return "ok"

    stub.default = look
    send(teacher.model_copy(update={"concurrency": 1}), "a", "b", "c", "d")
    assert seen == [0, 1, 2, 3]


ODD_COUNTS = {
    "a number no table holds": completion(
        "text", usage={"prompt_tokens": 2**70, "completion_tokens": 1}
    ),
    "half an emoji as reason": completion("text", "\ud83d"),
    "usage is a list": completion("text", usage=[1]),
    "half an emoji elsewhere": completion("text", note="\ud83d"),
}


@pytest.mark.parametrize("body", ODD_COUNTS.values(), ids=ODD_COUNTS)
def test_an_odd_completion_does_not_end_the_run_for_the_others(body, stub, teacher):
    stub.program("odd", body)
    odd, good = send(teacher.model_copy(update={"concurrency": 1}), "odd", "good")
    assert good.text == "answer to good" and odd.text in (None, "text")


def test_a_store_that_fails_midway_stops_the_run_and_keeps_what_came_before(stub, teacher):
    """The disk fills up at the third answer: two are kept, and the rest is not sent."""
    Store(teacher.answers, fill=True).close()
    db = sqlite3.connect(teacher.answers)
    db.execute(FULL)
    with pytest.raises(TeacherError, match=r"\(disk is full\).*fix the disk and run again"):
        send(teacher.model_copy(update={"concurrency": 1}), *"abcdef")
    assert stub.total == 3 and stored(teacher.answers) == ["answer to a", "answer to b"]
    db.execute("DROP TRIGGER full")
    db.close()
    send(teacher, *"abcdef")
    assert stub.texts.count("a") == stub.texts.count("b") == 1 and stub.total == 3 + 4


def test_send_false_asks_nobody_and_gives_what_is_stored(stub, teacher):
    send(teacher, "one")
    looking = teacher.model_copy(update={"send": False, "url": "https://example.org/v1"})
    one, two = send(looking, "one", "two")
    assert one.text == "answer to one" and parse_answer(two, Teacher) == (
        "held",
        None,
        "not sent: SEND says no",
    )
    assert stub.total == 1


@pytest.mark.parametrize(
    "error",
    [
        "not sent: the budget is spent",
        "not sent: SEND says no",
        "waiting for batch results",
        "no recording",
    ],
)
def test_what_waits_for_its_turn_is_held_and_has_not_failed(error):
    assert parse_answer(Answer("id", None, error=error), Teacher) == ("held", None, error)


def test_failures_in_a_row_leave_the_rest_held(stub, teacher, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 3)
    stub.default = 403
    answers = send(teacher.model_copy(update={"concurrency": 1}), *"abcdefgh")
    assert sorted(parse_answer(a, Teacher)[0] for a in answers) == ["failed"] * 3 + ["held"] * 5
    held = {a.error for a in answers if parse_answer(a, Teacher)[0] == "held"}
    assert (
        held == {"not sent: 3 requests in a row failed, the last with HTTP 403"} and stub.total == 3
    )


def test_a_refused_key_keeps_what_was_stored(stub, teacher):
    stub.program("c", 401)
    with pytest.raises(TeacherError, match="HTTP 401"):
        send(teacher.model_copy(update={"concurrency": 1}), *"abcd")
    assert stored(teacher.answers) == ["answer to a", "answer to b"] and stub.texts == [
        "a",
        "b",
        "c",
    ]


def test_works_inside_a_running_event_loop(stub, teacher):
    """Jupyter runs every cell inside a loop, where asyncio.run fails."""

    async def cell():
        return send(teacher, "one")

    assert asyncio.run(cell())[0].text == "answer to one"


# Interrupted and killed


SCRIPT = """
import signal, sys
from pathlib import Path
from bimedix_utils.teacher.engine import ask
from bimedix_utils.teacher.settings import Teacher
signal.signal(signal.SIGINT, signal.default_int_handler)
teacher = Teacher(backend="http", model="m", url=sys.argv[1],
                  answers=Path(sys.argv[2]), concurrency=4)
ask(teacher, [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(40)])
"""


def asked_until(stub, path, how, sent):
    """(seconds until the end, exit code, errors) of a process that gets a signal when it has sent
    so many requests.
    """
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, stub.url, str(path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while stub.total < sent and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        script.send_signal(how)
        begin = time.monotonic()
        errors = script.communicate(timeout=20)[1]
    finally:
        script.kill()
    return time.monotonic() - begin, script.returncode, errors


def slow_after(number, then):
    """Good answers, and from some number on something else. Four at once: with 4 more under way
    every earlier answer is delivered.
    """
    seen = count()
    return lambda body: "ok" if next(seen) < number else then


@pytest.mark.parametrize(
    "then, sent",
    [("hang", 14), ((429, {"Retry-After": "500"}), 11), ("drip", 14)],
    ids=["hang", "pause", "drip"],
)
def test_an_interrupted_run_ends_soon_and_keeps_every_answer(then, sent, stub, tmp_path):
    stub.default = slow_after(10, then)
    seconds, code, errors = asked_until(stub, tmp_path / "a.sqlite", signal.SIGINT, sent)
    assert seconds < 3 and code == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt")
    assert len(stored(tmp_path / "a.sqlite")) == 10


def test_a_killed_run_keeps_every_answer_and_leaves_no_lock(stub, tmp_path):
    path = tmp_path / "a.sqlite"
    stub.default = slow_after(10, "hang")
    asked_until(stub, path, signal.SIGKILL, 14)
    stub.default = "ok"
    seen = stub.total
    teacher = Teacher(backend="http", model="m", url=stub.url, answers=path)
    answers = ask(
        teacher, [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(40)]
    )
    assert stub.total == seen + 30 and all(answer.text is not None for answer in answers.values())


# Permission and the key


REMOTE = [
    "http://example.org/v1",
    "https://10.1.2.3:8000/v1",
    "http://localhost.example.org/v1",
    "http://0.0.0.0:8000/v1",
    "http://[2001:db8::1]/v1",
    "http://127.1.example/v1",
    "http://127.0.0.1 https://example.org/v1",
]


@pytest.mark.parametrize("url", REMOTE)
def test_a_remote_host_needs_permission(url, teacher, monkeypatch, capsys):
    monkeypatch.setattr(http, "send_requests", lambda *_: pytest.fail("a request was sent"))
    with pytest.raises(TeacherError, match="ALLOW_REMOTE = True"):
        send(teacher.model_copy(update={"url": url}), "one", "two", "one")
    printed = capsys.readouterr().out
    assert "2 rows go to" in printed and "Never send patient data" in printed


def test_permission_is_given_and_announced(teacher, tmp_path, monkeypatch, capsys):
    table = tmp_path / "prices.csv"
    table.write_text(
        "model,usd_per_million_prompt_tokens,usd_per_million_completion_tokens\nm,0,0\n"
    )
    sent = []

    def send(asked, endpoint, deliver, reserve, *_):
        sent.extend((request.row_id, endpoint.url) for request in asked if reserve(request))
        return ""

    monkeypatch.setattr(http, "send_requests", send)
    fill_store(
        teacher.model_copy(
            update={"url": "https://example.org/v1/", "allow_remote": True, "prices": table}
        ),
        some(teacher, "one"),
    )
    assert (
        sent == [("row:0", "https://example.org/v1")]
        and "1 rows go to example.org" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1@example.org/v1",
        "http://localhost:80@example.org/v1",
        "http://example.org/127.0.0.1",
    ],
)
def test_a_remote_host_behind_a_local_name_is_remote(url):
    assert not is_loopback(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "http://localhost:8000/v1",
        "http://[::1]:8000/v1",
        "http://127.9.9.9/v1",
    ],
)
def test_this_machine_needs_no_permission(url, capsys):
    require_local_or_allowed(url, allow_remote=False, sending="3 rows")
    assert capsys.readouterr().out == ""


NO_ADDRESS = [
    "http://a..b/v1",
    "https://" + 64 * "a" + ".org/v1",
    "127.0.0.1:8000/v1",
    "localhost:8000",
    "ftp://127.0.0.1/v1",
    "http://",
    "/v1",
    "http://127.0.0.1:port/v1",
    "http://127.0.0.1:99999/v1",
    "http://[::1/v1",
]


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_what_is_no_address_is_refused(url, teacher, stub):
    with pytest.raises(TeacherError, match="is no address: give the base URL"):
        send(teacher.model_copy(update={"url": url}), "one")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hidden@127.0.0.1/v1",
        "https://hidden@example.org/v1",
        "https://:hidden@example.org/v1",
        "user:hidden@example.org/v1",
        "ftp://user:hidden@example.org/v1",
    ],
)
def test_an_address_with_a_password_is_refused_without_quoting_it(url, teacher, stub, capsys):
    with pytest.raises(TeacherError, match="TEACHER_URL") as caught:
        send(teacher.model_copy(update={"url": url, "allow_remote": True}), "one")
    assert "hidden" not in str(caught.value) + capsys.readouterr().out


@pytest.mark.parametrize("value", [KEY, f" {KEY}\n", f"{KEY}\r\n"])
def test_the_key_goes_to_the_endpoint_as_bearer_without_the_space_around_it(
    value, stub, teacher, monkeypatch
):
    monkeypatch.setenv("TEACHER_API_KEY", value)
    send(teacher, "two")
    assert (
        stub.headers[0]["Authorization"] == f"Bearer {KEY}"
        and stub.headers[0]["Content-Type"] == "application/json"
    )


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_without_a_key_no_authorization_is_sent(value, stub, teacher, monkeypatch):
    if value is not None:
        monkeypatch.setenv("TEACHER_API_KEY", value)
    send(teacher, "one")
    assert "Authorization" not in stub.headers[0]


@pytest.mark.parametrize(
    "value", ["sk-first\nsk-second", "sk-first\r\nX-Header: sk-second", "sk-first\x7fsk-second"]
)
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_quoting_it(
    value, stub, teacher, monkeypatch, capfd
):
    monkeypatch.setenv("TEACHER_API_KEY", value)
    with pytest.raises(
        TeacherError, match="TEACHER_API_KEY holds characters that a header cannot hold"
    ) as caught:
        send(teacher, "one")
    shown = "".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr())
    assert "sk-first" not in shown and "sk-second" not in shown and stub.total == 0


def test_the_key_is_never_sent_unencrypted_to_another_machine(teacher, monkeypatch):
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    monkeypatch.setattr(http, "send_requests", lambda *_: pytest.fail("a request was sent"))
    with pytest.raises(
        TeacherError,
        match="the key would go to example.org unencrypted: use https, or unset TEACHER_API_KEY",
    ) as caught:
        send(
            teacher.model_copy(update={"url": "http://example.org/v1", "allow_remote": True}), "one"
        )
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_message_repr_or_file(stub, teacher, monkeypatch, capfd, caplog):
    caplog.set_level(0)
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    behaviours = [
        "echo_headers",
        400,
        500,
        b"<html>",
        "reset",
        "cut_body",
        "redirect",
        {"choices": []},
    ]
    texts = [f"text {i}" for i in range(len(behaviours))]
    for text, behaviour in zip(texts, behaviours, strict=True):
        stub.program(text, behaviour)
    asked = some(teacher, "fine", *texts)
    answers = ask(teacher, asked)
    assert {headers["Authorization"] for headers in stub.headers} == {f"Bearer {KEY}"}
    assert [a.text for a in answers.values()].count(None) == len(texts)
    raised = []
    stub.program("refused", 401)
    for text, url in (
        ("refused", stub.url),
        ("more", "http://example.org/v1"),
        ("more", "http://127.0.0.1:1/v1"),
    ):
        with pytest.raises(TeacherError) as caught:
            send(teacher.model_copy(update={"url": url}), text)
        raised += [repr(caught.value), *traceback.format_exception(caught.value)]
    shown = [
        repr(teacher),
        teacher.model_dump_json(),
        repr(answers),
        repr(asked),
        str([r.line() for r in asked]),
        *raised,
    ]
    shown += [*capfd.readouterr(), caplog.text]
    assert not [text for text in shown if KEY in text]
    files = list(teacher.answers.parent.iterdir())
    assert files and not [p.name for p in files if KEY.encode() in p.read_bytes()]


def test_a_redirect_is_not_followed(stub, teacher, monkeypatch):
    """The key and the rows must not follow a redirect to another host."""
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    with Stub() as elsewhere:
        stub.redirect_to = elsewhere.url
        stub.program("one", "redirect")
        answer = send(teacher, "one")[0]
        assert (answer.text, answer.error, stub.total, elsewhere.total) == (None, "HTTP 307", 1, 0)


def test_a_proxy_of_the_environment_is_not_used(stub, teacher, monkeypatch):
    """Rows for this machine must not go through another one."""
    with Stub() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert send(teacher, "one")[0].text == "answer to one" and proxy.total == 0


# Structured answers and their repair


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: str


GOOD, BROKEN = '{"question": "q"}', '{"question": "q"'


@pytest.fixture
def structured(stub, teacher):
    """Asks for one structure; the stub answers with the first body, then with the repaired one."""

    def run(first, repaired=None, **changed):
        stub.default = lambda body: first if len(body["messages"]) == 1 else repaired
        return ask_structured(
            teacher.model_copy(update=changed), some(teacher, "one"), lambda _: Toy
        )[0]

    return run


def test_a_readable_answer_is_asked_for_once(structured, stub):
    assert structured(completion(GOOD)) == ("ok", Toy(question="q"), "") and stub.total == 1


@pytest.mark.parametrize(
    "text", [BROKEN, "I would say yes.", '{"query": "q"}', '["q"]', '{"question": 3}']
)
def test_an_unreadable_answer_is_repaired_in_one_turn(text, structured, stub):
    status, value, note = structured(completion(text), completion(f"```json\n{GOOD}\n```"))
    assert (status, value, stub.total) == ("ok", Toy(question="q"), 2)
    assert note == f"repaired: {parse_answer(Answer('id', text), Toy)[2]}"
    assert stub.texts[1] == REPAIR.fill(problem=note.removeprefix("repaired: "))


@pytest.mark.parametrize(
    "repaired, how",
    [
        (completion(BROKEN), "parse_failed"),
        (completion(REFUSAL), "refused"),
        (completion(GOOD, "length"), "truncated"),
    ],
    ids=["broken", "refused", "cut"],
)
def test_an_answer_that_is_not_repaired_stays_unreadable_and_is_not_repaired_again(
    repaired, how, structured, stub
):
    status, value, note = structured(completion("words"), repaired)
    assert (status, value, note, stub.total) == (
        "parse_failed",
        None,
        f"no JSON object; repair {how}",
        2,
    )


@pytest.mark.parametrize(
    "first, status",
    [
        (completion(GOOD[:9], "length"), "truncated"),
        (completion(REFUSAL), "refused"),
        (completion("", "content_filter"), "refused"),
        (400, "failed"),
    ],
    ids=["cut", "refused", "filtered", "failed"],
)
def test_only_an_unreadable_answer_is_repaired(first, status, structured, stub):
    assert structured(first)[:2] == (status, None) and stub.total == 1


def test_a_repair_is_paid_for_once(structured, stub):
    first = structured(completion(BROKEN), completion(GOOD))
    assert structured(500, 500) == first and first[0] == "ok" and stub.total == 2


def test_a_repair_that_failed_is_asked_for_again_by_the_next_run(structured, stub):
    """It ended in `parse_failed`, as if there were nothing left to ask."""
    status, value, note = structured(completion(BROKEN), 400)
    assert (status, value) == ("failed", None) and note.startswith("HTTP 400; repair of: Expecting")
    assert structured(500, completion(GOOD))[0] == "ok" and stub.total == 3


def test_a_repair_that_was_not_sent_leaves_the_row_held(structured, stub, teacher):
    """With SEND=nothing, with a spent budget and while a batch is awaited, it ended in
    `parse_failed`.
    """
    structured(completion(BROKEN), 400)
    status, _, note = structured(500, 500, send=False)
    assert (
        status == "held"
        and note.startswith("not sent: SEND says no; repair of: ")
        and stub.total == 2
    )


@pytest.mark.parametrize("length, turns", [(engine.REPAIRABLE, 2), (engine.REPAIRABLE + 1, 1)])
def test_an_answer_that_is_too_long_is_not_repaired(length, turns, structured, stub):
    assert structured(completion("x" * length), completion("words"))[0] == "parse_failed"
    assert stub.total == turns


def test_outcomes_keep_the_order_and_each_request_its_own_structure(stub, teacher):
    class Number(BaseModel):
        number: int

    asked = [
        teacher.request(stage, f"row:{i}", "v1", stage)
        for i, stage in enumerate(("toy", "number", "toy"))
    ]
    stub.program("toy", completion(GOOD))
    stub.program("number", completion('{"number": "many"}'))
    stub.default = completion('{"number": 7}')
    found = ask_structured(
        teacher, asked, lambda request: Toy if request.stage == "toy" else Number
    )
    assert [value for _, value, _ in found] == [
        Toy(question="q"),
        Number(number=7),
        Toy(question="q"),
    ]
    assert [status for status, _, _ in found] == ["ok"] * 3 and stub.total == 3


def test_repairs_are_a_line_of_the_ledger(structured, teacher):
    structured(completion(BROKEN), completion(GOOD))
    assert [(line[0], line[3]) for line in teacher.ledger.rows()] == [
        ("translate", 1),
        ("repair_translate", 1),
    ]


# Replay


def line(
    stage="translate",
    row_id="row:1",
    round=0,
    sample=0,
    version="v1",
    finish_reason="stop",
    text="recorded",
    **more,
):
    return {
        "stage": stage,
        "row_id": row_id,
        "round": round,
        "sample": sample,
        "prompt_version": version,
        "finish_reason": finish_reason,
        "text": text,
        "fault": "",
        **more,
    }


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
    teacher = replay(
        [line(text="zero")],
        [line(round=1, text="one", finish_reason="length"), line(stage="score", text="scored")],
    )
    keys = [("translate", 0), ("translate", 1), ("score", 0)]
    asked = [
        teacher.request(stage, "row:1", "v1", f"{stage} {round}", round=round)
        for stage, round in keys
    ]
    answers = ask(teacher, asked)
    assert [(answers[r.id].text, answers[r.id].finish_reason) for r in asked] == [
        ("zero", "stop"),
        ("one", "length"),
        ("scored", "stop"),
    ]


def test_replay_survives_a_change_of_wording(replay):
    teacher = replay([line()])
    assert {
        a.text
        for text in ("old words", "new words")
        for a in ask(teacher, [teacher.request("translate", "row:1", "v1", text)]).values()
    } == {"recorded"}


def test_replay_without_a_recording(replay):
    teacher = replay([line()])
    request = teacher.request("translate", "row:2", "v1", "text")
    assert ask(teacher, [request]) == {request.id: Answer(request.id, None, error="no recording")}


def test_replay_of_equal_requests_finds_the_recording_of_either_row(replay):
    teacher = replay([line(row_id="row:1")])
    asked = [
        teacher.request("translate", row_id, "v1", "same text") for row_id in ("row:1", "row:2")
    ]
    assert ask(teacher, asked)[asked[0].id].text == "recorded"


def test_replay_of_another_prompt_version_is_refused(replay):
    teacher = replay([line(version="v0")])
    with pytest.raises(
        TeacherError,
        match=(
            r"prompt translate is v1; 1 recordings answer another text of it, first row:1"
            r" \(v0\).*make orphans.*make rekey"
        ),
    ):
        ask(teacher, [teacher.request("translate", "row:1", "v1", "text")])


@pytest.mark.parametrize(
    "files",
    [[[line(), line(text="again")]], [[line()], [line(text="again")]]],
    ids=["one file", "two files"],
)
def test_two_recordings_of_a_place_are_refused(replay, files):
    teacher = replay(*files)
    with pytest.raises(
        TeacherError, match=r"line \d: a second recording of \('translate', 'row:1', 0, 0\)"
    ):
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


def test_replay_counts_in_the_ledger(replay):
    teacher = replay([line()])
    asked = [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in (1, 1, 2)]
    ask(teacher, asked)
    assert teacher.ledger.rows() == [("translate", 2, 1, 0, 0, 0, 0, "0.00")]


def test_replay_writes_no_store_and_asks_nobody(replay, tmp_path, stub):
    teacher = replay([line()]).model_copy(
        update={"answers": tmp_path / "a.sqlite", "url": stub.url}
    )
    ask(teacher, [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in (1, 2)])
    assert stub.total == 0 and not (tmp_path / "a.sqlite").exists()


def test_replay_repairs_with_the_recording_of_a_repair(replay):
    teacher = replay(
        [line(text=BROKEN), line(stage="repair_translate", version=REPAIR.tag, text=GOOD)]
    )
    status, value, note = ask_structured(
        teacher, [teacher.request("translate", "row:1", "v1", "text")], lambda _: Toy
    )[0]
    assert (status, value) == ("ok", Toy(question="q")) and note.startswith("repaired: ")


def test_replay_without_the_recording_of_a_repair_leaves_the_answer_unreadable(replay):
    teacher = replay([line(text="words")])
    outcome = ask_structured(
        teacher, [teacher.request("translate", "row:1", "v1", "text")], lambda _: Toy
    )[0]
    assert outcome == ("parse_failed", None, "no JSON object; repair held")
