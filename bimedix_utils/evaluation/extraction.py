"""Answer extraction: which option a written answer names; None for no option, or more than one.

In this order: an answer sentence ("the correct answer is B", «الإجابة الصحيحة هي ب»), a letter at
the beginning, the one letter that is called an option, the one option whose own text occurs. The
first answer sentence counts: a base model goes on and invents the next question. The words come
from `languages/*.yaml` (`option_answer`). All languages are tried together: a letter means its
position, so a Latin letter is understood where Arabic ones were shown, and the other way round.
"""

import re
from functools import cache

from ..core.language import language_codes, language_data
from ..core.records import LABELS, Record
from ..core.templates import option_letters
from ..core.text import match_key

_OPEN, _CLOSED = r"[\s*\"'«(\[]*", r"(?=\s*(?:[.):\]*\"'»,،؛;\-]|$))"
_CLOSE = r"[\s*\"'»)\]]*"
_FLAGS = re.IGNORECASE | re.MULTILINE
_MARKS = re.compile("[\u064b-\u0652\u0640]")  # vowel marks and lengthening strokes


def answer_words(lang: str) -> dict[str, str]:
    """A language's words about an answer: sentences that ask for one, and patterns that find it."""
    return language_data(lang)["option_answer"]


def _any(key: str) -> str:
    return "|".join(answer_words(code)[key] for code in language_codes())


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """The compiled patterns of all languages together."""
    shown = set("أإآ").union(*(option_letters(code) for code in language_codes()))
    other = "".join(sorted(shown - set(LABELS)))

    def letter(name: str) -> str:
        # A capital stands alone, a small letter needs a sign behind it: "the answer is a beta
        # blocker" names no letter.
        return rf"(?P<{name}>(?-i:[A-J])(?![\w'])|[a-j]{_CLOSED}|[{other}](?!\w))"

    named = rf"(?:(?:{_any('option_words')})\s+)?"
    sentence = rf"(?:{_any('sentence')}){_OPEN}{named}{_OPEN}{letter('letter')}"
    first = rf"\A{_OPEN}(?P<letter>[A-Ja-j{other}]){_CLOSED}"
    called = rf"(?:{_any('called')})\s+{_OPEN}{letter('letter')}"
    # What follows the first letter of an answer that names several: "A or B", "A, B and C".
    listed = rf"(?:{_CLOSE}[,،]{_OPEN}{letter('listed')})*"
    joined = rf"{_CLOSE}[,،]?\s*(?:{_any('joins')}|[&/])"
    another = rf"{listed}{joined}{_OPEN}{named}{_OPEN}{letter('other')}"
    return {
        "sentence": re.compile(sentence, _FLAGS),
        "first": re.compile(first, re.MULTILINE),
        "called": re.compile(called, _FLAGS),
        "another": re.compile(another, _FLAGS),
    }


def extract_option(text: str, record: Record, letters: str) -> int | None:
    """The index of the option that the text names; `letters` are those that were shown."""
    plain, patterns = _MARKS.sub("", text.strip()), _patterns()
    for name in ("sentence", "first"):
        found = patterns[name].search(plain)
        index = _index(found["letter"], letters, record) if found else None
        if index is not None:
            another = patterns["another"].match(plain, found.end())
            second = _index(another["other"], letters, record) if another else None
            return index if second in (None, index) else None
    called = {_index(m["letter"], letters, record) for m in patterns["called"].finditer(plain)}
    called.discard(None)
    if called:
        return called.pop() if len(called) == 1 else None
    return _by_text(plain, record)


def _index(letter: str, letters: str, record: Record) -> int | None:
    for alphabet in (letters, LABELS, *(option_letters(code) for code in language_codes())):
        keys = [match_key(label) for label in alphabet[: len(record.options)]]
        if match_key(letter) in keys:
            return keys.index(match_key(letter))
    return None


def _by_text(text: str, record: Record) -> int | None:
    """The one option whose text occurs; one inside a longer option that occurs does not count."""
    keys = [match_key(option) for option in record.options]
    # A conjunction may be glued to the word that follows, as the Arabic و.
    glued = answer_words(record.lang)["glued_and"]
    words = f" {match_key(text)} "
    present = [
        key
        for key in keys
        if key and (f" {key} " in words or (glued and f" {glued}{key} " in words))
    ]
    longest = [
        key
        for key in present
        if not any(f" {key} " in f" {other} " and key != other for other in present)
    ]
    return keys.index(longest[0]) if len(longest) == 1 else None
