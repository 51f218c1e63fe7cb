"""The answer store: every answer of a teacher, raw, before anything reads it.

One SQLite file in write-ahead-log mode. `put` returns when its answers are on the disk, so a killed
process loses at most what was in flight, and an answer that is stored is never asked for again.
What is stored is the endpoint's own body: a better reader can be written tomorrow without asking
anybody again.
"""

import fcntl
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ..core.errors import TeacherError
from .requests import Request

SCHEMA_VERSION = 2
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)  # what `read_body` raises for what is no completion
LOCK_SECONDS = 4  # how long to wait for a store that another process is filling
_LOOKUP = 500  # ids in one query
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    id BLOB NOT NULL UNIQUE, stage TEXT NOT NULL, row_id TEXT NOT NULL, round INTEGER NOT NULL, sample INTEGER NOT NULL,
    prompt_version TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
    completion_tokens INTEGER, seconds REAL, cost_usd REAL, arrived TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"""


@dataclass(frozen=True)
class Answer:
    """One answer. `text` is None when there is none: then `error` says why (`no recording`, `HTTP
    500` ...).
    """

    request_id: str
    text: str | None
    finish_reason: str = "stop"
    usage: dict[str, int] = field(
        default_factory=dict
    )  # prompt_tokens, completion_tokens, as the endpoint counted them
    seconds: float = 0.0
    error: str = ""
    body: str = ""  # the chat completion as it came; empty for a recording
    charged: bool = False  # there is no text, and the endpoint may have charged for one
    lost: int = field(default=0, compare=False)  # earlier tries of which the same is true


def read_body(request_id: str, body: str, seconds: float = 0.0) -> Answer:
    """The first choice of a chat completion. Raises one of `UNREADABLE` for anything else."""
    value = json.loads(body.removeprefix("\ufeff"))
    choice = value["choices"][0]
    text = choice["message"].get("content")
    if text is None:
        text = choice["message"].get("refusal") or ""
    if isinstance(
        text, list
    ):  # the parts of a message; what is not text (its reasoning, say) is no part of the answer
        text = "".join(part["text"] for part in text if part["type"] == "text")
    finish, counted = choice.get("finish_reason") or "stop", value.get("usage")
    if not isinstance(text, str) or not isinstance(finish, str):
        raise TypeError("content or finish_reason is not text")
    if not text.strip() and finish == "stop":
        raise ValueError("the answer is empty")
    for part in (text, finish, body):
        part.encode("utf-8")  # half a surrogate pair is JSON, and nothing that can be stored
    counted = (
        counted if isinstance(counted, dict) else {}
    )  # an answer is not lost because nobody counted its tokens
    usage = {
        k: n
        for k in ("prompt_tokens", "completion_tokens")
        if type(n := counted.get(k)) is int and 0 <= n < 2**31
    }
    return Answer(request_id, text, finish, usage, round(seconds, 3), body=body)


class Store:
    """Answers by request id. `path` None keeps them in memory. A store opened with `fill=True`
    belongs to one process at a time.

    Without `fill` it is only looked at: no file or folder is made, and one that is not there is
    empty. Raises `TeacherError` when the file cannot be opened, is of another version, or is being
    filled by another process.
    """

    def __init__(self, path: Path | None, fill: bool = False):
        # Two names of one file must be one store: the lock stands beside the file, not beside a
        # link to it.
        self.path = path and path.resolve()
        self._lock: IO[str] | None = None
        self._db: sqlite3.Connection | None = None
        self._turn = (
            threading.Lock()
        )  # a connection that is closed while another thread is in it takes the interpreter with it
        try:
            self._open(fill)
        except (
            BaseException
        ) as error:  # an interrupt as well: whoever keeps the exception would keep the store
            self._give_back()
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
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
            self._db = _connect(f"file:{quote(str(path))}")
        else:
            self._db = _look(path)
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
        self._db.execute(
            "PRAGMA cache_size=-65536"
        )  # 64 MB: the ids of a million answers are looked up without reading them again
        if fill:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        if empty:
            # Together: who is killed in between must not leave a table without a version, which is
            # nobody's store.
            for statement in (
                "BEGIN IMMEDIATE",
                _TABLE,
                f"PRAGMA user_version={SCHEMA_VERSION}",
                "COMMIT",
            ):
                self._db.execute(statement)

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
        stored = self._stored([request.id for request in chunk])
        yield from ((request, request.id in stored) for request in chunk)

    def _stored(self, chunk: list[str]) -> set[str]:
        ids = [bytes.fromhex(request_id) for request_id in chunk]
        marks = ",".join("?" * len(ids))
        # The index alone answers this: no row is read.
        return (
            {
                row[0].hex()
                for row in self._read(f"SELECT id FROM answers WHERE id IN ({marks})", ids)
            }
            if ids
            else set()
        )

    def stored(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that have an answer; what is no id at all has none."""
        usable = [text for text in ids if re.fullmatch("(?:[0-9a-f]{2})+", text)]
        return {
            found
            for start in range(0, len(usable), _LOOKUP)
            for found in self._stored(usable[start : start + _LOOKUP])
        }

    def get(self, ids: Iterable[str]) -> dict[str, Answer]:
        """The stored answers among `ids`. One that today's reader refuses has no text and the error
        "unreadable"; its body is kept.
        """
        found = {}
        for request_id in ids:
            for body, seconds in self._read(
                "SELECT body, seconds FROM answers WHERE id = ?", (bytes.fromhex(request_id),)
            ):
                try:
                    found[request_id] = read_body(request_id, body, seconds)
                except UNREADABLE:
                    found[request_id] = Answer(
                        request_id, None, seconds=seconds, error="unreadable", body=body
                    )
        return found

    def put(self, answers: Iterable[tuple[Request, Answer, float | None]]) -> None:
        """Commit answers with their cost in US dollars, durably and together; what is there already
        is left alone.

        Raises `TeacherError` when the disk refuses or the store is closed: then none of them is
        stored.
        """
        values = [
            (
                bytes.fromhex(r.id), r.stage, r.row_id, r.round, r.sample, r.prompt_version, r.model, a.body, a.finish_reason,
                a.usage.get("prompt_tokens"), a.usage.get("completion_tokens"), a.seconds, cost,
            )
            for r, a, cost in answers
        ]  # fmt: skip
        with self._turn:
            if self._db is None:
                raise TeacherError(
                    f"{len(values)} answers came after the store was closed; what was stored before"
                    " is safe, run again"
                )
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "INSERT OR IGNORE INTO answers (id, stage, row_id, round, sample,"
                    " prompt_version, model, body, finish_reason, prompt_tokens, completion_tokens,"
                    " seconds, cost_usd) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    values,
                )
                self._db.execute("COMMIT")
            except Exception as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise TeacherError(
                    f"an answer could not be stored ({error}); what was stored before is safe, mend"
                    " the disk and run again"
                ) from None

    def totals(self) -> list[dict[str, Any]]:
        """Sums over everything ever stored, one row a model and stage. Means are None where nothing
        was counted.
        """
        names = [
            "model",
            "stage",
            "answers",
            "prompt_tokens",
            "completion_tokens",
            "counted",
            "mean_completion",
            "mean_seconds",
        ]
        rows = self._read(
            "SELECT model, stage, count(*) AS answers, sum(prompt_tokens) AS prompt_tokens,"
            " sum(completion_tokens) AS completion_tokens, count(completion_tokens) AS counted,"
            " avg(completion_tokens) AS mean_completion, avg(seconds) AS mean_seconds,"
            " sum(cost_usd) AS cost_usd, count(cost_usd) AS priced FROM answers GROUP BY model,"
            " stage ORDER BY model, stage"
        )
        return [dict(zip([*names, "cost_usd", "priced"], row, strict=True)) for row in rows]

    def _read(self, query: str, values: Sequence = ()) -> list[tuple]:
        with self._turn:
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
        """Fold the write-ahead log into the file, close it and give it back. Waits for a `put`
        under way.
        """
        with self._turn:
            self._give_back()

    def _give_back(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _connect(name: str) -> sqlite3.Connection:
    """Answers arrive on the executor's thread while the notebook's thread waits: one connection
    serves both in turn.
    """
    return sqlite3.connect(
        name,
        check_same_thread=False,
        isolation_level=None,
        timeout=30,
        uri=name.startswith("file:"),
    )


def _look(path: Path) -> sqlite3.Connection:
    """A connection that only reads. SQLite would make two files beside a store without a log, so
    such a store is read as it lies.

    Nobody is writing it then; who begins to while it is read writes into a log first.
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


def _lock(path: Path) -> IO[str]:
    """The store's lock file, held as long as it is open: two processes filling one store would pay
    for the same answers twice.
    """
    lock = open(path.with_name(path.name + ".lock"), "w")
    for attempt in range(LOCK_SECONDS + 1):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(
                1 if attempt < LOCK_SECONDS else 0
            )  # a killed process needs a moment to let go
    lock.close()
    raise TeacherError(
        f"{path.name} is being filled by another process: wait for it, or name another store in"
        " BIMEDIX_ANSWERS"
    )
