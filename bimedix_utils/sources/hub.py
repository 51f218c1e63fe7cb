"""Fetches catalogued sources from the hub into `data/raw`, once, and compares ever after.

A first download resolves the hub's newest revision and writes it, with the file's hash and row
count, into `catalogue.lock.json` beside the files. From then on another revision or another hash is
an error that names both, unless it is renewed on purpose.

    python -m bimedix_utils.sources.hub medmcqa medqa     these sources  (make sources SOURCE=...)
    python -m bimedix_utils.sources.hub --role test       all test parts (make sources ROLE=test)
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import InputError, KitError
from ..core.files import file_lock, read_utf8, write_json, write_text
from ..core.provenance import hash_path, resolve_path, shown_path
from .catalogue import NOT_FOUND, CatalogueEntry, CataloguePart, choose_entries, load_catalogue
from .readers import recognise

LOCK = "catalogue.lock.json"


def read_lock(folder: Path) -> dict[str, dict[str, Any]]:
    """{file name: {hub, config, split, revision, sha256, rows}} of what was downloaded here."""
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


def download_part(
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
    path = folder / part.file
    if recognise(path) is None:
        raise InputError(f"{name}: no reader knows the file name {part.file}")
    known = {} if renew else read_lock(folder).get(part.file, {})
    _compare(name, "revision", known.get("revision"), entry.revision, "the catalogue")
    if path.exists() and known:
        _compare(name, "hash", known["sha256"], hash_path(path), f"the file {part.file}")
        return known
    if path.exists() and not renew:
        raise InputError(
            f"{name}: {part.file} is there and not in {LOCK}: move it away, or fetch it again with"
            " --renew"
        )
    revision = entry.revision or _newest(name, entry)
    _compare(name, "revision", known.get("revision"), revision, "the hub")
    line = {"hub": entry.hub, "config": entry.config, "split": part.split, "revision": revision}
    rows = _hub_rows(name, entry, part, revision)
    write_text(path, _checked_lines(rows, name, part, known, line))
    with file_lock(folder / f".{LOCK}.lock"):  # two downloads at once would lose a line
        write_json(folder / LOCK, {**read_lock(folder), part.file: line})
    return line


def _compare(name: str, what: str, locked: str | None, found: str | None, where: str) -> None:
    if locked and found and locked != found:
        raise InputError(
            f"{name}: the {what} in {LOCK} is {locked}, that of {where} is {found}; if this is"
            " meant, run again with --renew"
        )


def _checked_lines(
    rows: Iterable[dict], name: str, part: CataloguePart, known: dict, line: dict
) -> Iterator[str]:
    """The rows as JSON Lines; their count and hash go into `line` and are compared at the end,
    before the file takes its name.
    """
    sha, count = hashlib.sha256(), 0
    for row in rows:
        text = json.dumps(row, ensure_ascii=False) + "\n"
        sha.update(text.encode("utf-8"))
        count += 1
        yield text
    line |= {"sha256": sha.hexdigest(), "rows": count}
    if part.rows not in (NOT_FOUND, count):
        raise InputError(
            f"{name}: the catalogue states {part.rows:,} rows for {part.split}, the hub gave"
            f" {count:,}"
        )
    _compare(name, "hash", known.get("sha256"), line["sha256"], "what the hub gave")


def _newest(name: str, entry: CatalogueEntry) -> str:
    """The hub's newest revision of a data set, as a commit hash."""
    from huggingface_hub import HfApi

    with _hub_errors(name, entry):
        return HfApi().dataset_info(entry.hub, timeout=30).sha


def _hub_rows(
    name: str, entry: CatalogueEntry, part: CataloguePart, revision: str
) -> Iterator[dict]:
    import datasets

    which = {"data_files": entry.data_files, "split": part.split, "revision": revision}
    with _hub_errors(name, entry):
        yield from datasets.load_dataset(entry.hub, entry.config, streaming=True, **which)


@contextmanager
def _hub_errors(name: str, entry: CatalogueEntry) -> Iterator[None]:
    """Turns what the hub's libraries raise into one sentence that says what to do."""
    try:
        yield
    except KitError:
        raise
    except Exception as error:
        raise InputError(f"{name}: {entry.hub} {_hub_sentence(error)}") from None


def _hub_sentence(error: Exception) -> str:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import errors

    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    gated = any(isinstance(one, errors.GatedRepoError) for one in chain)
    if gated or "is a gated dataset" in str(error):
        return "is gated: accept its terms on its hub page, log in with `hf auth login`, run again"
    if isinstance(error, errors.RepositoryNotFoundError | DatasetNotFoundError):
        return "is not on the hub, or is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return "does not have the expected revision on the hub"
    if isinstance(error, ValueError):  # an unknown split or config
        return f"was refused: {' '.join(str(error).split())[:300]}"
    return (
        f"could not be reached ({type(error).__name__}): this needs a network; or put the file into"
        " the folder yourself, see data/README.md"
    )


def fetch_sources(names: Iterable[str], folder: Path, role: str = "", renew: bool = False) -> int:
    """Fetch these sources (all, when there are none), say what each part did, and return how many
    parts failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in choose_entries(list(names), role):
        entry = load_catalogue().entries[name]
        for part in (part for part in entry.parts if role in ("", part.role)):
            try:
                line = download_part(name, entry, part, folder, renew)
            except InputError as error:
                failed += 1
                print(f"FAIL  {error}")
                continue
            print(f"OK    {part.file}  {line['rows']:,} rows  revision {line['revision'][:12]}")
            if entry.needs and not (folder / entry.needs).exists():
                print(f"      put the owner's {entry.needs} beside it: without it no row is read")
        if entry.redistribution != "allowed":
            print(
                f"      licence {entry.licence}, redistribution {entry.redistribution}: for"
                " this machine only, left out of everything exported"
            )
    return failed


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when all parts are there, 1 when some failed, 2 for a wrong call."""
    parser = argparse.ArgumentParser(description="Fetch catalogued sources from the hub.")
    add = parser.add_argument
    add("sources", nargs="*", help="names in data/catalogue/catalogue.yaml; none means all")
    add("--role", default="", choices=("", "train", "validation", "test"))
    add("--folder", default="data/raw")
    add("--renew", action="store_true", help="accept another revision or hash than the locked one")
    given = parser.parse_args(arguments)
    try:
        folder = resolve_path(given.folder)
        print(f"into {shown_path(folder)}")
        return 1 if fetch_sources(given.sources, folder, given.role, given.renew) else 0
    except KitError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
