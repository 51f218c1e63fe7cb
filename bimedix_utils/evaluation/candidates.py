"""Whatever can be evaluated: a local model in 4 bit or plain, with or without an adapter, or an
endpoint. One interface for all.
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
from . import endpoint, scoring
from .forms import Form
from .scoring import Sample

PRECISIONS = ("nf4", "float32", "bfloat16")


@dataclass
class Local:
    """A model on this machine: hub id or folder, in 4 bit (`nf4`) or plain, with an adapter or
    without. Loaded while `loaded` is open.
    """

    base: str | Path
    adapter: Path | None = None
    precision: str = "nf4"
    scorer: Any = field(
        default=None, init=False, repr=False
    )  # a `scoring.Scorer` while the model is loaded
    _identity: dict[str, Any] | None = field(default=None, init=False, repr=False)

    @contextmanager
    def loaded(self) -> Iterator["Local"]:
        """The model in memory, and gone afterwards."""
        load = models.load_scored if self.precision == "nf4" else models.load_plain
        more = () if self.precision == "nf4" else (self.precision,)
        self.scorer = scoring.Scorer(*load(self.base, self.adapter, *more))
        try:
            yield self
        finally:
            self.scorer = None
            models.release_memory()

    def identity(self) -> dict[str, Any]:
        """What a score depends on: the weights' hash, or the hub's commit; the adapter's hash; the
        precision.

        Read once for each candidate: Mixtral's 90 GB take minutes. A folder that changes later
        needs a new candidate.
        """
        if self._identity is None:
            base = Path(self.base)
            own = (
                hash_path(base)[:16]
                if base.is_dir()
                else f"{self.base}@{weights.locked_revision(str(self.base))}"
            )
            adapter = (
                hash_path(self.adapter / "adapter_model.safetensors")[:16] if self.adapter else None
            )
            self._identity = {"base": own, "adapter": adapter, "precision": self.precision}
        return self._identity

    def score(self, records: Sequence[Record], form: Form) -> Iterable[Sample]:
        """Samples in order."""
        return self.scorer.score(records, form)

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int = 128
    ) -> list[str]:
        """Greedy answers to conversations that end with the user, through the model's chat
        template.
        """
        return self.scorer.respond(conversations, max_new_tokens)


@dataclass
class Endpoint:
    """An OpenAI-compatible model; asked through the teacher engine, with its store and its limits."""

    teacher: Teacher

    @contextmanager
    def loaded(self) -> Iterator["Endpoint"]:
        """Nothing to load."""
        yield self

    def identity(self) -> dict[str, Any]:
        """Address, name and length of an answer: nobody can hash what stands behind them."""
        return {
            "endpoint": self.teacher.url,
            "name": self.teacher.model,
            "max_tokens": self.teacher.max_tokens,
        }

    def score(self, records: Sequence[Record], form: Form) -> Iterable[Sample]:
        """Samples in order."""
        return endpoint.score(self.teacher, records, form)

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int = 128
    ) -> list[str]:
        """Answers to conversations that end with the user; an empty text where the endpoint gave
        none.
        """
        limits = (("max_tokens", max_new_tokens), ("temperature", 0.0))
        asked = [
            Request(
                "respond",
                digest(turns, 12),
                0,
                0,
                "v1",
                self.teacher.model,
                tuple((t["role"], t["content"]) for t in turns),
                limits,
            )
            for turns in conversations
        ]
        answers = engine.ask(self.teacher, asked)
        return [answers[request.id].text or "" for request in asked]


Candidate = Local | Endpoint


def from_model(
    name: str, adapter: str, precision: str, judge: Teacher, endpoint_model: str
) -> Candidate:
    """A candidate from a notebook's parameters: an address is an endpoint that knows its model as
    `endpoint_model`, else a local model.

    An endpoint keeps the limits of the notebook's `judge`, and shares its spending and its pace;
    the ledger is its own.
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
        return Endpoint(judge.model_copy(update=own))
    return Local(
        Path(name) if Path(name).exists() else name, Path(adapter) if adapter else None, precision
    )
