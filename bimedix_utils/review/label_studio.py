"""Reviewing in Label Studio: tasks for its import, a labelling page with right-to-left fields, and
its JSON export back to decisions.

Formats: Label Studio's documentation of tasks (https://labelstud.io/guide/task_format) and of the
tags Repeater, TextArea and Choices.
"""

from collections.abc import Iterable

from ..core.errors import InputError
from . import decide, findings, side_by_side
from .decisions import Decision

LABEL_CONFIG = """<View>
  <Style>.arabic, .arabic * { direction: rtl; text-align: right; }</Style>
  <Header value="$row_id"/>
  <Text name="row" value="$findings"/>
  <Repeater on="$parts" indexFlag="{{idx}}">
    <View>
      <Header size="5" value="$parts[{{idx}}].part"/>
      <Text name="source_{{idx}}" value="$parts[{{idx}}].source"/>
      <View className="arabic">
        <Text name="candidate_{{idx}}" value="$parts[{{idx}}].candidate"/>
        <TextArea name="corrected_{{idx}}" toName="candidate_{{idx}}" rows="3" editable="true" maxSubmissions="1"
                  placeholder="only when this part must change: the whole corrected text"/>
      </View>
    </View>
  </Repeater>
  <Choices name="verdict" toName="row" choice="single" required="true" showInline="true">
    <Choice value="approve" hotkey="a"/>
    <Choice value="edit" hotkey="e"/>
    <Choice value="reject" hotkey="r"/>
  </Choices>
  <TextArea name="note" toName="row" rows="1" editable="true" maxSubmissions="1" placeholder="note"/>
</View>
"""


def to_label_studio(queued: Iterable[dict]) -> list[dict]:
    """Tasks for Label Studio's import, one per queued row; set the project up with `LABEL_CONFIG`."""
    return [
        {
            "data": {
                "row_id": row["id"],
                "text_hash": row["best"]["text_hash"],
                "findings": "\n".join([f"score {row['best'].get('score')}", *findings(row)]),
                "parts": [
                    {"part": part, "source": source, "candidate": text}
                    for part, source, text in side_by_side(row)
                ],
            }
        }
        for row in queued
    ]


def _who(person: object) -> str:
    """The reviewer of an annotation: the e-mail address or name where the export holds one, else
    the user's number.
    """
    if isinstance(person, dict):
        name = f"{person.get('first_name', '')} {person.get('last_name', '')}".strip()
        person = person.get("email") or person.get("username") or name or person.get("id")
    return f"user {person}" if isinstance(person, int) else person or "not found"


def _values(where: str, results: Iterable[dict]) -> dict[str, str]:
    """{control name: its one value} of an annotation's results, choices and text areas alike."""
    values = {}
    for result in results:
        value = result.get("value", {})
        given = value.get("choices", value.get("text", []))
        given = [given] if isinstance(given, str) else given
        if len(given) > 1:
            raise InputError(
                f"{where}: {result.get('from_name')} has {len(given)} values; one is wanted"
            )
        values[result.get("from_name", "")] = "".join(given).strip()
    return values


def from_label_studio(tasks: Iterable[dict], queued: Iterable[dict]) -> list[Decision]:
    """Decisions from Label Studio's JSON export, in order of their time within a row; cancelled
    annotations are skipped.

    `lead_time` is the seconds, `completed_by` the reviewer. Raises `InputError` naming task and row
    for an unknown row, a changed text, an annotation without a verdict and corrections that do not
    fit it.
    """
    rows = {row["id"]: row for row in queued}
    decisions = []
    for number, task in enumerate(tasks, start=1):
        data = task.get("data", {})
        where = f"task {task.get('id', number)} ({data.get('row_id', 'no row_id')})"
        if "annotations" not in task:
            raise InputError(
                f"{where}: no annotations; export the project as JSON, not as JSON-MIN or CSV"
            )
        row = rows.get(data.get("row_id"))
        if row is None:
            raise InputError(
                f"{where}: no row of this queue has that row_id; is the export of another run?"
            )
        if data.get("text_hash") != row["best"]["text_hash"]:
            raise InputError(
                f"{where}: the text changed since the tasks were made; import the tasks again"
            )
        names = [part for part, _, _ in side_by_side(row)]
        given = [
            annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")
        ]
        for annotation in sorted(
            given, key=lambda a: a.get("updated_at") or a.get("created_at") or ""
        ):
            values = _values(where, annotation.get("result", []))
            corrections = {
                part: text
                for i, part in enumerate(names)
                if (text := values.get(f"corrected_{i}", ""))
            }
            if odd := [
                name
                for name in values
                if name.startswith("corrected_") and name[10:] not in map(str, range(len(names)))
            ]:
                raise InputError(
                    f"{where}: {odd[0]} belongs to no part of this row; set the project up with"
                    " LABEL_CONFIG"
                )
            verdict = values.get("verdict") or ("edit" if corrections else "")
            when = annotation.get("updated_at") or annotation.get("created_at") or "not found"
            who, note = _who(annotation.get("completed_by")), values.get("note", "")
            decisions.append(
                decide(
                    where, row, verdict, corrections, who, when, note, annotation.get("lead_time")
                )
            )
    return decisions
