"""Authoring: the judge's recordings in `data/recordings/judge`, **simulated by rule**. Not part of
any run.

python -m bimedix_utils.evaluation.open_ended.judge_recordings         writes them anew
python -m bimedix_utils.evaluation.open_ended.judge_recordings check   lists what is missing,
    orphaned or different; exit status 1 when anything is

No model judged anything: the rule knows which answer is better and errs at fixed pairs, so that
every outcome is seen. The tables say nothing about any judge.
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
from . import judge
from .judge_calibration import DAMAGE_DIMENSIONS, known_pairs

JUDGE_RECORDINGS = ROOT / "data" / "recordings" / "judge"
RECORDINGS_FILE = "simulated.jsonl"
_REASON = "Simulated by rule for this kit; no model judged this."
_PROSE = "Both replies have their merits, and it is hard to choose."
_REFUSAL = "I'm sorry, but I cannot grade medical advice."
# Index of a pair -> what the simulated judge does there; everywhere else it is right.
PLANTED_ERRORS = {
    0: "fenced",
    2: "tie",
    5: "always A",
    8: "prose",
    11: "always B",
    14: "always A",
    17: "refusal",
    20: "wrong",
}
_GRADE_ERRORS = {3: "equal", 9: "out of range", 13: "prose", 19: "equal"}
_AUTHOR = {"author": "BiMediX kit authors (simulated)", "date": "2026-11-26"}


def smoke_pairs() -> list[judge.AnswerPair]:
    """The calibration set of the smoke run."""
    english, arabic = (
        sources.read_file(ROOT / "data" / "sample" / f"open_qa_test.{lang}.jsonl", kit=True)
        for lang in ("en", "ar")
    )
    return known_pairs(english, arabic, knowledge.load_relations(ROOT / "data" / "knowledge"))


def simulated_recordings(items: list[judge.AnswerPair]) -> Iterator[dict]:
    """Every recording, in order: both orders of each pair, the grades of both sides, and the repair
    of an unreadable one.
    """
    teacher = Teacher(backend="replay", model="recorded", recordings=JUDGE_RECORDINGS)
    for number, pair in enumerate(items):
        for order, request in zip(("ab", "ba"), judge.pair_requests(pair, teacher), strict=True):
            yield _row(request, *_winner(pair, order, PLANTED_ERRORS.get(number, "")))
        for row in judge.both_sides([pair]):
            good = row[0].endswith(f":{pair.known}")
            request = judge.rubric_request(*row, teacher)
            text, fault = _grades(pair, good, _GRADE_ERRORS.get(number, ""))
            yield _row(request, text, fault)
            if fault == "out_of_range":
                problem = parse_answer(Answer(request.id, text), judge.RubricAnswer)[2]
                yield _row(request.repair(text, problem), _grades(pair, good, "")[0], "")


def _winner(pair: judge.AnswerPair, order: str, err: str) -> tuple[str, str]:
    if err in ("prose", "refusal") and order == "ba":
        return (_PROSE, "not_json") if err == "prose" else (_REFUSAL, "refusal")
    better = "A" if (pair.known == "first") == (order == "ab") else "B"
    other = {"A": "B", "B": "A"}[better]
    winner = {"tie": "tie", "always A": "A", "always B": "B", "wrong": other}.get(err, better)
    text = json.dumps({"reason": _REASON, "winner": winner})
    return (f"```json\n{text}\n```", "code_fence") if err == "fenced" else (text, "")


def _grades(pair: judge.AnswerPair, good: bool, err: str) -> tuple[str, str]:
    if err == "prose" and not good:
        return _PROSE, "not_json"
    grades = dict.fromkeys(judge.DIMENSIONS, 5)
    if not good and err != "equal":
        grades[DAMAGE_DIMENSIONS[pair.kind]] = 2
    fault = "out_of_range" if err == "out of range" and not good else ""
    return json.dumps({"reason": _REASON, **grades, **({"safety": 9} if fault else {})}), fault


def _row(request: Request, text: str, fault: str) -> dict:
    keys = dict(zip(("stage", "row_id", "round", "sample"), request.recording_key, strict=True))
    answer = {"finish_reason": "stop", "text": text, "fault": fault}
    return {**keys, "prompt_version": request.prompt_version, **answer, **_AUTHOR}


def check_judge_recordings(folder: Path = JUDGE_RECORDINGS) -> list[tuple[tuple, str]]:
    """(key, reason) of each recording that is missing, asked for by nothing, or not what the rule
    writes for the present prompt.
    """
    there = replay.read_recordings(folder)
    expected = {
        (row["stage"], row["row_id"], row["round"], row["sample"]): row
        for row in simulated_recordings(smoke_pairs())
    }
    trouble = [(key, "no recording") for key in expected if key not in there]
    for key, row in there.items():
        if key not in expected:
            trouble.append((key, "no item asks for it"))
        elif row["prompt_version"] != (now := expected[key]["prompt_version"]):
            trouble.append((key, f"answers {row['prompt_version']}, the prompt is {now}"))
        elif row["text"] != expected[key]["text"]:
            trouble.append((key, "is not what the rule writes"))
    return trouble


def write_judge_recordings(folder: Path = JUDGE_RECORDINGS) -> int:
    """Write the recordings anew; returns their number."""
    rows = list(simulated_recordings(smoke_pairs()))
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / RECORDINGS_FILE, rows)
    return len(rows)


@command
def main() -> int:
    """The command line."""
    if sys.argv[1:] == ["check"]:
        for key, reason in (trouble := check_judge_recordings()):
            print(*key, reason)
        return 1 if trouble else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    print(f"{write_judge_recordings()} simulated recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
