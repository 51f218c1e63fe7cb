"""The answer store: every answer of a teacher, raw, before anything reads it.

One SQLite file in write-ahead-log mode. `put` returns when its answers are on the disk, so a killed process loses at most what
was in flight, and an answer that is stored is never asked for again. What is stored is the endpoint's own body: a better reader
can be written tomorrow without asking anybody again.
"""

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import TeacherError
from .requests import Request

SCHEMA_VERSION = 2
LOCK_SECONDS = 4  # how long to wait for a store that another process is filling
_LOOKUP = 500  # ids in one query
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    id BLOB NOT NULL UNIQUE, stage TEXT NOT NULL, row_id TEXT NOT NULL, round INTEGER NOT NULL, sample INTEGER NOT NULL,
    prompt_version TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
    completion_tokens INTEGER, seconds REAL, cost_usd REAL, arrived TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"""


@dataclass(frozen=True)
class Answer:
    """One answer. `text` is None when there is none: then `error` says why (`no recording`, `HTTP 500` ...)."""

    request_id: str
    text: str | None
    finish_reason: str = "stop"
    usage: dict[str, int] = field(default_factory=dict)  # prompt_tokens, completion_tokens, as the endpoint counted them
    seconds: float = 0.0
    error: str = ""
    body: str = ""  # the chat completion as it came; empty for a recording
    charged: bool = False  # there is no text, and the endpoint may have charged for one


def read_body(request_id: str, body: str, seconds: float = 0.0) -> Answer:
    """The first choice of a chat completion. Raises ValueError, LookupError, TypeError or AttributeError for anything else."""
    value = json.loads(body)
    choice = value["choices"][0]
    text = choice["message"].get("content")
    if text is None:
        text = choice["message"].get("refusal") or ""
    finish, counted = choice.get("finish_reason") or "stop", value.get("usage") or {}
    if not isinstance(text, str) or not isinstance(finish, str):
        raise TypeError("content or finish_reason is not text")
    if not text.strip() and finish == "stop":
        raise ValueError("the answer is empty")
    for part in (text, finish, body):
        part.encode("utf-8")  # half a surrogate pair is JSON, and nothing that can be stored
    usage = {k: n for k in ("prompt_tokens", "completion_tokens") if type(n := counted.get(k)) is int and 0 <= n < 2**31}
    return Answer(request_id, text, finish, usage, round(seconds, 3), body=body)


class Store:
    """Answers by request id. `path` None keeps them in memory. A store opened with `fill=True` belongs to one process at a time.

    Raises `TeacherError` when the file cannot be opened, is of another version, or is being filled by another process.
    """

    def __init__(self, path: Path | None, fill: bool = False):
        self.path, self._lock = path, None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _lock(path) if fill else None
            # Answers arrive on the executor's thread while the notebook's thread waits: one connection serves both in turn.
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=30)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._db.close()
                raise TeacherError(f"{path.name} is a database, and not an answer store; nothing was changed: name another file")
            if version not in (0, SCHEMA_VERSION):
                self._db.close()
                raise TeacherError(
                    f"{path.name} is an answer store of version {version}, this kit reads {SCHEMA_VERSION}; nothing was changed. Keep the "
                    "file and name another one in BIMEDIX_ANSWERS, or use the kit that wrote it"
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-65536")  # 64 MB: the ids of a million answers are looked up without reading them again
            self._db.execute(_TABLE)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        except (sqlite3.Error, OSError) as error:
            self._unlock()
            raise TeacherError(f"the answer store {path} cannot be opened ({error}); nothing was asked") from None
        except TeacherError:
            self._unlock()
            raise

    def known(self, requests: Iterable[Request]) -> Iterator[tuple[Request, bool]]:
        """Each request with the answer to "is it stored?", in order, in bounded memory."""
        chunk: list[Request] = []
        for request in requests:
            chunk.append(request)
            if len(chunk) == _LOOKUP:
                yield from self._known(chunk)
                chunk = []
        yield from self._known(chunk)

    def _known(self, chunk: list[Request]) -> Iterator[tuple[Request, bool]]:
        ids = [bytes.fromhex(request.id) for request in chunk]
        marks = ",".join("?" * len(ids))
        # The index alone answers this: no row is read.
        stored = {row[0] for row in self._read(f"SELECT id FROM answers WHERE id IN ({marks})", ids)} if ids else set()
        yield from ((request, raw in stored) for request, raw in zip(chunk, ids, strict=True))

    def get(self, ids: Iterable[str]) -> dict[str, Answer]:
        """The stored answers among `ids`."""
        found = {}
        for request_id in ids:
            for row in self._read("SELECT body, seconds FROM answers WHERE id = ?", (bytes.fromhex(request_id),)):
                found[request_id] = read_body(request_id, *row)
        return found

    def put(self, answers: Iterable[tuple[Request, Answer, float | None]]) -> None:
        """Commit answers with their cost in US dollars, durably and together; what is there already is left alone.

        Raises `TeacherError` when the disk refuses: then none of them is stored.
        """
        values = [
            (
                bytes.fromhex(r.id), r.stage, r.row_id, r.round, r.sample, r.prompt_version, r.model, a.body, a.finish_reason,
                a.usage.get("prompt_tokens"), a.usage.get("completion_tokens"), a.seconds, cost,
            )
            for r, a, cost in answers
        ]  # fmt: skip
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO answers (id, stage, row_id, round, sample, prompt_version, model, body, finish_reason, "
                "prompt_tokens, completion_tokens, seconds, cost_usd) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                values,
            )
            self._db.execute("COMMIT")
        except Exception as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise TeacherError(
                f"an answer could not be stored ({error}); what was stored before is safe, mend the disk and run again"
            ) from None

    def totals(self) -> list[dict[str, Any]]:
        """Sums over everything ever stored, one row a model and stage. Means are None where nothing was counted."""
        names = ["model", "stage", "answers", "prompt_tokens", "completion_tokens", "counted", "mean_completion", "mean_seconds"]
        rows = self._read(
            "SELECT model, stage, count(*) AS answers, sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, "
            "count(completion_tokens) AS counted, avg(completion_tokens) AS mean_completion, avg(seconds) AS mean_seconds, "
            "sum(cost_usd) AS cost_usd, count(cost_usd) AS priced FROM answers GROUP BY model, stage ORDER BY model, stage"
        )
        return [dict(zip([*names, "cost_usd", "priced"], row, strict=True)) for row in rows]

    def _read(self, query: str, values: Sequence = ()) -> list[tuple]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise TeacherError(f"the answer store {self.path} cannot be read ({error}); nothing was changed") from None

    def __len__(self) -> int:
        return self._read("SELECT count(*) FROM answers")[0][0]

    def close(self) -> None:
        """Fold the write-ahead log into the file, close it and give it back."""
        self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _lock(path: Path) -> IO[str]:
    """The store's lock file, held as long as it is open: two processes filling one store would pay for the same answers twice."""
    lock = open(path.with_name(path.name + ".lock"), "w")
    for attempt in range(LOCK_SECONDS + 1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(1 if attempt < LOCK_SECONDS else 0)  # a killed process needs a moment to let go
    lock.close()
    raise TeacherError(f"{path.name} is being filled by another process: wait for it, or name another store in BIMEDIX_ANSWERS")
