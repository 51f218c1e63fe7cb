"""Ask any OpenAI-compatible endpoint over HTTP: bounded concurrency, retries, and no key in any message or file."""

import asyncio
import ipaddress
import os
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from ..errors import TeacherError
from .requests import Request
from .store import Answer

ATTEMPTS = 5  # tries for one request before it is given up with status `failed`
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
MAX_BYTES = 8_000_000  # a longer body is not an answer


def is_loopback(url: str) -> bool:
    """True when the URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_permission(url: str, rows: int, allow_remote: bool) -> None:
    """Nothing leaves this machine unannounced: a remote host needs ALLOW_REMOTE = True. Raises `TeacherError`."""
    if is_loopback(url):
        return
    print(f"teacher: {rows} rows go to {urlsplit(url).hostname}. Never send patient data: these rows leave this machine.")
    if not allow_remote:
        raise TeacherError("the teacher is on another machine: set ALLOW_REMOTE = True if these rows may be sent there")


def send(requests: list[Request], url: str, concurrency: int, timeout: float, arrived: Callable[[Request, Answer], None]) -> None:
    """Send every request; call `arrived` with each answer, in the order of arrival, on a thread of its own.

    `url` is the endpoint's base, such as http://127.0.0.1:8000/v1. The key, if the endpoint wants one, is taken from the variable
    TEACHER_API_KEY. A plain function that owns its loop and thread, so it works in Jupyter, papermill and scripts alike. Raises
    what `arrived` raises (a full disk, say) after stopping the rest.
    """
    failure: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            asyncio.run(_send_all(requests, url.rstrip("/"), concurrency, timeout, arrived, stop))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="teacher-http")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        stop.set()
        thread.join()
        raise
    if failure:
        problem = failure[0]
        while isinstance(problem, BaseExceptionGroup):  # the task group wraps what `arrived` raised
            problem = problem.exceptions[0]
        raise problem


async def _send_all(requests, url, concurrency, timeout, arrived, stop) -> None:
    import aiohttp

    key = os.environ.get("TEACHER_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    queue = iter(requests)
    limits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(headers=headers, timeout=limits, connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def worker() -> None:
            for request in queue:
                if stop.is_set():
                    return
                arrived(request, await _ask(session, url, request))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(requests))):
                group.create_task(worker())


async def _ask(session, url: str, request: Request) -> Answer:
    """One answer, or an `Answer` without text whose error names the last failure."""
    import aiohttp

    error, wait = "", 0.5
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(wait)
        begin, wait = time.perf_counter(), min(2.0 ** (attempt + 1), 30.0)
        try:
            # Redirects are refused: the key must not follow one to another host.
            async with session.post(f"{url}/chat/completions", json=request.body(), allow_redirects=False) as reply:
                body = await reply.content.read(MAX_BYTES + 1)
                while len(body) <= MAX_BYTES and (more := await reply.content.read(MAX_BYTES)):
                    body += more
                if reply.status != 200:
                    error = f"HTTP {reply.status}"
                    after = reply.headers.get("Retry-After", "")
                    wait = min(float(after), 60.0) if after.replace(".", "", 1).isdigit() else wait
                    if reply.status not in RETRIED:
                        break
                    continue
                if len(body) > MAX_BYTES:
                    error = "answer too long"
                    break
                return _read(request, body, time.perf_counter() - begin)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
            error = type(problem).__name__  # never its text, which may quote headers
    return Answer(request.id, None, error=error)


def _read(request: Request, body: bytes, seconds: float) -> Answer:
    """The first choice of a chat completion. Raises ValueError, LookupError, TypeError or AttributeError for anything else."""
    import json

    value = json.loads(body.decode("utf-8"))
    choice = value["choices"][0]
    text = choice["message"].get("content")
    if text is None:
        text = choice["message"].get("refusal") or ""
    finish, counted = choice.get("finish_reason") or "stop", value.get("usage") or {}
    if not isinstance(text, str) or not isinstance(finish, str):
        raise TypeError("content or finish_reason is not text")
    text.encode("utf-8")  # half a surrogate pair is JSON, and nothing that can be stored
    usage = {k: counted[k] for k in ("prompt_tokens", "completion_tokens") if isinstance(counted.get(k), int)}
    return Answer(request.id, text, finish, usage, round(seconds, 3))
