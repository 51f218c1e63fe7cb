"""Deterministic checks of a translation, run before any score is believed."""

from .corpus import adequacy, option_order, repeated_targets
from .pair import SEVERITIES, Flag, TextPair
from .quantities import numbers_of
from .registry import CHECKS, CHUNK_ROWS, CheckRow, check_rows, run_checks
