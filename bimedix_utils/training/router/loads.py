"""The load of a group, layer by layer: each expert's share with its interval, and the experts
hardly used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core import charts
from ...core.errors import InputError
from .counts import RoutingCounts

if TYPE_CHECKING:
    import numpy
    from matplotlib.axes import Axes

DRAW_CHUNK = 100  # draws at a time: weights of 100 x rows stay small beside the counts


@dataclass(frozen=True)
class ExpertLoad:
    """One layer's load in one group. `share` is each expert's part of the routed slots (sum 1) with
    95 % intervals over rows.
    """

    group: str
    layer: int
    rows: int
    tokens: int
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def group_rows(counts: RoutingCounts, group: str) -> "numpy.ndarray":
    """Row numbers of a group named by words. Raises `InputError` when a word is unknown or no
    counted token is in the group.
    """
    import numpy

    words = set() if group == "all" else set(group.split())
    known = {*counts.langs, *counts.kinds}
    if not group.strip() or words - known:
        raise InputError(
            f"no group {group!r}: name it with words of {', '.join(sorted(known))}, or all"
        )
    pairs = zip(counts.langs, counts.kinds, strict=True)
    rows = [i for i, pair in enumerate(pairs) if words <= set(pair)]
    if not counts.tokens[rows].sum():
        raise InputError(f"the group {group!r} has {len(rows)} rows and no counted token")
    return numpy.array(rows)


def expert_loads(
    counts: RoutingCounts, groups: Sequence[str], seed: int, draws: int = 1000
) -> list[ExpertLoad]:
    """The load of every group and layer, groups in the order given; intervals are percentiles over
    rows drawn with replacement.
    """
    import numpy

    loads = []
    for group in groups:
        rows = group_rows(counts, group)
        slots, tokens = counts.slots[rows].astype(float), int(counts.tokens[rows].sum())
        drawn = to_shares(bootstrap_sums(slots, numpy.random.default_rng(seed), draws))
        low, high = (q.tolist() for q in numpy.percentile(drawn, [2.5, 97.5], axis=0))
        for layer, share in enumerate(to_shares(slots.sum(0)).tolist()):
            values = tuple(share), tuple(low[layer]), tuple(high[layer])
            loads.append(ExpertLoad(group, layer, len(rows), tokens, *values))
    return loads


def dead_experts(loads: Sequence[ExpertLoad]) -> list[tuple[str, int, int, float, int]]:
    """Experts hardly used: (group, layer, expert, share, tokens) where the share is below 1 / (10 x
    experts). Few tokens can make an expert look dead by chance; an expert dead in one group only is
    a specialist, not a loss.
    """
    return [
        (load.group, load.layer, expert, share, load.tokens)
        for load in loads
        for expert, share in enumerate(load.share)
        if share < 1 / (10 * len(load.share))
    ]


def plot_loads(loads: Sequence[ExpertLoad], title: str) -> "list[Axes]":
    """A heat map of the loads in percent, layers down, experts across, one panel a group, one
    scale; dead experts are framed.
    """
    panels: dict[str, list] = {}
    for load in loads:
        panels.setdefault(load.group, []).append([100 * share for share in load.share])
    framed = {(group, layer, expert) for group, layer, expert, _, _ in dead_experts(loads)}
    return charts.heatmap(panels, title, "expert", "layer", "% of routed slots", framed=framed)


def to_shares(slots: "numpy.ndarray") -> "numpy.ndarray":
    """Counts to shares along the last axis; equal shares where all counts are 0 (a resample may
    draw only rows without a counted token).
    """
    import numpy

    total = slots.sum(-1, keepdims=True)
    return numpy.where(total > 0, slots / numpy.maximum(total, 1), 1 / slots.shape[-1])


def bootstrap_sums(values: "numpy.ndarray", rng: Any, draws: int) -> "numpy.ndarray":
    """Sums (draws, ...) over the first axis's units drawn with replacement."""
    import numpy

    n, sums = len(values), []
    for start in range(0, draws, DRAW_CHUNK):
        weights = rng.multinomial(n, [1 / n] * n, min(DRAW_CHUNK, draws - start))
        sums.append(numpy.tensordot(weights.astype(float), values, 1))
    return numpy.concatenate(sums)
