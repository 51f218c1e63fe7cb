"""Test sets in the target language, made under a stricter policy: the paper's second product.

No item enters without a reviewer's decision, or all checks clean and a score above a higher
threshold. Keys and option order stay as they are because the teacher never sees a key; the number
of options and the position of the key are proved again for every row before it is written.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..core.cards import render_card
from ..core.errors import InputError
from ..core.files import write_json, write_text
from ..core.provenance import hash_path
from ..core.records import Record, iter_jsonl, write_jsonl
from ..core.text import digest
from ..translation.texts import translated_record
from .decisions import ReviewDecision, is_simulated
from .merging import Merged, merge_decisions

_FORMAT = 1  # of the folder; raise it when a reader of older folders would misread it


def passes_threshold(state: dict, threshold: int) -> bool:
    """True when an item may enter without a reviewer.

    The rounds accepted it, every check is clean, and its score is at least the higher threshold.
    """
    best = state["best"]
    return state["state"] == "accept" and best["score"] >= threshold and not best["stops"]


def _queued(states: Iterable[dict]) -> list[dict]:
    """States that have a text, in the form of `review_queue`."""
    keys = {"queue_reason": "test item", "stratum": "", "reviewers": 1}
    return [state | keys for state in states if state["best"]]


def test_item_queue(states: Iterable[dict], threshold: int) -> list[dict]:
    """The items a reviewer must decide on, in the form of `review_queue`."""
    return [row for row in _queued(states) if not passes_threshold(row, threshold)]


def admit_test_items(states: list[dict], decisions: list[ReviewDecision], threshold: int) -> Merged:
    """{row id: (status, values, note)} under the stricter policy; every state gets exactly one.

    A person's decision outweighs score and checks.
    """
    merged = merge_decisions(states, _queued(states), decisions, "hold")
    decided = {decision.row_id for decision in decisions}
    for state in _queued(states):
        row_id, best = state["id"], state["best"]
        undecided = merged[row_id][0] == "held" and row_id not in decided
        if undecided and passes_threshold(state, threshold):
            merged[row_id] = ("ok", best["values"], f"every check clean, score {best['score']}")
    return merged


def admitted_records(states: list[dict], admitted: Merged, target: str) -> list[Record]:
    """The admitted rows in the target language.

    Raises `InputError` when a key or the number of options has changed.
    """
    rows = []
    for state in states:
        status, values, note = admitted[state["id"]]
        if status == "ok":
            english = Record(**state["record"])
            row = translated_record(english, values, target, note=note)
            if _fixed_fields(row) != _fixed_fields(english):
                raise InputError(f"{row.id}: its key or its options are not those of {english.id}")
            rows.append(row)
    return rows


def _fixed_fields(row: Record) -> tuple:
    return row.answer_index, len(row.options), row.split, row.source


def keys_hash(rows: Iterable[Record]) -> str:
    """Names the keys: equal for a set and its translation, whatever the texts."""
    return digest(sorted((r.parent_id or r.id, r.answer_index, len(r.options)) for r in rows))


def write_test_set(
    folder: Path,
    states: list[dict],
    rows: list[Record],
    admitted: Merged,
    excluded: dict[str, str],
    decisions: list[ReviewDecision],
    threshold: int,
    target: str,
) -> dict:
    """Write `<task>.<target>.jsonl`, a card and, last, a manifest; returns the manifest.

    `states` are the items that were to be translated, `rows` the admitted records, `excluded` the
    items left out by rule with the reason. Raises `InputError` when a key differs from its source.
    """
    english = [Record(**state["record"]) for state in states]
    originals = {r.id: r for r in english}
    if keys_hash(rows) != keys_hash([originals[r.parent_id] for r in rows]):
        raise InputError("the keys of the translated set differ from those of its source")
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / "manifest.json", *folder.glob("*.jsonl")]:
        old.unlink(missing_ok=True)  # of another language or another set of tasks
    tasks = {}
    for name in sorted({r.source for r in english}):
        own, path = [r for r in rows if r.source == name], folder / f"{name}.{target}.jsonl"
        write_jsonl(path, own)
        count = sum(r.source == name for r in english)
        tasks[name] = {"file": path.name, "items": len(own), "of": count, "sha256": hash_path(path)}
    entered = {i for i, (status, _, note) in admitted.items() if status == "ok" and " by " in note}
    by_people = {d.row_id for d in decisions if not is_simulated(d.reviewer)} & entered
    version = digest([task["sha256"] for task in tasks.values()], 8)
    statuses = Counter(status for status, *_ in admitted.values())
    manifest = {
        "format": _FORMAT,
        "language": target,
        "version": f"{_FORMAT}.{version}",
        "threshold": threshold,
        "items": len(rows),
        "of": len(english),
        "reviewed": len(by_people),
        "simulated": len(entered - by_people),
        "edited": sum(admitted[row_id][2].startswith("edit by") for row_id in entered),
        "not_admitted": {name: n for name, n in sorted(statuses.items()) if name != "ok"},
        "excluded": excluded,
        "keys": keys_hash(rows),
        "tasks": tasks,
    }
    task_rows = [{"task": name, **task} for name, task in tasks.items()]
    template = Path(__file__).with_name("testset_card.md.j2")
    write_text(folder / "README.md", [render_card(template, task_rows=task_rows, **manifest)])
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_test_set(folder: Path) -> list[Record]:
    """The rows of a written set.

    Raises `InputError` when a file is not the one its manifest describes.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    rows: list[Record] = []
    for name, task in manifest["tasks"].items():
        path = folder / task["file"]
        if not path.is_file() or hash_path(path) != task["sha256"]:
            raise InputError(
                f"{task['file']} is not the file its manifest describes: build the set of {name}"
                " again"
            )
        rows += iter_jsonl(path)
    return rows
