"""What notebook 03 shows of the rounds, as rows of tables."""

import json
from collections.abc import Iterable
from pathlib import Path

from ..core.files import read_utf8
from ..core.records import Record
from ..core.studies import read_study
from .calibration import SCORE_EDGES
from .rounds import RowState
from .texts import flat_texts


def state_rows(states: Iterable[RowState]) -> list[tuple]:
    """(row, state, versions, score of the best version, its first text) of each row."""
    rows = []
    for state in states:
        best = (state.best.score, flat_texts(state.best.values)[0]) if state.best else ("-", "-")
        rows.append((state.record.id, state.state, len(state.versions), *best))
    return rows


def version_rows(state: RowState) -> list[tuple]:
    """(round, score, what checks found, what the scorer found) of each version of a row."""
    return [
        (
            version.round,
            version.score,
            "; ".join(map(str, version.flags)) or "-",
            "; ".join(error.explanation for error in version.errors) or "-",
        )
        for version in state.versions
    ]


def overruled_scores(states: Iterable[RowState], threshold: int) -> list[tuple]:
    """(row, round, score, check, reason) of versions with a passing score that a check stops."""
    rows = []
    for state in states:
        for version in state.versions:
            stops = [flag for flag in version.flags if flag.stops]
            if stops and version.score is not None and version.score >= threshold:
                first = (stops[0].check, stops[0].reason)
                rows.append((state.record.id, version.round, version.score, *first))
    return rows


def first_and_best_scores(states: Iterable[RowState]) -> tuple[list[int], list[int]]:
    """The scores of the first and of the best version of every row that has them."""
    states = [state for state in states if state.versions]
    first = [state.versions[0].score for state in states]
    best = [state.best.score for state in states]
    return [s for s in first if s is not None], [s for s in best if s is not None]


def score_band_rows(first: Iterable[int], best: Iterable[int]) -> list[tuple[str, int, int]]:
    """(band of scores, first versions, best versions) over `SCORE_EDGES`."""
    first, best = list(first), list(best)
    rows = []
    for low, high in zip(SCORE_EDGES, SCORE_EDGES[1:], strict=False):
        counts = (sum(low <= score < high for score in scores) for scores in (first, best))
        rows.append((f"{low} to {high - 1}", *counts))
    return rows


def scores_by_text(states: Iterable[RowState]) -> dict[tuple[str, str], int]:
    """{(row id, text hash): score} of every scored version."""
    versions = [(state.record.id, v) for state in states for v in state.versions]
    return {(row_id, v.text_hash): v.score for row_id, v in versions if v.score is not None}


def row_endings(
    records: Iterable[Record], states: Iterable[RowState], excluded: dict[str, str]
) -> dict[str, tuple[str, str]]:
    """{row id: (state, note)} of every English record: each ends in exactly one state."""
    endings = {state.record.id: (state.state, state.note) for state in states}
    endings |= {i: ("rejected", f"not translatable: {why}") for i, why in excluded.items()}
    for record in records:
        note = "kept for testing" if record.split != "train" else "not drawn"
        endings.setdefault(record.id, ("held", note))
    return endings


def check_study_rows(folder: Path) -> list[tuple]:
    """(check, damaged texts stopped, good texts stopped, its best kind of damage, stopped of it).

    From the committed study of the checks, each count with its denominator.
    """
    manifest = json.loads(read_utf8(folder / "checks.json"))
    damaged = sum(manifest["n"][kind] for kind in manifest["detection"])
    good = manifest["pairs"] + sum(manifest["n"].values()) - damaged
    return [
        (
            row["check"],
            f"{row['damaged_stopped']} of {damaged:,}",
            f"{row['good_stopped']} of {good:,}",
            row["best_at"],
            f"{row['of_these_stopped']} of {row['of_these']}",
        )
        for row in read_study(folder, "checks")
    ]
