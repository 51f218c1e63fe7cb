"""Resampling of counts by row: drawn with replacement for intervals, names dealt out again for the
test.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

_CHUNK = 100  # draws at a time: weights of 100 x rows stay small beside the counts


def to_shares(slots: "numpy.ndarray") -> "numpy.ndarray":
    """Counts to shares along the last axis; of no counts, equal shares (a resample may hold rows
    without a counted token only).
    """
    import numpy

    total = slots.sum(-1, keepdims=True)
    return numpy.where(total > 0, slots / numpy.maximum(total, 1), 1 / slots.shape[-1])


def bootstrap_sums(values: "numpy.ndarray", rng: Any, draws: int) -> "numpy.ndarray":
    """Sums (draws, ...) over the first axis's units drawn with replacement."""
    import numpy

    n = len(values)
    weights = lambda k: rng.multinomial(n, [1 / n] * n, k).astype(float)  # noqa: E731
    return numpy.concatenate(
        [
            numpy.tensordot(weights(min(_CHUNK, draws - i)), values, 1)
            for i in range(0, draws, _CHUNK)
        ]
    )


def permuted_sums(
    first: "numpy.ndarray", second: "numpy.ndarray", paired: bool, rng: Any, draws: int
) -> Iterator[tuple]:
    """Sums of both groups after the names were dealt out again: within pairs, or among all rows."""
    import numpy

    together = numpy.concatenate([first, second])
    names = numpy.arange(len(together)) < len(first)
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        if paired:
            coin = rng.integers(0, 2, (size, len(first)))
            weights = numpy.concatenate([coin, 1 - coin], axis=1).astype(float)
        else:
            weights = rng.permuted(numpy.tile(names, (size, 1)), axis=1).astype(float)
        one = numpy.tensordot(weights, together, 1)
        yield one, together.sum(0) - one
