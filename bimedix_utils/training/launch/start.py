"""Start a job's processes on this machine, watch them, and say which one failed and why."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ... import training
from ...core import errors
from ...core.errors import KitError
from ...core.provenance import ROOT, shown_path
from ..models import LORA_PARTS
from .job import OUTCOME, Job, Launched, outcome, prepare
from .worker import CHECKPOINTS, FAILURES

WORKER = "bimedix_utils.training.launch.worker"
LOG, LOGS = (
    "launch.log",
    "logs",
)  # what everyone said, together, and one folder of files for each process
PATIENCE = 40  # seconds a launcher gets to end its processes before they are killed
TAIL = 25  # lines of a failed process


def command(folder: Path, processes: int) -> list[str]:
    """torchrun for several processes, the plain worker for one: a lone process needs no gradient
    exchange.
    """
    if processes == 1:
        return [sys.executable, "-m", WORKER, str(folder)]
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
        "--max_restarts",
        "0",
    ]
    # Each process writes its own files, and what it says appears here as well.
    return [
        *run,
        "--log_dir",
        str(folder / LOGS),
        "--redirects",
        "3",
        "--tee",
        "3",
        "-m",
        WORKER,
        str(folder),
    ]


def environment(threads: int) -> dict[str, str]:
    """The processes' variables: fixed threads, deterministic products, this package on the path,
    nothing of another launcher.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    fixed = {
        "OMP_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**kept, **fixed, "PYTHONPATH": path}


def run(
    folder: Path, processes: int | None = None, every: Callable[[list[dict]], None] | None = None
) -> Launched:
    """Run the folder's job here, on as many processes as it wants (`processes` changes that); goes
    on from its last good checkpoint.

    What the processes say goes to `launch.log`; `every` gets the training log after new entries. An
    interruption is passed on, and no process is left behind. Raises `KitError`, or the kit's own
    error of the process that failed, with the end of what it said.
    """
    job = Job.read(folder)
    if processes and processes != job.processes:
        job.recipe.per_process(processes)
        Job(**{**vars(job), "processes": processes}).write(folder)
        job = Job.read(folder)
    for name in (FAILURES, LOGS):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / OUTCOME).unlink(missing_ok=True)
    seen = 0
    with open(folder / LOG, "w", encoding="utf-8") as log:
        started = subprocess.Popen(
            command(folder, job.processes),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(job.threads),
            # an interruption at the keyboard reaches the processes once, through us
            start_new_session=True,
        )
        try:
            while started.poll() is None:
                time.sleep(0.2)
                seen = _tell(folder, seen, every)
        finally:
            _end(started)
    _tell(folder, seen, every)
    if started.returncode:
        raise _failure(folder, job, started.returncode)
    found = outcome(folder)
    if found is None:
        raise KitError(f"the processes ended without an outcome: see {shown_path(folder / LOG)}")
    return found


def train(
    folder: Path,
    base: str | Path,
    examples: Sequence[training.Example],
    held: Sequence[training.Example],
    recipe: training.Recipe,
    rank: int,
    alpha: int,
    parts: str | Sequence[str] = tuple(LORA_PARTS),
    processes: int = 2,
    threads: int = 1,
    parallel: str = "ddp",
    nodes: int = 1,
    every: Callable[[list[dict]], None] | None = None,
) -> Launched:
    """Prepare and run a job: `processes` on each of `nodes` machines. A job that is finished
    already is not run again.

    A notebook can start processes on its own machine only. For several, `KitError` says what to
    submit; when that has run, the same call returns its outcome. See `prepare` and `run` for the
    other errors.
    """
    job = prepare(
        folder,
        base,
        examples,
        held,
        recipe,
        rank,
        alpha,
        parts,
        processes * nodes,
        threads,
        parallel,
    )
    found = outcome(folder)
    if found:
        return found
    if nodes > 1:
        raise KitError(
            f"the job for {nodes} machines of {processes} processes is written to {folder}: start"
            f" it with `sbatch job.slurm {folder}` (make launch-files writes job.slurm), and run"
            " this again when it has finished"
        )
    return run(folder, job.processes, every)


def _tell(folder: Path, seen: int, every: Callable[[list[dict]], None] | None) -> int:
    """Hand the log to `every` when it has grown; how many entries it has."""
    path = folder / CHECKPOINTS / "metrics.jsonl"
    if every is None or not path.exists():
        return seen
    whole = [
        line
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    ]
    entries = [json.loads(line) for line in whole]
    if len(entries) != seen and entries:
        every(entries)
    return len(entries)


def _end(started: subprocess.Popen) -> None:
    """End the launcher and whatever it started: first asked, as from the keyboard, then killed."""
    if started.poll() is None:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(started.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    started.wait()


def _failure(folder: Path, job: Job, code: int) -> KitError:
    """The error of the process that failed first: the kit's own one, or the end of what the process
    said.
    """
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    root = re.search(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", text, re.DOTALL)
    told = {
        int(path.stem): json.loads(path.read_text(encoding="utf-8"))
        for path in (folder / FAILURES).glob("*.json")
    }
    own = {rank: failure for rank, failure in told.items() if failure["own"]}
    if own:
        rank = min(own, key=lambda i: own[i]["time"])
        kind: Any = getattr(errors, own[rank]["error"], None) or getattr(
            training, own[rank]["error"], KitError
        )
        return kind(f"process {rank} of {job.processes}: {own[rank]['message']}")
    rank = int(root[1]) if root else min(told, key=lambda i: told[i]["time"], default=0)
    status = int(root[2]) if root else code
    said = (
        sorted((folder / LOGS).glob(f"**/{rank}/stderr.log"))
        if job.processes > 1
        else [folder / LOG]
    )
    lines = (
        said[-1].read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:] if said else []
    )
    how = (
        f"was ended by signal {signal.Signals(-status).name}"
        if status < 0
        else f"failed with exit status {status}"
    )
    end = "\n".join(lines) or "(it said nothing)"
    return KitError(
        f"process {rank} of {job.processes} {how}; the same call goes on from the last checkpoint."
        f" All of it is in {shown_path(folder / LOG)}; its last lines:\n{end}"
    )
