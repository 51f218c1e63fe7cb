"""The same numbers in less time and memory: a loss that computes logits for answers only, and LoRA
folded into the dequantised weight.

Imports torch when imported; the package imports it only to train.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora.bnb import Linear4bit
from torch.nn.functional import silu
from transformers.activations import SiLUActivation
from transformers.models.mixtral.modeling_mixtral import MixtralBlockSparseTop2MLP

from .examples import IGNORE_INDEX

# Answer positions whose logits exist at one time: 50 MB with a vocabulary of 49,152.
LOGIT_CHUNK = 256


def compute_dtype(x: Any) -> Any:
    """The dtype of matmuls with `x`: autocast's where it is on, else its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class FrozenHeadLoss(torch.autograd.Function):
    """Sum of the cross-entropies (natural log) of `hidden` (n, width) through a frozen head
    (vocabulary, width); `targets` is (n,).

    The head is frozen, so the forward pass can compute the gradient of `hidden` chunk by chunk and
    drop the logits: the largest tensor is (LOGIT_CHUNK, vocabulary) whatever the batch.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        total, gradient = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(hidden)
        low = compute_dtype(hidden)
        weight = weight.to(low)
        for start in range(0, len(hidden), LOGIT_CHUNK):
            chunk = slice(start, start + LOGIT_CHUNK)
            target = targets[chunk, None]
            scores = (hidden[chunk].to(low) @ weight.t()).float()
            scores -= scores.logsumexp(-1, keepdim=True)
            total -= scores.gather(1, target).sum()
            # d loss / d logits is the softmax, minus one at the target.
            scores.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=scores.dtype))
            gradient[chunk] = scores.to(low) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        return ctx.saved_tensors[0] * upstream, None, None


@contextmanager
def answer_loss_head(head: Any, labels: Any) -> Iterator[None]:
    """Inside, the output layer returns the summed loss of the answers instead of logits; `labels`
    (rows, tokens) with -100 elsewhere.

    The model returns that sum as its `logits`: data parallel, sharded and checkpointed wrappers
    need no change.
    """
    last = labels.new_full((len(labels), 1), IGNORE_INDEX)
    # Position i predicts token i + 1.
    targets = torch.cat([labels[:, 1:], last], dim=1).flatten()
    positions = (targets != IGNORE_INDEX).nonzero()[:, 0]
    before = head.__dict__.get("forward")  # accelerate's device hooks are there

    def loss(hidden: Any) -> Any:
        device = head.weight.device
        index = positions.to(device)
        states = hidden.flatten(0, 1).to(device)[index]
        return FrozenHeadLoss.apply(states, head.weight, targets.to(device)[index])

    head.forward = loss
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before


def _adapter(layer: Any) -> str:
    (name,) = layer.active_adapters
    return name


def _lora(layer: Any) -> tuple[Any, Any]:
    """The matrices A and B."""
    return layer.lora_A[_adapter(layer)].weight, layer.lora_B[_adapter(layer)].weight


def _weight(layer: Any, a: Any, b: Any, dtype: Any) -> Any:
    """W + s B A, dequantised."""
    weight = layer.base_layer.weight
    dense = dequantize_4bit(weight.data, weight.quant_state)
    return dense.addmm_(b, a, alpha=layer.scaling[_adapter(layer)]).to(dtype)


def _gradients(layer: Any, x: Any, upstream: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Gradients of A and B for `x` (rows, in) and `upstream` (rows, out), as matmuls whose long
    side is contiguous in memory: up to 4 times faster.
    """
    scaling = layer.scaling[_adapter(layer)]
    down = x @ a.to(x.dtype).t()
    up = upstream @ b.t().to(x.dtype, memory_format=torch.contiguous_format).t()
    for_a = (up.t() @ x).to(a.dtype).mul_(scaling)
    return for_a, (down.t() @ upstream).to(b.dtype).mul_(scaling).t()


class FoldedLinear(torch.autograd.Function):
    """`y = x (W + s B A)^T` for W in 4 bit; gradients of x, A and B. One large matmul instead of
    three and two additions.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, a: Any, b: Any, layer: Any) -> Any:
        ctx.layer, ctx.input_dtype = layer, x.dtype
        x = x.to(compute_dtype(x))
        ctx.save_for_backward(x, a, b)
        return x @ _weight(layer, a, b, x.dtype).t()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        x, a, b = ctx.saved_tensors
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = (upstream @ _weight(ctx.layer, a, b, x.dtype)).to(ctx.input_dtype)
        return for_x, *_gradients(ctx.layer, x.flatten(0, -2), upstream.flatten(0, -2), a, b), None


class FoldedExpert(torch.autograd.Function):
    """`y = (silu(x W1^T) * x W3^T) W2^T`, each W folded, for `x` (rows, width).

    As three `FoldedLinear`, except that of the wide tensors only the two matmuls are kept for the
    backward pass, without the results of the element-wise functions.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Any, a1: Any, b1: Any, a2: Any, b2: Any, a3: Any, b3: Any, layers: Any
    ) -> Any:
        ctx.layers, ctx.input_dtype = layers, x.dtype
        x = x.to(compute_dtype(x))
        w1, w2, w3 = layers
        gate, up = x @ _weight(w1, a1, b1, x.dtype).t(), x @ _weight(w3, a3, b3, x.dtype).t()
        ctx.save_for_backward(x, gate, up, a1, b1, a2, b2, a3, b3)
        return silu(gate).mul_(up) @ _weight(w2, a2, b2, x.dtype).t()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        x, gate, up, a1, b1, a2, b2, a3, b3 = ctx.saved_tensors
        w1, w2, w3 = ctx.layers
        inner, active = upstream @ _weight(w2, a2, b2, x.dtype), silu(gate)
        for_w2 = _gradients(w2, active * up, upstream, a2, b2)
        for_up = active.mul_(inner)
        for_gate = torch.ops.aten.silu_backward(inner.mul_(up), gate)
        for_w1, for_w3 = _gradients(w1, x, for_gate, a1, b1), _gradients(w3, x, for_up, a3, b3)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = for_gate @ _weight(w1, a1, b1, x.dtype)
            for_x = for_x.addmm_(for_up, _weight(w3, a3, b3, x.dtype)).to(ctx.input_dtype)
        return for_x, *for_w1, *for_w2, *for_w3, None


def _is_faster(layer: Any, rows: int) -> bool:
    """Folding costs a matmul of the size of the weight; for few rows the two thin matmuls of stock
    LoRA are cheaper.
    """
    outer, inner = layer.out_features, layer.in_features
    return layer.training and not layer.disable_adapters and rows * (outer + inner) >= outer * inner


def _linear_forward(layer: Any, stock: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not _is_faster(layer, x.numel() // x.shape[-1]):
        return stock(x, *args, **kwargs)
    return FoldedLinear.apply(x, *_lora(layer), layer)


def _expert_forward(expert: Any, stock: Any, x: Any) -> Any:
    layers = expert.w1, expert.w2, expert.w3
    if not all(_is_faster(layer, len(x)) for layer in layers):
        return stock(x)
    return FoldedExpert.apply(x, *(matrix for layer in layers for matrix in _lora(layer)), layers)


def _is_foldable(module: Any) -> bool:
    return (
        isinstance(module, Linear4bit)
        and len(module.active_adapters) == 1
        and module.base_layer.compute_dtype == torch.float32
        and module.base_layer.bias is None
        and all(isinstance(dropout, torch.nn.Identity) for dropout in module.lora_dropout.values())
    )


def _is_foldable_expert(module: Any) -> bool:
    return (
        isinstance(module, MixtralBlockSparseTop2MLP)
        and isinstance(module.act_fn, SiLUActivation)
        and all(map(_is_foldable, (module.w1, module.w2, module.w3)))
    )


@contextmanager
def fold_lora(model: Any) -> Iterator[int]:
    """Inside, 4-bit LoRA layers in training mode compute `FoldedLinear`, experts made of them
    `FoldedExpert`; yields the number of layers.

    Only for bases that compute in float32, where the update is added before anything is rounded;
    under autocast the sum is rounded, as any weight. Layers with dropout or a bias are unchanged.
    """
    layers = [module for module in model.modules() if _is_foldable(module)]
    experts = [module for module in model.modules() if _is_foldable_expert(module)]
    for module in layers:
        module.forward = partial(_linear_forward, module, module.forward)
    for module in experts:
        module.forward = partial(_expert_forward, module, module.forward)
    try:
        yield len(layers)
    finally:
        for module in [*layers, *experts]:
            del module.forward
