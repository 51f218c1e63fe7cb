"""`http.send` against a stub server: how often each failure is tried, how fast it asks, what stops
it.
"""

import asyncio
import json
import random
import signal
import socket
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest
from support.stub_server import REFUSAL, Stub, completion

from bimedix_utils.core.errors import TeacherError
from bimedix_utils.teacher import http, pacing
from bimedix_utils.teacher.engine import ask
from bimedix_utils.teacher.requests import Request
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Store, read_body

pytestmark = pytest.mark.unit
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
BEYOND = "Mon, 01 Jan 99999999999999 00:00:00 GMT"
HALF = b'{"choices": [{"message": {"content": "hal'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.002)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)


@pytest.fixture
def stub():
    with Stub(answer=lambda text: f"answer to {text}") as server:
        yield server


def question(text, most=10):
    return Request("translate", text, 0, 0, "v1", "m", (("user", text),), (("max_tokens", most),))


def send(stub, *texts, found=None, reserve=lambda request: True, **limits):
    """(answers by text, why it stopped early); each answer must be delivered once."""
    found = {} if found is None else found

    def deliver(part):
        for request, answer in part:
            assert request.row_id not in found and answer.request_id == request.id
            found[request.row_id] = answer

    endpoint = http.HttpEndpoint(stub.url, **{"concurrency": 3, "timeout": 10, **limits})
    return found, http.send_requests([question(text) for text in texts], endpoint, deliver, reserve)


def numbered(count, word="text"):
    return [f"{word} {i}" for i in range(count)]


# How often each failure is tried


UNREADABLE = {
    "half JSON": (HALF, "JSONDecodeError"),
    "HTML": (b"<html>gateway</html>", "JSONDecodeError"),
    "nothing": (b"", "JSONDecodeError"),
    "invalid UTF-8": (
        json.dumps(completion("word")).encode().replace(b"word", b"w\xff\xfe"),
        "UnicodeDecodeError",
    ),
    "nested without end": (b"[" * 100_000, "RecursionError"),
    "a list": ([], "TypeError"),
    "an error object": ({"error": "busy"}, "KeyError"),
    "no choices": ({"choices": None}, "TypeError"),
    "empty choices": ({"choices": []}, "IndexError"),
    "empty content": (completion(""), "ValueError"),
    "blank content": (completion(" \n"), "ValueError"),
    "null content": (completion(None), "ValueError"),
    "content is a number": (completion(3), "TypeError"),
    "content is a list": (completion(["text"]), "TypeError"),
    "content is a list of nothing": (completion([]), "ValueError"),
    "content without text": (completion([{"type": "thinking", "thinking": "x"}]), "ValueError"),
    "message null": ({"choices": [{"message": None}]}, "AttributeError"),
    "message is text": ({"choices": [{"message": "text"}]}, "AttributeError"),
    "finish_reason is an object": (completion("text", {"reason": "stop"}), "TypeError"),
    "half an emoji": (completion("text \ud83d"), "UnicodeEncodeError"),
}


@pytest.mark.parametrize("body, kind", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_without_a_completion_is_tried_twice_since_it_may_have_been_paid_for(
    body, kind, stub
):
    stub.program("bad", body)
    found, stopped = send(stub, "bad", "good")
    assert (found["bad"].text, found["bad"].error) == (
        None,
        f"no chat completion in the body ({kind})",
    )
    assert (stub.texts.count("bad"), found["good"].text, stopped) == (2, "answer to good", "")


@pytest.mark.parametrize("status", http._RETRIED + (507,))
def test_a_passing_status_is_tried_five_times(status, stub):
    stub.program("bad", status)
    found, _ = send(stub, "bad", "good")
    assert (found["bad"].error, stub.texts.count("bad"), found["good"].text) == (
        f"HTTP {status}",
        5,
        "answer to good",
    )


@pytest.mark.parametrize("status", [400, 402, 403, 404, 413, 422, 204])
def test_any_other_status_is_tried_once_and_fails_alone(status, stub):
    stub.program("bad", status)
    found, stopped = send(stub, "bad", "good")
    assert (found["bad"].error, stub.texts.count("bad"), found["good"].text, stopped) == (
        f"HTTP {status}",
        1,
        "answer to good",
        "",
    )


@pytest.mark.parametrize("behaviour", ["reset", "cut_body"])
def test_a_reset_connection_is_tried_five_times(behaviour, stub):
    stub.program("bad", behaviour)
    found, _ = send(stub, "bad", "good")
    assert found["bad"].error in (
        "ServerDisconnectedError",
        "ClientOSError",
        "ConnectionResetError",
        "ClientPayloadError",
    )
    assert (stub.texts.count("bad"), found["good"].text) == (5, "answer to good")


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_an_answer_that_does_not_end_in_time_is_tried_five_times(behaviour, stub):
    stub.program("bad", behaviour)
    found, _ = send(stub, "bad", timeout=0.1)
    assert (found["bad"].text, found["bad"].error, stub.total) == (None, "TimeoutError", 5)


def test_an_answer_of_ten_megabytes_is_given_up_at_once(stub):
    stub.program("bad", json.dumps(completion("x" * 10_000_000)).encode())
    found, _ = send(stub, "bad", "good")
    assert (found["bad"].error, stub.texts.count("bad"), found["good"].text) == (
        "answer too long",
        1,
        "answer to good",
    )


FAILURES = {
    "429": 429,
    "500": 500,
    "no wait": (503, {"Retry-After": "0"}),
    "reset": "reset",
    "cut body": "cut_body",
    "half JSON": HALF,
    "empty content": completion(""),
}


@pytest.mark.parametrize("first", FAILURES.values(), ids=FAILURES)
def test_a_failure_that_passes_leaves_no_trace_in_the_answer(first, stub):
    stub.program("one", first, "ok")
    found, stopped = send(stub, "one")
    assert (found["one"].text, found["one"].error, stopped, stub.total) == (
        "answer to one",
        "",
        "",
        2,
    )


def test_tries_of_different_failures_add_up(stub):
    stub.program("bad", 500, "reset", HALF, 503, 502)
    found, _ = send(stub, "bad")
    assert (found["bad"].error, stub.total) == ("HTTP 502", 5)


def test_no_cookie_is_kept(stub):
    stub.program("one", (503, {"Set-Cookie": "who=me; Path=/"}), "ok")
    endpoint = http.HttpEndpoint(stub.url.replace("127.0.0.1", "localhost"), timeout=10)
    http.send_requests([question("one")], endpoint, lambda part: None)
    assert stub.total == 2 and "Cookie" not in stub.headers[1]


# Answers that look odd


def test_cut_and_refused_answers_are_answers_and_are_asked_once(stub):
    stub.program("cut", "length")
    stub.program("no", "refusal")
    found, _ = send(stub, "cut", "no")
    assert (found["cut"].text, found["cut"].finish_reason) == ("answe", "length")
    assert (found["no"].text, found["no"].finish_reason, stub.total) == (REFUSAL, "stop", 2)


def test_nothing_at_all_within_the_token_limit_is_a_cut_answer(stub):
    stub.program("cut", completion("", "length"))
    found, _ = send(stub, "cut")
    assert (found["cut"].text, found["cut"].finish_reason, stub.total) == ("", "length", 1)


def test_refusal_field_of_the_message_is_read(stub):
    stub.program(
        "no",
        {"choices": [{"message": {"content": None, "refusal": REFUSAL}, "finish_reason": "stop"}]},
    )
    assert send(stub, "no")[0]["no"].text == REFUSAL


def test_a_wrong_content_type_does_not_lose_a_good_answer(stub):
    stub.program("one", "html_type")
    assert (send(stub, "one")[0]["one"].text, stub.total) == ("answer to one", 1)


def test_answers_with_one_response_id_are_told_apart(stub):
    stub.default = lambda body: completion(
        body["messages"][0]["content"].upper(), id="always the same"
    )
    found, _ = send(stub, "a", "b", "c")
    assert {text: answer.text for text, answer in found.items()} == {"a": "A", "b": "B", "c": "C"}


def test_usage_that_counts_nothing_useful_is_left_out(stub):
    stub.program(
        "one",
        completion(
            "text", usage={"prompt_tokens": "3", "completion_tokens": 5.0, "total_tokens": 8}
        ),
    )
    assert send(stub, "one")[0]["one"].usage == {}


@pytest.mark.parametrize("usage", [None, [], [1], "x", 7, {"prompt_tokens": None}])
def test_an_answer_whose_tokens_are_counted_oddly_is_an_answer(usage, stub):
    """A usage that was no object made a good answer unreadable: it was asked for twice, paid twice
    and lost.
    """
    stub.program("one", completion("text", usage=usage))
    found, _ = send(stub, "one")
    assert (found["one"].text, found["one"].usage, stub.total) == ("text", {}, 1)


def test_the_text_parts_of_a_message_are_the_answer(stub):
    """Some servers send a list of parts; it was taken for no completion."""
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "two "},
        {"type": "text", "text": "parts"},
    ]
    stub.program("one", completion(parts))
    assert (send(stub, "one")[0]["one"].text, stub.total) == ("two parts", 1)


def test_a_byte_order_mark_does_not_lose_a_good_answer(stub):
    stub.program("one", b"\xef\xbb\xbf" + json.dumps(completion("text")).encode())
    found, _ = send(stub, "one")
    assert (found["one"].text, stub.total) == ("text", 1)
    assert read_body("id", found["one"].body).text == "text"  # as it is stored


KEY = "sk-secret/do-not-show"
ECHOES = {
    "in a debug field": completion("fine", debug={"headers": {"Authorization": f"Bearer {KEY}"}}),
    "in the text": completion(f"your key is {KEY}"),
    "escaped": (
        json.dumps(completion(f"your key is {KEY}"))
        .replace("/", "\\/")
        .replace("secret", "\\u0073ecret")
        .encode()
    ),
}


@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
def test_an_answer_that_repeats_the_key_is_a_failure_and_not_kept(body, stub, monkeypatch):
    """An endpoint that showed the request's headers in its body had the key written into the answer
    store.
    """
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    stub.program("one", body)
    found, _ = send(stub, "one", "two")
    assert (found["one"].error, found["one"].body, found["one"].charged) == (
        "the answer repeats the key",
        "",
        True,
    )
    assert (found["two"].text, stub.texts.count("one")) == ("answer to two", 1)


def test_a_placeholder_for_a_key_may_stand_in_an_answer(stub, monkeypatch):
    """Local servers are given keys such as EMPTY or x."""
    monkeypatch.setenv("TEACHER_API_KEY", "answer")
    assert send(stub, "one")[0]["one"].text == "answer to one"


@pytest.mark.parametrize("key", ["sk-secret\nsecond", "sk-secret-to-hide"])
def test_the_key_is_in_no_variable_that_a_traceback_shows(key, stub, monkeypatch):
    """Jupyter's verbose tracebacks and pytest --showlocals print the variables of every function on
    the way.
    """
    monkeypatch.setenv("TEACHER_API_KEY", key)
    stub.program("one", completion(f"{key} {{"), 401)
    with pytest.raises(TeacherError) as caught:
        http.send_requests(
            [question("one"), question("two")],
            http.HttpEndpoint(stub.url),
            lambda part: (_ for _ in ()).throw(TeacherError("disk")),
        )
    frames = [
        frame
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    assert frames and not [frame for frame in frames if "sk-secret" in repr(frame.f_locals)]


# Waiting


def gaps(stub):
    return [later - earlier for earlier, later in zip(stub.times, stub.times[1:], strict=False)]


@pytest.mark.parametrize("behaviour", [500, 429])
def test_waits_are_doubled_up_to_the_longest(behaviour, stub, monkeypatch):
    """Doubled without end, seven waits would be 2.5 s."""
    monkeypatch.setattr(http, "ATTEMPTS", 8)
    monkeypatch.setattr(http, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.06)
    stub.program("one", *[behaviour] * 7, "ok")
    send(stub, "one")
    assert (
        all(
            gap >= least - 0.001
            for least, gap in zip([0.02, 0.04, *[0.06] * 5], gaps(stub), strict=True)
        )
        and sum(gaps(stub)) < 1.5
    )


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(status, stub):
    stub.program("one", (status, {"Retry-After": "0.3"}), "ok")
    send(stub, "one")
    assert gaps(stub)[0] >= 0.29


READ = {
    "0": 0.0,
    "7": 7.0,
    "0.5": 0.5,
    "-3": 0.0,
    PAST: 0.0,
    "soon": None,
    "": None,
    "12 monkeys": None,
    BEYOND: None,
}


@pytest.mark.parametrize("value", READ)
def test_retry_after_is_read_as_seconds_or_a_past_date_or_not_at_all(value):
    assert pacing.retry_after(value) == READ[value]


def test_retry_after_is_read_as_a_date_to_come():
    assert (
        55
        < pacing.retry_after(
            format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        )
        <= 60
    )


STORMS = {  # Retry-After, tries
    "no header": (None, 5),
    "0": ("0", 5),
    "rubbish": ("soon", 5),
    "past": (PAST, 5),
    "negative": ("-3", 5),
    "not a number": ("nan", 5),
    "beyond": (BEYOND, 5),
    "0.035": ("0.035", 3),
    "an hour": ("3600", 1),
    "never": ("inf", 1),
}


@pytest.mark.parametrize("value, tries", STORMS.values(), ids=STORMS)
def test_an_endpoint_that_says_429_for_ever_is_given_up_when_patience_ends(
    value, tries, stub, monkeypatch
):
    """10 + 20 + 25 + 25 + 25 ms of waiting are more than 0.1 s of patience."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.025)
    stub.program("bad", (429, {"Retry-After": value} if value else {}))
    found, stopped = send(stub, "bad", patience=0.1)
    assert (found["bad"].error, stub.total, stopped) == ("HTTP 429", tries, "")


def test_a_429_does_not_use_up_the_tries(stub):
    stub.program("one", *[429] * 12, "ok")
    assert (send(stub, "one")[0]["one"].text, stub.total) == ("answer to one", 13)


def test_a_429_lets_the_other_requests_wait_too(stub):
    stub.default = "slow"
    stub.program("storm", (429, {"Retry-After": "0.5"}), "ok")
    found, _ = send(stub, "storm", *numbered(20), concurrency=4)
    begin = stub.times[stub.texts.index("storm")]
    after = [moment - begin for moment in stub.times]
    assert not [moment for moment in after if 0.1 < moment < 0.49]
    assert sum(moment >= 0.49 for moment in after) >= 15 and len(found) == 21


def test_a_request_given_up_for_a_long_retry_after_does_not_hold_up_the_others(stub):
    stub.program("storm", (429, {"Retry-After": "3600"}))
    begin = time.monotonic()
    found, _ = send(stub, "storm", *numbered(5), concurrency=1)
    assert (
        time.monotonic() - begin < 5
        and sum(answer.text is not None for answer in found.values()) == 5
    )


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200}, {"tokens_per_minute": 120_000}])
def test_the_limits_per_minute_are_kept(limit, stub):
    """One word and 99 tokens of an answer are 100 tokens: 20 requests a second either way."""
    endpoint = http.HttpEndpoint(stub.url, concurrency=8, timeout=10, **limit)
    http.send_requests([question(f"{i:04d}", 99) for i in range(10)], endpoint, lambda part: None)
    assert all(
        moment - stub.times[0] >= 0.05 * i - 0.02 for i, moment in enumerate(sorted(stub.times))
    )
    assert stub.total == 10 and stub.times[-1] - stub.times[0] < 2


def test_a_large_request_makes_the_next_one_wait_longer(stub):
    endpoint = http.HttpEndpoint(stub.url, concurrency=1, timeout=10, tokens_per_minute=60_000)
    http.send_requests(
        [question("word", 299), question("next", 9), question("last", 9)],
        endpoint,
        lambda part: None,
    )
    assert gaps(stub)[0] >= 0.29 and gaps(stub)[1] < 0.2


def test_further_tries_count_for_the_limit_per_minute(stub):
    stub.program("bad", 500)
    send(stub, "bad", requests_per_minute=1200)
    assert stub.total == 5 and all(
        moment - stub.times[0] >= 0.05 * i - 0.02 for i, moment in enumerate(stub.times)
    )


def test_the_limit_per_minute_is_kept_after_a_pause(stub, monkeypatch):
    """The requests that waited for the pause must not all go at its end."""
    monkeypatch.setattr(random.Random, "random", lambda self: 0.0)
    stub.program("storm", (429, {"Retry-After": "0.6"}), "ok")
    send(stub, "storm", *numbered(8), concurrency=8, requests_per_minute=600)
    after = sorted(moment for moment in stub.times if moment - stub.times[0] > 0.55)
    assert after[3] - after[0] >= 0.25


def test_the_limits_per_minute_are_kept_over_several_calls(stub):
    """Each call of a notebook began anew: twelve calls of one request each went out at once."""
    pace = http.Pace()
    for text in numbered(6):
        endpoint = http.HttpEndpoint(stub.url, requests_per_minute=1200)
        http.send_requests([question(text)], endpoint, lambda part: None, pace=pace)
    assert (
        all(moment - stub.times[0] >= 0.05 * i - 0.02 for i, moment in enumerate(stub.times))
        and stub.total == 6
    )


def test_tokens_that_were_not_guessed_are_waited_for_afterwards(stub):
    """Arabic has more tokens than bytes / 4 and hidden reasoning more than max_tokens: the limit
    per minute was exceeded without end.
    """
    stub.default = completion("text", usage={"prompt_tokens": 110, "completion_tokens": 200})
    endpoint = http.HttpEndpoint(stub.url, concurrency=1, timeout=10, tokens_per_minute=60_000)
    http.send_requests([question("word", 9), question("next", 9)], endpoint, lambda part: None)
    assert gaps(stub)[0] >= 0.29


def test_a_count_of_a_billion_tokens_does_not_hold_up_the_run_for_ever(stub):
    stub.default = completion("text", usage={"prompt_tokens": 2**30, "completion_tokens": 1})
    endpoint = http.HttpEndpoint(
        stub.url, concurrency=1, timeout=10, tokens_per_minute=60_000, patience=0.1
    )
    http.send_requests([question("word", 9), question("next", 9)], endpoint, lambda part: None)
    assert stub.total == 2 and gaps(stub)[0] < 5


def test_a_passing_failure_with_a_long_retry_after_is_not_waited_for(stub):
    stub.program("bad", (503, {"Retry-After": "3600"}))
    found, _ = send(stub, "bad", "good")
    assert (found["bad"].error, stub.texts.count("bad"), found["good"].text) == (
        "HTTP 503",
        1,
        "answer to good",
    )


def test_no_more_requests_at_once_than_allowed(stub):
    stub.default = "slow"
    send(stub, *numbered(12), concurrency=3)
    assert (stub.peak, stub.total) == (3, 12)


# Delivery


def test_answers_that_arrive_during_a_delivery_are_delivered_together(stub):
    sizes = []

    def deliver(part):
        sizes.append(len(part))
        time.sleep(0.05)

    http.send_requests(
        [question(text) for text in numbered(40)],
        http.HttpEndpoint(stub.url, concurrency=8),
        deliver,
    )
    assert sum(sizes) == 40 and max(sizes) > 1


def test_a_request_is_under_way_until_its_answer_is_delivered(stub):
    """Whoever kills the run loses at most as many answers as were under way."""
    delivered, most = [], []

    def deliver(part):
        time.sleep(0.02)
        most.append(stub.total - len(delivered))
        delivered.extend(part)

    http.send_requests(
        [question(text) for text in numbered(40)],
        http.HttpEndpoint(stub.url, concurrency=4),
        deliver,
    )
    assert len(delivered) == 40 and max(most) <= 4


def test_what_delivery_raises_ends_the_run_and_is_raised(stub):
    seen = []

    def deliver(part):
        seen.extend(part)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        http.send_requests(
            [question(text) for text in numbered(50)],
            http.HttpEndpoint(stub.url, concurrency=2),
            deliver,
        )
    assert stub.total <= 4 and len(seen) <= 4


def test_what_the_source_of_requests_raises_ends_the_run_and_keeps_what_arrived(stub):
    def source():
        yield question("one")
        raise LookupError("the table ends here")

    found = []
    with pytest.raises(LookupError, match="the table ends here"):
        http.send_requests(source(), http.HttpEndpoint(stub.url, concurrency=1), found.extend)
    assert [answer.text for _, answer in found] == ["answer to one"]


def test_no_thread_is_left_when_the_run_is_over(stub):
    before = threading.active_count()
    send(stub, *numbered(5))
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)  # what has ended is not joined, see `http.send`
    assert threading.active_count() == before


def test_a_reservation_that_waits_for_others_is_asked_again(stub):
    """As with a budget that has room for one request at a time."""
    found, reserved = {}, []

    def reserve(request):
        if len(reserved) > len(found):
            return False
        reserved.append(request)
        return True

    _, stopped = send(stub, *numbered(6), found=found, reserve=reserve, concurrency=4)
    assert (len(found), stub.peak, stopped) == (6, 1, "")


def test_a_reservation_that_is_refused_for_good_stops_the_rest(stub):
    left = iter([True, True])
    found, stopped = send(
        stub, *numbered(9), reserve=lambda request: next(left, False), concurrency=3
    )
    assert (stopped, stub.total, len(found)) == ("the budget is spent", 2, 2)


@pytest.mark.parametrize("status, reserved", [(408, 5), (502, 5), (504, 5), (500, 1), (503, 1)])
def test_a_try_that_may_have_been_charged_needs_a_reservation_of_its_own(status, reserved, stub):
    """Behind a gateway that gives up, the model goes on, and is charged for: fifty such tries went
    out under a limit for two.
    """
    stub.program("bad", *[status] * 4, 500)
    asked, given = [], []
    found = {}
    endpoint = http.HttpEndpoint(stub.url, timeout=10)
    http.send_requests(
        [question("bad")],
        endpoint,
        lambda part: found.update({r.row_id: a for r, a in part}),
        lambda request: not asked.append(request),
        given.append,
    )
    assert (stub.total, len(asked), len(given)) == (5, reserved, 0)
    assert (found["bad"].lost, found["bad"].charged) == (reserved - 1, False)


def test_the_reservation_of_a_try_that_was_not_sent_is_given_back(stub, monkeypatch):
    """It stayed reserved for the rest of the run."""
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 4)
    stub.default = 403
    stub.program("patient", (500, {"Retry-After": "0.3"}))
    given = []
    http.send_requests(
        [question(text) for text in ("patient", *numbered(9))],
        http.HttpEndpoint(stub.url, concurrency=2),
        lambda part: None,
        lambda request: True,
        given.append,
    )
    assert [request.row_id for request in given] == ["patient"]


# What stops the rest


def test_failures_in_a_row_stop_the_rest(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 5)
    stub.default = 403
    found, stopped = send(stub, *numbered(50), concurrency=2)
    assert stopped.startswith(
        "5 requests in a row failed, the last with HTTP 403"
    ) or stopped.startswith("6 requests in a row")
    assert 5 <= stub.total == len(found) <= 6


def test_a_request_between_two_tries_is_not_sent_again_when_the_rest_is_stopped(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 4)
    stub.default = 403
    stub.program("patient", (500, {"Retry-After": "0.3"}))
    found, _ = send(stub, "patient", *numbered(9), concurrency=2)
    assert stub.texts.count("patient") == 1 and "patient" not in found


def test_the_reason_for_stopping_is_the_first_one(stub, monkeypatch):
    """A request that was not sent any more has not failed: it must not become the last failure of
    the message.
    """
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 4)
    stub.default = 403
    stub.program("patient", (500, {"Retry-After": "0.3"}))
    _, stopped = send(stub, "patient", *numbered(9), concurrency=2)
    assert stopped == "4 requests in a row failed, the last with HTTP 403"


def test_refused_rows_that_stand_together_do_not_stop_the_rest(stub):
    """Twenty-five long rows in the middle of a file: every run stopped there, and the rows behind
    were never asked.
    """
    texts = numbered(60)
    for text in texts[5:30]:
        stub.program(text, 413)
    found, stopped = send(stub, *texts, concurrency=2)
    assert (stopped, len(found), sum(answer.text is not None for answer in found.values())) == (
        "",
        60,
        35,
    )


def test_an_endpoint_that_refuses_everything_from_the_beginning_is_suspected(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 5)
    stub.default = 422
    _, stopped = send(stub, *numbered(50), concurrency=1)
    assert (stopped, stub.total) == (
        "5 requests were refused and none was answered, the last with HTTP 422: a wrong parameter?",
        5,
    )


def test_refusals_in_between_do_not_hide_a_dead_endpoint(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 5)
    stub.default = 403
    for text in numbered(50)[::2]:
        stub.program(text, 400)
    stub.program("text 0", "ok")
    assert (
        send(stub, *numbered(50), concurrency=1)[1]
        == "5 requests in a row failed, the last with HTTP 403"
    )


def test_an_answer_in_between_resets_the_count_of_failures(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 4)
    texts = numbered(24)
    for i, text in enumerate(texts):
        stub.program(text, "ok" if i % 4 == 3 else 403)
    found, stopped = send(stub, *texts, concurrency=1)
    assert (stopped, len(found), stub.total) == ("", 24, 24)


def test_failures_of_requests_that_were_sent_together_do_not_stop_the_rest(stub, monkeypatch):
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 2)
    for text in numbered(5):
        stub.program(text, 403)
    found, stopped = send(stub, *numbered(5), *numbered(9, "fine"), concurrency=6)
    assert (stopped, len(found)) == ("", 14)


def test_a_refused_key_stops_at_once_and_keeps_what_was_answered(stub):
    stub.program("b", 401)
    found = {}
    with pytest.raises(
        TeacherError,
        match="HTTP 401: the endpoint does not accept the key; set the variable TEACHER_API_KEY",
    ):
        send(stub, "a", "b", "c", found=found, concurrency=1)
    assert (stub.texts, list(found)) == (["a", "b"], ["a"])


def test_what_arrived_before_the_run_was_stopped_is_still_delivered(stub):
    """The store is slow: `b` has come meanwhile and waits for it when the key is refused."""
    stub.program("c", (503, {"Retry-After": "0.15"}), 401)
    found = []

    def deliver(part):
        time.sleep(0.4)
        found.extend(request.row_id for request, _ in part)

    with pytest.raises(TeacherError, match="HTTP 401"):
        http.send_requests(
            [question(text) for text in "abc"], http.HttpEndpoint(stub.url, concurrency=3), deliver
        )
    assert sorted(found) == ["a", "b"]


def test_nobody_listens_is_said_before_anything_is_sent(stub):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        port = free.getsockname()[1]
        with pytest.raises(
            TeacherError, match=rf"nobody answers at 127\.0\.0\.1:{port}; nothing was sent"
        ):
            http.send_requests(
                [question("one")],
                http.HttpEndpoint(f"http://127.0.0.1:{port}/v1"),
                lambda part: pytest.fail("delivered"),
            )


def test_an_interrupt_before_the_first_request_stops_the_run(stub, monkeypatch):
    """aiohttp is imported on the sender's thread, which takes its time: who interrupts then must
    not be charged for a whole run.
    """
    begin, run = threading.Event(), asyncio.run

    def slow_start(main):
        begin.wait(5)
        time.sleep(0.2)
        return run(main)

    def press():
        begin.set()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr(asyncio, "run", slow_start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, press)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            send(stub, *numbered(3))
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert stub.total == 0


@pytest.mark.parametrize("presses", [1, 3])
def test_an_interrupted_run_ends_after_its_last_delivery(presses, stub):
    """The store was closed under the delivery, which took the interpreter with it: a thread whose
    join was interrupted counts as ended.
    """
    events = []

    def deliver(part):
        events.append("begins")
        for _ in range(presses):
            time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        events.append("ends")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            http.send_requests(
                [question(text) for text in numbered(50)], http.HttpEndpoint(stub.url), deliver
            )
        events.append("raised")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (
        events[:2] == ["begins", "ends"]
        and events[-1] == "raised"
        and events.count("begins") == events.count("ends")
    )


def test_a_thread_that_cannot_be_started_is_reported(stub, monkeypatch):
    """It must not be waited for."""
    monkeypatch.setattr(
        threading.Thread,
        "start",
        lambda self: (_ for _ in ()).throw(RuntimeError("can't start new thread")),
    )
    with pytest.raises(RuntimeError, match="can't start new thread"):
        http.send_requests([question("one")], http.HttpEndpoint(stub.url), lambda part: None)


# Everything at once


STORM = [429, *((429, {"Retry-After": value}) for value in ("0", "0.01", PAST, "?"))]
KINDS = {  # programme, requests of this kind, does it end in an answer
    "fine": (["ok"], 60, True),
    "slow": (["slow"], 12, True),
    "wrong type": (["html_type"], 12, True),
    "cut": (["length"], 12, True),
    "refused": (["refusal"], 12, True),
    "storm": ([*STORM, "ok"], 12, True),
    "storm for ever": ([(429, {"Retry-After": "0"})], 6, False),
    "error": ([500, 502, "ok"], 12, True),
    "error for ever": ([503], 12, False),
    "bad request": ([400], 12, False),
    "reset": (["reset", "ok"], 12, True),
    "reset for ever": (["reset"], 12, False),
    "cut body": (["cut_body", "reset", "ok"], 12, True),
    "cut body for ever": (["cut_body"], 12, False),
    "half JSON": ([HALF, "ok"], 12, True),
    "half JSON for ever": ([HALF], 12, False),
    "empty choices": ([{"choices": []}], 12, False),
    "empty content": ([completion(""), "ok"], 12, True),
    "invalid UTF-8": ([b'"\xff"'], 12, False),
    "10 MB": ([b" " * 10_000_000], 2, False),
    "hang": (["hang", "ok"], 3, True),
    "hang for ever": (["hang"], 3, False),
    "drip for ever": (["drip"], 3, False),
}


def test_a_mixed_run_ends_with_one_outcome_for_every_request_and_pays_for_no_answer_twice(
    stub, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(http, "ATTEMPTS", 3)
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 1000)
    monkeypatch.setattr(http, "HttpEndpoint", partial(http.HttpEndpoint, patience=0.1))
    texts = {f"{kind} {i}": kind for kind, (_, count, _) in KINDS.items() for i in range(count)}
    for text, kind in texts.items():
        stub.program(text, *KINDS[kind][0])
    teacher = Teacher(
        backend="http",
        model="m",
        url=stub.url,
        answers=tmp_path / "a.sqlite",
        concurrency=16,
        timeout=1.0,
    )
    requests = {
        text: teacher.request("translate", text, "v1", text)
        for text in random.Random(0).sample(list(texts), len(texts))
    }
    good = {text for text, kind in texts.items() if KINDS[kind][2]}

    answers = ask(teacher, list(requests.values()))
    assert len(answers) == len(texts) > 250
    assert {text for text in texts if answers[requests[text].id].text is not None} == good
    assert all(answers[requests[text].id].error for text in texts.keys() - good)
    assert stub.good == dict.fromkeys(good, 1)
    entry = teacher.ledger.stages["translate"]
    assert (entry.bought, entry.failed) == (len(good), len(texts) - len(good))
    store = Store(teacher.answers)
    assert len(store) == len(good)
    store.close()

    for text in texts:
        stub.program(text, "ok")
    seen = stub.total
    again = ask(teacher, list(requests.values()))
    assert sorted(stub.texts[seen:]) == sorted(texts.keys() - good)
    assert {text: again[requests[text].id] for text in good} == {
        text: answers[requests[text].id] for text in good
    }
    assert all(answer.text is not None for answer in again.values())
    ask(teacher, list(requests.values()))
    assert stub.total == seen + len(texts) - len(good)
