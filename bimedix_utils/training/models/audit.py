"""The audit: the stored dtype of each part and the trainable parameters, counted from the model
itself; a wrong recipe stops with its reason.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...core.errors import AuditError
from .adapters import LORA_PARTS, resolve_targets

# Marks in a parameter's name, the first that fits: experts and router stand inside the MLP block.
_MARKS = {
    ".experts.": "experts",
    ".gate.": "router",
    "self_attn": "attention",
    "embed_tokens": "embeddings",
    "lm_head": "lm_head",
    "norm": "norms",
}


def group_of(name: str) -> str:
    """The part of a Mixtral that a parameter belongs to, by its name: a part of `LORA_PARTS`,
    embeddings, lm_head, norms or other.
    """
    return next((part for mark, part in _MARKS.items() if mark in name), "other")


@dataclass(frozen=True)
class AuditRow:
    """One line of the audit: logical parameters of a part in one dtype, their bytes, and how many
    are trainable.
    """

    part: str
    dtype: str
    parameters: int
    bytes: int
    trainable: int


def count_parameters(model: Any) -> list[AuditRow]:
    """Parameters, bytes and trainable parameters by part and dtype, sorted."""
    import bitsandbytes as bnb

    table: dict[tuple[str, str], list[int]] = {}
    for name, parameter in model.named_parameters():
        four_bit = isinstance(parameter, bnb.nn.Params4bit)
        part = f"LoRA {group_of(name)}" if "lora_" in name else group_of(name)
        dtype = "nf4" if four_bit else str(parameter.dtype).removeprefix("torch.")
        # A byte holds two 4-bit values: the logical shape stands in quant_state.
        size = math.prod(parameter.quant_state.shape) if four_bit else parameter.numel()
        row = table.setdefault((part, dtype), [0, 0, 0])
        row[0] += size
        row[1] += parameter.numel() * parameter.element_size()
        row[2] += size if parameter.requires_grad else 0
    return [AuditRow(part, dtype, *values) for (part, dtype), values in sorted(table.items())]


def trainable_share(model: Any) -> tuple[int, int]:
    """(trainable parameters, all parameters); a 4-bit matrix counts with its logical size."""
    rows = count_parameters(model)
    return sum(row.trainable for row in rows), sum(row.parameters for row in rows)


class PartRow(NamedTuple):
    """The adapters of one part: modules that have one, modules that should, adapter parameters, and
    their share of all trainable parameters.
    """

    part: str
    adapted: int
    expected: int
    parameters: int
    share: float


def adapters_by_part(model: Any, targets: str | Iterable[str] = tuple(LORA_PARTS)) -> list[PartRow]:
    """For each part: how many modules have an adapter, how many `targets` name, and its share of
    the trainable parameters.

    Raises `AuditError` for a model without experts and `ParameterError` for an unknown target.
    """
    table, found, expected = count_parameters(model), _adapted(model), _expected(model, targets)
    trainable = sum(row.trainable for row in table)
    rows = []
    for part, names in expected.items():
        size = sum(row.trainable for row in table if row.part == f"LoRA {part}")
        share = size / trainable if trainable else 0.0
        rows.append(PartRow(part, len(found[part]), len(names), size, share))
    return rows


def _adapted(model: Any) -> dict[str, set[str]]:
    """Modules with an adapter of any kind, under the base model's names, by part."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, set[str]] = {part: set() for part in LORA_PARTS}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            own = name.removeprefix("base_model.model.")
            found.setdefault(group_of(f"{name}."), set()).add(own)
    return found


def _expected(model: Any, targets: str | Iterable[str]) -> dict[str, set[str]]:
    """Modules that `targets` name, by part. Derived from the configuration, so that a module the
    model lacks is missed too.
    """
    config, modules = model.config, resolve_targets(targets)
    if not hasattr(config, "num_local_experts"):
        raise AuditError(
            f"a {config.model_type!r} model has no experts: upcycle it first, or name a Mixtral"
        )
    layers = [f"model.layers.{i}" for i in range(config.num_hidden_layers)]
    experts = range(config.num_local_experts)
    parents = {
        "attention": [f"{layer}.self_attn" for layer in layers],
        "experts": [f"{layer}.block_sparse_moe.experts.{i}" for layer in layers for i in experts],
        "router": [f"{layer}.block_sparse_moe" for layer in layers],
    }
    return {
        part: {f"{parent}.{name}" for parent in parents[part] for name in modules.get(part, ())}
        for part in LORA_PARTS
    }


def audit_model(model: Any, targets: str | Iterable[str] = tuple(LORA_PARTS)) -> list[AuditRow]:
    """`count_parameters`, after proving the recipe for the LoRA `targets`. Raises `AuditError` when
    it is not met, `ParameterError` for unknown targets.

    Required: every expert and attention weight in NF4 with double quantisation; an adapter on each
    target module of every layer and expert, and nowhere else; all adapters and nothing but adapters
    trainable (so embeddings and lm_head are frozen); the router's balancing loss on, with a weight
    above zero.
    """
    import bitsandbytes as bnb

    found = _adapted(model)
    for part, names in _expected(model, targets).items():
        if found[part] != names:
            raise AuditError(
                f"{len(found[part])} adapters on {part} ({', '.join(LORA_PARTS[part])}); expected"
                f" {len(names)}{_mismatch(names, found[part])}"
            )
    for group in found.keys() - LORA_PARTS.keys():
        raise AuditError(
            f"{min(found[group])} carries an adapter: embeddings, norms and lm_head stay frozen;"
            " take it off the targets"
        )
    for name, parameter in model.named_parameters():
        four_bit, lora = isinstance(parameter, bnb.nn.Params4bit), "lora_" in name
        if parameter.requires_grad and not lora:
            raise AuditError(f"{name} would be trained: only adapters may be trainable")
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
                f"{name} is {parameter.quant_type}, expected nf4 with double quantisation"
            )
    if not model.config.output_router_logits:
        raise AuditError("the router's load-balancing loss is off: set output_router_logits")
    # The model reads the weight once, when it is built; the configuration may have changed since.
    if not getattr(model, "router_aux_loss_coef", 0.0) > 0:
        raise AuditError(
            "the router's load-balancing loss has weight 0: set router_aux_loss_coef in the base's"
            " config.json and load it again"
        )
    return count_parameters(model)


def _mismatch(expected: set[str], found: set[str]) -> str:
    """The first modules that differ; empty when the whole part has no adapter."""
    missing, extra = sorted(expected - found), sorted(found - expected)
    texts = [
        f"; {word} {', '.join(names[:3])}" + (" ..." if len(names) > 3 else "")
        for word, names in (("none on", missing), ("also on", extra))
        if names
    ]
    return "".join(texts) if found else ""
