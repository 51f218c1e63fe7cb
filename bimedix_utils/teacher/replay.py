"""Replay: recorded answers stand in for a teacher, so that the default run needs no account and no
network.

A recording is stored under (stage, row id, round, sample) with the prompt version it answers. Were
it stored under the request id, every change of a comma in a prompt would orphan it.
"""

from pathlib import Path

from ..core.errors import TeacherError
from ..core.files import iter_json_lines
from .requests import Request
from .store import Answer

RECORDING_FIELDS = ("stage", "row_id", "round", "sample", "prompt_version", "finish_reason", "text")


def read_recordings(folder: Path) -> dict[tuple[str, str, int, int], dict]:
    """All recordings of a folder by place. Raises `TeacherError` for a missing field or two
    recordings of one place.
    """
    recordings: dict[tuple[str, str, int, int], dict] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, row in iter_json_lines(path):
            missing = [name for name in RECORDING_FIELDS if name not in row]
            if missing:
                raise TeacherError(
                    f"{path.name}, line {number}: a recording needs {', '.join(missing)}"
                )
            place = (row["stage"], row["row_id"], row["round"], row["sample"])
            if "prompt" in row:
                raise TeacherError(
                    f"{path.name}, line {number}: an unfinished skeleton: write its answer and"
                    " delete the field prompt"
                )
            if place in recordings:
                raise TeacherError(f"{path.name}, line {number}: a second recording of {place}")
            recordings[place] = row
    if not recordings:
        raise TeacherError(
            f'{folder.name}: no recordings; use TEACHER = "http" with an endpoint, or restore'
            " data/recordings"
        )
    return recordings


def recorded_answers(
    requests: list[Request], folder: Path, any_prompt: bool = False
) -> dict[str, Answer]:
    """The recorded answer of each request, by request id; one without a recording gets text None
    and the error `no recording`.

    Raises `TeacherError` when a recording answers another text of its prompt (unless `any_prompt`,
    for the tools that mend this): such answers would pass for what they are not.
    """
    recordings = read_recordings(folder)
    found: dict[str, Answer] = {}
    orphans = []
    for request in requests:
        row = recordings.get(request.place)
        if row is not None and row["prompt_version"] != request.prompt_version and not any_prompt:
            orphans.append((request, row))
        # Equal requests of several rows share one id; any of these rows may own the recording.
        if row is not None:
            found[request.id] = Answer(request.id, row["text"], row["finish_reason"])
        else:
            found.setdefault(request.id, Answer(request.id, None, error="no recording"))
    if orphans:
        request, row = orphans[0]
        raise TeacherError(
            f"the prompt {request.stage} is {request.prompt_version}; {len(orphans)} recordings"
            f" answer another text of it, first {request.row_id} ({row['prompt_version']}). `make"
            " orphans` lists them; `make rekey` adopts them if they still answer"
        )
    return found
