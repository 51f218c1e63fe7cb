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
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..core.errors import InputError

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class Machine:
    """A CPU or GPU as the roofline describes it."""

    name: str
    # {rows of a matmul: bytes of weights a second}; a data sheet has one number, {1: x}.
    bandwidth: dict[int, float]
    flops: float = math.inf  # operations a second; infinite: not known, so that only memory limits

    def bytes_per_second(self, rows: float) -> float:
        """The bandwidth at `rows` rows, interpolated in the logarithms of both."""
        known = sorted(self.bandwidth)
        if rows <= known[0]:
            return self.bandwidth[known[0]]
        for low, high in pairwise(known):
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


class ProbeSweeps:
    """The matrices of a model's experts or MLPs, multiplied one after another, nothing around them.

    Together they should be several times the cache (`cache_bytes`), or the cache is measured.
    """

    _FEW, _MANY = 3, 256

    def __init__(self, model: Any):
        named = [(n, m) for n, m in model.named_modules() if hasattr(m, "in_features")]
        self.layers = [m for name, m in named if ".experts." in name or ".mlp." in name]
        if not self.layers:
            raise InputError("the model has no expert and no MLP to probe with")
        self.device, self.dtype = model.device, model.lm_head.weight.dtype
        weights = [layer.weight for layer in self.layers]
        self.bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        sizes = [layer.in_features * layer.out_features for layer in self.layers]
        self.parameters = sum(sizes)
        self.operations = 2 * self._MANY * sum(sizes[: self._FEW])
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
        """The machine by the medians of {rows: seconds of each sweep} and of `rate`'s seconds."""
        taken = {n: statistics.median(each) for n, each in seconds.items()}
        reached = [2 * n * self.parameters / spent for n, spent in taken.items()]
        # A roof does not lie below what was built: the highest rate that any of them reached.
        most = max(self.operations / statistics.median(rates), *reached)
        return Machine("this machine", {n: self.bytes / spent for n, spent in taken.items()}, most)
