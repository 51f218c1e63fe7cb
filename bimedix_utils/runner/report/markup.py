"""Markdown, formulas and stored HTML as clean HTML: unique ids, tables that scroll, marked Arabic,
nothing loaded from elsewhere.
"""

import html
import io
import re
from typing import Any

_ARABIC = "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc"
# A run of Arabic with the signs inside it, such as "(500 mg)"; quotes and line breaks end it, so
# that code stays code.
_ARABIC_RUN = re.compile(rf"[{_ARABIC}](?:[^\n\"'<>{{}}\[\]|]*[{_ARABIC}])?")
_INK = "#010203"  # stands for the colour of the text around a formula
_REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)


def markdown_html(text: str) -> str:
    """Markdown with tables and formulas as HTML; links to notebooks lead to their pages."""
    import mistune

    class Renderer(mistune.HTMLRenderer):
        """Draws formulas instead of leaving them to a script."""

        def inline_math(self, text: str) -> str:
            return formula_svg(text)

        def block_math(self, text: str) -> str:
            return f"<p>{formula_svg(text)}</p>\n"

    plugins = ["table", "strikethrough", "math"]
    renderer = Renderer(escape=False)
    made = mistune.create_markdown(renderer=renderer, plugins=plugins)
    return re.sub(r'href="(\d\d_\w+)\.ipynb(#[^"]*)?"', r'href="\1.html"', made(text))


def formula_svg(tex: str) -> str:
    """A TeX formula as SVG in the text's own colour, with its source as text.

    A formula that matplotlib cannot draw is shown as its source.
    """
    from matplotlib import mathtext, rc_context

    source, target = " ".join(tex.split()), io.BytesIO()
    style = {"svg.fonttype": "path", "svg.hashsalt": source, "mathtext.fontset": "dejavusans"}
    try:
        with rc_context(style):
            mathtext.math_to_image(f"${source}$", target, format="svg", color=_INK)
    except (ValueError, RuntimeError):
        return f"<code>{html.escape(source)}</code>"
    drawn = target.getvalue().decode("utf-8")
    # `patch_1` is the white ground of the figure.
    needless = r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|<g id="patch_1">.*?</g>'
    drawn = re.sub(needless, "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    drawn = drawn.replace(_INK, "currentColor")
    height = float(re.search(r'height="([\d.]+)pt"', drawn)[1]) / 10
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
    label = html.escape(source, quote=True)
    return drawn.replace(
        "<svg", f'<svg role="img" aria-label="{label}" style="height:{height:.2f}em"', 1
    )


class PageIds:
    """Ids of one page, none twice."""

    def __init__(self) -> None:
        self._seen = {"main": 1}

    def new(self, text: str) -> str:
        """An id made of small letters, digits and dashes."""
        name = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-") or "part"
        self._seen[name] = self._seen.get(name, 0) + 1
        return name if self._seen[name] == 1 else self.new(f"{name}-{self._seen[name]}")


def clean_html(fragment: str) -> str:
    """The content of a page, made safe and accessible.

    Headings get ids, tables and figures a box that scrolls and a label, heads of tables a scope,
    pictures a text, runs of Arabic their language and direction. Scripts, foreign ids and all that
    would be loaded from elsewhere are removed. In the templates `data-id` asks for an id;
    `data-top` and `data-shift` set the heading levels of what they hold.
    """
    from bs4 import BeautifulSoup

    soup, ids, section = BeautifulSoup(fragment, "html.parser"), PageIds(), ""
    for tag in soup(["script", "iframe", "link", "style", "object", "embed"]):
        tag.decompose()
    for tag in soup.find_all(True):
        if tag.name != "svg" and tag.find_parent("svg"):
            continue
        _remove_dangers(tag)
        if tag.name == "svg":
            _rename_glyphs(tag, ids.new("formula"))
        elif wanted := tag.attrs.pop("data-id", None):
            tag["id"] = ids.new(wanted)
        if re.fullmatch("h[1-6]", tag.name):
            tag.name = f"h{_heading_level(tag)}"
            section = tag.get_text()
            tag["id"] = tag.get("id") or ids.new(section)
        elif tag.name == "img":
            tag["alt"] = tag.get("alt") or section
            if tag.parent.name == "figure":
                tag.wrap(_scroll_box(soup, f"Figure: {tag['alt']}"))
        elif tag.name == "table":
            _set_scopes(tag)
            label = tag.caption.get_text() if tag.caption else section
            if not tag.find_parent("table"):
                tag.wrap(_scroll_box(soup, f"Table: {label}"))
    for tag in soup(attrs={"data-top": True}) + soup(attrs={"data-shift": True}):
        del tag["data-top"], tag["data-shift"]
    _mark_arabic(soup)
    return str(soup)


def _remove_dangers(tag: Any) -> None:
    tag.attrs.pop("id", None)
    for name in list(tag.attrs):
        loads = name in ("src", "srcset", "poster") and _REMOTE.match(str(tag[name]))
        if name.startswith("on") or loads:
            del tag[name]


def _heading_level(tag: Any) -> int:
    level = int(tag.name[1])
    if inside := tag.find_parent(attrs={"data-top": True}):
        return max(int(inside["data-top"]), level)
    if inside := tag.find_parent(attrs={"data-shift": True}):
        return min(6, level + int(inside["data-shift"]))
    return level


def _scroll_box(soup: Any, label: str) -> Any:
    attributes = {"class": "scroll", "role": "group", "tabindex": "0", "aria-label": label}
    return soup.new_tag("div", attrs=attributes)


def _rename_glyphs(svg: Any, mark: str) -> None:
    """Glyphs of a formula are used by name: no other formula of the page may have that name."""
    for part in svg(id=True):
        part["id"] = f"{mark}-{part['id']}"
    for part in svg(attrs={"xlink:href": True}):
        part["xlink:href"] = f"#{mark}-{part['xlink:href'][1:]}"


def _set_scopes(table: Any) -> None:
    for cell in table("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
            cell.attrs.pop("scope", None)
        elif not cell.get("scope"):
            cell["scope"] = "col" if cell.find_parent("thead") else "row"


def _mark_arabic(soup: Any) -> None:
    from bs4 import NavigableString

    found = [node for node in soup.find_all(string=_ARABIC_RUN) if type(node) is NavigableString]
    for text in found:
        if text.find_parent(attrs={"lang": "ar"}) or text.find_parent("svg"):
            continue
        pieces, end = [], 0
        for run in _ARABIC_RUN.finditer(str(text)):
            mark = soup.new_tag("bdi", attrs={"lang": "ar", "dir": "rtl"})
            mark.string = run[0]
            pieces += [NavigableString(str(text)[end : run.start()]), mark]
            end = run.end()
        text.replace_with(*pieces, NavigableString(str(text)[end:]))
