"""Does a training row ask a test question? Told by the question, by word 5-grams, by the options.

The rules, on texts in the form of `core.text.match_key`, in any language:
* **question**: the row asks a test question word for word. A multiple-choice row that shares only a
  short question ("Which is true?") with a test item must also share half of its options.
* **n-grams**: the row contains a test question or its abstract: all 5-grams of a short text,
  `LONG_SHARE` of those of a long one. A 5-gram of several test questions is a stock phrase and
  proves nothing; nor does a short question inside a multiple-choice row.
* **options**: the row has the same options, and shares words of the question, or the options are
  too long for a coincidence.

A paraphrased or freely translated test question is not found.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.records import Record
from ..core.shingles import SHINGLE_WORDS, comparable_words, shingle_hashes

RULES = ("question", "n-grams", "options")
SHORT_QUESTION = 8  # words: a shorter question of a multiple-choice row proves nothing alone
LONG_TEXT = 20  # words: a longer test text is found by a share of its 5-grams, others by all
LONG_SHARE = 0.6
STOCK_ITEMS = 3  # a 5-gram or a set of options of so many test items is a stock phrase
SAME_QUESTION_WORDS = 0.5  # share of the test question's words needed beside equal options
LONG_OPTIONS = 30  # words in all options together


class Match(NamedTuple):
    """The test item (index in `KnownTests.ids`) that a row repeats, and the rule that found it."""

    test: int
    rule: str


class RowWords(NamedTuple):
    """A row's words: of its question (a chat's first turn), of each option, of the whole text."""

    question: list[str]
    options: list[list[str]]
    everything: list[str]


def row_words(record: Record) -> RowWords:
    """The words of a row in the form used for matching."""
    if record.kind == "chat":
        turns = [comparable_words(turn.text) for turn in record.turns]
        return RowWords(turns[0], [], [word for turn in turns for word in turn])
    question = comparable_words(record.question)
    options = [comparable_words(option) for option in record.options]
    parts = [comparable_words(record.context), question, *options, comparable_words(record.answer)]
    return RowWords(question, options, [word for part in parts for word in part])


@dataclass(frozen=True)
class _TestText:
    """One test text that a row may contain: its item, and how many of its 5-grams must be met."""

    test: int
    needed: int
    short: bool  # too short to prove anything of a multiple-choice row, which has options too


class KnownTests:
    """The test items in the form in which rows are compared with them.

    `ids`, `sources` and `langs` are in the order of the items.
    """

    def __init__(self, records: Iterable[Record]):
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.langs: list[str] = []
        self._questions: dict[str, list[int]] = defaultdict(list)
        self._by_options: dict[frozenset[str], list[int]] = defaultdict(list)
        self._words: list[frozenset[str]] = []
        self._options: list[frozenset[str]] = []
        texts: list[tuple[int, int, np.ndarray]] = []
        for record in records:
            texts += self._add(record)
        self._texts, self._hashes, self._starts, self._owners = _index(texts)
        # Nearly no 5-gram of a training row is in a test text: a table by the low bits tells most
        # of them without a search among a million hashes.
        self._maybe = np.zeros(1 << 24 if len(self._hashes) > 1 << 16 else 1 << 16, bool)
        self._maybe[self._slots(self._hashes)] = True

    def _add(self, record: Record) -> list[tuple[int, int, np.ndarray]]:
        number, row = len(self.ids), row_words(record)
        self.ids.append(record.id)
        self.sources.append(record.source)
        self.langs.append(record.lang)
        options = _option_set(row)
        self._words.append(frozenset(row.question))
        self._options.append(options)
        chat = record.kind == "chat"
        # A dialogue's greeting is no question; its whole text is compared instead.
        if not chat or len(row.question) >= SHORT_QUESTION:
            self._questions[" ".join(row.question)].append(number)
        if len(options) >= 3:
            self._by_options[options].append(number)
        texts = [row.everything] if chat else [row.question, comparable_words(record.context)]
        long_enough = [text for text in texts if len(text) >= SHINGLE_WORDS]
        return [(number, len(text), shingle_hashes(text)) for text in long_enough]

    def find(self, record: Record, row: RowWords, shingles: np.ndarray) -> Match | None:
        """The test item that a row repeats, from its words and its `shingle_hashes`, or None."""
        options = _option_set(row)
        for number in self._questions.get(" ".join(row.question), ()):
            short = record.kind == "mcqa" and len(row.question) < SHORT_QUESTION
            own = self._options[number]
            if not short or not own or 2 * len(options & own) >= len(own):
                return Match(number, "question")
        if (found := self._contained(shingles, record.kind == "mcqa")) is not None:
            return Match(found, "n-grams")
        alike = self._by_options.get(options, ()) if len(options) >= 3 else ()
        if len(alike) >= STOCK_ITEMS:
            return None
        long = sum(map(len, row.options)) >= LONG_OPTIONS
        words = set(row.question)
        for number in alike:
            asked = self._words[number]
            if long or len(words & asked) >= SAME_QUESTION_WORDS * len(asked):
                return Match(number, "options")
        return None

    def _slots(self, shingles: np.ndarray) -> np.ndarray:
        return shingles & np.uint64(len(self._maybe) - 1)

    def _contained(self, shingles: np.ndarray, multiple_choice: bool) -> int | None:
        """The test item whose text the row contains; of several the one with most 5-grams."""
        shingles = shingles[self._maybe[self._slots(shingles)]]
        if not len(self._hashes) or not len(shingles):
            return None
        at = np.minimum(np.searchsorted(self._hashes, shingles), len(self._hashes) - 1)
        met: Counter[int] = Counter()
        for hit in at[self._hashes[at] == shingles]:
            met.update(self._owners[self._starts[hit] : self._starts[hit + 1]].tolist())
        found = [
            (-count, text)
            for text, count in met.items()
            if count >= self._texts[text].needed
            and not (multiple_choice and self._texts[text].short)
        ]
        return self._texts[min(found)[1]].test if found else None


def _option_set(row: RowWords) -> frozenset[str]:
    return frozenset(" ".join(option) for option in row.options)


def _index(texts: list[tuple[int, int, np.ndarray]]) -> tuple:
    """An inverted index of the test texts, without stock phrases.

    Gives the texts that can be found, the sorted hashes, where each hash's owners start, and the
    owners as indices of the texts.
    """
    # An item and its copy elsewhere (two subjects share a question) are one text here: only
    # different texts make a phrase stock.
    different = {shingles.tobytes(): shingles for _, _, shingles in texts}
    every = np.concatenate([*different.values(), np.zeros(0, np.uint64)])
    hashes, times = np.unique(every, return_counts=True)
    stock = hashes[times >= STOCK_ITEMS]
    kept, parts, owners = [], [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
    for test, length, shingles in texts:
        own = shingles[~np.isin(shingles, stock, assume_unique=True)]
        if len(own):
            parts.append(own)
            owners.append(np.full(len(own), len(kept), np.int32))
            needed = len(own) if length < LONG_TEXT else int(np.ceil(LONG_SHARE * len(own)))
            kept.append(_TestText(test, needed, length < SHORT_QUESTION))
    every, owner = np.concatenate(parts), np.concatenate(owners)
    order = np.argsort(every, kind="stable")
    hashes, starts = np.unique(every[order], return_index=True)
    return kept, hashes, np.append(starts, len(order)), owner[order]
