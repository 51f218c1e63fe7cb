"""Figures of the speed notebook, from plain numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..core import charts
from .comparison import DENSE_MODELS, RatioPrediction
from .token_costs import TokenCost

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = [charts.COLOURS[name] for name in ("en", "ar", "both")]
_BATCH = "rows at once (batch)"


def _batch_ticks(axis: "Axes", batches: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.minorticks_off()


def ratios_figure(predictions: Sequence[RatioPrediction], title: str) -> "Axes":
    """Measured ratios as dots with intervals, predicted ones as lines, by batch."""
    axis = charts.new_axes(title, _BATCH, "times faster than dense", size=(9.0, 4.6))
    for name, colour in zip(DENSE_MODELS, _COLOURS, strict=False):
        found = [one for one in predictions if one.against == name]
        batches, measured = [one.batch for one in found], [one.measured for one in found]
        medians = [m.median for m in measured]
        reach = [[m.median - m.low for m in measured], [m.high - m.median for m in measured]]
        dots = {"fmt": "o", "markersize": 9, "capsize": 5, "label": f"{name}: measured"}
        axis.errorbar(batches, medians, yerr=reach, color=colour, **dots)
        line = {"linewidth": 2.5, "label": f"{name}: predicted"}
        axis.plot(batches, [one.predicted for one in found], color=colour, **line)
    axis.axhline(1, linestyle="--", color=charts.COLOURS["grey"])
    _batch_ticks(axis, sorted({one.batch for one in predictions}))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=True)
    return axis


def parts_figure(parts: Mapping[str, Mapping[str, float]], title: str, unit: str) -> "Axes":
    """A bar for each case, stacked by part: {case: {part: amount}}, at most five parts."""
    axis = charts.new_axes(title, unit, size=(9.0, 1.8 + 0.5 * len(parts)))
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    names, left = list(next(iter(parts.values()))), [0.0] * len(parts)
    for colour, name in zip(colours[: len(names)], names, strict=True):
        widths = [amounts[name] for amounts in parts.values()]
        axis.barh(list(parts), widths, left=left, color=colour, label=name)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.22 - 0.25 / len(parts))}
    axis.legend(**place, ncols=len(names), frameon=False)
    return axis


def claim_figure(lines: Mapping[str, Mapping[int, float]], claim: float, title: str) -> "Axes":
    """{case: {batch: ratio}} as lines, the claim as a dashed one; logarithmic scales."""
    axis = charts.new_axes(title, _BATCH, "times faster than 70B dense", size=(9.0, 4.6))
    for (name, ratios), colour in zip(lines.items(), _COLOURS, strict=False):
        style = {"color": colour, "linewidth": 2.5, "label": name}
        axis.plot(list(ratios), list(ratios.values()), "o-", **style)
    axis.axhline(claim, linestyle="--", color="black", label=f"paper: {claim:.1f} times")
    axis.set_yscale("log", base=2)
    ticks = [1, 2, 4, 8, 16]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    _batch_ticks(axis, list(next(iter(lines.values()))))
    axis.legend(frameon=True)
    return axis


def sentences_figure(costs: Sequence[TokenCost], title: str) -> "Axes":
    """Tokens a sentence in both languages, one group of bars for each tokenizer."""
    axis = charts.new_axes(title, ylabel="tokens a sentence", size=(8.0, 4.2))
    names = list(dict.fromkeys(cost.tokenizer for cost in costs))
    for shift, lang, label in ((-0.2, "en", "English"), (0.2, "ar", "Arabic · العربية")):
        values = {c.tokenizer: c.per_sentence for c in costs if c.lang == lang}
        centres = [index + shift for index in range(len(names))]
        style = {"width": 0.38, "color": charts.COLOURS[lang], "label": label}
        axis.bar_label(axis.bar(centres, [values[name] for name in names], **style), fmt="%.0f")
    axis.set_xticks(range(len(names)), names)
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.12)
    axis.legend(frameon=True)
    return axis
