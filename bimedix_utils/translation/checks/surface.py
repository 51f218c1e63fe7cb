"""Checks of the surface: all parts present and complete, in the target's script, nothing added."""

import re
from collections import Counter
from collections.abc import Iterator

from ...core.language import SHINGLE, find_refusal, in_language, prompt_shingles
from ...core.text import match_key
from .pair import Finding, TextPair, TextPart

_LATIN_WORD = re.compile(r"\b[A-Za-z]{3,}\b")
_LETTER = re.compile(r"[^\W\d_]")
# Latin and Greek letters belong to medical text in every script.
_SHARED_LETTER = re.compile(r"[A-Za-z\u00C0-\u024F\u0370-\u03FF\u00B5]")
_END = re.compile(r"[.?!؟:؛…][\"'»”)\]]*\s*$")
_MARKUP = re.compile(r"[{}\[\]<>`\\|#*~]|__+|&(?:nbsp|quot|amp|lt|gt);")
# Control and direction marks, presentation forms, and UTF-8 that was decoded as Latin-1.
_BROKEN = re.compile(
    r"[\u2028\u2029\u0085\u202a-\u202e\u2066-\u2069\ufffe\uffff\ufffd\ufb50-\ufdff\ufe70-\ufefc"
    r"\u0000-\u0008\u000b-\u001f]"
    r"|Ã.|Ø.|Ù.|Â[\u0080-\u00bf]|\?{3,}|(?:\?\?+\s+){2}|[\u00c0-\u00ff]{3}"
)
_INVISIBLE = re.compile(r"[\u200b\u2060\ufeff]")  # no width, no meaning; often left by a web page
_LENGTH_RATIO = (0.45, 1.9)  # letters of a long text for each letter of its English
_LONGEST_PHRASE = 8  # words of a phrase that may be repeated again and again
_CUT_RATIO = 0.62  # a text this short that also lacks its full stop was cut


def part_count(pair: TextPair) -> Iterator[Finding]:
    """As many parts as the source, none empty, no two equal that differ in the source."""
    if len(pair.source) != len(pair.candidate):
        counts = f"{len(pair.source)} parts in the source, {len(pair.candidate)}"
        yield "reject", f"{counts} in the translation"
    for index, text in enumerate(pair.candidate):
        if not text.strip():
            yield "reject", f"{pair.name(index)} is empty"
    seen: dict[str, int] = {}
    for index, part in enumerate(pair.parts):
        key = match_key(part.target)
        first = seen.setdefault(key, index)
        if key and first != index and match_key(pair.source[first]) != match_key(part.source):
            yield "reject", f"{part.name} says the same as {pair.name(first)}"


def untranslated(pair: TextPair) -> Iterator[Finding]:
    """In the target's script: no run of English words left over."""
    for part in pair.parts:
        if found := _left_over(part, pair):
            yield found


def _left_over(part: TextPart, pair: TextPair) -> Finding | None:
    """What of a part stayed English."""
    words = [w for w in _LATIN_WORD.findall(part.target) if w.islower() and w in part.source]
    phrase = pair.english.pattern("phrase").search(part.target)
    own, letters = in_language(part.target, pair.language.code), _LETTER.search(part.target)
    if len(words) >= 4 or phrase or (len(part.source) > 30 and letters and not own):
        left = " ".join(words[:5]) or part.target[phrase.start() if phrase else 0 :][:40]
        return "reject", f"{part.name}: English left: {left}"
    same = part.target.casefold() == part.source.casefold()
    if same and letters and not pair.language.letters.search(part.target):
        if any(word.islower() for word in part.target.split()):
            return "human", f"{part.name}: the same as its source: {part.target[:40]}"
    return None


def foreign_script(pair: TextPair) -> Iterator[Finding]:
    """No letters of a third script that the source does not have."""
    for part in pair.parts:
        letters = dict.fromkeys(_LETTER.findall(part.target))
        third = "".join(
            letter
            for letter in letters
            if not pair.language.letters.match(letter) and not _SHARED_LETTER.match(letter)
        )
        if third and not set(third) <= set(part.source) and not _left_over(part, pair):
            yield "reject", f"{part.name}: letters of another script: {third[:10]}"


def characters(pair: TextPair) -> Iterator[Finding]:
    """No replacement character, presentation form, control character or wrongly decoded text."""
    for index, text in enumerate(pair.candidate):
        if match := _BROKEN.search(text):
            yield "reject", f"{pair.name(index)}: character U+{ord(match.group()[0]):04X}"
        elif match := _INVISIBLE.search(text):
            yield "human", f"{pair.name(index)}: invisible character U+{ord(match.group()):04X}"


def preamble(pair: TextPair) -> Iterator[Finding]:
    """No talk about the translation around it, no refusal instead of it."""
    allowed = pair.english.pattern("chatter_allowed")
    for index, text in enumerate(pair.candidate):
        if index < len(pair.source) and allowed.search(pair.source[index]):
            continue
        folded = pair.parts[index].folded_target if index < len(pair.parts) else text
        chatter = pair.english.pattern("chatter").search(text)
        chatter = chatter or pair.language.pattern("chatter").search(folded)
        words = chatter.group() if chatter else find_refusal(text, pair.language.code)
        if words:
            yield "reject", f"{pair.name(index)}: {words.strip()!r}"


def prompt_overlap(pair: TextPair) -> Iterator[Finding]:
    """No run of words out of the kit's own prompts."""
    for part in pair.parts:
        words, source = match_key(part.target).split(), match_key(part.source)
        for i in range(len(words) - SHINGLE + 1):
            run = tuple(words[i : i + SHINGLE])
            if run in prompt_shingles() and " ".join(run) not in source:
                yield "reject", f"{part.name}: words of the instructions: {' '.join(run)!r}"
                break


def markup(pair: TextPair) -> Iterator[Finding]:
    """The same brackets, braces and format marks as the source."""
    for part in pair.parts:
        before, after = (Counter(_MARKUP.findall(text)) for text in (part.source, part.target))
        if part.target.count('"') % 2 > part.source.count('"') % 2:
            after['"'] += 1  # an unpaired one: the rest of a JSON string
        if before != after:
            odd = sorted(((before - after) + (after - before)).elements())
            severity = "reject" if after - before else "human"
            yield severity, f"{part.name}: {' '.join(odd)}"


def length(pair: TextPair) -> Iterator[Finding]:
    """Neither a summary nor an essay, all parts together."""
    before, after = sum(map(len, pair.source)), sum(map(len, pair.candidate))
    if before >= 80 and not _LENGTH_RATIO[0] <= after / before <= _LENGTH_RATIO[1]:
        yield "human", f"{after / before:.2f} times the letters of the source"


def truncation(pair: TextPair) -> Iterator[Finding]:
    """A long text that is short for its source and lacks its end was cut."""
    for part in pair.parts:
        if len(part.source) < 60:
            continue
        ratio = len(part.target) / len(part.source)
        short = f"{part.name}: {ratio:.2f} times the letters of the source"
        endless = _END.search(part.source) and not _END.search(part.target)
        if ratio < _CUT_RATIO and (endless or ratio < _LENGTH_RATIO[0]):
            yield "reject", f"{short}, and no end"
        elif endless and ratio < _CUT_RATIO + 0.2:
            yield "human", f"{short}, without its closing mark"


def repetition(pair: TextPair) -> Iterator[Finding]:
    """No phrase repeated again and again that the source has once."""
    for part in pair.parts:
        words, before = match_key(part.target).split(), match_key(part.source).split()
        for size in range(1, min(_LONGEST_PHRASE, len(words) // 2) + 1):
            row = _in_a_row(words, size)
            if row > max(3 if size == 1 else 2, _in_a_row(before, size)):
                yield "reject", f"{part.name}: the same {size} words {row} times in a row"
                break


def _in_a_row(words: list[str], size: int) -> int:
    """How often a phrase of `size` words is repeated without a break, at most."""
    best = run = 0
    for i in range(size, len(words)):
        run = run + 1 if words[i] == words[i - size] else 0
        best = max(best, run)
    return best // size + 1
