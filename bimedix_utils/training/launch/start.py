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
from contextlib import suppress
from pathlib import Path

from ...core.errors import KitError
from ...core.provenance import ROOT, shown_path
from ..examples import Example
from .job import OUTCOME_FILE, LaunchedOutcome, TrainingJob, read_outcome, write_job
from .worker import CHECKPOINTS, FAILURES, WORKER

LOG, LOGS = "launch.log", "logs"  # output of all processes together, and a folder for each process
PATIENCE = 40  # seconds a launcher gets to end its processes before they are killed
TAIL = 25  # lines of a failed process
LogReader = Callable[[list[dict]], None]


def worker_command(folder: Path, processes: int) -> list[str]:
    """torchrun for several processes, the plain worker for one, which exchanges no gradients."""
    worker = ["-m", WORKER, str(folder)]
    if processes == 1:
        return [sys.executable, *worker]
    run = f"-m torch.distributed.run --standalone --nproc_per_node {processes} --max_restarts 0"
    # Each process writes its own files, and its output appears here as well.
    logs = ["--log_dir", str(folder / LOGS), "--redirects", "3", "--tee", "3"]
    return [sys.executable, *run.split(), *logs, *worker]


def worker_environment(threads: int) -> dict[str, str]:
    """The processes' variables: fixed threads, deterministic matmuls, nothing of another run."""
    # A notebook may itself run under a launcher, whose variables would reach the new processes.
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    fixed = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TOKENIZERS_PARALLELISM": "false"}
    return {**kept, **fixed, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}


def run_job(folder: Path, on_log: LogReader | None = None) -> LaunchedOutcome:
    """Run the folder's job here from its last good checkpoint; `on_log` gets the growing log.

    The output of the processes goes to `launch.log`. After an interruption no process is left
    behind. Raises the kit's own error of the failed process, or `KitError` with its last output.
    """
    job = TrainingJob.read(folder)
    for name in (FAILURES, LOGS):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / OUTCOME_FILE).unlink(missing_ok=True)
    seen = 0
    with open(folder / LOG, "w", encoding="utf-8") as log:
        streams = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        settings = {**streams, "env": worker_environment(job.threads)}
        command = worker_command(folder, job.processes)
        # New session: an interruption at the keyboard reaches the processes once, through us.
        started = subprocess.Popen(command, **settings, start_new_session=True)
        try:
            while started.poll() is None:
                time.sleep(0.2)
                seen = _report(folder, seen, on_log)
        finally:
            _end(started)
    _report(folder, seen, on_log)
    if started.returncode:
        raise _failure(folder, job, started.returncode)
    found = read_outcome(folder)
    if found is None:
        raise KitError(f"the processes ended without an outcome: see {shown_path(folder / LOG)}")
    return found


def launch_training(
    folder: Path,
    job: TrainingJob,
    examples: Sequence[Example],
    held: Sequence[Example],
    nodes: int = 1,
    on_log: LogReader | None = None,
) -> LaunchedOutcome:
    """Write and run a job; a finished one is not run again.

    For several machines (`nodes`), `KitError` says what to submit; when that has run, the same call
    returns its outcome. See `write_job` and `run_job` for the other errors.
    """
    write_job(folder, job, examples, held)
    found = read_outcome(folder)
    if found is None and nodes > 1:
        size = f"{nodes} machines of {job.processes // nodes} processes"
        submit = f"submit it with `sbatch docs/launch/slurm.sh {folder}`"
        steps = f"set the numbers in docs/launch/slurm.sh, {submit}, and run this again when it has"
        raise KitError(f"the job for {size} is written to {folder}: {steps} finished")
    return found or run_job(folder, on_log)


def _report(folder: Path, seen: int, on_log: LogReader | None) -> int:
    """Hand the log to `on_log` when it has grown; returns how many entries it has."""
    path = folder / CHECKPOINTS / "metrics.jsonl"
    if on_log is None or not path.exists():
        return seen
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    if len(entries) != seen and entries:
        on_log(entries)
    return len(entries)


def _end(started: subprocess.Popen) -> None:
    """End the launcher and whatever it started: first asked, as from the keyboard, then killed."""
    if started.poll() is None:
        started.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            started.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def _failure(folder: Path, job: TrainingJob, code: int) -> KitError:
    """The error of the process that failed first: the kit's own one, or the end of its output."""
    files = (folder / FAILURES).glob("*.json")
    failures = {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in files}
    first = sorted(failures, key=lambda rank: failures[rank]["time"])
    for rank in first:
        if failures[rank]["own"]:
            kinds = {kind.__name__: kind for kind in KitError.__subclasses__()}
            kind = kinds.get(failures[rank]["error"], KitError)
            return kind(f"process {rank} of {job.processes}: {failures[rank]['message']}")
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    root = re.search(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", text, re.DOTALL)
    rank = int(root[1]) if root else next(iter(first), 0)
    status = int(root[2]) if root else code
    logs = sorted((folder / LOGS).glob(f"**/{rank}/stderr.log"))
    if job.processes > 1 and logs:
        text = logs[-1].read_text(encoding="utf-8", errors="replace")
    end = "\n".join(text.splitlines()[-TAIL:]) or "(no output)"
    ended = f"was ended by signal {signal.Signals(-status).name}" if status < 0 else ""
    who = f"process {rank} of {job.processes} {ended or f'failed with exit status {status}'}"
    where = f"All output is in {shown_path(folder / LOG)}; its last lines:\n{end}"
    return KitError(f"{who}; the same call goes on from the last checkpoint. {where}")
