"""Ask any OpenAI-compatible endpoint over HTTP: many requests at once, a rule for every way it
fails, and no key in any message or file.

| what happens | tries | wait before the next |
|---|---|---|
| no connection, connection reset, no answer in time | `ATTEMPTS` | 0.5 s, doubled each time |
| HTTP 408, 409, 425, 5xx | `ATTEMPTS`, or 1 if `Retry-After` is longer than `patience` | the same,
or as `Retry-After` says |
| HTTP 429 | while the waits stay under `patience` | the longer of both; every other request waits
as well |
| HTTP 401 | 1, and the run stops: no key, no answer | |
| any other status | 1 | |
| status 200 and no chat completion in it | `UNREADABLE_ATTEMPTS`: each may have been paid for | 0.5
s, doubled |
| status 200 and the key in the body | 1: it is not kept | |
| a refusal, an answer cut at the limit | 1: they are answers, and are stored | |

A run of `FAILURES_IN_A_ROW` failed requests without one answer between them stops the rest: a dead
endpoint is not asked a million times. HTTP 400, 413 and 422 are verdicts about one row and do not
count there; only when they are all there is from the beginning on is a wrong parameter suspected,
and the rest not sent.
"""

import asyncio
import contextlib
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import TeacherError
from .ledger import most_completion_tokens, tokens_guess
from .permission import api_key
from .requests import Request
from .store import UNREADABLE, Answer, read_body

ATTEMPTS = 5
UNREADABLE_ATTEMPTS = 2
FAILURES_IN_A_ROW = 20  # or the number of requests under way at once, if that is more
BUDGET_SPENT = "the budget is spent"
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
MAX_BODY_BYTES = 8_000_000  # a longer body is not an answer
# characters: a shorter one is a placeholder for a local server, and may well stand in an answer
SHORTEST_KEY = 8
_RETRIED = (408, 409, 425)  # and every 5xx
_CHARGED = (
    408,
    502,
    504,
)  # somebody gave up waiting: the answer may have been made all the same, and be charged
_VERDICTS = ("HTTP 400", "HTTP 413", "HTTP 422")  # about this row, not about the endpoint

Deliver = Callable[[list[tuple[Request, Answer]]], None]


@dataclass(frozen=True)
class HttpEndpoint:
    """Where and how fast to ask. `url` is the base, such as http://127.0.0.1:8000/v1; the limits
    per minute are off at 0.
    """

    url: str
    concurrency: int = 8
    timeout: float = 120.0  # seconds for one answer
    requests_per_minute: float = 0
    # kept with a guess (prompt bytes / 4 plus the most an answer may have), corrected by what comes
    # back
    tokens_per_minute: float = 0
    # seconds one request waits in all for its next tries; a longer `Retry-After` is not waited for
    patience: float = 600.0

    def failures_borne(self) -> int:
        """Failures in a row that do not stop the rest yet: those of requests that were sent
        together are one.
        """
        return max(FAILURES_IN_A_ROW, self.concurrency)


@dataclass
class Pace:
    """When the next request may go, by time.monotonic: all calls of a run share one, so that they
    keep the limits per minute together.
    """

    next_slot: float = 0.0  # the earliest moment the limits per minute allow
    resume_at: float = 0.0  # nobody sends before this moment: the endpoint said 429


def _headers() -> dict[str, str]:
    """What every request carries. Raises `TeacherError` for a key that cannot be sent."""
    if not api_key().isprintable():
        raise TeacherError(
            "the variable TEACHER_API_KEY holds characters that cannot stand in a header"
        )
    return {
        "Content-Type": "application/json",
        **({"Authorization": f"Bearer {api_key()}"} if api_key() else {}),
    }


def _read(request: Request, body: bytes, seconds: float) -> Answer:
    """The answer in a body, see `read_body`; what holds the key, however its letters are escaped,
    is a failure and is not kept.
    """
    text = body.decode("utf-8")
    answer = read_body(request.id, text, seconds)
    if len(api_key()) >= SHORTEST_KEY:
        plain = (
            json.dumps(json.loads(text.removeprefix("\ufeff")), ensure_ascii=False)
            if "\\" in text
            else ""
        )
        if api_key() in text or api_key() in plain or api_key() in answer.text:
            return Answer(request.id, None, error="the answer repeats the key", charged=True)
    return answer


def send_requests(requests: Iterable[Request], endpoint: HttpEndpoint, deliver: Deliver, reserve: Callable[[Request], bool] = lambda request: True,
         release: Callable[[Request], None] = lambda request: None, pace: Pace | None = None) -> str:  # fmt: skip
    """Send every request; hand each answer to `deliver`, in the order of arrival, several at once,
    on a thread of its own.

    A request counts as under way until `deliver` has returned, so that after a kill no more answers
    are lost than were under way. `reserve` is asked before a request is sent, and before another
    try of one that may have been charged; when it says no and nothing is under way that could
    change its mind, the run stops. `release` gives back the reservation of a try that was not sent.
    Returns why the run stopped early, or "". The key, if the endpoint wants one, is taken from the
    variable TEACHER_API_KEY. A plain function that owns its loop and thread, so it works in
    Jupyter, papermill and scripts alike. Raises what `deliver` raises (a full disk, say) and
    `TeacherError` when nobody listens or the key is refused; requests not sent by then are not
    delivered.
    """
    sender = _Sender(endpoint, iter(requests), deliver, reserve, release, pace or Pace())
    failure: list[BaseException] = []
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        try:
            asyncio.run(sender.run())
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    interrupt = None
    try:
        threading.Thread(target=work, name="teacher-http").start()
        # never join(): Python 3.11 and 3.12 take a thread for ended once a join was interrupted
        ended.wait()
    except BaseException as error:
        interrupt = error
    while interrupt and not ended.is_set():
        # Whoever called closes the store next: not before the last answer is in it, however often
        # Ctrl-C is pressed.
        with contextlib.suppress(KeyboardInterrupt):
            sender.interrupt()
            if not ended.wait(1) and not begun.is_set():
                break  # the thread could not be started
    if interrupt:
        raise interrupt
    if failure:
        problem = failure[0]
        while isinstance(problem, BaseExceptionGroup):  # the task group wraps what `deliver` raised
            problem = problem.exceptions[0]
        raise problem
    return sender.stopped


@dataclass
class _Sender:
    endpoint: HttpEndpoint
    queue: Iterator[Request]
    deliver: Deliver
    reserve: Callable[[Request], bool]
    release: Callable[[Request], None]
    pace: Pace
    stopped: str = ""  # why the rest is not sent
    under_way: int = 0
    failures: int = 0  # in a row, verdicts left out
    verdicts: int = 0  # as long as nothing was answered
    answered: bool = False  # was anything, in this call
    arrived: list = field(
        default_factory=list
    )  # (request, answer, future): waiting to be delivered
    interrupted: bool = False
    cancelled: bool = False
    loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        self.task, self.loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.interrupted:
            return
        import aiohttp

        self.jitter = random.Random()  # of its own: it must not move anybody's seed
        await self._somebody_listens()
        limits = aiohttp.ClientTimeout(total=self.endpoint.timeout)
        connector = aiohttp.TCPConnector(limit=self.endpoint.concurrency)
        jar = aiohttp.DummyCookieJar()  # no cookie is kept or sent
        async with aiohttp.ClientSession(
            headers=_headers(), timeout=limits, connector=connector, cookie_jar=jar
        ) as self.session:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.endpoint.concurrency):
                        group.create_task(self._worker())
            finally:
                if (
                    failure := self._hand_over()
                ):  # what has arrived is kept, whatever stopped the run
                    raise failure

    def interrupt(self) -> None:
        """Stop from another thread: what is under way is dropped, what has arrived is kept."""
        self.interrupted = True
        if (
            self.loop is not None and not self.cancelled
        ):  # once: a second time would cut short the end of the first
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self.loop.call_soon_threadsafe(self.task.cancel)
            self.cancelled = True

    async def _somebody_listens(self) -> None:
        parts = urlsplit(self.endpoint.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            _, writer = await asyncio.wait_for(
                asyncio.open_connection(parts.hostname, port), min(self.endpoint.timeout, 30)
            )
            writer.close()
        except (OSError, TimeoutError, UnicodeError):
            raise TeacherError(
                f"nobody answers at {parts.hostname}:{port}; nothing was sent. Is the server"
                " running? (`make serve` starts a small one)"
            ) from None

    async def _worker(self) -> None:
        while not self.stopped and (request := next(self.queue, None)) is not None:
            while not self.reserve(request):
                if not self.under_way:
                    self.stopped = self.stopped or BUDGET_SPENT
                    return
                await asyncio.sleep(0.02)
            self.under_way += 1
            try:
                answer = await self._ask(request)
                if answer is None:
                    self.release(request)
                    return
                self._count(answer)
                delivered = self.loop.create_future()
                self.arrived.append((request, answer, delivered))
                if len(self.arrived) == 1:
                    # At the end of this turn of the loop: one flush of the disk serves all that
                    # arrived in it. On a thread of its own it would wait for the interpreter's lock
                    # longer than the disk takes.
                    self.loop.call_soon(self._hand_over)
                await delivered
            finally:
                self.under_way -= 1

    def _count(self, answer: Answer) -> None:
        """Stop the rest when it would fail like what came before."""
        most, verdict = self.endpoint.failures_borne(), answer.error in _VERDICTS
        if answer.text is not None:
            self.failures, self.answered = 0, True
        elif verdict:
            self.verdicts += 1
        else:
            self.failures += 1
        if self.stopped or answer.text is not None:
            return
        if self.failures >= most:
            self.stopped = f"{self.failures} requests in a row failed, the last with {answer.error}"
        elif verdict and self.verdicts >= most and not self.answered:
            self.stopped = (
                f"{self.verdicts} requests were refused and none was answered, the last with"
                f" {answer.error}: a wrong parameter?"
            )

    def _hand_over(self) -> BaseException | None:
        """Deliver what has arrived, together; a failure goes to every worker that waits for it, and
        is returned.
        """
        batch, self.arrived = self.arrived, []
        if not batch:
            return None
        failure = None
        try:
            self.deliver([(request, answer) for request, answer, _ in batch])
        except BaseException as error:
            failure = error
        for *_, delivered in batch:
            if not delivered.done():
                delivered.set_exception(failure) if failure else delivered.set_result(None)
        return failure

    async def _turn(self, request: Request) -> None:
        """Wait until the limits per minute and a pause the endpoint asked for allow the next
        request.
        """
        gap = 60 / self.endpoint.requests_per_minute if self.endpoint.requests_per_minute else 0.0
        if self.endpoint.tokens_per_minute:
            gap = max(
                gap,
                60
                * (tokens_guess(request) + most_completion_tokens(request))
                / self.endpoint.tokens_per_minute,
            )
        while True:
            while (pause := self.pace.resume_at - time.monotonic()) > 0:
                # Not all at the same moment: the endpoint has just said that it cannot take that.
                await asyncio.sleep(pause + self.jitter.random() * min(1.0, pause))
            if not gap:
                return
            # A slot is taken after the pause, or a pause would save slots up and spend them all at
            # once.
            now = time.monotonic()
            slot = max(now, self.pace.next_slot)
            self.pace.next_slot = slot + gap
            if slot > now:
                await asyncio.sleep(slot - now)
            if self.pace.resume_at <= time.monotonic():
                return

    def _correct(self, request: Request, answer: Answer) -> None:
        """Where more tokens came back than were guessed, the next request waits for them too."""
        if self.endpoint.tokens_per_minute:
            excess = (
                sum(answer.usage.values()) - tokens_guess(request) - most_completion_tokens(request)
            )
            wait = 60 * max(0, excess) / self.endpoint.tokens_per_minute
            # Not longer than for anything else the endpoint says: a count of a billion tokens is a
            # mistake of its own.
            self.pace.next_slot = max(time.monotonic(), self.pace.next_slot) + min(
                wait, self.endpoint.patience
            )

    async def _ask(self, request: Request) -> Answer | None:
        """One answer, or an `Answer` without text whose error names the last failure; None when the
        run stopped before it was sent.
        """
        import aiohttp

        url, content = (
            f"{self.endpoint.url}/chat/completions",
            json.dumps(request.body(), ensure_ascii=False).encode("utf-8"),
        )
        error, tries, unreadable, storms, waited, lost = "", 0, 0, 0, 0.0, 0
        while True:
            await self._turn(request)
            if self.stopped:
                return None
            begin, after, charged = time.perf_counter(), None, False
            try:
                # Redirects are refused: the key must not follow one to another host.
                async with self.session.post(url, data=content, allow_redirects=False) as reply:
                    status, after = reply.status, _retry_after(reply.headers.get("Retry-After", ""))
                    body = (
                        await read_at_most(reply.content, MAX_BODY_BYTES) if status == 200 else b""
                    )
                if status == 200:
                    if len(body) > MAX_BODY_BYTES:
                        return Answer(
                            request.id, None, error="answer too long", charged=True, lost=lost
                        )
                    try:
                        answer = _read(request, body, time.perf_counter() - begin)
                        self._correct(request, answer)
                        return replace(answer, lost=lost) if lost else answer
                    except UNREADABLE as problem:
                        unreadable, charged = unreadable + 1, True
                        error = f"no chat completion in the body ({type(problem).__name__})"
                else:
                    error, charged = f"HTTP {status}", status in _CHARGED
                    if status == 401:
                        self.release(request)
                        raise TeacherError(
                            "HTTP 401: the endpoint does not accept the key; set the variable"
                            " TEACHER_API_KEY"
                        )
                    if status != 429 and status < 500 and status not in _RETRIED:
                        return Answer(request.id, None, error=error, lost=lost)
            except (aiohttp.ClientError, TimeoutError, OSError) as problem:
                status, error = 0, type(problem).__name__  # never its text, which may quote headers
                charged = not isinstance(
                    problem, aiohttp.ClientConnectorError
                )  # what was sent may have been answered, and charged
            tries += status != 429
            storms += status == 429
            wait = min(FIRST_WAIT * 2 ** (storms if status == 429 else tries) / 2, LONGEST_WAIT)
            if after is not None:
                # An endpoint that says "429, come back in 0 seconds" for ever is not obeyed for
                # ever.
                wait = max(after, wait) if status == 429 else after
            waited += wait
            if (
                tries >= ATTEMPTS
                or unreadable >= UNREADABLE_ATTEMPTS
                or waited > self.endpoint.patience
            ):
                return Answer(request.id, None, error=error, charged=charged, lost=lost)
            if charged and not self.reserve(request):
                return Answer(
                    request.id,
                    None,
                    error=f"{error}; the budget allows no other try",
                    charged=True,
                    lost=lost,
                )
            lost += charged
            if status == 429:
                self.pace.resume_at = max(self.pace.resume_at, time.monotonic() + wait)
            else:
                await asyncio.sleep(wait)


async def read_at_most(content: Any, most: int) -> bytes:
    """A body, in however many parts it comes; of one longer than `most` bytes its beginning, longer
    than `most` as well.
    """
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        if (size := size + len(part)) > most:
            break
    return b"".join(parts)


def _retry_after(value: str) -> float | None:
    """Seconds to wait as the header says (a number or a date); None without one that can be read."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
