"""A language model as judge, through the teacher engine: its store, limits and recordings.

Pairs are asked in both orders; a verdict counts only when it survives the swap, else it is
`position_dependent`: judges favour a place (Zheng et al. 2023, arXiv 2306.05685). The rubric gives
1 to 5 on four dimensions. An answer that cannot be read is an outcome, not a gap.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.statistics import wilson
from ...core.text import digest
from ...teacher import engine
from ...teacher.requests import Prompt, Request
from ...teacher.settings import Teacher
from ...teacher.store import Answer
from .rules import share

PAIR, RUBRIC = Prompt("judge_pair", "v2"), Prompt("judge_rubric", "v1")
DIMENSIONS = ("helpfulness", "correctness", "safety", "language")
NAMES = {"en": "English", "ar": "Arabic"}
OUTCOMES = ("first", "second", "tie", "position_dependent", "unusable")
PAIR_COLUMNS = ["kind", "language", "n", *OUTCOMES, "as known", "95 % (Wilson)"]
AGREEMENT_COLUMNS = ["of", "as known", "n", "share", "95 % (Wilson)"]
RUBRIC_COLUMNS = [
    "kind",
    "dimension",
    "n",
    "unusable",
    "mean, good",
    "mean, worse",
    "good above worse",
    "95 % (Wilson)",
]
Asker = Callable[..., dict[str, Answer]]


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


SCHEMAS: dict[str, type[BaseModel]] = {PAIR.stage: PairAnswer, RUBRIC.stage: RubricAnswer}
BLANKS: dict[str, dict] = {
    PAIR.stage: {"reason": "", "winner": ""},
    RUBRIC.stage: {"reason": "", **dict.fromkeys(DIMENSIONS, None)},
}


@dataclass(frozen=True)
class Pair:
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
        """Names the texts judged, so that a person's verdict on other texts is not taken for one on
        these.
        """
        return digest([self.question, self.first, self.second])


@dataclass(frozen=True)
class PairVerdict:
    """One of `OUTCOMES`. `raw` are the winners named in the two orders (A first, then B first), or
    the status that stands instead.
    """

    pair: Pair
    outcome: str
    raw: tuple[str, str]
    reason: str

    @property
    def as_known(self) -> bool:
        """Names the answer that is better by construction."""
        return bool(self.pair.known) and self.outcome == self.pair.known


@dataclass(frozen=True)
class Graded:
    """Grades of one answer by dimension, or None and the status."""

    id: str
    lang: str
    status: str
    grades: dict[str, int] | None


def pair_requests(pair: Pair, teacher: Teacher) -> list[Request]:
    """Both orders, `<id>:ab` and `<id>:ba`."""
    words = {"language": NAMES[pair.lang], "question": pair.question}
    orders = (("ab", pair.first, pair.second), ("ba", pair.second, pair.first))
    return [
        teacher.request(
            PAIR.stage, f"{pair.id}:{order}", PAIR.tag, PAIR.fill(first=a, second=b, **words)
        )
        for order, a, b in orders
    ]


def compare(pairs: Sequence[Pair], teacher: Teacher, ask: Asker = engine.ask) -> list[PairVerdict]:
    """Ask both orders of every pair. Raises `TeacherError` as the engine does."""
    requests = [request for pair in pairs for request in pair_requests(pair, teacher)]
    answers = engine.ask_structured(teacher, requests, lambda _: PairAnswer, ask)
    verdicts = []
    for place, pair in enumerate(pairs):
        both = answers[2 * place : 2 * place + 2]
        raw = tuple(value.winner if value else status for status, value, _ in both)
        if not all(value for _, value, _ in both):
            verdicts.append(
                PairVerdict(
                    pair, "unusable", raw, "; ".join(note for _, value, note in both if not value)
                )
            )
            continue
        named = [
            {"A": "first", "B": "second", "tie": "tie"}[raw[0]],
            {"A": "second", "B": "first", "tie": "tie"}[raw[1]],
        ]
        outcome = named[0] if named[0] == named[1] else "position_dependent"
        verdicts.append(PairVerdict(pair, outcome, raw, both[0][1].reason))
    return verdicts


def rubric_request(row_id: str, lang: str, question: str, text: str, teacher: Teacher) -> Request:
    """One answer to be graded."""
    return teacher.request(
        RUBRIC.stage,
        row_id,
        RUBRIC.tag,
        RUBRIC.fill(language=NAMES[lang], question=question, answer=text),
    )


def grade(
    rows: Sequence[tuple[str, str, str, str]], teacher: Teacher, ask: Asker = engine.ask
) -> list[Graded]:
    """Grade answers: `rows` are (id, language, question, answer). Raises `TeacherError` as the
    engine does.
    """
    requests = [rubric_request(*row, teacher) for row in rows]
    answers = engine.ask_structured(teacher, requests, lambda _: RubricAnswer, ask)
    return [
        Graded(
            row_id,
            lang,
            status,
            {name: getattr(value, name) for name in DIMENSIONS} if value else None,
        )
        for (row_id, lang, _, _), (status, value, _) in zip(rows, answers, strict=True)
    ]


def both_sides(pairs: Iterable[Pair]) -> list[tuple[str, str, str, str]]:
    """The two answers of each pair as rows for `grade`: ids end in `:first` and `:second`."""
    return [
        (f"{p.id}:{side}", p.lang, p.question, getattr(p, side))
        for p in pairs
        for side in ("first", "second")
    ]


def pair_table(verdicts: Sequence[PairVerdict]) -> list[tuple]:
    """One row for each kind and language and one for all, see `PAIR_COLUMNS`.

    The share as known is of **all** pairs: what is position-dependent, a tie or unusable is not as
    known.
    """
    lines = []
    groups = [(v.pair.kind, v.pair.lang) for v in verdicts]
    for kind, lang in [*dict.fromkeys(groups), ("all", "both")]:
        found = [v for v in verdicts if kind == "all" or (v.pair.kind, v.pair.lang) == (kind, lang)]
        counts = Counter(v.outcome for v in found)
        lines.append(
            (
                kind,
                lang,
                len(found),
                *(counts[o] for o in OUTCOMES),
                *share(sum(v.as_known for v in found), len(found)),
            )
        )
    return lines


def agreement(verdicts: Sequence[PairVerdict]) -> dict[str, tuple[int, int, float, float]]:
    """(as known, n, low, high; Wilson, 95 %) over all pairs whose better answer is known, and over
    those with a verdict that survived.
    """
    known = [v for v in verdicts if v.pair.known]
    firm = [v for v in known if v.outcome in ("first", "second", "tie")]
    return {
        name: (hits := sum(v.as_known for v in rows), len(rows), *wilson(hits, len(rows)))
        for name, rows in (("all pairs", known), ("verdicts that survived the swap", firm))
    }


def agreement_table(verdicts: Sequence[PairVerdict]) -> list[tuple]:
    """`agreement` as table rows, see `AGREEMENT_COLUMNS`."""
    return [
        (name, hits, n, *share(hits, n)) for name, (hits, n, _, _) in agreement(verdicts).items()
    ]


def favoured_place(verdicts: Iterable[PairVerdict]) -> dict[str, int]:
    """Of the position-dependent verdicts: how many named A in both orders, B in both, or a tie in
    one only.
    """
    counts = Counter(v.raw for v in verdicts if v.outcome == "position_dependent")
    same = {"always A": counts["A", "A"], "always B": counts["B", "B"]}
    return {**same, "tie in one order": counts.total() - sum(same.values())}


def unusable(verdicts: Iterable[PairVerdict]) -> Counter[str]:
    """Why orders gave no verdict: parse_failed, refused, truncated, held, failed."""
    return Counter(
        status
        for v in verdicts
        if v.outcome == "unusable"
        for status in v.raw
        if status not in ("A", "B", "tie")
    )


def rubric_table(
    pairs: Sequence[Pair], graded: Sequence[Graded], wanted: dict[str, str]
) -> list[tuple]:
    """For each kind: is the good answer graded above the worse one on the dimension that the damage
    touches? See `RUBRIC_COLUMNS`.

    `wanted` maps a kind to its dimension. Pairs with a side that was not graded are `unusable`, and
    count as not above.
    """
    by_id, lines = {g.id: g.grades for g in graded}, []
    for kind, dimension in wanted.items():
        sides = []
        for pair in (p for p in pairs if p.kind == kind):
            good, worse = ("first", "second") if pair.known == "first" else ("second", "first")
            sides.append((by_id[f"{pair.id}:{good}"], by_id[f"{pair.id}:{worse}"]))
        read = [(a[dimension], b[dimension]) for a, b in sides if a and b]
        means = (
            [f"{sum(values) / len(read):.2f}" for values in zip(*read, strict=True)]
            if read
            else ["not found"] * 2
        )
        above = sum(a > b for a, b in read)
        lines.append(
            (kind, dimension, len(sides), len(sides) - len(read), *means, *share(above, len(sides)))
        )
    return lines
