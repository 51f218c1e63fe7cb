"""Calibrating the scorer on translations of known quality, before its threshold decides anything.

The quality is known by construction: a gold translation is clean, a mutated one carries a damage of
known kind and severity. That says how well the scorer tells damage of these kinds from good text;
it is no human judgement. `read_human_ratings` imports ratings by people.
"""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.files import iter_json_lines, read_utf8
from ..core.language import Language
from ..core.records import Record
from ..core.statistics import wilson
from ..teacher import engine
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .checks import run_checks
from .rounds import Score, score_request
from .texts import text_fields, text_pair

DAMAGE_SEVERITIES = ("none", "minor", "major", "critical")
SCORE_EDGES = (0, 50, 70, 85, 95, 101)  # of the bands that tables and figures show
_RATING_COLUMNS = ["row_id", "text_hash", "rater", "kind", "rating"]
_MODEL_NAME = re.compile(
    r"\b(?:llm|model|simulated|chatbot|bot|ai|teacher|machine|qwen|mistral|deepseek)\b|gpt|llama",
    re.IGNORECASE,
)


def is_model_name(rater: str) -> bool:
    """True when a rater's name is a model's: its scores are no human ratings."""
    return bool(_MODEL_NAME.search(rater))


@dataclass(frozen=True)
class CalibrationItem:
    """A translation of known quality.

    `kind` is "clean" or the damage, `severity` one of `DAMAGE_SEVERITIES`.
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
class ScoredItem:
    """An item and its score (None when the answer was unusable, see `status`).

    `stopped` says whether a check stops it.
    """

    item: CalibrationItem
    status: str
    score: int | None
    stopped: bool

    def row(self) -> dict:
        """The item as plain data, as `calibration.jsonl` keeps it."""
        kept = {key: getattr(self.item, key) for key in ("id", "kind", "severity")}
        return kept | {"score": self.score, "stopped": self.stopped}


def read_calibration_items(path: Path) -> list[CalibrationItem]:
    """Items of a JSON Lines file. Raises `InputError` naming a line that is none."""
    keys, items = CalibrationItem.__annotations__, []
    for number, value in iter_json_lines(path):
        if set(value) != set(keys) or value["severity"] not in DAMAGE_SEVERITIES:
            raise InputError(
                f"{path.name}, line {number}: expected {', '.join(keys)}; severity one of"
                f" {', '.join(DAMAGE_SEVERITIES)}"
            )
        items.append(CalibrationItem(**value))
    return items


def score_items(
    items: Iterable[CalibrationItem],
    records: dict[str, Record],
    teacher: Teacher,
    language: Language,
    ask: Callable[..., dict[str, Answer]] = engine.ask,
) -> list[ScoredItem]:
    """Ask the scorer about every item whose row is known, with the prompt the rounds use."""
    known = [item for item in items if item.row_id in records]
    requests = [
        score_request(item.id, records[item.row_id], item.values, teacher, language)
        for item in known
    ]
    result, answers = [], engine.ask_structured(teacher, requests, lambda _: Score, ask)
    for item, (status, value, _) in zip(known, answers, strict=True):
        pair = text_pair(text_fields(records[item.row_id]), item.values, language)
        flags = run_checks(pair.source, pair.candidate, language, pair.names)
        stopped = any(flag.stops for flag in flags)
        result.append(ScoredItem(item, status, value.score if value else None, stopped))
    return result


def _with_score(items: Iterable[ScoredItem]) -> list[ScoredItem]:
    return [item for item in items if item.score is not None]


def reliability_bands(items: Iterable[ScoredItem]) -> list[tuple]:
    """(score band, items, clean ones, share clean, low, high) with Wilson's 95 % interval.

    A scorer is reliable when the share of clean items rises with the band.
    """
    rows, known = [], _with_score(items)
    for low, high in zip(SCORE_EDGES, SCORE_EDGES[1:], strict=False):
        band = [item for item in known if low <= item.score < high]
        clean, n = sum(not item.item.damaged for item in band), len(band)
        rows.append((f"{low} to {high - 1}", n, clean, clean / n if n else 0.0, *wilson(clean, n)))
    return rows


def scores_by_severity(items: Iterable[ScoredItem]) -> list[tuple[str, int, float, int, int]]:
    """(severity of the damage, items, mean score, lowest, highest)."""
    scores = defaultdict(list)
    for item in _with_score(items):
        scores[item.item.severity].append(item.score)
    known = [(name, scores[name]) for name in DAMAGE_SEVERITIES if scores[name]]
    return [(name, len(s), sum(s) / len(s), min(s), max(s)) for name, s in known]


def scorer_agreement(items: Iterable[ScoredItem]) -> dict[str, float]:
    """How well scores follow severity: n, area under the ROC curve, Spearman's rank correlation.

    The curve is of clean against damaged items; without items of both there is only n.
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    known = _with_score(items)
    clean, scores = [not item.item.damaged for item in known], [item.score for item in known]
    if len(set(clean)) < 2 or len(set(scores)) < 2:
        return {"n": len(known)}
    severities = [DAMAGE_SEVERITIES.index(item.item.severity) for item in known]
    auc, rho = roc_auc_score(clean, scores), spearmanr(scores, severities)[0]
    return {"n": len(known), "auc": float(auc), "spearman": float(rho)}


def threshold_table(items: Iterable[ScoredItem], thresholds: Sequence[int]) -> list[tuple]:
    """(threshold, clean accepted, damaged accepted by score, by score and checks, critical ones).

    The last number counts the critical damage among those that score and checks accept.
    """
    rows, known = [], _with_score(items)
    for threshold in thresholds:
        accepted = [item for item in known if item.score >= threshold]
        damaged = [item for item in accepted if item.item.damaged]
        unseen = [item for item in damaged if not item.stopped]
        critical = sum(item.item.severity == "critical" for item in unseen)
        clean = len(accepted) - len(damaged)
        rows.append((threshold, clean, len(damaged), len(unseen), critical))
    return rows


def missed_damage(items: Iterable[ScoredItem], threshold: int) -> Counter[str]:
    """Kinds of damage that score and checks both accept at a threshold."""
    known = [item for item in _with_score(items) if item.score >= threshold and not item.stopped]
    return Counter(item.item.kind for item in known if item.item.damaged)


@dataclass(frozen=True)
class HumanRating:
    """A person's rating of one text, 0 to 100."""

    row_id: str
    text_hash: str
    rater: str
    rating: float


def read_human_ratings(path: Path) -> list[HumanRating]:
    """Human ratings from a CSV file (row_id, text_hash, rater, kind, rating).

    A model's scores are no human ratings: `kind` must say `human`, and a rater whose name is a
    model's is refused. Raises `InputError` naming line and reason.
    """
    rows = list(csv.DictReader(io.StringIO(read_utf8(path), newline="")))
    if not rows or not set(_RATING_COLUMNS) <= set(rows[0]):
        seen = ", ".join(rows[0]) if rows else "none"
        raise InputError(f"{path.name}: expected {', '.join(_RATING_COLUMNS)}; found {seen}")
    ratings = []
    for number, row in enumerate(rows, start=2):
        row = {name: (row[name] or "").strip() for name in _RATING_COLUMNS}
        if reason := _not_a_rating(row):
            raise InputError(f"{path.name}, line {number}: {reason}")
        rating = float(row["rating"])
        ratings.append(HumanRating(row["row_id"], row["text_hash"], row["rater"], rating))
    return ratings


def _not_a_rating(row: dict[str, str]) -> str:
    """Why a line is no rating by a person, or ""."""
    try:
        value = float(row["rating"])
    except ValueError:
        return f"rating {row['rating']!r} is not a number"
    if not 0 <= value <= 100:
        return f"rating {value:g} is not within 0 to 100"
    rater, kind = row["rater"], row["kind"]
    if not rater or kind.casefold() != "human" or is_model_name(rater):
        return f"rater {rater!r}, kind {kind!r}: only ratings by people belong here (kind human)"
    if not row["row_id"] or not row["text_hash"]:
        return "row_id and text_hash say which text was rated"
    return ""


def correlation_with_people(
    ratings: Iterable[HumanRating], scores: dict[tuple[str, str], int]
) -> dict[str, float]:
    """n, Spearman and Pearson between people's mean ratings and the scorer's scores.

    Over the texts both judged; `scores` by (row id, text hash).
    """
    from scipy.stats import pearsonr, spearmanr

    by_text = defaultdict(list)
    for rating in ratings:
        by_text[rating.row_id, rating.text_hash].append(rating.rating)
    both = [key for key in by_text if key in scores]
    people = [sum(by_text[key]) / len(by_text[key]) for key in both]
    scorer = [scores[key] for key in both]
    if len(set(people)) < 2 or len(set(scorer)) < 2:
        return {"n": len(both)}
    rho, r = spearmanr(people, scorer)[0], pearsonr(people, scorer)[0]
    return {"n": len(both), "spearman": float(rho), "pearson": float(r)}
