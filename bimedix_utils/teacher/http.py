"""Ask an OpenAI-compatible endpoint over HTTP: many requests at once, one rule for each failure.

| what happens | tries | wait before the next |
|---|---|---|
| no connection, connection reset, timeout | `ATTEMPTS` | 0.5 s, doubled each time |
| HTTP 408, 409, 425, 5xx | `ATTEMPTS` | the same, or `Retry-After` while under `patience` |
| HTTP 429 | while the waits stay under `patience` | the longer of both; all others wait too |
| HTTP 401 | 1, and the run stops | |
| any other status | 1 | |
| status 200 without a chat completion | `UNREADABLE_ATTEMPTS`: may be charged | 0.5 s, doubled |
| status 200 with the key in the body | 1: the body is not kept | |
| a refusal, an answer cut at the limit | 1: they are answers, and are stored | |

`FAILURES_IN_A_ROW` failed requests in a row stop the rest: a dead endpoint is not asked a million
times. HTTP 400, 413 and 422 concern one row and do not count there. When nothing else came back
since the beginning, a wrong parameter is likely, and the rest is not sent either.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.errors import TeacherError
from .pacing import HttpEndpoint, Pace, retry_after
from .permission import api_key
from .requests import Request
from .store import UNREADABLE_ERRORS, Answer, Deliver, read_body

ATTEMPTS = 5
UNREADABLE_ATTEMPTS = 2
BUDGET_SPENT = "the budget is spent"
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds
MAX_BODY_BYTES = 8_000_000  # a longer body is not an answer
SHORTEST_KEY = 8  # characters: a shorter key is a placeholder and may occur in an answer
_RETRIED = (408, 409, 425)  # and every 5xx
_CHARGED = (408, 502, 504)  # a timeout: the answer may exist all the same, and be charged
_ROW_REFUSED = ("HTTP 400", "HTTP 413", "HTTP 422")  # about this row, not about the endpoint


class _Reply(NamedTuple):
    answer: Answer
    status: int = 0  # of HTTP; 0 without a reply
    after: float | None = None  # seconds, from `Retry-After`
    final: bool = True  # no other try


def send_requests(
    requests: Iterable[Request],
    endpoint: HttpEndpoint,
    deliver: Deliver,
    reserve: Callable[[Request], bool] = lambda request: True,
    release: Callable[[Request], None] = lambda request: None,
    pace: Pace | None = None,
) -> str:
    """Send every request; hand the answers to `deliver` as they arrive, on a thread of its own.

    A request is under way until `deliver` returns, so a kill loses at most what was under way.
    `reserve` is asked before each try that may be charged. When it says no and nothing is under
    way that could change that, the run stops. `release` gives back the reservation of a try that
    was not sent. Returns why the run stopped early, or "". The function owns its event loop and
    thread, so it works in Jupyter, papermill and scripts alike. Raises what `deliver` raises (a
    full disk, say), and `TeacherError` when the host does not answer or refuses the key.
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
        # The caller closes the store next: not before the last answer is in it, however often
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
    failures: int = 0  # in a row, refused rows left out
    refused: int = 0  # rows, as long as nothing was answered
    answered: bool = False
    arrived: list = field(default_factory=list)  # (request, answer, future): to be delivered
    interrupted: bool = False
    cancelled: bool = False
    loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        self.task, self.loop = asyncio.current_task(), asyncio.get_running_loop()
        if self.interrupted:
            return
        import aiohttp

        await self._check_connection()
        session = aiohttp.ClientSession(
            headers=_headers(),
            timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout),
            connector=aiohttp.TCPConnector(limit=self.endpoint.concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),  # no cookie is kept or sent
        )
        async with session as self.session:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.endpoint.concurrency):
                        group.create_task(self._worker())
            finally:
                # what has arrived is kept, whatever stopped the run
                if failure := self._hand_over():
                    raise failure

    def interrupt(self) -> None:
        """Stop from another thread: what is under way is dropped, what has arrived is kept."""
        self.interrupted = True
        # once: a second time would cut short the end of the first
        if self.loop is not None and not self.cancelled:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self.loop.call_soon_threadsafe(self.task.cancel)
            self.cancelled = True

    async def _check_connection(self) -> None:
        parts = urlsplit(self.endpoint.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        opening = asyncio.open_connection(parts.hostname, port)
        try:
            _, writer = await asyncio.wait_for(opening, min(self.endpoint.timeout, 30))
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
                    # When the loop has run all that is ready: one flush of the disk serves all
                    # answers that arrived together. A thread of its own would wait for the
                    # interpreter's lock longer than the disk takes.
                    self.loop.call_soon(self._hand_over)
                await delivered
            finally:
                self.under_way -= 1

    def _count(self, answer: Answer) -> None:
        """Stop the rest when it would fail like what came before."""
        most, refused = self.endpoint.failures_tolerated, answer.error in _ROW_REFUSED
        if answer.text is not None:
            self.failures, self.answered = 0, True
            return
        self.refused += refused
        self.failures += not refused
        if self.stopped:
            return
        if self.failures >= most:
            self.stopped = f"{self.failures} requests in a row failed, the last with {answer.error}"
        elif refused and self.refused >= most and not self.answered:
            self.stopped = (
                f"{self.refused} requests were refused and none was answered, the last with"
                f" {answer.error}: a wrong parameter?"
            )

    def _hand_over(self) -> BaseException | None:
        """Deliver what has arrived; a failure goes to every waiting worker, and is returned."""
        batch, self.arrived = self.arrived, []
        failure = None
        try:
            if batch:
                self.deliver([(request, answer) for request, answer, _ in batch])
        except BaseException as error:
            failure = error
        for *_, delivered in batch:
            if not delivered.done():
                delivered.set_exception(failure) if failure else delivered.set_result(None)
        return failure

    async def _try(self, request: Request, content: bytes) -> _Reply:
        import aiohttp

        def failure(error: str, charged: bool, *more: Any) -> _Reply:
            return _Reply(Answer(request.id, None, error=error, charged=charged), *more)

        url, begin = f"{self.endpoint.url}/chat/completions", time.perf_counter()
        try:
            # Redirects are refused: the key must not follow one to another host.
            async with self.session.post(url, data=content, allow_redirects=False) as reply:
                status, after = reply.status, retry_after(reply.headers.get("Retry-After", ""))
                body = await read_at_most(reply.content, MAX_BODY_BYTES) if status == 200 else b""
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            # What was sent may have been answered, and charged. The problem's text may quote
            # headers: its name is enough.
            charged = not isinstance(problem, aiohttp.ClientConnectorError)
            return failure(type(problem).__name__, charged, 0, None, False)
        if status != 200:
            final = status != 429 and status < 500 and status not in _RETRIED
            return failure(f"HTTP {status}", status in _CHARGED, status, after, final)
        if len(body) > MAX_BODY_BYTES:
            return failure("answer too long", True)
        try:
            answer = _read(request, body, time.perf_counter() - begin)
        except UNREADABLE_ERRORS as problem:
            error = f"no chat completion in the body ({type(problem).__name__})"
            return failure(error, True, status, after, False)
        self.pace.correct(request, answer, self.endpoint)
        return _Reply(answer)

    async def _ask(self, request: Request) -> Answer | None:
        """One answer, or the last failure; None when the run stopped before it was sent."""
        content = json.dumps(request.body(), ensure_ascii=False).encode("utf-8")
        tries = unreadable = limited = lost = 0
        waited = 0.0
        while True:
            await self.pace.wait_for_slot(request, self.endpoint)
            if self.stopped:
                return None
            answer, status, after, final = await self._try(request, content)
            if status == 401:
                self.release(request)
                raise TeacherError(
                    "HTTP 401: the endpoint does not accept the key; set the variable"
                    " TEACHER_API_KEY"
                )
            answer = replace(answer, lost=lost)
            if final:
                return answer
            tries += status != 429
            limited += status == 429
            unreadable += status == 200
            wait = FIRST_WAIT * 2 ** (limited if status == 429 else tries) / 2
            wait = min(wait, LONGEST_WAIT)
            if after is not None:
                # An endpoint that always says "429, come back in 0 seconds" is not obeyed.
                wait = max(after, wait) if status == 429 else after
            waited += wait
            exhausted = tries >= ATTEMPTS or unreadable >= UNREADABLE_ATTEMPTS
            if exhausted or waited > self.endpoint.patience:
                return answer
            if answer.charged and not self.reserve(request):
                return replace(answer, error=f"{answer.error}; the budget allows no other try")
            lost += answer.charged
            if status == 429:
                self.pace.resume_at = max(self.pace.resume_at, time.monotonic() + wait)
            else:
                await asyncio.sleep(wait)


def _headers() -> dict[str, str]:
    """What every request carries. Raises `TeacherError` for a key that cannot be sent."""
    if not api_key().isprintable():
        raise TeacherError(
            "the variable TEACHER_API_KEY holds characters that a header cannot hold"
        )
    json_only = {"Content-Type": "application/json"}
    return {**json_only, "Authorization": f"Bearer {api_key()}"} if api_key() else json_only


def _read(request: Request, body: bytes, seconds: float) -> Answer:
    """The answer in a body; one that holds the key, escaped or not, is a failure and not kept."""
    text = body.decode("utf-8")
    answer = read_body(request.id, text, seconds)
    if len(api_key()) >= SHORTEST_KEY:
        plain = ""
        if "\\" in text:
            plain = json.dumps(json.loads(text.removeprefix("\ufeff")), ensure_ascii=False)
        if api_key() in text or api_key() in plain or api_key() in answer.text:
            return Answer(request.id, None, error="the answer repeats the key", charged=True)
    return answer


async def read_at_most(content: Any, most: int) -> bytes:
    """A body in however many parts it comes; of a longer one a beginning above `most` bytes."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        if (size := size + len(part)) > most:
            break
    return b"".join(parts)
