"""Notebook 00 and the runner: environment check, pipeline, reports, publishing, local server,
recordings, ablations.
"""

from .environment import check_requirements, describe_machine, mode_table, preset_overview
