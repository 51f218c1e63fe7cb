"""What sharding a QLoRA model over processes (FSDP) needs: one set of settings, and every expert in
every forward pass.

The settings are FSDP 1 with flat parameters, the form PEFT and the Trainer describe for 4-bit
bases: the base's storage type must be the compute type, and each adapter matrix becomes a unit of
its own (`use_orig_params` off, wrap policy by PEFT).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..core.errors import KitError
from .recipe import Recipe

_LAYER = "MixtralDecoderLayer"  # what is gathered and freed at one time
# Names as the Trainer's `fsdp_config` has them; accelerate's own files carry the prefix `fsdp_`.
FSDP_SETTINGS: dict[str, Any] = {
    "transformer_layer_cls_to_wrap": _LAYER,
    "backward_prefetch": "BACKWARD_PRE",
    "forward_prefetch": False,
    # frozen and learning parameters in one unit are not allowed, and not needed: adapters are units
    "use_orig_params": False,
    "sync_module_states": True,  # rank 0 holds the weights, the others receive theirs
    "cpu_ram_efficient_loading": True,
}
# accelerate can send weights between processes only from a GPU; on processors each process loads
# and seeds the same ones.
FSDP_ON_CPU: dict[str, Any] = {"sync_module_states": False, "cpu_ram_efficient_loading": False}


def set_fsdp_environment(gpu: bool) -> None:
    """Tell transformers, before a base is loaded, that it will be sharded: only rank 0 of a node
    then keeps the weights.
    """
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_CPU_RAM_EFFICIENT_LOADING=str(gpu).lower())
    os.environ.update(FSDP_VERSION="1", FSDP_STATE_DICT_TYPE="FULL_STATE_DICT")


def fsdp_arguments(recipe: Recipe, gpu: bool) -> dict[str, Any]:
    """The Trainer's arguments for sharding. Raises `KitError` for an optimiser whose state cannot
    be sharded.
    """
    if recipe.optimiser != "adamw":
        raise KitError(
            f"OPTIMISER {recipe.optimiser} keeps its state in blocks that FSDP cannot divide: take"
            " adamw, or PARALLEL = ddp"
        )
    return {
        "fsdp": "full_shard auto_wrap",
        "fsdp_config": {
            **FSDP_SETTINGS,
            **({} if gpu else FSDP_ON_CPU),
            "activation_checkpointing": recipe.checkpointing,
        },
        # The Trainer's own checkpointing would gather every layer twice.
        "gradient_checkpointing": False,
    }


def _forward(block: Any, hidden: Any) -> tuple[Any, Any]:
    """Mixtral's mixture (hidden (rows, tokens, width) -> the same, and router logits (rows *
    tokens, experts)), no expert left out.
    """
    import torch

    flat = hidden.reshape(-1, hidden.shape[-1])
    logits = block.gate(flat)
    weights, chosen = torch.softmax(logits, dim=1, dtype=torch.float).topk(block.top_k, dim=-1)
    weights = (weights / weights.sum(dim=-1, keepdim=True)).to(flat.dtype)
    mixed = torch.zeros_like(flat)
    for number, expert in enumerate(block.experts):
        token, place = torch.where(chosen == number)
        mixed.index_add_(
            0, token, (expert(flat[token]) * weights[token, place, None]).to(flat.dtype)
        )
    return mixed.view_as(hidden), logits


@contextmanager
def run_every_expert(model: Any) -> Iterator[int]:
    """Inside, each mixture calls all its experts in order, those without a token on nothing; gives
    the number of mixtures.

    transformers calls only experts that got a token. Sharded, each adapter is gathered from all
    processes when it is called: two processes that call different experts wait for each other for
    ever, or exchange the wrong tensors.
    """
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    blocks = [module for module in model.modules() if isinstance(module, MixtralSparseMoeBlock)]
    if any(block.jitter_noise for block in blocks):
        raise KitError(
            "the model's configuration has router_jitter_noise: set it to 0, sharded training has"
            " none"
        )
    for block in blocks:
        block.forward = partial(_forward, block)
    try:
        yield len(blocks)
    finally:
        for block in blocks:
            del block.forward
