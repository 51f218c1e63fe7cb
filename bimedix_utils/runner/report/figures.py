"""The title of each figure of a notebook, read from the code that drew it: the picture's text for
whoever does not see it.
"""

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ...core.provenance import ROOT

UNKNOWN = "…"  # the place of a value that only the run knew


class Figure(NamedTuple):
    """One picture: the index of its cell, base64 PNG, and its title."""

    cell: int
    png: str
    title: str


class _Drawn(NamedTuple):
    place: int  # of the argument `title`
    default: str


@cache
def _drawing() -> dict[str, _Drawn]:
    """{function of the package that draws: where its title stands}: told by an argument `title` and
    a result that is an Axes.
    """
    found = {}
    for path in sorted((ROOT / "bimedix_utils").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or "Axes" not in ast.unparse(
                node.returns or ast.Constant("")
            ):
                continue
            names = [argument.arg for argument in node.args.args]
            if "title" in names:
                place = names.index("title")
                defaults = dict(zip(names[::-1], node.args.defaults[::-1], strict=False))
                found[node.name] = _Drawn(place, _text(defaults.get("title")))
    return found


def _text(node: ast.AST | None) -> str:
    """A string literal or f-string as far as it is known without running it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part) if isinstance(part, ast.Constant) else UNKNOWN for part in node.values
        )
    return ""


def titles(source: str) -> list[str]:
    """The titles a cell gives to its figures, in the order of its lines; empty when the cell is not
    Python or names none.
    """
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return []
    found = []
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        name = (
            call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        )
        given = next((_text(word.value) for word in call.keywords if word.arg == "title"), "")
        if drawn := _drawing().get(name):
            placed = _text(call.args[drawn.place]) if len(call.args) > drawn.place else ""
            found.append(given or placed or drawn.default)
        elif name in ("set_title", "suptitle") and call.args:
            found.append(_text(call.args[0]))
        elif name == "set" and given:
            found.append(given)
    return [title for title in found if title]


def figures(path: Path) -> list[Figure]:
    """The pictures of an executed notebook in order; one without a title of its own takes the
    section it stands in.
    """
    found, section = [], path.stem
    for index, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = [line.lstrip("# ") for line in source.splitlines() if line.startswith("#")]
            section = headings[-1] if headings else section
        pictures = [png(output) for output in cell.get("outputs", []) if png(output)]
        named = titles(source) if pictures else []
        for number, picture in enumerate(pictures):
            found.append(
                Figure(
                    index,
                    picture,
                    named[number] if number < len(named) else f"Figure of the section: {section}",
                )
            )
    return found


def png(output: dict[str, Any]) -> str:
    """An output's picture as base64, without line breaks; empty when it has none."""
    return "".join("".join(output.get("data", {}).get("image/png", "")).split())
