"""Does a training row ask a test question? Told by the question itself, by word sequences, and by
the set of options.

The rules, in the form of `text.match_key`, in any language:
* **question**: the row asks a test question word for word. A multiple-choice row that shares only a
  short question ("Which is true?") with a test item must also share half of its options.
* **words**: the row contains a test question or its abstract: all runs of `WORDS` words of a short
  one, `LONG_SHARE` of a long one. Runs that stand in several test questions are stock phrases and
  prove nothing, nor does a short question within a multiple-choice row.
* **options**: the row has the same options, and shares words of the question or options long enough
  to be no coincidence.

A paraphrased or loosely translated test question is not found; nothing here claims so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.records import Record
from ..core.shingles import SHINGLE_WORDS, comparable_words, shingle_hashes

RULES = ("question", "words", "options")
SHORT_QUESTION = 8  # words: a shorter question of a multiple-choice row proves nothing alone
LONG_TEXT = (
    20  # words: a longer test text is found by a share of its runs, a shorter one by all of them
)
LONG_SHARE = 0.6
STOCK = 3  # a run or a set of options that stands in so many test items is stock
SAME_QUESTION_WORDS = (
    0.5  # share of the test question's words that must return beside equal options
)
LONG_OPTIONS = 30  # words in all options together


class Leak(NamedTuple):
    """Which test item (place in `KnownTests.ids`) a row gives away, and by which rule."""

    test: int
    rule: str


class Words(NamedTuple):
    """A row's words: of its question (a chat's first turn), of each option, and of everything a
    reader sees.
    """

    question: list[str]
    options: list[list[str]]
    everything: list[str]


def row_words(record: Record) -> Words:
    """The words of a row in the form used for matching."""
    if record.kind == "chat":
        turns = [comparable_words(turn.text) for turn in record.turns]
        return Words(turns[0], [], [word for turn in turns for word in turn])
    question = comparable_words(record.question)
    options = [comparable_words(option) for option in record.options]
    everything = [
        *comparable_words(record.context),
        *question,
        *(word for option in options for word in option),
        *comparable_words(record.answer),
    ]
    return Words(question, options, everything)


@dataclass(frozen=True)
class _Text:
    """One test text that a row may contain: which item's, how many of its runs count, how many must
    be met.
    """

    test: int
    wanted: int
    short: bool  # too short to accuse a multiple-choice row: that one has options to be known by


class KnownTests:
    """The test items in the form in which rows are compared with them. `ids`, `sources` and `langs`
    stand in the order of the items.
    """

    def __init__(self, records: Iterable[Record]):
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.langs: list[str] = []
        self._questions: dict[str, list[int]] = defaultdict(list)
        self._options: dict[frozenset[str], list[int]] = defaultdict(list)
        self._words: list[frozenset[str]] = []
        self._sets: list[frozenset[str]] = []
        texts: list[tuple[int, int, np.ndarray]] = []
        for record in records:
            texts += self._add(record)
        self._texts, self._hashes, self._starts, self._owners = _index(texts)
        # Nearly every run of a training row is in no test text: a table by the low bits says so
        # without a search among a million hashes.
        self._maybe = np.zeros(1 << 24 if len(self._hashes) > 1 << 16 else 1 << 16, bool)
        self._maybe[self._slots(self._hashes)] = True

    def _add(self, record: Record) -> list[tuple[int, int, np.ndarray]]:
        number, row = len(self.ids), row_words(record)
        self.ids.append(record.id)
        self.sources.append(record.source)
        self.langs.append(record.lang)
        options = frozenset(" ".join(option) for option in row.options)
        self._words.append(frozenset(row.question))
        self._sets.append(options)
        # A dialogue's greeting is no question; the whole of it is looked for instead.
        if record.kind != "chat" or len(row.question) >= SHORT_QUESTION:
            self._questions[" ".join(row.question)].append(number)
        if len(options) >= 3:
            self._options[options].append(number)
        looked_for = (
            [row.everything]
            if record.kind == "chat"
            else [row.question, comparable_words(record.context)]
        )
        return [
            (number, len(text), shingle_hashes(text))
            for text in looked_for
            if len(text) >= SHINGLE_WORDS
        ]

    def find(self, record: Record, row: Words, runs: np.ndarray) -> Leak | None:
        """The leak of a row, from its words and its `shingles`, or None."""
        asked = self._questions.get(" ".join(row.question))
        options = frozenset(" ".join(option) for option in row.options)
        if asked:
            short = record.kind == "mcqa" and len(row.question) < SHORT_QUESTION
            same = [
                n
                for n in asked
                if not short
                or not self._sets[n]
                or 2 * len(options & self._sets[n]) >= len(self._sets[n])
            ]
            if same:
                return Leak(same[0], "question")
        if (found := self._contained(runs, record.kind == "mcqa")) is not None:
            return Leak(found, "words")
        alike = self._options.get(options, ()) if len(options) >= 3 else ()
        if alike and len(alike) < STOCK:
            long = sum(map(len, row.options)) >= LONG_OPTIONS
            own = set(row.question)
            for number in alike:
                if long or len(own & self._words[number]) >= SAME_QUESTION_WORDS * len(
                    self._words[number]
                ):
                    return Leak(number, "options")
        return None

    def _slots(self, runs: np.ndarray) -> np.ndarray:
        return runs & np.uint64(len(self._maybe) - 1)

    def _contained(self, runs: np.ndarray, multiple_choice: bool) -> int | None:
        runs = runs[self._maybe[self._slots(runs)]]
        if not len(self._hashes) or not len(runs):
            return None
        places = np.minimum(np.searchsorted(self._hashes, runs), len(self._hashes) - 1)
        hits = places[self._hashes[places] == runs]
        if not len(hits):
            return None
        met = Counter(
            int(text)
            for place in hits
            for text in self._owners[self._starts[place] : self._starts[place + 1]]
        )
        whole = [(-count, text) for text, count in met.items() if count >= self._texts[text].wanted]
        found = [item for item in whole if not (multiple_choice and self._texts[item[1]].short)]
        return self._texts[min(found)[1]].test if found else None


def _index(
    texts: list[tuple[int, int, np.ndarray]],
) -> tuple[list[_Text], np.ndarray, np.ndarray, np.ndarray]:
    """(texts that can be looked for, sorted hashes, where each hash's owners start, owners as
    places among the texts).
    """
    none = np.zeros(0, np.uint64), np.zeros(1, np.int64), np.zeros(0, np.int32)
    if not texts:
        return [], *none
    # An item and its copy elsewhere (two subjects share a question) are one text here: only
    # different texts make a phrase stock.
    different = {runs.tobytes(): runs for _, _, runs in texts}
    hashes, times = np.unique(np.concatenate(list(different.values())), return_counts=True)
    stock = hashes[times >= STOCK]
    kept, pairs = [], []
    for test, length, runs in texts:
        own = runs[~np.isin(runs, stock, assume_unique=True)]
        wanted = len(own) if length < LONG_TEXT else int(np.ceil(LONG_SHARE * len(own)))
        if len(own):
            pairs.append((own, np.full(len(own), len(kept), np.int32)))
            kept.append(_Text(test, wanted, length < SHORT_QUESTION))
    if not kept:
        return [], *none
    all_hashes, owners = (
        np.concatenate([p[0] for p in pairs]),
        np.concatenate([p[1] for p in pairs]),
    )
    order = np.argsort(all_hashes, kind="stable")
    hashes, starts = np.unique(all_hashes[order], return_index=True)
    return kept, hashes, np.append(starts, len(order)), owners[order]
