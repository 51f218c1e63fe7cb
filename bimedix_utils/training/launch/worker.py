"""One process of a training job: `python -m bimedix_utils.training.launch.worker JOB`.

All processes load the base, add equal adapters, compare them and train; rank 0 writes the outcome.
"""

import os
import shutil
import socket
import sys
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...core.errors import KitError
from ...core.files import atomic_directory, file_lock, write_json
from ...core.runs import set_seed
from ...core.text import digest
from .. import batches, checkpoints, models, sharded
from ..adapter_card import adapter_hash
from ..examples import Example
from ..loop import TrainingOutcome, train
from .job import HELD_OUT_FILE, OUTCOME_FILE, TRAIN_FILE, TrainingJob, read_examples

WORKER = "bimedix_utils.training.launch.worker"
CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
FAILURES = "failures"  # one file for each process that failed


def process_rank() -> tuple[int, int]:
    """(rank, processes) as the launcher sets them; (0, 1) when nothing launched this process."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def check_world_size(found: int, expected: int, where: str) -> None:
    """Raises `KitError` unless as many processes run as the job was written for."""
    # `accelerate launch --cpu --num_processes 2` starts one process without a warning: the job
    # would run half as fast, or twice at once.
    if found != expected:
        has = f"{where} has {found} process{'es' if found > 1 else ''}, and the job"
        run = f"torchrun --standalone --nproc_per_node {expected} -m {WORKER} JOB"
        fix = f"Start it with `{run}`, or write the job for another number of processes"
        raise KitError(f"{has} needs {expected}: the launcher started too few or too many. {fix}")


def job_lock(folder: Path, rank: int) -> AbstractContextManager[None]:
    """A lock of rank 0, so that one run writes the checkpoints; `KitError` after 10 seconds."""
    # It waits because the processes of a killed run need a moment to end.
    busy = KitError(f"{folder.name} is being trained by another run: wait for it, or stop it")
    return nullcontext() if rank else file_lock(folder / ".lock", 10, busy)


def run_process(folder: Path) -> None:
    """This process's share of the job. Raises `KitError` when anything differs from the job."""
    rank, world = process_rank()
    job = TrainingJob.read(folder)
    check_world_size(world, job.processes, "the launcher's environment (WORLD_SIZE)")
    with job_lock(folder, rank):
        _train(folder, job, rank)


def _train(folder: Path, job: TrainingJob, rank: int) -> None:
    torch = models.setup_torch(job.threads)
    from accelerate import PartialState

    gpu, fsdp = torch.cuda.is_available(), job.parallel == "fsdp"
    device = _set_device(torch, rank) if gpu else "cpu"
    if fsdp:
        sharded.set_fsdp_environment(gpu)
    state = PartialState(cpu=not gpu)
    check_world_size(state.num_processes, job.processes, "torch.distributed")
    torch.set_num_threads(job.threads)  # accelerate may have set its own
    who = f"process {rank} of {job.processes}: pid {os.getpid()}, {device}"
    print(f"{who}, {torch.get_num_threads()} threads", flush=True)
    base = Path(job.base) if Path(job.base).is_dir() else job.base
    model, tokenizer = models.load_base(base, sharded=fsdp)
    set_seed(job.recipe.seed)  # the same numbers in every process
    adapted = models.add_adapters(model, job.rank, job.alpha, job.targets)
    audit = [vars(row) for row in models.audit_model(adapted, job.targets)]
    # Sharded, only rank 0 of a machine holds weights yet; the others receive theirs when training
    # begins.
    begun = {"audit": digest(audit), "adapters": None if fsdp else _adapter_digest(adapted)}
    every: list[Any] = [{"device": f"{socket.gethostname()}: {device}", **begun}]
    if job.processes > 1:
        own, every = every[0], every * job.processes
        torch.distributed.all_gather_object(every, own)
    for other, found in enumerate(every):
        for name in begun:
            if found[name] != every[0][name]:
                why = "base, packages or CPUs differ between machines"
                raise KitError(f"process {other} has other {name} than process 0: {why}")
    rows, held = read_examples(folder, TRAIN_FILE), read_examples(folder, HELD_OUT_FILE)
    settings = (job.recipe, folder / CHECKPOINTS, _print_step if rank == 0 else None)
    begin = time.perf_counter()
    outcome = train(adapted, tokenizer, rows, held, *settings, parallel=job.parallel)
    seconds = time.perf_counter() - begin
    if rank == 0:
        facts = {"seconds": seconds, "devices": [found["device"] for found in every]}
        _write_outcome(folder, job, rows, outcome, {**facts, "audit": audit})
    state.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _set_device(torch: Any, rank: int) -> str:
    """Take this process's GPU; returns its name. Raises `KitError` when there are too few."""
    local, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= gpus:
        where = f"process {rank} finds {gpus} GPUs on {socket.gethostname()}"
        raise KitError(f"{where}: start one process a GPU")
    torch.cuda.set_device(local)
    return f"{torch.cuda.get_device_name(local)}, {local}"


def _adapter_digest(model: Any) -> str:
    """Hash of the adapters before training."""
    trainable = [(name, p.double()) for name, p in model.named_parameters() if p.requires_grad]
    return digest([[name, p.sum().item(), p.norm().item()] for name, p in trainable])


def _print_step(log: list[dict]) -> None:
    entry = log[-1]
    names = [name for name in ("loss", "eval_loss", "grad_norm") if name in entry]
    if names:
        numbers = "  ".join(f"{name} {entry[name]:.4f}" for name in names)
        print(f"step {entry['step']}  {numbers}", flush=True)


def _write_outcome(
    folder: Path, job: TrainingJob, rows: list[Example], outcome: TrainingOutcome, facts: dict
) -> None:
    """Copy the adapter out of its verified checkpoint, and write the outcome last."""
    last = folder / CHECKPOINTS / f"checkpoint-{outcome.best_step or outcome.steps}"
    checkpoints.verify_checkpoint(last)
    # Not saved from the model: sharded, no process holds it completely.
    with atomic_directory(folder / ADAPTER, renew=True) as made:
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy2(last / name, made / name)
    lengths = [len(row.input_ids) for row in rows]
    steps = batches.plan_steps(lengths, job.recipe)[outcome.resumed_at : outcome.steps]

    def padded(part: list[int]) -> int:
        found = [lengths[i] for i in part] or [0]
        return sum(found) if job.recipe.packing else len(part) * max(found)

    def of_rank(rank: int) -> list[int]:
        shards = [batches.shard_for_rank(step, rank, job.processes) for step in steps]
        return [sum(map(padded, shard)) for shard in shards]

    values = {
        **{**asdict(outcome), **facts, "processes": job.processes, "parallel": job.parallel},
        **{"job": job.key, "adapter": ADAPTER, "adapter_hash": adapter_hash(folder / ADAPTER)},
        "tokens": sum(lengths[i] for step in steps for part in step for i in part),
        "padded_tokens": [of_rank(rank) for rank in range(job.processes)],
    }
    write_json(folder / OUTCOME_FILE, values)


def main() -> int:
    """The command line; a failure is written to the job's folder for whoever started the job."""
    folder, (rank, _) = Path(sys.argv[1]), process_rank()
    try:
        run_process(folder)
    except BaseException as error:
        own = isinstance(error, KitError)
        if isinstance(error, Exception) and folder.is_dir():
            failure = {"time": time.time(), "error": type(error).__name__, "own": own}
            write_json(folder / FAILURES / f"{rank}.json", failure | {"message": str(error)})
        if not own:
            raise
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
