"""Ask the teacher: look into the store, say what sending would take, send what is missing, store
each answer before anybody reads it.
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..core.errors import TeacherError
from . import batch, http, ray_backend, replay
from .ledger import Estimate, Meter, Price, mean_usage
from .parsing import parse_answer
from .permission import require_local_or_allowed
from .requests import Request
from .settings import Teacher
from .store import Answer, Store

REPAIRABLE = 20_000  # characters: a longer broken answer is not shown to the teacher again


@dataclass
class Outcome:
    """What sending left without an answer: request id -> why, and why the run stopped early, or ""."""

    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""


def estimate_requests(teacher: Teacher, requests: Iterable[Request]) -> Estimate:
    """What sending these requests would take. Sends nothing; for `replay` what an endpoint would be
    asked.
    """
    with closing(Store(None if teacher.backend == "replay" else teacher.answers)) as store:
        return _survey(store, teacher, requests)[0]


HISTORY_COLUMNS = [
    "model",
    "stage",
    "answers",
    "prompt tokens",
    "completion tokens",
    "US dollars",
    "mean seconds",
]


def store_history(teacher: Teacher) -> list[tuple]:
    """Everything the teacher's store has ever bought, as table rows, see `HISTORY`; `not found`
    where the endpoint counted nothing.
    """

    def shown(value: float | None, form: str) -> str:
        return "not found" if value is None else format(value, form)

    with closing(Store(teacher.answers)) as store:
        return [
            (row["model"], row["stage"], row["answers"], shown(row["prompt_tokens"], ","), shown(row["completion_tokens"], ","),
             shown(row["cost_usd"], ".2f"), shown(row["mean_seconds"], ".2f"))
            for row in store.totals()
        ]  # fmt: skip


def _survey(
    store: Store, teacher: Teacher, requests: Iterable[Request]
) -> tuple[Estimate, set[bytes]]:
    """What is stored and what is not: the estimate, and the raw ids of the missing ones."""
    result, missing, seen = (
        Estimate(price=teacher.price(), concurrency=teacher.concurrency),
        set(),
        set(),
    )
    for request, stored in store.known(requests):
        if (raw := bytes.fromhex(request.id)) in seen:
            continue
        seen.add(raw)
        result.add(request, stored)
        if not stored:
            missing.add(raw)
    result.mean_completion, result.mean_seconds = mean_usage(
        store.totals(), teacher.model, set(result.asked)
    )
    return result, missing


def _permitted(teacher: Teacher, todo: Estimate) -> None:
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
    _affordable(teacher, todo.price, most, teacher.spending.booked)


def _affordable(teacher: Teacher, price: Price | None, most_usd: float, before: float) -> None:
    """Raises `TeacherError` unless the model has a price and the limit has room for `most_usd`
    beside what was booked `before`.
    """
    if price is None:
        raise TeacherError(
            f"no price for {teacher.model!r} in data/prices.csv: add a line (zeros if it costs"
            " nothing), so that MAX_COST_USD can be kept"
        )
    if max(price.prompt, price.completion) > 0 and teacher.max_cost_usd <= 0:
        raise TeacherError(
            f"{teacher.model} costs money and MAX_COST_USD is 0: set the most you want to spend"
        )
    if most_usd and before + most_usd > teacher.max_cost_usd:
        beside = f", beside {before:.2f} for what was asked before" if before else ""
        raise TeacherError(
            f"these requests may cost {most_usd:.2f} US dollars{beside}, MAX_COST_USD is"
            f" {teacher.max_cost_usd:.2f}; nothing was sent"
        )


def fill_store(teacher: Teacher, requests: Iterable[Request]) -> Outcome:
    """Make the store hold an answer to every request. Equal requests are asked once, stored ones
    not again.

    Of each distinct request only the id is kept in memory (`batch` keeps those to be written).
    `requests` is read two or three times (a list, or an object whose iterator starts anew). Raises
    `TeacherError` before anything is sent when the teacher may not or cannot be asked or has no
    store on disk to fill, and at once when an answer cannot be stored.
    """
    if isinstance(requests, Iterator):
        raise TypeError(
            "the requests are read twice: give a list, or an object whose iterator starts anew"
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
    if (
        teacher.backend != "batch"
    ):  # which asks before it writes: what came back is imported, whatever it cost
        _permitted(teacher, todo)
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
            bar.set_postfix(
                {"failed": len(outcome.failed), "US$": f"{teacher.spending.spent:.2f}"},
                refresh=False,
            )
            bar.update(len(answers))

        outcome.stopped = _execute(
            store, teacher, _take(requests, missing, teacher), deliver, meter
        )
    if outcome.stopped:
        print(f"teacher: {outcome.stopped}")
    return outcome


def _take(requests: Iterable[Request], ids: set[bytes], teacher: Teacher) -> Iterator[Request]:
    """The first request of each of these ids.

    For `http` some drawn from all over come first: rows that the endpoint refuses, and refuses
    again in the next run, often stand together, and at the beginning they would pass for an
    endpoint that refuses everything.
    """
    few = http.HttpEndpoint(teacher.url, teacher.concurrency).failures_borne()
    if teacher.backend == "http" and len(ids) > few:
        probes = set(
            random.Random().sample(tuple(ids), few)
        )  # of its own: it must not move anybody's seed
        ids -= probes
        yield from _first(requests, probes)
    yield from _first(requests, ids)


def _first(requests: Iterable[Request], ids: set[bytes]) -> Iterator[Request]:
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
    endpoint = http.HttpEndpoint(
        " ".join(url.rstrip("/") for url in teacher.url.split()),
        teacher.concurrency,
        teacher.timeout,
        teacher.requests_per_minute,
        teacher.tokens_per_minute,
    )
    if teacher.backend == "batch":
        if teacher.answers is None:
            raise TeacherError(
                "batch needs an answer store on disk: its folder holds the request files"
            )

        def approve(todo: list[Request], due: Iterable[Request]) -> None:
            # The limit is for all that may be due at once: what is written now, and what was before
            # and has not come back.
            _affordable(
                teacher, meter.price, sum(map(meter.worst, todo)), sum(map(meter.worst, due))
            )

        return batch.exchange_batch_files(
            missing, teacher.batch_folder, deliver, approve, store.stored
        )
    if teacher.backend == "ray":
        ray_backend.send_with_ray(missing, endpoint, teacher.workers, deliver)
        return ""
    stopped = http.send_requests(
        missing, endpoint, deliver, meter.reserve, meter.release, teacher.pace
    )
    if stopped == http.BUDGET_SPENT and meter.refused > meter.limit:
        return (
            f"one request may cost {meter.refused:.2f} US dollars, more than MAX_COST_USD ="
            f" {meter.limit:.2f}"
        )
    return stopped


def _progress(total: int) -> Any:
    """A bar with done, rate, remaining time, failures and cost; a line now and then where nobody
    watches.
    """
    from tqdm.auto import tqdm as notebook_bar
    from tqdm.std import tqdm as plain_bar

    if os.environ.get("BIMEDIX_BATCH"):
        return plain_bar(total=total, desc="teacher", unit="answer", mininterval=30, ascii=True)
    return notebook_bar(total=total, desc="teacher", unit="answer", mininterval=0.5, leave=False)


def ask(teacher: Teacher, requests: list[Request]) -> dict[str, Answer]:
    """An `Answer` for every request, by request id: `fill`, then look up. One that was not answered
    has text None and an error.

    Raises `TeacherError` as `fill` does.
    """
    if teacher.backend == "replay":
        if teacher.recordings is None:
            raise TeacherError("replay needs the folder of recordings")
        found = replay.recorded_answers(requests, teacher.recordings)
        for request in {request.id: request for request in requests}.values():
            entry = teacher.ledger.stage(request.stage)
            entry.requests += 1
            entry.answered += found[request.id].text is not None
        return found
    requests = list(requests)
    with closing(Store(teacher.answers, fill=teacher.send)) as store:
        outcome = _fill(store, teacher, requests)
        found = store.get({request.id for request in requests})
    why = (
        batch.WAITING_FOR_BATCH
        if teacher.backend == "batch" and teacher.send
        else f"not sent: {outcome.stopped}"
    )
    for request in requests:
        if request.id not in found:
            found[request.id] = Answer(request.id, None, error=outcome.failed.get(request.id, why))
    return found


Structured = tuple[str, BaseModel | None, str]  # (status, value, note), see `parsing.read`


def ask_structured(
    teacher: Teacher,
    requests: list[Request],
    schema: Callable[[Request], type[BaseModel]],
    ask: Callable[..., dict[str, Answer]] = ask,
) -> list[Structured]:
    """(status, value, note) of each request, in order; an answer that cannot be read gets one
    repair turn, then its status.

    A repair is a request of its own (stage `repair_<stage>`), stored and paid once like any other.
    One that waits for its turn leaves the row `held`, one that could not be asked `failed`: the
    next run asks for it. A repair without a recording is not waited for.
    """
    requests = list(requests)
    answers = ask(teacher, requests)
    outcomes = [parse_answer(answers[request.id], schema(request)) for request in requests]
    repairs = {
        place: request.repair(answers[request.id].text, note)
        for place, (request, (status, _, note)) in enumerate(zip(requests, outcomes, strict=True))
        if status == "parse_failed" and len(answers[request.id].text) <= REPAIRABLE
    }
    if repairs:
        mended = ask(teacher, list(repairs.values()))
        for place, repair in repairs.items():
            status, value, note = parse_answer(mended[repair.id], schema(requests[place]))
            first, waits = (
                outcomes[place][2],
                status in ("held", "failed") and teacher.backend != "replay",
            )
            if status == "ok":
                outcomes[place] = ("ok", value, f"repaired: {first}")
            elif waits:
                outcomes[place] = (status, None, f"{note}; repair of: {first}")
            else:
                outcomes[place] = ("parse_failed", None, f"{first}; repair {status}")
    return outcomes
