"""How far two reviewers agree beyond chance, and the time reviewing took."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from .decisions import REVIEW_VERDICTS, ReviewDecision, latest_decisions, reviewer_key
from .merging import decision_content

_DecisionPair = tuple[ReviewDecision, ReviewDecision]


def double_reviewed(decisions: Iterable[ReviewDecision]) -> dict[str, _DecisionPair]:
    """{row id: the last decisions of the first two people on it}, on one and the same text.

    The newest text with two people counts. A third reviewer is left out: who settles a dispute does
    not judge independently of it.
    """
    decisions = list(decisions)
    last = {
        (d.row_id, d.text_hash, reviewer_key(d.reviewer)): d for d in latest_decisions(decisions)
    }
    people: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for d in decisions:
        people[d.row_id, d.text_hash].setdefault(reviewer_key(d.reviewer))
    pairs = {}
    for (row_id, text_hash), names in people.items():
        if len(names) > 1:
            first, second, *_ = names
            pairs[row_id] = (last[row_id, text_hash, first], last[row_id, text_hash, second])
    return pairs


def _kappa(pairs: list[_DecisionPair]) -> tuple[float | None, str]:
    people = sorted({decision.reviewer for pair in pairs for decision in pair})
    if len(people) > 2:
        found = f"Cohen's kappa compares two people, here are {len(people)}"
        return None, f"{found}; alpha holds for any number"
    from sklearn.metrics import cohen_kappa_score

    ordered = [sorted(pair, key=lambda decision: decision.reviewer) for pair in pairs]
    verdicts = [[decision.verdict for decision in pair] for pair in ordered]
    kappa = cohen_kappa_score(*zip(*verdicts, strict=True), labels=list(REVIEW_VERDICTS))
    return float(kappa), ""


def _alpha(verdicts: list[tuple[str, str]]) -> float:
    """Krippendorff's alpha for nominal data, two verdicts a row.

    Its well-kept library is GPL, the kit is not.
    """
    counts = Counter(verdict for pair in verdicts for verdict in pair)
    n = counts.total()
    expected = 1 - sum(count * (count - 1) for count in counts.values()) / (n * (n - 1))
    return 1 - sum(a != b for a, b in verdicts) / len(verdicts) / expected


def reviewer_agreement(decisions: Iterable[ReviewDecision]) -> dict:
    """Agreement of the first two reviewers of each double-reviewed row, on verdicts:

    * `rows`: how many rows; `share_equal`: the share with equal verdicts (None without rows).
    * `kappa`, `kappa_reason`: Cohen's kappa (Cohen 1960) of two people, or None and why.
    * `alpha`, `alpha_reason`: Krippendorff's alpha for nominal data, or None and why.
    * `disagreements`: [(row id, reviewer, verdict, reviewer, verdict)] where verdict or edited text
      differ: what the merge holds.
    """
    pairs = double_reviewed(decisions)
    verdicts = [(a.verdict, b.verdict) for a, b in pairs.values()]
    used = {verdict for pair in verdicts for verdict in pair}
    reason = ""
    if len(pairs) < 2:
        reason = f"{len(pairs)} rows reviewed twice; at least 2 are needed"
    elif len(used) < 2:
        reason = (
            f"every verdict is {used.pop()}: agreement beyond chance is not defined without a"
            " second category"
        )
    kappa, kappa_reason = (None, reason) if reason else _kappa(list(pairs.values()))
    return {
        "rows": len(pairs),
        "share_equal": sum(a == b for a, b in verdicts) / len(pairs) if pairs else None,
        "kappa": kappa,
        "kappa_reason": kappa_reason,
        "alpha": None if reason else _alpha(verdicts),
        "alpha_reason": reason,
        "disagreements": [
            (row_id, a.reviewer, a.verdict, b.reviewer, b.verdict)
            for row_id, (a, b) in pairs.items()
            if decision_content(a) != decision_content(b)
        ],
    }


def time_spent(decisions: Iterable[ReviewDecision]) -> dict:
    """Seconds of reviewing: `decisions`, `timed`, `total`, `median`, `p90`, and by `reviewers`.

    A decision that was replaced later counts: its time was spent too. A pause with the form open
    counts as time.
    """
    decisions = list(decisions)
    by_reviewer: dict[str, list[ReviewDecision]] = defaultdict(list)
    for decision in decisions:
        by_reviewer[decision.reviewer].append(decision)
    reviewers = {name: _times(group) for name, group in sorted(by_reviewer.items())}
    return _times(decisions) | {"reviewers": reviewers}


def _times(decisions: list[ReviewDecision]) -> dict:
    import numpy

    seconds = [d.seconds for d in decisions if d.seconds is not None]
    counts = {"decisions": len(decisions), "timed": len(seconds), "total": sum(seconds, 0.0)}
    median, p90 = numpy.percentile(seconds, [50, 90]).tolist() if seconds else (None, None)
    return counts | {"median": median, "p90": p90}


def agreement_rows(agreement: dict, spent: dict) -> list[tuple[str, str]]:
    """(measure, value) of `reviewer_agreement` and `time_spent`; what is not defined says why."""

    def shown(value: float | None, reason: str) -> str:
        return f"{value:.2f}" if value is not None else f"not defined: {reason}"

    return [
        ("rows seen by two", str(agreement["rows"])),
        ("same verdict", shown(agreement["share_equal"], "no rows")),
        ("Cohen's kappa", shown(agreement["kappa"], agreement["kappa_reason"])),
        ("Krippendorff's alpha", shown(agreement["alpha"], agreement["alpha_reason"])),
        ("decisions with a time", str(spent["timed"])),
        ("median seconds", shown(spent["median"], "no times in this file")),
    ]
