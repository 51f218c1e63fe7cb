"""Static HTML of a run, to be opened without a network: landing page, executed notebooks, glossary,
exercises, figures, results, cards.

No script and nothing from elsewhere; readable by keyboard, by a screen reader, on a phone, in light
and in dark, in both scripts.
"""

import json
from pathlib import Path

from ...core.errors import InputError
from ...core.provenance import hash_path, shown_path
from ...core.text import digest
from . import glossary, site
from .notebook import read


def build(folder: Path) -> Path:
    """Render a run's notebooks and its summary into `<folder>/report`; returns the first page.
    Fresh pages are left alone.

    Raises `InputError` when nothing has been run yet.
    """
    executed = sorted((folder / "notebooks").glob("*.ipynb"))
    if not executed or not (folder / "results.json").exists():
        raise InputError(f"nothing to report in {shown_path(folder)}: run  make run  first")
    target = folder / "report"
    index, stamp = target / "index.html", target / ".made-from"
    cards = site.cards(folder)
    files = [
        *executed,
        folder / "results.json",
        folder / "run.json",
        glossary.FILE,
        *sorted(Path(__file__).parent.glob("*.py")),
    ]
    source = digest([cards, *(hash_path(path) for path in files)])
    if index.exists() and stamp.exists() and stamp.read_text() == source:
        return index
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.html"):
        old.unlink()  # of a notebook that is no more
    facts = [
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("run.json", "results.json")
    ]
    for name, text in site.pages(
        folder.name, [read(path) for path in executed], *facts, glossary.read(), cards
    ).items():
        (target / name).write_text(text, encoding="utf-8")
    stamp.write_text(source)
    return index
