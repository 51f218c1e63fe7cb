"""A roofline: what a decoding step must read and compute, part by part, and how long a machine
needs for it at least.

Each part takes the longer of bytes / bandwidth and operations / rate (Williams, Waterman and
Patterson 2009, "Roofline"). One term for each layer, fitted on dense runs only, stands for
everything else: starting kernels, norms, activations, Python. The ratio of a sparse to a dense
model is predicted and never fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .probes import Machine
from .shapes import Shape

BYTES = {
    "fp32": 4.0,
    "bf16": 2.0,
    "nf4": 0.5 + (1 + 4 / 256) / 64,
}  # NF4: a scale byte for 64 weights, 4 bytes for 256 such scales


@dataclass(frozen=True)
class Work:
    """One part of a step: bytes of weights or cache read, floating-point operations, rows in each
    matrix product, and its seconds.
    """

    part: str
    bytes: float
    flops: float
    rows: float
    seconds: float


def distinct_experts(experts: int, per_token: int, batch: int) -> float:
    """Experts of a layer that `batch` tokens need, when routing is uniform: E (1 - (1 - k/E)^B)."""
    return experts * (1 - (1 - per_token / experts) ** batch)


def uniform(experts: int, per_token: int, batch: int) -> dict[int, float]:
    """{rows an expert works on: how many experts of a layer do so} when routing is uniform:
    binomial, its sum is `distinct_experts`.
    """
    from scipy.stats import binom

    return {
        rows: experts * float(binom.pmf(rows, batch, per_token / experts))
        for rows in range(1, batch + 1)
    }


def work(
    shape: Shape,
    machine: Machine,
    batch: int,
    context: int,
    precision: str = "fp32",
    loads: Mapping[int, float] | None = None,
) -> list[Work]:
    """What one decoding step of `batch` rows behind `context` tokens costs by part.

    `loads`: routing as seen (`measure.routed`), else uniform. Router, head and cache stay in 16 bit
    when the weights are NF4.
    """
    small = BYTES[precision]
    wide = max(small, 2.0)
    loads = loads or (
        uniform(shape.experts, shape.per_token, batch) if shape.experts else {batch: 1.0}
    )
    weights = shape.weights()

    def matrices(part: str, parameters: float, size: float, rows: float) -> Work:
        read, done = parameters * size, 2 * rows * parameters
        return Work(
            part, read, done, rows, max(read / machine.bytes_per_second(rows), done / machine.flops)
        )

    pieces = [
        matrices("experts", shape.layers * count * shape.expert, small, rows)
        for rows, count in loads.items()
    ]
    hit = sum(loads.values())
    rows = sum(rows * count for rows, count in loads.items()) / hit
    sums = (sum(getattr(piece, name) for piece in pieces) for name in ("bytes", "flops"))
    found = [
        matrices("attention", weights["attention"], small, batch),
        Work("experts", *sums, rows, sum(piece.seconds for piece in pieces)),
        matrices("router", weights["router"], wide, batch),
        matrices("head", weights["head"], wide, batch),
    ]
    read = shape.layers * batch * context * 2 * shape.keys * wide
    done = 4.0 * shape.layers * batch * context * shape.hidden
    return [
        *found,
        Work(
            "KV cache", read, done, 1, max(read / machine.bytes_per_second(1), done / machine.flops)
        ),
    ]


def predict(
    shape: Shape,
    machine: Machine,
    batch: int,
    context: int,
    precision: str = "fp32",
    loads: Mapping[int, float] | None = None,
    overhead: float = 0.0,
) -> float:
    """Seconds of one decoding step: the parts' times and `overhead` seconds for each layer."""
    return (
        sum(part.seconds for part in work(shape, machine, batch, context, precision, loads))
        + shape.layers * overhead
    )


def rests(
    runs: Sequence[tuple[Shape, int, float]],
    machine: Machine,
    context: int,
    precision: str = "fp32",
) -> list[float]:
    """Seconds for each layer that the roofline leaves of dense runs (shape, batch, measured seconds
    of a step).

    Raises `ValueError` for a sparse shape: the overhead must know nothing of what it helps to
    predict.
    """
    if any(shape.experts for shape, _, _ in runs):
        raise ValueError("the overhead is fitted on dense runs only")
    return [
        (seconds - predict(shape, machine, batch, context, precision)) / shape.layers
        for shape, batch, seconds in runs
    ]
