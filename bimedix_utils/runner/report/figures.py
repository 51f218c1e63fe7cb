"""The title of each figure of a notebook, read from the code that drew it.

The title becomes the picture's text, for readers who do not see it.
"""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import bimedix_utils

_ROOMS = {path.parent.name for path in Path(bimedix_utils.__file__).parent.glob("*/__init__.py")}


class Figure(NamedTuple):
    """One picture: base64 PNG and its title."""

    png: str
    title: str


def figure_titles(source: str) -> list[str]:
    """The titles that a cell gives to its figures, in order.

    Empty when the cell is not Python or names none. A value that only the run knew is shown as "…".
    """
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return []
    calls.sort(key=lambda node: (node.lineno, node.col_offset))
    return [title for title in map(_call_title, calls) if title]


def _call_title(call: ast.Call) -> str:
    """The title argument of a drawing call; "" for any other call."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    given = next((word.value for word in call.keywords if word.arg == "title"), None)
    if owner not in _ROOMS:
        first = call.args[0] if call.args and name in ("set_title", "suptitle") else None
        return _literal_text(first or (given if name == "set" else None))
    function = getattr(import_module(f"bimedix_utils.{owner}"), name, None)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ""
    if "title" not in parameters or "Axes" not in str(
        inspect.signature(function).return_annotation
    ):
        return ""
    index, default = list(parameters).index("title"), parameters["title"].default
    if given is None and len(call.args) > index:
        given = call.args[index]
    return _literal_text(given) or (default if isinstance(default, str) else "")


def _literal_text(node: ast.AST | None) -> str:
    """A string literal or f-string, as far as it is known without running it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            _literal_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
        return "".join(parts)
    return ""
