"""How fast an endpoint may be asked: limits per minute, and pauses that it asks for."""

import asyncio
import math
import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from .ledger import estimated_prompt_tokens, max_completion_tokens
from .requests import Request
from .store import Answer

FAILURES_IN_A_ROW = 20  # or the number of requests under way at once, if that is more
_JITTER = random.Random()  # its own generator: the seeds of the run must not move


@dataclass(frozen=True)
class HttpEndpoint:
    """An endpoint and how fast it may be asked; a limit of 0 is off.

    `url` is the base, such as http://127.0.0.1:8000/v1. Tokens are counted by a guess (prompt
    bytes / 4 + the longest answer) that the returned usage corrects.
    """

    url: str
    concurrency: int = 8
    timeout: float = 120.0  # seconds for one answer
    requests_per_minute: float = 0
    tokens_per_minute: float = 0
    patience: float = 600.0  # seconds that one request waits in all between its tries

    @property
    def failures_tolerated(self) -> int:
        """Failures in a row before the rest is stopped; requests sent together count as one."""
        return max(FAILURES_IN_A_ROW, self.concurrency)


@dataclass
class Pace:
    """When the next request may go (time.monotonic); all calls of a run share one."""

    next_slot: float = 0.0  # the earliest moment that the limits per minute allow
    resume_at: float = 0.0  # after HTTP 429: no request goes before this moment

    async def wait_for_slot(self, request: Request, limits: HttpEndpoint) -> None:
        """Wait until the limits per minute and a pause after HTTP 429 allow the next request."""
        gap = 60 / limits.requests_per_minute if limits.requests_per_minute else 0.0
        if limits.tokens_per_minute:
            gap = max(gap, 60 * _estimated_tokens(request) / limits.tokens_per_minute)
        while True:
            while (pause := self.resume_at - time.monotonic()) > 0:
                # Not all at the same moment: the endpoint has just said that it cannot take that.
                await asyncio.sleep(pause + _JITTER.random() * min(1.0, pause))
            if not gap:
                return
            # Taken after the pause: slots saved up during it would all be used at once.
            now = time.monotonic()
            slot = max(now, self.next_slot)
            self.next_slot = slot + gap
            if slot > now:
                await asyncio.sleep(slot - now)
            if self.resume_at <= time.monotonic():
                return

    def correct(self, request: Request, answer: Answer, limits: HttpEndpoint) -> None:
        """Where more tokens came back than were guessed, the next request waits for them too."""
        if limits.tokens_per_minute:
            excess = sum(answer.usage.values()) - _estimated_tokens(request)
            wait = 60 * max(0, excess) / limits.tokens_per_minute
            # At most `patience`: a count of a billion tokens is the endpoint's mistake.
            wait = min(wait, limits.patience)
            self.next_slot = max(time.monotonic(), self.next_slot) + wait


def _estimated_tokens(request: Request) -> int:
    return estimated_prompt_tokens(request) + max_completion_tokens(request)


def retry_after(value: str) -> float | None:
    """Seconds to wait by the header (a number or a date); None when it cannot be read."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError, OSError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
