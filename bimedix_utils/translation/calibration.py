"""Is the scorer to be believed? Calibrate it on translations whose quality is known, before its
threshold decides anything.

What is known is known by construction: a gold translation is clean, a mutated one carries a damage
of known kind and severity. That says how well the scorer tells damage of these kinds from good
text; it is no human judgement. `read_ratings` imports real human ratings.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.files import iter_json_lines, read_utf8
from ..core.records import Record
from ..core.statistics import wilson
from ..teacher import engine
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .checks import Language, run_all
from .rounds import Score, fields, pair, score_request

SEVERITIES = ("none", "minor", "major", "critical")
BANDS = (0, 50, 70, 85, 95, 101)
COLUMNS = ["row_id", "text_hash", "rater", "kind", "rating"]
NO_PERSON = re.compile(
    r"\b(?:gpt|llm|model|simulated|chatbot|bot|ai|teacher|machine|llama|qwen|mistral|deepseek)\b|gpt|llama",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Item:
    """A translation of known quality. `kind` is "clean" or the damage, `severity` one of
    `SEVERITIES`.
    """

    id: str
    row_id: str
    kind: str
    severity: str
    values: dict

    @property
    def damaged(self) -> bool:
        """True for a mutated translation."""
        return self.severity != "none"


@dataclass(frozen=True)
class Judged:
    """An item, what the scorer said of it (None: nothing usable, see `status`), and whether a rule
    stops it.
    """

    item: Item
    status: str
    score: int | None
    spans: int
    stopped: bool


def read_items(path: Path) -> list[Item]:
    """Items of a JSON Lines file. Raises `InputError` naming the line that is none."""
    items = []
    for number, value in iter_json_lines(path):
        if set(value) != set(Item.__annotations__) or value["severity"] not in SEVERITIES:
            raise InputError(
                f"{path.name}, line {number}: wanted {', '.join(Item.__annotations__)}; severity"
                f" one of {', '.join(SEVERITIES)}"
            )
        items.append(Item(**value))
    return items


def judge(
    items: Iterable[Item], records: dict[str, Record], teacher: Teacher, language: Language,
    ask: Callable[..., dict[str, Answer]] = engine.ask,
) -> list[Judged]:  # fmt: skip
    """Ask the scorer about every item, with the prompt the rounds use. Items whose row is not among
    `records` are left out.
    """
    known = [item for item in items if item.row_id in records]
    requests = [
        score_request(item.id, records[item.row_id], item.values, teacher, language)
        for item in known
    ]
    judged = []
    for item, (status, value, _) in zip(
        known, engine.ask_structured(teacher, requests, lambda _: Score, ask), strict=True
    ):
        texts = pair(fields(records[item.row_id]), item.values, language)
        stopped = any(
            flag.stops for flag in run_all(texts.source, texts.candidate, language, texts.names)
        )
        judged.append(
            Judged(item, status, value and value.score, len(value.errors) if value else 0, stopped)
        )
    return judged


def scored(judged: Iterable[Judged]) -> list[Judged]:
    """Those the scorer gave a score."""
    return [j for j in judged if j.score is not None]


def reliability(judged: Iterable[Judged]) -> list[tuple[str, int, int, float, float, float]]:
    """(score band, items, clean ones, share clean, low, high): a scorer is reliable when the share
    rises with the band (Wilson, 95 %).
    """
    rows = []
    for low, high in zip(BANDS, BANDS[1:], strict=False):
        band = [j for j in scored(judged) if low <= j.score < high]
        clean = sum(not j.item.damaged for j in band)
        rows.append(
            (
                f"{low} to {high - 1}",
                len(band),
                clean,
                clean / len(band) if band else 0.0,
                *wilson(clean, len(band)),
            )
        )
    return rows


def by_severity(judged: Iterable[Judged]) -> list[tuple[str, int, float, int, int]]:
    """(severity, items, mean score, lowest, highest)."""
    rows = []
    for severity in SEVERITIES:
        values = [j.score for j in scored(judged) if j.item.severity == severity]
        if values:
            rows.append(
                (severity, len(values), sum(values) / len(values), min(values), max(values))
            )
    return rows


def agreement(judged: Iterable[Judged]) -> dict[str, float]:
    """How well scores follow severity: area under the ROC curve (clean against damaged), Spearman's
    rank correlation, and n.

    Without items of both sorts there is nothing to measure: then only n.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    known = scored(judged)
    damaged, scores = [j.item.damaged for j in known], [j.score for j in known]
    if len(set(damaged)) < 2 or len(set(scores)) < 2:
        return {"n": len(known)}
    severities = [SEVERITIES.index(j.item.severity) for j in known]
    return {
        "n": len(known),
        "auc": float(roc_auc_score([not d for d in damaged], scores)),
        "spearman": float(spearmanr(scores, severities)[0]),
    }


def thresholds(
    judged: Iterable[Judged], bars: Sequence[int]
) -> list[tuple[int, int, int, int, int]]:
    """(threshold, clean accepted, damaged accepted by the score alone, damaged accepted by score
    and rules, of these critical).
    """
    rows = []
    for bar in bars:
        accepted = [j for j in scored(judged) if j.score >= bar]
        through = [j for j in accepted if j.item.damaged]
        silent = [j for j in through if not j.stopped]
        clean = sum(not j.item.damaged for j in accepted)
        rows.append(
            (
                bar,
                clean,
                len(through),
                len(silent),
                sum(j.item.severity == "critical" for j in silent),
            )
        )
    return rows


def missed(judged: Iterable[Judged], bar: int) -> Counter[str]:
    """Kinds of damage that score and rules both let through at a threshold."""
    return Counter(
        j.item.kind for j in scored(judged) if j.item.damaged and j.score >= bar and not j.stopped
    )


@dataclass(frozen=True)
class Rating:
    """A person's rating of one text, 0 to 100."""

    row_id: str
    text_hash: str
    rater: str
    rating: float


def read_ratings(path: Path) -> list[Rating]:
    """Human ratings from a CSV file with the columns `COLUMNS`. Raises `InputError` naming line and
    reason.

    A model's scores are no human ratings: whoever writes the file says `human` in the column
    `kind`, or the row is refused. A rater whose name is a model's is refused as well.
    """
    rows = list(csv.DictReader(io.StringIO(read_utf8(path), newline="")))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise InputError(
            f"{path.name}: columns wanted {', '.join(COLUMNS)}; seen"
            f" {', '.join(rows[0]) if rows else 'none'}"
        )
    ratings = []
    for number, row in enumerate(rows, start=2):
        try:
            value = float(row["rating"])
        except (TypeError, ValueError):
            raise InputError(
                f"{path.name}, line {number}: rating {row['rating']!r} is no number"
            ) from None
        if not 0 <= value <= 100:
            raise InputError(f"{path.name}, line {number}: rating {value:g} is not within 0 to 100")
        rater = (row["rater"] or "").strip()
        if (
            not rater
            or (row["kind"] or "").strip().casefold() != "human"
            or NO_PERSON.search(rater)
        ):
            raise InputError(
                f"{path.name}, line {number}: rater {rater!r}, kind {row['kind']!r}: only people's"
                " ratings belong here (kind human)"
            )
        if not row["row_id"] or not row["text_hash"]:
            raise InputError(
                f"{path.name}, line {number}: row_id and text_hash say which text was rated"
            )
        ratings.append(Rating(row["row_id"], row["text_hash"], rater, value))
    return ratings


def against_people(
    ratings: Iterable[Rating], scores: dict[tuple[str, str], int]
) -> dict[str, float]:
    """Spearman and Pearson between people's mean ratings and the scorer's, over the texts both
    judged. `scores` by (row id, text hash).
    """
    from scipy.stats import pearsonr, spearmanr

    by_text: dict[tuple[str, str], list[float]] = {}
    for rating in ratings:
        by_text.setdefault((rating.row_id, rating.text_hash), []).append(rating.rating)
    both = [
        (sum(values) / len(values), scores[place])
        for place, values in by_text.items()
        if place in scores
    ]
    people, scorer = [a for a, _ in both], [b for _, b in both]
    if len(set(people)) < 2 or len(set(scorer)) < 2:
        return {"n": len(both)}
    return {
        "n": len(both),
        "spearman": float(spearmanr(people, scorer)[0]),
        "pearson": float(pearsonr(people, scorer)[0]),
    }
