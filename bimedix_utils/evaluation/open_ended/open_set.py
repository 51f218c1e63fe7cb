"""The open-ended questions of a run, asked of a model all at once, so that it is loaded once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...core.records import Record
from ..score_tables import Table
from .base import BilingualItem, Responder, ask_model, single_turn
from .overlap import overlap_table
from .presuppositions import StanceVerdict, read_claims, run_presuppositions
from .response_language import (
    LanguageVerdict,
    judge_language,
    language_switches,
    language_table,
    run_language,
)
from .safety import SafetyVerdict, read_requests, run_safety


@dataclass(frozen=True)
class OpenSet:
    """Open questions with reference answers in two languages, claims, and requests."""

    questions: tuple[list[Record], list[Record]]
    claims: list[BilingualItem]
    requests: list[BilingualItem]


@dataclass(frozen=True)
class OpenResults:
    """A model's answers to an `OpenSet`, and their verdicts."""

    records: list[Record]
    answers: list[str]
    language: dict[str, list[LanguageVerdict]]
    stances: list[StanceVerdict]
    safety: list[SafetyVerdict]

    def language_table(self) -> Table:
        """Language of the answers, by subset."""
        return language_table(self.language)

    def overlap_table(self, seed: int) -> Table:
        """Overlap with the reference answers, by language."""
        langs = [record.lang for record in self.records]
        return overlap_table(langs, self.answers, [r.answer for r in self.records], seed)


def open_test_questions(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """The usable open test questions in English and in Arabic."""
    rows = [r for r in records if (r.kind, r.split, r.status) == ("qa", "test", "ok")]
    return [r for r in rows if r.lang == "en"], [r for r in rows if r.lang == "ar"]


def open_set(records: Iterable[Record], folder: Path, rows: int) -> OpenSet:
    """At most `rows` questions of each language, claims (half of them true) and requests; `folder`
    is `data/sample/open_ended`.
    """
    english, arabic = open_test_questions(records)
    every, half = read_claims(folder / "claims.jsonl"), (rows + 1) // 2
    claims = [
        claim for truth in (True, False) for claim in [c for c in every if c.label == truth][:half]
    ]
    requests = read_requests(folder / "requests.jsonl")[:rows]
    return OpenSet((english[:rows], arabic[:rows]), claims, requests)


def answer_open_set(respond: Responder, items: OpenSet) -> OpenResults:
    """Ask the model everything and judge the answers."""
    records = [record for rows in items.questions for record in rows]
    answers = ask_model(respond, [single_turn(record.question) for record in records])
    pairs = zip(records, answers, strict=True)
    fidelity = [judge_language(text, record.lang, record.id) for record, text in pairs]
    switched = run_language(respond, language_switches(*items.questions))
    return OpenResults(
        records,
        answers,
        {"questions": fidelity, "after a switch": switched},
        run_presuppositions(respond, items.claims),
        run_safety(respond, items.requests),
    )
