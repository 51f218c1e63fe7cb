"""Launch files of a preset: shell, accelerate and Slurm, each starting the same worker on a job
that a notebook or `prepare` wrote.

python -m bimedix_utils.training.launch --mode paper       writes runs/<mode>/launch (make
launch-files MODE=paper)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ParameterError
from ...core.files import write_text
from .. import sharded
from ..loop import PARALLEL

WORKER = "bimedix_utils.training.launch.worker"
NOT_RUN = (
    "Written by the kit from the parameters of notebook 06.",
    (
        "Run so far: two processes on one machine's processors, data parallel. Not run: GPUs,"
        " several machines, sharding of a 4-bit base."
    ),
)
PORT = 29400  # where the processes of several machines meet


@dataclass(frozen=True)
class Layout:
    """Processes of each machine, machines, threads of a process, and how the processes work
    together.
    """

    processes: int
    nodes: int
    threads: int
    parallel: str

    def __post_init__(self) -> None:
        if self.parallel not in PARALLEL:
            raise ParameterError(f"PARALLEL = {self.parallel!r}; wanted {' or '.join(PARALLEL)}")
        for name in ("processes", "nodes", "threads"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} = {getattr(self, name)}; wanted 1 or more")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Layout":
        """The layout in notebook 06's parameters."""
        return cls(values["GPUS"], values["NODES"], values["THREADS"], values["PARALLEL"])


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in (*NOT_RUN, text))


def shell(layout: Layout) -> str:
    """torchrun on this machine: `bash torchrun.sh JOB`."""
    return (
        "#!/usr/bin/env bash\n"
        + _commented("bash torchrun.sh JOB: the folder with job.json that notebook 06 wrote.")
        + f"""set -euo pipefail
job=${{1:?which job: the folder that holds job.json}}
export OMP_NUM_THREADS={layout.threads} TOKENIZERS_PARALLELISM=false CUBLAS_WORKSPACE_CONFIG=:4096:8
torchrun --standalone --nproc_per_node {layout.processes} --max_restarts 0 -m {WORKER} "$job"
"""
    )


def accelerate(layout: Layout, parallel: str) -> str:
    """accelerate's own configuration: `accelerate launch --config_file FILE -m
    bimedix_utils.training.launch.worker JOB`.
    """
    import yaml

    values: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": "FSDP" if parallel == "fsdp" else "MULTI_GPU",
        "downcast_bf16": "no",
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": "bf16",
        "num_machines": layout.nodes,
        "num_processes": layout.processes * layout.nodes,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
    }
    if parallel == "fsdp":
        settings = {f"fsdp_{name}": value for name, value in sharded.FSDP_SETTINGS.items()}
        values["fsdp_config"] = {
            **settings,
            "fsdp_version": 1,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_sharding_strategy": "FULL_SHARD",
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_offload_params": False,
        }
    where = "On several machines set machine_rank, main_process_ip and main_process_port for each."
    return _commented(
        f"accelerate launch --config_file accelerate_{parallel}.yaml -m {WORKER} JOB. {where}"
    ) + yaml.safe_dump(values)


def slurm(layout: Layout) -> str:
    """A batch script, one launcher a machine: `sbatch job.slurm JOB`."""
    return (
        "#!/usr/bin/env bash\n#SBATCH --job-name=bimedix-kit\n#SBATCH"
        f" --nodes={layout.nodes}\n#SBATCH --ntasks-per-node=1\n#SBATCH"
        f" --gpus-per-node={layout.processes}\n#SBATCH"
        f" --cpus-per-task={layout.processes * layout.threads}\n#SBATCH --signal=TERM@120\n#SBATCH"
        " --requeue\n#SBATCH --output=%x-%j.log\n"
        + _commented(
            "sbatch job.slurm JOB. Account, partition and time limit are your cluster's: give them"
            " to sbatch."
        )
        + f"""# Ended by the time limit or put back into the queue, it goes on from the last good checkpoint.
set -euo pipefail
job=${{1:?which job: the folder that holds job.json, on a disk that every machine sees}}
export OMP_NUM_THREADS={layout.threads} TOKENIZERS_PARALLELISM=false CUBLAS_WORKSPACE_CONFIG=:4096:8
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes {layout.nodes} --nproc_per_node {layout.processes} --max_restarts 0 \\
  --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$head:{PORT}" -m {WORKER} "$job"
"""
    )


def files(values: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every launch file of a preset. Returns their paths. Raises `ParameterError` for a
    layout that makes no sense.
    """
    layout = Layout.of(values)
    texts = {
        "torchrun.sh": shell(layout),
        **{f"accelerate_{parallel}.yaml": accelerate(layout, parallel) for parallel in PARALLEL},
        "job.slurm": slurm(layout),
    }
    for name, text in texts.items():
        write_text(folder / name, [text])
    return [folder / name for name in texts]
