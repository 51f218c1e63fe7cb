"""Judge calibration: pairs whose better answer is known by construction, and people's verdicts from
a file.

Known by construction: a reference answer against one with a wrong drug class, in the wrong
language, or cut short. That says how well a judge sees damage of these kinds, and nothing about
finer differences: only people can tell those, and none of their verdicts are invented.
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
from .judge import AnswerPair, PairVerdict
from .response_language import aligned_questions

# kind of damage -> the dimension it touches
DAMAGE_DIMENSIONS = {
    "wrong_class": "correctness",
    "wrong_language": "language",
    "truncated": "helpfulness",
}
_COLUMNS = ["item_id", "text_hash", "rater", "kind", "verdict"]
_VERDICTS = ("first", "second", "tie")
_SEED = 42  # on purpose not a run's seed: the recordings answer exactly these pairs
CUT_SHARE = 0.4  # share of the words that a cut answer keeps
_LONG = 30  # words of an answer whose loss a reader notices


def known_pairs(
    english: Sequence[Record],
    arabic: Sequence[Record],
    relations: Sequence[knowledge.Relation],
    each: int = 4,
    seed: int = _SEED,
) -> list[AnswerPair]:
    """`each` pairs of every kind and language, drawn and ordered by a seeded hash; which side is
    better is drawn, too.

    `english` and `arabic` are open questions with reference answers, aligned by `parent_id`;
    `relations` must hold `drug_class`. Fewer rows than asked for give fewer pairs.
    """
    both = aligned_questions(english, arabic)
    (drugs,) = knowledge.choose_relations(list(relations), "drug_class")
    found = []
    for column, lang in enumerate(("en", "ar")):
        rows = [pair[column] for pair in both]
        other = {pair[column].id: pair[1 - column].answer for pair in both}
        long = [row for row in rows if len(row.answer.split()) >= _LONG]
        for row in _drawn(long, each, seed, "truncated"):
            words = row.answer.split()
            cut = " ".join(words[: int(len(words) * CUT_SHARE)])
            texts = row.question, row.answer, cut
            found.append(_pair("truncated", lang, row.id, texts, seed))
        for row in _drawn(rows, each, seed, "wrong_language"):
            texts = row.question, row.answer, other[row.id]
            found.append(_pair("wrong_language", lang, row.id, texts, seed))
        for fact in _drawn(drugs.facts, each, seed, "wrong_class"):
            question = knowledge.fact_question(drugs, fact, lang, 0).question
            pool = drugs.distractors(fact)
            wrong = pool[int(digest(f"{seed}:{fact.id}", 8), 16) % len(pool)]
            swapped = knowledge.Fact(fact.relation, fact.subject, wrong.object, frozenset())
            good, bad = (knowledge.fact_statement(drugs, one, lang, 0) for one in (fact, swapped))
            found.append(_pair("wrong_class", lang, fact.id, (question, good, bad), seed))
    return found


def _drawn(rows: Sequence, count: int, seed: int, kind: str) -> list:
    """The same rows for both languages, where both have them."""

    def rank(row):
        return digest(f"{kind}:{seed}:{row.id.removesuffix(':ar')}")

    return sorted(rows, key=rank)[:count]


def _pair(kind: str, lang: str, row_id: str, texts: tuple[str, str, str], seed: int) -> AnswerPair:
    """`texts` are the question, the good and the worse answer."""
    question, good, worse = texts
    name = f"judge:{kind}:{row_id.removesuffix(':ar')}:{lang}"
    if int(digest(f"side:{seed}:{name}", 8), 16) % 2:
        return AnswerPair(name, lang, question, worse, good, "second", kind)
    return AnswerPair(name, lang, question, good, worse, "first", kind)


@dataclass(frozen=True)
class HumanVerdict:
    """A person's verdict on one pair."""

    item_id: str
    text_hash: str
    rater: str
    verdict: str


def read_human_verdicts(path: Path) -> list[HumanVerdict]:
    """People's verdicts from a CSV file with the columns item_id, text_hash, rater, kind and
    verdict. Raises `InputError` naming line and reason.

    `kind` must say `human`, and a rater whose name is a model's is refused. One rater judges one
    text once.
    """
    rows = list(csv.DictReader(io.StringIO(read_utf8(path), newline="")))
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        seen = ", ".join(map(str, rows[0])) if rows else "none"
        raise InputError(f"{path.name}: columns expected {', '.join(_COLUMNS)}; found {seen}")
    found: dict[tuple[str, ...], HumanVerdict] = {}
    for number, row in enumerate(rows, start=2):
        cells = {name: (row[name] or "").strip() for name in _COLUMNS}
        *key, kind, verdict = cells.values()
        problem = ""
        if None in row:
            problem = "more cells than columns; a comma inside a cell needs quotes"
        elif not cells["item_id"] or not cells["text_hash"]:
            problem = "item_id and text_hash say which pair was judged"
        elif not key[2] or kind.casefold() != "human" or is_model_name(key[2]):
            problem = f"rater {key[2]!r}, kind {kind!r}: only people's verdicts (kind human)"
        elif verdict not in _VERDICTS:
            problem = f"verdict {verdict!r} is not one of {', '.join(_VERDICTS)}"
        elif tuple(key) in found:
            problem = f"a second verdict of {key[2]} on {key[0]}"
        if problem:
            raise InputError(f"{path.name}, line {number}: {problem}")
        found[tuple(key)] = HumanVerdict(*key, verdict)
    return list(found.values())


def agreement_with_people(
    people: Iterable[HumanVerdict], verdicts: Sequence[PairVerdict]
) -> dict[str, object]:
    """How often the judge says what people say, over their verdicts on the very texts it judged;
    raters are pooled.

    `n`, `equal`, `low`, `high` (Wilson), Cohen's `kappa` (None where undefined), and `other_texts`:
    verdicts on texts not among these.
    """
    judged = {(v.pair.id, v.pair.text_hash): v.outcome for v in verdicts}
    people = list(people)
    both = [(h.verdict, judged[key]) for h in people if (key := (h.item_id, h.text_hash)) in judged]
    equal, n = sum(a == b for a, b in both), len(both)
    low, high = wilson(equal, n)
    kappa = None
    if len({word for pair in both for word in pair}) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(*zip(*both, strict=True)))
    counts = {"n": n, "equal": equal, "low": low, "high": high}
    return {**counts, "kappa": kappa, "other_texts": len(people) - n}
