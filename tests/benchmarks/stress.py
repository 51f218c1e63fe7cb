"""`make stress`: kill -9 at twenty random moments of a run of 2,000 rows; prints what was bought
twice and fails on a broken promise.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import kills

if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 42
    with tempfile.TemporaryDirectory() as scratch:
        print(
            json.dumps(
                kills.disturbed(
                    Path(scratch), rows=2000, kills=20, concurrency=16, latency=0.1, seed=seed
                )
            )
        )
