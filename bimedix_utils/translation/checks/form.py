"""Checks of the form: all parts there, whole, in the wanted script, nothing around them."""

import re
from collections import Counter
from collections.abc import Iterator

from ...core.language import SHINGLE, prompt_shingles
from ...core.text import match_key
from .pair import Flag, Pair

_ENGLISH_WORD = re.compile(r"\b[A-Za-z]{3,}\b")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN_LETTER = re.compile(r"[A-Za-z\u00C0-\u024F]")
_GREEK = re.compile(r"[\u0370-\u03FF\u00B5]")
_END = re.compile(r"[.?!؟:؛…][\"'»”)\]]*\s*$")
_MARKUP = re.compile(r"[{}\[\]<>`\\|#*~]|__+|&(?:nbsp|quot|amp|lt|gt);")
_ODD = re.compile(
    r"[\u2028\u2029\u0085\u202a-\u202e\u2066-\u2069\ufffe\uffff\ufffd\ufb50-\ufdff\ufe70-\ufefc\u0000-\u0008\u000b-\u001f]|Ã.|Ø.|Ù.|Â[\u0080-\u00bf]|\?{3,}|(?:\?\?+\s+){2}|[\u00c0-\u00ff]{3}"
)
_UNSEEN = re.compile(r"[\u200b\u2060\ufeff]")  # no width, no meaning; often left by a web page
# Function words of English beside another Latin word: a phrase, not a term that was kept.
_PHRASE = re.compile(
    r"\b(?!in"
    r" (?:situ|vitro|vivo|utero)\b)(?:the|is|are|was|were|of|and|with|has|have|she|he|it|for|"
    r"to|in|which|that|this|from|by|on|at|not|i|my|you|your)\s+(?!(?:the|of|an|and)\b)(?-i:[a-z]{2})",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"\b(?:here(?:'s| is| are)|below is|the following"
    r" is)\b[^.]{0,40}\btranslat|\btranslation\s*[:=]|"
    r"^\s*(?:arabic|persian|english|answer|output|result)\s*[:=]|^\s*(?:sure|certainly|of"
    r" course|absolutely)\b[^a-z]|"
    r"\bas an ai\b|\blanguage model\b|\bi(?:'m| am) (?:sorry|unable|not able)|\bi"
    r" (?:cannot|can't|can not|won't)\b|\bi hope this helps\b",
    re.IGNORECASE,
)
LENGTH = (0.45, 1.9)  # letters of a long text for each letter of its English
LONGEST_PHRASE = 8  # words of a phrase that may be said again and again
CUT = 0.62  # a text this short that also ends without its full stop was cut


def part_count(pair: Pair) -> Iterator[Flag]:
    """As many parts (options, turns, fields) as the source, none empty, no two the same that differ
    in the source.
    """
    if len(pair.source) != len(pair.candidate):
        yield Flag(
            "part_count",
            "reject",
            f"{len(pair.source)} parts in the source, {len(pair.candidate)} in the translation",
        )
    for place, text in enumerate(pair.candidate):
        if not text.strip():
            yield Flag("part_count", "reject", f"{pair.name(place)} is empty")
    seen: dict[str, int] = {}
    for place, part in enumerate(pair.parts):
        key = match_key(part.after)
        first = seen.setdefault(key, place)
        if key and first != place and match_key(pair.source[first]) != match_key(part.before):
            yield Flag("part_count", "reject", f"{part.name} says the same as {pair.name(first)}")


def script(pair: Pair) -> Iterator[Flag]:
    """Written in the wanted script: no run of English words left over, no letters of a third
    script.
    """
    for part in pair.parts:
        letters = _LETTER.findall(part.after)
        own = sum(1 for letter in letters if pair.language.letters.match(letter))
        latin = sum(1 for letter in letters if _LATIN_LETTER.match(letter))
        english = [
            word
            for word in _ENGLISH_WORD.findall(part.after)
            if word.islower() and word in part.before
        ]
        phrase = _PHRASE.search(part.after)
        third = [
            letter
            for letter in letters
            if not (
                pair.language.letters.match(letter)
                or _LATIN_LETTER.match(letter)
                or _GREEK.match(letter)
            )
        ]
        if len(english) >= 4 or phrase or (len(part.before) > 30 and own < latin):
            left = " ".join(english[:5]) or (
                part.after[phrase.start() :][:40] if phrase else part.after[:40]
            )
            yield Flag("untranslated", "reject", f"{part.name}: English left: {left}")
        elif (
            latin
            and not own
            and part.after.casefold() == part.before.casefold()
            and any(word.islower() for word in part.after.split())
        ):
            yield Flag(
                "untranslated", "human", f"{part.name}: the same as its source: {part.after[:40]}"
            )
        elif third and not set(third) <= set(part.before):
            yield Flag(
                "script",
                "reject",
                f"{part.name}: letters of another script: {''.join(dict.fromkeys(third))[:10]}",
            )


def characters(pair: Pair) -> Iterator[Flag]:
    """No replacement character, presentation form, control character or text decoded the wrong way."""
    for place, text in enumerate(pair.candidate):
        if match := _ODD.search(text):
            yield Flag(
                "characters",
                "reject",
                f"{pair.name(place)}: character U+{ord(match.group()[0]):04X}",
            )
        elif match := _UNSEEN.search(text):
            yield Flag(
                "characters",
                "human",
                f"{pair.name(place)}: unseen character U+{ord(match.group()):04X}",
            )


def chatter(pair: Pair) -> Iterator[Flag]:
    """No preamble, refusal or talk about the translation."""
    for place, text in enumerate(pair.candidate):
        source = pair.source[place] if place < len(pair.source) else ""
        folded = pair.parts[place].target if place < len(pair.parts) else text
        for pattern, words in (
            (_CHATTER, text),
            (pair.language.pattern("chatter"), folded),
            (pair.language.pattern("refusal"), folded),
        ):
            match = pattern.search(words)
            if match and "translat" not in source.casefold() and "sorry" not in source.casefold():
                yield Flag("preamble", "reject", f"{pair.name(place)}: {match.group().strip()!r}")
                break


def prompt_overlap(pair: Pair) -> Iterator[Flag]:
    """No run of words out of the kit's own prompts."""
    for part in pair.parts:
        words, source = match_key(part.after).split(), match_key(part.before)
        for i in range(len(words) - SHINGLE + 1):
            run = tuple(words[i : i + SHINGLE])
            if run in prompt_shingles() and " ".join(run) not in source:
                yield Flag(
                    "prompt_overlap",
                    "reject",
                    f"{part.name}: words of the instructions: {' '.join(run)!r}",
                )
                break


def markup(pair: Pair) -> Iterator[Flag]:
    """No brackets, braces or marks of a format that the source has not; none lost that it has."""
    for part in pair.parts:
        before, after = (Counter(_MARKUP.findall(text)) for text in (part.before, part.after))
        if part.after.count('"') % 2 > part.before.count('"') % 2:
            after['"'] += 1  # one without its twin: the rest of a JSON string
        if before != after:
            odd = sorted(((before - after) + (after - before)).elements())
            yield Flag(
                "markup", "reject" if after - before else "human", f"{part.name}: {' '.join(odd)}"
            )


def length(pair: Pair) -> Iterator[Flag]:
    """Neither a summary nor an essay, as a whole."""
    before, after = sum(map(len, pair.source)), sum(map(len, pair.candidate))
    if before >= 80 and not LENGTH[0] <= after / before <= LENGTH[1]:
        yield Flag("length", "human", f"{after / before:.2f} times the letters of the source")


def truncation(pair: Pair) -> Iterator[Flag]:
    """A longer text that is short for its source and does not end as it does was cut."""
    for part in pair.parts:
        ratio = len(part.after) / max(len(part.before), 1)
        ends = _END.search(part.before) and not _END.search(part.after)
        if len(part.before) >= 60 and ratio < CUT and (ends or ratio < LENGTH[0]):
            yield Flag(
                "truncation",
                "reject",
                f"{part.name}: {ratio:.2f} times the letters of the source, and no end",
            )
        elif len(part.before) >= 60 and ends and ratio < CUT + 0.2:
            yield Flag(
                "truncation",
                "human",
                f"{part.name}: {ratio:.2f} times the letters of the source, without its closing"
                " mark",
            )


def repetition(pair: Pair) -> Iterator[Flag]:
    """No phrase said again and again that the source says once."""
    for part in pair.parts:
        words, before = match_key(part.after).split(), match_key(part.before).split()
        for size in range(1, min(LONGEST_PHRASE, len(words) // 2) + 1):
            row = _in_a_row(words, size)
            if row > max(3 if size == 1 else 2, _in_a_row(before, size)):
                yield Flag(
                    "repetition",
                    "reject",
                    f"{part.name}: the same {size} words {row} times in a row",
                )
                break


def _in_a_row(words: list[str], size: int) -> int:
    """How many times a phrase of `size` words stands in a row at most."""
    best = run = 0
    for i in range(size, len(words)):
        run = run + 1 if words[i] == words[i - size] else 0
        best = max(best, run)
    return best // size + 1
