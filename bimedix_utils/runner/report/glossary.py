"""The glossary of the field in both languages: a table that a reader edits, checked when it is
read.
"""

import csv
import html
from pathlib import Path
from typing import NamedTuple

from ...core.errors import InputError
from ...core.provenance import ROOT
from ...core.text import arabic_share, isolate
from . import prose

FILE = ROOT / "data" / "glossary.csv"
COLUMNS = ("term_en", "term_ar", "explanation_en", "explanation_ar")


class Term(NamedTuple):
    """One term with one sentence on it, in both languages."""

    en: str
    ar: str
    explanation_en: str
    explanation_ar: str


def read(path: Path = FILE) -> list[Term]:
    """The terms, in the order of the English alphabet. Raises `InputError` naming the line: a cell
    empty, a term twice.
    """
    with open(path, encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path.name}: its columns must be {', '.join(COLUMNS)}")
        terms: list[Term] = []
        for row in rows:
            term = Term(*((row[name] or "").strip() for name in COLUMNS))
            where = f"{path.name}, line {rows.line_num}"
            if not all(term) or None in row:
                raise InputError(
                    f"{where}: four cells are wanted, none empty; put a text with a comma in quotes"
                )
            if arabic_share(term.ar) < 0.5 or arabic_share(term.explanation_ar) < 0.5:
                raise InputError(f"{where}: {term.en}: the Arabic cells hold no Arabic")
            if term.en.lower() in {known.en.lower() for known in terms}:
                raise InputError(f"{where}: {term.en} stands twice")
            terms.append(term)
    return sorted(terms, key=lambda term: term.en.lower())


def body(terms: list[Term]) -> str:
    """The glossary as the content of a page: a list of terms, each language marked with its
    direction.
    """
    ids, parts = prose.Ids(), []
    for term in terms:
        arabic = [
            f'<{tag} lang="ar" dir="rtl">{html.escape(isolate(text))}</{tag}>'
            for tag, text in (("dt", term.ar), ("dd", term.explanation_ar))
        ]
        head = f'<dt id="{ids.new(f"term {term.en}")}">{html.escape(term.en)}</dt>{arabic[0]}'
        parts.append(f"<div>{head}<dd>{html.escape(term.explanation_en)}</dd>{arabic[1]}</div>")
    return (
        f"<h1>Glossary</h1><p>{len(terms)} terms of the field, in English and in Arabic.</p><dl"
        f' class="terms">{"".join(parts)}</dl>'
    )
