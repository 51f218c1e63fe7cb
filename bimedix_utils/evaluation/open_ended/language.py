"""Does the model answer in the language of the question, also after the language changed in
mid-chat?

Decided by letters and words, not by a model: the share of the wanted script's letters once
tolerated Latin terms are taken out (MRI, mg, HbA1c, a name in brackets), runs of words in the other
script, Persian letters, and English function words. It cannot tell Arabic from a language written
with the same letters alone, nor English from a list of Latin words (then it says `doubtful`). An
answer that only repeats the question is in its language: other measures see that, not this one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...core.records import Record
from ...core.statistics import wilson
from . import Conversation, Responder, answer, single

OUTCOMES = ("ok", "wrong_language", "mixed", "doubtful", "no_letters", "empty")
COLUMNS = ["subset", "language", "n", *OUTCOMES, "share in the language", "95 % (Wilson)"]
OWN, FOREIGN = (
    0.7,
    0.3,
)  # share of wanted letters from which an answer is in the language, and below which it is in another
RUN = 4  # words of the other language in a row that are a phrase, not a term
LISTED = 12  # words without any function word that leave English in doubt
_ARABIC = re.compile(r"[\u0620-\u064A\u066E-\u06D3\u06FA-\u06FF]")
_PERSIAN = re.compile(
    r"[\u067E\u0686\u0698\u06AF\u06A9\u06CC\u0679\u0688\u0691\u06BA\u06BE\u06C1\u06D2]"
)
_LATIN = re.compile(r"[A-Za-z\u00C0-\u024F]")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
# Terms that Arabic medical text keeps: abbreviations, letters with digits, units, and what stands
# in brackets behind its Arabic name.
_TERM = re.compile(
    r"(?<!\w)(?:[A-Z]{1,6}s?|[A-Za-z]*[a-z]?[A-Z]{2,}[A-Za-z]*|p[HK]a?|Ig[A-Z]|[mt]RNA|HbA1c|[A-Za-z]+[-–]?\d+\w*|\d+[A-Za-z]{1,3}|"
    r"(?:m|µ|μ|mc|k|n|p)?(?:g|L|l|mol|m|IU|U|Hz|s)|mmHg|bpm|kcal|mEq|cm|dL|dl|min|h)(?!\w)"
)
_GLOSS = re.compile(r"[(\[][A-Za-z][A-Za-z0-9 .,'-]{0,40}[)\]]")
_ENGLISH = frozenset(
    "the of and you your with this that which are is it should not from have has they may by be can"
    " if when who was were there".split()
    + "to does what why how my after before at".split()
)


@dataclass(frozen=True)
class Verdict:
    """What became of one answer: its outcome, the share of wanted letters (None without letters),
    and why.
    """

    id: str
    lang: str
    outcome: str
    share: float | None
    why: str


def judge(text: str, lang: str, row_id: str = "") -> Verdict:
    """The answer's verdict against the language (`en` or `ar`) that was asked for. Every text gets
    exactly one of `OUTCOMES`.
    """
    if not text.strip():
        return Verdict(row_id, lang, "empty", None, "nothing was answered")
    kept = _TERM.sub(" ", _GLOSS.sub(" ", text)) if lang == "ar" else text
    letters = _LETTER.findall(kept)
    if not letters:
        return Verdict(row_id, lang, "no_letters", None, "numbers, signs or abbreviations only")
    own_script, other_script = (_ARABIC, _LATIN) if lang == "ar" else (_LATIN, _ARABIC)
    share = sum(1 for letter in letters if own_script.match(letter)) / len(letters)
    outcome, why = _decide(kept, lang, share, own_script, other_script)
    return Verdict(row_id, lang, outcome, share, why)


def _decide(
    text: str, lang: str, share: float, own_script: re.Pattern[str], other_script: re.Pattern[str]
) -> tuple[str, str]:
    name = {"ar": "Arabic", "en": "Latin"}[lang]
    if share < FOREIGN:
        return "wrong_language", f"{share:.0%} of the letters are {name}"
    words = _WORD.findall(text)
    run = _longest([bool(other_script.match(word)) for word in words])
    if share < OWN:
        return "mixed", f"{share:.0%} of the letters are {name}"
    if run >= RUN:
        return "mixed", f"{run} words in a row of another script"
    own = [word for word in words if own_script.match(word)]
    if lang == "ar":
        letters = _ARABIC.findall(text)
        persian = len(_PERSIAN.findall(text)) / len(letters)
        if persian > 0.05:
            return "wrong_language", f"{persian:.0%} of the letters are Persian or Urdu"
    elif len(own) >= LISTED and not _ENGLISH & {word.lower() for word in own}:
        return "doubtful", f"{len(own)} Latin words, none of them a function word of English"
    return "ok", f"{share:.0%} of the letters are {name}"


def _longest(marks: Sequence[bool]) -> int:
    longest = now = 0
    for mark in marks:
        now = now + 1 if mark else 0
        longest = max(longest, now)
    return longest


def switches(
    english: Sequence[Record], arabic: Sequence[Record]
) -> list[tuple[str, str, Conversation]]:
    """(id, language wanted, chat) of chats whose language changes: a question and its reference
    answer in one language, then the next row's question in the other; each neighbouring pair of
    rows gives one chat in each direction. Twins are matched by `parent_id`.
    """
    twins = {row.parent_id: row for row in arabic}
    pairs = [(row, twins[row.id]) for row in english if row.kind == "qa" and row.id in twins]
    chats = []
    for place in range(0, len(pairs) - 1, 2):
        for before, after in ((0, 1), (1, 0)):
            first, second = pairs[place][before], pairs[place + 1][after]
            chat = [
                *single(first.question),
                {"role": "assistant", "content": first.answer},
                *single(second.question),
            ]
            chats.append((f"switch:{first.id}>{second.id}", second.lang, chat))
    return chats


def run(respond: Responder, items: Sequence[tuple[str, str, Conversation]]) -> list[Verdict]:
    """Ask the model and judge each answer; `items` are (id, language wanted, conversation)."""
    answers = answer(respond, [conversation for _, _, conversation in items])
    return [
        judge(text, lang, row_id) for (row_id, lang, _), text in zip(items, answers, strict=True)
    ]


def table(verdicts: dict[str, Sequence[Verdict]]) -> list[tuple]:
    """One row for each subset and language, see `COLUMNS`; outcomes add up to n."""
    lines = []
    for subset, found in verdicts.items():
        for lang in dict.fromkeys(v.lang for v in found):
            counts = Counter(v.outcome for v in found if v.lang == lang)
            n, low_high = counts.total(), wilson(counts["ok"], counts.total())
            shown = f"{counts['ok'] / n:.2f}", f"[{low_high[0]:.2f}, {low_high[1]:.2f}]"
            lines.append((subset, lang, n, *(counts[name] for name in OUTCOMES), *shown))
    return lines
