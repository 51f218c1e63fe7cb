"""What answers cost: prices from a table the user edits, a spending limit, and sums by stage."""

import csv
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import TeacherError
from .requests import Request
from .store import Answer

# For estimates only: near most tokenizers in English; Arabic takes two bytes a letter.
BYTES_PER_TOKEN = 4
LEDGER_COLUMNS = (
    "stage,requests,answered,of these new,failed,prompt tokens,completion tokens,US dollars"
).split(",")


def estimated_prompt_tokens(request: Request) -> int:
    """A guess at a request's prompt tokens: UTF-8 bytes / 4."""
    size = sum(len(text.encode("utf-8")) for _, text in request.messages)
    return math.ceil(size / BYTES_PER_TOKEN)


def max_prompt_tokens(request: Request) -> int:
    """More than any tokenizer makes of a prompt: a token a byte, and room for the chat template."""
    return sum(len(text.encode("utf-8")) + 64 for _, text in request.messages)


def max_completion_tokens(request: Request) -> int:
    """The most tokens the answer may have."""
    return int(dict(request.parameters).get("max_tokens", 0))


def number_or_not_found(value: float | None, form: str) -> str:
    """A formatted number; `not found` for None."""
    return "not found" if value is None else format(value, form)


@dataclass(frozen=True)
class TokenPrice:
    """US dollars for a million tokens."""

    prompt: float
    completion: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def price_of(model: str, table: Path) -> TokenPrice | None:
    """The model's line in the price table, or None. Raises `TeacherError` for a bad line."""
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        problem = type(error).__name__
        raise TeacherError(f"the price table {table.name} cannot be read ({problem})") from None
    for number, row in enumerate(rows, start=2):
        if row.get("model") != model:
            continue
        where = f"{table.name}, line {number}"
        columns = ("usd_per_million_prompt_tokens", "usd_per_million_completion_tokens")
        try:
            prices = [float(row[column]) for column in columns]
        except (KeyError, TypeError, ValueError):
            raise TeacherError(f"{where}: the price of {model} is not two numbers") from None
        if not all(math.isfinite(price) and price >= 0 for price in prices):
            raise TeacherError(f"{where}: a price is a number from 0 upwards")
        return TokenPrice(*prices)
    return None


@dataclass
class Spending:
    """US dollars of one run of a notebook; all its calls share one, and so keep one limit."""

    spent: float = 0.0
    reserved: float = 0.0  # worst case of what is under way, or was when a run was stopped

    @property
    def booked(self) -> float:
        """What may have been spent by now."""
        return self.spent + self.reserved


@dataclass
class Meter:
    """Keeps spending under `limit` US dollars: what is under way is reserved at its worst case.

    A try that may be charged without an answer is booked at its worst case; the next try needs a
    reservation of its own. An endpoint that bills more than `max_tokens` for one answer (hidden
    reasoning, say) cannot be stopped beforehand: the answer is booked as billed, and nothing is
    sent above the limit after it. A `price` of None is unknown: nothing is sent then.
    """

    price: TokenPrice | None
    limit: float
    run: Spending = field(default_factory=Spending)
    refused: float = 0.0  # worst case of the most expensive request refused

    def worst(self, request: Request) -> float:
        """The most a request can cost."""
        if self.price is None or not (self.price.prompt or self.price.completion):
            return 0.0
        return self.price.cost(max_prompt_tokens(request), max_completion_tokens(request))

    def reserve(self, request: Request) -> bool:
        """Reserve a request's worst case; False when it might break the limit."""
        worst = self.worst(request)
        if worst and self.run.booked + worst > self.limit:
            self.refused = max(self.refused, worst)
            return False
        self.run.reserved += worst
        return True

    def release(self, request: Request) -> None:
        """Give back the reservation of a try that was not sent, or certainly not charged."""
        self.run.reserved -= self.worst(request)

    def cost(self, request: Request, answer: Answer) -> float | None:
        """The cost by the endpoint's own token counts; None without an answer or counts."""
        counted = {"prompt_tokens", "completion_tokens"} <= answer.usage.keys()
        if self.price is None or answer.text is None or not counted:
            return None
        return self.price.cost(answer.usage["prompt_tokens"], answer.usage["completion_tokens"])

    def uncounted(self, request: Request, answer: Answer) -> float:
        """Worst case of all that may be charged for this answer and was not counted."""
        uncounted = answer.charged if answer.text is None else self.cost(request, answer) is None
        return self.worst(request) * (answer.lost + uncounted) if answer.lost or uncounted else 0.0

    def settle(self, request: Request, answer: Answer, reserved: bool = True) -> float | None:
        """Book an answer or failure in place of its reservations; returns its `cost`."""
        cost = self.cost(request, answer)
        if reserved:
            self.run.reserved -= self.worst(request) * (1 + answer.lost)
        self.run.spent += (cost or 0.0) + self.uncounted(request, answer)
        return cost


@dataclass
class StageTotals:
    """One stage's sums; tokens and cost are those of new answers, as the endpoint counted them."""

    requests: int = 0  # equal ones count once a call
    answered: int = 0
    bought: int = 0  # answered now, not found in the store
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    uncounted_usd: float = 0.0  # worst case of what may be charged and was not counted

    def row(self) -> tuple:
        """The sums as a table row, see `LEDGER_COLUMNS`; dollars with what may be added."""
        more = f" and up to {self.uncounted_usd:.2f} not counted" if self.uncounted_usd else ""
        counts = (self.requests, self.answered, self.bought, self.failed)
        return *counts, self.prompt_tokens, self.completion_tokens, f"{self.cost_usd:.2f}{more}"


@dataclass
class Ledger:
    """Sums by stage, in the order the stages were first asked."""

    stages: dict[str, StageTotals] = field(default_factory=dict)

    def stage(self, name: str) -> StageTotals:
        """The sums of a stage, made when it is new."""
        return self.stages.setdefault(name, StageTotals())

    @property
    def missing(self) -> int:
        """Requests without an answer, all stages together."""
        return sum(entry.requests - entry.answered for entry in self.stages.values())

    @property
    def answered(self) -> dict[str, int]:
        """Answered requests of each stage."""
        return {name: entry.answered for name, entry in self.stages.items()}

    def looked_up(self, estimate: "Estimate") -> None:
        """Count what was asked and what of it was stored."""
        for name, number in estimate.asked.items():
            entry = self.stage(name)
            entry.requests += number
            entry.answered += estimate.answered[name]

    def bought(
        self, request: Request, answer: Answer, cost: float | None, uncounted: float = 0.0
    ) -> None:
        """Count a new answer or failure."""
        entry = self.stage(request.stage)
        entry.uncounted_usd += uncounted
        if answer.text is None:
            entry.failed += 1
            return
        entry.bought += 1
        entry.answered += 1
        entry.prompt_tokens += answer.usage.get("prompt_tokens", 0)
        entry.completion_tokens += answer.usage.get("completion_tokens", 0)
        entry.cost_usd += cost or 0.0

    def rows(self) -> list[tuple]:
        """The ledger as table rows, see `LEDGER_COLUMNS`."""
        return [(name, *entry.row()) for name, entry in self.stages.items()]


@dataclass
class Estimate:
    """What sending would take; dollars and hours are None where nothing is known to count with."""

    asked: Counter[str] = field(default_factory=Counter)  # distinct requests by stage
    answered: Counter[str] = field(default_factory=Counter)  # of these stored
    prompt_tokens: int = 0  # a guess, see `estimated_prompt_tokens`
    prompt_tokens_most: int = 0
    completion_tokens_most: int = 0
    price: TokenPrice | None = None
    mean_completion: float | None = None  # of this model's stored answers
    mean_seconds: float | None = None
    concurrency: int = 1

    def add(self, request: Request, stored: bool) -> None:
        """Count one distinct request."""
        self.asked[request.stage] += 1
        self.answered[request.stage] += stored
        if not stored:
            self.prompt_tokens += estimated_prompt_tokens(request)
            self.prompt_tokens_most += max_prompt_tokens(request)
            self.completion_tokens_most += max_completion_tokens(request)

    @property
    def to_send(self) -> int:
        """Requests without a stored answer."""
        return self.asked.total() - self.answered.total()

    @property
    def most_usd(self) -> float | None:
        """Cost of a token a byte and answers of full length: the limit is kept with this."""
        if self.price is None:
            return None
        return self.price.cost(self.prompt_tokens_most, self.completion_tokens_most)

    @property
    def expected_usd(self) -> float | None:
        """Cost if answers are as long as those already stored."""
        if self.price is None or self.mean_completion is None:
            return None
        return self.price.cost(self.prompt_tokens, round(self.mean_completion * self.to_send))

    @property
    def hours(self) -> float | None:
        """Time at this concurrency if answers take as long as those already stored."""
        if self.mean_seconds is None:
            return None
        return self.to_send * self.mean_seconds / self.concurrency / 3600

    def rows(self) -> list[tuple[str, str]]:
        """The estimate as table rows; `not found` where there is nothing to count with."""
        expected = number_or_not_found(self.expected_usd, ",.2f")
        return [
            ("requests", f"{self.asked.total():,}"),
            ("answered already", f"{self.answered.total():,}"),
            ("to send", f"{self.to_send:,}"),
            ("prompt tokens, guessed", f"{self.prompt_tokens:,}"),
            ("completion tokens, at most", f"{self.completion_tokens_most:,}"),
            ("US dollars, at most", number_or_not_found(self.most_usd, ",.2f")),
            ("US dollars, if answers are as long as before", expected),
            ("hours, if answers take as long as before", number_or_not_found(self.hours, ",.2f")),
        ]


def mean_usage(
    totals: Iterable[dict], model: str, stages: set[str]
) -> tuple[float | None, float | None]:
    """(mean completion tokens, mean seconds) of a model's stored answers in some stages."""
    rows = [row for row in totals if row["model"] == model and row["stage"] in stages]

    def mean(key: str, counted: str) -> float | None:
        known = [(row[key], row[counted]) for row in rows if row[key] is not None]
        weight = sum(n for _, n in known)
        return sum(value * n for value, n in known) / weight if weight else None

    return mean("mean_completion", "counted"), mean("mean_seconds", "answers")
