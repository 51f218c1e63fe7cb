"""One process of a training job: `python -m bimedix_utils.training.launch.worker JOB`, started by
torchrun, accelerate or a scheduler.

All processes load the base, put the same adapters on it and prove it; they train together; rank 0
writes what came of it.
"""

import fcntl
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import training
from ...core import runs
from ...core.errors import KitError
from ...core.files import write_json
from ...core.text import digest
from .. import batches, checkpoints, models, sharded
from .job import HELD, OUTCOME, ROWS, Job, examples

CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
FAILURES = "failures"  # one file for each process that failed


def place() -> tuple[int, int]:
    """(rank, processes) as the launcher says; (0, 1) when nothing launched this process."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def refuse_ghosts(found: int, wanted: int, where: str) -> None:
    """Raises `KitError` unless as many processes run as the job wants.

    `accelerate launch --cpu --num_processes 2` starts one process and says nothing: the job would
    run, half as fast, or twice at once.
    """
    if found != wanted:
        raise KitError(
            f"{where} has {found} process{'es' if found > 1 else ''}, and the job wants {wanted}:"
            " the launcher did not start what it was told to. Start it with `torchrun --standalone"
            f" --nproc_per_node {wanted} -m bimedix_utils.training.launch.worker JOB`, or write the"
            " job for another number of processes"
        )


@contextmanager
def alone(folder: Path, rank: int) -> Iterator[None]:
    """Inside, rank 0 holds the job's lock. Raises `KitError` when another run holds it: both would
    write the same checkpoints.
    """
    if rank:
        yield
        return
    with open(folder / ".lock", "w") as lock:
        for _ in range(50):  # processes of a killed run need a moment to end
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise KitError(
                f"{folder.name} is being trained by another run: wait for it, or stop it"
            )
        yield


def work(folder: Path) -> None:
    """This process's share of the job. Raises `KitError` for anything that is not as the job says."""
    rank, world = place()
    job = Job.read(folder)
    refuse_ghosts(world, job.processes, "the launcher's environment (WORLD_SIZE)")
    with alone(folder, rank):
        _work(folder, job, rank)


def _work(folder: Path, job: Job, rank: int) -> None:
    torch = models.setup_torch(job.threads)
    from accelerate import PartialState

    gpu, fsdp = torch.cuda.is_available(), job.parallel == "fsdp"
    local = int(os.environ.get("LOCAL_RANK", 0))
    if gpu:
        if local >= torch.cuda.device_count():
            raise KitError(
                f"process {rank} finds {torch.cuda.device_count()} GPUs on {socket.gethostname()}:"
                " start one process a GPU"
            )
        torch.cuda.set_device(local)
    if fsdp:
        sharded.set_fsdp_environment(gpu)
    state = PartialState(cpu=not gpu)
    refuse_ghosts(state.num_processes, job.processes, "torch.distributed")
    torch.set_num_threads(job.threads)  # accelerate may have set its own
    device = f"{torch.cuda.get_device_name(local)}, {local}" if gpu else "cpu"
    print(
        f"process {rank} of {job.processes}: pid {os.getpid()}, {device}, {torch.get_num_threads()}"
        " threads",
        flush=True,
    )

    model, tokenizer = models.load_base(
        Path(job.base) if Path(job.base).is_dir() else job.base, sharded=fsdp
    )
    runs.set_seed(job.recipe.seed)  # the same numbers in every process
    adapted = models.add_adapters(model, job.rank, job.alpha, job.parts)
    audit = models.audit_model(adapted, job.parts)
    # Sharded, only rank 0 of a machine holds weights yet; the others receive theirs when training
    # begins.
    begun = {
        "audit": digest([vars(row) for row in audit]),
        "adapters": None if fsdp else _start(adapted),
    }
    told = _gathered({"device": f"{socket.gethostname()}: {device}", **begun}, job.processes)
    for other, found in enumerate(told):
        for name in begun:
            if found[name] != told[0][name]:
                raise KitError(
                    f"process {other} has other {name} than process 0: base, packages or processors"
                    " differ between machines"
                )

    rows, held = examples(folder, ROWS), examples(folder, HELD)
    begin = time.perf_counter()
    outcome = training.train(
        adapted,
        tokenizer,
        rows,
        held,
        job.recipe,
        folder / CHECKPOINTS,
        _progress if rank == 0 else None,
        parallel=job.parallel,
    )
    seconds = time.perf_counter() - begin
    if rank == 0:
        _finish(
            folder,
            job,
            rows,
            outcome,
            seconds,
            [found["device"] for found in told],
            [vars(row) for row in audit],
        )
    state.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _start(model: Any) -> str:
    """Hash of the adapters before training."""
    return digest(
        [
            [name, p.double().sum().item(), p.double().norm().item()]
            for name, p in model.named_parameters()
            if p.requires_grad
        ]
    )


def _gathered(value: Any, processes: int) -> list[Any]:
    """Every process's value, by rank."""
    import torch

    if processes == 1:
        return [value]
    values: list[Any] = [None] * processes
    torch.distributed.all_gather_object(values, value)
    return values


def _progress(log: list[dict]) -> None:
    entry = log[-1]
    numbers = "  ".join(
        f"{name} {entry[name]:.4f}" for name in ("loss", "eval_loss", "grad_norm") if name in entry
    )
    if numbers:
        print(f"step {entry['step']}  {numbers}", flush=True)


def _finish(
    folder: Path,
    job: Job,
    rows: list,
    outcome: training.TrainingOutcome,
    seconds: float,
    devices: list[str],
    audit: list[dict[str, Any]],
) -> None:
    """Take the adapter out of its sealed checkpoint, where it is whole however it was trained, and
    write the outcome last.
    """
    last = folder / CHECKPOINTS / f"checkpoint-{outcome.best_step or outcome.steps}"
    checkpoints.verify_checkpoint(last)
    shutil.rmtree(folder / ADAPTER, ignore_errors=True)
    (folder / ADAPTER).mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy2(last / name, folder / ADAPTER / name)
    steps = batches.plan_steps([len(e.input_ids) for e in rows], job.recipe)[
        outcome.resumed_at : outcome.steps
    ]

    def padded(part: list[int]) -> int:
        lengths = [len(rows[i].input_ids) for i in part] or [0]
        return sum(lengths) if job.recipe.packing else len(part) * max(lengths)

    shares = [
        [sum(map(padded, batches.shard_for_rank(step, rank, job.processes))) for step in steps]
        for rank in range(job.processes)
    ]
    write_json(
        folder / OUTCOME,
        {
            **asdict(outcome),
            "job": job.key,
            "processes": job.processes,
            "parallel": job.parallel,
            "devices": devices,
            "seconds": seconds,
            "tokens": sum(len(rows[i].input_ids) for step in steps for part in step for i in part),
            "adapter": ADAPTER,
            "adapter_hash": training.adapter_hash(folder / ADAPTER),
            "shares": shares,
            "audit": audit,
        },
    )


def main() -> int:
    """The command line. A failure is written to the job's folder, so that whoever started the
    processes can say which and why.
    """
    folder, (rank, _) = Path(sys.argv[1]), place()
    try:
        work(folder)
    except BaseException as error:
        own = isinstance(error, KitError)
        if isinstance(error, Exception) and folder.is_dir():
            (folder / FAILURES).mkdir(exist_ok=True)
            failure = {
                "time": time.time(),
                "error": type(error).__name__,
                "message": str(error),
                "own": own,
            }
            write_json(folder / FAILURES / f"{rank}.json", failure)
        if not own:
            raise
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
