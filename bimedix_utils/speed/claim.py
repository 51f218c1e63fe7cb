"""The paper's 8.6 times: the share that a roofline gives to the architecture on a named GPU.

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

# Med42-70B, one of the dense models the paper compares with, and Llama-2-70B, its base: sizes as in
# the config.json quoted in vllm-project/vllm#2518.
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
    stated = [row for word in ("8x7B", "70B") for row in rows if word in row["model"]]
    found = [float(row["tokens_per_s"].lstrip("~")) for row in stated]
    if len(found) != 2:
        needed = "one line of BiMediX v1 for 8x7B and one for 70B are needed"
        raise InputError(f"{table.name}: {needed}, found {len(found)}")
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
    """Tokens/s, sparse over dense, each on its own GPU and precision; None: bandwidth not found."""
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


def _found(value: float | None, form: str) -> str:
    return NOT_FOUND if value is None else format(value, form)


def gpu_rows(
    gpus: Sequence[Gpu], batches: Sequence[int], claim: float, sparse: Shape
) -> list[tuple[str, ...]]:
    """Of each GPU: count and best tokens/s for both models, ratios by batch, the claim's share."""
    lines = []
    for gpu in gpus:
        cells = [gpu.name]
        for shape in (sparse, LLAMA_2_70B):
            cells += [str(gpus_needed(shape, gpu)), _found(best_rate(shape, gpu), ",.0f")]
        ratios = [architecture_ratio((gpu, gpu), batch, sparse) for batch in batches]
        # Factors multiply, so the share is one of logarithms.
        share = ratios[0] and math.log(ratios[0]) / math.log(claim)
        lines.append((*cells, *(_found(ratio, ".2f") for ratio in ratios), _found(share, ".0%")))
    return lines


def needed_bandwidth(shape: Shape, rate: float, precision: str, context: int = CONTEXT) -> float:
    """Bytes a second from memory for `rate` tokens/s at batch 1, whatever the hardware."""
    unit = Machine("one byte a second", {1: 1.0})
    return rate * predict_seconds(shape, unit, 1, context, precision)
