"""A lean OpenAI-compatible endpoint in a process of its own: a fixed latency, a fixed answer, and a
count of what it answered.

python tests/support/server.py LATENCY_SECONDS     prints its port; GET /counts gives {hash of the
messages: answers sent}
"""

import asyncio
import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

BODY = json.dumps(
    {
        "id": "stub",
        "object": "chat.completion",
        "model": "stub",
        "usage": {"prompt_tokens": 30, "completion_tokens": 60},
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": json.dumps({"text": "word " * 60})},
            }
        ],
    }
).encode()


def name(messages: list[dict]) -> str:
    """Names a request by what it asks."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:16]


async def serve(latency: float) -> None:
    """Answer until killed."""
    from aiohttp import web

    answered: Counter[str] = Counter()

    async def handle(request):
        if request.method == "GET":
            return web.Response(body=json.dumps(answered).encode(), content_type="application/json")
        raw = await request.read()
        await asyncio.sleep(latency)
        answered[name(json.loads(raw)["messages"])] += 1
        return web.Response(body=BODY, content_type="application/json")

    runner = web.ServerRunner(web.Server(handle), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


@contextmanager
def running(latency: float):
    """The endpoint's base URL, as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(latency)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def counts(url: str) -> dict[str, int]:
    """How often each request was answered."""
    for attempt in range(5):
        try:
            with urllib.request.urlopen(url.replace("/v1", "/counts"), timeout=20) as reply:
                return json.load(reply)
        except OSError:
            time.sleep(attempt)
    raise RuntimeError("the server does not say what it answered")


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
