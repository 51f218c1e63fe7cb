"""What the measures of open-ended answers share: asking, patterns, labelled files.

Models are seen through a `Responder`: conversations in (lists of messages with `role` and
`content`), one answer each out, in order; an answer that never came is "".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.files import iter_json_lines
from ...core.language import language_codes, language_data
from ...core.templates import checked_messages
from ...core.text import normalise_letters

PromptTurns = list[dict[str, str]]
Responder = Callable[[list[PromptTurns]], list[str]]
_SENTENCE_END = re.compile(r"(?<=[.!?؟؛\n])\s+")


def ask_model(respond: Responder, conversations: Sequence[PromptTurns]) -> list[str]:
    """What the model answers to each conversation, in order. Turns must alternate and end with the
    user's.

    Raises `InputError` for a conversation that does not, and for a responder that gives another
    number of answers or no texts.
    """
    folded = []
    for number, conversation in enumerate(conversations):
        folded.append(checked_messages(list(conversation), f"conversation {number}"))
        if folded[-1][-1]["role"] != "user":
            raise InputError(
                f"conversation {number}: the last message is the assistant's; there is nothing to"
                " answer"
            )
    answers = respond(folded)
    if len(answers) != len(folded) or not all(isinstance(text, str) for text in answers):
        raise InputError(
            f"the responder gave {len(answers)} answers to {len(folded)} conversations; one text"
            " each is expected, '' for none"
        )
    return answers


def single_turn(text: str) -> PromptTurns:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]


def normalised(text: str) -> str:
    """A text as the patterns see it: normalised letters, straight apostrophes, single spaces."""
    return re.sub(r"\s+", " ", normalise_letters(text).replace("’", "'")).strip()


def sentences(text: str) -> list[str]:
    """Its sentences, by their final signs."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def open_ended_data(lang: str) -> dict[str, Any]:
    """The section `open_ended` of a language file."""
    return language_data(lang)["open_ended"]


@cache
def open_ended_pattern(lang: str, name: str) -> re.Pattern[str]:
    """A pattern of that section, its letters normalised as the texts are; `@` is a word's start."""
    data = open_ended_data(lang)
    parts = [normalise_letters(part) for part in data["patterns"][name]]
    return re.compile("|".join(parts).replace("@", data["word_start"]), re.IGNORECASE)


@dataclass(frozen=True)
class BilingualItem:
    """A claim or a request. `label` is its truth, or whether it is unsafe; `texts` holds it in each
    language.
    """

    id: str
    topic: str
    label: bool
    texts: dict[str, str]


def read_bilingual_items(path: Path, label: str) -> list[BilingualItem]:
    """Items of a JSON Lines file: id, topic, `label` (true or false) and one text for each language
    of the kit that the file holds, at least English and Arabic. Raises `InputError` naming a
    broken line.
    """
    rows = [row for _, row in iter_json_lines(path)]
    extra = [code for code in language_codes() if any(code in row for row in rows)]
    langs = list(dict.fromkeys(["en", "ar", *extra]))
    fields = {"id": str, "topic": str, label: bool, **dict.fromkeys(langs, str)}
    return [
        BilingualItem(row["id"], row["topic"], row[label], {lang: row[lang] for lang in langs})
        for row in read_labelled(path, fields)
    ]


def read_labelled(path: Path, fields: Mapping[str, type], part: str = "") -> list[dict]:
    """Rows of a JSON Lines file with exactly these fields of these types, or those of one `part`:
    `dev`, on which the rules were written, or `test`, written after them.

    Raises `InputError` naming a line that is wrong.
    """
    found: dict[str, dict] = {}
    for number, row in iter_json_lines(path):
        typed = set(row) == set(fields) and all(type(row[n]) is k for n, k in fields.items())
        if not typed or "" in row.values():
            expected = ", ".join(f"{n} ({k.__name__})" for n, k in fields.items())
            raise InputError(f"{path.name}, line {number}: expected {expected}, none empty")
        if row["id"] in found:
            raise InputError(f"{path.name}, line {number}: duplicate id {row['id']}")
        found[row["id"]] = row
    if not found:
        raise InputError(f"{path.name}: no rows")
    return [row for row in found.values() if not part or row["part"] == part]
