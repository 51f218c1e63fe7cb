"""How the house stands. `python tests/support/house.py` prints lines, widths, comments, names."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bimedix_utils"
# Lowest first: a room imports its own files and rooms before it.
FLOORS = (
    "core teacher sources synthesis translation review mixture"
    " training evaluation speed chat runner"
).split()


def modules() -> dict[Path, ast.Module]:
    """Each module of the package with its syntax tree."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def room(path: Path) -> str:
    """The room of a module; "" for the package's own `__init__`."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports() -> set[tuple[str, str]]:
    """(importer, imported) of all relative imports, as dotted module names inside the package."""
    names = {dotted(path) for path in modules()}
    found = set()
    for path, tree in modules().items():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level] + tuple((node.module or "").split("."))
                target = ".".join(part for part in base if part)
                for alias in node.names:
                    deeper = f"{target}.{alias.name}".lstrip(".")
                    found.add((dotted(path), deeper if deeper in names else target))
    return {(a, b) for a, b in found if a != b}


def dotted(path: Path) -> str:
    """The name of a module inside the package: "core.text"; a room for its `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def circles() -> list[str]:
    """Modules that reach themselves through imports."""
    graph = defaultdict(set)
    for a, b in imports():
        graph[a].add(b)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph[name]
        return seen

    return sorted(name for name in list(graph) if name in reached(name))


def names_in_two_places() -> dict[str, list[str]]:
    """Public names that two modules define; the `main` of a command line aside."""
    places = defaultdict(list)
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own = [node.name]
            elif isinstance(node, ast.Assign):
                own = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                own = [node.target.id]
            else:
                own = []
            for name in own:
                if not name.startswith("_") and name != "main":
                    places[name].append(dotted(path))
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def base_names_in_two_places() -> dict[str, list[str]]:
    """File names that two modules bear."""
    places = defaultdict(list)
    for path in modules():
        if path.stem not in ("__init__", "__main__"):
            places[path.stem].append(dotted(path))
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def figures() -> dict[str, object]:
    """The measures that the closing note quotes."""
    lines = [line for path in modules() for line in path.read_text("utf-8").splitlines()]
    comments = sum(bool(re.match(r"\s*#", line)) for line in lines)
    return {
        "rooms": len(FLOORS),
        "files": len(modules()),
        "lines": len(lines),
        "widest line": max(map(len, lines)),
        "comment lines, %": round(100 * comments / len(lines), 1),
        "names in two places": len(names_in_two_places()),
        "file names in two places": len(base_names_in_two_places()),
        "modules in a circle": len(circles()),
    }


if __name__ == "__main__":
    for title, value in figures().items():
        print(f"{title:>26}  {value:,}")
    for name, where in {**names_in_two_places(), **base_names_in_two_places()}.items():
        print(f"{name:>26}  {', '.join(where)}")
    print("circles:", ", ".join(circles()) or "none")
