"""A small OpenAI-compatible server on one local causal model: a real teacher for a laptop, and for tests of real clients.

python -m bimedix_utils.serve --model data/raw/weights/wheel --port 8000

`/v1/chat/completions` (without streaming) and `/v1/models`, on the loopback device only. Requests that wait together are generated
together. For anything bigger use vLLM; `transformers serve` answers streaming clients only.
"""

import argparse
import asyncio
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from . import weights
from .errors import KitError
from .records import explain

MAX_BATCH = 8  # prompts generated together


class Message(BaseModel):
    """One turn."""

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str


class Completion(BaseModel):
    """What a request may say; other keys of the API are ignored. Streaming, stop words and several answers at once are refused."""

    model_config = ConfigDict(extra="ignore")
    messages: list[Message] = Field(min_length=1)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    stream: bool = False
    n: int = 1
    stop: str | list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        """The API allows null for everything that has a default."""
        return {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values

    def refusal(self) -> str:
        """What is asked for and not done here, in words, or ""."""
        if self.stream:
            return "this server does not stream"
        if self.n != 1:
            return f"n = {self.n}: this server gives one answer to a request"
        return "this server knows no stop words" if self.stop else ""


@dataclass
class Generator:
    """A model with its tokenizer; `generate` is called on one thread only."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: str, threads: int) -> "Generator":
        """A causal model from a folder or hub id, in float32, on the processor. Raises `KitError` when it cannot chat."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if not tokenizer.chat_template:
            raise KitError(f"{folder} has no chat template: it cannot take part in a chat")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return cls(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer)

    def encode(self, request: Completion) -> list[int]:
        """The prompt's token ids. Raises ValueError when the template refuses the turns or no room is left for an answer."""
        try:
            ids = self.tokenizer.apply_chat_template([m.model_dump() for m in request.messages], add_generation_prompt=True)
        except Exception as error:  # templates raise their own kinds of error
            raise ValueError(f"the chat template refuses these messages: {error}") from None
        if len(ids) >= (room := self.model.config.max_position_embeddings):
            raise ValueError(f"the prompt has {len(ids)} tokens, the model reads at most {room - 1}")
        return ids

    def fits(self, items: list) -> bool:
        """True when the longest prompt leaves room for the longest answer: padding must not cut what fits alone."""
        longest = max(len(prompt) for prompt, *_ in items)
        return longest + max(request.max_tokens for _, request, *_ in items) <= self.model.config.max_position_embeddings

    def generate(self, prompts: list[list[int]], requests: list[Completion]) -> list[tuple[str, str, int]]:
        """(text, finish reason, completion tokens) for each prompt; all share temperature and top-p."""
        import torch

        room = self.model.config.max_position_embeddings - max(map(len, prompts))
        limit = min(max(request.max_tokens for request in requests), room)
        batch = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        sampling = {"do_sample": True, "temperature": requests[0].temperature, "top_p": requests[0].top_p}
        with torch.inference_mode():
            out = self.model.generate(
                **batch, max_new_tokens=limit, pad_token_id=self.tokenizer.pad_token_id,
                **(sampling if requests[0].temperature > 0 else {"do_sample": False, "temperature": None, "top_p": None}),
            )  # fmt: skip
        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        results = []
        for request, row in zip(requests, out[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            kept = row[: request.max_tokens]
            stop = next((place for place, token in enumerate(kept) if token in ends), None)
            text = self.tokenizer.decode(kept[:stop], skip_special_tokens=True)
            results.append((text.strip(), "length" if stop is None else "stop", len(kept) if stop is None else stop + 1))
        return results


class Server:
    """The application: requests wait in a queue, one task generates for as many as share their settings."""

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

        return web.json_response({"object": "list", "data": [{"id": self.model_name, "object": "model", "owned_by": "local"}]})

    async def complete(self, request: Any) -> Any:
        """One chat completion; 400 with the reason for a request that cannot be answered."""
        from aiohttp import web

        try:
            wanted = Completion(**await request.json())
            if refusal := wanted.refusal():
                raise ValueError(refusal)
            prompt = self.generator.encode(wanted)
        except (ValueError, TypeError, LookupError, RecursionError) as error:  # an unknown charset; brackets without end
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            return web.json_response({"error": {"message": reason, "type": "invalid_request_error"}}, status=400)
        answered = asyncio.get_running_loop().create_future()
        await self.queue.put((prompt, wanted, answered))
        text, finish, counted = await answered
        usage = {"prompt_tokens": len(prompt), "completion_tokens": counted, "total_tokens": len(prompt) + counted}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return web.json_response(
            {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()), "model": self.model_name,
             "choices": [choice], "usage": usage}
        )  # fmt: skip

    async def _work(self) -> None:
        waiting: list = []
        while True:
            if not waiting:
                waiting.append(await self.queue.get())
            while not self.queue.empty():
                waiting.append(self.queue.get_nowait())
            settings = waiting[0][1].temperature, waiting[0][1].top_p
            waiting = [item for item in waiting if not item[2].done()]  # done: the client went away
            batch: list = []
            for item in waiting:
                alike = (item[1].temperature, item[1].top_p) == settings
                if alike and len(batch) < MAX_BATCH and (not batch or self.generator.fits([*batch, item])):
                    batch.append(item)
            waiting = [item for item in waiting if item not in batch]
            if not batch:
                continue
            prompts, requests, futures = map(list, zip(*batch, strict=True))
            try:
                results = await asyncio.to_thread(self.generator.generate, prompts, requests)
            except Exception as error:
                results = [error] * len(batch)
            for future, result in zip(futures, results, strict=True):
                if not future.done():
                    future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.serve", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="", help="folder or hub id; empty takes what `make weights` fetched")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    try:
        folder = Path(given.model) if given.model else weights.present()
        if folder is None:
            raise KitError("no model to serve: run `make weights`, or name one with MODEL=folder")
        if not folder.is_dir() and (folder.is_absolute() or given.model.count("/") != 1):
            raise KitError(f"{given.model} is neither a folder nor a hub id; `make weights` fetches a small model")
        named = weights.name(folder) if folder.is_dir() else given.model
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
        print(f"serving {server.model_name} at http://127.0.0.1:{port}/v1; research and teaching only, never medical advice", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
