"""Log-likelihoods of continuations, with as few tokens through the model as possible.

*Shared*: one sequence per item. The context stands once, its options follow side by side. A block
mask keeps the options from seeing each other, and each option starts at the position where the
context ends, so its tokens are computed as if it stood alone. *Plain*: one sequence per option, for
models that take no such mask. Both compute the output layer only where a scored token is predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

STRATEGY_TOLERANCE = 1e-3  # natural log: shared and plain may differ by rounding only
_HEAD_ROWS = 128  # positions through the output layer at once: 26 MB with a vocabulary of 50,000
# What a model raises that takes no four-dimensional mask.
_MASK_ERRORS = (
    AttributeError,
    TypeError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    IndexError,
)


@dataclass(frozen=True)
class TokenizedItem:
    """A context and its options as token ids. The context's last position predicts the first token
    of every option.
    """

    context: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Tokens of the shared sequence: an option's last token is predicted, never read."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)

    @property
    def reach(self) -> int:
        """Positions that the longest option needs."""
        return len(self.context) + max(map(len, self.options)) - 1

    @property
    def masked(self) -> bool:
        """Whether a block mask is needed: single tokens are all predicted from the context."""
        return any(len(option) > 1 for option in self.options)


@dataclass(frozen=True)
class ScoringStrategy:
    """How a model is scored: by shared sequences where it can be; if not, `reason` says why.

    `core` is the model without PEFT's outer class (adapters stay inside); `window` is the number of
    tokens a sliding-window layer looks back: beyond it a block mask would give other numbers.
    """

    core: Any
    shared: bool
    reason: str
    window: int | None

    @property
    def room(self) -> int:
        """Positions the model has."""
        return max_positions(self.core)


def max_positions(model: Any) -> int:
    """The model's `max_position_embeddings`; a very large number when its config has none."""
    return getattr(model.config, "max_position_embeddings", None) or 1 << 30


def choose_strategy(model: Any, probe: TokenizedItem) -> ScoringStrategy:
    """Score one item both ways; `shared` needs agreement within `STRATEGY_TOLERANCE`."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    sliding = getattr(core.config, "use_sliding_window", True)
    window = getattr(core.config, "sliding_window", None) if sliding else None
    plain = ScoringStrategy(core, False, "", window)
    expected = next(_plain(plain, [probe]))
    try:
        found = _shared(core, [probe])[0]
    except _MASK_ERRORS as error:
        reason = f"the model takes no block mask ({type(error).__name__})"
        return ScoringStrategy(core, False, reason, window)
    options = zip(found, expected, strict=True)
    apart = max(abs(a - b) for one, other in options for a, b in zip(one, other, strict=True))
    if not apart <= STRATEGY_TOLERANCE:  # also when it is NaN
        reason = f"with a block mask the log-likelihoods differ by {apart:.1g}"
        return ScoringStrategy(core, False, reason, window)
    return ScoringStrategy(core, True, "", window)


def loglikelihoods(
    strategy: ScoringStrategy, items: Sequence[TokenizedItem], budget: int
) -> list[list[list[float]]]:
    """For each item and option the natural log-probabilities of its tokens, in the order given; at
    most `budget` tokens per forward pass.
    """
    within = min(strategy.room, strategy.window or strategy.room)
    result: list[Any] = [None] * len(items)
    shared = [i for i, q in enumerate(items) if strategy.shared and q.reach <= within]
    for batch in token_batches([items[i].width for i in shared], budget):
        indices = [shared[number] for number in batch]
        found = _shared(strategy.core, [items[i] for i in indices])
        for i, values in zip(indices, found, strict=True):
            result[i] = values
    plain = [i for i, values in enumerate(result) if values is None]
    found = _plain(strategy, [items[i] for i in plain], budget)
    for i, values in zip(plain, found, strict=True):
        result[i] = values
    return result


def token_batches(widths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `widths`, longest first, cut so that no padded batch exceeds `budget` tokens; a
    wider row is a batch of its own.
    """
    result: list[list[int]] = []
    for index in sorted(range(len(widths)), key=lambda i: (-widths[i], i)):
        if not result or (len(result[-1]) + 1) * widths[result[-1][0]] > budget:
            result.append([])
        result[-1].append(index)
    return result


def _shared(core: Any, batch: Sequence[TokenizedItem]) -> list[list[list[float]]]:
    """One right-padded sequence per item: [context, option 1 less its last token, option 2 ...]."""
    import torch

    longest = max(q.width for q in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    # 0 is the context, which every token sees; 1, 2, ... the options, which see the context and
    # themselves; -1 is padding.
    part = torch.full_like(ids, -1)
    positions = torch.zeros_like(ids)
    sources, targets = [], []  # of each scored token: the flat index that predicts it, the token
    for row, item in enumerate(batch):
        end = n = len(item.context)
        ids[row, :n], part[row, :n] = torch.tensor(item.context), 0
        positions[row, :n] = torch.arange(n)
        for number, option in enumerate(item.options, start=1):
            inner = len(option) - 1
            if inner:
                span = slice(end, end + inner)
                ids[row, span], part[row, span] = torch.tensor(option[:-1]), number
                positions[row, span] = torch.arange(n, n + inner)
            sources += [row * longest + i for i in (n - 1, *range(end, end + inner))]
            targets += option
            end += inner
    inputs = {"input_ids": ids.to(core.device), "use_cache": False}
    # Without a second token no options stand side by side: padding comes after what is read, and
    # the causal mask hides it.
    if any(item.masked for item in batch):
        causal = torch.ones(longest, longest, dtype=torch.bool).tril()
        seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
        inputs["attention_mask"] = (seen & causal)[:, None].to(core.device)
        inputs["position_ids"] = positions.to(core.device)
    with torch.inference_mode():
        hidden = getattr(core, core.base_model_prefix)(**inputs).last_hidden_state.flatten(0, 1)
        values = iter(_head(core, hidden, sources, targets))
    return [[[next(values) for _ in option] for option in item.options] for item in batch]


def _head(core: Any, hidden: "torch.Tensor", sources: list[int], targets: list[int]) -> list[float]:
    """log p(target) at each source; each source goes through the output layer once, `_HEAD_ROWS` at
    a time.
    """
    import torch

    distinct = sorted(set(sources))
    index = {source: i for i, source in enumerate(distinct)}
    uses: list[list[int]] = [[] for _ in distinct]
    for number, source in enumerate(sources):
        uses[index[source]].append(number)
    result = [0.0] * len(sources)
    head = core.get_output_embeddings()
    for begin in range(0, len(distinct), _HEAD_ROWS):
        chunk = distinct[begin : begin + _HEAD_ROWS]
        logits = head(hidden[torch.tensor(chunk, device=hidden.device)]).float()
        numbers = [(row, number) for row in range(len(chunk)) for number in uses[begin + row]]
        rows = torch.tensor([row for row, _ in numbers], device=logits.device)
        tokens = torch.tensor([targets[number] for _, number in numbers], device=logits.device)
        found = (logits[rows, tokens] - logits.logsumexp(-1)[rows]).tolist()
        for (_, number), value in zip(numbers, found, strict=True):
            result[number] = value
    return result


def _plain(
    strategy: ScoringStrategy, items: Sequence[TokenizedItem], budget: int = 1
) -> Iterator[list[list[float]]]:
    """One sequence per option; a text too long for the model loses its beginning."""
    core, room = strategy.core, strategy.room
    for item in items:
        if not item.masked:  # one position decides between all
            first = [[option[0] for option in item.options]]
            yield [[value] for value in _rows(core, [item.context[-room:]], first, side=True)[0]]
            continue
        inputs = [(item.context + option)[:-1][-room:] for option in item.options]
        size = max(1, budget // max(map(len, inputs)))
        values: list[list[float]] = []
        for begin in range(0, len(inputs), size):
            part = slice(begin, begin + size)
            values += _rows(core, inputs[part], item.options[part])
        yield values


def _rows(
    core: Any, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], side: bool = False
) -> list[list[float]]:
    """log p of each row's target tokens, predicted at its last positions; `side`: all at the very
    last position.
    """
    import torch

    ids = torch.zeros(len(inputs), max(map(len, inputs)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(inputs):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    device = {"input_ids": ids.to(core.device), "attention_mask": mask.to(core.device)}
    with torch.inference_mode():
        logits = core(**device, use_cache=False).logits
    result = []
    for row, target in enumerate(targets):
        end, width = len(inputs[row]), 1 if side else len(target)
        found = logits[row, end - width : end].float().log_softmax(-1)
        tokens = torch.tensor(target, device=found.device)
        picked = found[0, tokens] if side else found.gather(1, tokens[:, None])[:, 0]
        result.append(picked.tolist())
    return result
