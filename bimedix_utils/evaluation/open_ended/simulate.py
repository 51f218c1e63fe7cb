"""Authoring: the judge's recordings in `data/recordings/judge`, **simulated by rule**. Not part of
any run.

python -m bimedix_utils.evaluation.open_ended.simulate            writes them anew, for the present
prompts and items
python -m bimedix_utils.evaluation.open_ended.simulate check      lists what is missing, orphaned or
differs; exit status 1 when anything does

No model judged anything: the rule knows which answer is better and errs in fixed places, so that
every outcome is seen. What the tables say says nothing about any judge.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ... import sources
from ...core.errors import command
from ...core.files import write_json_lines
from ...core.provenance import ROOT
from ...sources import knowledge
from ...teacher import replay
from ...teacher.parsing import parse_answer
from ...teacher.requests import Request
from ...teacher.settings import Teacher
from ...teacher.store import Answer
from . import judge, known

FOLDER = ROOT / "data" / "recordings" / "judge"
FILE = "simulated.jsonl"
REASON = "Simulated by rule for this kit; no model judged this."
PROSE, REFUSAL = (
    "Both replies have their merits, and it is hard to choose.",
    "I'm sorry, but I cannot grade medical advice.",
)
# Place of a pair in the list -> what the simulated judge does there; everywhere else it is right.
ERRS = {
    0: "fenced",
    2: "tie",
    5: "always A",
    8: "prose",
    11: "always B",
    14: "always A",
    17: "refusal",
    20: "wrong",
}
GRADE_ERRS = {3: "equal", 9: "out of range", 13: "prose", 19: "equal"}


def pairs() -> list[judge.Pair]:
    """The calibration set of the smoke run."""
    english, arabic = (
        sources.read_file(ROOT / "data" / "sample" / f"open_qa_test.{lang}.jsonl", kit=True)
        for lang in ("en", "ar")
    )
    return known.pairs(english, arabic, knowledge.load_relations(ROOT / "data" / "knowledge"))


def recordings(items: list[judge.Pair]) -> Iterator[dict]:
    """Every recording, in order: both orders of each pair, the grades of both sides, and the repair
    of an unreadable one.
    """
    teacher = Teacher(backend="replay", model="recorded", recordings=FOLDER)
    for place, pair in enumerate(items):
        for order, request in zip(("ab", "ba"), judge.pair_requests(pair, teacher), strict=True):
            yield _row(request, *_winner(pair, order, ERRS.get(place, "")))
        for row in judge.both_sides([pair]):
            good = row[0].endswith(f":{pair.known}")
            request = judge.rubric_request(*row, teacher)
            text, fault = _grades(pair, good, GRADE_ERRS.get(place, ""))
            yield _row(request, text, fault)
            if fault == "out_of_range":
                problem = parse_answer(Answer(request.id, text), judge.RubricAnswer)[2]
                yield _row(request.repair(text, problem), _grades(pair, good, "")[0], "")


def _winner(pair: judge.Pair, order: str, err: str) -> tuple[str, str]:
    if err in ("prose", "refusal") and order == "ba":
        return (PROSE, "not_json") if err == "prose" else (REFUSAL, "refusal")
    better = "A" if (pair.known == "first") == (order == "ab") else "B"
    other = {"A": "B", "B": "A"}[better]
    winner = {"tie": "tie", "always A": "A", "always B": "B", "wrong": other}.get(err, better)
    text = json.dumps({"reason": REASON, "winner": winner})
    return (f"```json\n{text}\n```", "code_fence") if err == "fenced" else (text, "")


def _grades(pair: judge.Pair, good: bool, err: str) -> tuple[str, str]:
    if err == "prose" and not good:
        return PROSE, "not_json"
    grades = dict.fromkeys(judge.DIMENSIONS, 5)
    if not good and err != "equal":
        grades[known.KINDS[pair.kind]] = 2
    fault = "out_of_range" if err == "out of range" and not good else ""
    return json.dumps({"reason": REASON, **grades, **({"safety": 9} if fault else {})}), fault


def _row(request: Request, text: str, fault: str) -> dict:
    keys = dict(zip(("stage", "row_id", "round", "sample"), request.recording_key, strict=True))
    told = {
        "prompt_version": request.prompt_version,
        "finish_reason": "stop",
        "text": text,
        "fault": fault,
    }
    return {**keys, **told, "author": "BiMediX kit authors (simulated)", "date": "2026-11-26"}


def check(folder: Path = FOLDER) -> list[tuple[tuple, str]]:
    """(place, reason) of each recording that is missing, asked for by nothing, or not what the rule
    writes for the present prompt.
    """
    there = replay.read_recordings(folder)
    wanted = {
        (row["stage"], row["row_id"], row["round"], row["sample"]): row
        for row in recordings(pairs())
    }
    trouble = [(place, "no recording") for place in wanted if place not in there]
    for place, row in there.items():
        if place not in wanted:
            trouble.append((place, "no item asks for it"))
        elif row["prompt_version"] != (now := wanted[place]["prompt_version"]):
            trouble.append((place, f"answers {row['prompt_version']}, the prompt is {now}"))
        elif row["text"] != wanted[place]["text"]:
            trouble.append((place, "is not what the rule writes"))
    return trouble


def write(folder: Path = FOLDER) -> int:
    """Write the recordings anew; returns their number."""
    rows = list(recordings(pairs()))
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / FILE, rows)
    return len(rows)


@command
def main() -> int:
    """The command line."""
    if sys.argv[1:] == ["check"]:
        for place, reason in (trouble := check()):
            print(*place, reason)
        return 1 if trouble else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    print(f"{write()} simulated recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
