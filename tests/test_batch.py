"""Request files for a batch service and the results that come back, in whatever state; and the
worker of a Ray cluster.
"""

import json
import pickle
import random
import sys
from dataclasses import replace

import pytest
from support.stub_server import Stub, body_hash, completion

from bimedix_utils.core.errors import TeacherError
from bimedix_utils.teacher import batch, http, pacing, ray_backend
from bimedix_utils.teacher.engine import ask, fill_store
from bimedix_utils.teacher.http import HttpEndpoint
from bimedix_utils.teacher.parsing import parse_answer
from bimedix_utils.teacher.ray_backend import RequestWorker
from bimedix_utils.teacher.requests import Request
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Store

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path


@pytest.fixture
def teacher(tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text(
        "model,usd_per_million_prompt_tokens,usd_per_million_completion_tokens\norg/model 1,0,0\n"
    )
    return Teacher(
        backend="batch", model="org/model 1", answers=tmp_path / "answers.sqlite", prices=prices
    )


def some(count, stage="translate"):
    return [
        Request(stage, f"row:{i}", 0, 0, "v1", "m", (("user", f"نص {i}"),), (("max_tokens", 9),))
        for i in range(count)
    ]


def files(folder):
    return {
        path.name: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in sorted(folder.glob("requests/*"))
    }


def written(folder):
    """Every custom_id ever written, in order."""
    return [line["custom_id"] for lines in files(folder).values() for line in lines]


def result(request, text="answer", status=200, error=None, body=None, number=0):
    """A result line, as `vllm run-batch` and hosted batch APIs write them; every result has an id
    of its own.
    """
    response = {
        "status_code": status,
        "request_id": "r",
        "body": completion(text) if body is None else body,
    }
    line = {
        "id": f"batch-{number}-{request.id}",
        "custom_id": request.id,
        "response": response,
        "error": error,
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def put(folder, name, *lines):
    (folder / "results" / name).write_text("".join(lines), encoding="utf-8")


def exchange(folder, requests, **limits):
    """(answer texts by row, what to do next)"""
    found = {}

    def deliver(part):
        for request, answer in part:
            assert request.row_id not in found and answer.request_id == request.id
            found[request.row_id] = answer.text

    return found, batch.exchange_batch_files(requests, folder, deliver, **limits)


# Request files


def test_a_request_file_holds_openai_batch_lines(folder):
    requests = some(3)
    found, words = exchange(folder, requests)
    assert (
        files(folder) == {"0001-translate.jsonl": [request.line() for request in requests]}
        and found == {}
    )
    assert all(
        line.keys() == {"custom_id", "method", "url", "body"}
        for line in files(folder)["0001-translate.jsonl"]
    )
    assert (
        "3 requests written (0001-translate.jsonl), 0 written before" in words
        and "vllm run-batch -i requests/FILE" in words
    )


def test_arabic_is_written_as_it_is(folder):
    exchange(folder, some(1))
    assert "نص 0" in (folder / "requests" / "0001-translate.jsonl").read_text("utf-8")


def test_files_are_split_by_lines(folder):
    exchange(folder, some(7), max_lines=3)
    assert [len(lines) for lines in files(folder).values()] == [3, 3, 1]
    assert written(folder) == [request.id for request in some(7)]


def test_files_are_split_by_bytes(folder):
    length = len((json.dumps(some(1)[0].line(), ensure_ascii=False) + "\n").encode("utf-8"))
    exchange(folder, some(5), max_bytes=2 * length)
    assert [len(lines) for lines in files(folder).values()] == [2, 2, 1]
    assert max(path.stat().st_size for path in folder.glob("requests/*")) <= 2 * length


def test_a_request_longer_than_a_file_may_be_gets_a_file_of_its_own(folder):
    exchange(folder, some(3), max_bytes=10)
    assert [len(lines) for lines in files(folder).values()] == [1, 1, 1]


def test_a_file_holds_one_stage(folder):
    exchange(folder, [*some(2), *some(2, "score"), *some(2, "repair_translate")])
    assert list(files(folder)) == [
        "0001-translate.jsonl",
        "0002-score.jsonl",
        "0003-repair_translate.jsonl",
    ]


def test_files_are_numbered_on(folder):
    exchange(folder, some(2))
    exchange(folder, [*some(2), *some(2, "score")])
    assert list(files(folder)) == ["0001-translate.jsonl", "0002-score.jsonl"]


def test_requests_that_could_not_be_written_are_written_by_the_next_run(folder, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(
            "bimedix_utils.core.provenance.os.replace",
            lambda *_: (_ for _ in ()).throw(OSError("no space left")),
        )
        with pytest.raises(
            TeacherError,
            match=(
                r"requests/0001-translate\.jsonl could not be written \(no space left\); run again"
            ),
        ):
            exchange(folder, some(2))
    assert [path for path in folder.rglob("*") if path.is_file()] == [], "half a file is left"
    exchange(folder, some(2))
    assert list(files(folder)) == ["0001-translate.jsonl"] and written(folder) == [
        request.id for request in some(2)
    ]


# Results


def test_nothing_is_written_again_while_results_are_awaited(folder):
    exchange(folder, some(3))
    before = files(folder)
    found, words = exchange(folder, some(3))
    assert (files(folder), found) == (before, {})
    assert "0 requests written (no new file), 3 written before and still without a result" in words


def test_once_everything_is_imported_nothing_is_left_to_do(folder):
    exchange(folder, some(3))
    put(folder, "one.jsonl", *(result(request, f"answer {request.row_id}") for request in some(3)))
    found, words = exchange(folder, some(3))
    assert found == {f"row:{i}": f"answer row:{i}" for i in range(3)} and words == ""
    assert len(written(folder)) == 3


def test_results_may_come_in_any_order_and_any_number_of_files(folder):
    requests = some(30)
    exchange(folder, requests)
    lines = [result(request, f"answer {request.row_id}") for request in requests]
    random.Random(0).shuffle(lines)
    put(folder, "b.jsonl", *lines[:7])
    put(folder, "a.jsonl", *lines[7:])
    assert exchange(folder, requests) == ({f"row:{i}": f"answer row:{i}" for i in range(30)}, "")


def test_partial_results_are_imported_and_the_rest_is_waited_for(folder):
    exchange(folder, some(5))
    put(folder, "one.jsonl", *(result(request) for request in some(5)[:2]))
    found, words = exchange(folder, some(5))
    assert (
        list(found) == ["row:0", "row:1"]
        and "0 requests written" in words
        and "3 written before" in words
    )
    assert len(written(folder)) == 5


def test_of_repeated_results_the_first_is_taken(folder):
    exchange(folder, some(1))
    put(folder, "a.jsonl", result(some(1)[0], "first"), result(some(1)[0], "second", number=1))
    put(folder, "b.jsonl", result(some(1)[0], "third", number=2))
    assert exchange(folder, some(1)) == ({"row:0": "first"}, "")


def test_a_line_cut_at_the_end_of_a_file_is_left_alone_until_it_is_whole(folder, capsys):
    exchange(folder, some(2))
    first, last = (result(request) for request in some(2))
    put(folder, "one.jsonl", first, last[: len(last) // 2])
    found, words = exchange(folder, some(2))
    assert list(found) == ["row:0"] and "0 requests written" in words
    assert "1 lines of one.jsonl are no results and were left alone" in capsys.readouterr().out
    put(folder, "one.jsonl", first, last)
    assert exchange(folder, some(2)[1:]) == ({"row:1": "answer"}, "")


def test_a_file_cut_within_a_letter_is_read_up_to_there(folder):
    exchange(folder, some(2))
    whole = (result(some(2)[0]) + result(some(2)[1], "نعم")).encode("utf-8")
    (folder / "results" / "one.jsonl").write_bytes(whole[: whole.index("نعم".encode()) + 3])
    assert list(exchange(folder, some(2))[0]) == ["row:0"]


RUBBISH = {
    "empty line": "\n",
    "no JSON": "hello\n",
    "no object": "[1, 2]\n",
    "a number": "3\n",
    "no id": '{"response": {}}\n',
    "an id that is no text": '{"custom_id": ["x"]}\n',
    "nested without end": "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("line", RUBBISH.values(), ids=RUBBISH)
def test_a_line_that_is_no_result_does_not_hide_the_others(line, folder):
    exchange(folder, some(2))
    put(folder, "one.jsonl", result(some(2)[0]), line, result(some(2)[1]))
    found, words = exchange(folder, some(2))
    assert (set(found), words) == ({"row:0", "row:1"}, "")


def test_results_of_unknown_requests_and_of_another_stage_are_passed_over(folder):
    exchange(folder, some(1))
    put(
        folder,
        "one.jsonl",
        result(some(1, "score")[0]),
        json.dumps({"custom_id": "request-1", "error": {"code": 1}}) + "\n",
    )
    found, words = exchange(folder, some(1))
    assert found == {} and len(written(folder)) == 1 and "1 written before" in words
    exchange(folder, some(1, "score"))
    assert exchange(folder, some(1, "score")) == ({"row:0": "answer"}, "")


def test_answers_of_two_stages_lie_in_one_results_file(folder):
    put(
        folder, "all.jsonl", result(some(1)[0], "translated"), result(some(1, "score")[0], "scored")
    )
    assert exchange(folder, some(1))[0] == {"row:0": "translated"}
    assert exchange(folder, some(1, "score"))[0] == {"row:0": "scored"}


FAILED = {
    "error": {"error": {"code": "server_error", "message": "no"}},
    "error and no response": {"response": None, "error": {"code": "batch_expired"}},
    "neither": {"response": None, "error": None},
    "status 500": {"response": {"status_code": 500, "body": {"error": "busy"}}, "error": None},
    "status 400": {"response": {"status_code": 400, "body": completion("text")}, "error": None},
    "no body": {"response": {"status_code": 200}, "error": None},
    "body is no completion": {
        "response": {"status_code": 200, "body": {"choices": []}},
        "error": None,
    },
    "body is text": {"response": {"status_code": 200, "body": "text"}, "error": None},
    "empty answer": {"response": {"status_code": 200, "body": completion("")}, "error": None},
    "response is text": {"response": "Internal Server Error", "error": None},
}


@pytest.mark.parametrize("told", FAILED.values(), ids=FAILED)
def test_a_request_is_written_once_more_after_its_result_was_a_failure(told, folder):
    exchange(folder, some(2))
    put(
        folder,
        "one.jsonl",
        json.dumps({"id": "b1", "custom_id": some(2)[0].id, **told}) + "\n",
        result(some(2)[1]),
    )
    found, words = exchange(folder, some(2))
    assert (
        list(found) == ["row:1"]
        and "1 requests written (0002-translate.jsonl), 0 written before" in words
    )
    for _ in range(3):
        _, words = exchange(folder, some(1))
        assert "0 requests written (no new file), 1 written before" in words
    assert written(folder).count(some(1)[0].id) == 2
    put(folder, "two.jsonl", result(some(1)[0], "at last"))
    assert exchange(folder, some(1)) == ({"row:0": "at last"}, "")


def test_a_second_failure_has_the_request_written_a_third_time(folder):
    for number in range(3):
        exchange(folder, some(1))
        put(folder, f"{number}.jsonl", result(some(1)[0], status=500, number=number))
    for _ in range(2):
        exchange(folder, some(1))
    assert len(written(folder)) == 4


def test_a_failure_that_is_told_twice_is_one_failure(folder):
    """The same results downloaded into two files."""
    exchange(folder, some(1))
    for name in ("one.jsonl", "one (1).jsonl"):
        put(folder, name, result(some(1)[0], status=500))
    for _ in range(3):
        exchange(folder, some(1))
    assert written(folder) == [some(1)[0].id] * 2


def test_several_failures_of_one_writing_have_it_written_once_more(folder):
    """A service that tried three times and told each failure: the request was written, and paid
    for, three times more.
    """
    exchange(folder, some(1))
    put(
        folder, "one.jsonl", *(result(some(1)[0], status=500, number=number) for number in range(3))
    )
    for _ in range(4):
        exchange(folder, some(1))
    assert len(written(folder)) == 2
    put(folder, "two.jsonl", result(some(1)[0], status=500, number=9))
    for _ in range(2):
        exchange(folder, some(1))
    assert len(written(folder)) == 3


def test_files_of_before_failures_were_noted_are_understood(folder):
    exchange(folder, some(1))
    (folder / "requests" / "0002-translate.jsonl").write_bytes(
        (folder / "requests" / "0001-translate.jsonl").read_bytes()
    )
    put(folder, "one.jsonl", result(some(1)[0], status=500))
    assert "0 requests written" in exchange(folder, some(1))[1]
    put(folder, "two.jsonl", result(some(1)[0], status=500, number=1))
    assert "1 requests written" in exchange(folder, some(1))[1]


def test_a_result_in_another_encoding_is_no_answer(folder, capsys):
    """Its letters were replaced by question marks and stored as the answer."""
    exchange(folder, some(2))
    line = result(some(2)[0], "café").encode("latin-1")
    (folder / "results" / "one.jsonl").write_bytes(line + result(some(2)[1], "نعم").encode("utf-8"))
    assert (
        exchange(folder, some(2))[0] == {"row:1": "نعم"}
        and "1 lines of one.jsonl" in capsys.readouterr().out
    )


@pytest.mark.parametrize("line", ['{"custom_id": "x"', '{"id": 1}', "[]", '{"custom_id": 3}'])
def test_a_damaged_request_file_is_named(line, folder):
    """It ended in a JSONDecodeError that named no file."""
    exchange(folder, some(1))
    (folder / "requests" / "note.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(
        TeacherError,
        match=r"requests/note\.jsonl, line 1 is no request: fix the file, or remove it",
    ):
        exchange(folder, some(1))


def test_the_ten_thousandth_file_does_not_take_the_place_of_another(folder):
    """Numbers of five digits were not seen, and 10000 was written again and again."""
    (folder / "requests").mkdir()
    (folder / "requests" / "10000-score.jsonl").write_text("")
    exchange(folder, some(1))
    assert list(files(folder)) == ["10000-score.jsonl", "10001-translate.jsonl"]


def test_writing_files_is_announced(folder, capsys):
    """Whoever uploads them sends rows to another machine: ALLOW_REMOTE is not asked for files."""
    exchange(folder, some(3))
    assert "3 rows are written to files. Never send patient data" in capsys.readouterr().out
    exchange(folder, some(3))
    assert capsys.readouterr().out == ""


def test_an_answer_outweighs_a_failure_of_the_same_request(folder):
    exchange(folder, some(1))
    put(folder, "a.jsonl", result(some(1)[0], status=500))
    put(folder, "b.jsonl", result(some(1)[0], "answer", number=1))
    assert exchange(folder, some(1)) == ({"row:0": "answer"}, "") and len(written(folder)) == 1


def test_results_are_delivered_in_parts(folder, monkeypatch):
    monkeypatch.setattr(batch, "_IMPORTED", 4)
    put(folder, "one.jsonl", *(result(request) for request in some(10)))
    sizes = []
    batch.exchange_batch_files(some(10), folder, lambda part: sizes.append(len(part)))
    assert sizes == [4, 4, 2]


# Through the engine


def test_a_batch_waits_then_answers_then_serves_http(teacher, monkeypatch):
    requests = [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(4)]
    waiting = ask(teacher, [*requests, requests[0]])
    assert {parse_answer(answer, Teacher) for answer in waiting.values()} == {
        ("held", None, "waiting for batch results")
    }
    folder = teacher.batch_folder
    assert folder == teacher.answers.parent / "batch" / "org_model_1" and written(folder) == [
        request.id for request in requests
    ]
    (folder / "results").mkdir()
    put(folder, "out.jsonl", *(result(request, f"answer {request.row_id}") for request in requests))
    answers = ask(teacher, requests)
    assert [answers[request.id].text for request in requests] == [
        f"answer row:{i}" for i in range(4)
    ]
    assert answers[requests[0].id].usage == {"prompt_tokens": 3, "completion_tokens": 5}
    monkeypatch.setattr(http, "send_requests", lambda *_: pytest.fail("a request was sent"))
    asked = teacher.model_copy(update={"backend": "http", "url": "http://127.0.0.1:1/v1"})
    assert ask(asked, requests) == answers


def test_what_is_stored_already_is_not_written(teacher):
    with Stub() as stub:
        asked = teacher.model_copy(update={"backend": "http", "url": stub.url})
        fill_store(asked, [asked.request("translate", "row:0", "v1", "text 0")])
    fill_store(
        teacher, [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(3)]
    )
    assert [
        line["body"]["messages"][0]["content"]
        for line in files(teacher.batch_folder)["0001-translate.jsonl"]
    ] == ["text 1", "text 2"]


def test_an_answer_stays_imported_when_its_results_file_is_gone(teacher):
    requests = [teacher.request("translate", "row:0", "v1", "text")]
    fill_store(teacher, requests)
    folder = teacher.batch_folder
    (folder / "results").mkdir()
    put(folder, "out.jsonl", result(requests[0]))
    fill_store(teacher, requests)
    (folder / "results" / "out.jsonl").unlink()
    assert ask(teacher, requests)[requests[0].id].text == "answer" and len(written(folder)) == 1


def test_a_result_that_cannot_be_stored_does_not_lose_the_others(teacher):
    """Reasoning models cut their reasoning anywhere, also within an emoji: JSON allows that, UTF-8
    does not.
    """
    requests = [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(2)]
    (teacher.batch_folder / "results").mkdir(parents=True)
    odd = (
        json.dumps(
            {
                "custom_id": requests[0].id,
                "response": {"status_code": 200, "body": completion("a", reasoning="\ud83d")},
            }
        )
        + "\n"
    )
    put(teacher.batch_folder, "out.jsonl", odd, result(requests[1]))
    assert ask(teacher, requests)[requests[1].id].text == "answer"


def test_what_came_back_is_imported_though_no_more_may_be_spent(teacher):
    """Those results were paid for: an unknown price or a limit that was lowered since must not keep
    them out.
    """
    requests = [teacher.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(2)]
    fill_store(teacher, requests)
    folder = teacher.batch_folder
    (folder / "results").mkdir()
    put(folder, "out.jsonl", result(requests[0]))
    unknown = teacher.model_copy(update={"prices": None})
    assert ask(unknown, requests)[requests[0].id].text == "answer"
    with pytest.raises(TeacherError, match="no price for"):
        fill_store(unknown, [teacher.request("translate", "row:9", "v1", "text 9")])
    assert written(folder) == [request.id for request in requests]


def test_the_limit_holds_for_all_that_is_written_and_not_back(teacher):
    """Each call had the limit to itself: three calls under 1.00 wrote requests for 3.00."""
    teacher.prices.write_text(
        "model,usd_per_million_prompt_tokens,usd_per_million_completion_tokens\norg/model"
        " 1,0,1000\n"
    )
    paid = teacher.model_copy(update={"max_cost_usd": 1.0, "max_tokens": 100})

    def asked(word):
        return [paid.request("translate", f"row:{i}", "v1", f"{word} {i}") for i in range(6)]

    fill_store(paid, asked("one"))
    with pytest.raises(
        TeacherError,
        match=(
            r"may cost 0\.60 US dollars, beside 0\.60 for what was asked before, MAX_COST_USD is"
            r" 1\.00"
        ),
    ):
        fill_store(paid, asked("two"))
    (paid.batch_folder / "results").mkdir()
    put(paid.batch_folder, "out.jsonl", *(result(request) for request in asked("one")))
    fill_store(paid, asked("two"))
    fill_store(paid, asked("one"))  # imported, and the results thrown away
    (paid.batch_folder / "results" / "out.jsonl").unlink()
    put(paid.batch_folder, "out.jsonl", *(result(request) for request in asked("two")))
    fill_store(paid, asked("three"))
    assert len(written(paid.batch_folder)) == 18


@pytest.mark.parametrize("model", ["..", ".", ""])
def test_a_model_is_no_way_out_of_the_folder(model, teacher):
    """A model called ".." had its files written beside the store."""
    made = teacher.model_copy(update={"model": model}).batch_folder
    assert made.parent == teacher.answers.parent / "batch" and made.name not in ("", ".", "..")


def test_send_false_neither_imports_nor_writes(teacher):
    requests = [teacher.request("translate", "row:0", "v1", "text")]
    (teacher.batch_folder / "results").mkdir(parents=True)
    put(teacher.batch_folder, "out.jsonl", result(requests[0]))
    answer = ask(teacher.model_copy(update={"send": False}), requests)[requests[0].id]
    assert parse_answer(answer, Teacher)[0] == "held" and written(teacher.batch_folder) == []


def test_a_batch_needs_a_store_on_disk(teacher):
    with pytest.raises(TeacherError, match="batch needs an answer store on disk"):
        ask(
            teacher.model_copy(update={"answers": None}),
            [teacher.request("translate", "row:0", "v1", "text")],
        )


def test_what_a_batch_service_is_asked_is_what_an_endpoint_is_asked(teacher):
    with Stub() as stub:
        asked = teacher.model_copy(update={"backend": "http", "url": stub.url, "answers": None})
        request = asked.request("translate", "row:0", "v1", "نص")
        ask(asked, [request])
        fill_store(teacher, [request])
        line = files(teacher.batch_folder)["0001-translate.jsonl"][0]
        assert stub.counts == {body_hash(line["body"]): 1} and line["url"] == "/v1/chat/completions"


# Ray


def test_without_ray_it_is_said_how_to_get_it(teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with Stub() as stub:
        clustered = teacher.model_copy(update={"backend": "ray", "url": stub.url})
        with pytest.raises(
            TeacherError, match=r'TEACHER = "ray" needs Ray: pip install -e "\.\[ray\]"'
        ):
            fill_store(clustered, [clustered.request("translate", "row:0", "v1", "text")])
        assert stub.total == 0
    store = Store(teacher.answers)
    assert len(store) == 0
    store.close()


def test_an_address_may_end_in_a_slash_also_where_there_are_several(teacher, monkeypatch):
    """What `ray_backend.send_with_ray` does with them, without a cluster."""

    def run(missing, endpoint, workers, deliver):
        http.send_requests(missing, replace(endpoint, url=endpoint.url.split()[0]), deliver)

    monkeypatch.setattr(ray_backend, "send_with_ray", run)
    with Stub() as stub:
        clustered = teacher.model_copy(update={"backend": "ray", "url": f"{stub.url}/ {stub.url}/"})
        assert not fill_store(
            clustered, [clustered.request("translate", "row:0", "v1", "text")]
        ).failed


def asked_by_a_worker(urls, requests, **limits):
    worker = RequestWorker(HttpEndpoint(" ".join(urls), **limits), urls)
    return worker(
        {
            "index": [7 + i for i in range(len(requests))],
            "request": [pickle.dumps(request) for request in requests],
        }
    )


def test_a_worker_answers_in_the_order_it_was_asked(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.002)
    with Stub() as stub:
        stub.program("نص 1", 400)
        stub.program("نص 2", 503, "ok")
        out = asked_by_a_worker([stub.url], some(4))
    assert (out["index"], out["error"]) == ([7, 8, 9, 10], ["", "HTTP 400", "", ""])
    texts = [body and json.loads(body)["choices"][0]["message"]["content"] for body in out["body"]]
    assert texts == ["نص 0", "", "نص 2", "نص 3"] and len(out["seconds"]) == 4


def test_a_worker_tells_what_it_did_not_send(monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 1)
    with Stub(default=403) as stub:
        out = asked_by_a_worker([stub.url], some(5), concurrency=1)
        assert stub.total == 1
    assert (
        out["error"]
        == ["HTTP 403"] + ["not sent: 1 requests in a row failed, the last with HTTP 403"] * 4
    )


def test_workers_take_the_endpoints_in_turn(monkeypatch):
    with Stub() as one, Stub() as two:
        for process in range(4):
            monkeypatch.setattr(
                "bimedix_utils.teacher.ray_backend.os.getpid", lambda process=process: process
            )
            asked_by_a_worker([one.url, two.url], some(1))
        assert (one.total, two.total) == (2, 2)


def test_workers_share_the_limits_per_minute():
    """Each worker kept the whole limit: eight of them asked eight times as fast."""
    mine = ray_backend.rate_per_worker(
        HttpEndpoint("", requests_per_minute=60, tokens_per_minute=1000), 8
    )
    assert (mine.requests_per_minute, mine.tokens_per_minute) == (7.5, 125.0)
    assert ray_backend.rate_per_worker(HttpEndpoint(""), 8).requests_per_minute == 0


def test_a_worker_keeps_its_pace_over_its_batches():
    """Each batch began anew."""
    with Stub() as stub:
        worker = RequestWorker(HttpEndpoint(stub.url, requests_per_minute=1200), [stub.url])
        for request in some(5):
            worker({"index": [0], "request": [pickle.dumps(request)]})
        assert (
            all(moment - stub.times[0] >= 0.05 * i - 0.02 for i, moment in enumerate(stub.times))
            and stub.total == 5
        )


def test_what_a_workers_tries_may_have_cost_comes_back(teacher, monkeypatch):
    """`charged` was lost on the way: unreadable answers and gateways that gave up cost nothing."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.002)
    teacher.prices.write_text(
        "model,usd_per_million_prompt_tokens,usd_per_million_completion_tokens\norg/model"
        " 1,0,1000\n"
    )

    def run(missing, endpoint, workers, deliver):
        part = list(missing)
        worker = RequestWorker(ray_backend.rate_per_worker(endpoint, workers), endpoint.url.split())
        deliver(
            ray_backend.unpack_answers(
                part,
                worker(
                    {"index": list(range(len(part))), "request": [pickle.dumps(r) for r in part]}
                ),
            )
        )

    monkeypatch.setattr(ray_backend, "send_with_ray", run)
    with Stub() as stub:
        stub.program("text 0", {"choices": []})  # two tries
        stub.program("text 1", 504, "ok")
        stub.program("text 2", 400)
        asked = teacher.model_copy(
            update={"backend": "ray", "url": stub.url, "max_cost_usd": 10.0, "max_tokens": 100}
        )
        outcome = fill_store(
            asked, [asked.request("translate", f"row:{i}", "v1", f"text {i}") for i in range(4)]
        )
    assert len(outcome.failed) == 2 and asked.spending.reserved == 0.0
    assert asked.spending.spent == pytest.approx(2 * 0.1 + (0.1 + 0.005) + 0.0 + 0.005)
    assert asked.ledger.rows()[0][-1] == "0.01 and up to 0.30 not counted"


def test_no_key_is_shipped_to_a_worker(monkeypatch):
    monkeypatch.setenv("TEACHER_API_KEY", "sk-secret-do-not-ship")
    with Stub() as stub:
        worker = RequestWorker(HttpEndpoint(stub.url), [stub.url])
        assert b"sk-secret" not in pickle.dumps(worker)
        worker({"index": [0], "request": [pickle.dumps(some(1)[0])]})
        assert stub.headers[0]["Authorization"] == "Bearer sk-secret-do-not-ship"
