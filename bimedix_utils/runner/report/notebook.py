"""One executed notebook as a page: its cells in order, solutions folded, exercises with places of
their own to link to.
"""

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import page, prose
from .figures import Figure, png
from .figures import figures as figures_of

_EXERCISE = re.compile(r"\*\*(\d+)\.\*\*\s*(.*?)\s*\*Starter:\*", re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Chapter:
    """What the other pages need to know of a notebook."""

    stem: str
    title: str
    purpose: str
    body: str
    sections: list[tuple[str, str]] = field(
        default_factory=list
    )  # (id, words) of the second-level headings
    exercises: list[tuple[str, str]] = field(default_factory=list)  # (number, question)
    figures: list[Figure] = field(default_factory=list)


def read(path: Path) -> Chapter:
    """An executed notebook as a chapter; its body is HTML that loads nothing from elsewhere."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = "".join(cells[0]["source"])
    ids, drawn = prose.Ids(), figures_of(path)
    names: dict[int, list[str]] = {}
    for figure in drawn:
        names.setdefault(figure.cell, []).append(figure.title)
    chapter = Chapter(
        path.stem, first.split("\n", 1)[0].lstrip("# "), _purpose(first), "", figures=drawn
    )
    parts, count, section = [], 0, chapter.title
    for index, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            asked = [(number, " ".join(text.split())) for number, text in _EXERCISE.findall(source)]
            chapter.exercises += asked
            shown = prose.clean(prose.markdown(source), ids, section)
            parts.append(_places(shown, [number for number, _ in asked]))
            section = next(
                (
                    line.lstrip("# ")
                    for line in reversed(source.splitlines())
                    if line.startswith("#")
                ),
                section,
            )
        elif cell["cell_type"] == "code":
            count += 1
            parts.append(
                _code(cell, source, count, ids, names.get(index, []), section, chapter.exercises)
            )
    chapter.body = "\n".join(parts)
    chapter.sections = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', chapter.body)
    return chapter


def _purpose(first: str) -> str:
    found = re.search(r"\*\*Purpose\.\*\*\s*(.*?)\n\n", first, re.DOTALL)
    return re.sub(r"[*`]", "", " ".join(found[1].split())) if found else ""


def _places(shown: str, numbers: list[str]) -> str:
    """Exercises get ids: `exercise-2` is where the second one is asked."""
    for number in numbers:
        shown = shown.replace(
            f"<p><strong>{number}.</strong>",
            f'<p id="exercise-{number}"><strong>Exercise {number}.</strong>',
            1,
        )
    return shown


def _code(
    cell: dict[str, Any],
    source: str,
    count: int,
    ids: prose.Ids,
    titles: list[str],
    section: str,
    asked: list,
) -> str:
    tags, names = cell["metadata"].get("tags", []), iter(titles)
    results = "".join(
        _output(output, ids, next(names, section) if png(output) else section)
        for output in cell.get("outputs", [])
    )
    code = prose.clean(prose.code(source), ids, section)
    shown = (
        f'<div class="code"><p class="label">Code {count}</p>{code}</div>' if source.strip() else ""
    )
    if results:
        shown += f'<div class="output"><p class="label">Result of code {count}</p>{results}</div>'
    if "injected-parameters" in tags:
        return f"<details><summary>Parameters of this run</summary>{shown}</details>"
    if "solution" not in tags:
        return shown
    return (
        "<details><summary>Solution of exercise"
        f" {asked[-1][0] if asked else count}</summary>{shown}</details>"
    )


def _output(output: dict[str, Any], ids: prose.Ids, label: str) -> str:
    if output["output_type"] == "stream":
        return prose.clean(_plain(output["text"]), ids, label)
    if output["output_type"] == "error":
        return prose.clean(_plain(["\n".join(output["traceback"])]), ids, label)
    data = output["data"]
    if drawn := png(output):
        return page.picture(drawn, label)
    if "text/html" in data:
        return prose.clean("".join(data["text/html"]), ids, label, top=3)
    if "text/markdown" in data:
        return prose.clean(prose.markdown("".join(data["text/markdown"])), ids, label, top=3)
    return prose.clean(_plain(data.get("text/plain", "")), ids, label)


def _plain(lines: str | list[str]) -> str:
    return f"<pre>{html.escape(_ANSI.sub('', ''.join(lines)).rstrip())}</pre>"
