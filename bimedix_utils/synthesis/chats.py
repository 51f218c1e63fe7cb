"""Doctor-patient chats grounded in multiple-choice questions, as the paper has them, with each rule
checked by itself.

The paper's prompt, model version, filters and turn count were not found; everything here is this
kit's own choice.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.records import LABELS, Record, Turn
from ..core.text import digest, match_key
from ..teacher.engine import Structured
from ..teacher.requests import Prompt, Request
from ..teacher.settings import Teacher

STAGE = "synthesize_chat"
PROMPT = Prompt(STAGE, "v2")
# Who speaks, and which ages go with it. Drawn, not fitted to the question: where the question fixes
# age, sex or situation, it wins.
_ADULT = ("in the twenties", "in the forties", "in the sixties")
PERSONAS: dict[str, tuple[str, ...]] = {
    "a parent speaking for a child": ("an infant", "a child of five", "a child of ten"),
    "a relative speaking for an elderly person": ("in the seventies", "in the eighties"),
    "a pregnant woman at a routine visit": ("in the twenties", "in the thirties"),
    "a teenager who came alone": ("fifteen years old", "seventeen years old"),
    "a retired teacher": ("in the sixties", "in the seventies"),
    "a patient with little schooling": _ADULT,
    "a nursing student curious about the mechanism": ("in the twenties",),
    "an office worker who has read about it": _ADULT,
    "a manual worker who fears losing pay": _ADULT,
    "a patient afraid of hospitals": _ADULT,
}
REGISTERS = (
    "plain everyday words",
    "short, hurried sentences",
    "long and detailed, with digressions",
    "half-medical words picked up somewhere",
    "shy and hesitant",
)
OPENINGS = (
    "greets the doctor first",
    "names the main complaint at once",
    "begins with a question",
    "begins with what a friend or relative said",
    "begins with what was already tried at home",
)
RED_FLAG = (
    "The patient mentions an alarm sign that fits the case; the doctor says so and sends the"
    " patient to emergency care at once."
)
RED_FLAG_SHARE = 6  # one chat in so many
_NO_RED_FLAG = "None is needed."
# Examinations of a body, not of a student.
_CLINICAL = (
    "physical clinical medical eye skin breast pelvic rectal dental neurological throat abdominal"
    " full complete ear nose neck chest heart lung back knee hip foot joint thyroid prostate"
    " vaginal internal general thorough careful quick brief routine annual repeat"
).split()
# Of a letter the case counts: "option B" names a choice, "an option a doctor has" does not. A
# capital A may be an article after a colon, and a letter the beginning of a word ("C-section") or
# of a microbe's name ("E. coli").
_SPECIES = "coli|diff|cereus|burgdorferi|albicans|fumigatus|faecalis|faecium|perfringens|botulinum|tetani|fragilis|anthracis|pertussis"
_LETTER = (
    rf"(?:[B-E]\b(?!-|\. ?(?:{_SPECIES}))|A\b(?!-)(?!"
    r" (?!(?:is|was|and|or|would|fits|because|but)\b)[a-z]))"
)
_EXAM = re.compile(
    rf"(?i:{''.join(f'(?<!{word} )' for word in _CLINICAL)}\bexams?\b(?! room))|"
    r"\b(?i:multiple[ -]choice|answer key|quiz(?:zes)?|test questions?|question stem|usmle|options?"
    r" (?:given|listed))\b|"
    rf"\b(?i:options?|choices?):?\s+\(?{_LETTER}|\b(?i:options?|choices?) [b-e]\b(?!\.g|')|"
    rf"\b(?i:answer)(?:\s*:|\s+(?i:is|was|must be|would (?:therefore |then )?be))\s+\(?{_LETTER}|"
    r"\b(?i:answer|options?|choices?)(?:\s*:|\s+(?i:is|was))?\s+\([a-e]\)|"
    r"\b[A-E] (?:is|was) the (?:correct|right|best)"
    r" (?:answer|option|choice)\b|\b(?i:choose|pick|select) [A-E](?=[.,;!?]|$)|"
    rf"(?i:{''.join(f'(?<!{word} )' for word in 'hepatitis vitamin type group influenza grade stage class'.split())})\([A-E]\)"
)
# A doctor's turn that begins with an option's letter.
_LETTER_FIRST = re.compile(rf"\s*(?:\([A-E]\)|[A-E]\)|[A-E]\.(?! ?(?:{_SPECIES})))\s*\w")
_AI = re.compile(r"\b(?:as an ai|language model|i am an ai|i['’]m an ai|chatbot)\b", re.IGNORECASE)
# How a safe close sounds: what comes next, or when to seek care. Words, not meaning.
_NEXT_STEP = (
    r"(?:urgent\w*|emergenc\w*|hospital|ambulance|(?:right|straight) away|at once|immediately|come"
    r" (?:back|in|to)|return|"
    r"follow[- ]?ups?|see"
    r" (?:a|an|your|me|us|the)\b|appointment|clinics?|call|contact|worse\w*|check(?:ed)?|tests?|review|"
    r"arrange|book|seek|consult|dial|symptoms|(?-i:ER)|medical"
    r" (?:help|attention|care|advice)|refer\w*|report|team|ask your|"
    r"tell (?:me|us|your)|let (?:me|us|your)|"
    r"if (?:you|he|she|it|they|your|any|there|\w+ing))\b"
)
_CLOSE = re.compile(rf"\b{_NEXT_STEP}", re.IGNORECASE)
# "Do not call anyone and avoid the hospital" is no next step; "do not hesitate to call" is one.
_NO_CLOSE = re.compile(
    r"\b(?:do not|don['’]t|never|no (?:need|reason) to|need not|needn['’]t|avoid)\s+"
    rf"(?:(?:need|have|to|go|going|be|the|a|an|any|your)\s+)*{_NEXT_STEP}",
    re.IGNORECASE,
)
# The words that hold English sentences together: at least a third of what people say, and next to
# nothing of any other language.
_ENGLISH = set(
    (
        "the a an and or but if of in on at to for from with by about as than that this these those"
        " it its is are was were be been am do does did have has had will would can could should"
        " may might must i you he she we they my your his her our their me him us them what which"
        " who how when where why not no so there here any some all very up out into over more just"
        " because while before after since until also too only then now get got like yes please"
        " well thank"
    ).split()
)
_LONG, _LEAST_OF_A_TURN, _LEAST_OF_A_SPEAKER = (
    8,
    0.12,
    0.2,
)  # words; shares, measured on English dialogues of people
_STOP = set(
    "the a an of in to and or is are was were be by with for on at from that this it as which most"
    " likely due than not no".split()
)


class ChatTurn(BaseModel):
    """One turn as the teacher writes it."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["patient", "doctor"]
    text: str = Field(min_length=1, pattern=r"\S")


class Chat(BaseModel):
    """The teacher's answer."""

    model_config = ConfigDict(extra="forbid")
    turns: list[ChatTurn] = Field(min_length=1)


def seeds(questions: Iterable[Record], count: int, seed: int) -> list[Record]:
    """The English training questions that chats grow from: the first `count` in the order of a
    seeded hash.
    """
    usable = [
        r
        for r in questions
        if r.kind == "mcqa" and r.lang == "en" and r.split == "train" and r.status == "ok"
    ]
    return sorted(usable, key=lambda r: digest(f"chat:{seed}:{r.id}"))[:count]


@dataclass(frozen=True)
class Plan:
    """What is drawn for one chat, so that a thousand chats do not sound like one."""

    persona: str
    age: str
    register: str
    opening: str
    red_flag: bool


def plan(question_id: str, seed: int) -> Plan:
    """The plan of a question's chat: a function of seed and id, so it survives any re-ordering and
    any other rows.
    """
    draw = random.Random(f"{seed}:{question_id}")
    persona = draw.choice(list(PERSONAS))
    age, register, opening = (
        draw.choice(part) for part in (PERSONAS[persona], REGISTERS, OPENINGS)
    )
    return Plan(persona, age, register, opening, draw.randrange(RED_FLAG_SHARE) == 0)


def requests(
    questions: Iterable[Record], teacher: Teacher, min_exchanges: int, max_exchanges: int, seed: int
) -> list[Request]:
    """One request for each question."""
    result = []
    for record in questions:
        drawn = plan(record.id, seed)
        options = " ".join(
            f"{letter}. {option}" for letter, option in zip(LABELS, record.options, strict=False)
        )
        text = PROMPT.fill(
            min_exchanges=str(min_exchanges), max_exchanges=str(max_exchanges), persona=drawn.persona, age=drawn.age,
            register=drawn.register, opening=drawn.opening, red_flag=RED_FLAG if drawn.red_flag else _NO_RED_FLAG,
            context=f"Context: {record.context}\n" if record.context else "", question=record.question, options=options,
            answer=record.options[record.answer_index], explanation=record.answer or "none given",
        )  # fmt: skip
        result.append(teacher.request(STAGE, record.id, PROMPT.tag, text))
    return result


def content_words(text: str) -> set[str]:
    """Words that carry meaning, cut to their first six letters so that "inhibitor" meets
    "inhibits".
    """
    return {word[:6] for word in match_key(text).split() if word not in _STOP and len(word) > 2}


Chatlike = Sequence[Turn | ChatTurn]


def _said(chat: Chatlike) -> list[str]:
    return [turn.text for turn in chat if turn.role == "doctor"]


def _whole(chat: Chatlike) -> str:
    return " ".join(turn.text for turn in chat)


# Greek letters stay, for alpha blockers are written with them, and the signs of units that Unicode
# counts as letters.
_SCRIPTS = ("LATIN", "GREEK", "MICRO", "MASCULINE", "FEMININE", "ANGSTROM", "KELVIN", "OHM")


def _one_script(chat: Chatlike) -> bool:
    """Full-width letters, ligatures and the script l of a litre are Latin once they are written
    plainly.
    """
    whole = unicodedata.normalize("NFKC", _whole(chat))
    return all(
        unicodedata.name(letter, "").startswith(_SCRIPTS) for letter in whole if letter.isalpha()
    )


def _english(text: str, least: float) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) < _LONG or sum(word in _ENGLISH for word in words) >= least * len(words)


def _in_english(chat: Chatlike) -> bool:
    """False for another script, for a long turn almost without an English function word, and for a
    speaker with few of them.

    What is short, or half English, passes.
    """
    speakers = (
        " ".join(turn.text for turn in chat if turn.role == role) for role in ("patient", "doctor")
    )
    return (
        _one_script(chat)
        and all(_english(turn.text, _LEAST_OF_A_TURN) for turn in chat)
        and all(_english(said, _LEAST_OF_A_SPEAKER) for said in speakers)
    )


def _asks_first(chat: Chatlike) -> bool:
    """True when the doctor's first words hold a question and are not the last ones."""
    said = _said(chat)
    return len(said) > 1 and "?" in said[0]


def _closes_safely(chat: Chatlike) -> bool:
    said = _said(chat)
    return not said or bool(_CLOSE.search(_NO_CLOSE.sub(" ", said[-1])))


def _no_exam(chat: Chatlike) -> bool:
    return not _EXAM.search(_whole(chat)) and not any(
        _LETTER_FIRST.match(text) for text in _said(chat)
    )


# Rules any chat can be held to; each is true when the chat keeps it.
FORM_RULES: dict[str, Callable[[Chatlike], bool]] = {
    "role_order": lambda chat: all(
        turn.role == ("patient", "doctor")[i % 2] for i, turn in enumerate(chat)
    ),
    "doctor_not_last": lambda chat: not chat or chat[-1].role == "doctor",
    "no_question_asked": _asks_first,
    "unsafe_close": _closes_safely,
    "mentions_exam": _no_exam,
    "speaks_as_machine": lambda chat: not _AI.search(_whole(chat)),
    "other_language": _in_english,
}
# Rules that need the question the chat grew from.
GROUND_RULES: dict[str, Callable[[Chatlike, Record], bool]] = {
    "concludes_first": lambda chat, question: not concludes_first(chat, question),
    "key_not_reached": lambda chat, question: reaches_key(" ".join(_said(chat)), question),
    "wrong_answer": lambda chat, question: not wrong_option_wins(" ".join(_said(chat)), question),
}


def problems(chat: Chatlike, question: Record, min_exchanges: int, max_exchanges: int) -> list[str]:
    """Names of the rules a chat breaks, in a fixed order; empty when it is usable.

    Of a question with three options or fewer (a research question: yes, no, maybe) no rule looks at
    what the doctor concludes.
    """
    found = [name for name, kept in FORM_RULES.items() if not kept(chat)]
    if not min_exchanges <= len(_said(chat)) <= max_exchanges:
        found.append("exchange_count")
    if (
        len(question.options) > 3
    ):  # yes, no and maybe are in every chat: words cannot tell which one won
        found += [name for name, kept in GROUND_RULES.items() if not kept(chat, question)]
    return found


def concludes_first(chat: Chatlike, question: Record) -> bool:
    """True when the doctor names an option in full before the first question, "OK?" after the
    conclusion being none.

    Options whose words the patient has just said do not count. Only a doctor who asks in the first
    turn is judged: for the others `no_question_asked` speaks.
    """
    doctor = next((place for place, turn in enumerate(chat) if turn.role == "doctor"), None)
    if doctor is None or "?" not in chat[doctor].text:
        return False
    sentences = re.split(r"(?<=[.!?])\s+", chat[doctor].text)
    first = next(place for place, sentence in enumerate(sentences) if "?" in sentence)
    said, heard = content_words(" ".join(sentences[:first])), content_words(_whole(chat[:doctor]))
    options = [content_words(option) for option in question.options]
    return any(words and words <= said and not words <= heard for words in options)


def reaches_key(said: str, question: Record) -> bool:
    """True when the doctor says at least half of the words that tell the right option from the
    others.

    A coarse rule: a right answer put in quite other words is missed. An option without words of its
    own (a number) is not judged.
    """
    options = [content_words(option) for option in question.options]
    right = options.pop(question.answer_index)
    key = (right - set().union(*options)) or right
    return not key or 2 * len(key & content_words(said)) >= len(key)


def wrong_option_wins(said: str, question: Record) -> bool:
    """True when the doctor names a wrong option in full and less than half of what tells the right
    one from it.

    A coarse rule: words, not meaning. Only words that distinguish two options count: "fracture"
    decides nothing between Smith and Colles fracture. The paraphrase of a right answer passes
    because no wrong option is named in full. A number has no words: a wrong dose is not seen. "It
    is not X but Y" is taken for naming both.
    """
    spoken = content_words(said)
    options = [content_words(option) for option in question.options]
    right = options.pop(question.answer_index)
    for wrong in options:
        only_wrong, only_right = wrong - right, right - wrong
        if (
            only_wrong
            and only_right
            and only_wrong <= spoken
            and len(only_right & spoken) < len(only_right) / 2
        ):
            return True
    return False


def chat_id(question_id: str) -> str:
    """Id of the chat made from a question."""
    return f"chat:{question_id}"


def as_record(question: Record, chat: Chat) -> Record:
    """The chat as a row; its parent is the question it grew from."""
    turns = tuple(Turn(role=turn.role, text=turn.text) for turn in chat.turns)
    return Record(id=chat_id(question.id), kind="chat", lang="en", source="chat", licence=question.licence, split=question.split,
                  turns=turns, topic=question.topic, parent_id=question.id)  # fmt: skip


def collect(
    questions: list[Record], outcomes: list[Structured], min_exchanges: int, max_exchanges: int
) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """(usable chats, {question id: (status, note)}) from the teacher's outcomes: every question
    ends in exactly one status.
    """
    chats, statuses = [], {}
    for question, (status, chat, note) in zip(questions, outcomes, strict=True):
        if chat is not None:
            broken = problems(chat.turns, question, min_exchanges, max_exchanges)
            status, note = ("rejected", ", ".join(broken)) if broken else ("ok", note)
            if not broken:
                chats.append(as_record(question, chat))
        statuses[question.id] = (status, note)
    return chats, statuses
