"""Checks of words that change the meaning: denial, EXCEPT, sides, the order of options."""

import re
from collections.abc import Iterator

from ...core.language import Language
from .drugs import SHORT_SKELETON, consonants, spellings_in
from .pair import Finding, TextPair
from .quantities import numbers_of

_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9-]+")
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.?!؟;؛:])\s+")
_CLAUSE = re.compile(r"[,،]\s+")
_SIDES = ("left", "right")


def _aligned_pieces(source: str, target: str) -> Iterator[tuple[str, str]]:
    """A text and its translation clause by clause, or sentence by sentence, where counts agree."""
    ours, theirs = _SENTENCE.split(source.strip()), _SENTENCE.split(target.strip())
    if len(ours) != len(theirs):
        yield source, target
        return
    for sentence, other in zip(ours, theirs, strict=True):
        clauses, others = _CLAUSE.split(sentence), _CLAUSE.split(other)
        pieces = list(zip(clauses, others, strict=False))
        alike = all(0.5 < len(y) / len(x) < 1.6 for x, y in pieces if x)
        yield from pieces if alike and len(clauses) == len(others) else [(sentence, other)]


def _denials(text: str, language: Language) -> dict[str, list[str]]:
    """{concept: the words that deny} of a text, see `negation` in a language's file."""
    return {
        concept: [m.group().strip() for m in language.pattern(f"negation.{concept}").finditer(text)]
        for concept in language.denials
    }


def _lost_denials(
    expected: dict[str, list[str]], found: dict[str, list[str]], language: Language
) -> list[str]:
    """The source's denials without a counterpart.

    A counterpart is one of the same concept, a plain denial, or what the file lets serve for it.
    """
    left, lost = {concept: len(words) for concept, words in found.items()}, []
    serves = language.data["negation"]["serves"]
    for concept in [c for c in expected if c != "not" and c in found] + ["not"]:
        for word in expected[concept]:
            options = (concept, "not", *serves.get(concept, ()))
            if helper := next((option for option in options if left.get(option)), None):
                left[helper] -= 1
            else:
                lost.append(word)
    return lost


def negation(pair: TextPair) -> Iterator[Finding]:
    """What the source denies the translation denies too, clause by clause.

    With a particle, a verb, or a word such as "afebrile".
    """
    for part in pair.parts:
        lost: list[str] = []
        for source, target in _aligned_pieces(part.folded_source, part.folded_target):
            expected = _denials(source, pair.english)
            if any(expected.values()):
                lost += _lost_denials(expected, _denials(target, pair.language), pair.language)
        if lost:
            yield "human", f"{part.name}: no counterpart of {', '.join(map(repr, lost))}"


def exception(pair: TextPair) -> Iterator[Finding]:
    """A question for the exception (EXCEPT, NOT, LEAST) stays one: else the key is wrong."""
    for part in pair.parts:
        found = pair.english.pattern("negation.except").search(part.source)
        if found and not pair.language.pattern("negation.except").search(part.folded_target):
            lost = f"{found.group()!r} is lost, the question asks for the opposite"
            yield "reject", f"{part.name}: {lost}"


def _sides_of(text: str, language: Language) -> list[str]:
    """The sides a text names, in order."""
    found = [(m.start(), s) for s in _SIDES for m in language.pattern(f"sides.{s}").finditer(text)]
    return [side for _, side in sorted(found)]


def sides(pair: TextPair) -> Iterator[Finding]:
    """Left stays left and right stays right, in the same order; both stays both."""
    for part in pair.parts:
        expected = _sides_of(part.folded_source, pair.english)
        found = _sides_of(part.folded_target, pair.language)
        less = [side for side in _SIDES if found.count(side) < expected.count(side)]
        more = [side for side in _SIDES if found.count(side) > expected.count(side)]
        if expected and less and more:
            yield "reject", f"{part.name}: {less[0]} became {more[0]}"
        elif less and less[0] not in found:
            yield "human", f"{part.name}: {less[0]} was not found"
        elif expected and not less and not more:
            if all(a != b for a, b in zip(expected, found, strict=True)):
                yield "human", f"{part.name}: {', '.join(expected)} became {', '.join(found)}"
        both = pair.english.pattern("sides.both").search(part.folded_source)
        if both and not pair.language.pattern("sides.both").search(part.folded_target):
            yield "human", f"{part.name}: both was not found"


def option_marks(pair: TextPair) -> Iterator[Finding]:
    """Options keep their order: the numbers and names of one do not stand in another."""
    options = [part for part in pair.parts if part.name.startswith("option")]
    own, theirs = [], []
    for part in options:
        skeletons = {consonants(word) for word in _WORD.findall(part.source)}
        long = {skeleton for skeleton in skeletons if len(skeleton) > SHORT_SKELETON}
        own.append(set(numbers_of(part.source)) | long)
        theirs.append(set(numbers_of(part.target)) | set(spellings_in(part, pair.language)))
    for i, part in enumerate(options):
        marks = own[i].difference(*(other for j, other in enumerate(own) if j != i))
        if not marks or marks & theirs[i]:
            continue
        others = [options[j].name for j, found in enumerate(theirs) if j != i and marks & found]
        if others:
            yield "human", f"{part.name} seems to be in the position of {others[0]}"


def abbreviations(pair: TextPair) -> Iterator[Finding]:
    """Latin words that the source does not have: often an abbreviation put in brackets."""
    for part in pair.parts:
        source = part.source.casefold()
        strange = [word for word in _LATIN.findall(part.target) if word.casefold() not in source]
        if strange:
            yield "note", f"{part.name}: not in the source: {', '.join(dict.fromkeys(strange))}"


def anchors(pair: TextPair) -> tuple[int, int]:
    """(numbers, abbreviations and long names of the source; how many the translation holds).

    Names count in either script.
    """
    expected = found = 0
    for part in pair.parts:
        numbers = set(numbers_of(part.source))
        expected += len(numbers)
        found += len(numbers & set(numbers_of(part.target)))
        words = {word for word in _LATIN.findall(part.source) if len(word) > 1}
        names = {w for w in words if w.isupper() or len(consonants(w)) > SHORT_SKELETON + 1}
        if not names:
            continue
        spelt, latin = spellings_in(part, pair.language), set(_LATIN.findall(part.target))
        kept = {w for w in names if w in latin or (not w.isupper() and consonants(w) in spelt)}
        # A word in small letters that is met in neither script is an everyday word, no name.
        expected += len(kept | {word for word in names if word.isupper()})
        found += len(kept)
    return expected, found
