"""The audit: what is stored in which type and what learns, counted from the model itself; a wrong
recipe stops with its reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...core.errors import AuditError
from .adapters import TARGETS, targets


def group_of(name: str) -> str:
    """The part of a Mixtral a parameter belongs to, told by its name: a part of `TARGETS`,
    embeddings, lm_head, norms or other.
    """
    if ".experts." in name:
        return "experts"
    if ".gate." in name:
        return "router"
    if "self_attn" in name:
        return "attention"
    return (
        "embeddings"
        if "embed_tokens" in name
        else "lm_head"
        if "lm_head" in name
        else "norms"
        if "norm" in name
        else "other"
    )


@dataclass(frozen=True)
class AuditRow:
    """One line of the audit: how many logical parameters a part has, in which type, in how many
    bytes, and how many train.
    """

    part: str
    dtype: str
    parameters: int
    bytes: int
    trainable: int


def count(model: Any) -> list[AuditRow]:
    """Parameters, bytes and what learns, by part and type, sorted."""
    import bitsandbytes as bnb

    table: dict[tuple[str, str], list[int]] = {}
    for name, parameter in model.named_parameters():
        four_bit = isinstance(parameter, bnb.nn.Params4bit)
        lora = "lora_" in name
        part = f"LoRA {group_of(name)}" if lora else group_of(name)
        size = math.prod(parameter.quant_state.shape) if four_bit else parameter.numel()
        row = table.setdefault(
            (part, "nf4" if four_bit else str(parameter.dtype).removeprefix("torch.")), [0, 0, 0]
        )
        for i, value in enumerate(
            (
                size,
                parameter.numel() * parameter.element_size(),
                size if parameter.requires_grad else 0,
            )
        ):
            row[i] += value
    return [AuditRow(part, dtype, *values) for (part, dtype), values in sorted(table.items())]


def trainable_share(model: Any) -> tuple[int, int]:
    """(parameters that learn, all parameters); a 4-bit matrix counts with its logical size."""
    rows = count(model)
    return sum(row.trainable for row in rows), sum(row.parameters for row in rows)


class PartRow(NamedTuple):
    """One line about the adapters of a part: modules that carry one, modules that should,
    parameters, share of all that learns.
    """

    part: str
    adapted: int
    wanted: int
    parameters: int
    share: float


def adapters_by_part(model: Any, parts: Sequence[str] = tuple(TARGETS)) -> list[PartRow]:
    """How many modules of each part carry an adapter, how many should when `parts` are adapted, and
    how much of the learning is there.

    Raises `AuditError` for a model without experts and `KitError` for an unknown part.
    """
    targets(parts)
    table, found = count(model), _adapted(model)
    learning = sum(row.trainable for row in table)
    rows = []
    for part, names in _wanted(model).items():
        size = sum(row.trainable for row in table if row.part == f"LoRA {part}")
        rows.append(
            PartRow(
                part,
                len(found[part]),
                len(names) if part in parts else 0,
                size,
                size / learning if learning else 0.0,
            )
        )
    return rows


def _adapted(model: Any) -> dict[str, set[str]]:
    """Names of the modules that carry an adapter of any kind, as the base model names them, by
    part.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, set[str]] = {part: set() for part in TARGETS}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            found.setdefault(group_of(f"{name}."), set()).add(
                name.removeprefix("base_model.model.")
            )
    return found


def _wanted(model: Any) -> dict[str, list[str]]:
    """Names of the modules of each part, derived from the configuration: what is missing in the
    model itself is missed too.
    """
    config = model.config
    if not hasattr(config, "num_local_experts"):
        raise AuditError(
            f"a {config.model_type!r} model has no experts: upcycle it first, or name a Mixtral"
        )
    layers = [f"model.layers.{i}" for i in range(config.num_hidden_layers)]
    places = {
        "attention": [f"{layer}.self_attn" for layer in layers],
        "experts": [
            f"{layer}.block_sparse_moe.experts.{i}"
            for layer in layers
            for i in range(config.num_local_experts)
        ],
        "router": [f"{layer}.block_sparse_moe" for layer in layers],
    }
    return {
        part: [f"{place}.{name}" for place in places[part] for name in TARGETS[part]]
        for part in TARGETS
    }


def audit(model: Any, parts: Sequence[str] = tuple(TARGETS)) -> list[AuditRow]:
    """`count`, after proving the recipe for the adapted `parts`. Raises `AuditError` when it is not
    met, `KitError` for unknown parts.

    Required: every expert and attention weight in NF4 with double quantisation; an adapter on each
    module of each named part, in every layer and expert, and nowhere else; every adapter and
    nothing but adapters trainable (so embeddings and lm_head are frozen); the router's balancing
    loss on, with a weight above zero.
    """
    import bitsandbytes as bnb

    wanted, found = _wanted(model), _adapted(model)
    for part, adapted, expected, _, _ in adapters_by_part(model, parts):
        names = set(wanted[part]) if expected else set()
        if found[part] != names:
            raise AuditError(
                f"{adapted} adapters on {part} ({', '.join(TARGETS[part])}); wanted"
                f" {expected}{_where(names, found[part])}"
            )
    for group in found.keys() - TARGETS.keys():
        raise AuditError(
            f"{min(found[group])} carries an adapter: embeddings, norms and lm_head stay frozen;"
            " take it off the targets"
        )
    for name, parameter in model.named_parameters():
        four_bit, lora = isinstance(parameter, bnb.nn.Params4bit), "lora_" in name
        if parameter.requires_grad and not lora:
            raise AuditError(f"{name} would be trained: only adapters may learn")
        if lora and not parameter.requires_grad:
            raise AuditError(
                f"{name} is frozen: the adapter was loaded for inference; load it with"
                " is_trainable=True to go on"
            )
        if group_of(name) in ("experts", "attention") and not lora and not four_bit:
            raise AuditError(
                f"{name} is {parameter.dtype}, not 4 bit: fused experts (transformers 5) or a wrong"
                " skip list"
            )
        if four_bit and not (parameter.quant_type == "nf4" and parameter.quant_state.nested):
            raise AuditError(
                f"{name} is {parameter.quant_type}, wanted NF4 with double quantisation"
            )
    if not model.config.output_router_logits:
        raise AuditError("the router's load-balancing loss is off: set output_router_logits")
    # The model reads its weight once, when it is made; the configuration may say something else by
    # now.
    if not getattr(model, "router_aux_loss_coef", 0.0) > 0:
        raise AuditError(
            "the router's load-balancing loss has weight 0: set router_aux_loss_coef in the base's"
            " config.json and load it again"
        )
    return count(model)


def _where(wanted: set[str], found: set[str]) -> str:
    """The first modules that make the difference; nothing when a whole part is missing, which says
    enough.
    """
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    texts = [
        f"; {word} {', '.join(names[:3])}" + (" ..." if len(names) > 3 else "")
        for word, names in (("none on", missing), ("also on", extra))
        if names
    ]
    return "".join(texts) if found else ""
