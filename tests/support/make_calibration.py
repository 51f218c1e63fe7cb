"""Make the calibration items anew: translations of known quality, drawn from the sample's gold
pairs and their damaged versions.

python tests/support/make_calibration.py      writes data/calibration/items.jsonl; recorded scores
must then be written anew
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import mutator

from bimedix_utils.core.files import write_json_lines
from bimedix_utils.core.provenance import ROOT

SEED = 20261124
CLEAN, HARMLESS = 22, 8
DAMAGED = {
    "dose_x10": 2,
    "number_changed": 4,
    "unit_swapped": 4,
    "frequency_changed": 1,
    "negation_dropped": 5,
    "except_dropped": 3,
    "drug_replaced": 4,
    "laterality_swapped": 3,
    "options_swapped": 4,
    "truncated": 3,
    "half_untranslated": 2,
    "sex_swapped": 3,
    "level_swapped": 2,
}


def main() -> None:
    """Draw, shuffle, write."""
    draw = random.Random(SEED)
    pairs = {
        row_id: (english, gold)
        for row_id, english, gold in mutator.gold_pairs()
        if not row_id.startswith("extra")
    }
    cases = [case for case in mutator.benchmark(SEED) if case[0] in pairs]
    chosen = [
        (row_id, "clean", "none", pairs[row_id][1]) for row_id in draw.sample(sorted(pairs), CLEAN)
    ]
    harmless = [case for case in cases if case[3].severity == "none"]
    chosen += [
        (row_id, "clean", "none", damage.values)
        for row_id, _, _, damage in draw.sample(harmless, HARMLESS)
    ]
    for kind, count in DAMAGED.items():
        of_kind = [case for case in cases if case[1] == kind]
        chosen += [
            (row_id, kind, damage.severity, damage.values)
            for row_id, _, _, damage in draw.sample(of_kind, min(count, len(of_kind)))
        ]
    draw.shuffle(chosen)
    items = [
        {
            "id": f"calibration:{number:03d}",
            "row_id": row_id,
            "kind": kind,
            "severity": severity,
            "values": values,
        }
        for number, (row_id, kind, severity, values) in enumerate(chosen, start=1)
    ]
    folder = ROOT / "data" / "calibration"
    folder.mkdir(exist_ok=True)
    write_json_lines(folder / "items.jsonl", items)
    print(f"{len(items)} items")


if __name__ == "__main__":
    main()
