"""Speed of sparse against dense models of equal total size, as ratios from interleaved runs."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A decoder's size. `experts` 0 makes it dense; a sparse one sends each token to 2 of its experts."""

    hidden: int
    inner: int
    layers: int
    heads: int
    experts: int = 0
    vocabulary: int = 4000


def equal_dense(sparse: Shape) -> Shape:
    """The dense shape with the same total parameters: one inner layer as wide as all experts together (the router aside)."""
    return Shape(sparse.hidden, sparse.inner * sparse.experts, sparse.layers, sparse.heads, 0, sparse.vocabulary)


def build(shape: Shape, seed: int) -> Any:
    """A random-weight model of this shape: Mixtral when it has experts, else Mistral (Mixtral without them)."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM

    common = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads // 2,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    if shape.experts:
        config = MixtralConfig(**common, num_local_experts=shape.experts, num_experts_per_tok=2)
        return MixtralForCausalLM(config).eval()
    return MistralForCausalLM(MistralConfig(**common, sliding_window=None)).eval()


def parameters(model: Any) -> tuple[int, int]:
    """(all parameters, parameters one token uses): a sparse model uses 2 of its experts."""
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    count = getattr(model.config, "num_local_experts", 0)
    return total, total - (experts * (count - 2) // count if count else 0)


def prefill_seconds(model: Any, tokens: int) -> float:
    """Seconds to read a prompt of `tokens` tokens."""
    import torch

    ids = torch.ones(1, tokens, dtype=torch.long)
    begin = time.perf_counter()
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, logits_to_keep=1)
    return time.perf_counter() - begin


def decode_seconds(model: Any, tokens: int) -> float:
    """Seconds to write `tokens` tokens one after another behind a prompt of 16, greedy, with a cache."""
    import torch

    with torch.inference_mode():
        state = model(input_ids=torch.ones(1, 16, dtype=torch.long), use_cache=True)
        begin = time.perf_counter()
        for _ in range(tokens):
            token = state.logits[:, -1:].argmax(-1)
            state = model(input_ids=token, past_key_values=state.past_key_values, use_cache=True)
        return time.perf_counter() - begin


def interleaved(first: Callable[[], float], second: Callable[[], float], runs: int) -> list[tuple[float, float]]:
    """(seconds of the first, seconds of the second) of each round, after one warm-up of both; the order flips every round."""
    first(), second()
    result = []
    for turn in range(runs):
        if turn % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        result.append((a, b))
    return result


def ratio(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(median, least, greatest) of second / first over the rounds: how many times faster the first is."""
    ratios = sorted(b / a for a, b in pairs)
    return statistics.median(ratios), ratios[0], ratios[-1]
