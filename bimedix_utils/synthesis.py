"""Doctor-patient chats grounded in multiple-choice questions, as the paper has them, with each rule checked by itself.

The paper's prompt, model version, filters and turn count were not found; everything here is this kit's own choice.
"""

import random
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .records import LABELS, Record, Turn
from .teacher.engine import Teacher
from .teacher.parsing import read
from .teacher.requests import Prompt, Request
from .teacher.store import Answer
from .text import digest, match_key

STAGE = "synthesize_chat"
PROMPT = Prompt(STAGE, "v1")
PERSONAS = (
    "a worried parent asking about a child",
    "a retired teacher who likes details",
    "a young adult in a hurry",
    "a shy patient who gives short answers",
    "a patient with little schooling who uses plain words",
    "a nursing student curious about the mechanism",
    "a relative speaking for an elderly person",
    "an office worker who read about it online",
    "a pregnant woman at a routine visit",
    "a patient afraid of hospitals",
)
# Of a letter the case counts: "option B" names a choice, "an option a doctor has" does not.
_EXAM = re.compile(
    r"\b(?i:exams?|multiple[ -]choice|answer key)\b|\b(?i:options?|choices?):?\s+\(?[A-E]\b|"
    r"\b(?i:answer) (?:is|was|would be)\s+\(?[A-E]\b|\([A-E]\)"
)
_STOP = set("the a an of in to and or is are was were be by with for on at from that this it as which most likely due than not no".split())


class ChatTurn(BaseModel):
    """One turn as the teacher writes it."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["patient", "doctor"]
    text: str = Field(min_length=1)


class Chat(BaseModel):
    """The teacher's answer."""

    model_config = ConfigDict(extra="forbid")
    turns: list[ChatTurn] = Field(min_length=1)


def seeds(questions: Iterable[Record], count: int, seed: int) -> list[Record]:
    """The English training questions that chats grow from: the first `count` in the order of a seeded hash."""
    usable = [r for r in questions if r.kind == "mcqa" and r.lang == "en" and r.split == "train" and r.status == "ok"]
    return sorted(usable, key=lambda r: digest(f"chat:{seed}:{r.id}"))[:count]


def requests(questions: Iterable[Record], teacher: Teacher, min_exchanges: int, max_exchanges: int, seed: int) -> list[Request]:
    """One request for each question; the persona is drawn from `PERSONAS` by seed and row id, so it survives any re-ordering."""
    result = []
    for record in questions:
        persona = random.Random(f"{seed}:{record.id}").choice(PERSONAS)
        options = " ".join(f"{letter}. {option}" for letter, option in zip(LABELS, record.options, strict=False))
        text = PROMPT.fill(
            min_exchanges=str(min_exchanges), max_exchanges=str(max_exchanges), persona=persona,
            context=f"Context: {record.context}\n" if record.context else "", question=record.question, options=options,
            answer=record.options[record.answer_index], explanation=record.answer or "none given",
        )  # fmt: skip
        result.append(teacher.request(STAGE, record.id, PROMPT.tag, text))
    return result


def content_words(text: str) -> set[str]:
    """Words that carry meaning, cut to their first six letters so that "inhibitor" meets "inhibits"."""
    return {word[:6] for word in match_key(text).split() if word not in _STOP and len(word) > 2}


def problems(chat: list[ChatTurn], question: Record, min_exchanges: int, max_exchanges: int) -> list[str]:
    """Names of the rules a chat breaks, in a fixed order; empty when it is usable."""
    found = []
    roles = [turn.role for turn in chat]
    if roles != [("patient", "doctor")[i % 2] for i in range(len(roles))]:
        found.append("role_order")
    if roles and roles[-1] != "doctor":
        found.append("doctor_not_last")
    exchanges = sum(role == "doctor" for role in roles)
    if not min_exchanges <= exchanges <= max_exchanges:
        found.append("exchange_count")
    said = [turn.text for turn in chat if turn.role == "doctor"]
    if not any("?" in text for text in said[:-1]):
        found.append("no_question_asked")
    whole = " ".join(turn.text for turn in chat)
    if _EXAM.search(whole):
        found.append("mentions_exam")
    # Greek letters stay: alpha blockers are written with them.
    if not all(unicodedata.name(letter, "").startswith(("LATIN", "GREEK", "MICRO")) for letter in whole if letter.isalpha()):
        found.append("other_language")
    if len(question.options) > 3 and wrong_option_wins(" ".join(said), question):
        found.append("wrong_answer")
    return found


def wrong_option_wins(said: str, question: Record) -> bool:
    """True when the doctor names a wrong option in full and less than half of what tells the right one from it.

    A coarse rule: words, not meaning. Only words that distinguish two options count: "fracture" decides nothing between Smith and
    Colles fracture. The paraphrase of a right answer passes because no wrong option is named in full.
    """
    spoken = content_words(said)
    options = [content_words(option) for option in question.options]
    right = options.pop(question.answer_index)
    for wrong in options:
        only_wrong, only_right = wrong - right, right - wrong
        if only_wrong and only_right and only_wrong <= spoken and len(only_right & spoken) < len(only_right) / 2:
            return True
    return False


def chat_id(question_id: str) -> str:
    """Id of the chat made from a question."""
    return f"chat:{question_id}"


def collect(
    questions: list[Record], asked: list[Request], answers: dict[str, Answer], min_exchanges: int, max_exchanges: int
) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """(usable chats, {question id: (status, note)}): every question ends in exactly one status."""
    chats, statuses = [], {}
    for question, request in zip(questions, asked, strict=True):
        status, chat, note = read(answers[request.id], Chat)
        if chat is not None:
            broken = problems(chat.turns, question, min_exchanges, max_exchanges)
            status, note = ("rejected", ", ".join(broken)) if broken else ("ok", "")
            if not broken:
                turns = tuple(Turn(role=turn.role, text=turn.text) for turn in chat.turns)
                chats.append(Record(id=chat_id(question.id), kind="chat", lang="en", source="chat", licence=question.licence,
                                    split=question.split, turns=turns, topic=question.topic, parent_id=question.id))  # fmt: skip
        statuses[question.id] = (status, note)
    return chats, statuses
