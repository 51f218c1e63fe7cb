"""The paper's composition table, and what of it is here: planned, present, missing."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..core.files import read_utf8
from ..core.provenance import ROOT
from .catalogue import COMPONENTS, NOT_FOUND, entries_of_source, load_catalogue

COMPOSITION = ROOT / "data" / "paper" / "composition.csv"


class PaperPart(NamedTuple):
    """One row of the paper's composition table, as `data/paper/composition.csv` states it."""

    component: str
    lang: str
    task: str
    samples: str  # as printed: some are rough, such as "~1.311M"
    status: str

    @property
    def rows(self) -> int | None:
        """The rows, where a plain count is stated."""
        return int(self.samples) if self.samples.isdigit() else None

    @property
    def name(self) -> str:
        """The component in the words of `COMPONENTS`: the Arabic rows of the table add (Ara)."""
        return self.component.removesuffix(" (Ara)")

    @property
    def is_text(self) -> bool:
        """True for text of the paper's first version in one language."""
        return self.name in COMPONENTS and self.lang in ("en", "ar")


def paper_composition(path: Path = COMPOSITION) -> list[PaperPart]:
    """All rows of the table, in its order."""
    return [
        PaperPart(row["component"], row["lang"].lower(), row["task"], row["samples"], row["status"])
        for row in csv.DictReader(read_utf8(path).splitlines(keepends=True))
    ]


def planned_parts(path: Path = COMPOSITION) -> list[PaperPart]:
    """The text parts, component by component, English then Arabic: a full reproduction's needs."""
    found = {(part.name, part.lang): part for part in paper_composition(path) if part.is_text}
    return [found[name, lang] for name in COMPONENTS for lang in ("en", "ar")]


def stated_rows() -> dict[tuple[str, str], int | None]:
    """{(component, language): training rows that the owners of its sources state}, None where one
    of them states none.
    """
    found: dict[tuple[str, str], int | None] = {}
    for entry in load_catalogue().entries.values():
        for lang in entry.languages if entry.component else ():
            for part in (p for p in entry.parts if p.role == "train"):
                before = found.get((entry.component, lang), 0)
                unknown = before is None or part.rows == NOT_FOUND
                found[entry.component, lang] = None if unknown else before + part.rows
    return found


def paper_component(source: str, kind: str) -> str | None:
    """The component that a training row counts for; None for rows that the table does not have."""
    if source == "chat":
        return "Multi-turn conversation"
    if source in ("open_qa", "bimed_v"):  # a mixed file: the row's kind is all that is known
        return {"qa": "Single-turn QA", "chat": "Multi-turn conversation"}.get(kind)
    found = {entry.component for entry in entries_of_source(source)} - {None}
    return found.pop() if len(found) == 1 else None


def planned_and_present(
    present: Mapping[tuple[str, str], int],
) -> list[tuple[str, str, int, int, int]]:
    """(component, language, planned, present, missing) of every planned part, from
    {(component, language): training rows}.
    """
    rows = []
    for part in planned_parts():
        here = present.get((part.name, part.lang), 0)
        rows.append((part.name, part.lang, part.rows, here, max(part.rows - here, 0)))
    return rows
