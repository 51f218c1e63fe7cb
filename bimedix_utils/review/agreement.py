"""How far two reviewers agree beyond chance, and the time reviewing took."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable

from . import word
from .decisions import VERDICTS, Decision, latest, person


def double_reviewed(decisions: Iterable[Decision]) -> dict[str, tuple[Decision, Decision]]:
    """{row id: the words of the first two people on it}, the last word of each, on one and the same
    text (the newest such text).

    A third reviewer is left out: who settles a dispute does not judge independently of it.
    """
    decisions = list(decisions)
    last = {(d.row_id, d.text_hash, person(d.reviewer)): d for d in latest(decisions)}
    people: dict[tuple[str, str], list[str]] = defaultdict(list)
    for decision in decisions:
        group = people[decision.row_id, decision.text_hash]
        if person(decision.reviewer) not in group:
            group.append(person(decision.reviewer))
    return {
        row_id: tuple(last[row_id, text_hash, name] for name in group[:2])
        for (row_id, text_hash), group in people.items()
        if len(group) > 1
    }


def _kappa(pairs: list[tuple[Decision, Decision]]) -> tuple[float | None, str]:
    people = sorted({decision.reviewer for pair in pairs for decision in pair})
    if len(people) > 2:
        return (
            None,
            (
                f"Cohen's kappa compares two people, here are {len(people)}; alpha holds for any"
                " number"
            ),
        )
    from sklearn.metrics import cohen_kappa_score

    ordered = [sorted(pair, key=lambda decision: decision.reviewer) for pair in pairs]
    return (
        float(
            cohen_kappa_score(
                [a.verdict for a, _ in ordered],
                [b.verdict for _, b in ordered],
                labels=list(VERDICTS),
            )
        ),
        "",
    )


def _alpha(verdicts: list[tuple[str, str]]) -> float:
    """Krippendorff's alpha for nominal data, two words a row. Its well-kept library is GPL, the kit
    is not.
    """
    counts = Counter(verdict for pair in verdicts for verdict in pair)
    n = counts.total()
    expected = 1 - sum(count * (count - 1) for count in counts.values()) / (n * (n - 1))
    return 1 - sum(a != b for a, b in verdicts) / len(verdicts) / expected


def agreement(decisions: Iterable[Decision]) -> dict:
    """Agreement of the first two reviewers of each double-reviewed row, on verdicts:

    * `rows`: how many rows; `share_equal`: the share with equal verdicts (None without rows);
    * `kappa`, `kappa_reason`: Cohen's kappa (Cohen 1960) of two people, or None and why;
    * `alpha`, `alpha_reason`: Krippendorff's alpha for nominal data (Krippendorff, Content
      Analysis), or None and why;
    * `disagreements`: [(row id, reviewer, verdict, reviewer, verdict)] where verdict or edited text
      differ: what the merge holds.
    """
    pairs = double_reviewed(decisions)
    verdicts = [(a.verdict, b.verdict) for a, b in pairs.values()]
    used = sorted({verdict for pair in verdicts for verdict in pair})
    reason = ""
    if len(pairs) < 2:
        reason = f"{len(pairs)} rows reviewed twice; at least 2 are needed"
    elif len(used) < 2:
        reason = (
            f"every verdict is {used[0]}: agreement beyond chance is not defined without a second"
            " category"
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
            (i, a.reviewer, a.verdict, b.reviewer, b.verdict)
            for i, (a, b) in pairs.items()
            if word(a) != word(b)
        ],
    }


def _times(seconds: list[float]) -> dict:
    """Count, total, median and 90th percentile (linear between the nearest two) of seconds; None
    where there are none.
    """
    if not seconds:
        return {"timed": 0, "total": 0.0, "median": None, "p90": None}
    p90 = (
        statistics.quantiles(seconds, n=10, method="inclusive")[8]
        if len(seconds) > 1
        else seconds[0]
    )
    return {
        "timed": len(seconds),
        "total": sum(seconds),
        "median": statistics.median(seconds),
        "p90": p90,
    }


def time_spent(decisions: Iterable[Decision]) -> dict:
    """The seconds reviewing took: `decisions` (all), `timed` (with a time), `total`, `median`,
    `p90`, and the same by reviewer.

    A decision that was replaced later counts: its time was spent too. A pause with the form open
    counts as time.
    """
    decisions = list(decisions)
    by_person: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_person[decision.reviewer].append(decision)

    def of(group: list[Decision]) -> dict:
        return {"decisions": len(group)} | _times(
            [d.seconds for d in group if d.seconds is not None]
        )

    return of(decisions) | {
        "reviewers": {person: of(group) for person, group in sorted(by_person.items())}
    }
