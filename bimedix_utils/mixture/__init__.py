"""Notebook 05: the bilingual mix, without duplicates or test questions, counted in tokens."""

from .compose import PAPER_TASKS, paper_targets, tasks_off_ratio
from .mix_card import mix_card
from .parallel import parallel_map
from .scan import TASKS, Input, family_id
from .shards import read_split
from .steps import (
    MixSettings,
    build_mix,
    finish_mix,
    plant_tests,
    scan_inputs,
    select_rows,
    write_shards,
)
from .tokens import record_tokens
