"""Authoring: keep `data/recordings` in step with prompts, rows and texts. Not part of any run.

python -m bimedix_utils.runner.recordings orphans           recordings that no prompt or row of the
smoke run asks for any more
python -m bimedix_utils.runner.recordings rekey             adopt recordings of an older prompt text
that still have the wanted structure,
                                                     and write the simulated judge's anew
python -m bimedix_utils.runner.recordings missing           skeletons of the recordings the smoke
run asks for and does not find, as JSON Lines
python -m bimedix_utils.runner.recordings decisions         simulated reviewer decisions for the
queue of the last smoke run
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from .. import sources, synthesis, translation
from ..core import parameters
from ..core.errors import command
from ..core.files import iter_json_lines, write_json_lines
from ..core.language import load_language
from ..core.provenance import NOTEBOOKS, ROOT, run_folder
from ..core.records import Record, iter_jsonl
from ..core.text import digest
from ..evaluation.open_ended import judge_recordings
from ..review import ReviewDecision, write_decisions
from ..teacher import parsing, replay
from ..teacher.engine import ask_structured
from ..teacher.requests import Request
from ..teacher.settings import Teacher
from ..teacher.store import Answer

FOLDER = ROOT / "data" / "recordings"
Place = tuple[str, str, int, int]
# Faults whose answers cannot be read, on purpose, and the status each must reach.
UNREADABLE = {"truncated": "truncated", "refusal": "refused", "not_json": "parse_failed"}


@dataclass
class Watch:
    """Stands where `engine.ask` stands: answers from a folder of recordings and notes every request
    with the structure it wants.
    """

    folder: Path = FOLDER
    asked: dict[Place, tuple[Request, Record]] = field(default_factory=dict)
    rows: dict[str, Record] = field(default_factory=dict)

    def __call__(self, teacher: Teacher, requests: list[Request]) -> dict[str, Answer]:
        self.asked |= {
            request.recording_key: (request, self.rows[request.row_id]) for request in requests
        }
        return replay.recorded_answers(requests, self.folder, any_prompt=True)


def smoke_requests(folder: Path = FOLDER) -> dict[Place, tuple[Request, Record]]:
    """Every request of a smoke run's notebooks 02 and 03, with the row it is about. Reads `data/`,
    needs no run.
    """
    chat, text = (
        parameters.preset_values(NOTEBOOKS, "smoke", NOTEBOOKS / f"{name}.ipynb")
        for name in ("02_synthesize_chats", "03_translate_and_refine")
    )
    items = [
        r
        for path in sources.find_files(ROOT / "data" / "sample")
        for r in sources.read_file(path, kit=True)
    ]
    teacher = Teacher(backend="replay", model=chat["TEACHER_MODEL"], recordings=folder)
    watch = Watch(folder, rows={r.id: r for r in items})
    limits = chat["MIN_EXCHANGES"], chat["MAX_EXCHANGES"]
    questions = synthesis.seed_questions(items, chat["MAX_CHATS"], chat["SEED"])
    requests = synthesis.chat_requests(questions, teacher, *limits, chat["SEED"])
    chats, _ = synthesis.collect_chats(
        questions, ask_structured(teacher, requests, lambda _: synthesis.Chat, watch), *limits
    )
    watch.rows |= {r.id: r for r in chats}
    arabic, other = (
        load_language("ar", ROOT / "data" / "knowledge"),
        load_language(text["OTHER_TARGET"]),
    )
    wanted = translation.rows_to_translate(items + chats)
    known = translation.read_calibration_items(ROOT / text["CALIBRATION"])
    watch.rows |= {item.id: watch.rows[item.row_id] for item in known}
    translation.score_items(known, {r.id: r for r in items}, teacher, arabic, ask=watch)
    recorded = {place[1] for place in replay.read_recordings(folder)}
    few = [r for r in wanted if f"{r.id}:{other.code}" in recorded][: text["OTHER_ROWS"]]
    watch.rows |= {f"{r.id}:{other.code}": r for r in few}
    for rows, language in (
        (wanted, arabic),
        (translation.select_test_items(items, text["TESTSET_ROWS"], text["SEED"]), arabic),
        (few, other),
    ):
        translation.run_rounds(
            rows, teacher, text["ACCEPT_SCORE"], text["REFINEMENTS"], language, ask=watch
        )
    return watch.asked


def wanted_structure(request: Request, record: Record) -> type[BaseModel]:
    """The structure an answer to this request must have."""
    stage = request.stage.removeprefix("repair_")
    return (
        synthesis.Chat if stage == synthesis.CHAT_STAGE else translation.stage_model(record, stage)
    )


def still_answers(row: dict, request: Request, record: Record) -> str:
    """Why a recording no longer answers its request, or "" when it does: the wanted structure, or
    the failure planted in it.
    """
    status, _, note = parsing.parse_answer(
        Answer(request.id, row["text"], row["finish_reason"]), wanted_structure(request, record)
    )
    expected = UNREADABLE.get(row.get("fault", ""), "ok")
    return "" if status == expected else f"read as {status}, wanted {expected}: {note}"


def orphans(folder: Path = FOLDER) -> Iterator[tuple[Place, str]]:
    """(place, reason) of each recording that the smoke run does not ask for, or asks for with
    another text of the prompt.
    """
    asked = smoke_requests(folder)
    for place, row in replay.read_recordings(folder).items():
        if place not in asked:
            yield place, "no row of the smoke run asks for it"
        elif row["prompt_version"] != (now := asked[place][0].prompt_version):
            yield place, f"answers {row['prompt_version']}, the prompt is {now}"


def rekey(folder: Path = FOLDER) -> tuple[int, list[tuple[Place, str]]]:
    """Give recordings of an older prompt text the present one. Returns (number adopted, those that
    need a rewrite and why).

    Nothing is written when any of them needs a rewrite: a half-adopted folder would hide the rest.
    """
    asked = smoke_requests(folder)
    adopted, broken, files = 0, [], {}
    for path in sorted(folder.glob("*.jsonl")):
        files[path] = [row for _, row in iter_json_lines(path)]
        for row in files[path]:
            place = (row["stage"], row["row_id"], row["round"], row["sample"])
            if place not in asked or row["prompt_version"] == asked[place][0].prompt_version:
                continue
            if reason := still_answers(row, *asked[place]):
                broken.append((place, reason))
            row["prompt_version"] = asked[place][0].prompt_version
            adopted += 1
    if not broken:
        for path, rows in files.items():
            write_json_lines(path, rows)
    return (0 if broken else adopted), broken


def blank(request: Request, record: Record) -> dict:
    """The structure of an answer with every text left empty."""
    stage = request.stage.removeprefix("repair_")
    if stage == synthesis.CHAT_STAGE:
        return {"turns": [{"role": role, "text": ""} for role in ("patient", "doctor") * 2]}
    if stage == "score":
        return {"errors": [], "score": None}

    def emptied(value: object) -> object:
        if isinstance(value, list):
            return [emptied(item) for item in value]
        return {**value, "text": ""} if isinstance(value, dict) else ""

    return {key: emptied(value) for key, value in translation.text_fields(record).items()}


def missing(folder: Path = FOLDER) -> Iterator[dict]:
    """A skeleton for each recording that the smoke run asks for and does not find. The field
    `prompt` shows what is asked; replay refuses a row that still has it. After a translation is
    written, run again: its score is asked only then.
    """
    recorded = replay.read_recordings(folder)
    for place, (request, record) in smoke_requests(folder).items():
        if place not in recorded:
            keys = dict(zip(("stage", "row_id", "round", "sample"), place, strict=True))
            text = json.dumps(blank(request, record), ensure_ascii=False)
            yield {
                **keys,
                "prompt_version": request.prompt_version,
                "finish_reason": "stop",
                "text": text,
                "fault": "",
                "author": "",
                "date": "",
                "prompt": request.messages[-1][1],
            }


def simulate(queue: list[dict], gold: dict[str, Record]) -> list[ReviewDecision]:
    """Decisions careful reviewers might make, by rule and marked as simulated: no person made them.

    A high score is approved. A low score is replaced by the kit's gold Arabic; a row without gold
    stays undecided. Where two reviewers are wanted the second one mostly agrees; of their
    disagreements (one row in three, by a hash of the id) a third one settles every other.
    """
    decisions = []
    for row in queue:
        place = int(digest(f"simulated:{row['id']}", 8), 16)
        for reviewer in ("simulated", "simulated B", "simulated C")[
            : 1 if row["reviewers"] == 1 else 3 if place % 6 == 0 else 2
        ]:
            doubts = reviewer == "simulated B" and place % 3 == 0
            if (decision := _simulated(row, gold.get(row["id"]), reviewer, doubts)) is not None:
                decisions.append(decision)
    return decisions


def _simulated(
    row: dict, gold: Record | None, reviewer: str, doubts: bool
) -> ReviewDecision | None:
    common = {
        "reviewer": reviewer,
        "decided_at": "not found",
        "text_hash": row["best"]["text_hash"],
    }
    if (row["state"] == "accept") != doubts:
        return ReviewDecision(
            row["id"],
            "approve",
            None,
            note="simulated by rule: high score" if not doubts else "simulated by rule: a doubt",
            **common,
        )
    if gold is None:
        return None
    return ReviewDecision(
        row["id"],
        "edit",
        translation.text_fields(gold),
        note="simulated by rule: replaced by the kit's gold",
        **common,
    )


def renew_decisions() -> str:
    """Write `decisions.csv` for the queues of the last smoke run; returns what was done."""
    run = run_folder("smoke", "")
    folder = run / "04_review_translations"
    queue = [
        row
        for name in ("queue", "testset_queue")
        for _, row in iter_json_lines(folder / f"{name}.jsonl")
    ]
    gold = {
        r.parent_id: r
        for r in iter_jsonl(run / "01_prepare_sources" / "records.jsonl")
        if r.lang == "ar"
    }
    decisions = simulate(queue, gold)
    write_decisions(FOLDER / "decisions.csv", decisions)
    return f"{len(decisions)} simulated decisions for {len(queue)} queued rows"


@command
def main() -> int:
    """The command line. The exit status is 1 when recordings need a hand."""
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.runner.recordings",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("action", choices=["orphans", "rekey", "missing", "decisions"])
    action = parser.parse_args().action
    trouble: list[tuple[Place, str]] = []
    if action == "orphans":
        trouble = [*orphans(), *judge_recordings.check_judge_recordings()]
        summary = f"{len(trouble)} orphaned recordings"
    elif action == "rekey":
        adopted, trouble = rekey()
        judge_recordings.write_judge_recordings()
        summary = f"{adopted} recordings adopted, {len(trouble)} need a rewrite" + (
            "; nothing was written" if trouble else ""
        )
    elif action == "missing":
        skeletons = list(missing())
        for row in skeletons:
            print(json.dumps(row, ensure_ascii=False))
        summary = f"{len(skeletons)} recordings missing"
    else:
        summary = renew_decisions()
    for place, reason in trouble:
        print(*place, reason)
    print(summary, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
