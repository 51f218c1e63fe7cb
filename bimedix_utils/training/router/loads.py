"""The load of a group, layer by layer: each expert's share with its interval, entropy, and the
experts hardly used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import InputError
from .counts import RoutingCounts
from .resample import bootstrap_sums, to_shares

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class ExpertLoad:
    """One layer's load in one group. `share` is each expert's part of the routed slots (sum 1) with
    95 % intervals over rows.

    `top1` is the mean of the highest router probability over all experts, before the chosen ones
    are scaled to 1. `entropy` is that of the load in bits, `evenness` the same divided by
    log2(experts): 1 when every expert gets as much.
    """

    group: str
    layer: int
    rows: int
    tokens: int
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    top1: float
    load_entropy: float
    evenness: float


def group_rows(view: RoutingCounts, group: str) -> "numpy.ndarray":
    """Row numbers of a group named by words. Raises `InputError` when a word is unknown or no
    counted token is in the group.
    """
    import numpy

    wanted = [] if group == "all" else group.split()
    known = {*view.langs, *view.kinds}
    if not group.strip() or set(wanted) - known:
        raise InputError(
            f"no group {group!r}: name it with words of {', '.join(sorted(known))}, or all"
        )
    rows = [
        i
        for i, pair in enumerate(zip(view.langs, view.kinds, strict=True))
        if set(wanted) <= set(pair)
    ]
    if not view.tokens[rows].sum():
        raise InputError(f"the group {group!r} has {len(rows)} rows and no counted token")
    return numpy.array(rows)


def load_entropy(share: Sequence[float]) -> float:
    """Shannon entropy in bits; log2(n) for n equal shares."""
    from math import log2

    return -sum(p * log2(p) for p in share if p > 0) + 0.0


def expert_loads(
    view: RoutingCounts, groups: Sequence[str], seed: int, draws: int = 1000
) -> list[ExpertLoad]:
    """The load of every group and layer, groups in the order given; intervals are percentiles over
    rows drawn with replacement.
    """
    import numpy

    made = []
    for group in groups:
        rows = group_rows(view, group)
        slots, tokens = view.slots[rows].astype(float), int(view.tokens[rows].sum())
        shares = to_shares(slots.sum(0))
        seen = to_shares(bootstrap_sums(slots, numpy.random.default_rng(seed), draws))
        low, high = numpy.percentile(seen, [2.5, 97.5], axis=0)
        top1 = view.first[rows].sum(0) / tokens
        for layer, share in enumerate(shares.tolist()):
            bits = load_entropy(share)
            bounds = tuple(low[layer].tolist()), tuple(high[layer].tolist())
            evenness = bits / float(numpy.log2(len(share)))
            made.append(
                ExpertLoad(
                    group,
                    layer,
                    len(rows),
                    tokens,
                    tuple(share),
                    *bounds,
                    float(top1[layer]),
                    bits,
                    evenness,
                )
            )
    return made


def dead_experts(loads: Sequence[ExpertLoad]) -> list[tuple[str, int, int, float, int]]:
    """Experts hardly used: (group, layer, expert, share, tokens) where the share is below 1 / (10 x
    experts).

    With few tokens an expert may look dead by chance; an expert dead in one group only is a
    specialist, not a loss.
    """
    return [
        (load.group, load.layer, expert, share, load.tokens)
        for load in loads
        for expert, share in enumerate(load.share)
        if share < 1 / (10 * len(load.share))
    ]
