"""Files that survive a kill: locks, atomic writes, folders that appear complete or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout


@contextmanager
def file_lock(path: Path, wait: float = -1, busy: Exception | None = None) -> Iterator[None]:
    """Hold the lock file `path` for the block; the system frees it when a process dies.

    Waits `wait` seconds for another holder, for ever when negative; then raises `busy`, or
    `filelock.Timeout`. Threads of one process exclude each other as processes do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise (busy or Timeout(str(path))) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A handle whose bytes take the name `path` when the block ends without an error.

    Whoever reads sees the old file or the whole new one, after a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(folder: Path, renew: bool = False) -> Iterator[Path | None]:
    """An empty folder to fill; it takes the name `folder` when the block ends without an error.

    Yields None when `folder` is there already, unless `renew`: then the new one replaces it at the
    end. A second process that wants the same folder waits for the first. What a killed process left
    is cleared by the next.
    """
    with file_lock(folder.with_name(f".{folder.name}.lock")):
        if folder.exists() and not renew:
            yield None
            return
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write text atomically; see `atomic_file`."""
    with atomic_file(path) as handle:
        handle.writelines(pieces)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value with sorted keys, atomically."""
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True), "\n"])


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically."""
    write_text(path, (json.dumps(value, ensure_ascii=False) + "\n" for value in values))
