"""Kill a run at random moments, resume it, and compare with a run nobody disturbed."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from . import server

SUPPORT = Path(__file__).parent


def start(url: str, store: Path, rows: int, concurrency: int) -> subprocess.Popen:
    command = [
        sys.executable,
        str(SUPPORT / "asker.py"),
        url,
        str(store),
        str(rows),
        str(concurrency),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SUPPORT.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )


def contents(store: Path) -> list[tuple]:
    """Everything a store holds but times, in the order of the ids."""
    with sqlite3.connect(store) as db:
        rows = db.execute(
            "SELECT hex(id), stage, row_id, model, body, finish_reason FROM answers ORDER BY id"
        ).fetchall()
    db.close()
    return rows


def disturbed(
    folder: Path, rows: int, kills: int, concurrency: int, latency: float, seed: int
) -> dict:
    """Run with `kills` kills and without any; returns what happened. Raises AssertionError when a
    promise is broken.
    """
    draw = random.Random(seed)
    with server.running(latency) as url:
        reference = folder / "reference.sqlite"
        output, errors = start(url, reference, rows, concurrency).communicate()
        assert output.split() == ["0"], errors[-2000:]
        assert sorted(server.counts(url).values()) == [1] * rows
    seconds = rows / concurrency * latency
    with server.running(latency) as url:
        store, landed = folder / "killed.sqlite", 0
        for _ in range(kills):
            process = start(url, store, rows, concurrency)
            # From before the store exists to well into the run.
            time.sleep(draw.uniform(0.1, 1.0 + seconds / kills))
            landed += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        output, errors = start(url, store, rows, concurrency).communicate()
        assert output.split() == ["0"], errors[-2000:]
        answered = server.counts(url)
    assert contents(store) == contents(reference)
    again = sum(answered.values()) - rows
    assert len(answered) == rows and 0 <= again <= landed * concurrency, (
        f"{again} answers bought twice after {landed} kills"
    )
    assert max(answered.values()) <= 1 + landed
    return {"rows": rows, "kills": landed, "concurrency": concurrency, "bought_twice": again}
