"""The audit: what is stored in which type and what learns, counted from the model itself; a wrong recipe stops with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import AuditError
from .adapters import TARGETS


def group_of(name: str) -> str:
    """The part of a Mixtral a parameter belongs to, told by its name."""
    if ".experts." in name:
        return "experts"
    if ".gate." in name:
        return "router"
    if "self_attn" in name:
        return "attention"
    return "embeddings" if "embed_tokens" in name else "lm_head" if "lm_head" in name else "norms"


@dataclass(frozen=True)
class AuditRow:
    """One line of the audit: how many logical parameters a part has, in which type, in how many bytes, and how many train."""

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
        row = table.setdefault((part, "nf4" if four_bit else str(parameter.dtype).removeprefix("torch.")), [0, 0, 0])
        for i, value in enumerate((size, parameter.numel() * parameter.element_size(), size if parameter.requires_grad else 0)):
            row[i] += value
    return [AuditRow(part, dtype, *values) for (part, dtype), values in sorted(table.items())]


def trainable_share(model: Any) -> tuple[int, int]:
    """(parameters that learn, all parameters); a 4-bit matrix counts with its logical size."""
    rows = count(model)
    return sum(row.trainable for row in rows), sum(row.parameters for row in rows)


def audit(model: Any, parts: Sequence[str] = tuple(TARGETS)) -> list[AuditRow]:
    """`count`, after proving the recipe. Raises `AuditError` when it is not met.

    Required: every expert weight in NF4 with double quantisation, adapters on every layer's module of each named part, nothing
    but adapters trainable, and the router's balancing loss on.
    """
    import bitsandbytes as bnb

    config = model.config
    layers, experts = config.num_hidden_layers, config.num_local_experts
    for name, parameter in model.named_parameters():
        four_bit, lora = isinstance(parameter, bnb.nn.Params4bit), "lora_" in name
        if parameter.requires_grad and not lora:
            raise AuditError(f"{name} would be trained: only adapters may learn")
        if group_of(name) == "experts" and not lora and not four_bit:
            raise AuditError(f"{name} is {parameter.dtype}, not 4 bit: fused experts (transformers 5) or a wrong skip list")
        if four_bit and not (parameter.quant_type == "nf4" and parameter.quant_state.nested):
            raise AuditError(f"{name} is {parameter.quant_type}, wanted NF4 with double quantisation")
    expected = {"attention": 4 * layers, "experts": 3 * layers * experts, "router": layers}
    for part, names in TARGETS.items():
        found = sum(1 for name, _ in model.named_parameters() if name.endswith("lora_A.default.weight") and group_of(name) == part)
        wanted = expected[part] if part in parts else 0
        if found != wanted:
            raise AuditError(f"{found} adapters on {part} ({', '.join(names)}); wanted {wanted}")
    if not config.output_router_logits:
        raise AuditError("the router's load-balancing loss is off: set output_router_logits")
    return count(model)
