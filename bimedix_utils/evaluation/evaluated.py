"""Evaluated models: a local model (`nf4`, `float32` or `bfloat16`, with an adapter or without), or
an endpoint. Both have one interface.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.provenance import hash_path
from ..core.records import Record
from ..core.text import digest
from ..teacher import engine
from ..teacher.ledger import Ledger
from ..teacher.requests import Request
from ..teacher.settings import Teacher
from ..training import models, weights
from .endpoint_scoring import score_endpoint
from .prompt_format import PromptFormat
from .scoring import Sample, Scorer

_OPEN_TOKENS = 128  # of an open answer, unless a caller says otherwise


@dataclass
class EvaluatedLocal:
    """A model on this machine: hub id or folder, precision, adapter or none. It is loaded while
    `loaded` is open; one that is loaded already is not loaded again.
    """

    base: str | Path
    adapter: Path | None = None
    precision: str = "nf4"
    scorer: Scorer | None = field(default=None, init=False, repr=False)
    _identity: dict[str, Any] | None = field(default=None, init=False, repr=False)

    @contextmanager
    def loaded(self) -> Iterator["EvaluatedLocal"]:
        """The model in memory, released at the end."""
        if self.scorer is not None:
            yield self
            return
        if self.precision == "nf4":
            pair = models.load_scored(self.base, self.adapter)
        else:
            pair = models.load_plain(self.base, self.adapter, self.precision)
        self.scorer = Scorer(*pair)
        try:
            yield self
        finally:
            self.scorer = pair = None
            models.release_memory()

    def identity(self) -> dict[str, Any]:
        """What a score depends on: the weights' hash or the hub's commit, the adapter's hash, the
        precision. Read once: the 90 GB of Mixtral take minutes.
        """
        if self._identity is None:
            base = Path(self.base)
            if base.is_dir():
                own = hash_path(base)[:16]
            else:
                own = f"{self.base}@{weights.locked_revision(str(self.base))}"
            adapter = self.adapter and hash_path(self.adapter / "adapter_model.safetensors")[:16]
            self._identity = {"base": own, "adapter": adapter, "precision": self.precision}
        return self._identity

    def score(self, records: Sequence[Record], fmt: PromptFormat) -> Iterable[Sample]:
        """Samples in order."""
        return self.scorer.score(records, fmt)

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int = _OPEN_TOKENS
    ) -> list[str]:
        """Greedy answers to conversations that end with the user, by the model's chat template."""
        return self.scorer.respond(conversations, max_new_tokens)


@dataclass
class EvaluatedEndpoint:
    """An OpenAI-compatible model, asked through the teacher with its store and its limits."""

    teacher: Teacher

    @contextmanager
    def loaded(self) -> Iterator["EvaluatedEndpoint"]:
        """Nothing to load."""
        yield self

    def identity(self) -> dict[str, Any]:
        """Address, name and length of an answer: nobody can hash the weights behind them."""
        teacher = self.teacher
        return {"endpoint": teacher.url, "name": teacher.model, "max_tokens": teacher.max_tokens}

    def score(self, records: Sequence[Record], fmt: PromptFormat) -> Iterable[Sample]:
        """Samples in order."""
        return score_endpoint(self.teacher, records, fmt)

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int = _OPEN_TOKENS
    ) -> list[str]:
        """Answers to conversations that end with the user; "" where the endpoint gave none."""
        limits = (("max_tokens", max_new_tokens), ("temperature", 0.0))
        requests = []
        for turns in conversations:
            messages = tuple((turn["role"], turn["content"]) for turn in turns)
            name = digest(turns, 12)
            requests.append(
                Request("respond", name, 0, 0, "v1", self.teacher.model, messages, limits)
            )
        answers = engine.ask(self.teacher, requests)
        return [answers[request.id].text or "" for request in requests]


EvaluatedModel = EvaluatedLocal | EvaluatedEndpoint


def evaluated_model(
    name: str, adapter: str, precision: str, judge: Teacher, endpoint_model: str
) -> EvaluatedModel:
    """An evaluated model from a notebook's parameters: an address is an endpoint that knows its
    model as `endpoint_model`, anything else a local model.

    An endpoint keeps the limits of the notebook's `judge` and shares its spending and pace; the
    ledger is its own.
    """
    if name.startswith(("http://", "https://")):
        own = {
            "backend": "http",
            "url": name,
            "model": endpoint_model,
            "recordings": None,
            "temperature": 0.0,
            "ledger": Ledger(),
        }
        return EvaluatedEndpoint(judge.model_copy(update=own))
    base = Path(name) if Path(name).exists() else name
    return EvaluatedLocal(base, Path(adapter) if adapter else None, precision)
