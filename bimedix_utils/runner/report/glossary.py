"""The glossary of the field in both languages: a table that a reader edits, checked when read."""

import csv
from pathlib import Path
from typing import NamedTuple

from ...core.errors import InputError
from ...core.language import in_language
from ...core.provenance import ROOT

GLOSSARY = ROOT / "data" / "glossary.csv"


class Term(NamedTuple):
    """One term with one sentence on it, in both languages; the table's columns."""

    term_en: str
    term_ar: str
    explanation_en: str
    explanation_ar: str


def read_glossary(path: Path = GLOSSARY) -> list[Term]:
    """The terms in the order of the English alphabet.

    Raises `InputError` naming the line of an empty cell, of an Arabic cell without Arabic or of a
    duplicate term.
    """
    with open(path, encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle)
        if tuple(rows.fieldnames or ()) != Term._fields:
            raise InputError(f"{path.name}: its columns must be {', '.join(Term._fields)}")
        terms: dict[str, Term] = {}
        for row in rows:
            term = Term(*((row[name] or "").strip() for name in Term._fields))
            where = f"{path.name}, line {rows.line_num}"
            if not all(term) or None in row:
                raise InputError(
                    f"{where}: four cells are expected, none empty; put a text with a comma in"
                    " quotes"
                )
            if not in_language(term.term_ar, "ar") or not in_language(term.explanation_ar, "ar"):
                raise InputError(f"{where}: {term.term_en}: the Arabic cells hold no Arabic")
            if term.term_en.lower() in terms:
                raise InputError(f"{where}: {term.term_en} is a duplicate")
            terms[term.term_en.lower()] = term
    return [terms[key] for key in sorted(terms)]
