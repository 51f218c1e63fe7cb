"""A model behind an OpenAI-compatible address: answers as server-sent events, errors in words.

The key, where one is needed, comes from the variable TEACHER_API_KEY, as for the teacher. It stands
in no message and no file.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import KitError
from ..core.language import language_codes, language_data
from ..core.templates import checked_messages
from ..teacher.http import read_at_most
from ..teacher.permission import api_key, require_local_or_allowed
from .conversation import Ending
from .local import POLL_SECONDS

MAX_ANSWER_BYTES = 2_000_000
_TOO_LONG = f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes: it is not read further"


def answer_instruction() -> str:
    """The system message for a model that the kit did not tune, in every language with a file."""
    return " ".join(language_data(code)["chat"]["instruction"] for code in language_codes())


@dataclass
class StreamingEndpoint:
    """The model `model` at `url`, the base such as http://127.0.0.1:8000/v1.

    Without `model` the first one that the server lists. Raises `KitError` at once when the address
    is not allowed.
    """

    url: str
    model: str = ""
    max_new_tokens: int = 512
    allow_remote: bool = False
    instruction: str = field(default_factory=answer_instruction)
    patience: float = 120.0  # seconds without a word

    def __post_init__(self) -> None:
        require_local_or_allowed(self.url, self.allow_remote, name="URL")
        self.url = self.url.rstrip("/")

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `ChatModel`. A stop closes the connection, which ends the server's work as well."""
        # Mixtral's template has no system role: the instruction becomes part of the first turn.
        system = [{"role": "system", "content": self.instruction}] if self.instruction else []
        turns = checked_messages([*system, *history])
        pieces: Queue[str | None] = Queue()
        failure: list[KitError] = []
        halt = threading.Event()  # the reader may leave before the answer ends

        def work() -> None:
            try:
                asyncio.run(self._request_until(halt, turns, ending, pieces.put))
            except KitError as error:
                failure.append(error)
            except Exception as error:  # never its text, which may quote headers
                failure.append(self._error(f"cannot be asked ({type(error).__name__})"))
            finally:
                pieces.put(None)

        thread = threading.Thread(target=work, name="chat-endpoint", daemon=True)
        thread.start()
        try:
            while not stop.is_set():
                try:
                    piece = pieces.get(timeout=POLL_SECONDS)
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

    def _error(self, what: str) -> KitError:
        return KitError(f"the model server at {urlsplit(self.url).netloc} {what}")

    async def _request_until(
        self, halt: threading.Event, turns: list, ending: Ending, put: Callable[[str], None]
    ) -> None:
        request = asyncio.create_task(self._request(turns, ending, put))
        while not request.done() and not halt.is_set():
            await asyncio.wait({request}, timeout=POLL_SECONDS / 2)
        if not request.done():
            request.cancel()
            await asyncio.wait({request})
        if not request.cancelled():
            request.result()

    async def _request(self, turns: list, ending: Ending, put: Callable[[str], None]) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.patience)
        headers = {"Authorization": f"Bearer {api_key()}"} if api_key() else {}
        cookies = aiohttp.DummyCookieJar()
        try:
            async with aiohttp.ClientSession(
                headers=headers, timeout=timeout, cookie_jar=cookies
            ) as session:
                body = {
                    "model": self.model or await self._first_model(session),
                    "messages": turns,
                    "max_tokens": self.max_new_tokens,
                    "temperature": 0,
                    "stream": True,
                }
                address = f"{self.url}/chat/completions"
                async with session.post(address, json=body, allow_redirects=False) as reply:
                    await self._check_status(reply)
                    if "event-stream" in reply.headers.get("Content-Type", ""):
                        await self._read_events(reply.content, ending, put)
                    else:  # an endpoint that does not stream: the whole answer at once
                        answer = await read_at_most(reply.content, MAX_ANSWER_BYTES)
                        if len(answer) > MAX_ANSWER_BYTES:
                            raise KitError(_TOO_LONG)
                        _read_completion(answer, "message", ending, put)
        except TimeoutError:
            raise self._error("was silent for too long; send the message again") from None
        except (aiohttp.ClientError, OSError) as error:  # never its text, which may quote headers
            raise self._error(
                f"does not answer ({type(error).__name__}). Is it running? (`make serve` starts a"
                " small one.) When it is back, send the message again"
            ) from None

    async def _first_model(self, session: Any) -> str:
        async with session.get(f"{self.url}/models", allow_redirects=False) as reply:
            await self._check_status(reply)
            try:
                return (await reply.json(content_type=None))["data"][0]["id"]
            except (ValueError, LookupError, TypeError):
                raise self._error("lists no model: name one (URL_MODEL)") from None

    async def _check_status(self, reply: Any) -> None:
        """Raises `KitError` for a status that is no answer.

        The server's own words are quoted only when it objects to the message.
        """
        if reply.status == 200:
            return
        if reply.status == 401:
            raise self._error("does not accept the key; set the variable TEACHER_API_KEY")
        if reply.status in (429, 503):
            raise self._error(f"is busy (HTTP {reply.status}); send the message again in a moment")
        reason = ""
        if reply.status in (400, 413, 422):
            try:
                error = json.loads(await read_at_most(reply.content, 10_000))["error"]
                reason = str(error["message"] if isinstance(error, dict) else error)[:300]
            except (ValueError, LookupError, TypeError):
                pass
            if api_key() and api_key() in reason:
                reason = ""
        raise self._error(f"answers HTTP {reply.status}{f': {reason}' if reason else ''}")

    async def _read_events(self, content: Any, ending: Ending, put: Callable[[str], None]) -> None:
        size, done = 0, False
        async for line in content:
            if (size := size + len(line)) > MAX_ANSWER_BYTES:
                raise KitError(_TOO_LONG)
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                done = _read_completion(data, "delta", ending, put) or done
        if not done:
            raise self._error("broke off in the middle of its answer; send the message again")


def _read_completion(data: bytes, part: str, ending: Ending, put: Callable[[str], None]) -> bool:
    """Pass on the text of one event (or of a whole answer); True when the answer ends with it."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or "error" in value:
            raise KitError(
                "the model server failed in the middle of its answer; send the message again"
            )
        if not value["choices"]:
            return False
        choice = value["choices"][0]
        if text := (choice.get(part) or {}).get("content"):
            put(str(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise KitError("the model server sent something that is no chat completion") from None
    ending.cut = choice.get("finish_reason") == "length"
    return choice.get("finish_reason") is not None
