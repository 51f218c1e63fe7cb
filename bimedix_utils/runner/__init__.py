"""Notebook 00 and the runner: the environment check, the pipeline, reports, publishing, the local server,
recordings, ablations.
"""

from .environment import check_requirements, describe_machine, mode_table, preset_overview
