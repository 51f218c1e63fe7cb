"""English to Arabic in rounds over a state table: translate, check, score, refine; the best version
is kept, never just the last.

The pipeline's shape is the paper's (its figure); threshold, number of rounds, prompts and the
teacher's version were not found, so they are parameters. A row's state is data: a killed run starts
again from the answer store and asks nothing twice.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..core.records import Record, Turn
from ..core.text import digest, nfc
from ..teacher import engine
from ..teacher.requests import Prompt, Request
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .checks import Flag, Language, Pair, whole
from .checks import load_language as load_language
from .checks.stream import stream

Asker = Callable[
    [Teacher, list[Request]], dict[str, Answer]
]  # `engine.ask`, or something that watches it

PROMPTS = {stage: Prompt(stage, "v1") for stage in ("translate", "score", "refine")}
_RANK = {"reject": 2, "human": 1, "note": 0}


class ErrorSpan(BaseModel):
    """One error the scorer found."""

    model_config = ConfigDict(extra="ignore")
    category: Literal[
        "accuracy", "terminology", "omission", "addition", "number_unit", "negation", "fluency"
    ]
    severity: Literal["minor", "major", "critical"]
    source: str = ""
    target: str = ""
    explanation: str = ""


class Score(BaseModel):
    """The scorer's answer: error spans first, then 0-100."""

    model_config = ConfigDict(extra="forbid")
    errors: list[ErrorSpan]
    score: int = Field(ge=0, le=100)


def wanted(records: Iterable[Record], count: int = 0, seed: int = 0) -> list[Record]:
    """The usable English training rows, in order: what is translated. Test rows wait for a stricter
    policy.

    With a `count` only that many, drawn by a seeded hash.
    """
    rows = [r for r in records if r.lang == "en" and r.status == "ok" and r.split == "train"]
    if not count:
        return rows
    drawn = {r.id for r in sorted(rows, key=lambda r: digest(f"translate:{seed}:{r.id}"))[:count]}
    return [r for r in rows if r.id in drawn]


def fields(record: Record) -> dict:
    """The translatable values of a record, under the keys the teacher sees. Ids, keys and origins
    stay behind.
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


def parts(values: dict) -> list[str]:
    """The texts of `fields`, flat and in order: what the checks compare one by one."""
    flat: list[str] = []
    for value in values.values():
        flat += (
            [value]
            if isinstance(value, str)
            else [item["text"] if isinstance(item, dict) else item for item in value]
        )
    return flat


def named(values: dict) -> list[tuple[str, str]]:
    """(part name, text) of a row's values, in order: `question`, `option 1`, `answer`, `turn 1
    patient`.
    """
    result: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, str):
            result.append((key, value))
        elif key == "turns":
            result += [
                (f"turn {number} {turn['role']}", turn["text"])
                for number, turn in enumerate(value, start=1)
            ]
        else:
            result += [
                (f"{key.removesuffix('s')} {number}", text)
                for number, text in enumerate(value, start=1)
            ]
    return result


def pair(source: dict, values: dict, language: Language) -> Pair:
    """What the checks read."""
    return Pair(parts(source), parts(values), language, tuple(name for name, _ in named(source)))


def same_roles(source: dict, values: dict) -> list[Flag]:
    """A flag when a chat's speakers are not those of the source, turn by turn."""
    before, after = ([turn["role"] for turn in part.get("turns", [])] for part in (source, values))
    return (
        []
        if before == after
        else [Flag("roles", "reject", f"speakers {' '.join(after)}; wanted {' '.join(before)}")]
    )


def answer_schema(values: dict) -> type[BaseModel]:
    """A schema that accepts exactly the keys of `values`; counts are left to the checks, which can
    say what is wrong.
    """

    class Part(BaseModel):
        model_config = ConfigDict(extra="forbid")
        role: Literal["patient", "doctor"]
        text: str

    types = {"options": list[str], "turns": list[Part]}
    return create_model(
        "Translation",
        __config__=ConfigDict(extra="forbid"),
        **{key: (types.get(key, str), ...) for key in values},
    )


@dataclass
class Version:
    """One candidate translation with what was found about it. `score` is None until it is scored."""

    round: int
    values: dict
    flags: list[Flag]
    score: int | None = None
    errors: list[ErrorSpan] = field(default_factory=list)

    def quality(self) -> tuple[int, int, int]:
        """Sorts versions: the fewest severe flags first, then the score; of equals the earlier one."""
        worst = max((_RANK[flag.severity] for flag in self.flags), default=0)
        return -worst, self.score if self.score is not None else -1, -self.round


@dataclass
class State:
    """One row on its way: pending -> translated -> checked -> scored -> refine | accept | human, or
    how its first answer ended.
    """

    record: Record
    state: str = "pending"
    note: str = ""
    versions: list[Version] = field(default_factory=list)
    target: str = "ar"

    @property
    def best(self) -> Version | None:
        """The best version so far."""
        return max(self.versions, key=Version.quality, default=None)

    def row(self) -> dict:
        """The state as plain data, as `states.jsonl` keeps it."""
        version = self.best
        best = version and {
            "values": version.values, "round": version.round, "score": version.score, "text_hash": text_hash(version.values),
            "flags": [f"{flag.check}: {flag.reason}" for flag in version.flags], "stops": any(flag.stops for flag in version.flags),
            "errors": [error.model_dump() for error in version.errors],
        }  # fmt: skip
        return {
            "id": self.record.id, "state": self.state, "note": self.note, "rounds": len(self.versions), "record": self.record.model_dump(),
            "target": self.target, "best": best,
        }  # fmt: skip


def compact(values: dict) -> str:
    """The JSON a prompt shows."""
    return json.dumps(values, ensure_ascii=False)


def recorded_as(row_id: str, language: Language) -> str:
    """The row id a request carries: each further target language has recordings of its own."""
    return row_id if language.code == "ar" else f"{row_id}:{language.code}"


def _texts(record: Record, language: Language) -> dict[str, str]:
    return {
        "source_language": load_language(record.lang).name,
        "target_language": language.name,
        "fields": compact(fields(record)),
    }


def _request(state: State, stage: str, round: int, teacher: Teacher, language: Language) -> Request:
    texts = _texts(state.record, language)
    if stage != "translate":
        last = state.versions[-1]
        texts["candidate"] = compact(last.values)
        found = [error.model_dump() for error in last.errors] + [
            {"check": f.check, "explanation": f.reason} for f in last.flags if f.stops
        ]
        texts["errors"] = json.dumps(found, ensure_ascii=False)
    row_id = recorded_as(state.record.id, language)
    return teacher.request(
        stage, row_id, PROMPTS[stage].tag, PROMPTS[stage].fill(**texts), round=round
    )


def first_requests(records: list[Record], teacher: Teacher, language: Language) -> list[Request]:
    """The requests of the first round: what an estimate can be made of before anything is sent."""
    return [_request(State(record), "translate", 0, teacher, language) for record in records]


def score_request(
    item_id: str, record: Record, values: dict, teacher: Teacher, language: Language
) -> Request:
    """The scorer's question about one candidate: the same prompt the rounds use."""
    texts = {**_texts(record, language), "candidate": compact(values)}
    return teacher.request("score", item_id, PROMPTS["score"].tag, PROMPTS["score"].fill(**texts))


def schema(record: Record, stage: str) -> type[BaseModel]:
    """What the teacher's answer about a record must be in one stage."""
    return Score if stage == "score" else answer_schema(fields(record))


def _ask(
    states: list[State], stage: str, round: int, teacher: Teacher, language: Language, ask: Asker
) -> list[tuple[State, str, BaseModel | None, str]]:
    requests = [_request(state, stage, round, teacher, language) for state in states]
    schemas = {
        request.id: schema(state.record, stage)
        for state, request in zip(states, requests, strict=True)
    }
    outcomes = engine.ask_structured(teacher, requests, lambda request: schemas[request.id], ask)
    return [(state, *outcome) for state, outcome in zip(states, outcomes, strict=True)]


def _waits(status: str, note: str) -> bool:
    """True when the next run asks again (a batch under way, a budget spent, an endpoint down):
    nobody need review the row meanwhile.
    """
    return status in ("held", "failed") and not note.startswith("no recording")


def _tidy(values: Any) -> Any:
    """Every text of an answer in Unicode NFC on one line: what is hashed, checked and reviewed is
    what is stored.
    """
    if isinstance(values, dict):
        return {key: _tidy(value) for key, value in values.items()}
    return [_tidy(value) for value in values] if isinstance(values, list) else nfc(values)


def _translate(
    states: list[State], round: int, teacher: Teacher, language: Language, ask: Asker
) -> None:
    """pending | refine -> translated: a new version of each row, or the end of its way."""
    stage = "translate" if round == 0 else "refine"
    for state, status, value, note in _ask(states, stage, round, teacher, language, ask):
        if value is not None:
            state.versions.append(Version(round, _tidy(value.model_dump()), []))
            state.state = "translated"
        elif round == 0 or _waits(status, note):
            state.state, state.note = status, note
        # a failed refinement leaves the versions made so far: a person decides on the best of them
        else:
            state.state, state.note = "human", f"refinement {status}"


def _check(table: list[State], language: Language, strict: bool) -> None:
    """translated -> checked: every check on the new versions; whether one text stands for two
    sources is asked of all rows together.
    """
    new = [state for state in table if state.state == "translated"]
    pairs = {
        state.record.id: pair(fields(state.record), state.versions[-1].values, language)
        for state in table
        if state.versions
    }
    repeated = whole.repeats(pairs.items())
    inadequate, _ = whole.adequacy((state.record.id, pairs[state.record.id]) for state in new)
    moved = (
        whole.option_order((state.record.id, pairs[state.record.id]) for state in new)
        if strict
        else {}
    )
    texts = (
        (row_id, pairs[row_id].source, pairs[row_id].candidate, pairs[row_id].names)
        for row_id in (state.record.id for state in new)
    )
    for state, (row_id, flags) in zip(new, stream(texts, language), strict=True):
        values = state.versions[-1].values
        flags = (
            same_roles(fields(state.record), values)
            + flags
            + repeated.get(row_id, [])
            + inadequate.get(row_id, [])
            + moved.get(row_id, [])
        )
        state.versions[-1].flags, state.state = flags, "checked"


def _score(
    table: list[State], round: int, teacher: Teacher, language: Language, ask: Asker
) -> None:
    """checked -> scored, or to a person when no score can be had."""
    checked = [state for state in table if state.state == "checked"]
    for state, status, value, note in _ask(checked, "score", round, teacher, language, ask):
        if value is None:
            state.state, state.note = (
                (status, note) if _waits(status, note) else ("human", f"score {status}: {note}")
            )
        else:
            state.versions[-1].score, state.versions[-1].errors, state.state = (
                value.score,
                value.errors,
                "scored",
            )


def run_rounds(
    records: list[Record],
    teacher: Teacher,
    threshold: int,
    rounds: int,
    language: Language,
    ask: Asker = engine.ask,
    strict: bool = False,
) -> list[State]:
    """Translate every record: one translation, then up to `rounds` refinements of what is not good
    enough.

    A version is accepted when no check stops it and its score is at least `threshold`. A row whose
    best version is not goes to a human; one whose very first answer failed ends in that answer's
    status. Order of the result = order of `records`. `strict` is for test sets: it also asks the
    encoder whether every option stands in its place.
    """
    table = [State(record, target=language.code) for record in records]
    for round in range(rounds + 1):
        _translate(
            [state for state in table if state.state == ("refine" if round else "pending")],
            round,
            teacher,
            language,
            ask,
        )
        _check(table, language, strict)
        _score(table, round, teacher, language, ask)
        for state in table:
            if state.state == "scored":
                version = state.versions[-1]
                if not any(flag.stops for flag in version.flags) and version.score >= threshold:
                    state.state = "accept"
                else:
                    state.state, state.note = (
                        ("refine", "")
                        if round < rounds
                        else ("human", reason(state.best, threshold))
                    )
    return table


def reason(version: Version, threshold: int) -> str:
    """Why a version is not accepted, in words."""
    flags = "; ".join(f"{flag.check}: {flag.reason}" for flag in version.flags if flag.stops)
    return flags or f"score {version.score} is below {threshold}"


def apply(record: Record, values: dict, target: str, status: str = "ok", note: str = "") -> Record:
    """The record in the target language: same kind, key, split and licence; the English one is its
    parent.
    """
    changes: dict = (
        {"turns": tuple(Turn(role=t["role"], text=nfc(t["text"])) for t in values["turns"])}
        if "turns" in values
        else {}
    )
    changes |= {key: nfc(values[key]) for key in ("context", "question", "answer") if key in values}
    if "options" in values:
        changes["options"] = tuple(nfc(option) for option in values["options"])
    return record.replace(
        id=f"{record.id}:{target}",
        lang=target,
        parent_id=record.id,
        status=status,
        note=note,
        **changes,
    )


def text_hash(values: dict) -> str:
    """Names the text a reviewer saw: a changed text voids an old decision."""
    return digest(values, 16)
