"""`make bench-checks`: what the translation checks find and what they let pass; writes
runs/bench/checks.json.

* detection: share of damaged translations that some check stops, by kind of damage
  (tests/support/mutator.py, which knows no list of the checks); a text copied from a neighbour is
  looked for among the untouched other rows.
* false_alarm_gold, false_alarm_harmless: share of gold translations, and of harmless variants, that
  a rejecting check stops (`_any`: any check).
* replaced_recall, replaced_false_alarm: the published Arabic MMLU rows whose question was replaced
  (RAW_DIR), and the other rows.
* seconds_100k, peak_mb: 100,000 rows through all rule checks on all processors, most memory of the
  process and of its workers added up; growth is the time of 100,000 rows over that of 50,000.
"""

import argparse
import csv
import io
import itertools
import json
import os
import platform
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import mutator

from bimedix_utils.core.files import read_utf8, write_json
from bimedix_utils.core.language import load_language
from bimedix_utils.core.provenance import ROOT, git_state, runs_folder
from bimedix_utils.core.statistics import wilson
from bimedix_utils.core.studies import write_study
from bimedix_utils.translation import (
    Flag,
    TextPair,
    adequacy,
    check_rows,
    flat_texts,
    named_texts,
    repeated_targets,
    role_flags,
    run_checks,
    text_pair,
)
from bimedix_utils.translation.checks import CheckRow

ROWS = 100_000
REQUIRED_KINDS = (
    "dose_x10",
    "number_changed",
    "unit_swapped",
    "option_lost",
    "negation_dropped",
    "except_dropped",
    "laterality_swapped",
    "drug_replaced",
    "half_untranslated",
    "duplicated_from_neighbour",
    "truncated",
    "preamble_added",
)
ARABIC = load_language("ar", ROOT / "data" / "knowledge")


def found(
    row_id: str, source: dict, values: dict, others: list[tuple[str, dict, dict]]
) -> list[Flag]:
    """What the checks (but the encoder's) say of one translation; `others` are the rows it stands
    among.
    """
    texts = text_pair(source, values, ARABIC)
    flags = role_flags(source, values) + run_checks(
        texts.source, texts.candidate, ARABIC, texts.names
    )
    if others:
        own = set(texts.candidate)
        near = [
            (i, text_pair(e, v, ARABIC))
            for i, e, v in others
            if i != row_id and own & set(flat_texts(v))
        ]
        flags += repeated_targets([*near, (row_id, texts)]).get(row_id, [])
    return [flag for flag in flags if flag.stops]


def inadequate(cases: list[tuple[dict, dict]]) -> list[list[Flag]]:
    """What the encoder says of many translations, a thousand at a time."""
    flags: list[list[Flag]] = []
    for start in range(0, len(cases), 1000):
        rows = [
            (str(i), text_pair(source, values, ARABIC))
            for i, (source, values) in enumerate(cases[start : start + 1000])
        ]
        flagged, _ = adequacy(rows)
        flags += [flagged.get(row_id, []) for row_id, _ in rows]
    return flags


def mutation(seed: int = 0) -> tuple[dict, list[tuple]]:
    """(results, a study's rows: check, kind it stopped, rows, of)."""
    pairs, cases = mutator.gold_pairs(), list(mutator.benchmark(seed))
    told = inadequate([(english, values) for _, english, values in pairs])
    gold = {
        row_id: found(row_id, english, values, pairs) + told[i]
        for i, (row_id, english, values) in enumerate(pairs)
    }
    told = inadequate([(english, damage.values) for _, _, english, damage in cases])
    n, stopped, rejected = Counter(), Counter(), Counter()
    by_check: dict[str, Counter] = defaultdict(Counter)
    for (row_id, kind, english, damage), more in zip(cases, told, strict=True):
        neighbours = pairs if kind == "duplicated_from_neighbour" else []
        before = {(flag.check, flag.reason) for flag in gold[row_id]}
        new = [
            flag
            for flag in found(row_id, english, damage.values, neighbours) + more
            if (flag.check, flag.reason) not in before
        ]
        n[kind] += 1
        stopped[kind] += bool(new)
        rejected[kind] += any(flag.severity == "reject" for flag in new)
        for check in {flag.check for flag in new}:
            by_check[check][kind] += 1
    harmless = {kind for kind in n if kind in mutator.HARMLESS}
    alarms = sum(any(f.severity == "reject" for f in flags) for flags in gold.values()) / len(gold)
    of_harmless = sum(n[kind] for kind in harmless)
    result = {
        "pairs": len(pairs),
        "detection": {
            kind: round(stopped[kind] / n[kind], 4) for kind in sorted(n) if kind not in harmless
        },
        "rejected": {
            kind: round(rejected[kind] / n[kind], 4) for kind in sorted(n) if kind not in harmless
        },
        "n": dict(sorted(n.items())),
        "false_alarm_gold": round(alarms, 4),
        "false_alarm_gold_any": round(sum(map(bool, gold.values())) / len(gold), 4),
        "false_alarm_harmless": round(sum(rejected[kind] for kind in harmless) / of_harmless, 4),
        "false_alarm_harmless_any": round(sum(stopped[kind] for kind in harmless) / of_harmless, 4),
    }
    clean = Counter(check for flags in gold.values() for check in {flag.check for flag in flags})
    rows = []
    for check in sorted(by_check):
        damaged = sum(count for kind, count in by_check[check].items() if kind not in harmless)
        wrong = clean[check] + sum(by_check[check][kind] for kind in harmless)
        most = max(
            (kind for kind in by_check[check] if kind not in harmless),
            key=lambda kind: by_check[check][kind] / n[kind],
            default="",
        )
        rows.append((check, damaged, wrong, most, by_check[check][most], n[most]))
    return result, rows


def published(raw: Path) -> tuple[list[tuple[str, TextPair]], set[str]]:
    """(the published English and Arabic MMLU rows, the ids of those whose question was replaced by
    an unrelated one).
    """
    rows, bad = [], set()
    names = ("question", *(f"option {i}" for i in range(1, 5)))
    for path in sorted((raw / "mmlu").glob("*_test.en.csv")):
        subject = path.name.removesuffix("_test.en.csv")
        texts = [read_utf8(path.with_name(f"{subject}_test.{lang}.csv")) for lang in ("en", "ar")]
        for number, (before, after) in enumerate(
            zip(*(csv.reader(io.StringIO(text)) for text in texts), strict=True)
        ):
            row_id = f"{subject}:{number}"
            rows.append((row_id, TextPair(before[:5], after[:5], ARABIC, names)))
            if ("IP" in after[0] or "TCP" in " ".join(after)) and not (
                "IP" in before[0] or "TCP" in " ".join(before)
            ):
                bad.add(row_id)
    return rows, bad


def replaced(raw: Path) -> dict:
    """Recall and false alarms of the checks that see a replaced text, false alarms of the rules,
    and how many rows the encoder read.
    """
    rows, bad = published(raw)
    repeated = repeated_targets(rows)
    inadequate, read = adequacy(rows)
    seen = {
        row_id
        for row_id in {**repeated, **inadequate}
        if any(f.stops for f in repeated.get(row_id, []) + inadequate.get(row_id, []))
    }
    rejected = {
        i
        for i, p in rows
        if any(f.severity == "reject" for f in run_checks(p.source, p.candidate, ARABIC, p.names))
    }
    others = len(rows) - len(bad)
    return {
        "replaced_rows": len(bad),
        "replaced_recall": round(len(bad & seen) / len(bad), 4),
        "replaced_false_alarm": round(len(seen - bad) / others, 4),
        "published_rejected_by_rules": round(len(rejected - bad) / others, 4),
        "encoder_share": round(read / len(rows), 4),
    }


def endless(count: int) -> Iterator[CheckRow]:
    """Gold and damaged rows of all kinds in turn, with ids of their own."""
    cases = [(english, gold) for _, english, gold in mutator.gold_pairs()]
    cases += [(english, damage.values) for _, _, english, damage in mutator.benchmark(1)][:3000]
    for number, (english, values) in enumerate(itertools.islice(itertools.cycle(cases), count)):
        yield (
            f"row:{number}",
            flat_texts(english),
            flat_texts(values),
            tuple(name for name, _ in named_texts(english)),
        )


def seconds(count: int) -> float:
    """Wall seconds of `count` rows through the stream of rule checks."""
    begin = time.perf_counter()
    assert sum(1 for _ in check_rows(endless(count), ARABIC)) == count
    return time.perf_counter() - begin


def main() -> None:
    """Measure, print, write; the exit code says whether the aims are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--study", action="store_true", help="renew data/studies/checks.csv too")
    given = parser.parse_args()
    result, study = mutation()
    raw = os.environ.get("RAW_DIR", "")
    result |= (
        replaced(Path(raw))
        if raw
        else {
            "replaced_recall": "not run: RAW_DIR names no folder",
            "replaced_false_alarm": "not run",
        }
    )
    half, whole_time = seconds(ROWS // 2), seconds(ROWS)
    peak = (
        sum(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        / 1024
    )
    result |= {
        "seconds_50k": round(half, 1),
        "seconds_100k": round(whole_time, 1),
        "growth": round(whole_time / half, 2),
        "peak_mb": round(
            peak
            + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            / 1024
            * ((os.cpu_count() or 1) - 1)
        ),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "git": git_state(),
    }
    write_json(runs_folder() / "bench" / "checks.json", result)
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if given.study:
        columns = [
            "check",
            "damaged_stopped",
            "good_stopped",
            "best_at",
            "of_these_stopped",
            "of_these",
        ]
        intervals = {
            kind: [round(x, 3) for x in wilson(round(share * result["n"][kind]), result["n"][kind])]
            for kind, share in result["detection"].items()
        }
        kept = {
            key: result[key]
            for key in (
                "pairs",
                "detection",
                "n",
                "false_alarm_gold",
                "false_alarm_harmless",
                "git",
            )
        }
        write_study("checks", columns, study, {**kept, "detection_95": intervals})
    low = [kind for kind in REQUIRED_KINDS if result["detection"][kind] < 0.95]
    missed = [f"detection of {', '.join(low)}"] if low else []
    missed += [name for name in ("false_alarm_gold", "false_alarm_harmless") if result[name] > 0.02]
    missed += (
        ["replaced rows"]
        if raw and (result["replaced_recall"] < 1 or result["replaced_false_alarm"] > 0.05)
        else []
    )
    missed += [
        name
        for name, most in (("seconds_100k", 240), ("peak_mb", 1024), ("growth", 2.5))
        if result[name] > most
    ]
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
