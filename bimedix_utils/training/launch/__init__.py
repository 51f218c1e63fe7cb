"""Training over many GPUs and machines: a job on disk, the process that runs a share of it, and the
files that start it.

The notebook writes the job (`prepare`), starts it on this machine (`run`, or both in one: `train`),
or leaves it to a cluster's scheduler with the files of `files`. Every way starts the same worker,
`python -m bimedix_utils.training.launch.worker JOB`.
"""

from .job import Job, Launched, outcome, prepare
from .scripts import Layout, files
from .start import run, train
