"""Score multiple-choice items with a local model, one `Sample` an item, in memory that does not
grow with their number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import exp
from typing import Any

from ..core.records import Record
from . import extract, generation
from .forms import Form, asked, split_tokens
from .forward import Question, Way, loglikelihoods, way

WINDOW = 128  # items tokenised, sorted and batched together; also what a killed run loses at most
# Tokens of one pass. A processor gains nothing from more, measured on 135M parameters; a tiny
# model's pass is mostly fixed cost.
CPU_BUDGET, TINY_BUDGET, GPU_BUDGET = 512, 4096, 16384
TINY = 30_000_000  # parameters
# begins the `text` of an item that an endpoint did not answer; the reason follows
NO_ANSWER = "no answer: "
# times as many where answers are written: each further token is one row of a batch, and rows are
# cheap
WRITERS = 4


@dataclass(frozen=True)
class Sample:
    """One scored item.

    `loglikelihoods` has one sum an option (natural log), `characters` the lengths of what was
    scored, `mass` the probability of all options together; for `generation` these are empty, `text`
    is what the model wrote and `said` the option read from it, or None. `hash` names the item's
    content; `cut` counts tokens lost at the left because the model has too few positions.
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
    def unanswered(self) -> bool:
        """Whether an endpoint failed to answer: wrong, and asked again by the next run."""
        return self.text.startswith(NO_ANSWER)

    @property
    def normalised_choice(self) -> int | None:
        """The likeliest option a character: long options are no longer at a disadvantage."""
        return (
            _argmax(
                [value / n for value, n in zip(self.loglikelihoods, self.characters, strict=True)]
            )
            if self.loglikelihoods
            else None
        )

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
        return cls(
            **{
                **row,
                "loglikelihoods": tuple(row["loglikelihoods"]),
                "characters": tuple(row["characters"]),
            }
        )

    def row(self) -> dict[str, Any]:
        """As a line of a sample file."""
        return asdict(self)


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: values[i])


def budget_of(model: Any) -> int:
    """Tokens of one pass that suit where the model is."""
    if model.device.type != "cpu":
        return GPU_BUDGET
    return (
        TINY_BUDGET
        if sum(parameter.numel() for parameter in model.parameters()) < TINY
        else CPU_BUDGET
    )


class Scorer:
    """A model in memory, asked about items. How it can be asked is tried once, not for every task
    again.

    `budget` is the most tokens of one pass; 0 takes what suits the machine (see `budget_of`).
    """

    def __init__(self, model: Any, tokenizer: Any, budget: int = 0):
        self.model, self.tokenizer, self.budget = model, tokenizer, budget or budget_of(model)
        self._ways: dict[bool, Way] = {}  # by whether a block mask is needed

    def score(
        self, records: Iterable[Record], form: Form, max_new_tokens: int = generation.TOKENS
    ) -> Iterator[Sample]:
        """Samples in the order of `records`, window by window: a window's batches depend on nothing
        outside it.

        Rows too long for the model lose tokens at the left, where the context begins; the loss is
        counted in the sample. `max_new_tokens` is for `generation`. Raises `AuditError` when a
        label cannot be told from the prompt's end (see `forms.split_tokens`).
        """
        rows = iter(records)
        while window := list(islice(rows, WINDOW)):
            if form.protocol == "generation":
                replies = self._written(
                    [asked(record, form, self.tokenizer).prompt for record in window],
                    max_new_tokens,
                )
                yield from (
                    said(record, form, text, cut)
                    for record, (text, cut) in zip(window, replies, strict=True)
                )
                continue
            questions = [_question(self.tokenizer, record, form) for record in window]
            found = self._way(questions)
            values = loglikelihoods(found, questions, self.budget)
            yield from (
                _sample(*each, form, found) for each in zip(window, questions, values, strict=True)
            )

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int
    ) -> list[str]:
        """Greedy answers to conversations that end with the user, through the model's chat
        template.
        """
        prompts = [
            self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            for turns in conversations
        ]
        return [text for text, _ in self._written(prompts, max_new_tokens)]

    def how(self, record: Record, form: Form) -> Way:
        """Whether this model is scored by shared sequences, and if not, why not."""
        return self._way([_question(self.tokenizer, record, form)])

    def _written(self, prompts: list[str], max_new_tokens: int) -> list[tuple[str, int]]:
        return generation.local(
            self.model, self.tokenizer, prompts, max_new_tokens, self.budget * WRITERS
        )

    def _way(self, questions: Sequence[Question]) -> Way:
        """Tried on the shortest question; one without a second token would say nothing of the block
        mask.
        """
        masked = [question for question in questions if question.masked]
        if bool(masked) not in self._ways:
            self._ways[bool(masked)] = way(
                self.model, min(masked or questions, key=lambda question: question.width)
            )
        return self._ways[bool(masked)]


def score(model: Any, tokenizer: Any, records: Iterable[Record], form: Form) -> list[Sample]:
    """Every item's sample, in the order of `records`; see `Scorer`, which is better where a model
    is asked more than once.
    """
    return list(Scorer(model, tokenizer).score(records, form))


def _question(tokenizer: Any, record: Record, form: Form) -> Question:
    before, after = split_tokens(tokenizer, asked(record, form, tokenizer))
    return Question(tuple(before), tuple(map(tuple, after)))


def _sample(
    record: Record, question: Question, values: list[list[float]], form: Form, found: Way
) -> Sample:
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
    return Sample(
        record.id,
        record.lang,
        record.content_hash(),
        record.answer_index,
        text=text,
        said=option,
        cut=cut,
    )
