"""`make bench-teacher`: what the teacher engine costs, as ratios from one run against the kit's own
server.

* rate_vs_ideal: answers a second through the whole engine (hashing, look-up, rules, durable store)
  at concurrency 64 against 50 ms of latency, as a share of the ideal 64 / 0.05 = 1,280; median of
  five runs.
* store_overhead: what the durable store costs of the rate without it; the runs with and without it
  take turns.
* rss_growth_mb: resident memory gained over 200,000 requests, after the first 2,000.
* resume_seconds, resume_mb: a store that holds 1,000,000 finished rows is opened and asked which of
  1,000,000 ids are missing. resume_whole_seconds adds building and hashing the million requests,
  which is the stage's own work.
* ray: the same requests through two workers on a two-node local cluster, one worker killed on the
  way (only where Ray is installed).
"""

import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import asker, server

from bimedix_utils.core.files import write_json
from bimedix_utils.core.provenance import git_state, runs_folder
from bimedix_utils.teacher import engine, http
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Answer, Store, read_body

CONCURRENCY, LATENCY = 64, 0.05
IDEAL = CONCURRENCY / LATENCY


class Rows:
    """Requests made anew on each reading, so that no list of them fills the memory."""

    def __init__(self, teacher: Teacher, first: int, count: int):
        self.teacher, self.first, self.count = teacher, first, count

    def __iter__(self):
        for i in range(self.first, self.first + self.count):
            yield self.teacher.request("bench", f"row:{i}", "v1", asker.WORDS.format(i, i % 30))


def resident_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def rate(seconds: float, count: int) -> float:
    return count / seconds


def with_store(url: str, folder: Path, first: int, count: int) -> float:
    """Answers a second through the whole engine with a store on disk."""
    teacher = asker.teacher(url, str(folder / f"{first}.sqlite"), CONCURRENCY)
    begin = time.perf_counter()
    outcome = engine.fill_store(teacher, Rows(teacher, first, count))
    seconds = time.perf_counter() - begin
    assert not outcome.failed and not outcome.stopped
    return rate(seconds, count)


def without_store(url: str, first: int, count: int) -> float:
    """Answers a second with the same requests and rules, and nothing kept."""
    teacher = asker.teacher(url, "unused", CONCURRENCY)
    counted = 0

    def deliver(batch: list) -> None:
        nonlocal counted
        counted += sum(bool(request.id) and answer.text is not None for request, answer in batch)

    begin = time.perf_counter()
    http.send_requests(Rows(teacher, first, count), http.HttpEndpoint(url, CONCURRENCY), deliver)
    seconds = time.perf_counter() - begin
    assert counted == count
    return rate(seconds, count)


def throughput(folder: Path, count: int = 8000) -> dict:
    with server.running(LATENCY) as url:
        without_store(url, 10**8, 2000)  # warm
        pairs = [
            (with_store(url, folder, i * count, count), without_store(url, i * count, count))
            for i in range(5)
        ]
    kept, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "rate": round(kept, 1),
        "rate_vs_ideal": round(kept / IDEAL, 3),
        "store_overhead": round(statistics.median(1 - a / b for a, b in pairs), 3),
        "rate_without_store": round(bare, 1),
    }


def memory(folder: Path, count: int = 200_000) -> dict:
    with server.running(0.005) as url:
        teacher = asker.teacher(url, str(folder / "memory.sqlite"), CONCURRENCY)
        engine.fill_store(teacher, Rows(teacher, 0, 2000))
        before, peak, done = resident_mb(), 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.5):
                peak = max(peak, resident_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.perf_counter()
        outcome = engine.fill_store(teacher, Rows(teacher, 2000, count))
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
        assert not outcome.failed and not outcome.stopped
    (folder / "memory.sqlite").unlink()
    return {
        "rss_growth_mb": round(peak - before, 1),
        "rate_without_latency": round(rate(seconds, count), 1),
    }


def resume(folder: Path, count: int = 1_000_000) -> dict:
    teacher = asker.teacher("http://127.0.0.1:1/v1", str(folder / "resume.sqlite"), CONCURRENCY)
    answer = read_body("", server.BODY.decode())
    store, batch = Store(teacher.answers, fill=True), []
    for request in Rows(teacher, 0, count):
        batch.append(
            (
                request,
                Answer(
                    request.id,
                    answer.text,
                    answer.finish_reason,
                    answer.usage,
                    0.05,
                    body=answer.body,
                ),
                0.0,
            )
        )
        if len(batch) == 5000:
            store.put(batch)
            batch = []
    store.close()
    ids = (request.id for request in Rows(teacher, 0, count))

    class Named:  # an id, computed outside the measured time
        __slots__ = ("id",)

    before = resident_mb()
    store, seconds, missing, peak = Store(teacher.answers, fill=True), 0.0, 0, 0.0
    chunk: list = []
    for number, text in enumerate(ids, start=1):
        named = Named()
        named.id = text
        chunk.append(named)
        if len(chunk) == 20_000 or number == count:
            begin = time.perf_counter()
            missing += sum(not known for _, known in store.known(chunk))
            seconds += time.perf_counter() - begin
            peak, chunk = max(peak, resident_mb()), []
    store.close()
    assert missing == 0
    begin = time.perf_counter()
    outcome = engine.fill_store(teacher, Rows(teacher, 0, count))
    whole = time.perf_counter() - begin
    peak = max(peak, resident_mb())
    assert not outcome.failed
    return {
        "resume_seconds": round(seconds, 2),
        "resume_mb": round(peak - before, 1),
        "resume_whole_seconds": round(whole, 2),
    }


def descends(process: int) -> bool:
    """True for a process that was started by this one, or by one that was: other clusters on this
    machine are none of our business.
    """
    while process > 1:
        if process == os.getpid():
            return True
        status = Path(f"/proc/{process}/status").read_text()
        process = int(status.split("PPid:")[1].split()[0])
    return False


def ray_cluster(folder: Path, count: int = 4000) -> dict:
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ImportError:
        return {"ray": "not run: Ray is not installed (make setup EXTRAS=ray)"}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    with server.running(0.02) as url:
        plain = asker.teacher(url, str(folder / "plain.sqlite"), 16)
        rows = asker.requests(plain, count)
        engine.fill_store(plain, rows)
        first = server.counts(url)
    with server.running(0.02) as url:
        spread = asker.teacher(url, str(folder / "ray.sqlite"), 16).model_copy(
            update={"backend": "ray", "workers": 2}
        )
        killed: list[tuple[int, int]] = []

        def kill_one() -> None:
            """Once a third is stored, the first worker of this cluster that is found dies; what was
            stored then must not be asked again.
            """
            while True:
                store = Store(folder / "ray.sqlite")
                stored = len(store)
                store.close()
                if stored > count / 3:
                    break
                time.sleep(0.1)
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if b"ray::MapWorker" in entry.read_bytes() and descends(int(entry.parent.name)):
                        os.kill(int(entry.parent.name), signal.SIGKILL)
                        killed.append((int(entry.parent.name), stored))
                        return
                except OSError:
                    continue

        killer = threading.Thread(target=kill_one)
        killer.start()
        begin = time.perf_counter()
        outcome = engine.fill_store(spread, rows)
        seconds = time.perf_counter() - begin
        killer.join()
        second = server.counts(url)
    stores = [Store(folder / f"{name}.sqlite") for name in ("plain", "ray")]
    answers = [{i: a.text for i, a in store.get(r.id for r in rows).items()} for store in stores]
    for store in stores:
        store.close()
    ray.shutdown()
    cluster.shutdown()
    assert not outcome.failed and answers[0] == answers[1] and len(first) == len(second) == count
    again = sum(second.values()) - count
    return {
        "ray": {
            "rows": count,
            "seconds": round(seconds, 1),
            "workers_killed": len(killed),
            "stored_at_the_kill": killed[0][1] if killed else 0,
            "asked_again": again,
            "same_answers": True,
        }
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        result = {
            **throughput(folder),
            **memory(folder),
            **resume(folder),
            **ray_cluster(folder),
            "git": git_state(),
        }
    path = runs_folder() / "bench" / "teacher.json"
    write_json(path, result)
    print(json.dumps(result, indent=1))
    expected = {
        "rate_vs_ideal": (0.85, 1.05),
        "store_overhead": (-1, 0.15),
        "rss_growth_mb": (-1e9, 100),
        "resume_seconds": (0, 5),
        "resume_mb": (-1e9, 250),
    }
    missed = [name for name, (low, high) in expected.items() if not low <= result[name] <= high]
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
