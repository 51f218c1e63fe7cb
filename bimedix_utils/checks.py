"""Deterministic checks of a translation, run before any score is believed.

Each check takes the source and the candidate as lists of corresponding texts and yields flags. Severity `reject` means the
candidate cannot stand, `human` that a person must look. A check knows words and numbers, never the gold translation.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .text import ARABIC_INDIC, arabic_share, match_key

# Digits are compared as written: a thousands comma is dropped, Arabic-Indic digits and decimal signs are made Western.
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EN_NEGATION = re.compile(r"\b(?:not|no|never|without|except|neither|nor|cannot|\w+n['’]t|denies|denied|none)\b", re.IGNORECASE)
# Arabic denies with particles, with nouns of absence and with verbs of doing without. Bare "ما" is left out: it also asks "what",
# and most questions begin with it.
_AR_NEGATION = re.compile(
    r"(?<!\w)[وفب]?(?:لا|ليس\w*|لم|لن|لولا|ما (?:عدا|لم)|غير\w*|عدا|ماعدا|باستثناء|إلا|ألا|دون\w{0,3}|بدون\w{0,3}|عدم|بلا|سوى|لست|لسنا|"
    r"[ينتأ]نفي|نفى|نفت|[يت]نكر|أنكر\w*|انعدام|أليس\w*|غياب\w{0,3}|غائب\w*|خلو|[يت]خلو|\w{0,2}استغن\w*|[يتن]ستغن\w*)(?!\w)"
)
_REFUSAL = re.compile(r"as an ai|i'?m sorry|i cannot|here is the translation|\bsure[,!]|بصفتي نموذج|إليك الترجمة", re.IGNORECASE)
# Latin words that Arabic medical text keeps: abbreviations, symbols, Latin names of organisms, gene symbols, units in formulas.
_ENGLISH_WORD = re.compile(r"\b[a-z]{3,}\b")


@dataclass(frozen=True)
class Flag:
    """One finding: which check, how severe (`reject` or `human`), and why in words."""

    check: str
    severity: str
    reason: str


Check = Callable[[list[str], list[str]], Iterator[Flag]]


def numbers_of(text: str) -> Counter[str]:
    """The numbers of a text, each in one spelling: "1,000" = "1000", "٥" = "5", "2.0" stays "2.0"."""
    text = text.translate(ARABIC_INDIC).replace("٫", ".").replace("٬", "")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return Counter(_NUMBER.findall(text))


def same_count(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """As many parts (options, turns, fields) as the source, none empty."""
    if len(source) != len(candidate):
        yield Flag("part_count", "reject", f"{len(source)} parts in the source, {len(candidate)} in the translation")
    for number, text in enumerate(candidate, start=1):
        if not text.strip():
            yield Flag("part_count", "reject", f"part {number} is empty")


def same_numbers(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """The same numbers, part by part."""
    for number, (before, after) in enumerate(zip(source, candidate, strict=False), start=1):
        wanted, found = numbers_of(before), numbers_of(after)
        if wanted != found:
            lost, new = sorted((wanted - found).elements()), sorted((found - wanted).elements())
            yield Flag("numbers", "reject", f"part {number}: lost {', '.join(lost) or '-'}, new {', '.join(new) or '-'}")


def negation_kept(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """A part that denies something must still deny something."""
    for number, (before, after) in enumerate(zip(source, candidate, strict=False), start=1):
        denied = _EN_NEGATION.search(before)
        if denied and not _AR_NEGATION.search(after):
            yield Flag("negation", "human", f"part {number}: {denied.group()!r} has no counterpart")


def translated(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """Written in Arabic: most letters Arabic, no long run of plain English words left."""
    for number, (before, after) in enumerate(zip(source, candidate, strict=False), start=1):
        words = [word for word in _ENGLISH_WORD.findall(after) if word in before]
        if len(words) >= 4 or (len(before) > 30 and arabic_share(after) < 0.5):
            yield Flag("untranslated", "reject", f"part {number}: English left: {' '.join(words[:5]) or after[:40]}")


def clean(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """No refusal, preamble, replacement character or Arabic presentation form."""
    for number, text in enumerate(candidate, start=1):
        if match := _REFUSAL.search(text):
            yield Flag("preamble", "reject", f"part {number}: {match.group()!r}")
        if match := re.search(r"[\ufffd\ufb50-\ufdff\ufe70-\ufefc]", text):
            yield Flag("characters", "reject", f"part {number}: character U+{ord(match.group()):04X}")


def plausible_length(source: list[str], candidate: list[str]) -> Iterator[Flag]:
    """Neither a summary nor an essay: Arabic of a long text has 0.45 to 1.9 times the letters of its English."""
    before, after = sum(map(len, source)), sum(map(len, candidate))
    if before >= 80 and not 0.45 <= after / before <= 1.9:
        yield Flag("length", "human", f"{after / before:.2f} times the letters of the source")


_BODY_SUBSTANCES = {"glucose", "oxygen"}  # antidotes, and far more often laboratory values with many Arabic wordings


@cache
def drug_names(folder: Path) -> dict[str, frozenset[str]]:
    """English drug name -> its Arabic spellings in the knowledge tables, both in the form used for matching."""
    names: dict[str, set[str]] = {}
    for stem, column in (("drug_class", "subject"), ("drug_use", "subject"), ("poison_antidote", "object")):
        with open(folder / f"{stem}.csv", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                english = match_key(row[f"{column}_en"])
                if (
                    " " not in english and english not in _BODY_SUBSTANCES
                ):  # phrases such as "sodium bicarbonate" are written in too many ways to be matched whole
                    names.setdefault(english, set()).add(match_key(row[f"{column}_ar"]))
    return {name: frozenset(spellings) for name, spellings in names.items()}


def drugs_kept(folder: Path) -> Check:
    """A check that each known drug named in the source is named in the translation, and no other known drug instead."""
    names = drug_names(folder)
    arabic = {spelling: name for name, spellings in names.items() for spelling in spellings}

    def check(source: list[str], candidate: list[str]) -> Iterator[Flag]:
        for number, (text, target) in enumerate(zip(source, candidate, strict=False), start=1):
            before, after = f" {match_key(text)} ", match_key(target)
            wanted = {name for name in names if f" {name} " in before}
            # Arabic glues particles and the article to a word, so a spelling may stand behind و، ب، ل، ك، ف، ال.
            found = {
                name for spelling, name in arabic.items() if re.search(rf"(?<!\w)[وفبكل]{{0,2}}(?:ال|ل)?{re.escape(spelling)}(?!\w)", after)
            }
            for name in sorted(found - wanted):
                if f" {name}" not in before:  # an English plural or compound begins with the name
                    yield Flag("drug", "human", f"part {number}: {name} is in the translation and not in the source")
            for name in sorted(wanted - found):
                yield Flag("drug", "human", f"part {number}: {name} was not found in the translation")

    return check


def run_all(source: list[str], candidate: list[str], knowledge: Path) -> list[Flag]:
    """Every check on one record's parts, in a fixed order."""
    every: list[Check] = [same_count, same_numbers, negation_kept, translated, clean, plausible_length, drugs_kept(knowledge)]
    return [flag for check in every for flag in check(source, candidate)]
