"""Prices, the limit that is kept, the estimate before anything is sent, and the ledger of what was
bought.
"""

import pytest
from support.stub_server import Stub, completion

from bimedix_utils.core.errors import ParameterError, TeacherError
from bimedix_utils.teacher import http, pacing, ray_backend
from bimedix_utils.teacher.engine import (
    HISTORY_COLUMNS,
    ask,
    ask_structured,
    estimate_requests,
    fill_store,
    store_history,
)
from bimedix_utils.teacher.ledger import (
    LEDGER_COLUMNS,
    Estimate,
    Ledger,
    Meter,
    Spending,
    TokenPrice,
    estimated_prompt_tokens,
    max_completion_tokens,
    mean_usage,
    price_of,
)
from bimedix_utils.teacher.parsing import parse_answer
from bimedix_utils.teacher.requests import Request
from bimedix_utils.teacher.settings import TEACHER_PARAMETERS, Teacher
from bimedix_utils.teacher.store import Answer

pytestmark = pytest.mark.unit
HEAD = "model,usd_per_million_prompt_tokens,usd_per_million_completion_tokens,source,date\n"
DOLLAR = 1_000_000  # for a million tokens: each token costs one dollar
PRICE = TokenPrice(DOLLAR, DOLLAR)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.002)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.01)
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)


@pytest.fixture
def stub():
    with Stub() as server:
        yield server


@pytest.fixture
def prices(tmp_path):
    """A maker of price tables."""

    def make(*lines):
        path = tmp_path / "prices.csv"
        path.write_text(HEAD + "".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return make


@pytest.fixture
def teacher(stub, prices, tmp_path):
    """Model `m` costs a dollar a token, and there is money for three words at their worst and a
    little more.
    """
    return Teacher(
        backend="http",
        model="m",
        url=stub.url,
        answers=tmp_path / "a.sqlite",
        concurrency=4,
        max_tokens=10,
        timeout=10,
        prices=prices(f"m,{DOLLAR},{DOLLAR},us,2026-01-01"),
        max_cost_usd=LIMIT,
    )


def words(teacher, count):
    return [teacher.request("translate", f"row:{i}", "v1", f"w{i:03d}") for i in range(count)]


def again(teacher):
    """The teacher of another run of the notebook."""
    return Teacher(
        **{**dict(teacher), "ledger": Ledger(), "spending": Spending(), "pace": http.Pace()}
    )


def question(text="word", most=10):
    return Request(
        "translate", "row:1", 0, 0, "v1", "m", (("user", text),), (("max_tokens", most),)
    )


def usage(prompt, answer):
    return {"prompt_tokens": prompt, "completion_tokens": answer}


WORST = Meter(PRICE, 0.0).worst(
    question()
)  # at least 1 + 10 dollars, since a word is one token by the guess
LIMIT = 3 * WORST + 4


# Prices


def test_tokens_are_guessed_from_the_bytes_of_every_message():
    assert estimated_prompt_tokens(question("abcde")) == 2
    assert estimated_prompt_tokens(question("نعم")) == 2
    assert estimated_prompt_tokens(question("abcd").repair("efgh", "x")) > 2
    assert max_completion_tokens(question(most=77)) == 77


def test_a_price_is_for_a_million_tokens():
    assert TokenPrice(2.0, 10.0).cost(500_000, 100_000) == pytest.approx(2.0)


def test_a_price_is_found_by_the_exact_name_of_the_model(prices):
    table = prices("other,9,9,x,y", '"m (Q4, small)",0.5,1.25,x,y', "m,1,2,x,y")
    assert price_of("m (Q4, small)", table) == TokenPrice(0.5, 1.25)
    assert price_of("m", table) == TokenPrice(1.0, 2.0)
    assert price_of("M", table) is None


def test_a_price_table_saved_by_a_spreadsheet_is_read(prices):
    table = prices("m,1,2,x,y")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert price_of("m", table) == TokenPrice(1.0, 2.0)


@pytest.mark.parametrize(
    "line", ["m,cheap,2", "m,,2", "m,1", '"m","1,5",', "m,-1,2", "m,nan,2", "m,1,inf"]
)
def test_a_price_that_is_no_number_from_zero_upwards_is_refused_with_its_line(line, prices):
    with pytest.raises(TeacherError, match=r"prices\.csv, line 3: "):
        price_of("m", prices("other,1,1,x,y", line))


def test_a_table_without_the_columns_is_refused(tmp_path):
    (tmp_path / "prices.csv").write_text("model,price\nm,1\n")
    with pytest.raises(TeacherError, match="line 2: the price of m is not two numbers"):
        price_of("m", tmp_path / "prices.csv")


@pytest.mark.parametrize(
    "content",
    [None, HEAD.encode() + "نموذج,1,2".encode("windows-1256")],
    ids=["not there", "not UTF-8"],
)
def test_a_table_that_cannot_be_read_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "prices.csv").write_bytes(content)
    with pytest.raises(TeacherError, match=r"prices\.csv"):
        price_of("m", tmp_path / "prices.csv")


def test_the_kits_own_table_is_read():
    from bimedix_utils.core.provenance import ROOT

    assert price_of("no such model", ROOT / "data" / "prices.csv") is None


# The meter


def test_a_reservation_holds_the_worst_case_until_it_is_settled():
    meter = Meter(PRICE, 2 * WORST + 1)
    assert [meter.reserve(question()) for _ in range(3)] == [True, True, False]
    meter.settle(question(), Answer("id", "text", usage=usage(1, 1)))
    assert (meter.run.spent, meter.run.reserved) == (2.0, WORST)
    assert not meter.reserve(question()) and meter.reserve(question(most=9))


def test_the_worst_case_is_an_answer_of_full_length_and_more_than_the_guess_at_the_prompt():
    assert Meter(TokenPrice(0.0, DOLLAR), 0.0).worst(question(most=77)) == 77.0
    assert Meter(TokenPrice(DOLLAR, 0.0), 0.0).worst(question("x" * 400)) >= 200.0


def test_a_limit_may_be_spent_to_the_last_cent():
    assert Meter(PRICE, WORST).reserve(question())
    assert not Meter(PRICE, WORST - 0.01).reserve(question())


def test_a_free_model_needs_no_limit():
    meter = Meter(TokenPrice(0.0, 0.0), 0.0)
    assert (
        meter.reserve(question())
        and meter.settle(question(), Answer("id", "text", usage=usage(1, 1))) == 0.0
    )


@pytest.mark.parametrize("counted", [{}, {"prompt_tokens": 1}, {"completion_tokens": 1}])
def test_an_answer_without_a_count_is_booked_at_the_worst_case(counted):
    meter = Meter(PRICE, LIMIT)
    meter.reserve(question())
    assert meter.settle(question(), Answer("id", "text", usage=counted)) is None
    assert (meter.run.spent, meter.run.reserved) == (WORST, 0.0)


def test_a_failure_gives_its_reservation_back():
    meter = Meter(PRICE, WORST)
    meter.reserve(question())
    meter.settle(question(), Answer("id", None, error="HTTP 500"))
    assert (meter.run.spent, meter.run.reserved) == (0.0, 0.0) and meter.reserve(question())


# The limit in a run


USAGES = {
    "as long as may be": (usage(1, 10), 11),
    "twice the guess at the prompt": (usage(2, 10), 12),
    "short": (usage(1, 1), 2),
    "nothing": (usage(0, 0), 0),
    "not counted": (None, WORST),
    "half counted": ({"completion_tokens": 3}, WORST),
    "counted as text": ({"prompt_tokens": "1", "completion_tokens": "1"}, WORST),
    "counted below zero": (usage(-100, 10), WORST),
    "with the words of a chat template": (usage(1 + 20, 10), 31),
}


@pytest.mark.parametrize("counted, cost", USAGES.values(), ids=USAGES)
def test_the_limit_is_never_exceeded_whatever_the_answers_say_they_took(
    counted, cost, stub, teacher
):
    """`cost` is what an answer took, or the worst case where that is not counted."""
    stub.default = completion("text", usage=counted)
    requests = words(teacher, 30)
    outcome = fill_store(teacher, requests)
    assert stub.total * cost <= LIMIT
    assert stub.total == 30 or (stub.total >= 1 and outcome.stopped == "the budget is spent")


def test_what_an_unreadable_answer_may_have_cost_counts_for_the_limit(stub, teacher):
    """A body with status 200 was produced and is charged, whether or not it can be read."""
    stub.default = {"choices": [], "usage": usage(1, 10)}
    fill_store(teacher, words(teacher, 10))
    assert stub.total * 11 <= LIMIT


def test_the_budget_lasts_as_long_as_answers_are_cheap(stub, teacher):
    """Two dollars each: as long as the worst case of one more fits, it is sent."""
    stub.default = completion("text", usage=usage(1, 1))
    fill_store(teacher, words(teacher, 100))
    assert stub.total == (LIMIT - WORST) // 2 + 1


def test_what_the_budget_left_out_is_held_and_is_sent_with_the_next_one(stub, teacher):
    stub.default = completion("{}", usage=None)
    requests = words(teacher, 5)
    answers = ask(teacher, requests)
    held = [a for a in answers.values() if a.text is None]
    assert {a.error for a in held} == {"not sent: the budget is spent"} and {
        parse_answer(a, Teacher)[0] for a in held
    } == {"held"}
    assert (stub.total, len(held)) == (3, 2)
    ask(again(teacher), requests)
    assert (stub.total, set(stub.counts.values())) == (5, {1})


def test_a_request_above_the_limit_is_not_sent(stub, teacher):
    """It said "the budget is spent", of which nothing had been spent."""
    stopped = fill_store(
        teacher.model_copy(update={"max_cost_usd": WORST - 0.5}), words(teacher, 3)
    ).stopped
    assert (
        stopped == f"one request may cost {WORST:.2f} US dollars, more than MAX_COST_USD ="
        f" {WORST - 0.5:.2f}"
    )
    assert stub.total == 0


def test_why_the_run_stopped_is_printed(stub, teacher, capsys):
    stub.default = completion("text", usage=None)
    fill_store(teacher, words(teacher, 9))
    assert "teacher: the budget is spent" in capsys.readouterr().out


def test_the_limit_holds_for_all_calls_of_a_run_together(stub, teacher):
    """Each call had the whole limit to itself: a preview, the rest and their repairs spent 4.40
    under a limit of 2.00.
    """
    stub.default = completion("no JSON", usage=usage(50, 10))
    teacher = teacher.model_copy(update={"max_cost_usd": 25 * WORST})
    requests = words(teacher, 40)
    preview = ask_structured(
        teacher.model_copy(update={"send": True}), requests[:2], lambda _: Estimate
    )
    rest = ask_structured(teacher, requests[2:], lambda _: Estimate)
    assert 2 < stub.total * 60 <= 25 * WORST and teacher.spending.booked == stub.total * 60
    assert {status for status, *_ in [*preview, *rest]} == {"parse_failed", "held"}
    ask(again(teacher), words(teacher, 41)[-1:])
    assert teacher.spending.booked == (stub.total - 1) * 60, "another run counts for itself"


@pytest.mark.parametrize(
    "status, charged", [(408, True), (502, True), (504, True), (503, False), (500, False)]
)
def test_what_a_gateway_gave_up_on_may_have_been_charged(status, charged, stub, teacher):
    """A limit with room for three requests let fifty tries out, each of which the model behind the
    gateway may have answered.
    """
    stub.default = status
    fill_store(teacher, words(teacher, 4))
    assert (stub.total <= 3) == charged and (teacher.spending.booked > 2 * WORST) == charged


def test_what_was_under_way_when_a_run_was_stopped_stays_booked(stub, teacher):
    stub.default = completion("text", usage=usage(1, 1))
    stub.program("w000", "hang")
    stub.program("w001", 401)
    with pytest.raises(TeacherError, match="HTTP 401"):
        fill_store(teacher.model_copy(update={"concurrency": 2}), words(teacher, 2))
    assert (teacher.spending.spent, teacher.spending.reserved) == (0.0, WORST)


def test_what_was_booked_and_not_counted_is_shown(stub, teacher):
    """The ledger showed 0.00 dollars for answers that were booked at their worst case, and stopped
    the run all the same.
    """
    stub.default = completion("text", usage=None)
    fill_store(teacher, words(teacher, 9))
    assert teacher.ledger.rows()[0][-1] == f"0.00 and up to {3 * WORST:.2f} not counted"


BAD = [{"max_cost_usd": value} for value in (float("nan"), float("inf"), -1.0)] + [
    {"max_tokens": 0},
    {"max_tokens": -100},
]


@pytest.mark.parametrize("setting", BAD, ids=map(str, BAD))
def test_a_limit_that_is_none_is_refused(setting):
    """With nan nothing was ever above the limit, and with a negative length every request was
    cheap.
    """
    with pytest.raises(ValueError, match=next(iter(setting))):
        Teacher(backend="http", model="m", **setting)
    names = {"max_cost_usd": "MAX_COST_USD", "max_tokens": "ANSWER_TOKENS"}
    given = {name: parameter.default for name, parameter in TEACHER_PARAMETERS.items()}
    given |= {names[field]: value for field, value in setting.items()}
    with pytest.raises(ParameterError, match=next(iter(setting))):
        Teacher.from_parameters(given)


# May it be sent at all?


def never(*_, **__):
    pytest.fail("a request was sent")


@pytest.mark.parametrize("backend", ["http", "ray"])
def test_a_remote_model_without_a_price_is_refused(backend, teacher, monkeypatch):
    monkeypatch.setattr(http, "send_requests", never)
    monkeypatch.setattr(ray_backend, "send_with_ray", never)
    unknown = teacher.model_copy(
        update={
            "backend": backend,
            "model": "new",
            "url": "https://example.org/v1",
            "allow_remote": True,
        }
    )
    with pytest.raises(TeacherError, match="no price for 'new' in data/prices.csv: add a line"):
        fill_store(unknown, words(unknown, 1))
    with pytest.raises(TeacherError, match="no price for 'new'"):
        fill_store(unknown.model_copy(update={"prices": None}), words(unknown, 1))


def test_a_loopback_model_without_a_price_is_free(stub, teacher):
    local = teacher.model_copy(update={"model": "new", "max_cost_usd": 0.0})
    assert not fill_store(local, words(local, 3)).stopped and stub.total == 3


def test_one_remote_endpoint_among_local_ones_makes_a_model_not_free():
    assert Teacher(
        backend="ray", model="m", url="http://127.0.0.1:1/v1 http://localhost:2/v1"
    ).price() == TokenPrice(0.0, 0.0)
    assert (
        Teacher(
            backend="ray", model="m", url="http://127.0.0.1:1/v1 https://example.org/v1"
        ).price()
        is None
    )


@pytest.mark.parametrize("line", [f"m,{DOLLAR},0,x,y", f"m,0,{DOLLAR},x,y"])
def test_a_model_that_costs_money_needs_a_limit_even_on_this_machine(line, stub, teacher, prices):
    with pytest.raises(TeacherError, match="m costs money and MAX_COST_USD is 0"):
        fill_store(
            teacher.model_copy(update={"max_cost_usd": 0.0, "prices": prices(line)}),
            words(teacher, 1),
        )
    assert stub.total == 0


@pytest.mark.parametrize("backend", ["batch", "ray"])
def test_an_executor_that_cannot_stop_in_between_refuses_beforehand(
    backend, stub, teacher, monkeypatch, tmp_path
):
    monkeypatch.setattr(ray_backend, "send_with_ray", never)
    with pytest.raises(
        TeacherError,
        match=(
            r"these requests may cost \d+\.00 US dollars, MAX_COST_USD is 43.00; nothing was sent"
        ),
    ):
        fill_store(
            teacher.model_copy(update={"backend": backend, "max_cost_usd": 43.0}), words(teacher, 4)
        )
    assert stub.total == 0 and not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("backend", ["batch", "ray"])
def test_an_executor_that_cannot_stop_in_between_may_go_up_to_the_limit(
    backend, teacher, monkeypatch, tmp_path
):
    """The workers of `ray` send every try on their own: all of them must fit."""
    handed = []
    monkeypatch.setattr(ray_backend, "send_with_ray", lambda missing, *_: handed.extend(missing))
    limit = LIMIT * (http.ATTEMPTS if backend == "ray" else 1)
    fill_store(
        teacher.model_copy(update={"backend": backend, "max_cost_usd": limit}), words(teacher, 3)
    )
    assert (
        len(handed) + sum(len(path.read_text().splitlines()) for path in tmp_path.rglob("*.jsonl"))
        == 3
    )


# The estimate


def test_an_estimate_counts_distinct_requests_and_sends_nothing(stub, teacher):
    stub.default = completion("text", usage=usage(3, 4))
    fill_store(teacher, words(teacher, 3))
    seen = stub.total
    requests = words(teacher, 8)
    found = estimate_requests(teacher, iter([*requests, *requests[:4]]))
    shown = dict(found.rows())
    assert (shown["requests"], shown["answered already"], shown["to send"], found.to_send) == (
        "8",
        "3",
        "5",
        5,
    )
    assert (found.prompt_tokens, found.prompt_tokens_most, found.completion_tokens_most) == (
        5,
        5 * (4 + 64),
        50,
    )
    assert (found.most_usd, found.mean_completion, found.expected_usd) == (390.0, 4.0, 25.0)
    assert stub.total == seen


def test_an_estimate_is_not_changed_by_answers_of_other_models_and_stages(stub, teacher):
    stub.default = completion("text", usage=usage(3, 4))
    other = teacher.model_copy(update={"model": "free", "prices": None})
    fill_store(other, words(other, 2))
    fill_store(teacher, [teacher.request("score", "row:1", "v1", "word")])
    assert estimate_requests(teacher, words(teacher, 2)).mean_completion is None


def test_an_estimate_counts_nothing_in_the_ledger_and_needs_no_permission(teacher):
    remote = teacher.model_copy(update={"url": "https://example.org/v1"})
    assert estimate_requests(remote, words(remote, 2)).to_send == 2 and remote.ledger.rows() == []


def test_an_estimate_for_replay_counts_what_an_endpoint_would_be_asked(teacher):
    recorded = Teacher(backend="replay", model="m", answers=teacher.answers, max_tokens=10)
    found = estimate_requests(recorded, words(recorded, 2))
    assert (found.to_send, found.completion_tokens_most, found.most_usd) == (
        2,
        20,
        None,
    ) and not teacher.answers.exists()


def test_an_estimate_shows_what_is_not_known_as_not_found():
    unknown = Estimate()
    for stored in [True] * 200 + [False] * 1000:
        unknown.add(question(), stored)
    rows = dict(unknown.rows())
    assert (rows["requests"], rows["answered already"], rows["to send"]) == (
        "1,200",
        "200",
        "1,000",
    )
    assert [value for value in rows.values() if value == "not found"] == ["not found"] * 3


def test_an_estimate_reckons_hours_at_the_concurrency():
    slow = Estimate(mean_seconds=40.0, concurrency=8)
    for stored in [True] * 100 + [False] * 720:
        slow.add(question(), stored)
    assert slow.hours == pytest.approx(1.0)


def test_means_are_weighted_by_answers_and_leave_out_what_was_not_counted():
    totals = [
        {
            "model": "m",
            "stage": "a",
            "answers": 3,
            "counted": 3,
            "mean_completion": 10.0,
            "mean_seconds": 1.0,
        },
        {
            "model": "m",
            "stage": "b",
            "answers": 2,
            "counted": 1,
            "mean_completion": 50.0,
            "mean_seconds": None,
        },
        {
            "model": "m",
            "stage": "c",
            "answers": 9,
            "counted": 9,
            "mean_completion": 99.0,
            "mean_seconds": 9.0,
        },
    ]
    assert mean_usage(totals, "m", {"a", "b"}) == (20.0, 1.0)
    assert mean_usage(totals, "other", {"a", "b"}) == (None, None)


def test_a_mean_is_of_the_answers_that_were_counted(stub, teacher):
    """Two of four answers have no count: the mean of the stage is that of the other two, and so is
    its weight.
    """
    free = teacher.model_copy(update={"model": "free", "concurrency": 1})
    for text, counted in (
        ("w000", usage(1, 10)),
        ("w001", None),
        ("w002", None),
        ("w003", usage(1, 20)),
    ):
        stub.program(text, completion("text", usage=counted))
    fill_store(free, words(free, 4))
    fill_store(free, [free.request("score", "row:1", "v1", "word")])
    found = estimate_requests(free, [*words(free, 5), free.request("score", "row:1", "v1", "word")])
    assert found.mean_completion == pytest.approx((10 + 20 + 5) / 3)


# The ledger


def test_the_ledger_counts_what_was_asked_answered_bought_and_spent(stub, teacher):
    stub.default = completion("text", usage=usage(1, 2))
    stub.program("w001", 400)
    requests = words(teacher, 4)
    ask(teacher, [*requests, requests[0]])
    row = dict(zip(LEDGER_COLUMNS, teacher.ledger.rows()[0], strict=True))
    assert row == {
        "stage": "translate",
        "requests": 4,
        "answered": 3,
        "of these new": 3,
        "failed": 1,
        "prompt tokens": 3,
        "completion tokens": 6,
        "US dollars": "9.00",
    }


def test_a_second_run_buys_nothing_and_spends_nothing(stub, teacher):
    fill_store(teacher, words(teacher, 3))
    fresh = teacher.model_copy(update={"ledger": Ledger()})
    fill_store(fresh, words(fresh, 3))
    assert fresh.ledger.rows() == [("translate", 3, 3, 0, 0, 0, 0, "0.00")]


def test_asking_twice_in_a_row_counts_both_and_buys_once(stub, teacher):
    for _ in range(2):
        fill_store(teacher, words(teacher, 3))
    assert teacher.ledger.rows() == [("translate", 6, 6, 3, 0, 9, 15, "24.00")]


def test_what_was_not_sent_has_not_failed(stub, teacher, monkeypatch):
    """Stopped after four failures: the request that was waiting for its next try is held like those
    that were never begun.
    """
    monkeypatch.setattr(pacing, "FAILURES_IN_A_ROW", 4)
    stub.default = 400
    stub.program("w000", (500, {"Retry-After": "0.3"}))
    free = teacher.model_copy(update={"model": "free", "concurrency": 2})
    answers = ask(free, words(free, 9))
    failed = [a for a in answers.values() if parse_answer(a, Teacher)[0] == "failed"]
    assert free.ledger.stages["translate"].failed == len(failed) == 4


def test_the_history_of_a_store_is_everything_ever_bought(stub, teacher):
    stub.default = completion("text", usage=usage(1, 2))
    fill_store(teacher, words(teacher, 2))
    stub.default = completion("text", usage=None)
    other = teacher.model_copy(update={"model": "free", "ledger": Ledger()})
    fill_store(other, words(other, 1))
    assert HISTORY_COLUMNS == [
        "model",
        "stage",
        "answers",
        "prompt tokens",
        "completion tokens",
        "US dollars",
        "mean seconds",
    ]
    assert [row[:-1] for row in store_history(other)] == [
        ("free", "translate", 1, "not found", "not found", "not found"),
        ("m", "translate", 2, "2", "4", "6.00"),
    ]


def test_every_teacher_has_a_ledger_of_its_own():
    one, two = (Teacher(backend="replay", model="m") for _ in range(2))
    one.ledger.stage("translate").requests += 1
    assert two.ledger.rows() == [] and "ledger" not in repr(one)
