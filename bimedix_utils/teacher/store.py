"""The answer store: every answer of a teacher, raw, before anything reads it.

One SQLite file in write-ahead-log mode. `put` returns when its answers are on the disk: a killed
process loses at most what was under way, and a stored answer is never asked for again. The
endpoint's own body is stored, so a better reader needs no new answers.
"""

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.errors import TeacherError
from ..core.files import file_lock
from .requests import Request

SCHEMA_VERSION = 2
# What `read_body` raises for what is no completion.
UNREADABLE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
LOCK_SECONDS = 4  # how long to wait for a store that another process is filling
_LOOKUP = 500  # ids in one query
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    id BLOB NOT NULL UNIQUE, stage TEXT NOT NULL, row_id TEXT NOT NULL, round INTEGER NOT NULL,
    sample INTEGER NOT NULL, prompt_version TEXT NOT NULL, model TEXT NOT NULL,
    body TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
    completion_tokens INTEGER, seconds REAL, cost_usd REAL,
    arrived TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"""
_COLUMNS = (
    "id, stage, row_id, round, sample, prompt_version, model, body, finish_reason,"
    " prompt_tokens, completion_tokens, seconds, cost_usd"
)
_TOTALS = """SELECT model, stage, count(*) AS answers, sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens, count(completion_tokens) AS counted,
    avg(completion_tokens) AS mean_completion, avg(seconds) AS mean_seconds,
    sum(cost_usd) AS cost_usd, count(cost_usd) AS priced
    FROM answers GROUP BY model, stage ORDER BY model, stage"""


@dataclass(frozen=True)
class Answer:
    """One answer; `text` is None when there is none, and `error` says why (`HTTP 500` ...)."""

    request_id: str
    text: str | None
    finish_reason: str = "stop"
    # prompt_tokens and completion_tokens, as the endpoint counted them
    usage: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    body: str = ""  # the chat completion as it came; empty for a recording
    charged: bool = False  # there is no text, and the endpoint may have charged for one
    lost: int = field(default=0, compare=False)  # earlier tries of which the same is true


Deliver = Callable[[list[tuple[Request, Answer]]], None]  # takes answers as they arrive


def read_body(request_id: str, body: str, seconds: float = 0.0) -> Answer:
    """The first choice of a chat completion. Raises one of `UNREADABLE_ERRORS`."""
    value = json.loads(body.removeprefix("\ufeff"))
    choice = value["choices"][0]
    text = choice["message"].get("content")
    if text is None:
        text = choice["message"].get("refusal") or ""
    if isinstance(text, list):  # parts; what is not text (reasoning, say) is not the answer
        text = "".join(part["text"] for part in text if part["type"] == "text")
    finish, counted = choice.get("finish_reason") or "stop", value.get("usage")
    if not isinstance(text, str) or not isinstance(finish, str):
        raise TypeError("content or finish_reason is not text")
    if not text.strip() and finish == "stop":
        raise ValueError("the answer is empty")
    for part in (text, finish, body):
        part.encode("utf-8")  # half a surrogate pair is valid JSON and cannot be stored
    # an answer without token counts is kept
    counted = counted if isinstance(counted, dict) else {}
    names = ("prompt_tokens", "completion_tokens")
    usage = {k: n for k in names if type(n := counted.get(k)) is int and 0 <= n < 2**31}
    return Answer(request_id, text, finish, usage, round(seconds, 3), body=body)


class Store:
    """Answers by request id; `path` None keeps them in memory.

    With `fill` the store belongs to one process at a time. Without it the store is only read: no
    file or folder is made, and a missing file counts as empty. Raises `TeacherError` when the file
    cannot be opened, has another version, or is being filled by another process.
    """

    def __init__(self, path: Path | None, fill: bool = False):
        # The lock is beside the file itself: a link to it must not be a second store.
        self.path = path and path.resolve()
        self._lock = ExitStack()
        self._db: sqlite3.Connection | None = None
        # Closing a connection while another thread uses it crashes the interpreter.
        self._in_use = threading.Lock()
        try:
            self._open(fill)
        except BaseException as error:  # an interrupt too: its traceback would keep the store open
            self._release()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise TeacherError(
                    f"the answer store {path} cannot be opened ({error}); nothing was asked"
                ) from None
            raise

    def _open(self, fill: bool) -> None:
        path = self.path
        if path is None or not (fill or path.exists()):
            self._db = _connect(":memory:")
        elif fill:
            busy = TeacherError(
                f"{path.name} is being filled by another process: wait for it, or name another"
                " store in BIMEDIX_ANSWERS"
            )
            # Two processes that fill one store would pay for the same answers twice.
            lock = path.with_name(path.name + ".lock")
            self._lock.enter_context(file_lock(lock, LOCK_SECONDS, busy))
            self._db = _connect(f"file:{quote(str(path))}")
        else:
            self._db = _connect_to_read(path)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and not empty:
            raise TeacherError(
                f"{path.name} is a database, and not an answer store; nothing was changed: name"
                " another file"
            )
        if version not in (0, SCHEMA_VERSION):
            raise TeacherError(
                f"{path.name} is an answer store of version {version}, this kit reads"
                f" {SCHEMA_VERSION}; nothing was changed. Keep the file and name another one in"
                " BIMEDIX_ANSWERS, or use the kit that wrote it"
            )
        if path is not None and not fill and empty:  # a file that has just been made
            self._db.close()
            self._db = _connect(":memory:")
        # 64 MB: the ids of a million answers are looked up without reading them again
        self._db.execute("PRAGMA cache_size=-65536")
        if fill:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        if empty:
            # In one transaction: a kill in between must not leave a table without a version.
            for statement in ("BEGIN IMMEDIATE", _TABLE, f"PRAGMA user_version={SCHEMA_VERSION}"):
                self._db.execute(statement)
            self._db.execute("COMMIT")

    def known(self, requests: Iterable[Request]) -> Iterator[tuple[Request, bool]]:
        """(request, is its answer stored?) in order, in bounded memory."""
        source = iter(requests)
        while chunk := list(islice(source, _LOOKUP)):
            stored = self._stored([request.id for request in chunk])
            yield from ((request, request.id in stored) for request in chunk)

    def _stored(self, ids: list[str]) -> set[str]:
        # The index alone answers this: no row is read.
        query = f"SELECT id FROM answers WHERE id IN ({','.join('?' * len(ids))})"
        return {row[0].hex() for row in self._read(query, list(map(bytes.fromhex, ids)))}

    def stored(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that have an answer; a text that is no id has none."""
        usable = iter([text for text in ids if re.fullmatch("(?:[0-9a-f]{2})+", text)])
        found: set[str] = set()
        while chunk := list(islice(usable, _LOOKUP)):
            found |= self._stored(chunk)
        return found

    def get(self, ids: Iterable[str]) -> dict[str, Answer]:
        """The stored answers among `ids`; an unreadable body gives no text, and is kept."""
        found = {}
        query = "SELECT body, seconds FROM answers WHERE id = ?"
        for request_id in ids:
            for body, seconds in self._read(query, (bytes.fromhex(request_id),)):
                try:
                    found[request_id] = read_body(request_id, body, seconds)
                except UNREADABLE_ERRORS:
                    error = {"error": "unreadable", "body": body}
                    found[request_id] = Answer(request_id, None, seconds=seconds, **error)
        return found

    def put(self, answers: Iterable[tuple[Request, Answer, float | None]]) -> None:
        """Commit answers with their cost in US dollars, together; stored ones are left alone.

        Raises `TeacherError` when the disk refuses or the store is closed: then none is stored.
        """
        values = [(*_request_columns(r), *_answer_columns(a), cost) for r, a, cost in answers]
        with self._in_use:
            if self._db is None:
                raise TeacherError(
                    f"{len(values)} answers came after the store was closed; what was stored before"
                    " is safe, run again"
                )
            marks = ",".join("?" * (_COLUMNS.count(",") + 1))
            insert = f"INSERT OR IGNORE INTO answers ({_COLUMNS}) VALUES ({marks})"
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(insert, values)
                self._db.execute("COMMIT")
            except Exception as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise TeacherError(
                    f"an answer could not be stored ({error}); what was stored before is safe, fix"
                    " the disk and run again"
                ) from None

    def totals(self) -> list[dict[str, Any]]:
        """Sums over all stored answers by model and stage; means are None without counts."""
        return [dict(row) for row in self._read(_TOTALS)]

    def _read(self, query: str, values: Sequence = ()) -> list[tuple]:
        with self._in_use:
            if self._db is None:
                raise TeacherError("the answer store is closed")
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise TeacherError(
                    f"the answer store {self.path} cannot be read ({error}); nothing was changed"
                ) from None

    def __len__(self) -> int:
        return self._read("SELECT count(*) FROM answers")[0][0]

    def close(self) -> None:
        """Merge the write-ahead log into the file and close it. Waits for a `put` under way."""
        with self._in_use:
            self._release()

    def _release(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._lock.close()


def _request_columns(r: Request) -> tuple:
    return bytes.fromhex(r.id), r.stage, r.row_id, r.round, r.sample, r.prompt_version, r.model


def _answer_columns(a: Answer) -> tuple:
    usage = (a.usage.get("prompt_tokens"), a.usage.get("completion_tokens"))
    return a.body, a.finish_reason, *usage, a.seconds


def _connect(name: str) -> sqlite3.Connection:
    # Answers arrive on the executor's thread while the notebook's thread waits: one connection
    # serves both in turn.
    shared = {"check_same_thread": False, "isolation_level": None, "timeout": 30}
    db = sqlite3.connect(name, uri=name.startswith("file:"), **shared)
    db.row_factory = sqlite3.Row
    return db


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing.

    SQLite would make two files beside a store without a log, so such a store is opened as
    immutable. Nobody is writing it then; a process that begins to writes into a log first.
    """
    name = f"file:{quote(str(path))}?mode=ro"
    if path.with_name(path.name + "-wal").exists():
        db = _connect(name)
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except sqlite3.OperationalError:  # a folder in which the log's index cannot be made
            db.close()
    return _connect(f"{name}&immutable=1")
