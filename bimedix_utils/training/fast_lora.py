"""The same numbers in less time: a loss that makes no logits nobody asks for, and LoRA folded into
the dequantised weight.

Imports torch when imported; the package does so only when it trains.
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

LOGIT_CHUNK = (
    256  # answer positions whose logits exist at one time: 50 MB with a vocabulary of 49,152
)


def compute_dtype(x: Any) -> Any:
    """The type in which products of `x` are computed: autocast's where it is on, else its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class FrozenHeadLoss(torch.autograd.Function):
    """Sum of the cross-entropies (natural log) of `hidden` (n, width) through a frozen head
    (vocabulary, width); `targets` is (n,).

    The head learns nothing, so the gradient of `hidden` can be made in the forward pass, chunk by
    chunk, and the logits forgotten: the largest tensor is (CHUNK, vocabulary) whatever the batch.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        total, gradient = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(hidden)
        low = compute_dtype(hidden)
        weight = weight.to(low)
        for start in range(0, len(hidden), LOGIT_CHUNK):
            part, wanted = (
                hidden[start : start + LOGIT_CHUNK],
                targets[start : start + LOGIT_CHUNK, None],
            )
            scores = (part.to(low) @ weight.t()).float()
            scores -= scores.logsumexp(-1, keepdim=True)
            total -= scores.gather(1, wanted).sum()
            # d loss / d logits is the softmax, minus one at the target.
            scores.exp_().scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=scores.dtype))
            gradient[start : start + LOGIT_CHUNK] = scores.to(low) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        return ctx.saved_tensors[0] * upstream, None, None


@contextmanager
def answer_loss_head(head: Any, labels: Any) -> Iterator[None]:
    """Inside, the output layer returns the summed loss of the answers instead of logits; `labels`
    (rows, tokens) with -100 elsewhere.

    The model then gives that sum as its `logits`: whatever wraps it (data parallel, sharded,
    checkpointed) needs no change.
    """
    # Position i predicts token i + 1.
    targets = torch.cat(
        [labels[:, 1:], labels.new_full((len(labels), 1), IGNORE_INDEX)], dim=1
    ).flatten()
    wanted = (targets != IGNORE_INDEX).nonzero()[:, 0]
    before = head.__dict__.get("forward")  # accelerate's device hooks live there

    def loss(hidden: Any) -> Any:
        here = head.weight.device
        return FrozenHeadLoss.apply(
            hidden.flatten(0, 1).to(here)[wanted.to(here)],
            head.weight,
            targets.to(here)[wanted.to(here)],
        )

    head.forward = loss
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before


def _weight(layer: Any, a: Any, b: Any, dtype: Any) -> Any:
    """`W + s B A` of a 4-bit LoRA layer, added in float32. Made anew in each pass: the base stays
    in 4 bit between them.
    """
    weight = layer.base_layer.weight
    return (
        dequantize_4bit(weight.data, weight.quant_state)
        .addmm_(b, a, alpha=layer.scaling[_adapter(layer)])
        .to(dtype)
    )


def _gradients(layer: Any, x: Any, upstream: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Of A and B, for `x` (rows, in) and `upstream` (rows, out); as products whose long side lies
    along memory, up to 4 times faster.
    """
    scaling = layer.scaling[_adapter(layer)]
    down, back = (
        x @ a.to(x.dtype).t(),
        upstream @ b.t().to(x.dtype, memory_format=torch.contiguous_format).t(),
    )
    return (back.t() @ x).to(a.dtype).mul_(scaling), (down.t() @ upstream).to(b.dtype).mul_(
        scaling
    ).t()


class FoldedLinear(torch.autograd.Function):
    """`y = x (W + s B A)^T` for W in 4 bit; gradients of x, A and B. One large matrix product
    instead of three and two additions.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, a: Any, b: Any, layer: Any) -> Any:
        ctx.layer, ctx.given = layer, x.dtype
        x = x.to(compute_dtype(x))
        ctx.save_for_backward(x, a, b)
        return x @ _weight(layer, a, b, x.dtype).t()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        x, a, b = ctx.saved_tensors
        for_x = (
            (upstream @ _weight(ctx.layer, a, b, x.dtype)).to(ctx.given)
            if ctx.needs_input_grad[0]
            else None
        )
        return for_x, *_gradients(ctx.layer, x.flatten(0, -2), upstream.flatten(0, -2), a, b), None


class FoldedExpert(torch.autograd.Function):
    """`y = (silu(x W1^T) * x W3^T) W2^T`, each W folded, for `x` (rows, width).

    As three `FoldedLinear`, except that of the wide tensors only the two products are kept for the
    way back, not also what the element-wise functions made of them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Any, a1: Any, b1: Any, a2: Any, b2: Any, a3: Any, b3: Any, layers: Any
    ) -> Any:
        ctx.layers, ctx.given = layers, x.dtype
        x = x.to(compute_dtype(x))
        w1, w2, w3 = layers
        gate, up = x @ _weight(w1, a1, b1, x.dtype).t(), x @ _weight(w3, a3, b3, x.dtype).t()
        ctx.save_for_backward(x, gate, up, a1, b1, a2, b2, a3, b3)
        return silu(gate).mul_(up) @ _weight(w2, a2, b2, x.dtype).t()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> tuple:
        x, gate, up, a1, b1, a2, b2, a3, b3 = ctx.saved_tensors
        w1, w2, w3 = ctx.layers
        inner, opened = upstream @ _weight(w2, a2, b2, x.dtype), silu(gate)
        for_w2 = _gradients(w2, opened * up, upstream, a2, b2)
        for_up = opened.mul_(inner)
        for_gate = torch.ops.aten.silu_backward(inner.mul_(up), gate)
        for_w1, for_w3 = _gradients(w1, x, for_gate, a1, b1), _gradients(w3, x, for_up, a3, b3)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = (
                (for_gate @ _weight(w1, a1, b1, x.dtype))
                .addmm_(for_up, _weight(w3, a3, b3, x.dtype))
                .to(ctx.given)
            )
        return for_x, *for_w1, *for_w2, *for_w3, None


def _adapter(layer: Any) -> str:
    (name,) = layer.active_adapters
    return name


def _lora(layer: Any) -> tuple[Any, Any]:
    return layer.lora_A[_adapter(layer)].weight, layer.lora_B[_adapter(layer)].weight


def _pays(layer: Any, rows: int) -> bool:
    """Folding costs a product of the size of the weight; for few rows the two thin products of
    stock LoRA are cheaper.
    """
    outer, inner = layer.out_features, layer.in_features
    return layer.training and not layer.disable_adapters and rows * (outer + inner) >= outer * inner


def _linear(layer: Any, stock: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return (
        FoldedLinear.apply(x, *_lora(layer), layer)
        if _pays(layer, x.numel() // x.shape[-1])
        else stock(x, *args, **kwargs)
    )


def _expert(expert: Any, stock: Any, x: Any) -> Any:
    layers = expert.w1, expert.w2, expert.w3
    if not all(_pays(layer, len(x)) for layer in layers):
        return stock(x)
    return FoldedExpert.apply(x, *(matrix for layer in layers for matrix in _lora(layer)), layers)


def _foldable(module: Any) -> bool:
    return (
        isinstance(module, Linear4bit)
        and len(module.active_adapters) == 1
        and module.base_layer.compute_dtype == torch.float32
        and module.base_layer.bias is None
        and all(isinstance(dropout, torch.nn.Identity) for dropout in module.lora_dropout.values())
    )


@contextmanager
def fold_lora(model: Any) -> Iterator[int]:
    """Inside, 4-bit LoRA layers in training mode compute `FoldedLinear`, whole experts of them
    `FoldedExpert`; gives the number of layers.

    Only for bases that compute in float32, where the update is added before anything is rounded;
    under autocast the sum is, as any weight. Layers with dropout or a bias keep their own forward
    pass.
    """
    layers = [module for module in model.modules() if _foldable(module)]
    experts = [
        module
        for module in model.modules()
        if isinstance(module, MixtralBlockSparseTop2MLP)
        and isinstance(module.act_fn, SiLUActivation)
        and all(map(_foldable, (module.w1, module.w2, module.w3)))
    ]
    for module, forward in [
        *((layer, _linear) for layer in layers),
        *((expert, _expert) for expert in experts),
    ]:
        module.forward = partial(forward, module, module.forward)
    try:
        yield len(layers)
    finally:
        for module in [*layers, *experts]:
            del module.forward
