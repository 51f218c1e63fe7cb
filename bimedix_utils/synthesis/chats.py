"""Doctor-patient chats from multiple-choice questions: the plan, the request, the outcome.

No source we could read states the paper's prompt, model version, filters or number of turns;
everything here is this kit's own choice.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..core.files import read_utf8
from ..core.records import LABELS, Record, Turn
from ..core.shingles import near_duplicates
from ..core.text import digest
from ..sources.composition import paper_component, paper_composition
from ..teacher.engine import Structured
from ..teacher.requests import Prompt, Request
from ..teacher.settings import Teacher
from .chat_rules import ChatTurn, broken_rules

CHAT_STAGE = "synthesize_chat"
CHAT_PROMPT = Prompt(CHAT_STAGE, "v2")


class Chat(BaseModel):
    """The teacher's answer."""

    model_config = ConfigDict(extra="forbid")
    turns: list[ChatTurn] = Field(min_length=1)


@dataclass(frozen=True)
class ChatPlan:
    """What is drawn for one chat, so that a thousand chats do not sound alike."""

    persona: str
    age: str
    register: str
    opening: str
    red_flag: bool


@cache
def chat_plan_parts() -> dict[str, Any]:
    """What a plan is drawn from: `chat_plans.yaml`."""
    import yaml

    return yaml.safe_load(read_utf8(Path(__file__).with_name("chat_plans.yaml")))


def plan_chat(question_id: str, seed: int) -> ChatPlan:
    """The plan of a question's chat: a function of seed and id, whatever other rows there are."""
    parts, draw = chat_plan_parts(), random.Random(f"{seed}:{question_id}")
    persona = draw.choice(list(parts["personas"]))
    age = draw.choice(parts["personas"][persona])
    register, opening = draw.choice(parts["registers"]), draw.choice(parts["openings"])
    return ChatPlan(persona, age, register, opening, draw.randrange(parts["red_flag_share"]) == 0)


def seed_questions(questions: Iterable[Record], count: int, seed: int) -> list[Record]:
    """The first `count` English training questions in the order of a seeded hash."""
    usable = [
        r for r in questions if (r.kind, r.lang, r.split, r.status) == ("mcqa", "en", "train", "ok")
    ]
    return sorted(usable, key=lambda r: digest(f"chat:{seed}:{r.id}"))[:count]


def chat_requests(
    questions: Iterable[Record], teacher: Teacher, min_exchanges: int, max_exchanges: int, seed: int
) -> list[Request]:
    """One request for each question."""
    parts, result = chat_plan_parts(), []
    for record in questions:
        plan = plan_chat(record.id, seed)
        lettered = zip(LABELS, record.options, strict=False)
        text = CHAT_PROMPT.fill(
            min_exchanges=str(min_exchanges),
            max_exchanges=str(max_exchanges),
            persona=plan.persona,
            age=plan.age,
            register=plan.register,
            opening=plan.opening,
            red_flag=parts["red_flag" if plan.red_flag else "no_red_flag"],
            context=f"Context: {record.context}\n" if record.context else "",
            question=record.question,
            options=" ".join(f"{letter}. {option}" for letter, option in lettered),
            answer=record.options[record.answer_index],
            explanation=record.answer or "none given",
        )
        result.append(teacher.request(CHAT_STAGE, record.id, CHAT_PROMPT.tag, text))
    return result


def chat_id(question_id: str) -> str:
    """Id of the chat made from a question."""
    return f"chat:{question_id}"


def chat_record(question: Record, chat: Chat) -> Record:
    """The chat as a row; its parent is the question it comes from."""
    return Record(
        id=chat_id(question.id),
        kind="chat",
        lang="en",
        source="chat",
        licence=question.licence,
        split=question.split,
        turns=tuple(Turn(role=turn.role, text=turn.text) for turn in chat.turns),
        topic=question.topic,
        parent_id=question.id,
    )


def collect_chats(
    questions: list[Record], outcomes: list[Structured], min_exchanges: int, max_exchanges: int
) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """(usable chats, {question id: (status, note)}): each question ends in exactly one status."""
    chats, statuses = [], {}
    for question, (status, chat, note) in zip(questions, outcomes, strict=True):
        if chat is not None:
            broken = broken_rules(chat.turns, question, min_exchanges, max_exchanges)
            status, note = ("rejected", ", ".join(broken)) if broken else ("ok", note)
            if not broken:
                chats.append(chat_record(question, chat))
        statuses[question.id] = (status, note)
    return chats, statuses


def similar_chats(chats: Iterable[Record], similarity: float, kept: int) -> dict[str, str]:
    """{id: id of the chat it resembles} of the chats beyond `kept` that share their n-grams."""
    texts = [(chat.id, " ".join(turn.text for turn in chat.turns)) for chat in chats]
    return {row_id: other for row_id, other in near_duplicates(texts, similarity, kept) if other}


def chats_beside_paper(
    questions: Iterable[Record], chats: Iterable[Record], table: Path
) -> list[tuple[str, str, int | str, int]]:
    """(component, rows of the authors' table, questions asked, chats made), English parts only."""
    questions, chats = list(questions), list(chats)
    seeds = {record.id: paper_component(record.source, record.kind) for record in questions}
    stated = {part.name: part.rows for part in paper_composition(table) if part.lang == "en"}
    rows: list[tuple[str, str, int | str, int]] = []
    for name in ("PubMedQA", "MedMCQA", "MedQA"):
        asked = sum(component == name for component in seeds.values())
        made = sum(seeds[chat.parent_id] == name for chat in chats)
        rows.append((name, f"{stated[name]:,}", asked, made))
    name = "Multi-turn conversation"
    return [*rows, (name, f"{stated[name]:,}", "-", len(chats))]
