"""Replay: recorded answers stand in for a teacher, so the default run needs no account or network.

A recording is stored under (stage, row id, round, sample) with the prompt version it answers.
Under the request id, every changed comma in a prompt would orphan it.
"""

from pathlib import Path

from ..core.errors import TeacherError
from ..core.files import iter_json_lines
from .requests import Request
from .store import Answer

RECORDING_FIELDS = ("stage", "row_id", "round", "sample", "prompt_version", "finish_reason", "text")


def read_recordings(folder: Path) -> dict[tuple[str, str, int, int], dict]:
    """All recordings of a folder by (stage, row id, round, sample). Raises `TeacherError`."""
    recordings: dict[tuple[str, str, int, int], dict] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, row in iter_json_lines(path):
            where = f"{path.name}, line {number}"
            missing = [name for name in RECORDING_FIELDS if name not in row]
            if missing:
                raise TeacherError(f"{where}: a recording needs {', '.join(missing)}")
            if "prompt" in row:
                raise TeacherError(
                    f"{where}: an unfinished skeleton: write its answer and delete the field prompt"
                )
            key = (row["stage"], row["row_id"], row["round"], row["sample"])
            if key in recordings:
                raise TeacherError(f"{where}: a second recording of {key}")
            recordings[key] = row
    if not recordings:
        raise TeacherError(
            f'{folder.name}: no recordings; use TEACHER = "http" with an endpoint, or restore'
            " data/recordings"
        )
    return recordings


def recorded_answers(
    requests: list[Request], folder: Path, any_prompt: bool = False
) -> dict[str, Answer]:
    """The recorded answer of each request, by request id; a missing one has no text and an error.

    Raises `TeacherError` when a recording answers another text of its prompt, unless `any_prompt`
    (for the tools that rekey recordings).
    """
    recordings = read_recordings(folder)
    found: dict[str, Answer] = {}
    orphans = []
    for request in requests:
        row = recordings.get(request.recording_key)
        if row is None:
            # Equal requests of several rows share one id; any of these rows may have the recording.
            found.setdefault(request.id, Answer(request.id, None, error="no recording"))
            continue
        if row["prompt_version"] != request.prompt_version and not any_prompt:
            orphans.append((request, row))
        found[request.id] = Answer(request.id, row["text"], row["finish_reason"])
    if orphans:
        request, row = orphans[0]
        raise TeacherError(
            f"the prompt {request.stage} is {request.prompt_version}; {len(orphans)} recordings"
            f" answer another text of it, first {request.row_id} ({row['prompt_version']}). `make"
            " orphans` lists them; `make rekey` adopts them if they still answer"
        )
    return found
