"""Fetches catalogued sources from the hub into `data/raw`, once, and compares ever after.

A first download resolves the hub's newest revision and writes it, with the file's hash and row
count, into `catalogue.lock.json` beside the files. From then on another revision or another hash is
an error that names both, unless it is renewed on purpose.

    python -m bimedix_utils.sources.hub medmcqa medqa          these sources        (make sources
    SOURCE="medmcqa medqa")
    python -m bimedix_utils.sources.hub --role test            every test part      (make sources
    ROLE=test)
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import InputError, KitError
from ..core.files import read_utf8, write_json, write_text
from ..core.provenance import hash_path, resolve_path, shown_path
from .catalogue import NOT_FOUND, CatalogueEntry, CataloguePart, choose_entries, load_catalogue
from .readers import recognise

LOCK = "catalogue.lock.json"


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """{file name: {hub, config, split, revision, sha256, rows}} of what was downloaded into this
    folder.
    """
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        return json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{LOCK}, line {error.lineno}: not valid JSON ({error.msg}); restore it, or remove it"
            " and fetch again"
        ) from None


def download(
    name: str, entry: CatalogueEntry, part: CataloguePart, folder: Path, renew: bool = False
) -> dict[str, Any]:
    """Fetch one part of a source as JSON Lines, row by row, and return its line of the lock file.

    A file that is there and has the locked hash is kept, without a word to the hub. Raises
    `InputError` in one sentence: no hub copy, hub not reachable, gated, another revision, another
    hash, another number of rows than the catalogue states.
    """
    if entry.hub == NOT_FOUND:
        raise InputError(
            f"{name}: no hub copy is known; put the owner's file ({entry.owner}) into {folder.name}"
            f" as {part.file}"
        )
    path, lock = folder / part.file, read_lock(folder)
    if recognise(path) is None:
        raise InputError(f"{name}: no reader knows the file name {part.file}")
    known = {} if renew else lock.get(part.file, {})
    _same(name, "revision", known.get("revision"), entry.revision, "the catalogue")
    if path.exists() and known:
        _same(name, "hash", known["sha256"], hash_path(path), f"the file {part.file}")
        return known
    if path.exists() and not renew:
        raise InputError(
            f"{name}: {part.file} is there and not in {LOCK}: move it away, or fetch it again with"
            " --renew"
        )
    revision = entry.revision or _newest(name, entry)
    _same(name, "revision", known.get("revision"), revision, "the hub")
    check = _Check(name, part, known)
    try:
        write_text(path, check.through(_rows(name, entry, part, revision)))
    finally:
        path.with_name(path.name + ".partial").unlink(missing_ok=True)
    line = {
        "hub": entry.hub,
        "config": entry.config,
        "split": part.split,
        "revision": revision,
        "sha256": check.sha256,
        "rows": check.rows,
    }
    write_json(folder / LOCK, {**read_lock(folder), part.file: line})
    return line


def _same(name: str, what: str, locked: str | None, found: str | None, where: str) -> None:
    if locked and found and locked != found:
        raise InputError(
            f"{name}: the {what} in {LOCK} is {locked}, that of {where} is {found}; if this is"
            " meant, run again with --renew"
        )


class _Check:
    """Counts and hashes the lines as they go by; refuses at the end, before the file takes its
    place.
    """

    def __init__(self, name: str, part: CataloguePart, known: dict[str, Any]):
        self.name, self.part, self.known, self.rows, self.sha256 = name, part, known, 0, ""

    def through(self, rows: Iterable[dict]) -> Iterator[str]:
        digest = hashlib.sha256()
        for row in rows:
            line = json.dumps(row, ensure_ascii=False) + "\n"
            digest.update(line.encode("utf-8"))
            self.rows += 1
            yield line
        self.sha256 = digest.hexdigest()
        if self.part.rows != NOT_FOUND and self.rows != self.part.rows:
            raise InputError(
                f"{self.name}: the catalogue states {self.part.rows:,} rows for {self.part.split},"
                f" the hub gave {self.rows:,}"
            )
        _same(self.name, "hash", self.known.get("sha256"), self.sha256, "what the hub gave")


def _newest(name: str, entry: CatalogueEntry) -> str:
    """The hub's newest revision of a data set, as a commit hash."""
    from huggingface_hub import HfApi

    with _Sentences(name, entry):
        return HfApi().dataset_info(entry.hub, timeout=30).sha


def _rows(name: str, entry: CatalogueEntry, part: CataloguePart, revision: str) -> Iterator[dict]:
    import datasets

    with _Sentences(name, entry):
        yield from datasets.load_dataset(
            entry.hub,
            entry.config,
            data_files=entry.data_files,
            split=part.split,
            revision=revision,
            streaming=True,
        )


class _Sentences:
    """Turns what the hub's libraries raise into one sentence that says what to do."""

    def __init__(self, name: str, entry: CatalogueEntry):
        self.name, self.entry = name, entry

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, KitError) or not isinstance(error, Exception):
            return
        from datasets.exceptions import DatasetNotFoundError
        from huggingface_hub import errors

        causes = list(_causes(error))
        where = f"{self.name}: {self.entry.hub}"
        if any(isinstance(e, errors.GatedRepoError) for e in causes) or "is a gated dataset" in str(
            error
        ):
            raise InputError(
                f"{where} is gated: accept its terms on its hub page, log in with `hf auth login`,"
                " run again"
            ) from None
        if isinstance(error, errors.RepositoryNotFoundError | DatasetNotFoundError):
            raise InputError(f"{where} is not on the hub, or is private") from None
        if isinstance(error, errors.RevisionNotFoundError):
            raise InputError(f"{where}: the hub does not have the wanted revision") from None
        if isinstance(error, ValueError):  # an unknown split or config
            raise InputError(f"{where}: {' '.join(str(error).split())[:300]}") from None
        raise InputError(
            f"{where} could not be reached ({type(error).__name__}): this needs a network; or put"
            " the file into the folder yourself, see data/README.md"
        ) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def fetch(names: Iterable[str], folder: Path, role: str = "", renew: bool = False) -> int:
    """Fetch these sources (all, when there are none), say what each part did, and return how many
    parts failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in choose_entries(list(names), role):
        entry = load_catalogue().entries[name]
        for part in entry.parts:
            if role and part.role != role:
                continue
            try:
                line = download(name, entry, part, folder, renew)
            except InputError as error:
                failed += 1
                print(f"FAIL  {error}")
                continue
            print(f"OK    {part.file}  {line['rows']:,} rows  revision {line['revision'][:12]}")
            if entry.needs and not (folder / entry.needs).exists():
                print(
                    f"      put the owner's {entry.needs} beside it: without it this file cannot be"
                    " read"
                )
        if entry.redistribution != "allowed":
            print(
                f"      licence {entry.licence}, passing on {entry.redistribution}: for this"
                " machine only, left out of everything exported"
            )
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch catalogued sources from the hub.")
    parser.add_argument(
        "sources", nargs="*", help="names in data/catalogue/catalogue.yaml; none means all"
    )
    parser.add_argument("--role", default="", choices=("", "train", "validation", "test"))
    parser.add_argument("--folder", default="data/raw")
    parser.add_argument(
        "--renew",
        action="store_true",
        help="accept another revision or another hash than the locked one",
    )
    given = parser.parse_args(arguments)
    try:
        folder = resolve_path(given.folder)
        print(f"into {shown_path(folder)}")
        return 1 if fetch(given.sources, folder, given.role, given.renew) else 0
    except KitError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
