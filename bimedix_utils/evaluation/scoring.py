"""Score multiple-choice items with a local model: one `Sample` per item, in memory that does not
grow with their number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import exp
from typing import Any

from ..core.records import Record
from .extraction import extract_option
from .loglikelihood import (
    ScoringStrategy,
    TokenizedItem,
    choose_strategy,
    loglikelihoods,
    max_positions,
    token_batches,
)
from .prompt_format import PromptFormat, prompt_tokens, render_prompt, split_tokens

WINDOW = 128  # items tokenised, sorted and batched together; also what a killed run loses at most
# Tokens of one forward pass. A CPU gains nothing from more, measured on 135M parameters; a tiny
# model's pass is mostly fixed cost.
_CPU_BUDGET, _TINY_BUDGET, _GPU_BUDGET = 512, 4096, 16384
_TINY_PARAMETERS = 30_000_000
NO_ANSWER = "no answer: "  # begins the `text` of an item that an endpoint did not answer
# times as many tokens where answers are written: each new token is one row of a batch
_GENERATION_FACTOR = 4
_GENERATION_TOKENS = 32  # of a written answer: the lead words, a letter and a little more


@dataclass(frozen=True)
class Sample:
    """One scored item. `hash` names its content; `key` is the index of the right option.

    `loglikelihoods` has one sum per option (natural log), `characters` the lengths of the scored
    texts, `mass` the probability of all options together. For `generation` these are empty: `text`
    is what the model wrote, `prediction` the option parsed from it, or None. `truncated` counts the
    tokens lost by left truncation, where the model has too few positions.
    """

    id: str
    lang: str
    hash: str
    key: int
    loglikelihoods: tuple[float, ...] = ()
    characters: tuple[int, ...] = ()
    mass: float = 0.0
    truncated: int = 0
    text: str = ""
    prediction: int | None = None

    @property
    def choice(self) -> int | None:
        """The likeliest option, of equals the first; the parsed prediction in `generation`."""
        return _argmax(self.loglikelihoods) if self.loglikelihoods else self.prediction

    @property
    def unanswered(self) -> bool:
        """Whether an endpoint failed to answer: wrong, and asked again by the next run."""
        return self.text.startswith(NO_ANSWER)

    @property
    def normalised_choice(self) -> int | None:
        """The option with the highest length-normalised log-likelihood (per character)."""
        pairs = zip(self.loglikelihoods, self.characters, strict=True)
        return _argmax([value / n for value, n in pairs]) if self.loglikelihoods else None

    @property
    def correct(self) -> bool:
        """True when the choice is the key (acc); an unanswered item is wrong."""
        return self.choice == self.key

    @property
    def normalised_correct(self) -> bool:
        """`correct` under the length-normalised choice (acc_norm)."""
        return self.normalised_choice == self.key

    @classmethod
    def of_record(cls, record: Record, **fields: Any) -> "Sample":
        """The sample of this record, with what was found."""
        return cls(record.id, record.lang, record.content_hash(), record.answer_index, **fields)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Sample":
        """From a line of a sample file."""
        lists = {name: tuple(row[name]) for name in ("loglikelihoods", "characters")}
        return cls(**{**row, **lists})

    def row(self) -> dict[str, Any]:
        """As a line of a sample file."""
        return asdict(self)


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda i: values[i])


def _default_budget(model: Any) -> int:
    if model.device.type != "cpu":
        return _GPU_BUDGET
    size = sum(parameter.numel() for parameter in model.parameters())
    return _TINY_BUDGET if size < _TINY_PARAMETERS else _CPU_BUDGET


class Scorer:
    """A model in memory that scores items. Its scoring strategy is tried once, not for every task.

    `budget` is the most tokens of one forward pass; 0 takes what suits the machine.
    """

    def __init__(self, model: Any, tokenizer: Any, budget: int = 0):
        self.model, self.tokenizer = model, tokenizer
        self.budget = budget or _default_budget(model)
        self._strategies: dict[bool, ScoringStrategy] = {}  # by whether a block mask is needed

    def score(
        self, records: Iterable[Record], fmt: PromptFormat, max_new_tokens: int = _GENERATION_TOKENS
    ) -> Iterator[Sample]:
        """Samples in the order of `records`, window by window: a window's batches depend on nothing
        outside it. `max_new_tokens` is for `generation`.

        Raises `AuditError` when a label cannot be told from the prompt's end (see `split_tokens`).
        """
        rows = iter(records)
        while window := list(islice(rows, WINDOW)):
            if fmt.protocol == "generation":
                prompts = [render_prompt(record, fmt, self.tokenizer).prompt for record in window]
                replies = self._generate(prompts, max_new_tokens)
                for record, (text, lost) in zip(window, replies, strict=True):
                    yield generated_sample(record, fmt, text, lost)
                continue
            items = [self._tokenized(record, fmt) for record in window]
            strategy = self._strategy(items)
            values = loglikelihoods(strategy, items, self.budget)
            for record, item, sums in zip(window, items, values, strict=True):
                yield _ranked_sample(record, item, sums, fmt, strategy)

    def respond(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int
    ) -> list[str]:
        """Greedy answers to conversations that end with the user, by the model's chat template."""
        render = self.tokenizer.apply_chat_template
        prompts = [
            render(turns, tokenize=False, add_generation_prompt=True) for turns in conversations
        ]
        return [text for text, _ in self._generate(prompts, max_new_tokens)]

    def strategy(self, record: Record, fmt: PromptFormat) -> ScoringStrategy:
        """Whether this model is scored by shared sequences, and if not, why not."""
        return self._strategy([self._tokenized(record, fmt)])

    def _tokenized(self, record: Record, fmt: PromptFormat) -> TokenizedItem:
        shown = render_prompt(record, fmt, self.tokenizer)
        before, after = split_tokens(self.tokenizer, shown)
        return TokenizedItem(tuple(before), tuple(map(tuple, after)))

    def _generate(self, prompts: list[str], max_new_tokens: int) -> list[tuple[str, int]]:
        budget = self.budget * _GENERATION_FACTOR
        return generate_greedy(self.model, self.tokenizer, prompts, max_new_tokens, budget)

    def _strategy(self, items: Sequence[TokenizedItem]) -> ScoringStrategy:
        """Tried on the shortest item; one of single-token options would not test the block mask."""
        masked = [item for item in items if item.masked]
        if bool(masked) not in self._strategies:
            probe = min(masked or items, key=lambda item: item.width)
            self._strategies[bool(masked)] = choose_strategy(self.model, probe)
        return self._strategies[bool(masked)]


def generated_sample(record: Record, fmt: PromptFormat, text: str, lost: int = 0) -> Sample:
    """The sample of a written answer; `lost` tokens of its prompt were truncated."""
    option = extract_option(text, record, fmt.labels(record.lang))
    return Sample.of_record(record, text=text, prediction=option, truncated=lost)


def _ranked_sample(
    record: Record,
    item: TokenizedItem,
    values: list[list[float]],
    fmt: PromptFormat,
    strategy: ScoringStrategy,
) -> Sample:
    sums = tuple(map(sum, values))
    letters = fmt.labels(record.lang)[: len(sums)]
    scored = letters if fmt.protocol == "label" else record.options
    return Sample.of_record(
        record,
        loglikelihoods=sums,
        characters=tuple(map(len, scored)),
        mass=sum(map(exp, sums)),
        truncated=max(0, item.reach - strategy.room),
    )


def generate_greedy(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, budget: int
) -> list[tuple[str, int]]:
    """(text written, prompt tokens lost by left truncation) for each prompt, greedy, in batches of
    at most `budget` tokens.

    Raises `ValueError` when an answer of `max_new_tokens` leaves no room for a prompt.
    """
    import torch

    room = max_positions(model) - max_new_tokens
    if room < 1:
        raise ValueError(f"max_new_tokens = {max_new_tokens} leaves no position for the prompt")
    coded = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    result: list[Any] = [None] * len(prompts)
    for batch in token_batches([min(len(ids), room) + max_new_tokens for ids in coded], budget):
        rows = [coded[i][-room:] for i in batch]
        width = max(map(len, rows))
        # Padded at the left: what is written follows the last token of each prompt.
        ids = [[pad] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=pad,
            )
        for i, tokens in zip(batch, out[:, width:], strict=True):
            text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            result[i] = text, max(0, len(coded[i]) - room)
    return result
