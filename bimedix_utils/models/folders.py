"""Folders that appear whole or not at all: filled under another name, renamed when complete."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(folder: Path, renew: bool = False) -> Iterator[Path | None]:
    """An empty folder to fill; it takes the name `folder` when the block ends without an error, and is removed otherwise.

    Yields None when `folder` is there already, unless `renew`: then the new one replaces it at the end. A second process that wants
    the same folder waits for the first. What a killed process left is cleared by the next.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
