"""Models of a shape with random weights, in three precisions: speed does not depend on what a model
knows.
"""

import math
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..training.plan.shape import Shape
from .roofline import PRECISION_BYTES

if TYPE_CHECKING:
    import torch


def random_weights(
    shape: Shape, seed: int, precision: str = "float32", device: str = "cpu"
) -> "torch.Tensor":
    """Random numbers (standard deviation 0.02) enough for every matrix of `shape`: one tensor,
    shared by all models built on it.

    Sharing saves two thirds of the memory and cannot help a model: each reads far more than the
    CPU's cache between two visits. Raises `InputError` for an unknown precision.
    """
    import torch

    if precision not in PRECISION_BYTES:
        raise InputError(f"precision {precision!r}: one of {', '.join(PRECISION_BYTES)}")
    numbers = torch.Generator(device).manual_seed(seed)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    return torch.empty(shape.total, dtype=dtype, device=device).normal_(0, 0.02, generator=numbers)


def build_random_model(
    shape: Shape, seed: int, weights: "torch.Tensor | None" = None, precision: str = "float32"
) -> Any:
    """A model of this shape for inference: Mixtral when it has experts, else Mistral (which is
    Mixtral without them).

    Its matrices are views of `weights` (see `random_weights`), cut off from the beginning; without
    them it gets its own. `nf4` quantises every linear layer but the router and the head with
    bitsandbytes. Raises `InputError` when `weights` are too few.
    """
    import torch
    from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM

    common = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
    }
    weights = random_weights(shape, seed, precision) if weights is None else weights
    if weights.numel() < shape.total:
        raise InputError(
            f"{shape.total:,} weights are needed, {weights.numel():,} are there: make them for the"
            " largest shape"
        )
    with torch.device("meta"):
        if shape.experts:
            experts = {"num_local_experts": shape.experts, "num_experts_per_tok": shape.per_token}
            model: Any = MixtralForCausalLM(MixtralConfig(**common, **experts))
        else:
            model = MistralForCausalLM(MistralConfig(**common, sliding_window=None))
    # Its angles are a buffer that no weight file holds: on the meta device they have no values.
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(model.config, device=weights.device)
    start = 0
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is None:
                continue
            if value.dim() == 1:
                data = torch.ones_like(value, device=weights.device, dtype=weights.dtype)
            else:
                data = weights[start : start + value.numel()].view(value.shape)
                start += value.numel()
            module._parameters[name] = torch.nn.Parameter(data, requires_grad=False)
    if precision == "nf4":
        _quantise(model)
    return model.eval()


def _quantise(model: Any) -> None:
    """Replace the linear layers by bitsandbytes' 4-bit ones, NF4 with double quantisation, as the
    loader of notebook 06 does for a stored model.

    Only for inference: here the repacking for AVX512_BF16 CPUs, which training must not meet, is
    what makes 4 bit fast.
    """
    import bitsandbytes as bnb
    import torch

    from ..training.models.loader import UNQUANTISED_MODULES, release_memory

    for block in model.model.layers:
        for parent in list(block.modules()):
            for name, layer in list(parent.named_children()):
                if not isinstance(layer, torch.nn.Linear) or name in UNQUANTISED_MODULES:
                    continue
                weight, sizes = layer.weight.data, (layer.in_features, layer.out_features)
                settings = {"bias": False, "compute_dtype": weight.dtype, "device": "meta"}
                small = bnb.nn.Linear4bit(*sizes, **settings)
                small.weight = bnb.nn.Params4bit(
                    weight, requires_grad=False, quant_type="nf4", module=small
                )
                setattr(parent, name, small.to(weight.device))
        release_memory()  # what quantising leaves behind would be several times the model


def four_bit_path() -> str:
    """How a 4-bit matrix is multiplied on this machine."""
    import torch
    from bitsandbytes.functional import has_avx512bf16

    if torch.cuda.is_available():
        return "bitsandbytes' CUDA kernels"
    if has_avx512bf16():
        return "one fused kernel (AVX512_BF16)"
    return "dequantised first, then multiplied: more bytes move than in 16 bit"


def count_model(model: Any) -> tuple[int, int]:
    """(all parameters, parameters that one token uses) of a real model, counted."""
    experts = others = 0
    # A 4-bit parameter holds codes; its logical size stands in the quantisation state.
    for name, value in model.named_parameters():
        state = getattr(value, "quant_state", None)
        count = math.prod(state.shape) if state else value.numel()
        if ".experts." in name:
            experts += count
        else:
            others += count
    number = getattr(model.config, "num_local_experts", 0)
    used = experts * model.config.num_experts_per_tok // number if number else 0
    return others + experts, others + used
