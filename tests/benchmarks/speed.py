"""`make bench-speed`: sparse against dense at 1 to 32 rows, measured and predicted; writes
runs/bench/speed.json, about 10 minutes.

Each trial is a process of its own: three of float32, one of bfloat16, one of 4 bit. The smallest of
the three models has at least eight times the bytes of the last-level cache in float32. The overhead
of a layer is fitted on the dense models alone; a miss is reported, not tuned away.

--study also writes data/studies/speed.csv, on a clean checkout only.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from typing import Any

from bimedix_utils import speed
from bimedix_utils.core.errors import command
from bimedix_utils.core.files import write_json
from bimedix_utils.core.freshness import package_versions
from bimedix_utils.core.provenance import ROOT, git_state
from bimedix_utils.core.studies import clean_git_state, write_study
from bimedix_utils.training import Shape, models

LIMIT, TIMES_CACHE = 0.20, 8
BATCHES = (1, 2, 4, 8, 16, 32)
TRIALS = [("float32", 1), ("float32", 2), ("float32", 3), ("bfloat16", 1), ("nf4", 1)]
COLUMNS = [
    *("precision", "repeat", "batch", "against", "experts_hit", "sparse_ms", "dense_ms"),
    *("measured", "low", "high", "predicted", "error"),
    *("predicted_uniform", "predicted_single_bandwidth", "weights_over_cache"),
]


def sparse_shape(layers: int) -> Shape:
    return Shape(1024, 2048, layers, 16, 8)


def shape_for(cache: int) -> Shape:
    """The sparse shape with as few layers as make its smallest counterpart's float32 weights eight
    times the cache.
    """
    layers, settings = 1, speed.SpeedSettings(())
    while True:
        shapes = speed.compared_shapes(sparse_shape(layers))
        empty = speed.SpeedComparison("float32", shapes, settings)
        if empty.weight_bytes("equal active") >= TIMES_CACHE * cache:
            return sparse_shape(layers)
        layers += 1


def child(precision: str, layers: int, threads: int, rounds: int) -> None:
    """Run one trial in this process and print it as JSON."""
    models.setup_torch(threads)
    load = os.getloadavg()[0]  # others on the machine, before this process adds its own
    settings = speed.SpeedSettings(BATCHES, rounds, 1, 64)
    trial = speed.measure_models(sparse_shape(layers), precision, settings)
    rows = []
    others = {
        "predicted_uniform": trial.predictions(as_routed=False),
        "predicted_single_bandwidth": trial.predictions(single_bandwidth=True),
    }
    for index, one in enumerate(trial.predictions()):
        seconds, ratio = trial.decode[one.batch], one.measured
        numbers = {"measured": ratio.median, "low": ratio.low, "high": ratio.high}
        numbers |= {"predicted": one.predicted, "error": one.error}
        numbers |= {name: values[index].predicted for name, values in others.items()}
        found: dict[str, Any] = {
            "batch": one.batch,
            "against": one.against,
            "experts_hit": round(sum(trial.loads[one.batch].values()), 2),
            "sparse_ms": round(statistics.median(seconds["sparse"]) * 1000, 2),
            "dense_ms": round(statistics.median(seconds[one.against]) * 1000, 2),
        }
        rows.append(found | {name: round(value, 3) for name, value in numbers.items()})
    raw = {
        "rows": rows,
        "decode_seconds_of_a_step": trial.decode,
        "prefill_seconds": trial.prefill,
        "prefill_ratios": {
            name: dataclasses.asdict(ratio) for name, ratio in trial.prefill_ratios().items()
        },
        "machines_of_each_round": {
            batch: [dataclasses.asdict(m) for m in seen] for batch, seen in trial.machines.items()
        },
        "rows_of_experts": trial.loads,
        "overhead_of_a_layer_seconds": {
            "by rows": trial.overhead(),
            "single bandwidth": trial.overhead(single_bandwidth=True),
        },
        "weights_bytes": {name: trial.weight_bytes(name) for name in trial.shapes},
        "load_average_before": load,
    }
    print(json.dumps(raw))


@command
def main() -> None:
    """Run the trials, print, write; the exit code says whether float32 met the limit in each of
    them.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--study", action="store_true", help="also write data/studies/speed.*")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], int(given.child[1]), given.threads, given.rounds)
    models.setup_torch(given.threads)  # quiet libraries; this process measures nothing
    git, cache = clean_git_state() if given.study else git_state(), speed.cache_bytes()
    shape = shape_for(cache or 32 * 1024**2)
    print(
        "last-level cache"
        f" {f'{cache / 1024**2:.0f} MiB' if cache else 'not found (32 MiB assumed)'};"
        f" {shape.layers} layers",
        flush=True,
    )
    trials, table = [], []
    for precision, repeat in TRIALS:
        options = ["--threads", str(given.threads), "--rounds", str(given.rounds)]
        options += ["--child", precision, str(shape.layers)]
        done = subprocess.run(
            [sys.executable, __file__, *options],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
        )
        if done.returncode:
            sys.exit(f"{precision} failed:\n{done.stderr[-2000:]}")
        raw = json.loads(done.stdout.splitlines()[-1])
        trials.append({"precision": precision, "repeat": repeat, **raw})
        size = round(min(raw["weights_bytes"].values()) / cache, 1) if cache else "not found"
        for row in raw["rows"]:
            row |= {"precision": precision, "repeat": repeat, "weights_over_cache": size}
            table.append(tuple(row[name] for name in COLUMNS))
            print(
                f"{precision} {repeat}  {row['batch']:3} rows, {row['against']:12}: measured"
                f" {row['measured']:5.2f} ({row['low']:.2f} to {row['high']:.2f}), predicted"
                f" {row['predicted']:5.2f}, {row['error']:+.0%}",
                flush=True,
            )
    worst = {
        kind: max(
            abs(row["error"]) for one in trials if one["precision"] == kind for row in one["rows"]
        )
        for kind, _ in TRIALS
    }
    missed = [
        {name: row[name] for name in ("repeat", "batch", "against", "error")}
        for one in trials
        if one["precision"] == "float32"
        for row in one["rows"]
        if abs(row["error"]) > LIMIT
    ]
    kept = {
        "versions": package_versions(),
        "threads": given.threads,
        "rounds": given.rounds,
        "python": platform.python_version(),
        "git": git,
    }
    kept |= {
        "system": platform.platform(terse=True),
        "cache_bytes": cache or "not found",
        "limit": LIMIT,
        "worst_error": worst,
    }
    kept |= {
        "shape": dataclasses.asdict(shape),
        "missed_float32": missed,
        "four_bit": speed.four_bit_path(),
    }
    kept |= {"load_averages": [round(one["load_average_before"], 2) for one in trials]}
    write_json(ROOT / "runs" / "bench" / "speed.json", {**kept, "trials": trials})
    if given.study:
        write_study("speed", COLUMNS, table, kept)
    compared = sum(len(one["rows"]) for one in trials if one["precision"] == "float32")
    print(
        f"float32: {compared - len(missed)} of {compared} ratios predicted within {LIMIT:.0%};"
        f" worst {worst['float32']:.0%}"
    )
    if missed:
        sys.exit(f"missed: {missed}")


if __name__ == "__main__":
    sys.exit(main())
