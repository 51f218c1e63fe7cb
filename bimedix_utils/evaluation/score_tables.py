"""The shape of every table of notebook 07: rows and column names; shares carry Wilson intervals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.statistics import wilson

Table = tuple[list[tuple], list[str]]  # rows, columns: as `core.show_table` takes them


def make_table(rows: list[tuple], columns: str) -> Table:
    """A table whose column names are separated by commas."""
    return rows, columns.split(", ")


def share_with_wilson(hits: int, n: int) -> tuple[str, str]:
    """A share and its Wilson interval as they are shown; `not found` of nothing."""
    if not n:
        return "not found", ""
    low, high = wilson(hits, n)
    return f"{hits / n:.2f}", f"[{low:.2f}, {high:.2f}]"


def outcome_table(
    groups: Mapping[tuple, Sequence[Any]],
    keys: str,
    outcomes: Sequence[str],
    shares: Mapping[str, str],
) -> Table:
    """One row per group of verdicts: its key, n, the count of each outcome (they add up to n), then
    for each attribute in `shares` (attribute -> column) the share of verdicts that have it.
    """
    rows = []
    for key, found in groups.items():
        counts = Counter(verdict.outcome for verdict in found)
        shown: list[str] = []
        for name in shares:
            shown += share_with_wilson(sum(getattr(v, name) for v in found), len(found))
        rows.append((*key, len(found), *(counts[name] for name in outcomes), *shown))
    measured = [f"{column}, 95 % (Wilson){' ' * i}" for i, column in enumerate(shares.values())]
    return make_table(rows, ", ".join([keys, "n", *outcomes, *measured]))


def detector_table(rows: Iterable[tuple[str, str, Sequence[tuple[bool, bool]]]]) -> Table:
    """Precision and recall of detectors; `rows` are (detector, language, [(label, detected)])."""
    lines = []
    for name, lang, pairs in rows:
        counts = Counter(pairs)
        hits, alarms, missed = counts[True, True], counts[False, True], counts[True, False]
        precision = share_with_wilson(hits, hits + alarms)
        recall = share_with_wilson(hits, hits + missed)
        lines.append((name, lang, len(pairs), hits, alarms, missed, *precision, *recall))
    columns = "detector, language, n, hits, false alarms, missed, precision, 95 % (Wilson), recall"
    return make_table(lines, f"{columns}, 95 % (Wilson) ")
