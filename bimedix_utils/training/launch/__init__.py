"""Training over many GPUs and machines: a job on disk, and the process that runs a share of it.

`launch_training` writes the job and starts its processes on this machine. On a cluster the files of
docs/launch start the same process, `python -m bimedix_utils.training.launch.worker JOB`.
"""

from .job import LaunchedOutcome, TrainingJob, read_outcome, write_job
from .start import launch_training, run_job
