"""Models of a shape with random weights, in three precisions: speed needs no knowledge."""

from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..training.plan.shape import Shape
from .roofline import PRECISION_BYTES

if TYPE_CHECKING:
    import torch


def random_weights(
    shape: Shape, seed: int, precision: str = "float32", device: str = "cpu"
) -> "torch.Tensor":
    """One tensor of random numbers (deviation 0.02) for all matrices of `shape`, shared by models.

    Raises `InputError` for an unknown precision.
    """
    # Sharing saves two thirds of the memory and cannot help a model: each reads far more than the
    # CPU's cache between two visits.
    import torch

    if precision not in PRECISION_BYTES:
        raise InputError(f"precision {precision!r}: one of {', '.join(PRECISION_BYTES)}")
    numbers = torch.Generator(device).manual_seed(seed)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    return torch.empty(shape.total, dtype=dtype, device=device).normal_(0, 0.02, generator=numbers)


def build_random_model(
    shape: Shape, seed: int, weights: "torch.Tensor | None" = None, precision: str = "float32"
) -> Any:
    """A model of this shape for inference: Mixtral with experts, else Mistral.

    Its matrices are views of `weights` (`random_weights`; None: its own). `nf4` quantises all
    linear layers but router and head. Raises `InputError` when `weights` are too few.
    """
    import torch
    from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM

    settings = {**shape.config_values(), "max_position_embeddings": 4096, "pad_token_id": 0}
    weights = random_weights(shape, seed, precision) if weights is None else weights
    if weights.numel() < shape.total:
        have = f"{shape.total:,} weights are needed, {weights.numel():,} are there"
        raise InputError(f"{have}: make them for the largest shape")
    with torch.device("meta"):
        if shape.experts:
            model: Any = MixtralForCausalLM(MixtralConfig(**settings))
        else:
            model = MistralForCausalLM(MistralConfig(**settings, sliding_window=None))
    # Its angles are a buffer that no weight file holds: on the meta device they have no values.
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(model.config, device=weights.device)
    start = 0
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is None:
                continue
            data = weights.new_ones(value.shape)
            if value.dim() > 1:
                data = weights[start : start + value.numel()].view(value.shape)
                start += value.numel()
            module._parameters[name] = torch.nn.Parameter(data, requires_grad=False)
    if precision == "nf4":
        _quantise(model)
    return model.eval()


def _quantise(model: Any) -> None:
    """Replace the linear layers by bitsandbytes' 4-bit ones, as notebook 06 loads a model."""
    # Only for inference: the repacking for AVX512_BF16 CPUs, which training must not meet, is what
    # makes 4 bit fast here.
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
                code = {"requires_grad": False, "quant_type": "nf4", "module": small}
                small.weight = bnb.nn.Params4bit(weight, **code)
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
