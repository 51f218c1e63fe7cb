"""The pages of a report: what each template gets, and the frame around it."""

import json
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.language import language_data, research_notice
from ...core.provenance import hash_path, shown_path
from ...core.text import digest
from .. import publish
from .chapter import read_chapter
from .glossary import GLOSSARY, read_glossary
from .markup import clean_html, markdown_html

_HERE = Path(__file__).parent
_PAGES = {
    "index": "Start",
    "exercises": "Exercises",
    "glossary": "Glossary",
    "results": "Results",
    "figures": "Figures",
    "cards": "Cards",
}
_CARD_TITLES = {
    "adapter": "Adapter (model card)",
    "merged": "Merged model (model card)",
    "mix": "Bilingual mix (data card)",
    "testset": "Test set (data card)",
}


def build_report(folder: Path) -> Path:
    """Render a run's notebooks and its summary into `<folder>/report`; returns the first page.

    Pages that are up to date stay as they are. Raises `InputError` when nothing has been run yet.
    """
    executed = sorted((folder / "notebooks").glob("*.ipynb"))
    if not executed or not (folder / "results.json").exists():
        raise InputError(f"nothing to report in {shown_path(folder)}: run  make run  first")
    target = folder / "report"
    index, stamp = target / "index.html", target / ".made-from"
    cards = publish.run_cards(folder)
    own = [path for path in sorted(_HERE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    files = [*executed, folder / "results.json", folder / "run.json", GLOSSARY, *own]
    source = digest([cards, *(hash_path(path) for path in files)])
    if index.exists() and stamp.exists() and stamp.read_text() == source:
        return index
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.html"):
        old.unlink()  # of a notebook that is no more
    manifests, results = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("run.json", "results.json")
    )
    values = {
        "run": folder.name,
        "chapters": [read_chapter(path) for path in executed],
        "manifests": manifests,
        "results": results,
        "terms": read_glossary(),
        "cards": {_CARD_TITLES[what]: _split_card(text) for what, text in cards.items()},
    }
    for name, text in _render_pages(values).items():
        (target / name).write_text(text, encoding="utf-8")
    stamp.write_text(source)
    return index


def _render_pages(values: dict[str, Any]) -> dict[str, str]:
    """{file name: page}."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["markdown"] = markdown_html
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    menu = {f"{name}.html": title for name, title in _PAGES.items()}
    if not values["cards"]:
        del menu["cards.html"]
    frame = environment.get_template("frame.html.j2")
    notices = {lang: research_notice(lang) for lang in ("en", "ar")}
    directions = {lang: language_data(lang)["direction"] for lang in notices}
    shared = {"menu": menu, "notices": notices, "directions": directions}

    def render_page(name: str, title: str, main: str, **beside: Any) -> str:
        return frame.render(shared, name=name, title=title, main=main, **beside)

    pages = {}
    for name, title in menu.items():
        main = environment.get_template(f"{name}.j2").render(shared, **values)
        pages[name] = render_page(name, title, clean_html(main))
    chapters = values["chapters"]
    for i, chapter in enumerate(chapters):
        before, after = chapters[i - 1] if i else None, (*chapters, None)[i + 1]
        name = f"{chapter.stem}.html"
        pages[name] = render_page(name, chapter.title, chapter.body, before=before, after=after)
    return pages


def _split_card(text: str) -> tuple[str, str]:
    """(header for the hub, Markdown) of a card."""
    if not text.startswith("---\n"):
        return "", text
    head, _, body = text[4:].partition("\n---\n")
    return head, body
