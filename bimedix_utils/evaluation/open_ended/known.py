"""Pairs whose better answer is known by construction, to try a judge on, and people's verdicts from
a file.

Known by construction: a reference answer against one with a wrong drug class, in the wrong
language, or cut short. That says how well a judge sees damage of these kinds, and nothing about
finer differences; only people can tell those, and none of their verdicts are invented.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import InputError
from ...core.files import read_utf8
from ...core.records import Record
from ...core.statistics import wilson
from ...core.text import digest
from ...sources import knowledge
from ...translation.calibration import is_model_name
from .judge import Pair, PairVerdict

KINDS = {
    "wrong_class": "correctness",
    "wrong_language": "language",
    "truncated": "helpfulness",
}  # kind -> the dimension it touches
COLUMNS = ["item_id", "text_hash", "rater", "kind", "verdict"]
VERDICTS = ("first", "second", "tie")
SEED = 42  # on purpose not a run's seed: the recordings answer exactly these pairs
CUT = 0.4  # share of the words that a cut answer keeps
LONG = 30  # words of an answer whose loss a reader notices


def pairs(
    english: Sequence[Record],
    arabic: Sequence[Record],
    relations: Sequence[knowledge.Relation],
    each: int = 4,
    seed: int = SEED,
) -> list[Pair]:
    """`each` pairs of every kind and language, drawn and ordered by a seeded hash; which side is
    better is drawn, too.

    `english` and `arabic` are open questions with reference answers, twins by `parent_id`;
    `relations` must hold `drug_class`. Fewer rows than wanted give fewer pairs.
    """
    twins = {row.parent_id: row for row in arabic}
    both = [(row, twins[row.id]) for row in english if row.kind == "qa" and row.id in twins]
    (drugs,) = knowledge.choose_relations(list(relations), "drug_class")
    found = []
    for place, lang in enumerate(knowledge.KNOWLEDGE_LANGUAGES):
        rows = [twin[place] for twin in both]
        other = {twin[place].id: twin[1 - place].answer for twin in both}
        long = [row for row in rows if len(row.answer.split()) >= LONG]
        for row in _drawn(long, each, seed, "truncated"):
            words = row.answer.split()
            found.append(
                _pair(
                    "truncated",
                    lang,
                    row.id,
                    row.question,
                    row.answer,
                    " ".join(words[: int(len(words) * CUT)]),
                    seed,
                )
            )
        for row in _drawn(rows, each, seed, "wrong_language"):
            found.append(
                _pair("wrong_language", lang, row.id, row.question, row.answer, other[row.id], seed)
            )
        for fact in _drawn(drugs.facts, each, seed, "wrong_class"):
            question = knowledge.fact_question(drugs, fact, lang, 0).question
            wrong = drugs.distractors(fact)[
                int(digest(f"{seed}:{fact.id}", 8), 16) % len(drugs.distractors(fact))
            ]
            swapped = knowledge.Fact(fact.relation, fact.subject, wrong.object, frozenset())
            good, bad = (knowledge.fact_statement(drugs, one, lang, 0) for one in (fact, swapped))
            found.append(_pair("wrong_class", lang, fact.id, question, good, bad, seed))
    return found


def _drawn(rows: Sequence, count: int, seed: int, kind: str) -> list:
    """The same rows for both languages, where both have them."""
    return sorted(rows, key=lambda row: digest(f"{kind}:{seed}:{row.id.removesuffix(':ar')}"))[
        :count
    ]


def _pair(
    kind: str, lang: str, row_id: str, question: str, good: str, worse: str, seed: int
) -> Pair:
    name = f"judge:{kind}:{row_id.removesuffix(':ar')}:{lang}"
    if int(digest(f"side:{seed}:{name}", 8), 16) % 2:
        return Pair(name, lang, question, worse, good, "second", kind)
    return Pair(name, lang, question, good, worse, "first", kind)


@dataclass(frozen=True)
class Human:
    """A person's verdict on one pair."""

    item_id: str
    text_hash: str
    rater: str
    verdict: str


def read_human(path: Path) -> list[Human]:
    """People's verdicts from a CSV file with the columns `COLUMNS`. Raises `InputError` naming line
    and reason.

    `kind` must say `human`, and a rater whose name is a model's is refused. One rater judges one
    text once.
    """
    rows = list(csv.DictReader(io.StringIO(read_utf8(path), newline="")))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise InputError(
            f"{path.name}: columns wanted {', '.join(COLUMNS)}; seen"
            f" {', '.join(map(str, rows[0])) if rows else 'none'}"
        )
    found, seen = [], set()
    for number, row in enumerate(rows, start=2):
        where, cells = (
            f"{path.name}, line {number}",
            {name: (row[name] or "").strip() for name in COLUMNS},
        )
        if None in row:
            raise InputError(
                f"{where}: more cells than columns; a comma inside a cell needs quotes"
            )
        if not cells["item_id"] or not cells["text_hash"]:
            raise InputError(f"{where}: item_id and text_hash say which pair was judged")
        if (
            not cells["rater"]
            or cells["kind"].casefold() != "human"
            or is_model_name(cells["rater"])
        ):
            raise InputError(
                f"{where}: rater {cells['rater']!r}, kind {cells['kind']!r}: only people's verdicts"
                " belong here (kind human)"
            )
        if cells["verdict"] not in VERDICTS:
            raise InputError(
                f"{where}: verdict {cells['verdict']!r} is not one of {', '.join(VERDICTS)}"
            )
        place = cells["item_id"], cells["text_hash"], cells["rater"]
        if place in seen:
            raise InputError(f"{where}: a second verdict of {cells['rater']} on {cells['item_id']}")
        seen.add(place)
        found.append(Human(cells["item_id"], cells["text_hash"], cells["rater"], cells["verdict"]))
    return found


def against_people(people: Iterable[Human], verdicts: Sequence[PairVerdict]) -> dict[str, object]:
    """How often the judge says what people say, over their verdicts on the very texts it judged;
    raters are pooled.

    `n`, `equal`, `low`, `high` (Wilson), Cohen's `kappa` (None where undefined), and `other_texts`:
    verdicts on texts not among these.
    """
    judged = {(v.pair.id, v.pair.text_hash): v.outcome for v in verdicts}
    people = list(people)
    both = [
        (h.verdict, judged[h.item_id, h.text_hash])
        for h in people
        if (h.item_id, h.text_hash) in judged
    ]
    equal = sum(a == b for a, b in both)
    low, high = wilson(equal, len(both))
    return {
        "n": len(both),
        "equal": equal,
        "low": low,
        "high": high,
        "kappa": _kappa(both),
        "other_texts": len(people) - len(both),
    }


def _kappa(both: list[tuple[str, str]]) -> float | None:
    if len({word for pair in both for word in pair}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score([a for a, _ in both], [b for _, b in both]))
