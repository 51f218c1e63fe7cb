"""Reviewing in Label Studio: tasks for its import, a labelling page, its JSON export to decisions.

Formats: Label Studio's documentation of tasks (https://labelstud.io/guide/task_format) and of the
tags Repeater, TextArea and Choices. The labelling page is `label_studio.xml` beside this module.
"""

from collections.abc import Iterable
from pathlib import Path

from ..core.errors import InputError
from .decisions import ReviewDecision, make_decision
from .parts import row_findings, side_by_side

LABEL_CONFIG = Path(__file__).with_name("label_studio.xml")


def to_label_studio(queued: Iterable[dict]) -> list[dict]:
    """Tasks for Label Studio's import, one per queued row; the project uses `LABEL_CONFIG`."""
    tasks = []
    for row in queued:
        names = ("part", "source", "candidate")
        findings = [f"score {row['best'].get('score')}", *row_findings(row)]
        data = {"row_id": row["id"], "text_hash": row["best"]["text_hash"]}
        data["findings"] = "\n".join(findings)
        data["parts"] = [dict(zip(names, texts, strict=True)) for texts in side_by_side(row)]
        tasks.append({"data": data})
    return tasks


def _reviewer_name(person: object) -> str:
    """The e-mail address or name of an annotation's author, else the user's number."""
    if isinstance(person, dict):
        name = f"{person.get('first_name', '')} {person.get('last_name', '')}".strip()
        person = person.get("email") or person.get("username") or name or person.get("id")
    return f"user {person}" if isinstance(person, int) else person or "not found"


def _values(where: str, results: Iterable[dict]) -> dict[str, str]:
    """{control name: its one value} of an annotation's results, choices and text areas alike."""
    values = {}
    for result in results:
        name, value = result.get("from_name", ""), result.get("value", {})
        given = value.get("choices", value.get("text", []))
        given = [given] if isinstance(given, str) else given
        if len(given) > 1:
            raise InputError(f"{where}: {name} has {len(given)} values; expected one")
        values[name] = "".join(given).strip()
    return values


def from_label_studio(tasks: Iterable[dict], queued: Iterable[dict]) -> list[ReviewDecision]:
    """Decisions from Label Studio's JSON export, in order of their time within a row.

    Cancelled annotations are skipped. `lead_time` is the seconds, `completed_by` the reviewer.
    Raises `InputError` naming task and row for an unknown row, a changed text, an annotation
    without a verdict and corrections that do not fit it.
    """
    rows = {row["id"]: row for row in queued}
    decisions = []
    for number, task in enumerate(tasks, start=1):
        row_id = task.get("data", {}).get("row_id", "no row_id")
        where = f"task {task.get('id', number)} ({row_id})"
        if "annotations" not in task:
            raise InputError(
                f"{where}: no annotations; export the project as JSON, not as JSON-MIN or CSV"
            )
        if row_id not in rows:
            raise InputError(
                f"{where}: no row of this queue has that row_id; is the export of another run?"
            )
        if task["data"].get("text_hash") != rows[row_id]["best"]["text_hash"]:
            raise InputError(
                f"{where}: the text changed since the tasks were made; import the tasks again"
            )
        given = [a for a in task["annotations"] if not a.get("was_cancelled")]
        decisions += [_decision(where, rows[row_id], a) for a in sorted(given, key=_when)]
    return decisions


def _when(annotation: dict) -> str:
    return annotation.get("updated_at") or annotation.get("created_at") or ""


def _decision(where: str, row: dict, annotation: dict) -> ReviewDecision:
    values = _values(where, annotation.get("result", []))
    parts = {f"corrected_{i}": part for i, (part, _, _) in enumerate(side_by_side(row))}
    if odd := [name for name in values if name.startswith("corrected_") and name not in parts]:
        raise InputError(
            f"{where}: {odd[0]} belongs to no part of this row; set the project up with"
            f" {LABEL_CONFIG.name}"
        )
    corrections = {part: values[name] for name, part in parts.items() if values.get(name)}
    verdict = values.get("verdict") or ("edit" if corrections else "")
    reviewer, when = _reviewer_name(annotation.get("completed_by")), _when(annotation)
    note, seconds = values.get("note", ""), annotation.get("lead_time")
    return make_decision(
        where, row, verdict, corrections, reviewer, when or "not found", note, seconds
    )
