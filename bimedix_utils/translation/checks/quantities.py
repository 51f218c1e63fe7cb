"""Checks of what can be counted: numbers, numbers with their units, how often a day."""

import re
from collections import Counter
from collections.abc import Iterator

from ...core.language import Language
from ...core.text import normalise_letters
from .pair import Finding, TextPair, TextPart

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ROMAN = re.compile(r"\b[IVX]{1,4}\b")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}
# Pairs of units of which one is commonly written for the other.
_EQUAL_UNITS = {frozenset(units) for units in (("mm", "mmHg"), ("U", "IU"), ("mIU", "IU"))}
_Measure = tuple[str, str, str]  # number, unit, "per" unit or ""


def numbers_of(text: str) -> Counter[str]:
    """The numbers of a text, each in one spelling: "1,000" = "1000", "٥" = "5"; "2.0" stays."""
    return Counter(_NUMBER.findall(_THOUSANDS.sub("", normalise_letters(text))))


def _roman_numbers(text: str) -> set[str]:
    found = set()
    for numeral in _ROMAN.findall(text):
        values = [_ROMAN_VALUES[letter] for letter in numeral]
        signed = (-v if any(v < w for w in values[i + 1 :]) else v for i, v in enumerate(values))
        found.add(str(sum(signed)))
    return found


def _in_words(number: str, text: str, language: Language) -> bool:
    """True when a small whole number stands in a text as a word."""
    small = number.isdigit() and len(number) < 3
    pattern = language.number_words.get(int(number)) if small else None
    return bool(pattern and pattern.search(text))


def numbers(pair: TextPair) -> Iterator[Finding]:
    """The same numbers, part by part, in digits or, when small, in words."""
    for part in pair.parts:
        expected, found = numbers_of(part.source), numbers_of(part.target)
        if expected == found:
            continue
        gone = (expected - found).elements()
        lost = sorted(n for n in gone if not _in_words(n, part.folded_target, pair.language))
        named = all(re.search(rf"[A-Za-z]{re.escape(n)}(?![\d.])", part.source) for n in lost)
        if lost and named and not found - expected:
            yield "human", f"{part.name}: lost {', '.join(lost)}, part of a name such as O2"
            continue
        roman = _roman_numbers(part.source)
        added = [n for n in (found - expected).elements() if n not in roman]
        new = sorted(n for n in added if not _in_words(n, part.folded_source, pair.english))
        if lost or new:
            reason = f"lost {', '.join(lost) or '-'}, new {', '.join(new) or '-'}"
            yield "reject", f"{part.name}: {reason}"


def _measures(text: str, language: Language) -> list[_Measure]:
    """The numbers of a normalised text that have a unit."""
    text, found = _THOUSANDS.sub("", text), []
    for match in language.units.finditer(text):
        groups = {name: value for name, value in match.groupdict().items() if value}
        # Groups u0, u1 ... hold the unit, v0, v1 ... the unit it is "per".
        names = {name[0]: language.unit_names[int(name[1:])] for name in groups if name[0] in "uv"}
        unit, per = names.get("u", ""), names.get("v", "")
        if unit == "bpm":
            unit, per = "rate", "minute"
        values = _NUMBER.findall(f"{match['n']} {match['range'] or ''}")
        found += [(number, unit, per) for number in values]
    for match in language.units_before.finditer(text) if language.units_before else ():
        unit = next(n[2:] for n, value in match.groupdict().items() if n[:2] == "b_" and value)
        found.append((match["n"], unit, ""))
    return found


def units(pair: TextPair) -> Iterator[Finding]:
    """A number keeps its unit: another unit is rejected, none at all goes to a person."""
    for part in pair.parts:
        if not any(letter.isdigit() for letter in part.folded_source):
            continue
        expected = _measures(part.folded_source, pair.english)
        found = _measures(part.folded_target, pair.language)
        measured = {number for number, *_ in expected}
        spoken = pair.english.pattern("age").findall(part.folded_source)
        ages = [(number, "year", "") for number in spoken if number not in measured]
        for measure in expected + ages:
            if same := next((other for other in found if _same_measure(measure, other)), None):
                found.remove(same)
                continue
            number = measure[0]
            others = sorted({_written(other) for other in found if other[0] == number})
            kept = numbers_of(part.target)[number] >= numbers_of(part.source)[number]
            if others:
                yield "reject", f"{part.name}: {_written(measure)} became {', '.join(others)}"
            elif measure not in ages and kept:
                yield "human", f"{part.name}: {number} has lost its unit {measure[1]}"


def _same_measure(expected: _Measure, found: _Measure) -> bool:
    unit, per = {expected[1], found[1]}, {expected[2], found[2]}
    same_unit = len(unit) == 1 or unit in _EQUAL_UNITS
    return expected[0] == found[0] and same_unit and (len(per) == 1 or "" in per)


def _written(measure: _Measure) -> str:
    number, unit, per = measure
    return f"{number} {unit}" + (f"/{per}" if per else "")


def _frequencies(text: str, language: Language) -> set[tuple[str, int]]:
    """{(period, times)} of a normalised text, such as ("day", 2) or ("hours", 8)."""
    text, found, data = text.casefold(), set(), language.data["frequency"]
    if not any(cue in text for cue in data.get("cues", [""])):
        return found
    words = {normalise_letters(word): n for word, n in data.get("words", {}).items()}
    for period in ("day", "week", "month"):
        for groups in language.pattern(f"frequency.times.{period}").findall(text):
            count = groups if isinstance(groups, str) else groups[0]
            if times := _count(count, language, words):
                found.add((period, times))
    for groups in language.pattern("frequency.every").findall(text):
        count = next(filter(None, [groups] if isinstance(groups, str) else groups), "")
        if hours := _count(count, language, words):
            found.add(("hours", hours))
    for word, times in data.get("latin", {}).items():
        if language.pattern(f"frequency.latin.{word}").search(text):
            found.add(("day", times))
    return found


def _count(text: str, language: Language, words: dict[str, int]) -> int:
    """The number a few words hold; 0 for none."""
    if text in words:
        return words[text]
    if digits := re.search(r"(?<!\d)\d{1,4}(?!\d)", text):
        return int(digits.group())
    found = (n for n, pattern in language.number_words.items() if pattern.search(text))
    return max(found, default=0)


def frequency(pair: TextPair) -> Iterator[Finding]:
    """How often a day, a week, every how many hours.

    Another count or period is rejected; one that is not found goes to a person.
    """
    for part in pair.parts:
        yield from _periods(part, pair)
        if not (expected := _frequencies(part.folded_source, pair.english)):
            continue
        found = _frequencies(part.folded_target, pair.language)
        for period, times in sorted(expected - found):
            # "three times a day" may be said as "every 8 hours".
            other_way = {"day": "hours", "hours": "day"}.get(period, "")
            if other_way and (other_way, 24 // times) in found:
                continue
            what = f"every {times} hours" if period == "hours" else f"{times} times a {period}"
            other = sorted(n for p, n in found - expected if p == period)
            if other:
                yield "reject", f"{part.name}: {what} became {other[0]}"
            else:
                yield "human", f"{part.name}: {what} was not found"


def _periods(part: TextPart, pair: TextPair) -> Iterator[Finding]:
    """A period without a count, such as "every day", that became another one."""
    names = pair.english.data["frequency"]["bare"]
    expected, found = (
        Counter(p for p in names for _ in language.pattern(f"frequency.bare.{p}").finditer(text))
        for language, text in (
            (pair.english, part.folded_source),
            (pair.language, part.folded_target),
        )
    )
    lost, new = sorted(expected - found), sorted(found - expected)
    if lost and new:
        yield "reject", f"{part.name}: every {lost[0]} became every {new[0]}"
