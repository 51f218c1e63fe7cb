"""`make bench-mix`: BiMed at full size, from raw rows to shards; prints a table and writes
runs/bench/mix.json (ROWS=50000: a quick look).

The rows come from tests/support/synthetic.py, outside the measured time. The exact count of all
tokens is measured apart (`seconds_tokens`).

* minutes: wall time of the whole process, its start included, the tokens excluded.
* peak_gb: most resident memory (10^9 bytes) of the process and its workers added up, shared pages
  counted in each (`peak_pss_gb`: counted once), sampled every 0.2 s.
* cost_ratio_10x: time of all rows over that of a tenth of them (mean of two runs), both without the
  start of the interpreter.
* exact_recall, near_recall: share of planted groups of which at most one row is left; near ones
  count from a similarity of 0.8.
* leak_recall: share of planted test questions that are "contaminated", or the duplicate of a row
  that is.
* false_removal: share of the rows that were not planted, nor copied, that are "duplicate" or
  "contaminated". `surplus` is no removal.
* repeat_identical, order_same_rows: a second run of the tenth gives the same bytes; a third, with
  the files in reverse, the same rows.
* accounted: rows in the shards and removed rows add up to the input.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import synthetic

from bimedix_utils.core.files import write_json
from bimedix_utils.core.provenance import ROOT, git_state, hash_path, runs_folder, shown_path
from bimedix_utils.core.text import canonical_json

SEED, WORKERS = 42, 2
TARGETS = {  # name: (least, most)
    "minutes": (0, 8),
    "peak_gb": (0, 3),
    "cost_ratio_10x": (0, 12),
    "exact_recall": (1, 1),
    "near_recall": (0.95, 1),
    "leak_recall": (1, 1),
    "false_removal": (0, 0.005),
    "repeat_identical": (True, True),
    "order_same_rows": (True, True),
    "accounted": (True, True),
}
REMOVED = {"duplicate", "contaminated"}
PAGE = resource.getpagesize()


def build(made: Path, folder: Path, backwards: bool) -> None:
    """The measured work, in a process of its own; prints its seconds and those of the tokens."""
    from bimedix_utils.mixture import MixSettings, build_mix, steps

    count, seconds = steps.count_tokens, []

    def timed_count(*given: Any) -> dict[str, Any]:
        begin = time.perf_counter()
        table = count(*given)
        seconds.append(time.perf_counter() - begin)
        return table

    steps.count_tokens = timed_count
    inputs = sorted(made.glob("train-*.jsonl"), reverse=backwards)
    begin = time.perf_counter()
    build_mix(inputs, made / "tests.jsonl", folder, MixSettings(seed=SEED), workers=WORKERS)
    whole = time.perf_counter() - begin
    print(json.dumps({"seconds": whole - sum(seconds), "seconds_tokens": sum(seconds)}))


def tree(process: int) -> list[int]:
    """A process and all that it or its children started."""
    found = [process]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def memory(processes: list[int], shared_once: bool) -> int:
    """Resident bytes of the processes added up; with `shared_once` a shared page counts in part
    (PSS), which takes longer to ask.
    """
    total = 0
    for process in processes:
        try:
            if shared_once:
                rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                total += int(rollup.split("\nPss:")[1].split()[0]) * 1024
            else:
                total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            continue
    return total


def run(made: Path, folder: Path, backwards: bool = False) -> dict[str, float]:
    """One run from raw to shards: seconds of work and tokens, minutes, most memory in GB."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, __file__, "--build", str(made), "--out", str(folder)]
    command += ["--backwards"] if backwards else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    peak, peak_pss, over = 0, 0, threading.Event()

    def watch() -> None:
        nonlocal peak, peak_pss
        tick = 0
        while not over.wait(0.2):
            processes = tree(process.pid)
            peak = max(peak, memory(processes, False))
            if tick % 5 == 0:
                peak_pss = max(peak_pss, memory(processes, True))
            tick += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output, _ = process.communicate()
    finally:
        over.set()
        watcher.join()
    whole = time.perf_counter() - begin
    if process.returncode:
        sys.exit(f"the build ended with {process.returncode}")
    seconds = json.loads(output.splitlines()[-1])
    return {
        **seconds,
        "minutes": (whole - seconds["seconds_tokens"]) / 60,
        "peak_gb": peak / 1e9,
        "peak_pss_gb": peak_pss / 1e9,
    }


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "data").rglob("*.parquet"))


def rows_hash(folder: Path) -> str:
    """A hash of the set of rows in the shards, whatever their order and shard (but not their
    split): the sum of the rows' hashes.
    """
    import pyarrow.parquet as parquet

    total = 0
    for path in shards(folder):
        split = re.sub(r"\d+", "", path.relative_to(folder / "data").as_posix())
        for batch in parquet.ParquetFile(path).iter_batches(2000):
            for row in batch.to_pylist():
                text = f"{split}:{canonical_json(row)}"
                total += int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    return f"{total % 2**128:032x}"


def judged(made: Path, folder: Path, rows: int) -> dict[str, Any]:
    """What was found of the planted rows and what was removed without cause."""
    import pyarrow.parquet as parquet

    status, other = {}, {}
    table = parquet.ParquetFile(folder / "removed.parquet")
    for batch in table.iter_batches(50_000, columns=["id", "status", "other"]):
        columns = batch.to_pydict()
        status |= zip(columns["id"], columns["status"], strict=True)
        other |= {i: o for i, s, o in zip(*columns.values(), strict=True) if s in REMOVED}
    planted = defaultdict(list)
    with open(made / "planted.jsonl", encoding="utf-8") as lines:
        for entry in map(json.loads, lines):
            planted[entry["planted"]].append(entry)
    groups = defaultdict(set)
    for entry in planted["exact"]:
        groups[entry["other"]] |= {entry["id"], entry["other"]}

    def is_contaminated(row_id: str) -> bool:
        seen = set()
        while status.get(row_id) == "duplicate" and row_id not in seen:
            seen.add(row_id)
            row_id = other[row_id]
        return status.get(row_id) == "contaminated"

    def found(members: set[str]) -> bool:
        return sum(status.get(member) not in REMOVED for member in members) <= 1

    alike = [entry for entry in planted["near"] if entry["jaccard"] >= 0.8]
    outcome = {
        "exact": [
            (next(iter(members)).endswith(":ar"), found(members)) for members in groups.values()
        ],
        "near": [(entry["lang"] == "ar", found({entry["id"], entry["other"]})) for entry in alike],
        "leak": [
            (entry["lang"] == "ar", is_contaminated(entry["id"])) for entry in planted["leak"]
        ],
    }
    known = {
        entry[key] for entries in planted.values() for entry in entries for key in ("id", "other")
    }
    wrong = Counter(status[i] for i in status.keys() - known if status[i] in REMOVED)
    unplanted = rows - len({e["id"] for entries in planted.values() for e in entries})
    unplanted -= len({e["other"] for name in ("exact", "near") for e in planted[name]})
    kept = sum(parquet.ParquetFile(path).metadata.num_rows for path in shards(folder))
    result: dict[str, Any] = {
        f"{name}_recall": sum(hit for _, hit in hits) / max(1, len(hits))
        for name, hits in outcome.items()
    }
    result["missed"] = {
        name: {
            lang: sum(not hit for arabic, hit in hits if arabic == (lang == "ar"))
            for lang in synthetic.LANGS
        }
        for name, hits in outcome.items()
    }
    result["planted"] = {name: len(hits) for name, hits in outcome.items()}
    forms = Counter(entry["form"] for entry in planted["leak"] if not is_contaminated(entry["id"]))
    return result | {
        "leaks_missed_in": dict(forms),
        "false_removal": sum(wrong.values()) / unplanted,
        "false_removals": dict(wrong),
        "unplanted": unplanted,
        "statuses": dict(sorted(Counter(status.values()).items())),
        "kept": kept,
        "accounted": kept + len(status) == kept + table.metadata.num_rows == rows,
    }


def table(result: dict[str, Any]) -> str:
    """The targets and what was measured, a line each."""
    lines = [f"{'':<18} {'measured':>10}   target"]
    for name, (least, most) in TARGETS.items():
        value = result[name]
        aim = (
            "yes"
            if least is True
            else f"= {most}"
            if least == most
            else f">= {least}"
            if most == 1
            else f"<= {most}"
        )
        shown_value = ("yes" if value else "no") if isinstance(value, bool) else f"{value:.4f}"
        lines.append(
            f"{name:<18} {shown_value:>10}   {aim}{'' if least <= value <= most else '   MISSED'}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_300_000)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--backwards", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build(given.build, given.out, given.backwards)
        return
    if given.rows < 10_000:
        sys.exit("ROWS: at least 10,000, so that a tenth of them holds planted rows of every kind")
    home = runs_folder() / "bench" / "mix"
    small, large = home / "tenth", home / "all"
    begin = time.perf_counter()
    synthetic.write(small, given.rows // 10, SEED, workers=WORKERS)
    synthetic.write(large, given.rows, SEED, workers=WORKERS)
    made = json.loads((large / "made.json").read_text())["bytes"]
    print(
        f"{given.rows:,} rows of {made / given.rows:,.0f} bytes, made or found in"
        f" {time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    out = home / "built"
    try:
        first = run(small, out / "1")
        second = run(small, out / "2")
        repeated = {p.relative_to(out / "1").as_posix() for p in shards(out / "1")} == {
            p.relative_to(out / "2").as_posix() for p in shards(out / "2")
        } and all(
            hash_path(path) == hash_path(out / "2" / path.relative_to(out / "1"))
            for path in shards(out / "1")
        )
        run(small, out / "3", backwards=True)
        same_rows = rows_hash(out / "1") == rows_hash(out / "3")
        shutil.rmtree(out)
        print("a tenth of the rows: done three times", flush=True)
        whole = run(large, out / "all")
        result = judged(large, out / "all", given.rows)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    tenth = (first["seconds"] + second["seconds"]) / 2
    result |= {
        "rows": given.rows,
        "row_bytes": round(made / given.rows),
        "workers": WORKERS,
        "seed": SEED,
        **{name: whole[name] for name in ("minutes", "peak_gb", "peak_pss_gb", "seconds_tokens")},
        "seconds_build": whole["seconds"],
        "seconds_tenth": [first["seconds"], second["seconds"]],
        "cost_ratio_10x": whole["seconds"] / tenth,
        "repeat_identical": repeated,
        "order_same_rows": same_rows,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "git": git_state(),
    }
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value for key, value in result.items()
    }
    write_json(runs_folder() / "bench" / "mix.json", rounded)
    print(json.dumps(rounded, indent=1, sort_keys=True))
    print(table(result))
    print(f"the synthetic rows stay in {shown_path(home)} for the next run; delete them when done")
    missed = [name for name, (least, most) in TARGETS.items() if not least <= result[name] <= most]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
