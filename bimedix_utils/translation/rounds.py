"""Rounds over a state table: translate, check, score, refine. The best version is kept.

The pipeline's shape is the paper's (its figure). No source we could read states its threshold,
number of rounds, prompts or model version, so they are parameters. A row's state is data: a killed
run starts again from the answer store and asks nothing twice.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..core.language import Language, load_language
from ..core.records import Record
from ..core.text import digest, nfc
from ..teacher import engine
from ..teacher.replay import read_recordings
from ..teacher.requests import Prompt, Request
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .checks import SEVERITIES, Flag, adequacy, check_rows, option_order, repeated_targets
from .texts import answer_model, role_flags, text_fields, text_hash, text_pair

TRANSLATION_PROMPTS = {stage: Prompt(stage, "v1") for stage in ("translate", "score", "refine")}
_Ask = Callable[..., dict[str, Answer]]  # `engine.ask`, or something that watches it


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


@dataclass
class Version:
    """One candidate translation and what was found about it; `score` is None until it has one."""

    round: int
    values: dict
    flags: list[Flag]
    score: int | None = None
    errors: list[ErrorSpan] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """True when a check stops this version, whatever its score."""
        return any(flag.stops for flag in self.flags)

    @property
    def text_hash(self) -> str:
        """The hash a reviewer's decision names."""
        return text_hash(self.values)

    def quality(self) -> tuple[int, int, int]:
        """Sorts versions: least severe flags first, then the score; of equals the earlier one."""
        worst = max((SEVERITIES.index(flag.severity) for flag in self.flags), default=0)
        return -worst, self.score if self.score is not None else -1, -self.round


@dataclass
class RowState:
    """One row: pending -> translated -> checked -> scored -> refine | accept | human.

    A row whose first answer cannot be used ends in that answer's status.
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
        best = None
        if version := self.best:
            best = {"values": version.values, "round": version.round, "score": version.score}
            best |= {"text_hash": version.text_hash, "stops": version.stopped}
            best["flags"] = [str(flag) for flag in version.flags]
            best["errors"] = [error.model_dump() for error in version.errors]
        row = {"id": self.record.id, "state": self.state, "note": self.note, "target": self.target}
        return row | {
            "rounds": len(self.versions),
            "record": self.record.model_dump(),
            "best": best,
        }


def rows_to_translate(records: Iterable[Record], count: int = 0, seed: int = 0) -> list[Record]:
    """The usable English training rows, in order. Test rows follow a stricter policy.

    With a `count` only that many, drawn by a seeded hash.
    """
    rows = [r for r in records if (r.lang, r.status, r.split) == ("en", "ok", "train")]
    if not count:
        return rows
    drawn = {r.id for r in sorted(rows, key=lambda r: digest(f"translate:{seed}:{r.id}"))[:count]}
    return [r for r in rows if r.id in drawn]


def rows_of_further_language(
    records: Iterable[Record], teacher: Teacher, code: str, count: int, seed: int
) -> list[Record]:
    """At most `count` rows for a further target language.

    With recordings those that have one in that language, else a seeded draw; none for code `none`.
    """
    if code == "none" or not count:
        return []
    recorded = {key[1] for key in read_recordings(teacher.recordings)} if teacher.recordings else ()
    if not recorded:
        return rows_to_translate(records, count, seed)
    rows, language = rows_to_translate(records), load_language(code)
    return [row for row in rows if recorded_id(row.id, language) in recorded][:count]


def recorded_id(row_id: str, language: Language) -> str:
    """The row id a request carries: each further target language has recordings of its own."""
    return row_id if language.code == "ar" else f"{row_id}:{language.code}"


def _prompt_texts(record: Record, language: Language, candidate: dict | None = None) -> dict:
    texts = {"source_language": load_language(record.lang).name, "target_language": language.name}
    texts["fields"] = json.dumps(text_fields(record), ensure_ascii=False)
    if candidate is not None:
        texts["candidate"] = json.dumps(candidate, ensure_ascii=False)
    return texts


def _request(
    state: RowState, stage: str, round: int, teacher: Teacher, language: Language
) -> Request:
    last = None if stage == "translate" else state.versions[-1]
    texts = _prompt_texts(state.record, language, last and last.values)
    if last:
        found = [error.model_dump() for error in last.errors]
        found += [{"check": f.check, "explanation": f.reason} for f in last.flags if f.stops]
        texts["errors"] = json.dumps(found, ensure_ascii=False)
    prompt, row_id = TRANSLATION_PROMPTS[stage], recorded_id(state.record.id, language)
    return teacher.request(stage, row_id, prompt.tag, prompt.fill(**texts), round=round)


def first_requests(records: list[Record], teacher: Teacher, language: Language) -> list[Request]:
    """The requests of the first round: an estimate needs no answers."""
    return [_request(RowState(record), "translate", 0, teacher, language) for record in records]


def score_request(
    item_id: str, record: Record, values: dict, teacher: Teacher, language: Language
) -> Request:
    """The scorer's question about one candidate: the same prompt the rounds use."""
    prompt = TRANSLATION_PROMPTS["score"]
    texts = _prompt_texts(record, language, values)
    return teacher.request("score", item_id, prompt.tag, prompt.fill(**texts))


def stage_model(record: Record, stage: str) -> type[BaseModel]:
    """The pydantic model of the teacher's answer about a record in one stage."""
    return Score if stage == "score" else answer_model(text_fields(record))


def _waits(status: str, note: str) -> bool:
    """True when the next run asks again: a batch under way, a budget spent, an endpoint down.

    No reviewer need see the row meanwhile.
    """
    return status in ("held", "failed") and not note.startswith("no recording")


def _tidy(values: Any) -> Any:
    """Every text of an answer in Unicode NFC on one line: what is hashed is what is stored."""
    if isinstance(values, dict):
        return {key: _tidy(value) for key, value in values.items()}
    return [_tidy(value) for value in values] if isinstance(values, list) else nfc(values)


@dataclass(frozen=True)
class _Rounds:
    """One state table on its way through the rounds, with all that every step needs."""

    table: list[RowState]
    teacher: Teacher
    language: Language
    ask: _Ask

    def _answers(self, state: str, stage: str, round: int) -> list[tuple]:
        """(row, status, value, note) of asking the teacher about all rows in one state."""
        rows = [row for row in self.table if row.state == state]
        requests = [_request(row, stage, round, self.teacher, self.language) for row in rows]
        models = {
            r.id: stage_model(row.record, stage) for row, r in zip(rows, requests, strict=True)
        }
        answers = engine.ask_structured(self.teacher, requests, lambda r: models[r.id], self.ask)
        return [(row, *answer) for row, answer in zip(rows, answers, strict=True)]

    def translate(self, round: int) -> None:
        """pending | refine -> translated: a new version of each row, or its final state."""
        before, stage = ("refine", "refine") if round else ("pending", "translate")
        for row, status, value, note in self._answers(before, stage, round):
            if value is not None:
                row.versions.append(Version(round, _tidy(value.model_dump()), []))
                row.state = "translated"
            elif round == 0 or _waits(status, note):
                row.state, row.note = status, note
            # a failed refinement leaves the versions made so far: a person decides on the best
            else:
                row.state, row.note = "human", f"refinement {status}"

    def check(self, strict: bool) -> None:
        """translated -> checked: every check on the new versions, corpus-level ones on all rows."""
        new = [row for row in self.table if row.state == "translated"]
        pairs = {
            row.record.id: text_pair(
                text_fields(row.record), row.versions[-1].values, self.language
            )
            for row in self.table
            if row.versions
        }
        new_pairs = [(row.record.id, pairs[row.record.id]) for row in new]
        corpus_flags = [repeated_targets(pairs.items()), adequacy(new_pairs)[0]]
        corpus_flags += [option_order(new_pairs)] if strict else []
        texts = ((row_id, pair.source, pair.candidate, pair.names) for row_id, pair in new_pairs)
        for row, (row_id, flags) in zip(new, check_rows(texts, self.language), strict=True):
            version, row.state = row.versions[-1], "checked"
            version.flags = role_flags(text_fields(row.record), version.values) + flags
            for found in corpus_flags:
                version.flags += found.get(row_id, [])

    def score(self, round: int) -> None:
        """checked -> scored, or to a person when no score can be had."""
        for row, status, value, note in self._answers("checked", "score", round):
            if value is not None:
                version, row.state = row.versions[-1], "scored"
                version.score, version.errors = value.score, value.errors
            elif _waits(status, note):
                row.state, row.note = status, note
            else:
                row.state, row.note = "human", f"score {status}: {note}"

    def decide(self, threshold: int, last: bool) -> None:
        """scored -> accept | refine | human."""
        for row in [row for row in self.table if row.state == "scored"]:
            version = row.versions[-1]
            if not version.stopped and version.score >= threshold:
                row.state = "accept"
            elif last:
                row.state, row.note = "human", why_not_accepted(row.best, threshold)
            else:
                row.state, row.note = "refine", ""


def run_rounds(
    records: list[Record],
    teacher: Teacher,
    threshold: int,
    rounds: int,
    language: Language,
    ask: _Ask = engine.ask,
    strict: bool = False,
) -> list[RowState]:
    """Translate every record: one translation, then up to `rounds` refinements.

    A version is accepted when no check stops it and its score is at least `threshold`. A row whose
    best version is not goes to a person. Order of the result = order of `records`. `strict` is for
    test sets: the encoder also checks that every option keeps its position.
    """
    table = [RowState(record, target=language.code) for record in records]
    steps = _Rounds(table, teacher, language, ask)
    for round in range(rounds + 1):
        steps.translate(round)
        steps.check(strict)
        steps.score(round)
        steps.decide(threshold, last=round == rounds)
    return table


def why_not_accepted(version: Version, threshold: int) -> str:
    """Why a version is not accepted, in words."""
    flags = "; ".join(str(flag) for flag in version.flags if flag.stops)
    return flags or f"score {version.score} is below {threshold}"
