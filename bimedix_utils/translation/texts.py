"""The texts of a record: what the teacher translates, what checks compare, what reviewers edit."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, create_model

from ..core.language import Language
from ..core.records import Record, Turn
from ..core.text import digest, nfc
from .checks import Flag, TextPair

_STRICT = ConfigDict(extra="forbid")


def text_fields(record: Record) -> dict:
    """The translatable values of a record, under the keys the teacher sees.

    Ids, keys and origins stay behind.
    """
    if record.kind == "chat":
        return {"turns": [{"role": turn.role, "text": turn.text} for turn in record.turns]}
    values = {
        "context": record.context,
        "question": record.question,
        "options": list(record.options),
        "answer": record.answer,
    }
    return {key: value for key, value in values.items() if value}


def named_texts(values: dict) -> list[tuple[str, str]]:
    """(part name, text) of a row's values, in order: `question`, `option 1`, `turn 1 patient`."""
    result: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, str):
            result.append((key, value))
            continue
        for number, item in enumerate(value, start=1):
            if key == "turns":
                result.append((f"turn {number} {item['role']}", item["text"]))
            else:
                result.append((f"{key.removesuffix('s')} {number}", item))
    return result


def flat_texts(values: dict) -> list[str]:
    """The texts of `text_fields`, flat and in order: what the checks compare one by one."""
    return [text for _, text in named_texts(values)]


def text_pair(source: dict, values: dict, language: Language) -> TextPair:
    """A source and its translation as the checks read them."""
    names = tuple(name for name, _ in named_texts(source))
    return TextPair(flat_texts(source), flat_texts(values), language, names)


def role_flags(source: dict, values: dict) -> list[Flag]:
    """A flag when a chat's speakers are not those of the source, turn by turn."""
    before, after = ([turn["role"] for turn in part.get("turns", [])] for part in (source, values))
    if before == after:
        return []
    return [Flag("roles", "reject", f"speakers {' '.join(after)}; expected {' '.join(before)}")]


class _TurnAnswer(BaseModel):
    model_config = _STRICT
    role: Literal["patient", "doctor"]
    text: str


def answer_model(values: dict) -> type[BaseModel]:
    """A pydantic model that accepts exactly the keys of `values`.

    Counts are left to the checks, which can say what is wrong.
    """
    types = {"options": list[str], "turns": list[_TurnAnswer]}
    keys = {key: (types.get(key, str), ...) for key in values}
    return create_model("Translation", __config__=_STRICT, **keys)


def translated_record(
    record: Record, values: dict, target: str, status: str = "ok", note: str = ""
) -> Record:
    """The record in the target language, child of `record`: same kind, key, split and licence."""
    texts = {key: nfc(values[key]) for key in ("context", "question", "answer") if key in values}
    if "turns" in values:
        turns = ((turn["role"], nfc(turn["text"])) for turn in values["turns"])
        texts["turns"] = tuple(Turn(role=role, text=text) for role, text in turns)
    if "options" in values:
        texts["options"] = tuple(nfc(option) for option in values["options"])
    row_id = f"{record.id}:{target}"
    return record.replace(
        id=row_id, lang=target, parent_id=record.id, status=status, note=note, **texts
    )


def text_hash(values: dict) -> str:
    """Names the text a reviewer saw: a changed text voids an old decision."""
    return digest(values, 16)
