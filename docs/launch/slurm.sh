#!/usr/bin/env bash
# A Slurm cluster: sbatch docs/launch/slurm.sh JOB (the folder with job.json that notebook 06 wrote,
# on a disk that every machine sees). Account, partition and time limit are your cluster's: give
# them to sbatch. Ended by the time limit or requeued, the job goes on from its last good checkpoint.
#SBATCH --job-name=bimedix-kit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
GPUS=8     # processes of each machine: GPUS of notebook 06, --gpus-per-node above
THREADS=8  # CPU threads of each process: --cpus-per-task above is GPUS x THREADS
PORT=29400 # where the processes of the machines meet
job=${1:?which job: the folder that holds job.json}
export OMP_NUM_THREADS=$THREADS TOKENIZERS_PARALLELISM=false CUBLAS_WORKSPACE_CONFIG=:4096:8
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node "$GPUS" --max_restarts 0 \
  --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$head:$PORT" \
  -m bimedix_utils.training.launch.worker "$job"
