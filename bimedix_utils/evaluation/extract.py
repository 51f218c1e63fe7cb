"""Which option a written answer names, in English and Arabic; None when it names none, or more than
one.

In this order: an answer sentence ("the correct answer is B", «الإجابة الصحيحة هي ب»), a letter the
text begins with, the one letter that is called an option, the one option whose own words stand
there. The first answer sentence counts: a base model goes on and invents the next question. A place
is a place: a Latin letter is understood where Arabic ones were shown, and the other way round.
"""

import re

from ..core.records import LABELS, Record
from ..core.templates import option_letters
from ..core.text import match_key

_OPEN, _CLOSED = r"[\s*\"'«(\[]*", r"(?=\s*(?:[.):\]*\"'»,،؛;\-]|$))"


def _letter(name: str) -> str:
    """A capital stands for itself, a small letter needs a sign behind it: "the answer is a beta
    blocker" names no letter.
    """
    return rf"(?P<{name}>(?-i:[A-J])(?![\w'])|[a-j]{_CLOSED}|[اأإآبجدهوزحطي](?!\w))"


_LETTER = _letter("letter")
_FLAGS = re.IGNORECASE | re.MULTILINE
_NAMED = r"(?:(?:option|choice|letter|الخيار|الاختيار|الحرف)\s+)?"
_SENTENCE = re.compile(
    rf"(?:\banswer(?:\s+(?:choice|option))?(?:\s+is|\s*:|\s*=)|(?:الإجابة|الاجابة|إجابة|اجابة|الجواب|جواب)(?:\s+الصحيحة?)?(?:\s+(?:هي|هو)|\s*:)?)"
    rf"{_OPEN}{_NAMED}{_OPEN}{_LETTER}",
    _FLAGS,
)
_FIRST = re.compile(rf"\A{_OPEN}(?P<letter>[A-Ja-jاأإآبجدهوزحطي]){_CLOSED}", re.MULTILINE)
# What follows the first letter of an answer that names several: "A or B", "A, B and C", «أ أو ب».
_CLOSE = r"[\s*\"'»)\]]*"
_ANOTHER = re.compile(
    rf"(?:{_CLOSE}[,،]{_OPEN}{_letter('listed')})*{_CLOSE}[,،]?\s*(?:or\b|and\b|[&/]|أو\s|و){_OPEN}{_NAMED}{_OPEN}{_letter('other')}",
    _FLAGS,
)
_CALLED = re.compile(rf"(?:\b(?:option|choice)|الخيار|الاختيار)\s+{_OPEN}{_LETTER}", _FLAGS)


def option(text: str, record: Record, letters: str) -> int | None:
    """The place of the option the text names, counted from 0; `letters` are those that were shown."""
    plain = re.sub("[\u064b-\u0652\u0640]", "", text.strip())  # vowel marks and lengthening strokes
    for pattern in (_SENTENCE, _FIRST):
        if (found := pattern.search(plain)) and (
            place := _place(found["letter"], letters, record)
        ) is not None:
            another = _ANOTHER.match(plain, found.end())
            return (
                None
                if another and _place(another["other"], letters, record) not in (None, place)
                else place
            )
    called = {_place(found["letter"], letters, record) for found in _CALLED.finditer(plain)} - {
        None
    }
    if called:
        return called.pop() if len(called) == 1 else None
    return _by_words(plain, record.options)


def _place(letter: str, letters: str, record: Record) -> int | None:
    for alphabet in (letters, LABELS, option_letters("ar")):
        places = [match_key(label) for label in alphabet[: len(record.options)]]
        if match_key(letter) in places:
            return places.index(match_key(letter))
    return None


def _by_words(text: str, options: tuple[str, ...]) -> int | None:
    """The one option whose words stand in the text; an option within a longer one that stands there
    too does not count.
    """
    words, keys = f" {match_key(text)} ", [match_key(option) for option in options]
    present = [
        key for key in keys if key and (f" {key} " in words or f" و{key} " in words)
    ]  # the Arabic "and" is written on
    longest = [
        key
        for key in present
        if not any(f" {key} " in f" {other} " and key != other for other in present)
    ]
    return keys.index(longest[0]) if len(longest) == 1 else None
