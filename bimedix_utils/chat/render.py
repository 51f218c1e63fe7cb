"""A conversation as HTML for the notebook and the page, and as plain text."""

import html
from collections.abc import Iterable
from pathlib import Path

from ..core.language import language_data, language_of, research_notice
from ..core.text import isolate
from .conversation import Message

INTERFACE = ("en", "ar")  # languages of buttons and fixed notice; a message has its own


def read_template(name: str) -> str:
    """A style sheet or script of the chat."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def escape_text(text: str) -> str:
    """Text for HTML: markup is shown as text, numbers inside Arabic keep their order."""
    return html.escape(isolate(text))


def message_attributes(lang: str) -> str:
    """The HTML attributes `dir` and `lang` of a language's text."""
    return f'dir="{language_data(lang)["direction"]}" lang="{lang}"'


def page_words(name: str) -> str:
    """A word of the page in all interface languages, such as "Send · إرسال"."""
    return " · ".join(language_data(lang)["chat"]["page"][name] for lang in INTERFACE)


def message_html(message: Message) -> str:
    """One message, escaped, in its own direction."""
    lang = language_of(message.text)
    names = language_data(lang)["chat"]["names"]
    urgent = ' role="alert"' if message.who == "emergency" else ""
    colon = ": " if message.who == "note" else ""
    name = f"<b>{names[message.who]}{colon}</b>" if message.who in names else ""
    return (
        f'<div class="bimedix-turn bimedix-{message.who}" {message_attributes(lang)}{urgent}>{name}'
        f"<p>{escape_text(message.text)}</p></div>"
    )


def conversation_html(shown: Iterable[tuple[str, str]]) -> str:
    """All messages, oldest first, in a region that screen readers follow."""
    messages = "".join(message_html(Message(*one)) for one in shown)
    return f'<div role="log" aria-label="{page_words("conversation")}">{messages}</div>'


def notice_html() -> str:
    """The research-only notice in the interface languages."""
    lines = (
        f"<p {message_attributes(lang)}>{html.escape(research_notice(lang))}</p>"
        for lang in INTERFACE
    )
    return f'<div role="note" class="bimedix-fixed">{"".join(lines)}</div>'


def conversation_text(shown: Iterable[Message]) -> str:
    """The conversation as text, one line for each message."""
    return "\n".join(f"[{one.who}] {one.text}" for one in shown)
