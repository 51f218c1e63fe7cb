"""Log-likelihoods of continuations, with as few tokens through the model as the question allows.

*Shared*: one sequence a question. The context stands once, the options behind it side by side; a
block mask keeps them from seeing each other and each restarts at the position where the context
ends, so every option's words are computed as if it stood alone. *Plain*: one sequence an option,
for models that take no such mask. Both compute the output layer only where a scored word is
predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

AGREE = 1e-3  # natural log: shared and plain may differ by rounding only
HEAD_ROWS = (
    128  # positions through the output layer at once: with a vocabulary of 50,000 that is 26 MB
)


@dataclass(frozen=True)
class Question:
    """A context and its options as token ids. The first tokens of all options are predicted from
    the context's last position.
    """

    context: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Tokens of the one shared sequence: an option's last token is predicted, never read."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)

    @property
    def reach(self) -> int:
        """Positions the longest option needs."""
        return len(self.context) + max(map(len, self.options)) - 1

    @property
    def masked(self) -> bool:
        """Whether options stand side by side and must not see each other: single tokens are all
        predicted from the context.
        """
        return any(len(option) > 1 for option in self.options)


@dataclass(frozen=True)
class Way:
    """How a model is asked: shared where it can be, and if not, why not."""

    core: Any  # the model without PEFT's outer shell; its adapters stay within
    shared: bool
    reason: str
    window: (
        int | None
    )  # tokens a sliding-window layer looks back: beyond it a block mask would say something else


def way(model: Any, probe: Question) -> Way:
    """Try both ways on one question: shared is used only where the two agree within `AGREE`."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    window = (
        getattr(core.config, "sliding_window", None)
        if getattr(core.config, "use_sliding_window", True)
        else None
    )
    alone = Way(core, False, "", window)
    wanted = list(_plain(alone, [probe]))[0]
    try:
        found = _shared(core, [probe])[0]
    except (
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        IndexError,
    ) as error:
        return Way(core, False, f"the model takes no block mask ({type(error).__name__})", window)
    apart = max(
        abs(a - b)
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    if not apart <= AGREE:  # also when it is not a number
        return Way(
            core, False, f"with a block mask the log-likelihoods differ by {apart:.1g}", window
        )
    return Way(core, True, "", window)


def loglikelihoods(way: Way, questions: Sequence[Question], budget: int) -> list[list[list[float]]]:
    """For each question and option the natural log-probabilities of its tokens, in the order given;
    at most `budget` tokens a pass.
    """
    room = getattr(way.core.config, "max_position_embeddings", None) or 1 << 30
    within = min(room, way.window or room)
    result: list[Any] = [None] * len(questions)
    side_by_side = [i for i, q in enumerate(questions) if way.shared and q.reach <= within]
    for batch in batches([questions[i].width for i in side_by_side], budget):
        places = [side_by_side[number] for number in batch]
        for i, values in zip(
            places, _shared(way.core, [questions[i] for i in places]), strict=True
        ):
            result[i] = values
    apart = [i for i, values in enumerate(result) if values is None]
    for i, values in zip(apart, _plain(way, [questions[i] for i in apart], budget), strict=True):
        result[i] = values
    return result


def batches(widths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of `widths`, longest first, cut so that no padded batch exceeds `budget` tokens; a
    wider row is a batch of its own.
    """
    result: list[list[int]] = []
    for place in sorted(range(len(widths)), key=lambda i: (-widths[i], i)):
        if not result or (len(result[-1]) + 1) * widths[result[-1][0]] > budget:
            result.append([])
        result[-1].append(place)
    return result


def _shared(core: Any, batch: Sequence[Question]) -> list[list[list[float]]]:
    """One right-padded sequence a question: [context, option 1 less its last token, option 2 less
    its last token, ...].
    """
    import torch

    longest = max(q.width for q in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    # 0 is the context, which everybody sees; 1, 2, ... the options, which see the context and
    # themselves; -1 is padding.
    part = torch.full_like(ids, -1)
    positions = torch.zeros_like(ids)
    sources, targets = [], []  # of every scored token: the flat place that predicts it, the token
    for row, question in enumerate(batch):
        n = len(question.context)
        ids[row, :n], part[row, :n], positions[row, :n] = (
            torch.tensor(question.context),
            0,
            torch.arange(n),
        )
        end = n
        for number, option in enumerate(question.options, start=1):
            inner = len(option) - 1
            if inner:
                place = slice(end, end + inner)
                ids[row, place], part[row, place], positions[row, place] = (
                    torch.tensor(option[:-1]),
                    number,
                    torch.arange(n, n + inner),
                )
            sources += [row * longest + place for place in (n - 1, *range(end, end + inner))]
            targets += option
            end += inner
    inputs = {"input_ids": ids.to(core.device), "use_cache": False}
    if any(question.masked for question in batch):
        causal = torch.ones(longest, longest, dtype=torch.bool).tril()
        seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
        inputs |= {
            "attention_mask": (seen & causal)[:, None].to(core.device),
            "position_ids": positions.to(core.device),
        }
    # Without a second token nobody stands side by side: padding lies behind what is read, and the
    # causal mask hides it.
    with torch.inference_mode():
        hidden = getattr(core, core.base_model_prefix)(**inputs).last_hidden_state.flatten(0, 1)
        scored = _head(core, hidden, sources, targets)
    values = iter(scored)
    return [[[next(values) for _ in option] for option in question.options] for question in batch]


def _head(core: Any, hidden: "torch.Tensor", sources: list[int], targets: list[int]) -> list[float]:
    """log p(target) at each source; each source goes through the output layer once, `HEAD_ROWS` at
    a time.
    """
    import torch

    distinct = sorted(set(sources))
    place = {source: i for i, source in enumerate(distinct)}
    wanted: list[list[int]] = [[] for _ in distinct]
    for number, source in enumerate(sources):
        wanted[place[source]].append(number)
    result = [0.0] * len(sources)
    head = core.get_output_embeddings()
    for begin in range(0, len(distinct), HEAD_ROWS):
        chunk = distinct[begin : begin + HEAD_ROWS]
        logits = head(hidden[torch.tensor(chunk, device=hidden.device)]).float()
        numbers = [(row, number) for row in range(len(chunk)) for number in wanted[begin + row]]
        rows = torch.tensor([row for row, _ in numbers], device=logits.device)
        tokens = torch.tensor([targets[number] for _, number in numbers], device=logits.device)
        found = (logits[rows, tokens] - logits.logsumexp(-1)[rows]).tolist()
        for (_, number), value in zip(numbers, found, strict=True):
            result[number] = value
    return result


def _plain(way: Way, questions: Sequence[Question], budget: int = 1) -> Iterator[list[list[float]]]:
    """One sequence an option, question by question; a text too long for the model loses its
    beginning.
    """
    room = getattr(way.core.config, "max_position_embeddings", None) or 1 << 30
    for question in questions:
        if not question.masked:  # one position decides between all
            yield [
                [value]
                for value in _rows(
                    way.core,
                    [question.context[-room:]],
                    [[o[0] for o in question.options]],
                    side=True,
                )[0]
            ]
            continue
        inputs = [(question.context + option)[:-1][-room:] for option in question.options]
        size = max(1, budget // max(map(len, inputs)))
        values: list[list[float]] = []
        for begin in range(0, len(inputs), size):
            values += _rows(
                way.core, inputs[begin : begin + size], question.options[begin : begin + size]
            )
        yield values


def _rows(
    core: Any, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], side: bool = False
) -> list[list[float]]:
    """log p of each row's target tokens, predicted at its last positions; `side`: all at the very
    last position.
    """
    import torch

    longest = max(map(len, inputs))
    ids, mask = (
        torch.zeros(len(inputs), longest, dtype=torch.long),
        torch.zeros(len(inputs), longest, dtype=torch.long),
    )
    for row, tokens in enumerate(inputs):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    with torch.inference_mode():
        logits = core(
            input_ids=ids.to(core.device), attention_mask=mask.to(core.device), use_cache=False
        ).logits
    result = []
    for row, wanted in enumerate(targets):
        end, width = len(inputs[row]), 1 if side else len(wanted)
        found = logits[row, end - width : end].float().log_softmax(-1)
        tokens = torch.tensor(wanted, device=found.device)
        result.append(
            (found[0, tokens] if side else found.gather(1, tokens[:, None])[:, 0]).tolist()
        )
    return result
