"""The review queue: all translations that were not accepted, and a sample of the others."""

from collections import defaultdict
from collections.abc import Iterable

from ..core.text import digest

_SCORE_EDGES = (0, 50, 70, 80, 85, 90, 95)  # the lowest score of each band; the last ends at 100


def _draw(row_id: str, seed: int, purpose: str) -> float:
    """A seeded number from 0 up to 1 that depends on the id alone."""
    return int(digest(f"{purpose}:{seed}:{row_id}", 8), 16) / 2**32


def is_sampled(row_id: str, share: float, seed: int, purpose: str = "review") -> bool:
    """True for a seeded `share` (0..1) of ids.

    The id's own hash decides, so adding rows moves no other row in or out.
    """
    return _draw(row_id, seed, purpose) < share


def stratum(state: dict) -> str:
    """The source of a row and the band of its score, such as `toy 90-94`; the sample's unit."""
    source, score = state["record"]["source"], state["best"].get("score")
    if score is None:
        return f"{source} not scored"
    low = max(edge for edge in _SCORE_EDGES if edge <= score)
    high = min((edge - 1 for edge in _SCORE_EDGES if edge > score), default=100)
    return f"{source} {low}-{high}"


def review_queue(
    states: Iterable[dict], share: float, seed: int, double_share: float = 0.0
) -> list[dict]:
    """The rows a reviewer must see, in order, each with three keys more:

    * `queue_reason`: `low` (not accepted by the rounds; all of them) or `sample` (a high score).
    * `stratum`: source and score band. Of each stratum of accepted rows those are drawn whose own
      hash is under `share` (0..1), and at least one; only such a lone one may be replaced by
      another when rows are added. A share of 0 draws none.
    * `reviewers`: 2 for a seeded `double_share` (0..1) of the queue, else 1.

    `states` are the rows of 03's `states.jsonl`. Rows without any version are not in the queue.
    """
    states = [state for state in states if state["best"] is not None]
    strata: dict[str, list[str]] = defaultdict(list)
    for state in states:
        if state["state"] == "accept" and share > 0:
            strata[stratum(state)].append(state["id"])
    sample: set[str] = set()
    for ids in strata.values():
        drawn = {row_id for row_id in ids if is_sampled(row_id, share, seed)}
        sample |= drawn or {min(ids, key=lambda row_id: _draw(row_id, seed, "review"))}
    result = []
    for state in states:
        if state["state"] == "human" or state["id"] in sample:
            reason = "low" if state["state"] == "human" else "sample"
            reviewers = 2 if is_sampled(state["id"], double_share, seed, "double") else 1
            keys = {"queue_reason": reason, "stratum": stratum(state), "reviewers": reviewers}
            result.append(state | keys)
    return result
