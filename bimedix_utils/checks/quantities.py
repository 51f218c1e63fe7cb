"""Checks of what can be counted: numbers, numbers with their units, how often a day."""

import re
from collections import Counter
from collections.abc import Iterator

from .language import Language, fold
from .pair import Flag, Pair, Part

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ROMAN = re.compile(r"\b(?:[IVX]{1,4})\b")
_VALUES = {"I": 1, "V": 5, "X": 10}
_ALIKE = {frozenset({"mm", "mmHg"}), frozenset({"U", "IU"}), frozenset({"mIU", "IU"})}  # commonly written short


def numbers_of(text: str) -> Counter[str]:
    """The numbers of a text, each in one spelling: "1,000" = "1000", "٥" = "5", "2.0" stays "2.0"."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", fold(text))
    return Counter(_NUMBER.findall(text))


def _roman(text: str) -> set[str]:
    found = set()
    for numeral in _ROMAN.findall(text):
        values = [_VALUES[letter] for letter in numeral]
        found.add(str(sum(-v if any(v < later for later in values[i + 1 :]) else v for i, v in enumerate(values))))
    return found


def _in_words(number: str, text: str, language: Language) -> bool:
    """True when a small whole number stands in a text as a word."""
    pattern = language.number_words.get(int(number)) if number.isdigit() and len(number) < 3 else None
    return bool(pattern and pattern.search(text))


def numbers(pair: Pair) -> Iterator[Flag]:
    """The same numbers, part by part, in digits or, when small, in words."""
    for part in pair.parts:
        wanted, found = numbers_of(part.before), numbers_of(part.after)
        if wanted == found:
            continue
        roman = _roman(part.before)
        lost = sorted(n for n in (wanted - found).elements() if not _in_words(n, part.target, pair.language))
        if lost and not found - wanted and all(re.search(rf"[A-Za-z]{re.escape(n)}(?![\d.])", part.before) for n in lost):
            yield Flag("numbers", "human", f"{part.name}: lost {', '.join(lost)}, part of a name such as O2")
            continue
        new = sorted(n for n in (found - wanted).elements() if n not in roman and not _in_words(n, part.source, pair.english))
        if lost or new:
            yield Flag("numbers", "reject", f"{part.name}: lost {', '.join(lost) or '-'}, new {', '.join(new) or '-'}")


def _measures(text: str, language: Language) -> list[tuple[str, str]]:
    """(number, unit) pairs of a folded text."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    found = []
    for match in language.units.finditer(text):
        unit = next(language.unit_names[int(name[1:])] for name, value in match.groupdict().items() if name[0] == "u" and value)
        found += [(number, unit) for number in _NUMBER.findall(match["n"] + " " + (match["range"] or ""))]
    for match in language.units_before.finditer(text) if language.units_before else ():
        unit = next(name[2:] for name, value in match.groupdict().items() if name[:2] == "b_" and value)
        found.append((match["n"], unit))
    return found


def units(pair: Pair) -> Iterator[Flag]:
    """A number keeps its unit: another unit is rejected, none at all goes to a person."""
    for part in pair.parts:
        if not any(letter.isdigit() for letter in part.source):
            continue
        wanted = Counter(_measures(part.source, pair.english))
        if wanted:
            yield from _units(part, wanted, Counter(_measures(part.target, pair.language)), pair.language)


def _units(part: Part, wanted: Counter, found: Counter, language: Language) -> Iterator[Flag]:
    left = found - wanted
    for (number, unit), count in (wanted - found).items():
        others = sorted({other for value, other in left if value == number})
        if any(frozenset({unit, other}) in _ALIKE for other in others):
            continue
        if others:
            yield Flag("units", "reject", f"{part.name}: {number} {unit} became {number} {', '.join(others)}")
        elif found[number, unit] < count and (number, unit) not in found and number in numbers_of(part.after):
            yield Flag("units", "human", f"{part.name}: {number} has lost its unit {unit}")


def _frequencies(text: str, language: Language) -> set[tuple[str, int]]:
    """{(period, times)} of a folded text, such as ("day", 2) or ("hours", 8)."""
    text, found = text.casefold(), set()
    spoken = {fold(word): n for word, n in language.data["frequency"].get("words", {}).items()}
    for period in ("day", "week", "month"):
        rule = rf"({language.data['frequency']['count']})\s*(?:{language.data['frequency'][period]})"
        for match in re.finditer(fold(rule), text):
            if times := _value(match.group(1), language, spoken):
                found.add((period, times))
    for groups in language.pattern("frequency.every").findall(text):
        word = next(filter(None, [groups] if isinstance(groups, str) else groups), "")
        if hours := _value(word, language, spoken):
            found.add(("hours", hours))
    for word, times in language.data["frequency"].get("latin", {}).items():
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text):
            found.add(("day", times))
    return found


def _value(words: str, language: Language, spoken: dict[str, int]) -> int:
    """The number a few words hold; 0 for none."""
    if words in spoken:
        return spoken[words]
    if digits := re.search(r"\d+", words):
        return int(digits.group())
    return max((n for n, pattern in language.number_words.items() if pattern.search(words)), default=0)


def frequency(pair: Pair) -> Iterator[Flag]:
    """How often a day, a week, every how many hours: another count is rejected, none goes to a person."""
    for part in pair.parts:
        if not (wanted := _frequencies(part.source, pair.english)):
            continue
        found = _frequencies(part.target, pair.language)
        for period, times in sorted(wanted - found):
            other = sorted(n for p, n in found - wanted if p == period)
            same = period == "day" and ("hours", 24 // times) in found or period == "hours" and ("day", 24 // times) in found
            if same:
                continue
            what = f"{part.name}: {times} times a {period}" if period != "hours" else f"{part.name}: every {times} hours"
            yield Flag("frequency", "reject", f"{what} became {other[0]}") if other else Flag("frequency", "human", f"{what} was not found")
