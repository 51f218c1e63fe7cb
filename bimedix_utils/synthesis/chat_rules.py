"""What a chat must keep, rule by rule. The rules look at words, not at meaning.

Their words and patterns are in `chat_rules.yaml`. No source we could read states the paper's
filters; these are this kit's own.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.files import read_utf8
from ..core.records import Record, Turn
from ..core.text import match_key


class ChatTurn(BaseModel):
    """One turn as the teacher writes it."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["patient", "doctor"]
    text: str = Field(min_length=1, pattern=r"\S")


ChatTurns = Sequence[Turn | ChatTurn]
# Letters of these scripts are English: alpha blockers are written with Greek ones, and some signs
# of units count as letters in Unicode.
_SCRIPTS = ("LATIN", "GREEK", "MICRO", "MASCULINE", "FEMININE", "ANGSTROM", "KELVIN", "OHM")
_LONG = 8  # words: a shorter text is not judged by its function words
# Least share of function words, measured on English dialogues of people.
_LEAST_OF_A_TURN, _LEAST_OF_A_SPEAKER = 0.12, 0.2


@cache
def _data() -> dict[str, str]:
    import yaml

    return yaml.safe_load(read_utf8(Path(__file__).with_name("chat_rules.yaml")))


@cache
def _words(name: str) -> frozenset[str]:
    return frozenset(_data()[name].split())


def _expanded(name: str) -> str:
    def part(match: re.Match[str]) -> str:
        if match[1]:
            return "".join(f"(?<!{word} )" for word in _data()[match[2]].split())
        return _expanded(match[2])

    return re.sub(r"<(not_after:)?(\w+)>", part, _data()[name].replace("\n", ""))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(_expanded(name))


def content_words(text: str) -> set[str]:
    """Words with content, cut to six letters so that "inhibitor" matches "inhibits"."""
    stop = _words("stop_words")
    return {word[:6] for word in match_key(text).split() if word not in stop and len(word) > 2}


def _texts(chat: ChatTurns, role: str) -> list[str]:
    return [turn.text for turn in chat if turn.role == role]


def _full_text(chat: ChatTurns) -> str:
    return " ".join(turn.text for turn in chat)


def _is_english(text: str, least: float) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    known = sum(word in _words("function_words") for word in words)
    return len(words) < _LONG or known >= least * len(words)


def _in_english(chat: ChatTurns) -> bool:
    """False for another script, and for a long turn or a speaker with few function words.

    A short text, or one that is half English, passes.
    """
    # Full-width letters, ligatures and the script l of a litre are Latin in this form.
    text = unicodedata.normalize("NFKC", _full_text(chat))
    if any(not unicodedata.name(c, "").startswith(_SCRIPTS) for c in text if c.isalpha()):
        return False
    speakers = [" ".join(_texts(chat, role)) for role in ("patient", "doctor")]
    turns = [turn.text for turn in chat]
    return all(_is_english(turn, _LEAST_OF_A_TURN) for turn in turns) and all(
        _is_english(words, _LEAST_OF_A_SPEAKER) for words in speakers
    )


def _roles_alternate(chat: ChatTurns) -> bool:
    return all(turn.role == ("patient", "doctor")[i % 2] for i, turn in enumerate(chat))


def _asks_first(chat: ChatTurns) -> bool:
    """True when the doctor's first turn holds a question and is not the last one."""
    doctor = _texts(chat, "doctor")
    return len(doctor) > 1 and "?" in doctor[0]


def _closes_safely(chat: ChatTurns) -> bool:
    doctor = _texts(chat, "doctor")
    return not doctor or bool(_pattern("close").search(_pattern("no_close").sub(" ", doctor[-1])))


def _no_exam(chat: ChatTurns) -> bool:
    lettered = any(_pattern("letter_first").match(text) for text in _texts(chat, "doctor"))
    return not lettered and not _pattern("exam").search(_full_text(chat))


# Rules for any chat; each is true when the chat keeps it.
FORM_RULES: dict[str, Callable[[ChatTurns], bool]] = {
    "role_order": _roles_alternate,
    "doctor_not_last": lambda chat: not chat or chat[-1].role == "doctor",
    "no_question_asked": _asks_first,
    "unsafe_close": _closes_safely,
    "mentions_exam": _no_exam,
    "speaks_as_machine": lambda chat: not _pattern("machine").search(_full_text(chat)),
    "other_language": _in_english,
}
# Rules that need the question the chat comes from.
QUESTION_RULES: dict[str, Callable[[ChatTurns, Record], bool]] = {
    "concludes_first": lambda chat, question: not concludes_first(chat, question),
    "key_not_reached": lambda chat, question: reaches_key(_doctor_says(chat), question),
    "wrong_answer": lambda chat, question: not wrong_option_wins(_doctor_says(chat), question),
}
CHAT_RULES = (*FORM_RULES, "exchange_count", *QUESTION_RULES)


def _doctor_says(chat: ChatTurns) -> str:
    return " ".join(_texts(chat, "doctor"))


def broken_rules(
    chat: ChatTurns, question: Record, min_exchanges: int, max_exchanges: int
) -> list[str]:
    """Names of the rules a chat breaks, in the order of `CHAT_RULES`; empty when it is usable.

    With three options or fewer (yes, no, maybe) the doctor's conclusion is not checked: these words
    are in every chat.
    """
    found = [name for name, kept in FORM_RULES.items() if not kept(chat)]
    if not min_exchanges <= len(_texts(chat, "doctor")) <= max_exchanges:
        found.append("exchange_count")
    if len(question.options) > 3:
        found += [name for name, kept in QUESTION_RULES.items() if not kept(chat, question)]
    return found


def rule_objections(chats: Iterable[Record]) -> dict[str, int]:
    """How many of these chats each form rule objects to."""
    chats = list(chats)
    return {name: sum(not kept(c.turns) for c in chats) for name, kept in FORM_RULES.items()}


def concludes_first(chat: ChatTurns, question: Record) -> bool:
    """True when the doctor names an option in full before the first question.

    Options whose words the patient has just said do not count. Only a doctor who asks in the first
    turn is checked: `no_question_asked` finds the others.
    """
    first = next((i for i, turn in enumerate(chat) if turn.role == "doctor"), None)
    if first is None or "?" not in chat[first].text:
        return False
    sentences = re.split(r"(?<=[.!?])\s+", chat[first].text)
    asks = next(i for i, sentence in enumerate(sentences) if "?" in sentence)
    doctor = content_words(" ".join(sentences[:asks]))
    patient = content_words(_full_text(chat[:first]))
    options = [content_words(option) for option in question.options]
    return any(words and words <= doctor and not words <= patient for words in options)


def reaches_key(text: str, question: Record) -> bool:
    """True when the doctor says at least half of the words that only the right option has.

    A right answer in quite other words is missed. An option without words of its own (a number)
    is not checked.
    """
    options = [content_words(option) for option in question.options]
    right = options.pop(question.answer_index)
    key = (right - set().union(*options)) or right
    return not key or 2 * len(key & content_words(text)) >= len(key)


def wrong_option_wins(text: str, question: Record) -> bool:
    """True when the doctor names a wrong option in full, and less than half of the right one.

    Only words that distinguish the two options count: "fracture" decides nothing between Smith and
    Colles fracture. A number has no words: a wrong dose is not seen. "It is not X but Y" counts as
    naming both.
    """
    doctor = content_words(text)
    options = [content_words(option) for option in question.options]
    right = options.pop(question.answer_index)
    for wrong in options:
        only_wrong, only_right = wrong - right, right - wrong
        named = only_wrong and only_right and only_wrong <= doctor
        if named and 2 * len(only_right & doctor) < len(only_right):
            return True
    return False
