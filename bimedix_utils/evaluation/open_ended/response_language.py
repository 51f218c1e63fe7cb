"""Does the model answer in the language of the question, also after a change of language in
mid-chat?

Decided by letters and words, not by a model: the share of the language's script once tolerated
Latin terms are taken out (MRI, mg, HbA1c, a name in brackets), words of another script in a row,
letters of other languages in the same script, and function words. A list of Latin words is
`doubtful`. An answer that only repeats the question is in its language: other measures see that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ...core.language import in_language, script_share
from ...core.records import Record
from ..score_tables import Table, outcome_table
from .base import PromptTurns, Responder, ask_model, open_ended_data, single_turn

_OUTCOMES = ("ok", "wrong_language", "mixed", "doubtful", "no_letters", "empty")
# Share of the script's letters from which an answer is in the language, and below which in another.
_OWN, _FOREIGN = 0.7, 0.3
_PHRASE = 4  # words of another script in a row that are a phrase, not a term
_LISTED = 12  # words without any function word that leave the language in doubt
_FOREIGN_LETTERS = 0.05  # share of letters that the language does not have
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
# Latin terms that medical text of another script keeps: abbreviations, letters with digits, units,
# and what stands in brackets behind its own name.
_TERM = re.compile(
    r"(?<!\w)(?:[A-Z]{1,6}s?|[A-Za-z]*[a-z]?[A-Z]{2,}[A-Za-z]*|p[HK]a?|Ig[A-Z]|[mt]RNA|HbA1c|"
    r"[A-Za-z]+[-–]?\d+\w*|\d+[A-Za-z]{1,3}|(?:m|µ|μ|mc|k|n|p)?(?:g|L|l|mol|m|IU|U|Hz|s)|mmHg|bpm|"
    r"kcal|mEq|cm|dL|dl|min|h)(?!\w)"
)
_GLOSS = re.compile(r"[(\[][A-Za-z][A-Za-z0-9 .,'-]{0,40}[)\]]")


@dataclass(frozen=True)
class LanguageVerdict:
    """What became of one answer, and why."""

    id: str
    lang: str
    outcome: str
    why: str

    @property
    def ok(self) -> bool:
        """In the language that was asked for."""
        return self.outcome == "ok"


def judge_language(text: str, lang: str, row_id: str = "") -> LanguageVerdict:
    """The verdict of one answer against the language that was asked for."""
    return LanguageVerdict(row_id, lang, *_outcome(text, lang))


def _outcome(text: str, lang: str) -> tuple[str, str]:
    if not text.strip():
        return "empty", "nothing was answered"
    if not in_language("a", lang):  # the language has another script than Latin
        text = _TERM.sub(" ", _GLOSS.sub(" ", text))
    letters = _LETTER.findall(text)
    if not letters:
        return "no_letters", "numbers, signs or abbreviations only"
    share = script_share(text, lang)
    why = f"{share:.0%} of the letters are of the language's script"
    if share < _OWN:
        return ("wrong_language" if share < _FOREIGN else "mixed"), why
    words = _WORD.findall(text)
    own = [script_share(word[0], lang) > 0 for word in words]
    run = max((len(list(part)) for mine, part in groupby(own) if not mine), default=0)
    if run >= _PHRASE:
        return "mixed", f"{run} words in a row of another script"
    data = open_ended_data(lang)
    if data["foreign_letters"]:
        foreign = len(re.findall(data["foreign_letters"], text)) / len(letters)
        if foreign > _FOREIGN_LETTERS:
            return "wrong_language", f"{foreign:.0%} of the letters are of another language"
    expected = set(data["function_words"])
    if expected and sum(own) >= _LISTED and not expected & {word.lower() for word in words}:
        return "doubtful", f"{sum(own)} words, none of them a function word of the language"
    return "ok", why


def language_switches(
    english: Sequence[Record], arabic: Sequence[Record]
) -> list[tuple[str, str, PromptTurns]]:
    """(id, language expected, chat) of chats whose language changes: a question and its reference
    answer in one language, then the next row's question in the other. Each neighbouring pair of
    rows gives one chat in each direction. Translations are matched by `parent_id`.
    """
    pairs = aligned_questions(english, arabic)
    chats = []
    for index in range(0, len(pairs) - 1, 2):
        for before, after in ((0, 1), (1, 0)):
            first, second = pairs[index][before], pairs[index + 1][after]
            answered = {"role": "assistant", "content": first.answer}
            chat = [*single_turn(first.question), answered, *single_turn(second.question)]
            chats.append((f"switch:{first.id}>{second.id}", second.lang, chat))
    return chats


def aligned_questions(
    english: Sequence[Record], arabic: Sequence[Record]
) -> list[tuple[Record, Record]]:
    """Open questions that both languages have, matched by `parent_id`."""
    translations = {row.parent_id: row for row in arabic}
    questions = [row for row in english if row.kind == "qa" and row.id in translations]
    return [(row, translations[row.id]) for row in questions]


def run_language(
    respond: Responder, items: Sequence[tuple[str, str, PromptTurns]]
) -> list[LanguageVerdict]:
    """Ask the model and judge each answer; `items` are (id, language expected, conversation)."""
    answers = ask_model(respond, [conversation for _, _, conversation in items])
    pairs = zip(items, answers, strict=True)
    return [judge_language(text, lang, row_id) for (row_id, lang, _), text in pairs]


def language_table(verdicts: Mapping[str, Sequence[LanguageVerdict]]) -> Table:
    """One row for each subset and language."""
    groups: dict[tuple, list[LanguageVerdict]] = {}
    for subset, found in verdicts.items():
        for verdict in found:
            groups.setdefault((subset, verdict.lang), []).append(verdict)
    return outcome_table(groups, "subset, language", _OUTCOMES, {"ok": "share in the language"})
