"""Figures of the speed notebook, from plain numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..core import charts
from .languages import Cost
from .trial import DENSE, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = dict(zip(DENSE, ("en", "ar"), strict=True))  # the two most distinct colours of the house


def _batches(axis: "Axes", batches: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.minorticks_off()


def ratios_figure(predictions: Sequence[Prediction], title: str) -> "Axes":
    """Measured ratios as dots with intervals, predicted ones as lines, by batch; above 1 the sparse
    model is faster.
    """
    axis = charts.new_axes(
        title, "rows at once (batch)", "times faster than dense", size=(9.0, 4.6)
    )
    for name, colour in STYLE.items():
        found = [one for one in predictions if one.against == name]
        batches, medians = [one.batch for one in found], [one.measured.median for one in found]
        reach = [
            [m.median - m.low for m in (one.measured for one in found)],
            [m.high - m.median for m in (one.measured for one in found)],
        ]
        paint = charts.COLOURS[colour]
        axis.errorbar(
            batches,
            medians,
            yerr=reach,
            fmt="o",
            markersize=9,
            capsize=5,
            color=paint,
            label=f"{name}: measured",
        )
        axis.plot(
            batches,
            [one.predicted for one in found],
            color=paint,
            linewidth=2.5,
            label=f"{name}: predicted",
        )
    axis.axhline(1, linestyle="--", color=charts.COLOURS["grey"])
    _batches(axis, sorted({one.batch for one in predictions}))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=True)
    return axis


def parts_figure(parts: Mapping[str, Mapping[str, float]], title: str, unit: str) -> "Axes":
    """One bar for each case, stacked by part: {case: {part: amount}}, at most five parts, in the
    order of the first case.
    """
    axis = charts.new_axes(title, unit, size=(9.0, 1.8 + 0.5 * len(parts)))
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    names = list(next(iter(parts.values())))
    for colour, name in zip(colours[: len(names)], names, strict=True):
        left = [
            sum(amounts[other] for other in names[: names.index(name)])
            for amounts in parts.values()
        ]
        axis.barh(
            list(parts),
            [amounts[name] for amounts in parts.values()],
            left=left,
            color=colour,
            label=name,
        )
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.45, -0.22 - 0.25 / len(parts)),
        ncols=len(names),
        frameon=False,
    )
    return axis


def claim_figure(lines: Mapping[str, Mapping[int, float]], claim: float, title: str) -> "Axes":
    """{case: {batch: ratio}} as lines on a logarithmic scale, the claim as a dashed one: the gap to
    it is what must come from elsewhere.
    """
    axis = charts.new_axes(
        title, "rows at once (batch)", "times faster than 70B dense", size=(9.0, 4.6)
    )
    colours = [charts.COLOURS["en"], charts.COLOURS["ar"], charts.COLOURS["both"]]
    for (name, ratios), colour in zip(lines.items(), colours, strict=False):
        axis.plot(
            list(ratios), list(ratios.values()), "o-", color=colour, linewidth=2.5, label=name
        )
    axis.axhline(claim, linestyle="--", color="black", label=f"paper: {claim:.1f} times")
    axis.set_yscale("log", base=2)
    ticks = [1, 2, 4, 8, 16]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    _batches(axis, list(next(iter(lines.values()))))
    axis.legend(frameon=True)
    return axis


def sentences_figure(costs: Sequence[Cost], title: str) -> "Axes":
    """Tokens a sentence in both languages, one group of bars for each tokenizer."""
    axis = charts.new_axes(title, ylabel="tokens a sentence", size=(8.0, 4.2))
    names = list(dict.fromkeys(cost.tokenizer for cost in costs))
    for shift, (lang, label) in zip(
        (-0.2, 0.2), (("en", "English"), ("ar", "Arabic · العربية")), strict=True
    ):
        values = [
            next(c.per_sentence for c in costs if (c.tokenizer, c.lang) == (name, lang))
            for name in names
        ]
        drawn = axis.bar(
            [place + shift for place in range(len(names))],
            values,
            width=0.38,
            color=charts.COLOURS[lang],
            label=label,
        )
        axis.bar_label(drawn, fmt="%.0f")
    axis.set_xticks(range(len(names)), names)
    axis.grid(axis="x", visible=False)
    axis.margins(y=0.12)
    axis.legend(frameon=True)
    return axis
