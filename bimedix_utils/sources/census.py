"""Counts kept while rows go by: what notebook 01 shows of a million rows without holding them."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..core.records import LABELS, IdSet, Record, hash64, iter_jsonl
from .composition import paper_component


class AlignedTranslations(NamedTuple):
    """How translated rows match their English originals, in rows."""

    pairs: int  # English rows with at least one translation
    without_original: int  # translated rows whose English original is not here
    key_mismatches: int  # multiple-choice translations with another key than their original


class Census:
    """Pass rows through `counted`, then ask. Memory grows by 17 bytes a row at most."""

    def __init__(self) -> None:
        self.files: list[tuple[str, int, int]] = []  # (name, rows, rows that are not ok)
        self.rows = 0
        self.statuses: Counter[str] = Counter()
        self.notes: Counter[tuple[str, str]] = Counter()  # (source, note) of rows that are not ok
        self.kinds: Counter[str] = Counter({"mcqa": 0, "qa": 0, "chat": 0})
        # by (source, language, split, licence)
        self.table: Counter[tuple[str, str, str, str]] = Counter()
        self.keys: dict[tuple[str, str], Counter[str]] = {}
        # training rows by (component of the paper, language)
        self.components: Counter[tuple[str, str]] = Counter()
        self.ids = IdSet()
        self._english, self._english_keys = array("Q"), array("b")
        self._parents, self._parent_keys = array("Q"), array("b")

    def counted(self, name: str, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, counted as the rows of file `name`."""
        rows = unusable = 0
        for record in records:
            self._add(record)
            rows, unusable = rows + 1, unusable + (record.status != "ok")
            yield record
        self.files.append((name, rows, unusable))

    def _add(self, record: Record) -> None:
        self.rows += 1
        self.ids.add(record.id)
        self.statuses[record.status] += 1
        self.kinds[record.kind] += 1
        self.table[record.source, record.lang, record.split, record.licence] += 1
        if record.status != "ok":
            self.notes[record.source, record.note] += 1
        elif record.split == "train" and (part := paper_component(record.source, record.kind)):
            self.components[part, record.lang] += 1
        key = -1
        if record.kind == "mcqa":
            key = record.answer_index
            self.keys.setdefault((record.source, record.lang), Counter())[LABELS[key]] += 1
        if record.lang == "en":
            self._english.append(hash64(record.id))
            self._english_keys.append(key)
        else:
            self._parents.append(hash64(record.parent_id or ""))
            self._parent_keys.append(key)

    @property
    def parts(self) -> Counter[str]:
        """{"<source> <language> <split>": rows}, for `catalogue_overview`."""
        found: Counter[str] = Counter()
        for (source, lang, split, _), rows in self.table.items():
            found[f"{source} {lang} {split}"] += rows
        return found

    def balance(self) -> list[tuple[str, str, int, str, str, float]]:
        """(source, language, rows, keys, most frequent key, its share) of each exam."""
        rows = []
        for (source, lang), keys in sorted(self.keys.items()):
            counts = ", ".join(f"{key} {n}" for key, n in sorted(keys.items()))
            most = min(keys, key=lambda key: (-keys[key], key))
            share = round(keys[most] / keys.total(), 3)
            rows.append((source, lang, keys.total(), counts, most, share))
        return rows

    def aligned_translations(self) -> AlignedTranslations:
        """How the translated rows match the English ones."""
        import numpy

        english = numpy.array(self._english, numpy.uint64)
        parents = numpy.array(self._parents, numpy.uint64)
        if not len(english) or not len(parents):
            return AlignedTranslations(0, len(parents), 0)
        order = numpy.argsort(english, kind="stable")
        english, keys = english[order], numpy.array(self._english_keys, numpy.int8)[order]
        translated_keys = numpy.array(self._parent_keys, numpy.int8)
        index = numpy.minimum(numpy.searchsorted(english, parents), len(english) - 1)
        found = english[index] == parents
        mismatch = found & (translated_keys >= 0) & (translated_keys != keys[index])
        pairs = len(numpy.unique(parents[found]))
        return AlignedTranslations(pairs, int((~found).sum()), int(mismatch.sum()))


def example_pairs(path: Path, most: int = 100) -> dict[str, tuple[Record, Record]]:
    """{kind: (English row, its translation)}: the first pair of each kind in a file of records,
    among the first `most` translations of that kind. Two passes, a few rows in memory.
    """
    translated: dict[str, Record] = {}
    counts: Counter[str] = Counter()
    for record in iter_jsonl(path):
        if record.lang != "en" and record.parent_id and counts[record.kind] < most:
            counts[record.kind] += 1
            translated[record.parent_id] = record
    found: dict[str, tuple[Record, Record]] = {}
    for record in iter_jsonl(path):
        if record.lang == "en" and record.id in translated and record.kind not in found:
            found[record.kind] = (record, translated[record.id])
    return found
