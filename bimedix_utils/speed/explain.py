"""The paper's 8.6 times: how much of it a roofline gives to the architecture on a named GPU, and
what is left for everything else.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..training.plan.setup import Gpu
from ..training.plan.shape import find_config
from .probes import Machine
from .roofline import BYTES, predict
from .shapes import Shape

# Med42-70B, one of the dense models the paper compares with, and Llama-2-70B, its base:
# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, vocab_size and
# num_key_value_heads as in the config.json quoted in vllm-project/vllm#2518.
LLAMA_2_70B = Shape(hidden=8192, inner=28672, layers=80, heads=64, vocabulary=32000, kv_heads=8)
# part of a card's memory that weights may fill; vLLM's own default for weights and cache together
FREE = 0.9


def mixtral() -> Shape:
    """Mixtral-8x7B, from the published configuration in data/models."""
    return Shape.of(find_config("mistralai/Mixtral-8x7B-v0.1"))


def paper_rates(table: Path) -> tuple[float, float]:
    """(tokens/s of BiMediX, tokens/s of the 70B dense models) in data/paper/speed.csv. Raises
    `InputError` when they are not there.
    """
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


def of_gpu(gpu: Gpu) -> Machine | None:
    """A GPU of data/gpus.csv as a machine, from its data sheet; None when its bandwidth is not
    found.
    """
    if gpu.bandwidth is None:
        return None
    return Machine(
        gpu.name, {1: gpu.bandwidth * 1e9}, math.inf if gpu.tflops is None else gpu.tflops * 1e12
    )


def cards(shape: Shape, gpu: Gpu, precision: str = "bf16") -> int:
    """How many cards hold the weights in 90 % of their memory. With that many, each part is read
    that much faster at best.
    """
    return math.ceil(shape.total * BYTES[precision] / (FREE * gpu.bytes))


@dataclass(frozen=True)
class Explained:
    """One GPU and batch: tokens/s of the sparse model over those of the dense one, and how it
    stands to the claim.

    Factors multiply, so shares are of logarithms: `share` = log(ratio) / log(claim), and ratio x
    rest = claim.
    """

    gpu: str
    batch: int
    ratio: float
    share: float
    rest: float


def explained(
    gpus: Sequence[Gpu],
    batches: Sequence[int],
    claim: float,
    sparse: Shape,
    dense: Shape = LLAMA_2_70B,
    context: int = 512,
    precisions: tuple[str, str] = ("bf16", "bf16"),
) -> list[Explained | None]:
    """For each GPU and batch what the architecture gives on equal hardware; None for a GPU whose
    bandwidth is not found.

    `precisions`: of the sparse and of the dense model. Both run on equally many cards without loss:
    a best case for both.
    """
    found: list[Explained | None] = []
    for gpu in gpus:
        machine = of_gpu(gpu)
        for batch in batches:
            if machine is None:
                found.append(None)
                continue
            ratio = predict(dense, machine, batch, context, precisions[1]) / predict(
                sparse, machine, batch, context, precisions[0]
            )
            found.append(
                Explained(gpu.name, batch, ratio, math.log(ratio) / math.log(claim), claim / ratio)
            )
    return found


def best(
    shape: Shape, gpu: Gpu, batch: int = 1, precision: str = "bf16", context: int = 512
) -> float | None:
    """Tokens a second, all rows together, that a GPU's data sheet allows at best on as many cards
    as the weights need; None: not found.
    """
    machine = of_gpu(gpu)
    return machine and cards(shape, gpu, precision) * batch / predict(
        shape, machine, batch, context, precision
    )


def gpu_rows(
    gpus: Sequence[Gpu],
    batches: Sequence[int],
    claim: float,
    sparse: Shape,
    dense: Shape = LLAMA_2_70B,
) -> list[tuple[str, ...]]:
    """A line for each GPU: cards and best tokens/s of both models at one row, the ratios by batch,
    the claim's share at the first batch.
    """
    lines = []
    for gpu in gpus:
        found = explained([gpu], batches, claim, sparse, dense)
        rates = [best(shape, gpu) for shape in (sparse, dense)]
        words = []
        for shape, rate in zip((sparse, dense), rates, strict=True):
            words += [str(cards(shape, gpu)), "not found" if rate is None else f"{rate:,.0f}"]
        ratios = ["not found" if one is None else f"{one.ratio:.2f}" for one in found]
        share = "not found" if found[0] is None else f"{found[0].share:.0%}"
        lines.append((gpu.name, *words, *ratios, share))
    return lines


def needed_bandwidth(
    shape: Shape, tokens_per_s: float, precision: str, context: int = 512
) -> float:
    """Bytes a second that must come from memory for `tokens_per_s` at batch 1, whatever the
    hardware.
    """
    unit = Machine("one byte a second", {1: 1.0})
    return tokens_per_s * predict(shape, unit, 1, context, precision)
