"""A run killed with SIGKILL loses nothing and buys nothing twice but what was under way. `make
stress` kills twenty times.
"""

import pytest
from support import kills

pytestmark = pytest.mark.chain


def test_three_kills_of_a_run_of_2000_rows(tmp_path):
    outcome = kills.disturbed(tmp_path, rows=2000, kills=3, concurrency=16, latency=0.02, seed=1)
    assert outcome["kills"] >= 1
