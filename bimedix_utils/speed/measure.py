"""Time models in interleaved rounds; quote ratios with intervals, never one absolute number."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError

if TYPE_CHECKING:
    import torch


def _now(model: Any) -> float:
    """The time when everything asked of the model's device is done."""
    if model.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _drawn(model: Any, rows: int, columns: int, seed: int) -> "torch.Tensor":
    """Token ids drawn at random: rows that differ, so that they are routed to different experts."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    size = (rows, columns)
    return torch.randint(0, model.config.vocab_size, size, generator=draw).to(model.device)


def prefill_seconds(model: Any, tokens: int, batch: int = 1, seed: int = 0) -> float:
    """Seconds of the prefill of `batch` prompts of `tokens` tokens each."""
    import torch

    ids = _drawn(model, batch, tokens, seed)
    begin = _now(model)
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, logits_to_keep=1)
    return _now(model) - begin


def decode_seconds(
    model: Any, tokens: int, batch: int = 1, context: int = 32, seed: int = 0
) -> float:
    """Seconds to decode `tokens` tokens a row in `batch` rows behind `context` cached tokens."""
    # Cache and tokens are random. Content costs no time, and reading a prompt would; greedy choices
    # of a random model fall into one loop, and all rows would ask for the same experts.
    import torch
    from transformers import DynamicCache

    ids, config = _drawn(model, batch, tokens, seed), model.config
    head = config.hidden_size // config.num_attention_heads
    sizes = (batch, config.num_key_value_heads, context, head)
    draw = torch.Generator().manual_seed(seed)
    filling = torch.randn(sizes, generator=draw, dtype=torch.float32)
    filling = filling.to(model.device, model.lm_head.weight.dtype)
    cache = DynamicCache()
    for layer in range(config.num_hidden_layers):
        cache.update(filling.clone(), filling.clone(), layer)
    with torch.inference_mode():
        begin = _now(model)
        for step in range(tokens):
            one = ids[:, step : step + 1]
            logits = model(input_ids=one, past_key_values=cache, use_cache=True).logits
            logits[:, -1].argmax(-1)  # a real decoder chooses a token here
        return _now(model) - begin


def count_routed(model: Any, run: Callable[[], Any]) -> dict[int, float]:
    """{rows an expert works on: how many experts do so}, mean of a layer and step of `run`."""
    gates = [module for name, module in model.named_modules() if name.endswith(".gate")]
    if not gates:
        raise InputError("a dense model routes nothing")
    found: Counter[int] = Counter()
    steps = [0]

    def count(module: Any, inputs: Any, logits: "torch.Tensor") -> None:
        chosen = logits.topk(model.config.num_experts_per_tok, dim=-1).indices.flatten().tolist()
        found.update(Counter(chosen).values())
        steps[0] += 1

    # The router's logits say which experts a token needs, before anything is sent to them.
    hooks = [gate.register_forward_hook(count) for gate in gates]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return {rows: count / steps[0] for rows, count in sorted(found.items())}


def interleaved(runs: Mapping[Any, Callable[[], float]], rounds: int) -> dict[Any, list[float]]:
    """{name: seconds of each round}, after a warm-up; a round runs all, each time in another order.

    Whatever else the machine does for longer than a round falls on all of them alike.
    """
    names = list(runs)
    for name in names:  # warm-up: the first call of each allocates memory
        runs[name]()
    found: dict[Any, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(runs[name]())
    return found


@dataclass(frozen=True)
class TimeRatio:
    """How many times faster: median over the rounds, and an interval that holds the true one."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def confidence(self) -> float:
        """How often such an interval holds the true median; below 0.95 under six rounds."""
        return order_interval(self.rounds)[1]

    @property
    def interval(self) -> str:
        """The interval as text."""
        return f"{self.low:.2f} to {self.high:.2f}"


def order_interval(n: int) -> tuple[int, float]:
    """(k, confidence): the k-th least and greatest of `n` draws hold the median; 95 %, else k = 1.

    Exact for any continuous distribution: draws fall below the median as a fair coin shows heads
    (Conover 1999, 3.2).
    """
    from scipy.stats import binom

    k = max(1, int(binom.ppf(0.025, n, 0.5)))
    return k, 1 - 2 * float(binom.cdf(k - 1, n, 0.5))


def time_ratio(slow: Sequence[float], fast: Sequence[float]) -> TimeRatio:
    """`slow` over `fast`, round by round; `InputError` for unequal numbers of rounds."""
    if len(slow) != len(fast) or not slow:
        found = f"{len(slow)} and {len(fast)} rounds"
        raise InputError(f"{found}: a ratio needs both sides of each round")
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    k, _ = order_interval(len(ratios))
    return TimeRatio(statistics.median(ratios), ratios[k - 1], ratios[-k], len(ratios))
