"""Two loads compared: two groups of rows, or the same rows without and with the adapters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError
from ...core.statistics import holm
from .counts import RoutingChange, RoutingCounts
from .loads import DRAW_CHUNK, bootstrap_sums, group_rows, to_shares

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class DistanceEstimate:
    """A distance between two loads, 0 (equal) to 1 (no expert in common).

    `plain` is computed from the counts as they are and is never 0 in a finite sample. `shuffled` is
    its mean when group labels are permuted, among as many rows of each group as the smaller one
    has. `value` is `plain` less its bias; `low` and `high` are its 95 % interval.
    """

    plain: float
    shuffled: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupDistance:
    """How far the loads of two groups are apart in one layer: Jensen-Shannon divergence (base 2)
    and total variation.

    `p`: the share of permutations with a divergence as large; `p_holm`: adjusted for all layers
    (Holm 1979). `rows` and `tokens`: of the first and of the second group.
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
    """What the adapters changed in one layer: each expert's share after less before, the distance
    of the two loads, and `changed`, the share of tokens whose most probable expert is another one,
    with a 95 % interval over rows.
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
    counts: RoutingCounts,
    a: str,
    b: str,
    seed: int,
    draws: int = 2000,
    pair: Callable[[str], str] | None = None,
) -> list[GroupDistance]:
    """How far the loads of two groups are apart, layer by layer, with intervals over rows and a
    permutation test; its smallest p is 1 / (draws + 1).

    `pair` maps a row's id to the name that two translations share. Then pairs are resampled and
    their sides permuted, which removes the noise of the rows' subjects; a row without partner is
    left out (see `rows`). Groups that differ in tasks differ by that too: compare within a task.
    Raises `InputError` for a group that is unknown, overlaps the other or has fewer than two rows
    or pairs.
    """
    rows_a, rows_b = group_rows(counts, a), group_rows(counts, b)
    if set(rows_a) & set(rows_b):
        raise InputError(f"the groups {a!r} and {b!r} share rows")
    if pair is not None:
        rows_a, rows_b = _partners(counts, rows_a, rows_b, pair)
    n = len(rows_a), len(rows_b)
    if min(n) < 2:
        unit = "pairs" if pair else "rows"
        raise InputError(
            f"{a!r} and {b!r} have {n[0]} and {n[1]} {unit}: two of each are the least"
        )
    tokens = int(counts.tokens[rows_a].sum()), int(counts.tokens[rows_b].sum())
    found = _compare(counts.slots[rows_a], counts.slots[rows_b], pair is not None, seed, draws)
    return [GroupDistance(layer, n, tokens, *values) for layer, values in enumerate(found)]


def routing_shifts(
    change: RoutingChange, group: str, seed: int, draws: int = 2000
) -> list[RoutingShift]:
    """What the adapters changed in a group, layer by layer; each row is paired with itself."""
    import numpy

    rows = group_rows(change.before, group)
    if len(rows) < 2:
        raise InputError(f"the group {group!r} has one row: two are the least")
    before, after = change.before.slots[rows], change.after.slots[rows]
    shares = (to_shares(after.sum(0)) - to_shares(before.sum(0))).tolist()
    same = change.same[rows]
    tokens = numpy.broadcast_to(change.before.tokens[rows][:, None], same.shape)
    counts = numpy.stack([tokens - same, tokens], -1)
    drawn = bootstrap_sums(counts.astype(float), numpy.random.default_rng(seed), draws)
    ratio = drawn[..., 0] / numpy.maximum(drawn[..., 1], 1)
    low, high = (q.tolist() for q in numpy.percentile(ratio, [2.5, 97.5], axis=0))
    n_tokens = int(tokens[:, 0].sum())
    changed = (counts.sum(0)[:, 0] / n_tokens).tolist()
    shifts = []
    for i, (_, tv, _, p_holm) in enumerate(_compare(before, after, True, seed, draws)):
        values = tuple(shares[i]), tv, p_holm, changed[i], low[i], high[i]
        shifts.append(RoutingShift(group, i, len(rows), n_tokens, *values))
    return shifts


def jensen_shannon(p: "numpy.ndarray", q: "numpy.ndarray") -> "numpy.ndarray":
    """Jensen-Shannon divergence in bits along the last axis (Lin 1991): 0 for equal shares, 1 for
    shares with nothing in common.
    """
    import numpy
    from scipy.special import rel_entr

    middle = (p + q) / 2
    nats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(-1) / 2
    return numpy.clip(nats / numpy.log(2), 0, 1)


def total_variation(p: "numpy.ndarray", q: "numpy.ndarray") -> "numpy.ndarray":
    """Total variation along the last axis: the share of load to move until the two are equal."""
    return abs(p - q).sum(-1) / 2


def _partners(
    counts: RoutingCounts, rows_a: "numpy.ndarray", rows_b: "numpy.ndarray", pair: Callable
) -> tuple:
    """Rows of both groups whose pair name is in both, in one order."""
    import numpy

    sides = [{pair(counts.ids[i]): i for i in rows} for rows in (rows_a, rows_b)]
    if len(sides[0]) < len(rows_a) or len(sides[1]) < len(rows_b):
        raise InputError("two rows of one group have the same pair name: they cannot be told apart")
    both = [name for name in sides[0] if name in sides[1]]
    return tuple(numpy.array([side[name] for name in both], int) for side in sides)


def _compare(
    first: "numpy.ndarray", second: "numpy.ndarray", paired: bool, seed: int, draws: int
) -> list[tuple]:
    """[(divergence, variation, p, p after Holm)] for each layer, from the slots (rows, layers,
    experts) of two groups.

    A distance cannot be negative: sampling noise adds to it, and again in every resample. Plain
    percentile intervals miss the truth nearly always when the groups hardly differ. So the bias
    found by the bootstrap is subtracted once from the value and twice from its percentiles, and the
    lower end is 0 where the test does not reject equality at 5 %. In simulations (8 experts, 40 and
    200 rows, each with its own preferences) the 95 % intervals held the true divergence in 93 to
    100 % of cases, the true variation in 81 to 99 %: near 0 the variation has a corner, and its
    interval is less reliable.

    The test draws as many rows of each group as the smaller one has. With 15 rows of 10 to 20
    tokens against 60 of 60 to 240 and no difference, permuting the labels of all 75 rejected at 5 %
    in 24 % of simulations: the smaller group's rows are noisier.
    """
    import numpy

    first, second = first.astype(float), second.astype(float)
    rng = numpy.random.default_rng(seed)
    if paired:
        both = bootstrap_sums(numpy.concatenate([first, second], -1), rng, draws)
        resampled = both[..., : first.shape[-1]], both[..., first.shape[-1] :]
    else:
        resampled = bootstrap_sums(first, rng, draws), bootstrap_sums(second, rng, draws)
    least = min(len(first), len(second))
    tested = [
        side if len(side) == least else side[rng.permutation(len(side))[:least]]
        for side in (first, second)
    ]
    permuted = zip(*_permuted_sums(*tested, paired, rng, draws), strict=True)
    shuffles = [to_shares(numpy.concatenate(part)) for part in permuted]
    columns, p_values = [], []
    for measure in (jensen_shannon, total_variation):
        plain = measure(to_shares(first.sum(0)), to_shares(second.sum(0)))
        noise = measure(*shuffles)
        compared = measure(*(to_shares(side.sum(0)) for side in tested))
        p = (1 + (noise >= compared - 1e-12).sum(0)) / (draws + 1)
        drawn = measure(*map(to_shares, resampled))
        bias = drawn.mean(0) - plain
        low, high = numpy.clip(numpy.percentile(drawn, [2.5, 97.5], axis=0) - 2 * bias, 0, 1)
        low = numpy.where(p > 0.05, 0.0, low)
        value = numpy.clip(plain - bias, low, high)
        layers = numpy.stack([plain, noise.mean(0), value, low, high], -1).tolist()
        columns.append([DistanceEstimate(*layer) for layer in layers])
        p_values.append(p.tolist())
    return list(zip(*columns, p_values[0], holm(p_values[0]), strict=True))


def _permuted_sums(
    first: "numpy.ndarray", second: "numpy.ndarray", paired: bool, rng: Any, draws: int
) -> Iterator[tuple]:
    """Sums of both groups after permuting the labels: within pairs, or among all rows."""
    import numpy

    together = numpy.concatenate([first, second])
    labels = numpy.arange(len(together)) < len(first)
    for start in range(0, draws, DRAW_CHUNK):
        size = min(DRAW_CHUNK, draws - start)
        if paired:
            coin = rng.integers(0, 2, (size, len(first)))
            weights = numpy.concatenate([coin, 1 - coin], axis=1)
        else:
            weights = rng.permuted(numpy.tile(labels, (size, 1)), axis=1)
        one = numpy.tensordot(weights.astype(float), together, 1)
        yield one, together.sum(0) - one
