"""A roofline: what a decoding step must read and compute by part, and its least seconds.

Each part takes the longer of bytes / bandwidth and operations / rate (Williams, Waterman and
Patterson 2009, "Roofline"). One term for each layer, fitted on dense models only, stands for all
else: kernel starts, norms, activations, Python. The sparse model's ratio is never fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..training.plan.shape import Shape
from .probes import Machine

# Bytes of a weight. NF4: half a byte, a scale byte for 64 weights, 4 bytes for 256 such scales.
PRECISION_BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.5 + (1 + 4 / 256) / 64}


@dataclass(frozen=True)
class StepPart:
    """One part of a step: bytes read, operations, rows in each matmul, seconds."""

    part: str
    bytes: float
    flops: float
    rows: float
    seconds: float


def distinct_experts(experts: int, per_token: int, batch: int) -> float:
    """Experts of a layer that `batch` tokens need, when routing is uniform: E (1 - (1 - k/E)^B)."""
    return experts * (1 - (1 - per_token / experts) ** batch)


def uniform_loads(experts: int, per_token: int, batch: int) -> dict[int, float]:
    """{rows an expert works on: how many experts of a layer do so} for uniform routing."""
    from scipy.stats import binom

    rows = range(1, batch + 1)
    return {n: experts * float(binom.pmf(n, batch, per_token / experts)) for n in rows}


def step_parts(
    shape: Shape,
    machine: Machine,
    batch: int,
    context: int,
    precision: str = "float32",
    loads: Mapping[int, float] | None = None,
) -> list[StepPart]:
    """Cost of a decoding step by part; `loads`: the routing (`count_routed`), else uniform."""
    small, sizes = PRECISION_BYTES[precision], shape.parameters()
    wide = max(small, 2.0)  # router, head and cache stay in 16 bit beside NF4 weights
    if not loads:
        sparse = (shape.experts, shape.per_token, batch)
        loads = uniform_loads(*sparse) if shape.experts else {batch: 1.0}

    def matmuls(part: str, parameters: float, size: float, rows: float) -> StepPart:
        read, done = parameters * size, 2 * rows * parameters
        seconds = max(read / machine.bytes_per_second(rows), done / machine.flops)
        return StepPart(part, read, done, rows, seconds)

    # Experts with different numbers of rows reach different bandwidths: one piece for each number.
    each = shape.layers * shape.expert
    pieces = [matmuls("experts", count * each, small, rows) for rows, count in loads.items()]
    mean_rows = sum(rows * count for rows, count in loads.items()) / sum(loads.values())
    total = {n: sum(getattr(piece, n) for piece in pieces) for n in ("bytes", "flops", "seconds")}
    # Each row reads keys and values of its own, so no row shares them: the bandwidth of one row.
    read = shape.layers * batch * context * 2 * shape.keys * wide
    done = 4.0 * shape.layers * batch * context * shape.hidden
    seconds = max(read / machine.bytes_per_second(1), done / machine.flops)
    return [
        matmuls("attention", sizes["attention"], small, batch),
        StepPart("experts", rows=mean_rows, **total),
        matmuls("router", sizes["router"], wide, batch),
        matmuls("head", sizes["lm_head"], wide, batch),
        StepPart("KV cache", read, done, 1, seconds),
    ]


def predict_seconds(
    shape: Shape,
    machine: Machine,
    batch: int,
    context: int,
    precision: str = "float32",
    loads: Mapping[int, float] | None = None,
    overhead: float = 0.0,
) -> float:
    """Seconds of one decoding step: the parts' times and `overhead` seconds for each layer."""
    parts = step_parts(shape, machine, batch, context, precision, loads)
    return sum(part.seconds for part in parts) + shape.layers * overhead


def residual_overheads(
    runs: Sequence[tuple[Shape, int, float]],
    machine: Machine,
    context: int,
    precision: str = "float32",
) -> list[float]:
    """Unexplained seconds of each layer, of dense runs (shape, batch, measured seconds of a step).

    Raises `ValueError` for a sparse shape: the overhead must not know what it helps to predict.
    """
    if any(shape.experts for shape, _, _ in runs):
        raise ValueError("the overhead is fitted on dense runs only")
    return [
        (seconds - predict_seconds(shape, machine, batch, context, precision)) / shape.layers
        for shape, batch, seconds in runs
    ]
