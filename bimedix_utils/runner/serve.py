"""A small OpenAI-compatible server on one local causal model: a real teacher for a laptop, and for
tests of real clients.

python -m bimedix_utils.runner.serve --model data/raw/weights/wheel --port 8000

`/v1/chat/completions` (whole or streamed) and `/v1/models`, on the loopback device only. Requests
that wait together are generated together, a streamed one alone. For anything bigger use vLLM;
`transformers serve` answers streaming clients only.
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

from ..chat.local import stream_tokens
from ..core.errors import KitError
from ..core.records import explain
from ..training import weights

MAX_BATCH = 8  # prompts generated together


class Message(BaseModel):
    """One turn."""

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class Completion(BaseModel):
    """What a request may say; other keys of the API are ignored. Stop words and several answers at
    once are refused.
    """

    model_config = ConfigDict(extra="ignore")
    messages: list[Message] = Field(min_length=1)
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
        return (
            {key: value for key, value in values.items() if value is not None}
            if isinstance(values, dict)
            else values
        )

    def refusal(self) -> str:
        """What is asked for and not done here, in words, or ""."""
        if self.n != 1:
            return f"n = {self.n}: this server gives one answer to a request"
        return "this server knows no stop words" if self.stop else ""


@dataclass(eq=False)  # two equal requests are two
class Waiting:
    """A request in the queue. `answered` ends with (text, finish reason, completion tokens); a
    streamed one also goes to `put`.
    """

    prompt: list[int]
    request: Completion
    answered: asyncio.Future
    put: Callable[[str], None] | None = None
    stop: threading.Event = field(
        default_factory=threading.Event
    )  # set when a streaming client went away


@dataclass
class Generator:
    """A model with its tokenizer; `generate` is called on one thread only."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: str, threads: int) -> "Generator":
        """A causal model from a folder or hub id, in float32, on the processor. Raises `KitError`
        when it cannot chat.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if not tokenizer.chat_template:
            raise KitError(f"{folder} has no chat template: it cannot take part in a chat")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return cls(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer
        )

    def encode(self, request: Completion) -> list[int]:
        """The prompt's token ids. Raises ValueError when the template refuses the turns or no room
        is left for an answer.
        """
        try:
            ids = self.tokenizer.apply_chat_template(
                [m.model_dump() for m in request.messages], add_generation_prompt=True
            )
        except Exception as error:  # templates raise their own kinds of error
            raise ValueError(f"the chat template refuses these messages: {error}") from None
        if len(ids) >= (room := self.model.config.max_position_embeddings):
            raise ValueError(
                f"the prompt has {len(ids)} tokens, the model reads at most {room - 1}"
            )
        return ids

    def fits(self, items: list[Waiting]) -> bool:
        """True when the longest prompt leaves room for the longest answer: padding must not cut
        what fits alone.
        """
        longest = max(len(item.prompt) for item in items)
        return (
            longest + max(item.request.max_tokens for item in items)
            <= self.model.config.max_position_embeddings
        )

    def generate(
        self, prompts: list[list[int]], requests: list[Completion]
    ) -> list[tuple[str, str, int]]:
        """(text, finish reason, completion tokens) for each prompt; all share temperature and
        top-p.
        """
        import torch

        room = self.model.config.max_position_embeddings - max(map(len, prompts))
        limit = min(max(request.max_tokens for request in requests), room)
        batch = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(
                **batch,
                max_new_tokens=limit,
                pad_token_id=self.tokenizer.pad_token_id,
                **self._sampling(requests[0]),
            )
        rows = out[:, batch["input_ids"].shape[1] :].tolist()
        return [
            self._result(row[: request.max_tokens])
            for request, row in zip(requests, rows, strict=True)
        ]

    def stream(self, item: Waiting) -> tuple[str, str, int]:
        """The same for one prompt, its words handed to `item.put` as they are made; ends early once
        `item.stop` is set.
        """
        limit = min(
            item.request.max_tokens, self.model.config.max_position_embeddings - len(item.prompt)
        )
        made: list[int] = []
        for words in stream_tokens(
            self.model,
            self.tokenizer,
            item.prompt,
            item.stop,
            made,
            max_new_tokens=limit,
            **self._sampling(item.request),
        ):
            if words:
                item.put(words)
        return self._result(made)

    @staticmethod
    def _sampling(request: Completion) -> dict[str, Any]:
        if request.temperature > 0:
            return {"do_sample": True, "temperature": request.temperature, "top_p": request.top_p}
        return {"do_sample": False, "temperature": None, "top_p": None}

    def _result(self, made: list[int]) -> tuple[str, str, int]:
        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        stop = next((place for place, token in enumerate(made) if token in ends), None)
        text = self.tokenizer.decode(made[:stop], skip_special_tokens=True)
        return (
            text.strip(),
            "length" if stop is None else "stop",
            len(made) if stop is None else stop + 1,
        )


class Server:
    """The application: requests wait in a queue, one task generates for as many as share their
    settings.
    """

    def __init__(self, generator: Generator, model_name: str):
        self.generator, self.model_name = generator, model_name
        self.queue: asyncio.Queue = asyncio.Queue()

    def application(self) -> Any:
        """The aiohttp application."""
        from aiohttp import web

        app = web.Application(client_max_size=8_000_000)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.cleanup_ctx.append(self._working)
        return app

    async def _working(self, app: Any):
        task = asyncio.create_task(self._work())
        yield
        task.cancel()

    async def models(self, request: Any) -> Any:
        """The one model, as the API lists models."""
        from aiohttp import web

        return web.json_response(
            {
                "object": "list",
                "data": [{"id": self.model_name, "object": "model", "owned_by": "local"}],
            }
        )

    async def complete(self, request: Any) -> Any:
        """One chat completion; 400 with the reason for a request that cannot be answered."""
        from aiohttp import web

        try:
            wanted = Completion(**await request.json())
            if refusal := wanted.refusal():
                raise ValueError(refusal)
            prompt = self.generator.encode(wanted)
        except (
            ValueError,
            TypeError,
            LookupError,
            RecursionError,
        ) as error:  # an unknown charset; brackets without end
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            return web.json_response(
                {"error": {"message": reason, "type": "invalid_request_error"}}, status=400
            )
        item = Waiting(prompt, wanted, asyncio.get_running_loop().create_future())
        if wanted.stream:
            return await self._stream(request, item)
        await self.queue.put(item)
        text, finish, counted = await item.answered
        usage = _usage(prompt, counted)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
        }
        return web.json_response(
            {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()), "model": self.model_name,
             "choices": [choice], "usage": usage}
        )  # fmt: skip

    async def _stream(self, request: Any, item: Waiting) -> Any:
        """The answer as server-sent events, a chunk for each piece; a client that goes away stops
        the model.
        """
        from aiohttp import web

        loop, words = asyncio.get_running_loop(), asyncio.Queue()
        item.put = lambda piece: loop.call_soon_threadsafe(words.put_nowait, piece)
        item.answered.add_done_callback(lambda _: words.put_nowait(None))
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model_name,
        }
        reply = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )

        async def send(delta: dict, finish: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            await reply.write(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())

        try:
            await reply.prepare(request)
            await self.queue.put(item)
            await send({"role": "assistant", "content": ""})
            begun = False
            while (piece := await words.get()) is not None:
                piece = piece if begun else piece.lstrip()  # a whole answer is stripped as well
                if piece:
                    begun = True
                    await send({"content": piece})
            if error := item.answered.exception():
                await reply.write(
                    "data:"
                    f" {json.dumps({'error': {'message': type(error).__name__, 'type': 'server_error'}})}\n\n".encode()
                )
                return reply
            _, finish, counted = item.answered.result()
            await send({}, finish)
            if item.request.stream_options.get("include_usage"):
                await reply.write(
                    "data:"
                    f" {json.dumps({**head, 'choices': [], 'usage': _usage(item.prompt, counted)})}\n\n".encode()
                )
            await reply.write(b"data: [DONE]\n\n")
            return reply
        finally:
            item.stop.set()
            item.answered.cancel()

    async def _work(self) -> None:
        waiting: list[Waiting] = []
        while True:
            if not waiting:
                waiting.append(await self.queue.get())
            while not self.queue.empty():
                waiting.append(self.queue.get_nowait())
            waiting = [
                item for item in waiting if not item.answered.done()
            ]  # done: the client went away
            if not waiting:
                continue
            settings = waiting[0].request.temperature, waiting[0].request.top_p
            batch: list[Waiting] = waiting[:1]
            for item in waiting[1:]:
                alike = (item.request.temperature, item.request.top_p) == settings and not (
                    item.put or batch[0].put
                )
                if alike and len(batch) < MAX_BATCH and self.generator.fits([*batch, item]):
                    batch.append(item)
            waiting = [item for item in waiting if item not in batch]
            try:
                if batch[0].put:
                    results = [await asyncio.to_thread(self.generator.stream, batch[0])]
                else:
                    prompts, requests = (
                        [item.prompt for item in batch],
                        [item.request for item in batch],
                    )
                    results = await asyncio.to_thread(self.generator.generate, prompts, requests)
            except Exception as error:
                results = [error] * len(batch)
            for item, result in zip(batch, results, strict=True):
                if not item.answered.done():
                    (
                        item.answered.set_exception(result)
                        if isinstance(result, Exception)
                        else item.answered.set_result(result)
                    )


def _usage(prompt: list[int], completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": len(prompt),
        "completion_tokens": completion_tokens,
        "total_tokens": len(prompt) + completion_tokens,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.runner.serve",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--model", default="", help="folder or hub id; empty takes what `make weights` fetched"
    )
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
        named = weights.model_name(folder) if folder.is_dir() else given.model
        generator = Generator.load(given.model or str(folder), given.threads)
        asyncio.run(_serve(Server(generator, named), given.port))
    except KeyboardInterrupt:
        return 0
    except (KitError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(server: Server, port: int) -> None:
    from aiohttp import web

    # A handler whose client went away is cancelled, so that nobody generates what nobody waits for.
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


if __name__ == "__main__":
    sys.exit(main())
