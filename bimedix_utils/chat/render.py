"""A conversation as HTML for the notebook's box and for the page, and as plain text: every message
escaped, in its own direction.
"""

import html
from collections.abc import Iterable

from ..core.language import research_notice
from ..core.text import isolate
from .conversation import Shown
from .red_flags import language

NAMES = {
    "user": {"en": "You", "ar": "المستخدم"},
    "model": {"en": "Model", "ar": "النموذج"},
    "emergency": {"en": "Emergency", "ar": "طوارئ"},
    "note": {"en": "Note", "ar": "ملاحظة"},
    "problem": {"en": "Problem", "ar": "مشكلة"},
}
# Who speaks decides the side, the language only the direction. Readable on light and dark: every
# bubble brings both of its colours. An emergency stays in view while the answer below it grows.
STYLE = """
.bimedix-turn{margin:.5em 0;padding:.5em .8em;border-radius:.6em;max-width:90%;width:fit-content;box-sizing:border-box;
 background:#f1f3f5;color:#1a1a1a;overflow-wrap:anywhere;line-height:1.6;unicode-bidi:isolate}
.bimedix-turn>b{display:block;font-size:.8em;color:#444}
.bimedix-turn>p{margin:0;white-space:pre-wrap;color:inherit}
.bimedix-user{background:#dbe9f6;margin-left:auto}.bimedix-model{margin-right:auto}
.bimedix-emergency{background:#a40000;color:#fff;font-weight:600;max-width:100%;width:auto;position:sticky;top:0;z-index:1}
.bimedix-emergency>b{color:#fff}
.bimedix-problem{background:#fff0d6;color:#4a2b00}
.bimedix-note,.bimedix-notice{background:none;color:#555;font-size:.85em;padding:.1em .8em}
.bimedix-note>b,.bimedix-notice>b{display:inline;color:inherit}.bimedix-note>p,.bimedix-notice>p{display:inline}
.bimedix-fixed{border:2px solid #b00;background:#fff;color:#1a1a1a;padding:.3em .8em;border-radius:.4em}
.bimedix-fixed>p{margin:0;line-height:1.5;color:inherit}
@media (prefers-color-scheme:dark){.bimedix-note,.bimedix-notice{color:#999}}
"""


def escape(text: str) -> str:
    """Text for HTML: what looks like markup is shown as text, numbers inside Arabic keep their
    order.
    """
    return html.escape(isolate(text))


def direction(lang: str) -> str:
    """The attributes of a language's text."""
    return 'dir="rtl" lang="ar"' if lang == "ar" else 'dir="ltr" lang="en"'


def turn(shown: Shown) -> str:
    """One message, escaped; nothing in it is loaded."""
    lang = language(shown.text)
    urgent = ' role="alert"' if shown.who == "emergency" else ""
    name = (
        f"<b>{NAMES[shown.who][lang]}{': ' if shown.who == 'note' else ''}</b>"
        if shown.who in NAMES
        else ""
    )
    return (
        f'<div class="bimedix-turn bimedix-{shown.who}"'
        f" {direction(lang)}{urgent}>{name}<p>{escape(shown.text)}</p></div>"
    )


def page(shown: Iterable[Shown]) -> str:
    """The whole conversation, oldest first, in a region that screen readers follow."""
    return (
        '<div role="log" aria-label="conversation ·'
        f' المحادثة">{"".join(turn(Shown(*one)) for one in shown)}</div>'
    )


def notice() -> str:
    """The research-only notice in both languages."""
    return (
        '<div role="note" class="bimedix-fixed">'
        + "".join(
            f"<p {direction(lang)}>{html.escape(research_notice(lang))}</p>"
            for lang in ("en", "ar")
        )
        + "</div>"
    )


def plain(shown: Iterable[Shown]) -> str:
    """The conversation as text, one paragraph a message."""
    return "\n".join(f"[{one.who}] {one.text}" for one in shown)
