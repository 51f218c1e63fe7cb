"""A small OpenAI-compatible server on one local causal model (`make serve`): a real teacher for a
laptop, and for tests of real clients.

python -m bimedix_utils.runner.serve --model data/raw/weights/wheel --port 8000

`/v1/chat/completions` (whole or streamed) and `/v1/models`, on the loopback device only. Requests
that wait at the same time are generated as one batch, a streamed one alone. For anything bigger use
vLLM; `transformers serve` answers streaming clients only.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..chat.local import GREEDY, stream_tokens
from ..core.errors import KitError
from ..core.records import explain
from ..training import weights

MAX_BATCH = 8  # prompts generated together


class _ChatTurn(BaseModel):
    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class CompletionRequest(BaseModel):
    """The body of a request; other keys of the API are ignored.

    Stop words and several answers to one request are refused.
    """

    model_config = ConfigDict(extra="ignore")
    messages: list[_ChatTurn] = Field(min_length=1)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    stream: bool = False
    stream_options: dict[str, Any] = {}
    n: int = 1
    stop: str | list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        """The API allows null for everything that has a default."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _supported(self) -> "CompletionRequest":
        if self.n != 1:
            raise ValueError(f"n = {self.n}: this server gives one answer to a request")
        if self.stop:
            raise ValueError("this server knows no stop words")
        return self

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of `generate` that a batch must share."""
        if self.temperature > 0:
            return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return GREEDY


@dataclass(eq=False)  # two equal requests are two
class PendingRequest:
    """A request in the queue. `answer` ends with (text, finish reason, completion tokens).

    A streamed one also gets its text piece by piece through `put`.
    """

    prompt: list[int]
    request: CompletionRequest
    answer: asyncio.Future
    put: Callable[[str], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)  # the streaming client left


@dataclass
class TextGenerator:
    """A model with its tokenizer; `generate` and `stream` are called on one thread only."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, name: str, threads: int) -> "TextGenerator":
        """A causal model from a folder or hub id, in float32, on the CPU.

        Raises `KitError` when it has no chat template.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
        if not tokenizer.chat_template:
            raise KitError(f"{name} has no chat template: it cannot take part in a chat")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
        return cls(model.eval(), tokenizer)

    @property
    def context(self) -> int:
        """Tokens that the model reads at most."""
        return self.model.config.max_position_embeddings

    def encode(self, request: CompletionRequest) -> list[int]:
        """The prompt's token ids. Raises `ValueError` for turns or a length that do not fit."""
        turns = [turn.model_dump() for turn in request.messages]
        try:
            ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        except Exception as error:  # templates raise their own kinds of error
            raise ValueError(f"the chat template refuses these messages: {error}") from None
        if len(ids) >= self.context:
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the model reads at most {self.context - 1}"
            )
        return ids

    def fits(self, batch: list[PendingRequest]) -> bool:
        """True when padding cuts nothing that fits alone."""
        longest = max(len(item.prompt) for item in batch)
        return longest + max(item.request.max_tokens for item in batch) <= self.context

    def generate(self, batch: list[PendingRequest]) -> list[tuple[str, str, int]]:
        """(text, finish reason, completion tokens) of each; all share their sampling settings."""
        import torch

        prompts = [item.prompt for item in batch]
        limits = [item.request.max_tokens for item in batch]
        room = self.context - max(map(len, prompts))
        inputs = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=min(max(limits), room),
                pad_token_id=self.tokenizer.pad_token_id,
                **batch[0].request.sampling,
            )
        rows = out[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._result(row[:limit]) for row, limit in zip(rows, limits, strict=True)]

    def stream(self, item: PendingRequest) -> tuple[str, str, int]:
        """The same for one prompt, its text passed to `item.put`; `item.stop` ends it."""
        settings = item.request.sampling | {
            "max_new_tokens": min(item.request.max_tokens, self.context - len(item.prompt))
        }
        new_ids: list[int] = []
        for piece in stream_tokens(
            self.model, self.tokenizer, item.prompt, item.stop, new_ids, **settings
        ):
            if piece:
                item.put(piece)
        return self._result(new_ids)

    def _result(self, new_ids: list[int]) -> tuple[str, str, int]:
        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        end = next((i for i, token in enumerate(new_ids) if token in ends), None)
        text = self.tokenizer.decode(new_ids[:end], skip_special_tokens=True).strip()
        return (text, "length", len(new_ids)) if end is None else (text, "stop", end + 1)


class CompletionServer:
    """The application: requests wait in a queue, one task generates batch after batch."""

    def __init__(self, generator: TextGenerator, model_name: str):
        self.generator, self.model_name = generator, model_name
        self.queue: asyncio.Queue = asyncio.Queue()

    def application(self) -> Any:
        """The aiohttp application."""
        from aiohttp import web

        async def worker(_: Any) -> Any:
            task = asyncio.create_task(self._work())
            yield
            task.cancel()

        app = web.Application(client_max_size=8_000_000)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.cleanup_ctx.append(worker)
        return app

    async def models(self, request: Any) -> Any:
        """The one model, as the API lists models."""
        from aiohttp import web

        model = {"id": self.model_name, "object": "model", "owned_by": "local"}
        return web.json_response({"object": "list", "data": [model]})

    async def complete(self, request: Any) -> Any:
        """One chat completion; 400 with the reason for a request that cannot be answered."""
        from aiohttp import web

        try:
            wanted = CompletionRequest(**await request.json())
            prompt = self.generator.encode(wanted)
        # LookupError: an unknown charset; RecursionError: brackets without end.
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            body = {"error": {"message": reason, "type": "invalid_request_error"}}
            return web.json_response(body, status=400)
        item = PendingRequest(prompt, wanted, asyncio.get_running_loop().create_future())
        if wanted.stream:
            return await self._stream(request, item)
        await self.queue.put(item)
        text, finish, tokens = await item.answer
        message = {"role": "assistant", "content": text}
        body = self._head("chat.completion") | {
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": _usage(prompt, tokens),
        }
        return web.json_response(body)

    def _head(self, kind: str) -> dict[str, Any]:
        identity = f"chatcmpl-{uuid.uuid4().hex}"
        return {
            "id": identity,
            "object": kind,
            "created": int(time.time()),
            "model": self.model_name,
        }

    async def _stream(self, request: Any, item: PendingRequest) -> Any:
        """The answer as server-sent events; a client that leaves stops the model."""
        from aiohttp import web

        loop, pieces = asyncio.get_running_loop(), asyncio.Queue()
        item.put = lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece)
        item.answer.add_done_callback(lambda _: pieces.put_nowait(None))
        head = self._head("chat.completion.chunk")
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        reply = web.StreamResponse(headers=headers)

        async def send(value: dict | str) -> None:
            data = value if isinstance(value, str) else json.dumps(value)
            await reply.write(f"data: {data}\n\n".encode())

        async def send_delta(delta: dict, finish: str | None = None) -> None:
            await send({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        try:
            await reply.prepare(request)
            await self.queue.put(item)
            await send_delta({"role": "assistant", "content": ""})
            begun = False
            while (piece := await pieces.get()) is not None:
                piece = piece if begun else piece.lstrip()  # a whole answer is stripped as well
                if piece:
                    begun = True
                    await send_delta({"content": piece})
            if error := item.answer.exception():
                await send({"error": {"message": type(error).__name__, "type": "server_error"}})
                return reply
            _, finish, tokens = item.answer.result()
            await send_delta({}, finish)
            if item.request.stream_options.get("include_usage"):
                await send({**head, "choices": [], "usage": _usage(item.prompt, tokens)})
            await send("[DONE]")
            return reply
        finally:
            item.stop.set()
            item.answer.cancel()

    async def _work(self) -> None:
        waiting: list[PendingRequest] = []
        while True:
            if not waiting:
                waiting.append(await self.queue.get())
            while not self.queue.empty():
                waiting.append(self.queue.get_nowait())
            # An answer that is done already: the client left.
            waiting = [item for item in waiting if not item.answer.done()]
            if not waiting:
                continue
            batch = self._next_batch(waiting)
            waiting = [item for item in waiting if item not in batch]
            try:
                if batch[0].put:
                    results = [await asyncio.to_thread(self.generator.stream, batch[0])]
                else:
                    results = await asyncio.to_thread(self.generator.generate, batch)
            except Exception as error:
                results = [error] * len(batch)
            for item, result in zip(batch, results, strict=True):
                if item.answer.done():
                    continue
                if isinstance(result, Exception):
                    item.answer.set_exception(result)
                else:
                    item.answer.set_result(result)

    def _next_batch(self, waiting: list[PendingRequest]) -> list[PendingRequest]:
        """The oldest request and those that can be generated with it."""
        batch = waiting[:1]
        for item in waiting[1:]:
            streamed = item.put or batch[0].put
            alike = item.request.sampling == batch[0].request.sampling and not streamed
            if alike and len(batch) < MAX_BATCH and self.generator.fits([*batch, item]):
                batch.append(item)
        return batch


def _usage(prompt: list[int], completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": len(prompt),
        "completion_tokens": completion_tokens,
        "total_tokens": len(prompt) + completion_tokens,
    }


async def _serve(server: CompletionServer, port: int) -> None:
    from aiohttp import web

    # The handler of a client that left is cancelled: nothing is generated for nobody.
    runner = web.AppRunner(server.application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(
            f"serving {server.model_name} at http://127.0.0.1:{port}/v1; research and teaching"
            " only, never medical advice",
            flush=True,
        )
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser("bimedix_utils.runner.serve", description=__doc__)
    parser.formatter_class = argparse.RawTextHelpFormatter
    parser.add_argument("--model", default="", help="folder or hub id; empty: of `make weights`")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    try:
        folder = Path(given.model) if given.model else weights.fetched_model()
        if folder is None:
            raise KitError("no model to serve: run `make weights`, or name one with MODEL=folder")
        if not folder.is_dir() and (folder.is_absolute() or given.model.count("/") != 1):
            raise KitError(
                f"{given.model} is neither a folder nor a hub id; `make weights` fetches a small"
                " model"
            )
        name = weights.model_name(folder) if folder.is_dir() else given.model
        generator = TextGenerator.load(given.model or str(folder), given.threads)
        asyncio.run(_serve(CompletionServer(generator, name), given.port))
    except KeyboardInterrupt:
        return 0
    except (KitError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
