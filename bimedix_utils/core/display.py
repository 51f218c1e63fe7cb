"""Tables, records and figures for two scripts: plain data in, HTML or a figure out. Knows no model
and no file format.

Arabic cells are marked right-to-left; matplotlib 3.11 shapes Arabic itself, so no reshaping library
is used (it would reverse it).
"""

import html
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .language import research_notice
from .text import is_arabic, isolate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe-Ito: distinct for colour-blind readers

# Okabe-Ito: distinct for colour-blind readers.
COLOURS = {"en": "#0072B2", "ar": "#D55E00", "both": "#009E73", "grey": "#777777"}


class Shown:
    """An object Jupyter shows as HTML and everything else shows as text."""

    def __init__(self, as_html: str, as_text: str):
        self._html, self._text = as_html, as_text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def span(text: str, tag: str = "span") -> str:
    """Escaped text in a tag that tells its language and direction."""
    if is_arabic(text):
        return (
            f'<{tag} dir="rtl" lang="ar"'
            f' style="text-align:right">{html.escape(isolate(text))}</{tag}>'
        )
    return f'<{tag} dir="ltr" style="text-align:left">{html.escape(text)}</{tag}>'


def show_table(rows: Iterable[Sequence[Any]], columns: Sequence[str], caption: str = "") -> Shown:
    """A table; each cell takes the direction of its own text. Integers get thousands commas."""
    cells = [[_cell(value) for value in row] for row in rows]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(span(cell, "td") for cell in row) + "</tr>" for row in cells)
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    widths = [
        max(len(str(name)), *(len(row[i]) for row in cells)) if cells else len(name)
        for i, name in enumerate(columns)
    ]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(columns), *cells]
    ]
    return Shown(
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        "\n".join(lines),
    )


def show_counts(values: dict[str, int], name: str = "status") -> Shown:
    """A table of counts with their sum: the shape of every stage's row accounting."""
    return show_table([*values.items(), ("sum", sum(values.values()))], [name, "rows"])


def show_record(row: Any, heading: str = "") -> Shown:
    """One record as a reader sees it: question, lettered options with the key marked, or the turns
    of a chat.
    """
    from .templates import option_letters

    lines: list[tuple[str, str]] = []
    if row.kind == "chat":
        lines += [(turn.role, turn.text) for turn in row.turns]
    else:
        lines += [("context", row.context)] if row.context else []
        lines.append(("question", row.question))
        for index, (letter, option) in enumerate(
            zip(option_letters(row.lang), row.options, strict=False)
        ):
            lines.append((f"{letter}{' ✓' if index == row.answer_index else ''}", option))
        lines += (
            [("answer" if row.kind == "qa" else "explanation", row.answer)] if row.answer else []
        )
    title = heading or row.id
    body = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th>{span(text, "td")}</tr>'
        for label, text in lines
    )
    text = "\n".join(f"{label:>12}  {text}" for label, text in [("", title), *lines])
    return Shown(
        f"<table><caption>{html.escape(title)}</caption><tbody>{body}</tbody></table>", text
    )


def show_side_by_side(left: Any, right: Any) -> Shown:
    """Two records beside each other, such as an original and its translation."""
    pair, text = (
        (show_record(left), show_record(right)),
        f"{show_record(left)!r}\n\n{show_record(right)!r}",
    )
    columns = "".join(
        f'<div style="flex:1;min-width:20em">{part._repr_html_()}</div>' for part in pair
    )
    return Shown(f'<div style="display:flex;gap:2em;flex-wrap:wrap">{columns}</div>', text)


def show_difference(
    parts: Iterable[tuple[str, Sequence[tuple[str, str]]]], heading: str = ""
) -> Shown:
    """What an edit changed, word by word: (part name, [(kind, words)]) with the kinds equal, delete
    and insert.

    Deleted words stand in `<del>` or `[-...-]`, inserted ones in `<ins>` or `{+...+}`. Each part
    takes the direction of its own text.
    """
    marks = {"equal": ("", ""), "delete": ("[-", "-]"), "insert": ("{+", "+}")}
    tags = {"equal": "span", "delete": "del", "insert": "ins"}
    rows, lines = "", [heading] if heading else []
    for name, pieces in parts:
        arabic = is_arabic(" ".join(words for _, words in pieces))
        frame = (
            'dir="rtl" lang="ar" style="text-align:right"'
            if arabic
            else 'dir="ltr" style="text-align:left"'
        )
        inner = " ".join(span(words, tags[kind]) for kind, words in pieces)
        rows += f'<tr><th scope="row">{html.escape(name)}</th><td {frame}>{inner}</td></tr>'
        lines.append(f"{name}: " + " ".join(words.join(marks[kind]) for kind, words in pieces))
    title = f"<caption>{html.escape(heading)}</caption>" if heading else ""
    return Shown(f"<table>{title}<tbody>{rows}</tbody></table>", "\n".join(lines))


def show_notice() -> Shown:
    """The research-only notice that stands beside every answer a model gives."""
    box = "border:2px solid #b00;padding:.5em 1em;margin:.5em 0"
    texts = [research_notice(lang) for lang in ("en", "ar")]
    paragraphs = "".join(span(text, "p") for text in texts)
    return Shown(f'<div role="note" style="{box}">{paragraphs}</div>', "\n".join(texts))


def somebody_watches() -> bool:
    """True in a notebook opened by a person; False under papermill, nbval and scripts, where nobody
    could type.
    """
    from IPython import get_ipython

    # The runner and the tests say so; a Jupyter server names its session to the kernels it starts.
    return (
        get_ipython() is not None
        and "JPY_SESSION_NAME" in os.environ
        and "BIMEDIX_BATCH" not in os.environ
    )


def _theme() -> None:
    import seaborn

    seaborn.set_theme(context="notebook", style="whitegrid", font="DejaVu Sans")


def new_axes(
    title: str, xlabel: str = "", ylabel: str = "", size: tuple[float, float] = (8.0, 4.0)
) -> "Axes":
    """A labelled seaborn axes readable on a projector in both scripts (DejaVu Sans holds Arabic and
    Latin).
    """
    import matplotlib.pyplot as plt

    _theme()
    _, axis = plt.subplots(figsize=size, layout="constrained")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return axis


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
    """The share of rows in each bin of length, a step for each language; `edges` are the bins'
    lower ends, `limit` a dashed line.
    """
    axis = new_axes(title, "tokens, logarithmic", "share of rows")
    axis.set_xscale("log", base=2)
    for lang, show_counts in histograms.items():
        total = sum(show_counts) or 1
        steps = [max(edge, 0.5) for edge in edges] + [2 * edges[-1]]
        axis.stairs(
            [n / total for n in show_counts],
            steps,
            color=COLOURS.get(lang, COLOURS["grey"]),
            linewidth=2.5,
            label=lang,
        )
    axis.axvline(limit, linestyle="--", color=COLOURS["grey"], label=f"training length {limit:,}")
    filled = [
        edge
        for show_counts in histograms.values()
        for edge, n in zip(edges, show_counts, strict=True)
        if n
    ]
    axis.set_xlim(max(1, min(filled, default=1)) / 2, 4 * max([limit, *filled]))
    axis.legend()
    return axis


def planned_chart(
    rows: Sequence[tuple[str, str, int, int]],
    title: str,
    xlabel: str,
    stated: Sequence[int | None] = (),
    stated_by: str = "",
) -> "Axes":
    """For each (name, language, planned, present) a pale bar of what is planned and over it a full
    one of what is present.

    The scale is logarithmic, so that ten rows are seen beside a hundred thousand; an absent part is
    marked, not left blank. `stated`: for each row a number that somebody else states, drawn as a
    diamond (None: not found), explained by `stated_by`.
    """
    axis = new_axes(title, xlabel, size=(9.0, 1.4 + 0.42 * len(rows)))
    axis.set_xscale("log")
    for place, (_, lang, planned, present) in enumerate(rows):
        axis.barh(-place, planned, color=COLOURS[lang], alpha=0.25, height=0.8)
        axis.barh(-place, present, color=COLOURS[lang], height=0.45)
        axis.text(
            planned,
            -place,
            f"  {present:,} of {planned:,}" if present else f"  none of {planned:,}",
            va="center",
            fontsize=10,
        )
    known = [(n, -place) for place, n in enumerate(stated) if n]
    if known:
        axis.scatter(
            *zip(*known, strict=True), marker="D", color="black", s=28, zorder=3, label=stated_by
        )
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.06))
    axis.set_xlim(
        1, 40 * max((planned for _, _, planned, _ in rows), default=1)
    )  # room for the words
    axis.set_yticks(
        [-place for place in range(len(rows))], [f"{name}, {lang}" for name, lang, _, _ in rows]
    )
    axis.grid(axis="y", visible=False)
    return axis


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]],
    title: str,
    xlabel: str,
    chance: float | None = None,
    pale: str | None = None,
) -> "Axes":
    """A dot and an interval for each (name, value, low, high), top to bottom, with the chance level
    as a dashed line.

    Rows whose name begins with `pale` are drawn in grey: the ones the others are compared with.
    """
    axis = new_axes(title, xlabel, size=(8.0, 0.9 + 0.38 * len(rows)))
    for place, (name, value, low, high) in enumerate(rows):
        colour = COLOURS["grey" if pale and name.startswith(pale) else "en"]
        axis.errorbar(
            value, -place, xerr=[[value - low], [high - value]], fmt="o", capsize=3, color=colour
        )
    axis.set_yticks([-place for place in range(len(rows))], [row[0] for row in rows])
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
    """One heat map for each named matrix, beside each other on one colour scale, every value
    printed; rows and columns count from 0.

    The scale begins at 0; `signed` centres it there instead, red above and blue below. `framed`:
    (panel, row, column) of cells drawn with a black frame. All matrices have one shape; raises
    `ValueError` otherwise.
    """
    import matplotlib.pyplot as plt
    import seaborn

    shapes = {(len(matrix), *{len(row) for row in matrix}) for matrix in panels.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError("a heat map needs panels of one shape")
    ((rows, columns),) = shapes
    _theme()
    width = max(3.0, 0.65 * columns + 0.8)
    size = (width * len(panels) + 1.2, 1.6 + 0.42 * max(rows, 3))
    figure, drawn = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    limit = max(abs(value) for matrix in panels.values() for row in matrix for value in row) or 1.0
    scale = {"vmin": -limit if signed else 0, "vmax": limit, "cmap": "vlag" if signed else "Blues"}
    for axis, (name, matrix) in zip(drawn[0], panels.items(), strict=True):
        seaborn.heatmap(
            matrix,
            ax=axis,
            cbar=False,
            annot=True,
            fmt="+.1f" if signed else ".1f",
            linewidths=0.5,
            **scale,
        )
        axis.set(title=name, xlabel=xlabel, ylabel=ylabel if axis is drawn[0][0] else "")
        axis.tick_params(axis="y", rotation=0)
        for panel, row, column in framed:
            if panel == name:
                axis.add_patch(
                    plt.Rectangle(
                        (column + 0.05, row + 0.05),
                        0.9,
                        0.9,
                        fill=False,
                        edgecolor="black",
                        linewidth=2.5,
                    )
                )
    figure.colorbar(drawn[0][-1].collections[0], ax=list(drawn[0]), label=unit)
    figure.suptitle(title)
    return list(drawn[0])


def training_curve(log: Sequence[Mapping[str, Any]], title: str = "Loss of the answers") -> "Axes":
    """The training loss of each step, its running mean over 20, and the held-out loss where it was
    measured.
    """
    axis = new_axes(title, "optimiser step", "cross-entropy (natural log)")
    steps = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    held = [(entry["step"], entry["eval_loss"]) for entry in log if "eval_loss" in entry]
    if steps:
        axis.plot(
            *zip(*steps, strict=True), color=COLOURS["grey"], alpha=0.4, label="training, each step"
        )
        means = [
            (steps[i][0], sum(loss for _, loss in steps[max(0, i - 19) : i + 1]) / min(20, i + 1))
            for i in range(len(steps))
        ]
        axis.plot(
            *zip(*means, strict=True),
            color=COLOURS["en"],
            linewidth=2.5,
            label="training, mean of 20 steps",
        )
    if held:
        axis.plot(
            *zip(*held, strict=True),
            "o-",
            color=COLOURS["ar"],
            linewidth=2.5,
            label="held-out rows",
        )
    axis.legend()
    return axis


def live_curve(seconds: float = 5.0) -> Callable[[Sequence[Mapping[str, Any]]], None] | None:
    """A function that draws `training_curve` under the cell while training runs, every `seconds` at
    most; None when nobody watches.
    """
    if not somebody_watches():
        return None
    from IPython.display import display as show
    from matplotlib import pyplot

    handle, last = show(display_id=True), [0.0]

    def draw(log: Sequence[Mapping[str, Any]]) -> None:
        if time.monotonic() - last[0] >= seconds and len(log) > 1:
            figure = training_curve(log).figure
            handle.update(figure)
            pyplot.close(figure)
            last[0] = time.monotonic()

    return draw
