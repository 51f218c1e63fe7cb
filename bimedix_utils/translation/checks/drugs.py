"""The check of drug names: by known spellings, by the consonants that survive another script."""

import re
from collections.abc import Iterator
from functools import lru_cache

from ...core.language import Language
from ...core.text import match_key, skeleton
from .pair import Finding, TextPair, TextPart

SHORT_SKELETON = 3  # consonants: two words this short meet by accident
_WORD = re.compile(r"\w+")
_LONG_WORD = re.compile(r"[a-z]{5,}")

consonants = lru_cache(100_000)(skeleton)  # `core.text.skeleton`, remembered


@lru_cache(100_000)
def _bare_forms(word: str, language: Language) -> frozenset[str]:
    """A word with and without the particles and the article that the script writes with it."""
    particles, articles = (language.data.get(key, "") for key in ("particles", "articles"))
    forms = {word}
    for taken in (1, 2):
        if len(word) > taken + 2 and all(letter in particles for letter in word[:taken]):
            forms.add(word[taken:])
    return frozenset(forms | {form.removeprefix(article) for form in forms for article in articles})


def spellings_in(part: TextPart, language: Language) -> dict[str, set[str]]:
    """{consonants: words} of a translation, with and without what may be glued to their front."""
    found: dict[str, set[str]] = {}
    for word in _WORD.findall(part.folded_target):
        for form in _bare_forms(word, language):
            found.setdefault(consonants(form), set()).add(word)
    return found


def _edit_distance(a: str, b: str, limit: int) -> int:
    """Levenshtein distance, or more than `limit` when the lengths alone say so."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@lru_cache(100_000)
def _ends_like_a_drug(word: str, english: Language) -> bool:
    pattern = english.pattern("drug_words")
    return bool(pattern.fullmatch(word)) and word not in english.data["not_drugs"]


@lru_cache(100_000)
def _synonyms(name: str, english: Language) -> frozenset[str]:
    """The other names of a substance."""
    table = english.data["synonyms"]
    return frozenset([*table.get(name, ()), *(n for n, others in table.items() if name in others)])


@lru_cache(8)
def _known_spellings(language: Language) -> dict[str, str]:
    """One-word spelling in the target's script -> English name."""
    return {s: name for name, known in language.drugs.items() for s in known if " " not in s}


def drugs(pair: TextPair) -> Iterator[Finding]:
    """Each drug of the source is named in the translation, and no other.

    By a known spelling, by its own letters, or by its other name. A source names the drugs of the
    knowledge tables, and words that end like a drug's name.
    """
    for part in pair.parts:
        names = {word for word in match_key(part.source).split() if word in pair.language.drugs}
        long = _LONG_WORD.findall(part.source.casefold())
        names |= {word for word in long if _ends_like_a_drug(word, pair.english)}
        for name in sorted(names):
            if not _known(name, part, pair):
                yield from _missing(name, part, pair)
        yield from _added(part, pair, names)


def _known(name: str, part: TextPart, pair: TextPair) -> bool:
    """True when a spelling of the tables stands in the translation, with particles before it."""
    key, prefix = f" {match_key(part.target)} ", pair.language.data.get("prefix", "")
    known = pair.language.drugs.get(name, ())
    return any(re.search(rf" (?:{prefix}){re.escape(spelling)} ", key) for spelling in known)


def _missing(name: str, part: TextPart, pair: TextPair) -> Iterator[Finding]:
    """A drug that is in the translation in no writing; perhaps as a similar word."""
    spelt = spellings_in(part, pair.language)
    own_forms = {name, name.removesuffix("s"), *pair.english.data["synonyms"].get(name, ())}
    variants = pair.english.data["spelling_variants"].items()
    forms = own_forms | {form.replace(a, b) for form in own_forms for a, b in variants}
    forms |= _synonyms(name, pair.english)
    if name in part.target.casefold() or any(consonants(form) in spelt for form in forms):
        return
    own = consonants(name)
    long = [(other, word) for other, words in spelt.items() for word in words]
    near = [(_edit_distance(own, o, 3), w) for o, w in long if len(o) > SHORT_SKELETON]
    distance, word = min(near, default=(len(own) + 4, ""))
    if distance <= max(1, len(own) // 3):
        yield "human", f"{part.name}: {name} may have become {word}"
    else:
        yield "human", f"{part.name}: {name} was not found in the translation"


def _added(part: TextPart, pair: TextPair, names: set[str]) -> Iterator[Finding]:
    """Known drugs in the translation that the source does not name."""
    spellings = _known_spellings(pair.language)
    words = match_key(part.target).split()
    found = {form for word in words for form in _bare_forms(word, pair.language)} & set(spellings)
    source = f" {match_key(part.source)}" if found else ""
    for form in sorted(found):
        drug = spellings[form]
        named = any(f" {other}" in source for other in {drug, *_synonyms(drug, pair.english)})
        if drug not in names and not named:
            yield "human", f"{part.name}: {drug} is in the translation and not in the source"
