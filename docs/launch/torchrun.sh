#!/usr/bin/env bash
# One machine: bash docs/launch/torchrun.sh JOB (the folder with job.json that notebook 06 wrote).
set -euo pipefail
GPUS=8     # processes, one for each GPU: GPUS of notebook 06
THREADS=8  # CPU threads of each process: THREADS of notebook 06
job=${1:?which job: the folder that holds job.json}
export OMP_NUM_THREADS=$THREADS TOKENIZERS_PARALLELISM=false CUBLAS_WORKSPACE_CONFIG=:4096:8
torchrun --standalone --nproc_per_node "$GPUS" --max_restarts 0 \
  -m bimedix_utils.training.launch.worker "$job"
