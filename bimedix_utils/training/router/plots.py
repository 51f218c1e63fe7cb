"""Figures of loads, shifts and gaps, from their plain data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...core import display
from .distances import GroupDistance, RoutingShift
from .loads import ExpertLoad, dead_experts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_loads(loads: Sequence[ExpertLoad], title: str) -> "list[Axes]":
    """A heat map of the loads in percent, layers down, experts across, one panel a group, one
    scale; dead experts are framed.
    """
    panels: dict[str, list] = {}
    for one in loads:
        panels.setdefault(one.group, []).append([100 * share for share in one.share])
    framed = {(group, layer, expert) for group, layer, expert, _, _ in dead_experts(loads)}
    return display.heatmap(panels, title, "expert", "layer", "% of routed slots", framed=framed)


def plot_shifts(shifts: Sequence[RoutingShift], title: str) -> "list[Axes]":
    """A heat map of what the adapters changed, in percentage points, one panel a group, red for
    more and blue for less.
    """
    panels: dict[str, list] = {}
    for one in shifts:
        panels.setdefault(one.group, []).append([100 * change for change in one.change])
    return display.heatmap(panels, title, "expert", "layer", "percentage points", signed=True)


def plot_distances(gaps: Sequence[GroupDistance], title: str) -> "Axes":
    """The divergence of each layer with its interval; a star marks layers whose p after Holm is
    below 0.05.
    """
    rows = [
        (
            f"layer {gap.layer}{' *' if gap.p_holm < 0.05 else ''}",
            gap.jsd.value,
            gap.jsd.low,
            gap.jsd.high,
        )
        for gap in gaps
    ]
    axis = display.interval_chart(
        rows, title, "Jensen-Shannon divergence, bits (0 = same experts, 1 = none in common)"
    )
    axis.set_xlim(left=0)  # a divergence is read against 0
    return axis
