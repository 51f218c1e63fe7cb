"""Checks of what can be counted: numbers, numbers with their units, how often a day."""

import re
from collections import Counter
from collections.abc import Iterator

from ...core.language import Language
from ...core.text import normalise_letters
from .pair import Flag, Pair, Part

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ROMAN = re.compile(r"\b(?:[IVX]{1,4})\b")
_VALUES = {"I": 1, "V": 5, "X": 10}
_ALIKE = {
    frozenset({"mm", "mmHg"}),
    frozenset({"U", "IU"}),
    frozenset({"mIU", "IU"}),
}  # commonly written short


def numbers_of(text: str) -> Counter[str]:
    """The numbers of a text, each in one spelling: "1,000" = "1000", "٥" = "5", "2.0" stays "2.0"."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", normalise_letters(text))
    return Counter(_NUMBER.findall(text))


def _roman(text: str) -> set[str]:
    found = set()
    for numeral in _ROMAN.findall(text):
        values = [_VALUES[letter] for letter in numeral]
        found.add(
            str(
                sum(
                    -v if any(v < later for later in values[i + 1 :]) else v
                    for i, v in enumerate(values)
                )
            )
        )
    return found


def _in_words(number: str, text: str, language: Language) -> bool:
    """True when a small whole number stands in a text as a word."""
    pattern = (
        language.number_words.get(int(number)) if number.isdigit() and len(number) < 3 else None
    )
    return bool(pattern and pattern.search(text))


def numbers(pair: Pair) -> Iterator[Flag]:
    """The same numbers, part by part, in digits or, when small, in words."""
    for part in pair.parts:
        wanted, found = numbers_of(part.before), numbers_of(part.after)
        if wanted == found:
            continue
        roman = _roman(part.before)
        lost = sorted(
            n for n in (wanted - found).elements() if not _in_words(n, part.target, pair.language)
        )
        if (
            lost
            and not found - wanted
            and all(re.search(rf"[A-Za-z]{re.escape(n)}(?![\d.])", part.before) for n in lost)
        ):
            yield Flag(
                "numbers",
                "human",
                f"{part.name}: lost {', '.join(lost)}, part of a name such as O2",
            )
            continue
        new = sorted(
            n
            for n in (found - wanted).elements()
            if n not in roman and not _in_words(n, part.source, pair.english)
        )
        if lost or new:
            yield Flag(
                "numbers",
                "reject",
                f"{part.name}: lost {', '.join(lost) or '-'}, new {', '.join(new) or '-'}",
            )


Measure = tuple[str, str, str]  # number, unit, "per" unit or ""


def _measures(text: str, language: Language) -> list[Measure]:
    """The numbers of a folded text that have a unit."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    found = []
    for match in language.units.finditer(text):
        groups = {
            name: language.unit_names[int(name[1:])]
            for name, value in match.groupdict().items()
            if value and name[0] in "uv"
        }
        unit, per = (
            next((unit for name, unit in groups.items() if name[0] == letter), "")
            for letter in "uv"
        )
        if unit == "bpm":
            unit, per = "rate", "minute"
        found += [
            (number, unit, per)
            for number in _NUMBER.findall(match["n"] + " " + (match["range"] or ""))
        ]
    for match in language.units_before.finditer(text) if language.units_before else ():
        found.append(
            (
                match["n"],
                next(
                    name[2:]
                    for name, value in match.groupdict().items()
                    if name[:2] == "b_" and value
                ),
                "",
            )
        )
    return found


def units(pair: Pair) -> Iterator[Flag]:
    """A number keeps its unit: another unit is rejected, none at all goes to a person."""
    for part in pair.parts:
        if not any(letter.isdigit() for letter in part.source):
            continue
        wanted, found = _measures(part.source, pair.english), _measures(part.target, pair.language)
        measured = {number for number, *_ in wanted}
        ages = [
            (n, "year", "")
            for n in pair.english.pattern("age").findall(part.source)
            if n not in measured
        ]
        for measure in wanted + ages:
            same = next((other for other in found if _same(measure, other)), None)
            if same:
                found.remove(same)
                continue
            others = sorted({_spoken(other) for other in found if other[0] == measure[0]})
            if others:
                yield Flag(
                    "units", "reject", f"{part.name}: {_spoken(measure)} became {', '.join(others)}"
                )
            elif (
                measure not in ages
                and numbers_of(part.after)[measure[0]] >= numbers_of(part.before)[measure[0]]
            ):
                yield Flag(
                    "units", "human", f"{part.name}: {measure[0]} has lost its unit {measure[1]}"
                )


def _same(wanted: Measure, found: Measure) -> bool:
    alike = wanted[1] == found[1] or frozenset({wanted[1], found[1]}) in _ALIKE
    return (
        wanted[0] == found[0] and alike and (wanted[2] == found[2] or not (wanted[2] and found[2]))
    )


def _spoken(measure: Measure) -> str:
    number, unit, per = measure
    return f"{number} {unit}" + (f"/{per}" if per else "")


def _frequencies(text: str, language: Language) -> set[tuple[str, int]]:
    """{(period, times)} of a folded text, such as ("day", 2) or ("hours", 8)."""
    text, found = text.casefold(), set()
    if not any(cue in text for cue in language.data["frequency"].get("cues", [""])):
        return found
    spoken = {
        normalise_letters(word): n
        for word, n in language.data["frequency"].get("words", {}).items()
    }
    for period in ("day", "week", "month"):
        for words in language.pattern(f"frequency.times.{period}").findall(text):
            if times := _value(words if isinstance(words, str) else words[0], language, spoken):
                found.add((period, times))
    for groups in language.pattern("frequency.every").findall(text):
        word = next(filter(None, [groups] if isinstance(groups, str) else groups), "")
        if hours := _value(word, language, spoken):
            found.add(("hours", hours))
    for word, times in language.data["frequency"].get("latin", {}).items():
        if language.pattern(f"frequency.latin.{word}").search(text):
            found.add(("day", times))
    return found


def _value(words: str, language: Language, spoken: dict[str, int]) -> int:
    """The number a few words hold; 0 for none."""
    if words in spoken:
        return spoken[words]
    if digits := re.search(r"(?<!\d)\d{1,4}(?!\d)", words):
        return int(digits.group())
    return max(
        (n for n, pattern in language.number_words.items() if pattern.search(words)), default=0
    )


def frequency(pair: Pair) -> Iterator[Flag]:
    """How often a day, a week, every how many hours: another count or period is rejected, none goes
    to a person.
    """
    for part in pair.parts:
        yield from _bare(part, pair)
        if not (wanted := _frequencies(part.source, pair.english)):
            continue
        found = _frequencies(part.target, pair.language)
        for period, times in sorted(wanted - found):
            other = sorted(n for p, n in found - wanted if p == period)
            if (period == "day" and ("hours", 24 // times) in found) or (
                period == "hours" and ("day", 24 // times) in found
            ):
                continue
            what = (
                f"{part.name}: {times} times a {period}"
                if period != "hours"
                else f"{part.name}: every {times} hours"
            )
            yield (
                Flag("frequency", "reject", f"{what} became {other[0]}")
                if other
                else Flag("frequency", "human", f"{what} was not found")
            )


def _bare(part: Part, pair: Pair) -> Iterator[Flag]:
    """A period without a count, such as "every day", that became another one."""
    periods = pair.english.data["frequency"]["bare"]
    wanted, found = (
        Counter(p for p in periods for _ in language.pattern(f"frequency.bare.{p}").finditer(text))
        for language, text in ((pair.english, part.source), (pair.language, part.target))
    )
    lost, new = sorted(wanted - found), sorted(found - wanted)
    if lost and new:
        yield Flag("frequency", "reject", f"{part.name}: every {lost[0]} became every {new[0]}")
