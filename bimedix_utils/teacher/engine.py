"""Ask the teacher: read the store, estimate the cost, send what is missing, store each answer."""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..core.errors import TeacherError
from . import batch, http, ray_backend, replay
from .ledger import Estimate, Meter, TokenPrice, mean_usage, number_or_not_found
from .parsing import parse_answer
from .permission import require_local_or_allowed
from .requests import Request
from .settings import Teacher
from .store import Answer, Store

REPAIRABLE = 20_000  # characters: a longer broken answer is not shown to the teacher again
HISTORY_COLUMNS = (
    "model,stage,answers,prompt tokens,completion tokens,US dollars,mean seconds"
).split(",")
Structured = tuple[str, BaseModel | None, str]  # (status, value, note), see `parse_answer`


@dataclass
class Outcome:
    """What sending left without an answer (request id -> why), and why the run stopped early."""

    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""


def estimate_requests(teacher: Teacher, requests: Iterable[Request]) -> Estimate:
    """What sending these requests would take; for `replay` what an endpoint would be asked."""
    with closing(Store(None if teacher.backend == "replay" else teacher.answers)) as store:
        return _survey(store, teacher, requests)[0]


def store_history(teacher: Teacher) -> list[tuple]:
    """All that the teacher's store has ever bought, as table rows, see `HISTORY_COLUMNS`."""
    forms = {
        "prompt_tokens": ",",
        "completion_tokens": ",",
        "cost_usd": ".2f",
        "mean_seconds": ".2f",
    }
    with closing(Store(teacher.answers)) as store:
        totals = store.totals()
    return [
        (
            *(row[name] for name in ("model", "stage", "answers")),
            *(number_or_not_found(row[name], form) for name, form in forms.items()),
        )
        for row in totals
    ]


def _survey(
    store: Store, teacher: Teacher, requests: Iterable[Request]
) -> tuple[Estimate, set[bytes]]:
    """The estimate, and the raw ids of the requests without a stored answer."""
    result = Estimate(price=teacher.price(), concurrency=teacher.concurrency)
    missing: set[bytes] = set()
    seen: set[bytes] = set()
    for request, stored in store.known(requests):
        if (raw := bytes.fromhex(request.id)) in seen:
            continue
        seen.add(raw)
        result.add(request, stored)
        if not stored:
            missing.add(raw)
    usage = mean_usage(store.totals(), teacher.model, set(result.asked))
    result.mean_completion, result.mean_seconds = usage
    return result, missing


def _check_permission(teacher: Teacher, todo: Estimate) -> None:
    """Raises `TeacherError` when these requests may not be sent or might cost too much."""
    if not teacher.url:
        raise TeacherError(
            "TEACHER_URL is empty: give the base URL of an OpenAI-compatible endpoint"
        )
    for url in teacher.url.split():
        require_local_or_allowed(url, teacher.allow_remote, sending=f"{todo.to_send:,} rows")
    if teacher.backend == "http" and len(teacher.url.split()) > 1:
        raise TeacherError("http asks one endpoint; several addresses are for TEACHER = ray")
    # Workers cannot be asked to stop one by one: every try of every request must fit beforehand.
    most = (todo.most_usd or 0.0) * http.ATTEMPTS if teacher.backend == "ray" else 0.0
    _check_budget(teacher, todo.price, most, teacher.spending.booked)


def _check_budget(
    teacher: Teacher, price: TokenPrice | None, most_usd: float, booked: float
) -> None:
    """Raises `TeacherError` for an unknown price, and when the limit has no room for `most_usd`."""
    if price is None:
        raise TeacherError(
            f"no price for {teacher.model!r} in data/prices.csv: add a line (zeros if it costs"
            " nothing), so that MAX_COST_USD can be kept"
        )
    if max(price.prompt, price.completion) > 0 and teacher.max_cost_usd <= 0:
        raise TeacherError(
            f"{teacher.model} costs money and MAX_COST_USD is 0: set the most you want to spend"
        )
    if most_usd and booked + most_usd > teacher.max_cost_usd:
        beside = f", beside {booked:.2f} for what was asked before" if booked else ""
        raise TeacherError(
            f"these requests may cost {most_usd:.2f} US dollars{beside}, MAX_COST_USD is"
            f" {teacher.max_cost_usd:.2f}; nothing was sent"
        )


def fill_store(teacher: Teacher, requests: Iterable[Request]) -> Outcome:
    """Make the store hold an answer to every request; equal requests are asked once.

    Of each request only the id is kept in memory (`batch` keeps those to be written). `requests`
    is read two or three times: a list, or an object that can be iterated again. Raises
    `TeacherError` before anything is sent when the teacher may not or cannot be asked or has no
    store on disk, and at once when an answer cannot be stored.
    """
    if isinstance(requests, Iterator):
        raise TypeError(
            "the requests are read twice: give a list, or an object that can be iterated again"
        )
    if teacher.backend == "replay":
        raise TeacherError("replay has recordings and fills no store: use `ask`")
    if teacher.answers is None:
        raise TeacherError("there is no answer store to fill: what is bought would be thrown away")
    with closing(Store(teacher.answers, fill=True)) as store:
        return _fill(store, teacher, requests)


def _fill(store: Store, teacher: Teacher, requests: Iterable[Request]) -> Outcome:
    outcome = Outcome()
    todo, missing = _survey(store, teacher, requests)
    teacher.ledger.looked_up(todo)
    if not todo.to_send:
        return outcome
    if not teacher.send:
        outcome.stopped = "SEND says no"
        return outcome
    if teacher.backend != "batch":  # which checks later: what came back is imported in any case
        _check_permission(teacher, todo)
    meter = Meter(todo.price, teacher.max_cost_usd, teacher.spending)

    def book(request: Request, answer: Answer) -> float | None:
        if teacher.backend == "batch":  # it counted for the limit when it was written
            return meter.cost(request, answer)
        return meter.settle(request, answer, reserved=teacher.backend == "http")

    with _progress(todo.to_send) as bar:

        def deliver(answers: list[tuple[Request, Answer]]) -> None:
            settled = [(request, answer, book(request, answer)) for request, answer in answers]
            if good := [row for row in settled if row[1].text is not None]:
                store.put(good)
            for request, answer, cost in settled:
                teacher.ledger.bought(request, answer, cost, meter.uncounted(request, answer))
                if answer.text is None:
                    outcome.failed[request.id] = answer.error
            spent = f"{teacher.spending.spent:.2f}"
            bar.set_postfix({"failed": len(outcome.failed), "US$": spent}, refresh=False)
            bar.update(len(answers))

        to_send = _take(requests, missing, teacher)
        outcome.stopped = _execute(store, teacher, to_send, deliver, meter)
    if outcome.stopped:
        print(f"teacher: {outcome.stopped}")
    return outcome


def _take(requests: Iterable[Request], ids: set[bytes], teacher: Teacher) -> Iterator[Request]:
    """The first request of each of these ids.

    For `http` some drawn from all over come first. Rows that an endpoint refuses are often
    neighbours; at the beginning they would look like an endpoint that refuses everything.
    """
    few = http.HttpEndpoint(teacher.url, teacher.concurrency).failures_tolerated
    if teacher.backend == "http" and len(ids) > few:
        # a generator of its own: the seeds of the run must not move
        probes = set(random.Random().sample(tuple(ids), few))
        ids -= probes
        yield from _first_of_each(requests, probes)
    yield from _first_of_each(requests, ids)


def _first_of_each(requests: Iterable[Request], ids: set[bytes]) -> Iterator[Request]:
    for request in requests:
        if (raw := bytes.fromhex(request.id)) in ids:
            ids.remove(raw)
            yield request
            if not ids:
                return


def _execute(
    store: Store, teacher: Teacher, missing: Iterator[Request], deliver: Callable, meter: Meter
) -> str:
    """Hand the requests to the executor. Returns why the run stopped early, or ""."""
    if teacher.backend == "batch":
        if teacher.answers is None:
            raise TeacherError(
                "batch needs an answer store on disk: its folder holds the request files"
            )

        def approve(todo: list[Request], due: Iterable[Request]) -> None:
            # The limit holds for all that may be due at once: what is written now, and what was
            # written before and has not come back.
            worst = sum(map(meter.worst, todo))
            _check_budget(teacher, meter.price, worst, sum(map(meter.worst, due)))

        folder = teacher.batch_folder
        return batch.exchange_batch_files(missing, folder, deliver, approve, store.stored)
    endpoint = http.HttpEndpoint(
        " ".join(url.rstrip("/") for url in teacher.url.split()),
        teacher.concurrency,
        teacher.timeout,
        teacher.requests_per_minute,
        teacher.tokens_per_minute,
    )
    if teacher.backend == "ray":
        ray_backend.send_with_ray(missing, endpoint, teacher.workers, deliver)
        return ""
    limits = (meter.reserve, meter.release, teacher.pace)
    stopped = http.send_requests(missing, endpoint, deliver, *limits)
    if stopped == http.BUDGET_SPENT and meter.refused > meter.limit:
        return (
            f"one request may cost {meter.refused:.2f} US dollars, more than MAX_COST_USD ="
            f" {meter.limit:.2f}"
        )
    return stopped


def _progress(total: int) -> Any:
    """A bar with done, rate, remaining time, failures and cost; in a log a line now and then."""
    from tqdm.auto import tqdm as notebook_bar
    from tqdm.std import tqdm as plain_bar

    if os.environ.get("BIMEDIX_BATCH"):
        return plain_bar(total=total, desc="teacher", unit="answer", mininterval=30, ascii=True)
    return notebook_bar(total=total, desc="teacher", unit="answer", mininterval=0.5, leave=False)


def ask(teacher: Teacher, requests: list[Request]) -> dict[str, Answer]:
    """An `Answer` for every request, by request id; without an answer its text is None.

    Raises `TeacherError` as `fill_store` does.
    """
    requests = list(requests)
    if teacher.backend == "replay":
        if teacher.recordings is None:
            raise TeacherError("replay needs the folder of recordings")
        found = replay.recorded_answers(requests, teacher.recordings)
        for request in {request.id: request for request in requests}.values():
            entry = teacher.ledger.stage(request.stage)
            entry.requests += 1
            entry.answered += found[request.id].text is not None
        return found
    with closing(Store(teacher.answers, fill=teacher.send)) as store:
        outcome = _fill(store, teacher, requests)
        found = store.get({request.id for request in requests})
    why = f"not sent: {outcome.stopped}"
    if teacher.backend == "batch" and teacher.send:
        why = batch.WAITING_FOR_BATCH
    for request in requests:
        if request.id not in found:
            found[request.id] = Answer(request.id, None, error=outcome.failed.get(request.id, why))
    return found


def ask_structured(
    teacher: Teacher,
    requests: list[Request],
    schema: Callable[[Request], type[BaseModel]],
    ask: Callable[..., dict[str, Answer]] = ask,
) -> list[Structured]:
    """(status, value, note) of each request, in order; an unreadable answer gets one repair turn.

    A repair is a request of its own (stage `repair_<stage>`), stored and paid once like any other.
    One that was not asked yet leaves the row `held`, one that could not be asked `failed`: the next
    run asks for it. A repair without a recording leaves the row `parse_failed`.
    """
    requests = list(requests)
    answers = ask(teacher, requests)
    outcomes = [parse_answer(answers[request.id], schema(request)) for request in requests]
    repairs: dict[int, Request] = {}
    for index, (status, _, note) in enumerate(outcomes):
        text = answers[requests[index].id].text
        if status == "parse_failed" and len(text) <= REPAIRABLE:
            repairs[index] = requests[index].repair(text, note)
    repaired = ask(teacher, list(repairs.values())) if repairs else {}
    for index, repair in repairs.items():
        status, value, note = parse_answer(repaired[repair.id], schema(requests[index]))
        problem = outcomes[index][2]
        if status == "ok":
            outcomes[index] = ("ok", value, f"repaired: {problem}")
        elif status in ("held", "failed") and teacher.backend != "replay":
            outcomes[index] = (status, None, f"{note}; repair of: {problem}")
        else:
            outcomes[index] = ("parse_failed", None, f"{problem}; repair {status}")
    return outcomes
