"""Authoring: keep `data/recordings` in step with prompts and texts. Not part of any run.

python -m bimedix_utils.recordings decisions     write simulated reviewer decisions for the queue of the last smoke run
"""

import argparse
import sys

from . import translation
from .provenance import ROOT, run_folder
from .records import Record, iter_json_lines, iter_jsonl
from .review import Decision, write_decisions

DECISIONS = ROOT / "data" / "recordings" / "decisions.csv"


def simulate(queue: list[dict], gold: dict[str, Record]) -> list[Decision]:
    """Decisions a careful reviewer might make, by rule and marked as simulated: no person made them.

    A sampled high score is approved. A queued low score is replaced by the kit's gold Arabic; a row without gold stays undecided.
    """
    decisions = []
    for row in queue:
        row_id, best = row["id"], row["best"]
        common = {"reviewer": "simulated", "decided_at": "not found", "text_hash": best["text_hash"]}
        if row["queue_reason"] == "sample":
            decisions.append(Decision(row_id, "approve", None, note="simulated by rule: sampled high score", **common))
        elif row_id in gold:
            edited = translation.fields(gold[row_id])
            decisions.append(Decision(row_id, "edit", edited, note="simulated by rule: replaced by the kit's gold", **common))
    return decisions


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bimedix_utils.recordings", description=__doc__)
    parser.add_argument("action", choices=["decisions"])
    parser.parse_args()
    run = run_folder("smoke", "")
    queue = [row for _, row in iter_json_lines(run / "04_review_translations" / "queue.jsonl")]
    gold = {r.parent_id: r for r in iter_jsonl(run / "01_prepare_sources" / "records.jsonl") if r.lang == "ar"}
    decisions = simulate(queue, gold)
    write_decisions(DECISIONS, decisions)
    print(f"{len(decisions)} simulated decisions for {len(queue)} queued rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
