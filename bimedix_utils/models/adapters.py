"""LoRA on attention, experts and router."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import KitError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TARGETS = {"attention": ("q_proj", "k_proj", "v_proj", "o_proj"), "experts": ("w1", "w2", "w3"), "router": ("gate",)}


def add_adapters(model: "PreTrainedModel", rank: int, alpha: int, parts: Sequence[str] = tuple(TARGETS)) -> "PeftModel":
    """LoRA on the named parts (`attention`, `experts`, `router`), everything else frozen, the router's balancing loss switched on."""
    from peft import LoraConfig, get_peft_model

    unknown = set(parts) - set(TARGETS)
    if unknown:
        raise KitError(f"unknown LoRA parts {sorted(unknown)}; legal: {', '.join(TARGETS)}")
    targets = [name for part in parts for name in TARGETS[part]]
    model.config.output_router_logits = True  # without it Mixtral computes no load-balancing loss
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM"))
