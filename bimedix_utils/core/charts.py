"""Figures readable on a projector in both scripts: plain data in, a matplotlib axes out.

matplotlib 3.11 shapes Arabic itself: a reshaping library would reverse it. DejaVu Sans holds Arabic
and Latin letters.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .display import is_interactive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe-Ito: distinct for colour-blind readers.
COLOURS = {"en": "#0072B2", "ar": "#D55E00", "both": "#009E73", "grey": "#777777"}


def new_axes(
    title: str, xlabel: str = "", ylabel: str = "", size: tuple[float, float] = (8.0, 4.0)
) -> "Axes":
    """A labelled seaborn axes; `size` in inches."""
    import matplotlib.pyplot as plt

    _set_theme()
    _, axis = plt.subplots(figsize=size, layout="constrained")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axis


def _set_theme() -> None:
    import seaborn

    seaborn.set_theme(context="notebook", style="whitegrid", font="DejaVu Sans")


def bar_chart(
    values: dict[str, float], title: str, ylabel: str, colours: Sequence[str] | None = None
) -> "Axes":
    """Bars with their values printed on them."""
    axis = new_axes(title, ylabel=ylabel)
    drawn = axis.bar(list(values), list(values.values()), color=colours or COLOURS["en"])
    axis.bar_label(drawn, fmt=lambda v: f"{v:,.2f}".rstrip("0").rstrip("."))
    axis.margins(y=0.1)  # room for the values above the highest bar
    if len(values) > 6:
        axis.tick_params(axis="x", rotation=30)
    return axis


def length_chart(
    histograms: Mapping[str, Sequence[int]], edges: Sequence[int], limit: int, title: str
) -> "Axes":
    """The share of rows in each bin of length, a step curve for each language.

    `edges` are the bins' lower ends in tokens; `limit` is drawn as a dashed line.
    """
    axis = new_axes(title, "tokens, logarithmic", "share of rows")
    axis.set_xscale("log", base=2)
    steps = [max(edge, 0.5) for edge in edges] + [2 * edges[-1]]
    filled = [limit]
    for lang, counts in histograms.items():
        shares = [n / (sum(counts) or 1) for n in counts]
        colour = COLOURS.get(lang, COLOURS["grey"])
        axis.stairs(shares, steps, color=colour, linewidth=2.5, label=lang)
        filled += [edge for edge, n in zip(edges, counts, strict=True) if n]
    axis.axvline(limit, linestyle="--", color=COLOURS["grey"], label=f"training length {limit:,}")
    axis.set_xlim(max(1, min(filled[1:], default=1)) / 2, 4 * max(filled))
    axis.legend()
    return axis


def planned_chart(
    rows: Sequence[tuple[str, str, int, int]],
    title: str,
    xlabel: str,
    stated: Sequence[int | None] = (),
    stated_by: str = "",
) -> "Axes":
    """For each (name, language, planned, present) a pale bar of the plan and a full one over it.

    The scale is logarithmic: ten rows are seen beside a hundred thousand. An absent part is marked.
    `stated` holds for each row a number from elsewhere, drawn as a diamond and explained by
    `stated_by` (None: not found).
    """
    axis = new_axes(title, xlabel, size=(9.0, 1.4 + 0.42 * len(rows)))
    axis.set_xscale("log")
    for y, (_, lang, planned, present) in enumerate(rows):
        axis.barh(-y, planned, color=COLOURS[lang], alpha=0.25, height=0.8)
        axis.barh(-y, present, color=COLOURS[lang], height=0.45)
        words = f"  {present:,} of {planned:,}" if present else f"  none of {planned:,}"
        axis.text(planned, -y, words, va="center", fontsize=10)
    known = [(n, -y) for y, n in enumerate(stated) if n]
    if known:
        axis.scatter(*zip(*known, strict=True), marker="D", color="black", s=28, label=stated_by)
        axis.collections[-1].set_zorder(3)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.06))
    # Room for the words beside the longest bar.
    axis.set_xlim(1, 40 * max((planned for _, _, planned, _ in rows), default=1))
    axis.set_yticks([-y for y in range(len(rows))], [f"{row[0]}, {row[1]}" for row in rows])
    axis.grid(axis="y", visible=False)
    return axis


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]],
    title: str,
    xlabel: str,
    chance: float | None = None,
    pale: str | None = None,
) -> "Axes":
    """A dot and an interval for each (name, value, low, high); the chance level as a dashed line.

    Rows whose name begins with `pale` are grey: the ones that the others are compared with.
    """
    axis = new_axes(title, xlabel, size=(8.0, 0.9 + 0.38 * len(rows)))
    for y, (name, value, low, high) in enumerate(rows):
        colour = COLOURS["grey" if pale and name.startswith(pale) else "en"]
        error = [[value - low], [high - value]]
        axis.errorbar(value, -y, xerr=error, fmt="o", capsize=3, color=colour)
    axis.set_yticks([-y for y in range(len(rows))], [row[0] for row in rows])
    if chance is not None:
        axis.axvline(chance, linestyle="--", color=COLOURS["grey"], label=f"chance {chance:g}")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1 - 0.5 / len(rows)), frameon=False)
    return axis


def heatmap(
    panels: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    xlabel: str,
    ylabel: str,
    unit: str,
    signed: bool = False,
    framed: Collection[tuple[str, int, int]] = (),
) -> "list[Axes]":
    """A heat map for each named matrix, side by side on one colour scale, every value printed.

    The scale begins at 0; `signed` centres it there, red above and blue below. `framed` names cells
    (panel, row, column) to draw with a black frame, counted from 0. Raises `ValueError` when the
    matrices differ in shape.
    """
    import matplotlib.pyplot as plt
    import numpy
    import seaborn

    matrices = {name: numpy.array(matrix) for name, matrix in panels.items()}
    if len({matrix.shape for matrix in matrices.values()}) != 1:
        raise ValueError("a heat map needs panels of one shape")
    rows, columns = next(iter(matrices.values())).shape
    _set_theme()
    size = (max(3.0, 0.65 * columns + 0.8) * len(panels) + 1.2, 1.6 + 0.42 * max(rows, 3))
    figure, (axes,) = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    limit = max(float(abs(matrix).max()) for matrix in matrices.values()) or 1.0
    style = {"vmin": -limit, "cmap": "vlag", "fmt": "+.1f"} if signed else {}
    style = {"vmin": 0, "vmax": limit, "cmap": "Blues", "fmt": ".1f", "linewidths": 0.5, **style}
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
        seaborn.heatmap(matrix, ax=axis, cbar=False, annot=True, **style)
        axis.set(title=name, xlabel=xlabel, ylabel=ylabel if axis is axes[0] else "")
        axis.tick_params(axis="y", rotation=0)
        for row, column in [cell[1:] for cell in framed if cell[0] == name]:
            corner = (column + 0.05, row + 0.05)
            axis.add_patch(plt.Rectangle(corner, 0.9, 0.9, fill=False, ec="black", lw=2.5))
    figure.colorbar(axes[-1].collections[0], ax=list(axes), label=unit)
    figure.suptitle(title)
    return list(axes)


def training_curve(log: Sequence[Mapping[str, Any]], title: str = "Loss of the answers") -> "Axes":
    """Training loss of each step, its running mean over 20, and the held-out loss."""
    import pandas

    axis = new_axes(title, "optimiser step", "cross-entropy (natural log)")
    table = pandas.DataFrame(list(log), columns=["step", "loss", "eval_loss"]).set_index("step")
    steps, held = table["loss"].dropna(), table["eval_loss"].dropna()
    if len(steps):
        axis.plot(steps, color=COLOURS["grey"], alpha=0.4, label="training, each step")
        means = steps.rolling(20, min_periods=1).mean()
        axis.plot(means, color=COLOURS["en"], linewidth=2.5, label="training, mean of 20 steps")
    if len(held):
        axis.plot(held, "o-", color=COLOURS["ar"], linewidth=2.5, label="held-out rows")
    if axis.lines:
        axis.legend()
    return axis


def live_curve(seconds: float = 5.0) -> Callable[[Sequence[Mapping[str, Any]]], None] | None:
    """A function that redraws `training_curve` every `seconds` at most; None without a reader."""
    if not is_interactive():
        return None
    from IPython.display import display
    from matplotlib import pyplot

    handle, last = display(display_id=True), [0.0]

    def draw(log: Sequence[Mapping[str, Any]]) -> None:
        if time.monotonic() - last[0] >= seconds and len(log) > 1:
            figure = training_curve(log).figure
            handle.update(figure)
            pyplot.close(figure)
            last[0] = time.monotonic()

    return draw
