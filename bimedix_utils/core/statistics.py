"""Seeded draws, intervals and paired tests.

Every score carries n and an interval; every comparison of two models uses the same items.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from .text import digest

Item = TypeVar("Item")


def seeded_sample(
    items: Iterable[Item], count: int | None, salt: str, key: Callable[[Item], str]
) -> list[Item]:
    """`count` items (None: all) in an order that only `salt` and each item's `key` decide.

    A hash is drawn, not a position: more items, or another order of them, keep who was drawn first.
    """
    return sorted(items, key=lambda item: digest(f"{salt}:{key(item)}"))[:count]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (Wilson 1927); (0, 1) when n is 0."""
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_bootstrap(
    first: Sequence[bool], second: Sequence[bool], seed: int, draws: int = 2000
) -> tuple[float, float, float]:
    """(difference second - first, low, high): a 95 % percentile interval over items drawn with
    replacement, both models together.
    """
    import numpy

    if len(first) != len(second):
        raise ValueError("paired scores need the same items")
    difference = numpy.asarray(second, float) - numpy.asarray(first, float)
    drawn = numpy.random.default_rng(seed).integers(0, len(difference), (draws, len(difference)))
    low, high = numpy.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test: of the items on which two models disagree, is
    the split a coin's?
    """
    from scipy.stats import binomtest

    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    disagreements = only_first + only_second
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them (Holm 1979), in the order given: below 0.05 means
    significant among the whole family.
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def over_seeds(values: Sequence[float]) -> tuple[float, float, float, float]:
    """(mean, low, high, p) of one score or difference for each seed: 95 % by Student's t; p of a
    mean of 0.

    Few seeds give wide intervals, and should: it is the training that is repeated here, not the
    questions. Raises `ValueError` for fewer than two.
    """
    from statistics import mean

    from scipy.stats import ttest_1samp

    if len(values) < 2:
        raise ValueError("one seed says nothing about other seeds")
    middle = mean(values)
    if len(set(values)) == 1:  # no spread: Student's t is not defined
        return middle, middle, middle, float(middle == 0)
    test = ttest_1samp(values, 0)
    interval = test.confidence_interval()
    return middle, float(interval.low), float(interval.high), float(test.pvalue)
