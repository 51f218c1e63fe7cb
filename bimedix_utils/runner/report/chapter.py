"""One executed notebook as a page: nbconvert fills `templates/chapter`, solutions are folded."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .figures import Figure, figure_titles
from .markup import clean_html, markdown_html

_EXERCISE = re.compile(r"\*\*(\d+)\.\*\*\s*(.*?)\s*\*Starter:\*", re.DOTALL)


@dataclass
class Chapter:
    """A notebook as the other pages need it."""

    stem: str
    title: str
    purpose: str
    body: str = ""
    exercises: list[tuple[str, str]] = field(default_factory=list)  # (number, question)
    figures: list[Figure] = field(default_factory=list)


def read_chapter(path: Path) -> Chapter:
    """An executed notebook as a chapter; its body is HTML that loads nothing from elsewhere."""
    import nbformat

    notebook = nbformat.read(path, 4)
    first = notebook.cells[0].source
    purpose = re.search(r"\*\*Purpose\.\*\*\s*(.*?)\n\n", first, re.DOTALL)
    chapter = Chapter(
        path.stem,
        first.split("\n", 1)[0].lstrip("# "),
        re.sub(r"[*`]", "", " ".join(purpose[1].split())) if purpose else "",
    )
    section, number = chapter.title, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            questions = _EXERCISE.findall(cell.source)
            chapter.exercises += [(n, " ".join(text.split())) for n, text in questions]
            section = ([section] + re.findall(r"^#+ (.*)", cell.source, re.MULTILINE))[-1]
        elif cell.cell_type == "code":
            number += 1
            cell.metadata["number"] = number
            cell.metadata["fold"] = _fold_title(cell, chapter)
            chapter.figures += _name_figures(cell, section)
    body = clean_html(_exporter().from_notebook_node(notebook)[0])
    for number, _ in chapter.exercises:
        body = body.replace(
            f"<p><strong>{number}.</strong>",
            f'<p id="exercise-{number}"><strong>Exercise {number}.</strong>',
            1,
        )
    chapter.body = _with_contents(body)
    return chapter


def _fold_title(cell: Any, chapter: Chapter) -> str:
    """The words of a folded cell; "" for one that is shown."""
    tags = cell.metadata.get("tags", [])
    if "injected-parameters" in tags:
        return "Parameters of this run"
    return f"Solution of exercise {chapter.exercises[-1][0]}" if "solution" in tags else ""


def _name_figures(cell: Any, section: str) -> list[Figure]:
    """Give each picture of a cell its title, for readers who do not see it."""
    outputs = [one for one in cell.outputs if "image/png" in one.get("data", {})]
    titles = figure_titles(cell.source) if outputs else []
    for output, title in zip(outputs, titles, strict=False):
        output.metadata["title"] = title
    for output in outputs:
        output.metadata.setdefault("title", f"Figure of the section: {section}")
        output.data["image/png"] = "".join(output.data["image/png"].split())
    return [Figure(one.data["image/png"], one.metadata["title"]) for one in outputs]


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="chapter", extra_template_basedirs=[str(Path(__file__).parent / "templates")]
    )
    exporter.register_filter("markdown", markdown_html)
    return exporter


def _with_contents(body: str) -> str:
    """The body with a folded list of its sections below the title."""
    sections = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body)
    items = "".join(f'<li><a href="#{target}">{words}</a></li>' for target, words in sections)
    head, end, rest = body.partition("</h1>")
    return (
        f'{head}{end}<nav aria-label="On this page"><details><summary>On this page</summary>'
        f"<ul>{items}</ul></details></nav>{rest}"
    )
