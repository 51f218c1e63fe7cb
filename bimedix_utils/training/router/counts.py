"""The pass: rows through the model, router logits read by hooks, counted by row."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...core.errors import InputError, KitError
from .. import Example
from ..batches import micro_batches, to_tensors

if TYPE_CHECKING:
    import numpy
    import torch

TokenKind = Literal["content", "tags", "all"]
# Chat tags of Mixtral and of ChatML models, matched on the joined token pieces: a tag may be one
# token or several. In ChatML the role and the line break behind it (`Ċ` in byte-level pieces)
# belong to the tag.
TEMPLATE_TAGS = r"\[/?INST\]|<\|im_start\|>[a-z]+Ċ?|<\|im_end\|>Ċ?"


@dataclass(frozen=True)
class RoutingCounts:
    """What the router did with each row. Arrays have one entry a row, in the order of `ids`.

    `slots` (rows, layers, experts) int32: how often an expert was chosen; a token fills `per_token`
    slots in each layer. It takes 4 x rows x layers x experts bytes: 5 MB for 5,000 rows of
    Mixtral-8x7B (32 layers, 8 experts), 1.3 GB for the paper's 1.3M rows, of which a sample is
    enough. `first` (rows, layers) float64: sum over tokens of the highest router probability.
    `tokens` and `left_out` (rows,): tokens counted and tokens not counted, padding in neither.
    """

    ids: tuple[str, ...]
    langs: tuple[str, ...]
    kinds: tuple[str, ...]
    slots: "numpy.ndarray"
    first: "numpy.ndarray"
    tokens: "numpy.ndarray"
    left_out: "numpy.ndarray"
    per_token: int


@dataclass(frozen=True)
class RoutingChange:
    """The same rows with the adapters off and on. `same` (rows, layers): tokens whose most probable
    expert is the same in both.
    """

    before: RoutingCounts
    after: RoutingCounts
    same: "numpy.ndarray"


def count_routing(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int = 8192,
    tokens: TokenKind = "content",
    tags: str = TEMPLATE_TAGS,
) -> RoutingCounts:
    """One pass of the rows through the model, without gradients; `kinds` gives each id's task
    (`qa`, `mcqa`, `chat`).

    Works on plain, 4-bit and PEFT models and leaves the model as it was. A batch holds at most
    `budget` tokens, padding included (a longer row goes alone), so memory does not grow with the
    number of rows. `tokens`: `content` leaves out special tokens and chat tags, `tags` counts only
    them, `all` counts both. Content is the default because the tags are the same in both languages
    and weigh more in short rows: with them a difference in length would look like one in routing.
    Padding is never counted. Raises `InputError` for no rows, a row without a task or one longer
    than the model's positions, `KitError` for a model without a router.
    """
    (view,), _ = _views(model, tokenizer, examples, kinds, budget, tokens, tags, [nullcontext])
    return view


def count_routing_change(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int = 8192,
    tokens: TokenKind = "content",
    tags: str = TEMPLATE_TAGS,
) -> RoutingChange:
    """`load` of one PEFT model with its adapters off and on, batch by batch, so that each token's
    choices can be compared.

    Only the choices of one batch are held. Raises `KitError` when the model has no adapters.
    """
    if not hasattr(model, "disable_adapter"):
        raise KitError(
            "this model has no adapters to switch off: give the PEFT model that load_tuned or"
            " add_adapters returns"
        )
    (before, after), same = _views(
        model,
        tokenizer,
        examples,
        kinds,
        budget,
        tokens,
        tags,
        [model.disable_adapter, nullcontext],
    )
    return RoutingChange(before, after, same)


def find_tags(ids: Sequence[int], tokenizer: Any, tags: str = TEMPLATE_TAGS) -> list[bool]:
    """For each token: is it special, or part of a chat tag?

    The tags are looked for in the joined pieces, because Mixtral's own tokenizer spells `[INST]`
    with three ordinary tokens.
    """
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(ids))
    spans = [match.span() for match in re.finditer(tags, "".join(pieces))]
    places, start = [], 0
    for token, piece in zip(ids, pieces, strict=True):
        end = start + len(piece)
        places.append(
            token in special or any(start < stop and begin < end for begin, stop in spans)
        )
        start = end
    return places


def _views(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    kinds: Mapping[str, str],
    budget: int,
    tokens: TokenKind,
    tags: str,
    sides: Sequence[Callable[[], AbstractContextManager]],
) -> tuple[list[RoutingCounts], "numpy.ndarray"]:
    """(one view for each side, tokens with the same first choice on all sides (rows, layers)); a
    side is a state of the model.
    """
    import numpy
    import torch

    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    _check(core, examples, kinds)
    gates = [
        module.gate
        for module in core.modules()
        if hasattr(module, "gate") and hasattr(module, "experts")
    ]
    if not gates:
        raise KitError(
            f"{type(core).__name__} has no router: only a mixture of experts can be looked at"
        )
    layers, each = len(gates), core.config.num_experts_per_tok
    slots: list = [None] * len(sides)
    first = numpy.zeros((len(sides), len(examples), layers))
    same = numpy.zeros((len(examples), layers), numpy.int32)
    counted_tokens = numpy.zeros(len(examples), numpy.int32)
    with _as_it_was(model):
        for rows in micro_batches(
            [len(e.input_ids) for e in examples], range(len(examples)), budget, packing=False
        ):
            batch = to_tensors(examples, rows, 0, packing=False)
            counted = batch["real"].bool()
            for place, i in enumerate(rows):
                if tokens != "all":
                    found = torch.tensor(find_tags(examples[i].input_ids, tokenizer, tags))
                    counted[place, : len(found)] &= found if tokens == "tags" else ~found
            counted_tokens[rows] = counted.sum(1).numpy()
            tops = []
            for side, state in enumerate(sides):
                with state():
                    values, chosen, experts = _choices(core, gates, batch, each)
                if slots[side] is None:
                    slots[side] = numpy.zeros((len(examples), layers, experts), numpy.int32)
                filled = torch.nn.functional.one_hot(chosen, experts).sum(-2)
                slots[side][rows] = (
                    (filled * counted[None, :, :, None]).sum(2).transpose(0, 1).numpy()
                )
                first[side, rows] = (values[..., 0].double() * counted).sum(2).T.numpy()
                tops.append(chosen[..., 0])
            agreed = torch.stack([top == tops[0] for top in tops]).all(0) & counted
            same[rows] = agreed.sum(2).T.numpy()
    left_out = numpy.array([len(e.input_ids) for e in examples], numpy.int32) - counted_tokens
    common = (
        tuple(e.id for e in examples),
        tuple(e.lang for e in examples),
        tuple(kinds[e.id] for e in examples),
    )
    return [
        RoutingCounts(*common, slots[side], first[side], counted_tokens, left_out, each)
        for side in range(len(sides))
    ], same


def _check(core: Any, examples: Sequence[Example], kinds: Mapping[str, str]) -> None:
    if not examples:
        raise InputError("no rows to look at")
    unnamed = [e.id for e in examples if e.id not in kinds]
    if unnamed:
        raise InputError(f"{len(unnamed)} rows have no task in `kinds`, the first is {unnamed[0]}")
    longest, positions = (
        max(len(e.input_ids) for e in examples),
        core.config.max_position_embeddings,
    )
    if longest > positions:
        raise InputError(
            f"a row of {longest} tokens; the model has {positions} positions: encode with a lower"
            " MAX_TOKENS"
        )


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards every module's mode and every parameter's `requires_grad` as
    before.

    Leaving PEFT's `disable_adapter` switches gradients on for every adapter, also for those loaded
    for inference only.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wanted in gradients:
            if parameter.requires_grad != wanted:
                parameter.requires_grad_(wanted)


def _choices(
    core: Any, gates: Sequence[Any], batch: dict[str, "torch.Tensor"], each: int
) -> tuple["torch.Tensor", "torch.Tensor", int]:
    """(probabilities, numbers) of each token's chosen experts, both (layers, rows, longest row,
    `each`), and how many experts there are.

    Hooks on the gates read the logits, adapters included, so that no setting of the model is
    touched; the output layer, the loss and the router's own collection of logits are not run.
    Softmax and choice are the model's own operations on the model's own device: in bfloat16 equal
    logits are common, and another device might break the tie differently. On Mixtral-8x7B a batch
    of 8,192 tokens takes 6 MB here and 34 MB while it is counted.
    """
    import torch

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    experts = 0

    def see(_module: Any, _input: Any, logits: torch.Tensor) -> None:
        nonlocal experts
        experts = logits.shape[-1]
        values, chosen = torch.nn.functional.softmax(logits, dim=1, dtype=torch.float).topk(
            each, dim=-1
        )
        seen.append((values.cpu(), chosen.cpu()))

    hooks = [gate.register_forward_hook(see) for gate in gates]
    ids, mask = batch["input_ids"].to(core.device), batch["real"].to(core.device)
    try:
        with torch.inference_mode():
            core.model(
                input_ids=ids, attention_mask=mask, use_cache=False, output_router_logits=False
            )
    finally:
        for hook in hooks:
            hook.remove()
    values, chosen = (
        torch.stack(part).view(len(gates), *ids.shape, each) for part in zip(*seen, strict=True)
    )
    return values, chosen, experts
