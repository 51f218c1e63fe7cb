"""The paper's 8.6 times: how much of it a roofline gives to the architecture on a named GPU, and
how much is left for everything else.

Both models run on equal numbers of GPUs without loss: a best case for both.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import InputError
from ..sources.catalogue import NOT_FOUND
from ..training.plan.setup import Gpu, find_gpu
from ..training.plan.shape import Shape, find_config
from .probes import Machine
from .roofline import PRECISION_BYTES, predict_seconds

# Med42-70B, one of the dense models the paper compares with, and Llama-2-70B, its base:
# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, vocab_size and
# num_key_value_heads as in the config.json quoted in vllm-project/vllm#2518.
LLAMA_2_70B = Shape(hidden=8192, inner=28672, layers=80, heads=64, vocabulary=32000, kv_heads=8)
CONTEXT = 512  # tokens in the cache of each row
# Part of a GPU's memory that weights may fill; vLLM's own default for weights and cache together.
_FREE = 0.9


def mixtral_shape() -> Shape:
    """Mixtral-8x7B, from the published configuration in data/models."""
    return Shape.of(find_config("mistralai/Mixtral-8x7B-v0.1"))


def paper_rates(table: Path) -> tuple[float, float]:
    """(tokens/s of BiMediX, of 70B dense models) in the table; `InputError` when not there."""
    with open(table, encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["system"] == "BiMediX v1"]
    found = [
        float(row["tokens_per_s"].lstrip("~"))
        for word in ("8x7B", "70B")
        for row in rows
        if word in row["model"]
    ]
    if len(found) != 2:
        raise InputError(
            f"{table.name}: one line of BiMediX v1 for 8x7B and one for 70B are needed, found"
            f" {len(found)}"
        )
    return found[0], found[1]


def gpu_machine(gpu: Gpu) -> Machine | None:
    """A GPU of data/gpus.csv as the roofline describes it; None when its bandwidth is not found."""
    if gpu.bandwidth is None:
        return None
    flops = math.inf if gpu.tflops is None else gpu.tflops * 1e12
    return Machine(gpu.name, {1: gpu.bandwidth * 1e9}, flops)


def gpus_needed(shape: Shape, gpu: Gpu, precision: str = "bfloat16") -> int:
    """GPUs whose memory, at 90 %, holds the weights; each then reads a part of them."""
    return math.ceil(shape.total * PRECISION_BYTES[precision] / (_FREE * gpu.bytes))


def architecture_ratio(
    gpus: tuple[Gpu, Gpu],
    batch: int,
    sparse: Shape,
    dense: Shape = LLAMA_2_70B,
    precisions: tuple[str, str] = ("bfloat16", "bfloat16"),
) -> float | None:
    """Tokens/s of the sparse model over those of the dense one, each on one GPU of its kind; None
    for a GPU whose bandwidth is not found. `gpus`, `precisions`: of the sparse and of the dense.
    """
    one, other = map(gpu_machine, gpus)
    if one is None or other is None:
        return None
    slow = predict_seconds(dense, other, batch, CONTEXT, precisions[1])
    return slow / predict_seconds(sparse, one, batch, CONTEXT, precisions[0])


def claim_ratios(
    batches: Sequence[int], sparse: Shape, dense: Shape = LLAMA_2_70B
) -> dict[str, dict[int, float | None]]:
    """{case: {batch: ratio}} for equal GPUs and precision, and for two cases of unequal ones."""
    a100, h100 = find_gpu("A100 80GB"), find_gpu("H100 SXM 80GB")
    both = ("bfloat16", "bfloat16")
    cases = {
        "same GPUs, both bfloat16": ((a100, a100), both),
        "same GPUs, Mixtral in nf4, 70B in bfloat16": ((a100, a100), ("nf4", "bfloat16")),
        "both bfloat16, Mixtral on H100, 70B on A100": ((h100, a100), both),
    }
    return {
        name: {n: architecture_ratio(gpus, n, sparse, dense, precisions) for n in batches}
        for name, (gpus, precisions) in cases.items()
    }


def best_rate(shape: Shape, gpu: Gpu, batch: int = 1, precision: str = "bfloat16") -> float | None:
    """Tokens a second that the data sheet of the needed GPUs allows at best; None: not found."""
    machine = gpu_machine(gpu)
    if machine is None:
        return None
    seconds = predict_seconds(shape, machine, batch, CONTEXT, precision)
    return gpus_needed(shape, gpu, precision) * batch / seconds


def gpu_rows(
    gpus: Sequence[Gpu],
    batches: Sequence[int],
    claim: float,
    sparse: Shape,
    dense: Shape = LLAMA_2_70B,
) -> list[tuple[str, ...]]:
    """A line for each GPU: GPUs and best tokens/s of both models at one row, the ratios by batch,
    the claim's share at the first batch.

    Factors multiply, so shares are of logarithms: log(ratio) / log(claim).
    """
    lines = []
    for gpu in gpus:
        cells: list[str] = [gpu.name]
        for shape in (sparse, dense):
            rate = best_rate(shape, gpu)
            cells += [str(gpus_needed(shape, gpu)), NOT_FOUND if rate is None else f"{rate:,.0f}"]
        ratios = [architecture_ratio((gpu, gpu), batch, sparse, dense) for batch in batches]
        cells += [NOT_FOUND if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        known = ratios[0] is not None
        cells.append(f"{math.log(ratios[0]) / math.log(claim):.0%}" if known else NOT_FOUND)
        lines.append(tuple(cells))
    return lines


def needed_bandwidth(
    shape: Shape, tokens_per_s: float, precision: str, context: int = CONTEXT
) -> float:
    """Bytes a second from memory for `tokens_per_s` at batch 1, whatever the hardware."""
    unit = Machine("one byte a second", {1: 1.0})
    return tokens_per_s * predict_seconds(shape, unit, 1, context, precision)
