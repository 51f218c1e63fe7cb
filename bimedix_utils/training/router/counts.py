"""Routing counts: rows pass through the model, hooks read the router logits, choices are counted by
row.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...core.errors import InputError, KitError
from ...core.text import digest
from ..batches import micro_batches, to_tensors
from ..examples import Example

if TYPE_CHECKING:
    import numpy
    import torch

TokenKind = Literal["content", "tags", "all"]
# Chat tags of Mixtral and of ChatML models, matched on the joined token pieces: a tag may be one
# token or several. In ChatML the role and the line break behind it (`Ċ` in byte-level pieces)
# belong to the tag.
_TEMPLATE_TAGS = r"\[/?INST\]|<\|im_start\|>[a-z]+Ċ?|<\|im_end\|>Ċ?"


@dataclass(frozen=True)
class RoutingCounts:
    """What the router did with each row. Arrays have one entry a row, in the order of `ids`.

    `slots` (rows, layers, experts) int32: how often an expert was chosen; a token fills `per_token`
    slots in each layer. Memory is 4 x rows x layers x experts bytes: 5 MB for 5,000 rows of
    Mixtral-8x7B; the paper's 1.3M rows would take 1.3 GB, and a sample is enough. `tokens` and
    `left_out` (rows,): tokens counted and not counted, without padding.
    """

    ids: tuple[str, ...]
    langs: tuple[str, ...]
    kinds: tuple[str, ...]
    slots: "numpy.ndarray"
    tokens: "numpy.ndarray"
    left_out: "numpy.ndarray"
    per_token: int


@dataclass(frozen=True)
class RoutingChange:
    """The same rows without and with the adapters. `same` (rows, layers): tokens whose most
    probable expert is the same in both.
    """

    before: RoutingCounts
    after: RoutingCounts
    same: "numpy.ndarray"


def draw_rows(
    examples: Iterable[Example], langs: Sequence[str], per_language: int, seed: int
) -> list[Example]:
    """At most `per_language` rows of each language, drawn by hash: `seed` and id alone decide."""
    order = sorted(examples, key=lambda e: digest([seed, e.id]))
    drawn = [[e for e in order if e.lang == lang][:per_language] for lang in langs]
    return [e for rows in drawn for e in rows]


def count_routing(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int = 8192,
    tokens: TokenKind = "content",
) -> RoutingCounts:
    """One pass of the rows through the model, without gradients; `kinds` gives each id's task
    (`qa`, `mcqa`, `chat`).

    Works on plain, 4-bit and PEFT models and leaves the model unchanged. A batch holds at most
    `budget` tokens with padding (a longer row goes alone), so memory does not grow with the rows.
    `tokens`: `content` leaves out special tokens and chat tags, `tags` counts only them, `all`
    counts both. Content is the default: both languages share the tags, and they weigh more in short
    rows, so a difference in length would look like one in routing. Raises `InputError` for no rows,
    a row without a task or longer than the model's positions, `KitError` for a model without a
    router.
    """
    (counts,), _ = _count(model, tokenizer, examples, kinds, budget, tokens, [nullcontext])
    return counts


def count_routing_change(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int = 8192,
    tokens: TokenKind = "content",
) -> RoutingChange:
    """`count_routing` of one PEFT model without and with its adapters, batch by batch, so that the
    choices for each token can be compared. Raises `KitError` when the model has no adapters.
    """
    if not hasattr(model, "disable_adapter"):
        raise KitError(
            "this model has no adapters to switch off: give the PEFT model that load_scored or"
            " add_adapters returns"
        )
    states = [model.disable_adapter, nullcontext]
    (before, after), same = _count(model, tokenizer, examples, kinds, budget, tokens, states)
    return RoutingChange(before, after, same)


def find_tags(ids: Sequence[int], tokenizer: Any) -> list[bool]:
    """For each token: is it special, or part of a chat tag?

    Tags are searched in the joined pieces: Mixtral's own tokenizer spells `[INST]` with three
    ordinary tokens.
    """
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(ids))
    spans = [match.span() for match in re.finditer(_TEMPLATE_TAGS, "".join(pieces))]
    found, start = [], 0
    for token, piece in zip(ids, pieces, strict=True):
        end = start + len(piece)
        inside = any(start < stop and begin < end for begin, stop in spans)
        found.append(token in special or inside)
        start = end
    return found


def _count(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int,
    tokens: TokenKind,
    states: Sequence[Callable[[], AbstractContextManager]],
) -> tuple[list[RoutingCounts], "numpy.ndarray"]:
    """(counts in each state of the model, tokens of one top expert in all (rows, layers))."""
    import numpy
    import torch

    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    _check_rows(core, examples, kinds)
    blocks = [m for m in core.modules() if hasattr(m, "gate") and hasattr(m, "experts")]
    if not blocks:
        raise KitError(f"{type(core).__name__} has no router: it is not a mixture of experts")
    gates, per_token = [block.gate for block in blocks], core.config.num_experts_per_tok
    lengths = [len(e.input_ids) for e in examples]
    slots: list = [None] * len(states)
    same = numpy.zeros((len(examples), len(gates)), numpy.int32)
    n_counted = numpy.zeros(len(examples), numpy.int32)
    with _unchanged(model):
        for rows in micro_batches(lengths, range(len(examples)), budget, packing=False):
            batch = to_tensors(examples, rows, 0, packing=False)
            counted = batch["real"].bool()
            if tokens != "all":
                for i, row in enumerate(rows):
                    tags = torch.tensor(find_tags(examples[row].input_ids, tokenizer))
                    counted[i, : len(tags)] &= tags if tokens == "tags" else ~tags
            n_counted[rows] = counted.sum(1).numpy()
            tops = []
            for i, state in enumerate(states):
                with state():
                    chosen, experts = _choices(core, gates, batch, per_token)
                if slots[i] is None:
                    slots[i] = numpy.zeros((len(examples), len(gates), experts), numpy.int32)
                filled = torch.nn.functional.one_hot(chosen, experts).sum(-2)
                by_row = (filled * counted[None, :, :, None]).sum(2)
                slots[i][rows] = by_row.transpose(0, 1).numpy()
                tops.append(chosen[..., 0])
            agreed = torch.stack([top == tops[0] for top in tops]).all(0) & counted
            same[rows] = agreed.sum(2).T.numpy()
    left_out = numpy.array(lengths, numpy.int32) - n_counted
    ids, langs = tuple(e.id for e in examples), tuple(e.lang for e in examples)
    tasks = tuple(kinds[e.id] for e in examples)
    return [
        RoutingCounts(ids, langs, tasks, slots[i], n_counted, left_out, per_token)
        for i in range(len(states))
    ], same


def _check_rows(core: Any, examples: Sequence[Example], kinds: Mapping[str, str]) -> None:
    if not examples:
        raise InputError("no rows to count")
    unnamed = [e.id for e in examples if e.id not in kinds]
    if unnamed:
        raise InputError(f"{len(unnamed)} rows have no task in `kinds`, the first is {unnamed[0]}")
    longest = max(len(e.input_ids) for e in examples)
    if longest > core.config.max_position_embeddings:
        raise InputError(
            f"a row of {longest} tokens; the model has {core.config.max_position_embeddings}"
            " positions: encode with a lower MAX_TOKENS"
        )


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Evaluation mode; afterwards every module's mode and every parameter's `requires_grad` as
    before. Leaving PEFT's `disable_adapter` makes all adapters trainable, even those loaded for
    inference.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, trainable in gradients:
            if parameter.requires_grad != trainable:
                parameter.requires_grad_(trainable)


def _choices(
    core: Any, gates: Sequence[Any], batch: dict[str, "torch.Tensor"], per_token: int
) -> tuple["torch.Tensor", int]:
    """Each token's chosen experts, most probable first, (layers, rows, longest row, `per_token`),
    and the number of experts.

    Hooks on the gates read the logits, adapters included: no setting of the model changes, and the
    output layer and the loss do not run. Softmax and top-k run on the model's own device: in
    bfloat16 equal logits are common, and another device may break the tie differently. On
    Mixtral-8x7B a batch of 8,192 tokens takes 6 MB here and 34 MB while it is counted.
    """
    import torch

    seen: list[torch.Tensor] = []
    experts = 0

    def read_logits(_module: Any, _input: Any, logits: torch.Tensor) -> None:
        nonlocal experts
        experts = logits.shape[-1]
        probabilities = torch.nn.functional.softmax(logits, dim=1, dtype=torch.float)
        seen.append(probabilities.topk(per_token, dim=-1).indices.cpu())

    hooks = [gate.register_forward_hook(read_logits) for gate in gates]
    ids, mask = batch["input_ids"].to(core.device), batch["real"].to(core.device)
    settings = {"use_cache": False, "output_router_logits": False}
    try:
        with torch.inference_mode():
            core.model(input_ids=ids, attention_mask=mask, **settings)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen).view(len(gates), *ids.shape, per_token), experts
