"""A model behind an OpenAI-compatible address: its answer streamed as server-sent events, every
failure a sentence.

The key, where one is needed, is read from the variable TEACHER_API_KEY, as for the teacher; it
stands in no message and no file.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import KitError
from ..core.templates import checked_messages
from ..teacher.http import read_at_most
from ..teacher.permission import api_key, require_local_or_allowed
from .conversation import Ending

WAIT = 0.1  # seconds between two looks at the stop button
MAX_BYTES = 2_000_000  # a longer answer is not one
TOO_LONG = f"the answer is longer than {MAX_BYTES:,} bytes: it is not read further"
# Said once, at the head of the first turn: such a model was not tuned by the kit. Mixtral's
# template has no system role.
INSTRUCTION = "Answer in the language of the user's last message. أجب بلغة آخر رسالة من المستخدم."


@dataclass
class EndpointModel:
    """Asks `url` (the base, such as http://127.0.0.1:8000/v1) for `model`; empty takes the first
    one it lists.

    Raises `KitError` at once when the address may not be used.
    """

    url: str
    model: str = ""
    max_new_tokens: int = 512
    allow_remote: bool = False
    instruction: str = INSTRUCTION
    patience: float = 120.0  # seconds without a word

    def __post_init__(self) -> None:
        require_local_or_allowed(self.url, self.allow_remote, name="URL")

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `conversation.Model`. A stopped answer closes the connection, which ends the work of
        a server that watches it.
        """
        turns = (
            [{"role": "system", "content": self.instruction}, *history]
            if self.instruction
            else history
        )
        words: Queue[str | None] = Queue()
        failure: list[KitError] = []
        halt = threading.Event()  # of its own: the reader may leave before the answer ends

        def work() -> None:
            try:
                asyncio.run(self._until(halt, checked_messages(turns), ending, words.put))
            except KitError as error:
                failure.append(error)
            except Exception as error:  # never its text, which may quote headers
                failure.append(
                    KitError(
                        f"the model server at {self._place} cannot be asked"
                        f" ({type(error).__name__})"
                    )
                )
            finally:
                words.put(None)

        thread = threading.Thread(target=work, name="chat-endpoint", daemon=True)
        thread.start()
        try:
            while not stop.is_set():
                try:
                    piece = words.get(timeout=WAIT)
                except Empty:
                    yield ""
                    continue
                if piece is None:
                    break
                yield piece
        finally:
            halt.set()
            thread.join()
        if failure and not stop.is_set():
            raise failure[0]

    @property
    def _place(self) -> str:
        return urlsplit(self.url).netloc

    async def _until(
        self,
        halt: threading.Event,
        turns: list[dict[str, str]],
        ending: Ending,
        put: Callable[[str], None],
    ) -> None:
        asking = asyncio.create_task(self._ask(turns, ending, put))
        while not asking.done() and not halt.is_set():
            await asyncio.wait({asking}, timeout=WAIT / 2)
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()

    async def _ask(
        self, turns: list[dict[str, str]], ending: Ending, put: Callable[[str], None]
    ) -> None:
        import aiohttp

        key = api_key()
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.patience)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with aiohttp.ClientSession(
                headers=headers, timeout=limits, cookie_jar=aiohttp.DummyCookieJar()
            ) as session:
                body = {"model": self.model or await self._first_model(session, key), "messages": turns, "max_tokens": self.max_new_tokens,
                        "temperature": 0, "stream": True}  # fmt: skip
                async with session.post(
                    f"{self.url.rstrip('/')}/chat/completions", json=body, allow_redirects=False
                ) as reply:
                    await self._accepted(reply, key)
                    if "event-stream" in reply.headers.get("Content-Type", ""):
                        await self._events(reply.content, ending, put)
                    else:  # an endpoint that does not stream: the whole answer at once
                        whole = await read_at_most(reply.content, MAX_BYTES)
                        if len(whole) > MAX_BYTES:
                            raise KitError(TOO_LONG)
                        _take(whole, "message", ending, put)
        except TimeoutError:
            raise KitError(
                f"the model server at {self._place} was silent for too long; send the message again"
            ) from None
        except (aiohttp.ClientError, OSError) as error:  # never its text, which may quote headers
            raise KitError(
                f"the model server at {self._place} does not answer ({type(error).__name__}). Is it"
                " running? (`make serve` starts a small one.) When it is back, send the message"
                " again"
            ) from None

    async def _first_model(self, session: Any, key: str) -> str:
        async with session.get(f"{self.url.rstrip('/')}/models", allow_redirects=False) as reply:
            await self._accepted(reply, key)
            try:
                return (await reply.json(content_type=None))["data"][0]["id"]
            except (ValueError, LookupError, TypeError):
                raise KitError(
                    f"the model server at {self._place} lists no model: name one (URL_MODEL)"
                ) from None

    async def _accepted(self, reply: Any, key: str) -> None:
        """Raises `KitError` for a status that is no answer."""
        if reply.status != 200:
            raise KitError(
                _refused(
                    self._place,
                    reply.status,
                    (await read_at_most(reply.content, 10_000)).decode("utf-8", "replace"),
                    key,
                )
            )

    async def _events(self, content: Any, ending: Ending, put: Callable[[str], None]) -> None:
        size, done = 0, False
        async for line in content:
            if (size := size + len(line)) > MAX_BYTES:
                raise KitError(TOO_LONG)
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                done = _take(data, "delta", ending, put) or done
        if not done:
            raise KitError(
                f"the model server at {self._place} broke off in the middle of its answer; send the"
                " message again"
            )


def _take(data: bytes, part: str, ending: Ending, put: Callable[[str], None]) -> bool:
    """Hand over the words of one event (or of a whole answer); True when it says that the answer is
    at its end.
    """
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or "error" in value:
            raise KitError(
                "the model server failed in the middle of its answer; send the message again"
            )
        if not value["choices"]:
            return False
        choice = value["choices"][0]
        if words := (choice.get(part) or {}).get("content"):
            put(str(words))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise KitError("the model server sent something that is no chat completion") from None
    ending.cut = choice.get("finish_reason") == "length"
    return choice.get("finish_reason") is not None


def _refused(place: str, status: int, body: str, key: str) -> str:
    """A sentence for a status that is no answer; the server's own words only for a message it finds
    fault with.
    """
    if status == 401:
        return (
            f"the model server at {place} does not accept the key; set the variable TEACHER_API_KEY"
        )
    if status in (429, 503):
        return (
            f"the model server at {place} is busy (HTTP {status}); send the message again in a"
            " moment"
        )
    try:
        error = json.loads(body)["error"]
        why = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        why = ""
    why = f": {why[:300]}" if why and status in (400, 413, 422) and not (key and key in why) else ""
    return f"the model server at {place} answers HTTP {status}{why}"
