"""An OpenAI-compatible chat-completions endpoint on 127.0.0.1 that answers, fails and counts
exactly as a test tells it to.

    with Stub(answer=lambda text: f'{{"echo": "{text}"}}') as stub:
        stub.program("second prompt", 500, "ok")   # behaviours of the requests whose last message
        this is, in turn; the last repeats ... stub.total, stub.count(request.body()), stub.headers

A behaviour is a status, or (status, headers); bytes, sent as they are; a dict or list, sent as
JSON; a callable, called with the request body, that gives one of these; or one of
    good answers  `ok` `slow` (after 20 ms) `length` `refusal` `html_type` (under a wrong content
    type) no answers    `hang` `drip` (a byte now and then, for ever) `reset` `cut_body` (reset in
    mid-body) `redirect` `echo_headers`
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

REFUSAL = "I'm sorry, but I can't help with that."


def body_hash(body: dict[str, Any]) -> str:
    """Names a request body by its content."""
    return hashlib.sha256(
        json.dumps(body, sort_keys=True, ensure_ascii=False).encode("utf-8")
    ).hexdigest()


def completion(text: Any, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion with one choice; every one has the same id."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish_reason,
    }
    return {
        "id": "stub",
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        **more,
    }


class Stub:
    """The server, in a thread of its own, on a free port; a context manager."""

    def __init__(
        self,
        answer: Callable[[str], str] = lambda text: text,
        default: Any = "ok",
        redirect_to: str = "",
    ):
        self.answer, self.default, self.redirect_to = answer, default, redirect_to
        self.total = 0  # requests seen
        self.peak = 0  # most requests under way at once
        self.counts: Counter[str] = Counter()  # requests by `body_hash`
        self.texts: list[str] = []  # the last messages, in order of arrival
        self.times: list[float] = []  # of arrival, by time.monotonic
        self.good: Counter[str] = Counter()  # good answers given, by last message
        self.headers: list[dict[str, str]] = []
        self._programmes: dict[str, list[Any]] = {}
        self._now = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stub-server", daemon=True)

    @property
    def url(self) -> str:
        """The endpoint's base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def program(self, text: str, *behaviours: Any) -> None:
        """What happens to the requests whose last message is `text`, one behaviour each; the last
        one repeats.
        """
        self._programmes[text] = list(behaviours)

    def count(self, body: dict[str, Any]) -> int:
        """How often this very body was asked."""
        return self.counts[body_hash(body)]

    def __enter__(self) -> "Stub":
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the stub server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._reply)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def _next(self, text: str) -> Any:
        queue = self._programmes.get(text)
        if not queue:
            return self.default
        return queue.pop(0) if len(queue) > 1 else queue[0]

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.total += 1
        self.times.append(time.monotonic())
        self.counts[body_hash(body)] += 1
        self.texts.append(text)
        self.headers.append(dict(request.headers))
        self._now += 1
        self.peak = max(self.peak, self._now)
        try:
            behaviour = self._next(text)
            return await self._behave(
                behaviour(body) if callable(behaviour) else behaviour, text, request
            )
        finally:
            self._now -= 1

    async def _behave(self, behaviour: Any, text: str, request: web.Request) -> web.StreamResponse:
        match behaviour:
            case int():
                return web.json_response(
                    {"error": {"message": f"status {behaviour}"}}, status=behaviour
                )
            case (int() as status, dict() as headers):
                return web.json_response(
                    {"error": {"message": f"status {status}"}}, status=status, headers=headers
                )
            case bytes():
                return web.Response(body=behaviour, content_type="application/json")
            case dict() | list():
                return web.json_response(behaviour)
            case "ok" | "slow" | "length" | "refusal" | "html_type":
                await asyncio.sleep(0.02 if behaviour == "slow" else 0)
                self.good[text] += 1
                words, finish = (
                    (self.answer(text)[:5], "length")
                    if behaviour == "length"
                    else (self.answer(text), "stop")
                )
                body = json.dumps(completion(REFUSAL if behaviour == "refusal" else words, finish))
                return web.Response(
                    text=body,
                    content_type="text/html" if behaviour == "html_type" else "application/json",
                )
            case "hang":
                await self._stop.wait()
                return web.json_response(completion("too late"))
            case "drip":
                response = web.StreamResponse()
                await response.prepare(request)
                while not self._stop.is_set() and request.transport is not None:
                    await response.write(b" ")
                    await asyncio.sleep(0.01)
                return response
            case "reset":
                request.transport.abort()
                return web.Response()
            case "cut_body":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b'{"choices": [{"message": {"content": "hal')
                await asyncio.sleep(0.01)
                request.transport.abort()
                return response
            case "redirect":
                return web.Response(
                    status=307, headers={"Location": f"{self.redirect_to}/chat/completions"}
                )
            case "echo_headers":
                return web.json_response({"error": dict(request.headers)}, status=400)
        raise ValueError(f"the stub knows no behaviour {behaviour!r}")
