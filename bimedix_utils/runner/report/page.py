"""The frame of every page of a report: one style for light and dark, landmarks, a skip link,
nothing loaded from anywhere.
"""

import html
from collections.abc import Iterable, Sequence

from ...core.display import span
from ...core.language import research_notice

# Names of the style's colours: (light, dark). The tests hold the pairs in CONTRAST against WCAG's
# 4.5 : 1.
COLOURS = {
    "ink": ("#1b1f24", "#e6e6e6"),
    "paper": ("#ffffff", "#16181c"),
    "soft": ("#57606a", "#a9b1ba"),
    "line": ("#8c959f", "#6e7681"),
    "panel": ("#f4f6f8", "#1f2329"),
    "link": ("#0550ae", "#79b8ff"),
    "warn": ("#9a0000", "#ff8f8f"),
    "keyword": ("#8f1d4d", "#ff9ac1"),
    "string": ("#0a5d2c", "#8fd99a"),
    "number": ("#0b4f9e", "#8cc4ff"),
    "remark": ("#5a5f66", "#a9b1ba"),
    "name": ("#5b3aa3", "#c9b2ff"),
    "gone": ("#ffe0dc", "#5c1a1a"),
    "came": ("#d6f5dd", "#124a24"),
}
CONTRAST = [
    *((name, ground) for name in ("ink", "soft", "link", "warn") for ground in ("paper", "panel")),
    *((name, "panel") for name in ("keyword", "string", "number", "remark", "name")),
    *(("ink", ground) for ground in ("gone", "came")),
]

_LAYOUT = """
*{box-sizing:border-box}
html{scroll-padding-top:1rem}
body{margin:0;color:var(--ink);background:var(--paper);line-height:1.6;overflow-wrap:break-word;
 font-family:system-ui,"Segoe UI","Noto Sans","DejaVu Sans","Noto Naskh Arabic","Geeza Pro",Tahoma,sans-serif}
header,main,footer{max-width:62rem;margin:0 auto;padding:.5rem 1rem}
h1{font-size:1.7rem;line-height:1.25;margin:.6em 0 .4em}
h2{font-size:1.3rem;margin:1.8em 0 .4em;line-height:1.3}h3{font-size:1.1rem;margin:1.4em 0 .3em}
a{color:var(--link)}a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.skip{position:absolute;left:-100rem}.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.4rem .8rem;z-index:9}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;padding:0;margin:.4rem 0}
.beside{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.4rem 1rem;border-top:1px solid var(--line);
 margin-top:2rem;padding-top:.6rem}
[lang=ar]{font-size:1.08em;line-height:1.8}pre [lang=ar],code [lang=ar]{font-size:1em}
.note{border:2px solid var(--warn);border-radius:4px;padding:.1rem 1rem;margin:1rem 0}
.scroll{overflow-x:auto;max-width:100%;margin:.8rem 0}
table{border-collapse:collapse}caption{text-align:start;font-weight:600;padding:.2rem 0}
td,th{border:1px solid var(--line);padding:.25rem .6rem;text-align:start;vertical-align:top}
thead th{background:var(--panel)}td{min-width:3.5rem}.wide td{min-width:9rem}
pre,code{font-family:ui-monospace,SFMono-Regular,Consolas,"DejaVu Sans Mono",monospace;font-size:.875rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;line-height:1.5}
p code,li code,td code,h2 code,h1 code{background:var(--panel);padding:.05rem .25rem;border-radius:3px;overflow-wrap:anywhere}
.code{background:var(--panel);border-inline-start:4px solid var(--link);padding:.5rem .8rem;margin:.9rem 0 .3rem;border-radius:3px}
.output{padding:.1rem 0 .1rem .8rem;border-inline-start:4px solid var(--line);margin:.3rem 0 1rem}
.label{margin:0;font-size:.8rem;color:var(--soft)}
img{max-width:100%;height:auto;background:#fff;padding:4px;border-radius:4px}svg{vertical-align:middle;max-width:100%}
.chapters{list-style:none;padding:0}
figure{margin:1.2rem 0}figcaption{color:var(--soft);font-size:.9rem}
details{border:1px solid var(--line);border-radius:4px;padding:.3rem .8rem;margin:.7rem 0}summary{cursor:pointer;font-weight:600}
blockquote{margin:1rem 0;padding:.1rem 1rem;border-inline-start:4px solid var(--line)}
.terms{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:0 2rem}
.terms>div{border-top:1px solid var(--line);padding:.5rem 0}dt{font-weight:700}dd{margin:.2rem 0}
del{background:var(--gone);color:var(--ink)}ins{background:var(--came);color:var(--ink)}
.k{color:var(--keyword)}.s{color:var(--string)}.m{color:var(--number)}.c{color:var(--remark);font-style:italic}.n{color:var(--name)}
@media(prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
@media(max-width:40rem){.scroll>img{max-width:none;width:38rem}}
@media print{nav,.skip{display:none}.scroll{overflow:visible}}
"""


def style() -> str:
    """The one style sheet: colours of the reader's own scheme, light or dark."""
    schemes = [";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1)]
    return (
        ":root{color-scheme:light"
        f" dark;{schemes[0]}}}@media(prefers-color-scheme:dark){{:root{{{schemes[1]}}}}}@media"
        f" print{{:root{{{schemes[0]}}}}}{_LAYOUT}"
    )


def notice() -> str:
    """The research-only notice in both languages."""
    return (
        '<div class="note"'
        f' role="note">{"".join(span(research_notice(lang), "p") for lang in ("en", "ar"))}</div>'
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], label: str, wide: bool = False
) -> str:
    """A table of plain texts in a box that scrolls by itself; the first column heads its row."""
    body = "".join(
        f"<tr>{''.join(span(cell, 'td' if i else 'th') for i, cell in enumerate(row))}</tr>"
        for row in rows
    )
    body = body.replace("<th ", '<th scope="row" ')
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    return scrolling(
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>", label, wide
    )


def scrolling(content: str, label: str, wide: bool = False) -> str:
    """A box of its own for what may be wider than the page; reached by keyboard, so that it can be
    scrolled without a mouse.
    """
    kind, name = "scroll wide" if wide else "scroll", html.escape(label, quote=True)
    return f'<div class="{kind}" role="group" tabindex="0" aria-label="{name}">{content}</div>'


def picture(png: str, title: str, caption: str = "") -> str:
    """A figure with its title as text; on a narrow window it keeps a size at which its words can be
    read, and scrolls in its box.
    """
    image = f'<img alt="{html.escape(title, quote=True)}" src="data:image/png;base64,{png}">'
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{scrolling(image, f'Figure: {title}')}{words}</figure>"


def links(pages: Iterable[tuple[str, str]], current: str, label: str) -> str:
    """A navigation list; the page the reader is on is marked."""
    items = "".join(
        "<li><a"
        f' href="{href}"{" aria-current=page" if href == current else ""}>{html.escape(name)}</a></li>'
        for href, name in pages
    )
    return f'<nav aria-label="{html.escape(label)}"><ul>{items}</ul></nav>'


def page(
    title: str, name: str, pages: Sequence[tuple[str, str]], body: str, beside: str = ""
) -> str:
    """A whole page. `name`: its own file name; `pages`: (file name, words) of the report's main
    pages; `beside`: previous and next.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><link rel="icon" href="data:,"><title>{html.escape(title)} · BiMediX'
        f" kit</title><style>{style()}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en" dir="ltr"><head>{head}</head><body><a class="skip"'
        ' href="#main">Skip to the'
        f' content</a><header>{links(pages, name, "Pages of this report")}</header><main id="main"'
        f' tabindex="-1">{body}{beside}</main><footer>{notice()}</footer></body></html>\n'
    )
