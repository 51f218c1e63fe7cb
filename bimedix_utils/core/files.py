"""Files that survive a kill: locks, atomic writes, folders that appear complete or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from .errors import InputError


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


def read_utf8(path: Path) -> str:
    """A file's text. Raises `InputError` naming the byte that is not UTF-8 and the usual cause."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None


def not_utf8(path: Path) -> InputError:
    """Finds the first line that is not UTF-8, reading line by line."""
    with open(path, "rb") as handle:
        for line, raw in enumerate(handle, start=1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if error.end == len(raw) and error.reason == "unexpected end of data":
                    return InputError(
                        f"{path.name}, line {line}: the file is cut short inside a letter; fetch it"
                        " again"
                    )
                return InputError(
                    f"{path.name}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}). Arabic"
                    " files saved on Windows are often Windows-1256; convert with: iconv -f"
                    f" WINDOWS-1256 -t UTF-8 '{path.name}' > fixed"
                )
    return InputError(f"{path.name}: not UTF-8")


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, object) of a JSON Lines file, one line in memory at a time.

    Blank lines are skipped; a broken or non-object line raises `InputError`.
    """
    try:
        with open(path, encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield number, _object(path, number, line)
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None


def _object(path: Path, number: int, line: str) -> dict:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}, line {number}, column {error.colno}: not valid JSON ({error.msg}). If"
            " the line is cut short the file was not copied whole: fetch it again"
        ) from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path.name}, line {number}: a JSON object was expected, found {type(value).__name__}"
        )
    return value
