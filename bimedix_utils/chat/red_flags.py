"""Red flags: a message that names an emergency is answered with where to get help, before any
model text.

The patterns stand in `languages/<code>.yaml`, section `red_flags`; a further safety rule is one
more pattern there. A message is matched against the patterns of all languages, because people mix
them. The patterns err towards warning: a needless warning costs little. A negation ("no chest
pain"), a case history and an exam question are warned about as well. `data/red_flags` measures how
often. A list of words finds words: an emergency described in other words gets no warning.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from ..core.errors import InputError
from ..core.language import language_codes, language_data, language_of
from ..core.statistics import wilson
from ..core.text import match_key, normalise_letters


@cache
def red_flag_patterns() -> dict[str, list[re.Pattern[str]]]:
    """{kind of emergency: its patterns in all languages}. Raises `InputError` for a broken one."""
    found: dict[str, list[re.Pattern[str]]] = {}
    for code in language_codes():
        section = language_data(code)["red_flags"]
        for kind, patterns in section["patterns"].items():
            compiled = [_compile_pattern(code, text, section["fragments"]) for text in patterns]
            found.setdefault(kind, []).extend(compiled)
    return found


def _compile_pattern(code: str, text: str, fragments: dict[str, str]) -> re.Pattern[str]:
    try:
        whole = re.sub(r"<([a-z]+)>", lambda match: fragments[match[1]], text)
        return re.compile(normalise_letters(whole))
    except (KeyError, re.error) as error:
        raise InputError(f"languages/{code}.yaml, red_flags: {text!r}: {error}") from None


def red_flag_kinds(text: str) -> list[str]:
    """The kinds of emergency that a text names, such as `["stroke"]`, in any language."""
    # Signs that nobody sees (joiners, direction marks) would split a word.
    visible = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    key = match_key(visible)
    return [
        kind
        for kind, patterns in red_flag_patterns().items()
        if any(pattern.search(key) for pattern in patterns)
    ]


def red_flag(text: str) -> str | None:
    """The emergency message in the text's language, or None when the text names no emergency."""
    if not (kinds := red_flag_kinds(text)):
        return None
    section = language_data(language_of(text))["red_flags"]
    support = f" {section['support']}" if "suicide" in kinds else ""
    return section["emergency"] + support


def measure_red_flags(
    messages: Iterable[Mapping[str, str]],
) -> list[tuple[str, str, str, int, int, float, float]]:
    """(part, label, language, warned, messages, low, high) of labelled messages, Wilson 95 %.

    Each message has the keys `part`, `label`, `lang` and `text`; see `data/red_flags`.
    """
    counts: dict[tuple[str, str, str], list[bool]] = {}
    for row in messages:
        group = counts.setdefault((row["part"], row["label"], row["lang"]), [])
        group.append(red_flag(row["text"]) is not None)
    return [
        (*group, sum(warned), len(warned), *wilson(sum(warned), len(warned)))
        for group, warned in counts.items()
    ]
