"""The same numbers in less time: a loss that makes no logits nobody asks for, and LoRA folded into the dequantised weight.

Imports torch when imported; the package does so only when it trains.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora.bnb import Linear4bit

from .data import IGNORED

CHUNK = 1024  # answer positions whose logits exist at one time


class FrozenHeadLoss(torch.autograd.Function):
    """Sum of the cross-entropies (natural log) of `hidden` (n, width) through a frozen head (vocabulary, width); `targets` is (n,).

    The head learns nothing, so the gradient of `hidden` can be made in the forward pass, chunk by chunk, and the logits forgotten:
    the largest tensor is (CHUNK, vocabulary) whatever the batch.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        total, gradient = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(hidden)
        for start in range(0, len(hidden), CHUNK):
            part, wanted = hidden[start : start + CHUNK], targets[start : start + CHUNK, None]
            scores = (part @ weight.t()).float()
            scores -= scores.logsumexp(-1, keepdim=True)
            total -= scores.gather(1, wanted).sum()
            # d loss / d logits is the softmax, minus one at the target.
            scores.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=scores.dtype))
            gradient[start : start + CHUNK] = scores.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        return ctx.saved_tensors[0] * upstream, None, None


@contextmanager
def answers_only(head: Any, labels: Any) -> Iterator[None]:
    """Inside, the output layer returns the summed loss of the answers instead of logits; `labels` (rows, tokens) with -100 elsewhere.

    The model then gives that sum as its `logits`: whatever wraps it (data parallel, sharded, checkpointed) needs no change.
    """
    # Position i predicts token i + 1.
    targets = torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1).flatten()
    wanted = (targets != IGNORED).nonzero()[:, 0]
    before = head.__dict__.get("forward")  # accelerate's device hooks live there

    def loss(hidden: Any) -> Any:
        here = head.weight.device
        return FrozenHeadLoss.apply(hidden.flatten(0, 1).to(here)[wanted.to(here)], head.weight, targets.to(here)[wanted.to(here)])

    head.forward = loss
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before


class FoldedLinear(torch.autograd.Function):
    """`y = x (W + s B A)^T` for W in 4 bit; gradients of x, A and B. One large matrix product instead of three and two additions."""

    @staticmethod
    def _weight(weight: Any, a: Any, b: Any, scaling: float) -> Any:
        return dequantize_4bit(weight.data, weight.quant_state).addmm_(b, a, alpha=scaling)

    @staticmethod
    def forward(ctx: Any, x: Any, a: Any, b: Any, weight: Any, scaling: float) -> Any:
        ctx.save_for_backward(x, a, b)
        ctx.weight, ctx.scaling = weight, scaling
        return x @ FoldedLinear._weight(weight, a, b, scaling).t()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        x, a, b = ctx.saved_tensors
        rows, up = x.flatten(0, -2), upstream.flatten(0, -2)
        for_a = ((up @ b).t() @ rows).mul_(ctx.scaling)
        for_b = (up.t() @ (rows @ a.t())).mul_(ctx.scaling)
        # Dequantised once more rather than kept: the base stays in 4 bit between the passes.
        for_x = upstream @ FoldedLinear._weight(ctx.weight, a, b, ctx.scaling) if ctx.needs_input_grad[0] else None
        return for_x, for_a, for_b, None, None


def _forward(module: Any, stock: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    outer, inner = module.out_features, module.in_features
    # Folding costs a product of the size of the weight; for fewer rows than this the two thin products are cheaper.
    if module.disable_adapters or not module.training or x.numel() // inner * (outer + inner) < outer * inner:
        return stock(x, *args, **kwargs)
    (name,) = module.active_adapters
    return FoldedLinear.apply(x, module.lora_A[name].weight, module.lora_B[name].weight, module.base_layer.weight, module.scaling[name])


@contextmanager
def folded(model: Any) -> Iterator[int]:
    """Inside, 4-bit LoRA layers in training mode compute `FoldedLinear`; gives the number of layers changed.

    Only in float32, where folding changes nothing but the order of additions: in bfloat16 the small update would be rounded away
    beside the weight. Layers with dropout or a bias keep their own forward pass.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, Linear4bit)
        and len(module.active_adapters) == 1
        and module.base_layer.compute_dtype == torch.float32
        and module.base_layer.bias is None
        and all(isinstance(dropout, torch.nn.Identity) for dropout in module.lora_dropout.values())
    ]
    for module in layers:
        module.forward = partial(_forward, module, module.forward)
    try:
        yield len(layers)
    finally:
        for module in layers:
            del module.forward
