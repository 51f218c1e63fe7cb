"""A sparse model against dense ones of equal total and active size, in one precision."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..core.errors import InputError
from ..training.models.loader import release_memory
from ..training.plan.shape import Shape
from . import measure
from .measure import TimeRatio, time_ratio
from .probes import Machine, ProbeSweeps
from .random_models import build_random_model, random_weights
from .roofline import PRECISION_BYTES, predict_seconds, residual_overheads

DENSE_MODELS = ("equal total", "equal active")


def equal_total(sparse: Shape) -> Shape:
    """The dense shape of equal total size: one MLP as wide as all experts; no router."""
    return replace(sparse, inner=sparse.inner * sparse.experts, experts=0)


def equal_active(sparse: Shape) -> Shape:
    """The dense shape of equal active size: one MLP as wide as the chosen experts; no router."""
    return replace(sparse, inner=sparse.inner * sparse.per_token, experts=0)


def compared_shapes(sparse: Shape) -> dict[str, Shape]:
    """The models compared: the sparse shape and its two dense counterparts."""
    dense = dict(zip(DENSE_MODELS, (equal_total(sparse), equal_active(sparse)), strict=True))
    return {"sparse": sparse, **dense}


@dataclass(frozen=True)
class SpeedSettings:
    """What is measured."""

    batches: tuple[int, ...]  # rows at once
    rounds: int = 7  # interleaved
    tokens: int = 2  # decoded in each round
    prefill: int = 128  # tokens of the prefill
    context: int = 32  # tokens in the cache before the first one
    seed: int = 0


@dataclass(frozen=True)
class RatioPrediction:
    """Dense over sparse, decoding: measured and predicted."""

    batch: int
    against: str
    measured: TimeRatio
    predicted: float

    @property
    def error(self) -> float:
        """Relative error of the prediction: predicted / measured - 1."""
        return self.predicted / self.measured.median - 1


@dataclass(frozen=True)
class SpeedComparison:
    """Raw seconds of every round, with the routing and the machine beside them."""

    precision: str
    shapes: dict[str, Shape]
    settings: SpeedSettings
    decode: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # step, by batch, model
    prefill: dict[str, list[float]] = field(default_factory=dict)  # of one prompt, by model
    loads: dict[int, dict[int, float]] = field(default_factory=dict)  # by batch
    machines: dict[int, list[Machine]] = field(default_factory=dict)  # of each round, by batch

    def weight_bytes(self, name: str) -> float:
        """Bytes of the matrices that decoding reads when all experts are hit."""
        parts, size = self.shapes[name].parameters(), PRECISION_BYTES[self.precision]
        small = size * (parts["attention"] + parts["experts"])
        return small + max(size, 2.0) * (parts["router"] + parts["lm_head"])

    def rates(self, name: str) -> dict[int, float]:
        """Tokens decoded a second, all rows together, median over the rounds, by batch."""
        seconds = {batch: statistics.median(found[name]) for batch, found in self.decode.items()}
        return {batch: batch / median for batch, median in seconds.items()}

    def decode_ratios(self) -> dict[tuple[int, str], TimeRatio]:
        """{(batch, dense model): how many times faster the sparse one decodes}."""
        return {
            (batch, name): time_ratio(found[name], found["sparse"])
            for batch, found in self.decode.items()
            for name in DENSE_MODELS
        }

    def prefill_ratios(self) -> dict[str, TimeRatio]:
        """{dense model: how many times faster the sparse one is in the prefill}."""
        sparse = self.prefill["sparse"]
        return {name: time_ratio(self.prefill[name], sparse) for name in DENSE_MODELS}

    def _machines(self, batch: int, single: bool) -> list[Machine]:
        return [one.single_bandwidth() if single else one for one in self.machines[batch]]

    def overhead(self, single_bandwidth: bool = False) -> float:
        """Residual seconds of a layer: one term for all batches, from the dense models alone."""
        found, case = [], (self.settings.context, self.precision)
        for batch, seconds in self.decode.items():
            for turn, machine in enumerate(self._machines(batch, single_bandwidth)):
                runs = [(self.shapes[name], batch, seconds[name][turn]) for name in DENSE_MODELS]
                found += residual_overheads(runs, machine, *case)
        return max(0.0, statistics.median(found))

    def predictions(
        self, single_bandwidth: bool = False, as_routed: bool = True
    ) -> list[RatioPrediction]:
        """Predicted beside measured ratios, both medians over the same rounds.

        `single_bandwidth`: the textbook's one bandwidth, not the one measured for each number of
        rows. `as_routed`: routing as measured, else uniform.
        """
        overhead, found = self.overhead(single_bandwidth), []
        for (batch, name), measured in self.decode_ratios().items():
            loads, ratios = self.loads[batch] if as_routed else None, []
            for machine in self._machines(batch, single_bandwidth):
                case = (machine, batch, self.settings.context, self.precision)
                sparse, dense = self.shapes["sparse"], self.shapes[name]
                seconds = predict_seconds(sparse, *case, loads=loads, overhead=overhead)
                ratios.append(predict_seconds(dense, *case, overhead=overhead) / seconds)
            found.append(RatioPrediction(batch, name, measured, statistics.median(ratios)))
        return found

    def machine(self, batch: int) -> Machine:
        """The machine over all rounds of a batch: medians, for tables."""
        seen = self.machines[batch]
        rates = {n: [one.bandwidth[n] for one in seen] for n in seen[0].bandwidth}
        bandwidth = {n: statistics.median(values) for n, values in rates.items()}
        return Machine(seen[0].name, bandwidth, statistics.median(one.flops for one in seen))


def parse_batches(text: str) -> tuple[int, ...]:
    """ "1 8 32" as ascending numbers; `InputError` for anything but whole numbers from 1 on."""
    words = text.split()
    if not words or not all(word.isdecimal() and int(word) for word in words):
        legal = "whole numbers from 1 on, with spaces between them, such as '1 8 32'"
        raise InputError(f"BATCHES = {text!r}: {legal}")
    return tuple(sorted({int(word) for word in words}))


def parse_precisions(text: str) -> tuple[str, ...]:
    """ "float32 nf4" in the order of `PRECISION_BYTES`; `InputError` for an unknown one or none."""
    words = text.split()
    if not words or set(words) - set(PRECISION_BYTES):
        legal = f"some of {', '.join(PRECISION_BYTES)}, with spaces between them"
        raise InputError(f"PRECISIONS = {text!r}: {legal}")
    return tuple(name for name in PRECISION_BYTES if name in words)


def measure_models(
    sparse: Shape, precision: str, settings: SpeedSettings, device: str = "cpu"
) -> SpeedComparison:
    """Build the three models on the same weights; time them and the bare matrices in turns."""
    shapes, seed = compared_shapes(sparse), settings.seed
    largest = max(shapes.values(), key=lambda shape: shape.total)
    weights = random_weights(largest, seed, precision, device)
    models: dict[str, Any] = {
        name: build_random_model(shape, seed, weights, precision) for name, shape in shapes.items()
    }
    del weights
    sweeps = ProbeSweeps(models["sparse"])
    found = SpeedComparison(precision, shapes, settings)

    def decode(name: str, batch: int) -> float:
        tokens, context = settings.tokens, settings.context
        return measure.decode_seconds(models[name], tokens, batch, context, seed) / tokens

    for batch in settings.batches:
        # Models and bare matrices take part in the same rounds: other work slows both alike, and
        # the roofline knows the machine as it was. Rows: all that the matmuls of a step can have.
        rows = sorted({*(2**power for power in range(batch.bit_length())), batch})
        turns: dict[Any, Callable[[], float]] = {n: partial(decode, n, batch) for n in models}
        turns |= {n: partial(sweeps.rows, n) for n in rows} | {"rate": sweeps.rate}
        seconds = measure.interleaved(turns, settings.rounds)
        found.decode[batch] = {name: seconds[name] for name in models}
        found.machines[batch] = [
            sweeps.machine({n: [seconds[n][i]] for n in rows}, [seconds["rate"][i]])
            for i in range(settings.rounds)
        ]
        found.loads[batch] = measure.count_routed(models["sparse"], turns["sparse"])
    run = partial(measure.prefill_seconds, tokens=settings.prefill, batch=1, seed=seed)
    prefill = {name: partial(run, model) for name, model in models.items()}
    found.prefill.update(measure.interleaved(prefill, settings.rounds))
    # The closures hold the models: empty the dictionary so that nothing keeps their memory.
    del sweeps, turns, prefill
    models.clear()
    release_memory()
    return found
