"""Sharding a QLoRA model over processes (FSDP): its settings, and every expert in every forward
pass.

The settings are FSDP 1 with flat parameters, the form PEFT and the Trainer describe for 4-bit
bases: the storage dtype of the base must be the compute dtype, and each adapter matrix becomes a
unit of its own (`use_orig_params` off, wrap policy by PEFT).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..core.errors import KitError
from .recipe import Recipe

# Names as the Trainer's `fsdp_config` has them; accelerate's own files carry the prefix `fsdp_`.
FSDP_SETTINGS: dict[str, Any] = {
    "transformer_layer_cls_to_wrap": "MixtralDecoderLayer",  # gathered and freed at one time
    "backward_prefetch": "BACKWARD_PRE",
    "forward_prefetch": False,
    # One unit may not mix frozen and trainable parameters; each adapter is a unit.
    "use_orig_params": False,
    "sync_module_states": True,  # rank 0 holds the weights, the others receive theirs
    "cpu_ram_efficient_loading": True,
}
# accelerate can send weights between processes from GPUs only; on CPUs each process loads and seeds
# the same ones.
_FSDP_ON_CPU = {"sync_module_states": False, "cpu_ram_efficient_loading": False}


def set_fsdp_environment(gpu: bool) -> None:
    """Tell transformers, before a base is loaded, that it will be sharded: only rank 0 of a node
    then keeps the weights.
    """
    os.environ.update(
        ACCELERATE_USE_FSDP="true",
        FSDP_CPU_RAM_EFFICIENT_LOADING=str(gpu).lower(),
        FSDP_VERSION="1",
        FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
    )


def fsdp_arguments(recipe: Recipe, gpu: bool) -> dict[str, Any]:
    """The Trainer's arguments for sharding. Raises `KitError` for an optimiser whose state cannot
    be sharded.
    """
    if recipe.optimiser != "adamw":
        raise KitError(
            f"OPTIMISER {recipe.optimiser} keeps its state in blocks that FSDP cannot divide: take"
            " adamw, or PARALLEL = ddp"
        )
    settings = FSDP_SETTINGS | ({} if gpu else _FSDP_ON_CPU)
    return {
        "fsdp": "full_shard auto_wrap",
        "fsdp_config": settings | {"activation_checkpointing": recipe.checkpointing},
        # The Trainer's own checkpointing would gather every layer twice.
        "gradient_checkpointing": False,
    }


def _forward(block: Any, hidden: Any) -> tuple[Any, Any]:
    """Mixtral's mixture (hidden (rows, tokens, width) -> the same, and router logits (rows *
    tokens, experts)) that calls every expert.
    """
    import torch

    flat = hidden.reshape(-1, hidden.shape[-1])
    logits = block.gate(flat)
    weights, chosen = torch.softmax(logits, dim=1, dtype=torch.float).topk(block.top_k, dim=-1)
    weights = (weights / weights.sum(dim=-1, keepdim=True)).to(flat.dtype)
    mixed = torch.zeros_like(flat)
    for number, expert in enumerate(block.experts):
        token, slot = torch.where(chosen == number)
        output = expert(flat[token]) * weights[token, slot, None]
        mixed.index_add_(0, token, output.to(flat.dtype))
    return mixed.view_as(hidden), logits


@contextmanager
def run_every_expert(model: Any) -> Iterator[int]:
    """Inside, each mixture calls all its experts in order, those without tokens on an empty tensor;
    yields the number of mixtures.

    transformers calls only experts that got a token. Sharded, a call gathers the adapter from all
    processes: two processes that call different experts would wait for each other for ever, or
    exchange the wrong tensors.
    """
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    blocks = [module for module in model.modules() if isinstance(module, MixtralSparseMoeBlock)]
    if any(block.jitter_noise for block in blocks):
        raise KitError("sharded training has no router_jitter_noise: set it to 0 in config.json")
    for block in blocks:
        block.forward = partial(_forward, block)
    try:
        yield len(blocks)
    finally:
        for block in blocks:
            del block.forward
