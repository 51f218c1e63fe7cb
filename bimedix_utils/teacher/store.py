"""The answer store: every successful answer of a teacher, raw, before anything parses it.

One SQLite file in write-ahead-log mode. An answer is committed the moment it arrives, so a killed process loses at most what
was in flight, and an answer that is stored is never asked for again.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TeacherError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Answer:
    """A raw answer. `text` is None when there is none: then `error` says why (`no recording`, `HTTP 500` ...)."""

    request_id: str
    text: str | None
    finish_reason: str = "stop"
    usage: dict[str, int] = field(default_factory=dict)  # prompt_tokens, completion_tokens
    seconds: float = 0.0
    error: str = ""


class Store:
    """Answers by request id. `path` None keeps them in memory (replay: the recordings themselves are the store)."""

    def __init__(self, path: Path | None):
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Answers arrive on the executor's thread while the notebook's thread waits: one connection serves both in turn.
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=30)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                self._db.close()
                raise TeacherError(f"{path.name}: answer store of version {version}, this kit reads {SCHEMA_VERSION}; nothing was changed")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, stage TEXT, row_id TEXT, model TEXT, text TEXT NOT NULL, "
                "finish_reason TEXT, usage TEXT, seconds REAL, arrived TEXT DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"
            )
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise TeacherError(f"the answer store {path} cannot be opened ({error}); nothing was asked") from None

    def get(self, ids: Iterable[str]) -> dict[str, Answer]:
        """The stored answers among `ids`."""
        found = {}
        for request_id in ids:
            row = self._db.execute("SELECT text, finish_reason, usage, seconds FROM answers WHERE id = ?", (request_id,)).fetchone()
            if row:
                found[request_id] = Answer(request_id, row[0], row[1], json.loads(row[2]), row[3])
        return found

    def put(self, answer: Answer, stage: str, row_id: str, model: str) -> None:
        """Commit one answer durably; one that is there already is left alone. Raises `TeacherError` when the disk refuses."""
        values = (answer.request_id, stage, row_id, model, answer.text, answer.finish_reason, json.dumps(answer.usage), answer.seconds)
        try:
            self._db.execute(
                "INSERT OR IGNORE INTO answers (id, stage, row_id, model, text, finish_reason, usage, seconds) VALUES (?,?,?,?,?,?,?,?)",
                values,
            )
        except sqlite3.Error as error:
            raise TeacherError(
                f"an answer could not be stored ({error}); what was stored before is safe, mend the disk and run again"
            ) from None

    def __len__(self) -> int:
        return self._db.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._db.close()
