"""What this machine can do: bytes of weights and operations a second in matmuls; its cache size.

The probes time the library's own kernels on matrices of a model's size, with no model around them;
no ratio of models enters.
"""

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InputError

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class Machine:
    """A processor as the roofline describes it.

    `bandwidth`: bytes of weights a second that matmuls of so many rows reach, {rows:
    bytes/s}; a data sheet has one number, {1: x}. `flops`: floating-point operations a second;
    infinite when not known, so that only memory limits.
    """

    name: str
    bandwidth: dict[int, float]
    flops: float = math.inf

    def bytes_per_second(self, rows: float) -> float:
        """The bandwidth at `rows` rows, interpolated in the logarithms of both."""
        known = sorted(self.bandwidth)
        if rows <= known[0]:
            return self.bandwidth[known[0]]
        for low, high in zip(known, known[1:], strict=False):
            if rows <= high:  # bandwidth changes by factors, as rows do
                part = math.log(rows / low) / math.log(high / low)
                return self.bandwidth[low] ** (1 - part) * self.bandwidth[high] ** part
        return self.bandwidth[known[-1]]

    def single_bandwidth(self) -> "Machine":
        """The textbook's roofline: the bandwidth of one row, whatever the rows."""
        return Machine(f"{self.name}, one bandwidth", {1: self.bytes_per_second(1)}, self.flops)


def cache_bytes(folder: Path = _CACHES) -> int | None:
    """Bytes of the last-level cache as Linux reports them, None when they are not found."""
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            level, size = ((index / name).read_text().strip() for name in ("level", "size"))
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if match and level.isdigit():
            found[int(level)] = int(match[1]) * _UNITS[match[2]]
    return found[max(found)] if found else None


def _matrices(model: Any) -> list[Any]:
    """The linear layers of a model's experts or MLPs: what the probes multiply with."""
    found = [
        m
        for name, m in model.named_modules()
        if hasattr(m, "in_features") and (".experts." in name or ".mlp." in name)
    ]
    if not found:
        raise InputError("the model has no expert and no MLP to probe with")
    return found


class ProbeSweeps:
    """The matrices of a model, multiplied one after another with nothing around them.

    `rows(n)` takes all of them with n rows and gives the seconds, `rate()` three of them with 256
    rows. All matrices together should be several times the cache (see `cache_bytes`), or it is the
    cache that is measured.
    """

    _FEW, _MANY = 3, 256

    def __init__(self, model: Any):
        self.layers, self.device = _matrices(model), model.device
        self.dtype = model.lm_head.weight.dtype
        self.bytes = sum(
            layer.weight.numel() * layer.weight.element_size() for layer in self.layers
        )
        self.parameters = sum(layer.in_features * layer.out_features for layer in self.layers)
        self.operations = sum(
            2 * self._MANY * layer.in_features * layer.out_features
            for layer in self.layers[: self._FEW]
        )
        self._inputs: dict[tuple[int, int], Any] = {}

    def rows(self, n: int) -> float:
        """Seconds of one sweep over all matrices with `n` rows."""
        return self._sweep(self.layers, n)

    def rate(self) -> float:
        """Seconds of a few matrices with many rows: `operations` of them."""
        return self._sweep(self.layers[: self._FEW], self._MANY)

    def _sweep(self, layers: Sequence[Any], n: int) -> float:
        import torch

        for width in {layer.in_features for layer in layers}:
            if (n, width) not in self._inputs:
                self._inputs[n, width] = torch.randn(n, width).to(self.device, self.dtype)
        with torch.inference_mode():
            begin = time.perf_counter()
            for layer in layers:
                layer(self._inputs[n, layer.in_features])
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - begin

    def machine(self, seconds: Mapping[int, Sequence[float]], rates: Sequence[float]) -> Machine:
        """The machine that the sweeps show: medians of {rows: seconds of each sweep} and of the
        seconds of `rate`.

        The rate is the highest that any of them reached: a roof does not lie below what was built.
        """
        taken = {n: statistics.median(each) for n, each in seconds.items()}
        reached = [
            self.operations / statistics.median(rates),
            *(2 * n * self.parameters / spent for n, spent in taken.items()),
        ]
        return Machine(
            "this machine", {n: self.bytes / spent for n, spent in taken.items()}, max(reached)
        )
