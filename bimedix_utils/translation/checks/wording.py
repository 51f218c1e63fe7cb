"""Checks of words on which the meaning turns: denial, EXCEPT, sides, drug names, abbreviations."""

import re
from collections.abc import Iterator
from functools import lru_cache

from ...core.language import Language
from ...core.text import match_key, skeleton
from .pair import Flag, Pair, Part
from .quantities import numbers_of

_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9-]+")
_WORD = re.compile(r"\w+")
_LOWER = re.compile(r"[a-z]{5,}")
_TOO_SHORT = 3  # consonants: two words this short meet by accident


_SENTENCE = re.compile(r"(?<=[.?!؟;؛:])\s+")
_CLAUSE = re.compile(r"[,،]\s+")


def _units(before: str, after: str) -> Iterator[tuple[str, str]]:
    """A text and its translation in pieces that belong together: clause by clause or sentence by
    sentence where both have as many.
    """
    ours, theirs = _SENTENCE.split(before.strip()), _SENTENCE.split(after.strip())
    if len(ours) != len(theirs):
        yield before, after
        return
    for sentence, other in zip(ours, theirs, strict=True):
        clauses, others = _CLAUSE.split(sentence), _CLAUSE.split(other)
        alike = len(clauses) == len(others) and all(
            0.5 < len(y) / len(x) < 1.6 for x, y in zip(clauses, others, strict=True) if x
        )
        yield from zip(clauses, others, strict=True) if alike else [(sentence, other)]


def _denials(text: str, language: Language) -> dict[str, list[str]]:
    return {
        concept: [
            match.group().strip()
            for match in language.pattern(f"negation.{concept}").finditer(text)
        ]
        for concept in language.denials
    }


def _unserved(
    said: dict[str, list[str]], heard: dict[str, list[str]], language: Language
) -> list[str]:
    """The denials of a source without a counterpart: one of the same concept, a plain denial, or
    what the language's file lets serve.
    """
    left = {concept: len(words) for concept, words in heard.items()}
    serves, lost = language.data["negation"].get("serves", {}), []
    for concept in [c for c in said if c != "not" and c in heard] + ["not"]:
        for word in said[concept]:
            helper = next(
                (h for h in (concept, "not", *serves.get(concept, ())) if left.get(h)), None
            )
            if helper:
                left[helper] -= 1
            else:
                lost.append(word)
    return lost


def negation(pair: Pair) -> Iterator[Flag]:
    """What the source denies the translation denies too, clause by clause: with a particle, a verb,
    or a word such as "afebrile".
    """
    for part in pair.parts:
        lost: list[str] = []
        for before, after in _units(part.source, part.target):
            said = _denials(before, pair.english)
            if any(said.values()):
                lost += _unserved(said, _denials(after, pair.language), pair.language)
        if lost:
            yield Flag(
                "negation", "human", f"{part.name}: no counterpart of {', '.join(map(repr, lost))}"
            )


def exception(pair: Pair) -> Iterator[Flag]:
    """A question for the exception (EXCEPT, NOT, LEAST) must stay one: the key would be wrong."""
    for part in pair.parts:
        asked = pair.english.pattern("negation.except").search(part.before)
        if asked and not pair.language.pattern("negation.except").search(part.target):
            yield Flag(
                "exception",
                "reject",
                f"{part.name}: {asked.group()!r} is lost, the question asks for the opposite",
            )


def _sides(text: str, language: Language) -> list[str]:
    """The sides a text names, in order."""
    found = [
        (m.start(), side)
        for side in ("left", "right")
        for m in language.pattern(f"sides.{side}").finditer(text)
    ]
    return [side for _, side in sorted(found)]


def sides(pair: Pair) -> Iterator[Flag]:
    """Left stays left, right stays right, in the same order; both stay both."""
    for part in pair.parts:
        wanted, found = _sides(part.source, pair.english), _sides(part.target, pair.language)
        if wanted and wanted != found:
            less, more = (
                [s for s in ("left", "right") if compare(found.count(s), wanted.count(s))]
                for compare in (int.__lt__, int.__gt__)
            )
            if less and more:
                yield Flag("side", "reject", f"{part.name}: {less[0]} became {more[0]}")
            elif less and not found.count(less[0]):
                yield Flag("side", "human", f"{part.name}: {less[0]} was not found")
            elif not less and not more and all(a != b for a, b in zip(wanted, found, strict=True)):
                yield Flag(
                    "side", "human", f"{part.name}: {', '.join(wanted)} became {', '.join(found)}"
                )
        both = "sides.both"
        if pair.english.pattern(both).search(part.source) and not pair.language.pattern(
            both
        ).search(part.target):
            yield Flag("side", "human", f"{part.name}: both was not found")


_skeleton = lru_cache(100_000)(skeleton)


@lru_cache(100_000)
def _bare(word: str, particles: str, articles: tuple[str, ...]) -> frozenset[str]:
    forms = {word}
    for taken in (1, 2):
        if len(word) > taken + 2 and all(letter in particles for letter in word[:taken]):
            forms.add(word[taken:])
    return frozenset(forms | {form.removeprefix(article) for form in forms for article in articles})


def bare_forms(word: str, language: Language) -> frozenset[str]:
    """A word as it is and without the particles and the article that the script writes with it."""
    return _bare(word, language.data.get("particles", ""), tuple(language.data.get("articles", ())))


def _spelt(part: Part, language: Language) -> dict[str, set[str]]:
    """The skeletons of a translation's words, with and without what may be glued to their front ->
    the words.
    """
    found: dict[str, set[str]] = {}
    for word in _WORD.findall(part.target):
        for form in bare_forms(word, language):
            found.setdefault(_skeleton(form), set()).add(word)
    return found


def _distance(a: str, b: str, limit: int) -> int:
    """Edits between two skeletons (Levenshtein), or more than `limit` as soon as that is certain."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def _names(part: Part, pair: Pair) -> set[str]:
    """The drugs a source names: those the knowledge tables hold, and words that end like a drug's
    name.
    """
    known = {word for word in match_key(part.before).split() if word in pair.language.drugs}
    alike = {
        word
        for word in _LOWER.findall(part.before.casefold())
        if _sounds_like_a_drug(word, pair.english)
    }
    return known | alike


@lru_cache(100_000)
def _sounds_like_a_drug(word: str, english: Language) -> bool:
    return (
        bool(english.pattern("drug_words").fullmatch(word))
        and word not in english.data["not_drugs"]
    )


def drugs(pair: Pair) -> Iterator[Flag]:
    """Each drug the source names is named in the translation: by a known spelling, by its own
    letters, or by its other name.
    """
    for part in pair.parts:
        names = _names(part, pair)
        spelt = None
        for name in sorted(names):
            key = f" {match_key(part.after)} "
            if any(
                re.search(rf" [وفبكل]{{0,2}}(?:ال|ل)?{re.escape(s)} ", key)
                for s in pair.language.drugs.get(name, ())
            ):
                continue
            spelt = spelt if spelt is not None else _spelt(part, pair.language)
            forms = {name, name.removesuffix("s"), *pair.english.data["synonyms"].get(name, ())}
            forms |= {form.replace("ch", "sh") for form in forms}
            forms |= {
                other for other, names in pair.english.data["synonyms"].items() if name in names
            }
            if name in part.after.casefold() or any(_skeleton(form) in spelt for form in forms):
                continue
            own = _skeleton(name)
            near = sorted(
                (_distance(own, other, 3), word)
                for other, words in spelt.items()
                for word in words
                if len(other) > _TOO_SHORT
            )
            if near and near[0][0] <= max(1, len(own) // 3):
                yield Flag("drug", "human", f"{part.name}: {name} may have become {near[0][1]}")
            else:
                yield Flag("drug", "human", f"{part.name}: {name} was not found in the translation")
        yield from _strangers(part, pair, names)


def _strangers(part: Part, pair: Pair, names: set[str]) -> Iterator[Flag]:
    """Known drugs in the translation that the source does not name."""
    spellings = _spellings(pair.language)
    found = {
        form
        for word in match_key(part.after).split()
        for form in bare_forms(word, pair.language)
        if form in spellings
    }
    before = f" {match_key(part.before)}" if found else ""
    for name in sorted(found):
        drug = spellings[name]
        others = {
            drug,
            *(other for other, names in pair.english.data["synonyms"].items() if drug in names),
        }
        others |= set(pair.english.data["synonyms"].get(drug, ()))
        if drug not in names and not any(f" {other}" in before for other in others):
            yield Flag(
                "drug", "human", f"{part.name}: {drug} is in the translation and not in the source"
            )


@lru_cache(8)
def _spellings(language: Language) -> dict[str, str]:
    """One-word spelling in the target's script -> English name."""
    return {
        spelling: name
        for name, spellings in language.drugs.items()
        for spelling in spellings
        if " " not in spelling
    }


def order(pair: Pair) -> Iterator[Flag]:
    """Options stand where they stood: one whose own numbers and names are met in another option's
    place has moved.
    """
    options = [part for part in pair.parts if part.name.startswith("option")]
    own = [
        set(numbers_of(part.before))
        | {s for word in _WORD.findall(part.before) if len(s := _skeleton(word)) > _TOO_SHORT}
        for part in options
    ]
    theirs = [set(numbers_of(part.after)) | set(_spelt(part, pair.language)) for part in options]
    for i, part in enumerate(options):
        marks = own[i] - set().union(*(other for j, other in enumerate(own) if j != i))
        if marks and not marks & theirs[i]:
            moved = [options[j].name for j, found in enumerate(theirs) if j != i and marks & found]
            if moved:
                yield Flag(
                    "order", "human", f"{part.name} seems to stand in the place of {moved[0]}"
                )


def abbreviations(pair: Pair) -> Iterator[Flag]:
    """Latin words in the translation that the source has not: worth knowing, often an abbreviation
    put in brackets.
    """
    for part in pair.parts:
        before = part.before.casefold()
        strange = [word for word in _LATIN.findall(part.after) if word.casefold() not in before]
        if strange:
            yield Flag(
                "abbreviation",
                "note",
                f"{part.name}: not in the source: {', '.join(dict.fromkeys(strange))}",
            )


def anchors(pair: Pair) -> tuple[int, int]:
    """(Latin abbreviations and long names in the source, how many of them the translation holds,
    spelt in either script).
    """
    wanted = found = 0
    for part in pair.parts:
        names = {
            word
            for word in _LATIN.findall(part.before)
            if len(word) > 1 and (word.isupper() or len(_skeleton(word)) > _TOO_SHORT + 1)
        }
        if not names:
            continue
        spelt, latin = _spelt(part, pair.language), set(_LATIN.findall(part.after))
        wanted += sum(word.isupper() or word in latin or _skeleton(word) in spelt for word in names)
        found += sum(
            word in latin or (not word.isupper() and _skeleton(word) in spelt) for word in names
        )
    return wanted, found
