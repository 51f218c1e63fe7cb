"""Markdown, code, formulas and stored HTML as clean HTML: unique ids, tables that scroll, marked
Arabic, nothing loaded from elsewhere.
"""

import html
import io
import re
from typing import Any

from .page import scrolling

_ARABIC = "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc"
# A run of Arabic with what stands inside it, such as "(500 mg)"; quotes and line breaks end it, so
# that code stays code.
_RUN = re.compile(rf"[{_ARABIC}](?:[^\n\"'<>{{}}\[\]|]*[{_ARABIC}])?")
_INK = "#010203"  # stands for the colour of the text around a formula
_REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)


def slug(text: str) -> str:
    """An id for a heading: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


class Ids:
    """Ids of one page, none twice."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {"main": 1}

    def new(self, text: str) -> str:
        name = slug(text)
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else self.new(f"{name}-{self._seen[name]}")


def markdown(text: str) -> str:
    """Markdown with tables and formulas as HTML; links to notebooks lead to their pages."""
    import mistune

    made = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "math"])(text)
    made = re.sub(
        r'<span class="math">\\\((.*?)\\\)</span>',
        lambda m: formula(html.unescape(m[1])),
        made,
        flags=re.DOTALL,
    )
    made = re.sub(
        r'<div class="math">\$\$(.*?)\$\$</div>',
        lambda m: f"<p>{formula(html.unescape(m[1]))}</p>",
        made,
        flags=re.DOTALL,
    )
    return re.sub(r'href="(\d\d_\w+)\.ipynb(#[^"]*)?"', r'href="\1.html"', made)


def formula(tex: str) -> str:
    """A TeX formula drawn as SVG in the text's own colour, with its source as text; what matplotlib
    cannot draw is shown as source.
    """
    from matplotlib import mathtext, rc_context

    source, target = " ".join(tex.split()), io.BytesIO()
    try:
        with rc_context(
            {"svg.fonttype": "path", "svg.hashsalt": source, "mathtext.fontset": "dejavusans"}
        ):
            mathtext.math_to_image(f"${source}$", target, format="svg", color=_INK)
    except (ValueError, RuntimeError):
        return f"<code>{html.escape(source)}</code>"
    drawn = target.getvalue().decode("utf-8")
    drawn = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->",
        "",
        drawn[drawn.index("<svg") :],
        flags=re.DOTALL,
    ).replace(_INK, "currentColor")
    drawn = re.sub(
        r'<g id="patch_1">.*?</g>', "", drawn, flags=re.DOTALL
    )  # the white ground of the figure
    points = float(re.search(r'height="([\d.]+)pt"', drawn)[1])
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
    frame = (
        f'<svg role="img" aria-label="{html.escape(source, quote=True)}"'
        f' style="height:{points / 10:.2f}em"'
    )
    return drawn.replace("<svg", frame, 1)


def code(source: str) -> str:
    """Python with five kinds of words marked: keyword, string, number, remark, name of a function
    or class.
    """
    from pygments import lex
    from pygments.lexers import PythonLexer
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    kinds = [
        (Comment, "c"),
        (String, "s"),
        (Number, "m"),
        (Keyword, "k"),
        (Operator.Word, "k"),
        (Name.Function, "n"),
        (Name.Class, "n"),
        (Name.Builtin, "n"),
    ]
    pieces = []
    for token, text in lex(source, PythonLexer(stripnl=False)):
        mark = next((name for kind, name in kinds if token in kind), "")
        pieces.append(
            f'<span class="{mark}">{html.escape(text)}</span>' if mark else html.escape(text)
        )
    return f"<pre><code>{''.join(pieces).rstrip()}</code></pre>"


def clean(fragment: str, ids: Ids, label: str, top: int = 1) -> str:
    """A fragment made fit for a page.

    Headings get ids of their own (and `top` is the highest level allowed), tables a box that
    scrolls and heads with a scope, pictures a text, runs of Arabic their language and direction.
    Scripts, foreign ids and whatever would be loaded from elsewhere are taken out.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(fragment, "html.parser")
    for tag in soup(["script", "iframe", "link", "style", "object", "embed"]):
        tag.decompose()
    for tag in soup.find_all(True):
        if tag.find_parent("svg") is None and tag.name != "svg":
            tag.attrs.pop("id", None)
        for name in [
            name
            for name in tag.attrs
            if name.startswith("on")
            or (name in ("src", "srcset", "poster") and _REMOTE.match(str(tag[name])))
        ]:
            del tag.attrs[name]
    for heading in soup(re.compile("^h[1-6]$")):
        heading.name = f"h{max(top, int(heading.name[1]))}"
        heading["id"] = ids.new(heading.get_text())
    for table in soup("table"):
        _heads(table)
        caption = table.caption.get_text() if table.caption else label
        if not table.find_parent("table"):
            box = BeautifulSoup(scrolling("", f"Table: {caption}"), "html.parser").div
            table.wrap(box)
    for image in soup("img"):
        image["alt"] = image.get("alt") or label
    for svg in soup("svg"):
        _own_names(svg, ids.new("formula"))
    _arabic(soup)
    return str(soup)


def _own_names(svg: Any, mark: str) -> None:
    """Glyphs of a formula are defined in it and used by name: no other formula of the page may own
    that name.
    """
    for part in svg(id=True):
        part["id"] = f"{mark}-{part['id']}"
    for part in svg(attrs={"xlink:href": True}):
        part["xlink:href"] = f"#{mark}-{part['xlink:href'][1:]}"


def _heads(table: Any) -> None:
    for cell in table("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
            cell.attrs.pop("scope", None)
        elif not cell.get("scope"):
            cell["scope"] = "col" if cell.find_parent("thead") else "row"


def _arabic(soup: Any) -> None:
    from bs4 import NavigableString

    for text in [node for node in soup.find_all(string=_RUN) if type(node) is NavigableString]:
        if text.find_parent(attrs={"lang": "ar"}) or text.find_parent("svg"):
            continue
        pieces, end = [], 0
        for run in _RUN.finditer(str(text)):
            mark = soup.new_tag("bdi", attrs={"lang": "ar", "dir": "rtl"})
            mark.string = run[0]
            pieces += [NavigableString(str(text)[end : run.start()]), mark]
            end = run.end()
        text.replace_with(*pieces, NavigableString(str(text)[end:]))
