"""A run that a test may kill: asks an endpoint for a number of rows and keeps the answers in a
store.

python tests/support/asker.py URL STORE ROWS CONCURRENCY
"""

import sys
from pathlib import Path

from bimedix_utils.teacher import engine
from bimedix_utils.teacher.settings import Teacher

WORDS = "A short case, number {}: fever, cough and a rash since {} days. What should be asked next?"


def requests(teacher: Teacher, rows: int) -> list:
    """The same requests in every process."""
    return [
        teacher.request("stress", f"row:{i}", "v1", WORDS.format(i, i % 30)) for i in range(rows)
    ]


def teacher(url: str, store: str, concurrency: int) -> Teacher:
    """The teacher of the kill tests."""
    return Teacher(
        backend="http",
        model="stub",
        url=url,
        answers=Path(store),
        concurrency=concurrency,
        timeout=30,
    )


if __name__ == "__main__":
    url, store, rows, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    asked = teacher(url, store, concurrency)
    outcome = engine.fill_store(asked, requests(asked, rows))
    print(len(outcome.failed), outcome.stopped)
