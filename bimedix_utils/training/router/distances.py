"""Two loads side by side: two groups of rows, or the same rows with the adapters off and on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import InputError
from ...core.statistics import holm
from .counts import RoutingChange, RoutingCounts
from .loads import group_rows
from .resample import bootstrap_sums, permuted_sums, to_shares

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class DistanceEstimate:
    """A distance between two loads, 0 (equal) to 1 (no expert in common).

    `plain` is computed from the counts as they are and is never 0 in a finite sample; `shuffled` is
    its mean when the groups' names are dealt out at random, among as many rows of each as the
    smaller group has. `value` is `plain` less its bias; `low` and `high` enclose it with 95 %
    confidence.
    """

    plain: float
    shuffled: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupDistance:
    """How far two groups' loads are apart in one layer: Jensen-Shannon divergence (base 2) and
    total variation.

    `p`: the share of shuffles with a divergence as large; `p_holm`: the same for all layers tested
    together (Holm 1979). `rows` and `tokens`: of the first and of the second group.
    """

    layer: int
    rows: tuple[int, int]
    tokens: tuple[int, int]
    jsd: DistanceEstimate
    tv: DistanceEstimate
    p: float
    p_holm: float


@dataclass(frozen=True)
class RoutingShift:
    """What the adapters changed in one layer: each expert's share after less before, how far the
    load moved, and for how many tokens.

    `changed` is the share of tokens whose most probable expert is another one, with a 95 % interval
    over rows.
    """

    group: str
    layer: int
    rows: int
    tokens: int
    change: tuple[float, ...]
    tv: DistanceEstimate
    p_holm: float
    changed: float
    low: float
    high: float


def group_distances(
    view: RoutingCounts,
    a: str,
    b: str,
    seed: int,
    draws: int = 2000,
    pair: Callable[[str], str] | None = None,
) -> list[GroupDistance]:
    """How far the loads of two groups are apart, layer by layer, with intervals over rows and a
    permutation test.

    `pair` gives the name two translations share, from a row's id: then pairs are drawn and their
    two sides swapped, which takes the subject of the rows out of the noise; a row without partner
    is left out (see `rows`). The test asks whether rows of the two groups could change places, with
    as many rows of each as the smaller group has; its smallest p is 1 / (draws + 1). Groups that
    differ in tasks differ by that too, so compare within a task. Raises `InputError` for a group
    that is unknown, shares rows with the other or has fewer than two rows or pairs.
    """
    rows_a, rows_b = group_rows(view, a), group_rows(view, b)
    if set(rows_a) & set(rows_b):
        raise InputError(f"the groups {a!r} and {b!r} share rows")
    if pair is not None:
        rows_a, rows_b = _partners(view, rows_a, rows_b, pair)
    if min(len(rows_a), len(rows_b)) < 2:
        raise InputError(
            f"{a!r} and {b!r} have {len(rows_a)} and {len(rows_b)} {'pairs' if pair else 'rows'}:"
            " two of each are the least"
        )
    n = len(rows_a), len(rows_b)
    tokens = int(view.tokens[rows_a].sum()), int(view.tokens[rows_b].sum())
    found = _compare(view.slots[rows_a], view.slots[rows_b], pair is not None, seed, draws)
    return [GroupDistance(layer, n, tokens, *values) for layer, values in enumerate(found)]


def routing_shifts(
    change: RoutingChange, group: str, seed: int, draws: int = 2000
) -> list[RoutingShift]:
    """What the adapters changed in a group, layer by layer; each row is its own partner."""
    import numpy

    rows = group_rows(change.before, group)
    if len(rows) < 2:
        raise InputError(f"the group {group!r} has one row: two are the least")
    before, after = change.before.slots[rows], change.after.slots[rows]
    tokens = change.before.tokens[rows]
    moved = (to_shares(after.sum(0)) - to_shares(before.sum(0))).tolist()
    counts = numpy.stack(
        [
            tokens[:, None] - change.same[rows],
            numpy.broadcast_to(tokens[:, None], (len(rows), len(moved))),
        ],
        -1,
    )
    seen = bootstrap_sums(counts.astype(float), numpy.random.default_rng(seed), draws)
    low, high = numpy.percentile(seen[..., 0] / numpy.maximum(seen[..., 1], 1), [2.5, 97.5], axis=0)
    changed = counts.sum(0)[:, 0] / tokens.sum()
    return [
        RoutingShift(
            group,
            i,
            len(rows),
            int(tokens.sum()),
            tuple(moved[i]),
            tv,
            p_holm,
            float(changed[i]),
            float(low[i]),
            float(high[i]),
        )
        for i, (_, tv, _, p_holm) in enumerate(_compare(before, after, True, seed, draws))
    ]


def _partners(
    view: RoutingCounts,
    rows_a: "numpy.ndarray",
    rows_b: "numpy.ndarray",
    pair: Callable[[str], str],
) -> tuple:
    import numpy

    sides = [{pair(view.ids[i]): i for i in rows} for rows in (rows_a, rows_b)]
    if any(len(side) < len(rows) for side, rows in zip(sides, (rows_a, rows_b), strict=True)):
        raise InputError("two rows of one group have the same pair name: they cannot be told apart")
    both = [name for name in sides[0] if name in sides[1]]
    return tuple(numpy.array([side[name] for name in both], int) for side in sides)


def jensen_shannon(p: "numpy.ndarray", q: "numpy.ndarray") -> "numpy.ndarray":
    """Jensen-Shannon divergence in bits along the last axis (Lin 1991): 0 for equal shares, 1 for
    shares with nothing in common.
    """
    import numpy

    middle = (p + q) / 2

    def bits(x: "numpy.ndarray") -> "numpy.ndarray":
        safe = numpy.where(x > 0, x, 1)
        return numpy.where(x > 0, x * numpy.log2(safe / numpy.where(x > 0, middle, 1)), 0).sum(-1)

    return numpy.clip((bits(p) + bits(q)) / 2, 0, 1)


def total_variation(p: "numpy.ndarray", q: "numpy.ndarray") -> "numpy.ndarray":
    """Total variation along the last axis: the share of load that would have to move to make the
    two equal.
    """
    return abs(p - q).sum(-1) / 2


def _compare(
    first: "numpy.ndarray", second: "numpy.ndarray", paired: bool, seed: int, draws: int
) -> list[tuple]:
    """[(divergence, variation, p, p after Holm)] for each layer, from the slots (rows, layers,
    experts) of two groups.

    A distance cannot be negative, so sampling noise only adds to it, and once more in every
    resample: plain percentile intervals miss the truth nearly always when the groups hardly differ.
    The bootstrap's bias is therefore taken from the value once and from its percentiles twice, and
    the lower end is 0 where the test does not reject equality at 5 %. In simulations (8 experts, 40
    and 200 rows with tastes of their own) the 95 % intervals held the true divergence in 93 to 100
    % of cases, the true variation in 81 to 99 %: near 0 the variation has a corner, and its
    interval is the less trustworthy one.

    The test uses as many rows of each group as the smaller one has, drawn at random: with 15 rows
    of 10 to 20 tokens against 60 of 60 to 240 and no difference, names dealt out among all 75
    rejected at 5 % in 24 % of simulations.
    """
    import numpy

    first, second = first.astype(float), second.astype(float)
    rng = numpy.random.default_rng(seed)
    if paired:
        both = bootstrap_sums(numpy.concatenate([first, second], -1), rng, draws)
        resampled = both[..., : first.shape[-1]], both[..., first.shape[-1] :]
    else:
        resampled = bootstrap_sums(first, rng, draws), bootstrap_sums(second, rng, draws)
    # Names dealt out among groups of unequal size reject too often when the smaller group's rows
    # are the noisier ones.
    least = min(len(first), len(second))
    tested = [
        side if len(side) == least else side[rng.permutation(len(side))[:least]]
        for side in (first, second)
    ]
    shuffles = [
        numpy.concatenate(part)
        for part in zip(*permuted_sums(*tested, paired, rng, draws), strict=True)
    ]
    columns, p_values = [], []
    for measure in (jensen_shannon, total_variation):
        plain = measure(to_shares(first.sum(0)), to_shares(second.sum(0)))
        noise = measure(*map(to_shares, shuffles))
        compared = measure(*(to_shares(side.sum(0)) for side in tested))
        p = (1 + (noise >= compared - 1e-12).sum(0)) / (draws + 1)
        seen = measure(*map(to_shares, resampled))
        bias = seen.mean(0) - plain
        low, high = numpy.clip(numpy.percentile(seen, [2.5, 97.5], axis=0) - 2 * bias, 0, 1)
        low = numpy.where(p > 0.05, 0.0, low)
        value = numpy.clip(plain - bias, low, high)
        columns.append(
            [
                DistanceEstimate(*map(float, row))
                for row in zip(plain, noise.mean(0), value, low, high, strict=True)
            ]
        )
        p_values.append(p.tolist())
    return list(zip(*columns, p_values[0], holm(p_values[0]), strict=True))
