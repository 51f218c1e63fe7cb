"""The human gate: a queue of translations, a reviewer's decisions, and a merge that loses nothing.

All rows the rounds could not accept, plus a seeded random sample of those they did, go to a reviewer, as in the paper. A decision
names the hash of the text it was made on: when the text changes, the old decision is void.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .records import Record, read_utf8
from .text import digest
from .translation import fields, parts

COLUMNS = ["row_id", "verdict", "edited", "reviewer", "decided_at", "text_hash", "note"]
VERDICTS = ("approve", "edit", "reject")
POLICIES = ("hold", "accept_high_scores")


@dataclass(frozen=True)
class Decision:
    """A reviewer's word on one row. `edited` holds the corrected values when the verdict is `edit`."""

    row_id: str
    verdict: str
    edited: dict | None
    reviewer: str
    decided_at: str
    text_hash: str
    note: str = ""


def sampled(row_id: str, share: float, seed: int) -> bool:
    """True for a seeded `share` (0..1) of ids; decided by the id's own hash, so adding rows moves no other row in or out."""
    return int(digest(f"review:{seed}:{row_id}", 8), 16) / 0xFFFFFFFF < share


def queue(states: Iterable[dict], share: float, seed: int) -> list[dict]:
    """The rows a reviewer must see, each with its reason: `low` (not accepted by the rounds) or `sample` (a high score drawn).

    `states` are the rows of 03's `states.jsonl`. Rows without any version have nothing to review and are not in the queue.
    """
    result = []
    for state in states:
        if state["best"] is None:
            continue
        if state["state"] == "human":
            result.append({**state, "queue_reason": "low"})
        elif state["state"] == "accept" and sampled(state["id"], share, seed):
            result.append({**state, "queue_reason": "sample"})
    return result


def read_decisions(path: Path) -> list[Decision]:
    """Decisions from a CSV file. Raises `InputError` naming line and column for anything that cannot be a decision."""
    rows = list(csv.reader(read_utf8(path).splitlines(keepends=True)))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise InputError(f"{path.name}: columns wanted {', '.join(COLUMNS)}; seen {', '.join(rows[0]) if rows else 'none'}")
    result: dict[str, Decision] = {}
    for number, cells in enumerate(rows[1:], start=2):
        where = f"{path.name}, row {number}"
        if len(cells) != len(rows[0]):
            raise InputError(f"{where}: {len(cells)} cells; wanted {len(rows[0])}")
        row = dict(zip(rows[0], cells, strict=True))
        if row["verdict"] not in VERDICTS:
            raise InputError(f"{where}: verdict {row['verdict']!r}; wanted one of {', '.join(VERDICTS)}")
        try:
            edited = json.loads(row["edited"]) if row["verdict"] == "edit" else None
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: column edited is not JSON ({error.msg}); were straight quotes turned into curly ones?") from None
        if row["verdict"] == "edit" and not isinstance(edited, dict):
            raise InputError(f"{where}: column edited holds {type(edited).__name__}; a JSON object with the text's own keys was expected")
        if row["row_id"] in result:
            raise InputError(f"{where}: a second decision for {row['row_id']}")
        result[row["row_id"]] = Decision(
            row["row_id"], row["verdict"], edited, row["reviewer"], row["decided_at"], row["text_hash"], row["note"]
        )
    return list(result.values())


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """Write decisions as CSV (UTF-8 with a byte-order mark, which Excel needs to show Arabic)."""
    with open(path, "w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for d in decisions:
            edited = json.dumps(d.edited, ensure_ascii=False) if d.edited is not None else ""
            writer.writerow([d.row_id, d.verdict, edited, d.reviewer, d.decided_at, d.text_hash, d.note])


def shape(value: object) -> object:
    """The form of a text: its keys, the number of options or turns, the speakers, and the types; not the words."""
    if isinstance(value, dict):
        return {key: part if key == "role" else shape(part) for key, part in sorted(value.items())}
    return [shape(part) for part in value] if isinstance(value, list) else type(value).__name__


def merge(states: list[dict], queued: list[dict], decisions: list[Decision], policy: str) -> dict[str, tuple[str, dict | None, str]]:
    """{row id: (status, values, note)} for every state: a pure function of its arguments.

    A decided row follows its decision, in the queue or not: what a person decided stays decided when another share or seed queues other
    rows. An undecided one waits (`held`), except that under `accept_high_scores` a sampled high
    score passes. A decision whose text has changed is void and its row counts as undecided. Raises `InputError` for a decision on
    a row that has no translation here, or an edit with other keys than the text it replaces.
    """
    waiting = {state["id"]: state for state in queued}
    reviewable = {state["id"]: state for state in states if state["best"]}
    decided = {}
    for decision in decisions:
        state = reviewable.get(decision.row_id)
        if state is None:
            raise InputError(f"decision on {decision.row_id}: no translation of that row was made in this run")
        if decision.text_hash != state["best"]["text_hash"]:
            continue
        if decision.edited is not None:
            # The form to keep is the English record's: the translation under review may have lost an option.
            source = fields(Record(**state["record"]))
            if shape(decision.edited) != shape(source):
                raise InputError(f"decision on {decision.row_id}: the edit has the form {shape(decision.edited)}; wanted {shape(source)}")
            if not all(text.strip() for text in parts(decision.edited)):
                raise InputError(f"decision on {decision.row_id}: the edit leaves a text empty")
        decided[decision.row_id] = decision
    void = {decision.row_id for decision in decisions} - set(decided)
    result: dict[str, tuple[str, dict | None, str]] = {}
    for state in states:
        row_id, best = state["id"], state["best"]
        values = best["values"] if best else None
        if row_id in decided:
            decision = decided[row_id]
            verdict = {"approve": ("ok", values), "edit": ("ok", decision.edited), "reject": ("rejected", None)}[decision.verdict]
            result[row_id] = (*verdict, f"{decision.verdict} by {decision.reviewer}")
        elif row_id in waiting:
            passes = policy == "accept_high_scores" and waiting[row_id]["queue_reason"] == "sample"
            note = "high score, not reviewed" if passes else "decision void: the text changed" if row_id in void else "waits for review"
            result[row_id] = ("ok", values, note) if passes else ("held", None, note)
        elif state["state"] == "accept":
            result[row_id] = ("ok", values, "accepted by score and checks")
        else:
            result[row_id] = (state["state"], None, state["note"])
    return result
