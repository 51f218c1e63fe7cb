"""Tables and records for two scripts: plain data in, HTML and text out. Knows no file format."""

import html
import os
from collections.abc import Iterable, Sequence
from typing import Any

from .language import language_codes, language_of, research_notice
from .records import LABELS
from .templates import option_letters
from .text import is_right_to_left, isolate


class Shown:
    """An object that Jupyter shows as HTML and everything else as text."""

    def __init__(self, as_html: str, as_text: str):
        self._html, self._text = as_html, as_text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def direction(text: str) -> str:
    """The HTML attributes of a text's direction and, right to left, of its language."""
    if is_right_to_left(text):
        return f'dir="rtl" lang="{language_of(text)}" style="text-align:right"'
    return 'dir="ltr" style="text-align:left"'


def span(text: str, tag: str = "span") -> str:
    """Escaped text in a tag that tells its language and direction."""
    shown = isolate(text) if is_right_to_left(text) else text
    return f"<{tag} {direction(text)}>{html.escape(shown)}</{tag}>"


def _frame(body: str, caption: str = "", head: str = "") -> str:
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}<tbody>{body}</tbody></table>"


def show_table(rows: Iterable[Sequence[Any]], columns: Sequence[str], caption: str = "") -> Shown:
    """A table; each cell takes the direction of its own text. Integers get thousands commas."""
    numbers = [[f"{v:,}" if type(v) is int else str(v) for v in row] for row in rows]
    body = "".join(f"<tr>{''.join(span(cell, 'td') for cell in row)}</tr>" for row in numbers)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    lines = [list(columns), *numbers]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return Shown(_frame(body, caption, f"<thead><tr>{head}</tr></thead>"), "\n".join(text))


def show_counts(values: dict[str, int], name: str = "status") -> Shown:
    """A table of counts with their sum: the shape of every stage's row accounting."""
    return show_table([*values.items(), ("sum", sum(values.values()))], [name, "rows"])


def _labelled_parts(row: Any) -> list[tuple[str, str]]:
    if row.kind == "chat":
        return [(turn.role, turn.text) for turn in row.turns]
    letters = option_letters(row.lang) if row.lang in language_codes() else LABELS
    parts = [("context", row.context), ("question", row.question)]
    for index, option in enumerate(row.options):
        parts.append((f"{letters[index]}{' ✓' if index == row.answer_index else ''}", option))
    parts.append(("answer" if row.kind == "qa" else "explanation", row.answer))
    return [(label, text) for label, text in parts if text or label == "question"]


def show_record(row: Any, heading: str = "") -> Shown:
    """One record: question, lettered options with the key marked, or the turns of a chat."""
    parts, title = _labelled_parts(row), heading or row.id
    header = '<tr><th scope="row">{}</th>{}</tr>'
    body = "".join(header.format(html.escape(label), span(text, "td")) for label, text in parts)
    lines = [f"{label:>12}  {text}" for label, text in [("", title), *parts]]
    return Shown(_frame(body, title), "\n".join(lines))


def show_side_by_side(left: Any, right: Any) -> Shown:
    """Two records beside each other, such as an original and its translation."""
    both = show_record(left), show_record(right)
    column = '<div style="flex:1;min-width:20em">{}</div>'
    columns = "".join(column.format(part._repr_html_()) for part in both)
    frame = f'<div style="display:flex;gap:2em;flex-wrap:wrap">{columns}</div>'
    return Shown(frame, "\n\n".join(map(repr, both)))


def show_difference(
    parts: Iterable[tuple[str, Sequence[tuple[str, str]]]], heading: str = ""
) -> Shown:
    """What an edit changed: (part name, [(kind, words)]) with the kinds equal, delete and insert.

    Deleted words stand in `<del>` or `[-...-]`, inserted ones in `<ins>` or `{+...+}`. Each part
    takes the direction of its own text.
    """
    marks = {"equal": ("", ""), "delete": ("[-", "-]"), "insert": ("{+", "+}")}
    tags = {"equal": "span", "delete": "del", "insert": "ins"}
    rows, lines = "", [heading] if heading else []
    for name, pieces in parts:
        frame = direction(" ".join(words for _, words in pieces))
        inner = " ".join(span(words, tags[kind]) for kind, words in pieces)
        rows += f'<tr><th scope="row">{html.escape(name)}</th><td {frame}>{inner}</td></tr>'
        lines.append(f"{name}: " + " ".join(words.join(marks[kind]) for kind, words in pieces))
    return Shown(_frame(rows, heading), "\n".join(lines))


def show_notice() -> Shown:
    """The research-only notice that stands beside every answer a model gives."""
    box = "border:2px solid #b00;padding:.5em 1em;margin:.5em 0"
    texts = [research_notice(lang) for lang in ("en", "ar")]
    paragraphs = "".join(span(text, "p") for text in texts)
    return Shown(f'<div role="note" style="{box}">{paragraphs}</div>', "\n".join(texts))


def is_interactive() -> bool:
    """True in a notebook that a person opened; False under papermill, nbval and in scripts."""
    from IPython import get_ipython

    # The runner and the tests say so; a Jupyter server names its session to the kernels it starts.
    batch = "BIMEDIX_BATCH" in os.environ or "JPY_SESSION_NAME" not in os.environ
    return get_ipython() is not None and not batch
