"""Test sets in the target language, made by the pipeline under a stricter policy: the paper's
second product.

Nothing enters without a reviewer's decision, or every check clean and a score above a higher bar.
Keys and option order stay as they are because the teacher never sees a key; count and place are
proved again for every row before it is written.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import InputError
from ..core.files import write_json, write_text
from ..core.provenance import hash_path
from ..core.records import Record, iter_jsonl, write_jsonl
from ..core.text import digest
from ..translation.texts import translated_record
from . import Decision, is_simulated, merge

FORMAT = 1  # of the folder; raise it when a reader of older folders would misread it


def clears(state: dict, bar: int) -> bool:
    """True when an item may enter without a reviewer: accepted by the rounds, every check clean, a
    score of at least the higher bar.
    """
    return (
        state["state"] == "accept" and state["best"]["score"] >= bar and not state["best"]["stops"]
    )


def _queued(states: Iterable[dict]) -> list[dict]:
    """States that have a text, in the form of `review.queue`."""
    return [
        {**state, "queue_reason": "test item", "stratum": "", "reviewers": 1}
        for state in states
        if state["best"]
    ]


def queue(states: Iterable[dict], bar: int) -> list[dict]:
    """The items a reviewer must decide on, in the form of `review.queue`."""
    return [row for row in _queued(states) if not clears(row, bar)]


def admit(
    states: list[dict], decisions: list[Decision], bar: int
) -> dict[str, tuple[str, dict | None, str]]:
    """{row id: (status, values, note)} under the stricter policy; every state gets exactly one. A
    person's decision outweighs all.
    """
    merged, decided = (
        merge(states, _queued(states), decisions, "hold"),
        {decision.row_id for decision in decisions},
    )
    for row_id, best in (
        (s["id"], s["best"])
        for s in states
        if s["best"] and clears(s, bar) and s["id"] not in decided
    ):
        if merged[row_id][0] == "held":
            merged[row_id] = ("ok", best["values"], f"every check clean, score {best['score']}")
    return merged


def arabic_rows(
    states: list[dict], admitted: dict[str, tuple[str, dict | None, str]], target: str
) -> list[Record]:
    """The admitted rows in the target language. Raises `InputError` should a key or the number of
    options have moved.
    """
    rows = []
    for state in states:
        status, values, note = admitted[state["id"]]
        if status == "ok":
            english = Record(**state["record"])
            row = translated_record(english, values, target, note=note)
            if (row.answer_index, len(row.options), row.split, row.source) != (
                english.answer_index, len(english.options), english.split, english.source,
            ):  # fmt: skip
                raise InputError(f"{row.id}: its key or its options are not those of {english.id}")
            rows.append(row)
    return rows


def keys_hash(rows: Iterable[Record]) -> str:
    """Names the keys: equal for a set and its translation, whatever the texts."""
    return digest(
        sorted((row.parent_id or row.id, row.answer_index, len(row.options)) for row in rows)
    )


def write(
    folder: Path, english: list[Record], rows: list[Record], admitted: dict[str, tuple[str, dict | None, str]], excluded: dict[str, str],
    decisions: list[Decision], bar: int, target: str,
) -> dict:  # fmt: skip
    """Write `<task>.<target>.jsonl`, a card and, last, a manifest; returns the manifest.

    `english` are the items that were to be translated, `excluded` those left out by rule with the
    reason.
    """
    originals = {r.id: r for r in english}
    if keys_hash(rows) != keys_hash([originals[r.parent_id] for r in rows]):
        raise InputError("the keys of the translated set differ from those of its source")
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / "manifest.json", *folder.glob("*.jsonl")]:
        old.unlink(missing_ok=True)  # of another language or another set of tasks
    tasks = {}
    for name in sorted({r.source for r in english}):
        own = [r for r in rows if r.source == name]
        path = folder / f"{name}.{target}.jsonl"
        write_jsonl(path, own)
        tasks[name] = {
            "file": path.name,
            "items": len(own),
            "of": sum(r.source == name for r in english),
            "sha256": hash_path(path),
        }
    entered = {
        row_id
        for row_id, (status, _, note) in admitted.items()
        if status == "ok" and " by " in note
    }
    by_people = {
        d.row_id for d in decisions if d.row_id in entered and not is_simulated(d.reviewer)
    }
    edited = {row_id for row_id in entered if admitted[row_id][2].startswith("edit by")}
    manifest = {
        "format": FORMAT, "language": target, "version": f"{FORMAT}.{digest([task['sha256'] for task in tasks.values()], 8)}", "bar": bar,
        "items": len(rows), "of": len(english), "reviewed": len(by_people), "simulated": len(entered - by_people), "edited": len(edited),
        "not_admitted": dict(sorted(Counter(status for status, *_ in admitted.values() if status != "ok").items())),
        "excluded": excluded, "keys": keys_hash(rows), "tasks": tasks,
    }  # fmt: skip
    write_text(folder / "README.md", [card(manifest)])
    write_json(folder / "manifest.json", manifest)
    return manifest


def card(manifest: dict) -> str:
    """The set's card, in words."""
    rows = "\n".join(
        f"| {name} | {task['items']} | {task['of']} |" for name, task in manifest["tasks"].items()
    )
    excluded = (
        "\n".join(f"* {row_id}: {reason}" for row_id, reason in manifest["excluded"].items())
        or "* none"
    )
    left = (
        ", ".join(f"{count} {status}" for status, count in manifest["not_admitted"].items())
        or "none"
    )
    return f"""# A medical test set in {manifest["language"]}, version {manifest["version"]}

**Research and teaching only, never medical advice.** Translated from English by a teacher model; not validated by practising physicians.

{manifest["items"]} of {manifest["of"]} items. An item enters with a reviewer's decision, or when every check is clean and its score is at
least {manifest["bar"]}. Decided by people: {manifest["reviewed"]}; by simulated reviewers, which are no people: {manifest["simulated"]};
edited: {manifest["edited"]}. Not admitted: {left}.

| task | items | of |
|---|---:|---:|
{rows}

The teacher never sees a key, and the number of options and the key's place are those of the English items (hash of all keys:
{manifest["keys"]}). That each option stands in its own place is judged by the scorer, by numbers and names, and by a sentence encoder
where it knows the language; an item in doubt is not admitted without a reviewer.

## Left out by rule: the item's point is an English word
{excluded}

## Known limits
* Items left out or not admitted make the set smaller and perhaps easier than its source: compare scores on the same items only.
* The checks see words and numbers, not meaning; the score is a model's. The licence is that of the source of each item.
"""


def read(folder: Path) -> list[Record]:
    """The rows of a written set. Raises `InputError` when a file is not the one its manifest
    describes.
    """
    import json

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
