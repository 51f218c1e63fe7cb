"""The memory a benchmark reports."""

import threading
import time
from pathlib import Path
from typing import Any


class Peak:
    """Most anonymous memory of this process (MB) while open, above that at the beginning; pages of
    mapped files do not count.
    """

    def __enter__(self) -> "Peak":
        self.first = self.most = self.now()
        self.open = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.open = False
        self.thread.join()

    @property
    def above(self) -> float:
        return self.most - self.first

    @staticmethod
    def now() -> float:
        status = Path("/proc/self/status").read_text()
        return (
            int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])
            / 1024
        )

    def _watch(self) -> None:
        while self.open:
            self.most = max(self.most, self.now())
            time.sleep(0.01)
