"""The catalogue of published sources as data: who owns what, where, under which licence, and what
the paper did with it.

`data/catalogue/catalogue.yaml` is the one place where a licence, a size or a hub name of a
published set is written down. What no source states is written `not found`; nothing is guessed. The
code acts on it: `may_publish_record` decides what may leave the machine.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.records import Record
from .data_files import CATALOGUE_FOLDER, StrictModel, read_yaml

CATALOGUE = CATALOGUE_FOLDER / "catalogue.yaml"
NOT_FOUND = "not found"
KIT_LICENCE = "CC-BY-4.0"
# The rows of the paper's composition table that are text of its first version, in English words and
# in this order.
COMPONENTS = ("PubMedQA", "MedMCQA", "MedQA", "Single-turn QA", "Multi-turn conversation")
Redistribution = Literal["allowed", "forbidden", "not found"]


class CataloguePart(StrictModel):
    """One split of a source: its name on the hub, the kit's own split, its size and the local file
    the readers recognise.
    """

    split: str  # the hub's own name of the split, or the owner's word where there is no hub copy
    role: Literal["train", "validation", "test", "none"]
    rows: int | Literal["not found"]
    file: str  # what `hub.download_part` writes and `sources.recognise` knows
    evidence: str = Field(min_length=5)


class PaperUse(StrictModel):
    """What the paper used, and how sure that is."""

    status: Literal["stated", "inferred", "not found"]
    what: str


class CatalogueEntry(StrictModel):
    """One published source."""

    title: str
    # the `source` its rows carry, which also names the reader: `mmlu_anatomy` is read by `mmlu`
    source: str
    owner: str
    hub: str  # hub id, or "not found"
    config: str | None = None
    data_files: str | None = None  # only this file of the hub repository
    revision: str | None = None  # null: resolved at the first download and kept in the lock file
    languages: tuple[str, ...] = Field(min_length=1)
    format: str
    licence: str
    redistribution: Redistribution
    gated: Literal["yes", "no", "not found"]
    component: str | None  # the row of the paper's composition table its training rows belong to
    paper: PaperUse
    parts: tuple[CataloguePart, ...] = Field(min_length=1)
    needs: str = ""  # a further file of the owner without which the rows cannot be split
    note: str = ""
    evidence: str = Field(min_length=5)

    @model_validator(mode="after")
    def _consistent_entry(self) -> "CatalogueEntry":
        if self.component is not None and self.component not in COMPONENTS:
            raise ValueError(f"component {self.component!r} is not one of {', '.join(COMPONENTS)}")
        if self.licence == NOT_FOUND and self.redistribution == "allowed":
            raise ValueError("a licence that was not found allows nothing")
        if self.revision is not None and self.hub == NOT_FOUND:
            raise ValueError("a revision without a hub id")
        return self


class Catalogue(StrictModel):
    """All entries, and what each licence says about redistribution."""

    licences: dict[str, Redistribution]
    entries: dict[str, CatalogueEntry]

    @model_validator(mode="after")
    def _consistent_licences(self) -> "Catalogue":
        files = [part.file for entry in self.entries.values() for part in entry.parts]
        if duplicates := sorted({name for name in files if files.count(name) > 1}):
            raise ValueError(f"two parts write the file {', '.join(duplicates)}")
        for name, entry in self.entries.items():
            allowed = self.licences.get(entry.licence, NOT_FOUND)
            if entry.redistribution != allowed:
                given, licence = entry.redistribution, entry.licence
                raise ValueError(
                    f"{name}: redistribution is {given!r}, its licence {licence!r} says {allowed!r}"
                )
        return self


def read_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """A catalogue file, checked. Raises `InputError` naming entry and field."""
    return read_yaml(path, Catalogue)


@cache
def load_catalogue() -> Catalogue:
    """The kit's own catalogue, read once."""
    return read_catalogue()


def entries_of_source(source: str) -> list[CatalogueEntry]:
    """The entries that rows of this source belong to; a family such as `mmlu` gives all of its
    members.
    """
    entries = load_catalogue().entries
    exact = [entry for name, entry in entries.items() if source in (name, entry.source)]
    return exact or [entry for entry in entries.values() if entry.source.startswith(f"{source}_")]


def source_licence(source: str, lang: str = "en") -> str:
    """The owner's licence of a source's rows in this language. A translation that is not the
    owner's has an owner and a licence of its own, which its file does not tell: `not found`, and so
    for a source without an entry.
    """
    found = {entry.licence for entry in entries_of_source(source) if lang in entry.languages}
    return found.pop() if len(found) == 1 else NOT_FOUND


def may_publish_record(record: Record) -> bool:
    """Whether one row may be redistributed: its own licence is known to allow it, and no entry of
    its source forbids it. What is forbidden, unknown or `not found` may not be published.

    The kit's own rows carry the kit's licence and an id of their own; what was made from a row (a
    chat, a translation) carries that row's licence.
    """
    own = record.licence == KIT_LICENCE and ":kit-" in record.id
    entries = [] if own else entries_of_source(record.source)
    if any(entry.redistribution == "forbidden" for entry in entries):
        return False
    return load_catalogue().licences.get(record.licence) == "allowed"


def read_revisions(files: Path) -> dict[str, str]:
    """{source: revision of the hub it came from} of the sources that were fetched from there, from
    notebook 01's `files.json`.
    """
    rows = json.loads(read_utf8(files))
    return {row["source"]: row["revision"] for row in rows if row["revision"] != NOT_FOUND}


def catalogue_overview(present: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """(source and splits, hub id or owner, licence, redistribution, role, rows stated, rows
    present): a row for each role of an entry.

    `present`: {"<source> <language> <role>": rows}, as `sources.Census.parts` counts them. Splits
    with one role are one row, because rows do not tell them apart.
    """
    table = []
    for name, entry in load_catalogue().entries.items():
        where = entry.hub if entry.hub != NOT_FOUND else entry.owner
        for role in dict.fromkeys(part.role for part in entry.parts):
            parts = [part for part in entry.parts if part.role == role]
            rows = [part.rows for part in parts]
            stated = NOT_FOUND if NOT_FOUND in rows else sum(rows)
            here = sum(present.get(f"{entry.source} {lang} {role}", 0) for lang in entry.languages)
            title = f"{name}: {', '.join(part.split for part in parts)}"
            licence = entry.licence, entry.redistribution
            table.append((title, where, *licence, role, stated, here))
    return table


def choose_entries(names: Iterable[str], role: str = "") -> list[str]:
    """The entries meant by these names (all, when there are none) that have a part with this role.
    Raises `InputError`.
    """
    entries = load_catalogue().entries
    if unknown := ", ".join(name for name in names if name not in entries):
        raise InputError(f"no source {unknown} in the catalogue; known: {', '.join(entries)}")
    meant = list(names) or list(entries)
    return [n for n in meant if role in ("", *(part.role for part in entries[n].parts))]
