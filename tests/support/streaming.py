"""An OpenAI-compatible endpoint that streams, in a process of its own, so that a test can kill it
and start it again at the same port.

python tests/support/streaming.py PORT [WORD_SECONDS]     prints its port; GET /seen tells what it
saw

The last message says what it does: `slow N` streams N words, a tenth of a second each; `say TEXT`
answers TEXT; `status N`, `cut` (reset in mid-answer), `end` (ends without saying so), `junk`,
`error`, `whole` (does not stream; in two pieces), `silent`, `redirect`, `long` (ends at the
length); anything else is answered in its own language.
"""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

ARABIC = "الأنسولين هرمون يخفض سكر الدم ."
ENGLISH = "Insulin is a hormone that lowers blood sugar ."


def event(words: str = "", finish: str | None = None) -> bytes:
    """One event of a streamed answer."""
    choice = {"index": 0, "delta": {"content": words} if words else {}, "finish_reason": finish}
    return (
        f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()
    )


async def serve(port: int, pause: float) -> None:
    """Answer until killed."""
    from aiohttp import web

    seen: Counter[str] = Counter()
    bodies: list[dict] = []
    keys: list[str] = []

    async def models(request):
        if request.headers.get("Authorization") == "Bearer wrong":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        return web.json_response({"data": [{"id": "stub-model"}]})

    async def tell(request):
        return web.json_response({**seen, "bodies": bodies, "keys": keys})

    async def complete(request):
        body = await request.json()
        bodies.append(body)
        keys.append(request.headers.get("Authorization", ""))
        text = body["messages"][-1]["content"].split("\n")[-1]
        seen["asked"] += 1
        word, _, rest = text.partition(" ")
        wait, finish = pause, "stop"
        match word:
            case "status":
                return web.json_response({"error": {"message": "the reason"}}, status=int(rest))
            case "redirect":
                return web.Response(
                    status=307, headers={"Location": "http://127.0.0.1:9/v1/chat/completions"}
                )
            case "whole":
                choice = {
                    "index": 0,
                    "message": {"role": "assistant", "content": ENGLISH},
                    "finish_reason": "stop",
                }
                content = json.dumps({"choices": [choice]}).encode()
                reply = web.StreamResponse(headers={"Content-Type": "application/json"})
                await reply.prepare(request)
                for part in (content[:40], content[40:]):  # as a network would deliver a long one
                    await reply.write(part)
                    await asyncio.sleep(pause)
                return reply
            case "slow":
                words, wait = [f"word{i}" for i in range(int(rest))], 0.1
            case "say":
                words = rest.split(" ")
            case _:
                words = (
                    ARABIC if any("\u0600" <= letter <= "\u06ff" for letter in text) else ENGLISH
                ).split(" ")
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await reply.prepare(request)
        try:
            if word == "silent":
                await asyncio.sleep(60)
            for position, one in enumerate(words):
                if position == 2 and word == "cut":
                    request.transport.abort()
                    return reply
                if position == 2 and word == "end":
                    return reply
                if position == 2 and word == "junk":
                    await reply.write(b"data: {half\n\n")
                if position == 2 and word == "error":
                    await reply.write(b'data: {"error": {"message": "out of memory"}}\n\n')
                await reply.write(event(one + " "))
                seen["words"] += 1
                await asyncio.sleep(wait)
            await reply.write(event(finish="length" if word == "long" else finish))
            await reply.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            seen["left"] += 1  # the client went away
            raise
        return reply

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/seen", tell)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


class Streaming:
    """The running endpoint."""

    def __init__(self, pause: float = 0.02):
        self.pause, self.port = pause, 0
        self.start()

    def start(self) -> None:
        """Start it, the second time at the port it had."""
        command = [sys.executable, str(Path(__file__)), str(self.port), str(self.pause)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        """As the machine would: no goodbye."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def seen(self) -> dict:
        """What it saw: requests `asked`, `words` sent, clients that `left`, `bodies`, `keys`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/seen", timeout=10) as reply:
            return {"asked": 0, "words": 0, "left": 0, **json.load(reply)}


@contextmanager
def running(pause: float = 0.02):
    """The endpoint, as long as the block runs."""
    server = Streaming(pause)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
