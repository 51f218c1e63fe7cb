"""Score multiple-choice items with a local model, one `Sample` an item, in memory that does not grow with their number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import exp
from typing import Any

from ..records import Record
from . import extract, generation
from .forms import Form, asked, split_tokens
from .forward import Question, Way, loglikelihoods, way

WINDOW = 128  # items tokenised, sorted and batched together; also what a killed run loses at most
# Tokens of one pass. A processor gains nothing from more, measured on 135M parameters; a tiny model's pass is mostly fixed cost.
CPU_BUDGET, TINY_BUDGET, GPU_BUDGET = 512, 4096, 16384
TINY = 30_000_000  # parameters
WRITERS = 4  # times as many where answers are written: each further token is one row of a batch, and rows are cheap


@dataclass(frozen=True)
class Sample:
    """One scored item.

    `loglikelihoods` has one sum an option (natural log), `characters` the lengths of what was scored, `mass` the probability of all options
    together; for `generation` these are empty, `text` is what the model wrote and `said` the option read from it, or None.
    `hash` names the item's content; `cut` counts tokens lost at the left because the model has too few positions.
    """

    id: str
    lang: str
    hash: str
    key: int
    loglikelihoods: tuple[float, ...] = ()
    characters: tuple[int, ...] = ()
    mass: float = 0.0
    cut: int = 0
    text: str = ""
    said: int | None = None

    @property
    def choice(self) -> int | None:
        """The likeliest option, of equals the first; what was said in a `generation`."""
        return _argmax(self.loglikelihoods) if self.loglikelihoods else self.said

    @property
    def normalised_choice(self) -> int | None:
        """The likeliest option a character: long options are no longer at a disadvantage."""
        return _argmax([value / n for value, n in zip(self.loglikelihoods, self.characters, strict=True)]) if self.loglikelihoods else None

    @property
    def correct(self) -> bool:
        """True when the choice is the key; an unanswered item is wrong."""
        return self.choice == self.key

    @property
    def normalised_correct(self) -> bool:
        """`correct` under the length-normalised choice."""
        return self.normalised_choice == self.key

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Sample":
        """From a line of a sample file."""
        return cls(**{**row, "loglikelihoods": tuple(row["loglikelihoods"]), "characters": tuple(row["characters"])})

    def row(self) -> dict[str, Any]:
        """As a line of a sample file."""
        return asdict(self)


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: values[i])


def budget_of(model: Any) -> int:
    """Tokens of one pass that suit where the model is."""
    if model.device.type != "cpu":
        return GPU_BUDGET
    return TINY_BUDGET if sum(parameter.numel() for parameter in model.parameters()) < TINY else CPU_BUDGET


def score(
    model: Any, tokenizer: Any, records: Sequence[Record], form: Form, budget: int = 0, max_new_tokens: int = generation.TOKENS
) -> list[Sample]:
    """Every item's sample, in the order of `records`; see `stream`."""
    return list(stream(model, tokenizer, records, form, budget, max_new_tokens))


def stream(
    model: Any, tokenizer: Any, records: Iterable[Record], form: Form, budget: int = 0, max_new_tokens: int = generation.TOKENS
) -> Iterator[Sample]:
    """Samples in the order of `records`, window by window: a window's batches depend on nothing outside it.

    Rows too long for the model lose tokens at the left, where the context begins; the loss is counted in the sample. `max_new_tokens` is
    for `generation`. Raises `AuditError` when a label cannot be told from the prompt's end (see `forms.split_tokens`).
    """
    budget, rows, found = budget or budget_of(model), iter(records), None
    while window := list(islice(rows, WINDOW)):
        if form.protocol == "generation":
            prompts = [asked(record, form, tokenizer).prompt for record in window]
            replies = generation.local(model, tokenizer, prompts, max_new_tokens, budget * WRITERS)
            yield from (said(record, form, text, cut) for record, (text, cut) in zip(window, replies, strict=True))
            continue
        questions = [_question(tokenizer, record, form) for record in window]
        found = found or way(model, min(questions, key=lambda question: question.width))
        values = loglikelihoods(found, questions, budget)
        yield from (_sample(*each, form, found) for each in zip(window, questions, values, strict=True))


def how(model: Any, tokenizer: Any, record: Record, form: Form) -> Way:
    """Whether this model is scored by shared sequences, and if not, why not."""
    return way(model, _question(tokenizer, record, form))


def _question(tokenizer: Any, record: Record, form: Form) -> Question:
    before, after = split_tokens(tokenizer, asked(record, form, tokenizer))
    return Question(tuple(before), tuple(map(tuple, after)))


def _sample(record: Record, question: Question, values: list[list[float]], form: Form, found: Way) -> Sample:
    sums = tuple(sum(option) for option in values)
    scored = form.labels(record.lang)[: len(sums)] if form.protocol == "label" else record.options
    room = getattr(found.core.config, "max_position_embeddings", None) or question.reach
    return Sample(
        record.id, record.lang, record.content_hash(), record.answer_index, sums, tuple(map(len, scored)),
        sum(map(exp, sums)), max(0, question.reach - room),
    )  # fmt: skip


def said(record: Record, form: Form, text: str, cut: int = 0) -> Sample:
    """The sample of a written answer."""
    option = extract.option(text, record, form.labels(record.lang))
    return Sample(record.id, record.lang, record.content_hash(), record.answer_index, text=text, said=option, cut=cut)
