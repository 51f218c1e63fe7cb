"""One comparison: a sparse model, the dense ones of equal total and of equal active size, one
precision, several batch sizes.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..core.errors import InputError
from ..training.models import release_memory
from .build import PRECISIONS, build, pool
from .measure import Ratio, decode_seconds, interleaved, prefill_seconds, ratio, routed
from .probes import Machine, Sweeps
from .roofline import BYTES, predict, rests
from .shapes import Shape, equal_active, equal_total

DENSE = ("equal total", "equal active")


@dataclass(frozen=True)
class Plan:
    """What a trial measures: rows at once, interleaved rounds, tokens written in each round, tokens
    read, cache before the first token.
    """

    batches: tuple[int, ...]
    rounds: int = 7
    tokens: int = 2
    prefill: int = 128
    context: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Prediction:
    """Dense over sparse, decoding: measured and predicted; `error` = predicted / measured - 1."""

    batch: int
    against: str
    measured: Ratio
    predicted: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured.median - 1


@dataclass(frozen=True)
class Trial:
    """Raw seconds of every round: `decode` of one step by batch and model, `prefill` of one prompt
    by model.
    """

    precision: str
    shapes: dict[str, Shape]
    plan: Plan
    decode: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    prefill: dict[str, list[float]] = field(default_factory=dict)
    loads: dict[int, dict[int, float]] = field(default_factory=dict)
    machines: dict[int, list[Machine]] = field(
        default_factory=dict
    )  # as it was in each round of each batch

    def weights(self, name: str) -> float:
        """Bytes of a model's matrices that decoding reads when all experts are hit: everything but
        embeddings and norms.
        """
        parts = self.shapes[name].weights()
        small = BYTES[self.precision] * (parts["attention"] + parts["experts"])
        return small + max(BYTES[self.precision], 2.0) * (parts["router"] + parts["head"])

    def rates(self, name: str) -> dict[int, float]:
        """Tokens a second in writing, all rows together, median over the rounds, by batch."""
        return {
            batch: batch / statistics.median(found[name]) for batch, found in self.decode.items()
        }

    def decode_ratios(self) -> dict[tuple[int, str], Ratio]:
        """{(batch, dense model): how many times faster the sparse one writes}."""
        return {
            (batch, name): ratio(found[name], found["sparse"])
            for batch, found in self.decode.items()
            for name in DENSE
        }

    def prefill_ratios(self) -> dict[str, Ratio]:
        """{dense model: how many times faster the sparse one reads}."""
        return {name: ratio(self.prefill[name], self.prefill["sparse"]) for name in DENSE}

    def _seen(self, batch: int, two_numbers: bool) -> list[Machine]:
        return [
            machine.two_numbers() if two_numbers else machine for machine in self.machines[batch]
        ]

    def overhead(self, two_numbers: bool = False) -> float:
        """Seconds a layer spends beside its matrices: one term for all batches and rounds, from the
        dense models alone.
        """
        found = []
        for batch, seconds in self.decode.items():
            for turn, machine in enumerate(self._seen(batch, two_numbers)):
                runs = [(self.shapes[name], batch, seconds[name][turn]) for name in DENSE]
                found += rests(runs, machine, self.plan.context, self.precision)
        return max(0.0, statistics.median(found))

    def predictions(self, two_numbers: bool = False, as_routed: bool = True) -> list[Prediction]:
        """The roofline's ratios beside the measured ones; routing as seen, or uniform. Both sides
        are medians over the same rounds.

        `two_numbers`: one bandwidth whatever the rows, as in the textbook, instead of the one
        measured for each number of rows.
        """
        overhead, found = self.overhead(two_numbers), []
        for (batch, name), measured in self.decode_ratios().items():
            loads, ratios = self.loads[batch] if as_routed else None, []
            for machine in self._seen(batch, two_numbers):
                settings = (machine, batch, self.plan.context, self.precision)
                sparse = predict(self.shapes["sparse"], *settings, loads=loads, overhead=overhead)
                ratios.append(predict(self.shapes[name], *settings, overhead=overhead) / sparse)
            found.append(Prediction(batch, name, measured, statistics.median(ratios)))
        return found

    def machine(self, batch: int) -> Machine:
        """The machine over all rounds of a batch: medians, for tables."""
        seen = self.machines[batch]
        bandwidth = {
            rows: statistics.median(one.bandwidth[rows] for one in seen)
            for rows in seen[0].bandwidth
        }
        return Machine(seen[0].name, bandwidth, statistics.median(one.flops for one in seen))


def batches(text: str) -> tuple[int, ...]:
    """The batch sizes of a parameter such as "1 8 32", ascending. Raises `InputError` for anything
    but whole numbers from 1 on.
    """
    words = text.split()
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise InputError(
            f"BATCHES = {text!r}: whole numbers from 1 on, with spaces between them, such as '1"
            " 8 32'"
        )
    return tuple(sorted({int(word) for word in words}))


def precisions(text: str) -> tuple[str, ...]:
    """The precisions of a parameter such as "fp32 nf4", in the order of `PRECISIONS`. Raises
    `InputError` for an unknown one or none.
    """
    words = text.split()
    if not words or set(words) - set(PRECISIONS):
        raise InputError(
            f"PRECISIONS = {text!r}: some of {', '.join(PRECISIONS)}, with spaces between them"
        )
    return tuple(name for name in PRECISIONS if name in words)


def trio(sparse: Shape) -> dict[str, Shape]:
    """The sparse shape and its two dense counterparts."""
    return {
        "sparse": sparse,
        "equal total": equal_total(sparse),
        "equal active": equal_active(sparse),
    }


def _powers(batch: int) -> list[int]:
    """1, 2, 4, ... and `batch` itself: the rows that matrix products of a step can have."""
    return sorted({*(2**power for power in range(batch.bit_length()) if 2**power <= batch), batch})


def run(sparse: Shape, precision: str, plan: Plan, device: str = "cpu") -> Trial:
    """Build the three models on one pool of numbers, then time them in turns, and in each round the
    bare matrices as well.

    So the roofline knows the machine as it was during these rounds, not before them.
    """
    shapes = trio(sparse)
    numbers = pool(
        max(shapes.values(), key=lambda shape: shape.total), plan.seed, precision, device
    )
    built: dict[str, Any] = {
        name: build(shape, plan.seed, numbers, precision) for name, shape in shapes.items()
    }
    del numbers
    sweeps = Sweeps(built["sparse"])
    trial = Trial(precision, shapes, plan)
    for batch in plan.batches:

        def write(name: str, batch: int = batch) -> float:
            return (
                decode_seconds(built[name], plan.tokens, batch, plan.context, plan.seed)
                / plan.tokens
            )

        turns: dict[Any, Callable[[], float]] = {name: partial(write, name) for name in built}
        turns |= {n: partial(sweeps.rows, n) for n in _powers(batch)} | {"rate": sweeps.rate}
        found = interleaved(turns, plan.rounds)
        trial.decode[batch] = {name: found[name] for name in built}
        rows = _powers(batch)
        trial.machines[batch] = [
            sweeps.machine({n: [found[n][i]] for n in rows}, [found["rate"][i]])
            for i in range(plan.rounds)
        ]
        trial.loads[batch] = routed(built["sparse"], partial(write, "sparse"))
    reading = {
        name: partial(prefill_seconds, model, plan.prefill, 1, plan.seed)
        for name, model in built.items()
    }
    trial.prefill.update(interleaved(reading, plan.rounds))
    del sweeps, turns, reading, write
    built.clear()
    release_memory()
    return trial
