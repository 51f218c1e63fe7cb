"""A language model as judge, through the teacher: its store, limits and recordings.

Pairs are asked in both orders. A verdict counts only when it survives the swap, else it is
`position_dependent`: judges have a position bias (Zheng et al. 2023, arXiv 2306.05685). The rubric
gives 1 to 5 on four dimensions. An answer that cannot be parsed is an outcome, not a gap.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.statistics import wilson
from ...core.text import digest
from ...teacher import engine
from ...teacher.requests import Prompt, Request
from ...teacher.settings import Teacher
from ...teacher.store import Answer
from ..score_tables import Table, make_table, outcome_table, share_with_wilson
from .base import open_ended_data

PAIR_PROMPT, RUBRIC_PROMPT = Prompt("judge_pair", "v2"), Prompt("judge_rubric", "v1")
DIMENSIONS = ("helpfulness", "correctness", "safety", "language")
PAIR_OUTCOMES = ("first", "second", "tie", "position_dependent", "unusable")
_Ask = Callable[..., dict[str, Answer]]


class PairAnswer(BaseModel):
    """The judge's answer on a pair."""

    model_config = ConfigDict(extra="forbid")
    reason: str
    winner: Literal["A", "B", "tie"]


class RubricAnswer(BaseModel):
    """The judge's grades."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: str
    helpfulness: int = Field(ge=1, le=5)
    correctness: int = Field(ge=1, le=5)
    safety: int = Field(ge=1, le=5)
    language: int = Field(ge=1, le=5)


SCHEMAS: dict[str, type[BaseModel]] = {
    PAIR_PROMPT.stage: PairAnswer,
    RUBRIC_PROMPT.stage: RubricAnswer,
}
BLANKS: dict[str, dict] = {
    PAIR_PROMPT.stage: {"reason": "", "winner": ""},
    RUBRIC_PROMPT.stage: {"reason": "", **dict.fromkeys(DIMENSIONS, None)},
}


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one question. `known` is the better one where it is known by construction
    ("first", "second"), else "".
    """

    id: str
    lang: str
    question: str
    first: str
    second: str
    known: str = ""
    kind: str = ""

    @property
    def text_hash(self) -> str:
        """Names the texts judged: a person's verdict on other texts is none on these."""
        return digest([self.question, self.first, self.second])


@dataclass(frozen=True)
class PairVerdict:
    """One of `PAIR_OUTCOMES`. `raw` are the winners named in the two orders (A first, then B
    first), or the status that stands instead.
    """

    pair: AnswerPair
    outcome: str
    raw: tuple[str, str]
    reason: str

    @property
    def as_known(self) -> bool:
        """Names the answer that is better by construction."""
        return bool(self.pair.known) and self.outcome == self.pair.known


@dataclass(frozen=True)
class GradedAnswer:
    """Grades of one answer by dimension, or None and the status."""

    id: str
    lang: str
    status: str
    grades: dict[str, int] | None


def pair_requests(pair: AnswerPair, teacher: Teacher) -> list[Request]:
    """Both orders, `<id>:ab` and `<id>:ba`."""
    words = {"language": open_ended_data(pair.lang)["judge_name"], "question": pair.question}
    requests = []
    for order, first, second in (("ab", pair.first, pair.second), ("ba", pair.second, pair.first)):
        text = PAIR_PROMPT.fill(first=first, second=second, **words)
        row_id = f"{pair.id}:{order}"
        requests.append(teacher.request(PAIR_PROMPT.stage, row_id, PAIR_PROMPT.tag, text))
    return requests


def judge_pairs(
    pairs: Sequence[AnswerPair], teacher: Teacher, ask: _Ask = engine.ask
) -> list[PairVerdict]:
    """Ask both orders of every pair. Raises `TeacherError` as the teacher does."""
    requests = [request for pair in pairs for request in pair_requests(pair, teacher)]
    answers = engine.ask_structured(teacher, requests, lambda _: PairAnswer, ask)
    verdicts = []
    for number, pair in enumerate(pairs):
        both = answers[2 * number : 2 * number + 2]
        raw = tuple(value.winner if value else status for status, value, _ in both)
        unread = "; ".join(note for _, value, note in both if not value)
        if not all(value for _, value, _ in both):
            verdicts.append(PairVerdict(pair, "unusable", raw, unread))
            continue
        first = {"A": "first", "B": "second", "tie": "tie"}[raw[0]]
        second = {"A": "second", "B": "first", "tie": "tie"}[raw[1]]
        outcome = first if first == second else "position_dependent"
        verdicts.append(PairVerdict(pair, outcome, raw, both[0][1].reason))
    return verdicts


def rubric_request(row_id: str, lang: str, question: str, text: str, teacher: Teacher) -> Request:
    """One answer to be graded."""
    name = open_ended_data(lang)["judge_name"]
    filled = RUBRIC_PROMPT.fill(language=name, question=question, answer=text)
    return teacher.request(RUBRIC_PROMPT.stage, row_id, RUBRIC_PROMPT.tag, filled)


def grade_answers(
    rows: Sequence[tuple[str, str, str, str]], teacher: Teacher, ask: _Ask = engine.ask
) -> list[GradedAnswer]:
    """Grade answers: `rows` are (id, language, question, answer). Raises `TeacherError` as the
    teacher does.
    """
    requests = [rubric_request(*row, teacher) for row in rows]
    answers = engine.ask_structured(teacher, requests, lambda _: RubricAnswer, ask)
    graded = []
    for (row_id, lang, _, _), (status, value, _) in zip(rows, answers, strict=True):
        grades = {name: getattr(value, name) for name in DIMENSIONS} if value else None
        graded.append(GradedAnswer(row_id, lang, status, grades))
    return graded


def both_sides(pairs: Iterable[AnswerPair]) -> list[tuple[str, str, str, str]]:
    """The two answers of each pair as rows for `grade_answers`: ids end in `:first`, `:second`."""
    return [
        (f"{p.id}:{side}", p.lang, p.question, getattr(p, side))
        for p in pairs
        for side in ("first", "second")
    ]


def pair_table(verdicts: Sequence[PairVerdict]) -> Table:
    """One row for each kind and language and one for all.

    The share as known is of **all** pairs: position-dependent, tied and unusable ones count as
    wrong.
    """
    groups: dict[tuple, list[PairVerdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.pair.kind, verdict.pair.lang), []).append(verdict)
    groups["all", "both"] = list(verdicts)
    return outcome_table(groups, "kind, language", PAIR_OUTCOMES, {"as_known": "as known"})


def judge_agreement(verdicts: Sequence[PairVerdict]) -> dict[str, tuple[int, int, float, float]]:
    """(as known, n, low, high; Wilson, 95 %) over all pairs whose better answer is known, and over
    those with a verdict that survived.
    """
    known = [v for v in verdicts if v.pair.known]
    firm = [v for v in known if v.outcome in ("first", "second", "tie")]
    found = {}
    for name, rows in (("all pairs", known), ("verdicts that survived the swap", firm)):
        hits = sum(v.as_known for v in rows)
        found[name] = (hits, len(rows), *wilson(hits, len(rows)))
    return found


def agreement_table(verdicts: Sequence[PairVerdict]) -> Table:
    """`judge_agreement` as a table."""
    rows = [
        (name, hits, n, *share_with_wilson(hits, n))
        for name, (hits, n, _, _) in judge_agreement(verdicts).items()
    ]
    return make_table(rows, "of, as known, n, share, 95 % (Wilson)")


def judge_position_bias(verdicts: Iterable[PairVerdict]) -> dict[str, int]:
    """Of the position-dependent verdicts: how many named A in both orders, B in both, or a tie in
    one only.
    """
    counts = Counter(v.raw for v in verdicts if v.outcome == "position_dependent")
    same = {"always A": counts["A", "A"], "always B": counts["B", "B"]}
    return {**same, "tie in one order": counts.total() - sum(same.values())}


def unusable_statuses(verdicts: Iterable[PairVerdict]) -> Counter[str]:
    """Why orders gave no verdict: parse_failed, refused, truncated, held, failed."""
    statuses = (status for v in verdicts if v.outcome == "unusable" for status in v.raw)
    return Counter(status for status in statuses if status not in ("A", "B", "tie"))


def rubric_table(
    pairs: Sequence[AnswerPair], graded: Sequence[GradedAnswer], dimensions: Mapping[str, str]
) -> Table:
    """For each kind: is the good answer graded above the worse one on the dimension that the damage
    touches (`dimensions`: kind -> dimension)?

    Pairs with a side that was not graded are `unusable`, and count as not above.
    """
    by_id, lines = {g.id: g.grades for g in graded}, []
    for kind, dimension in dimensions.items():
        own = [p for p in pairs if p.kind == kind]
        read = []
        for pair in own:
            worse = "second" if pair.known == "first" else "first"
            good, bad = by_id[f"{pair.id}:{pair.known}"], by_id[f"{pair.id}:{worse}"]
            if good and bad:
                read.append((good[dimension], bad[dimension]))
        columns = zip(*read, strict=True)
        means = [f"{sum(values) / len(read):.2f}" for values in columns] or ["not found"] * 2
        shown = share_with_wilson(sum(a > b for a, b in read), len(own))
        lines.append((kind, dimension, len(own), len(own) - len(read), *means, *shown))
    columns = "kind, dimension, n, unusable, mean of the good answer, mean of the worse answer"
    return make_table(lines, f"{columns}, good above worse, 95 % (Wilson)")
