"""The teacher LLM of notebooks 02, 03 and 07: one interface to recordings, endpoints, batch files
and Ray; every answer is stored before anything reads it.
"""

from .engine import (
    HISTORY_COLUMNS,
    Outcome,
    ask,
    ask_structured,
    estimate_requests,
    fill_store,
    store_history,
)
from .ledger import LEDGER_COLUMNS, Ledger
from .parsing import parse_answer
from .permission import is_loopback, require_local_or_allowed
from .replay import read_recordings
from .requests import Prompt, Request
from .settings import SEND_PARAMETER, TEACHER_PARAMETERS, Teacher
from .store import Answer
