"""Second step: from the features of all rows, one status for each row. Rows never vanish: the
statuses add up to what was read.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..core.errors import InputError
from ..core.provenance import shown_path
from . import near
from .compose import Cell
from .contamination import RULES, KnownTests
from .scan import Features, stamp_of
from .work import Map

STATUSES = ("ok", "duplicate", "leaked", "surplus", "held")
OK, DUPLICATE, LEAKED, SURPLUS, HELD = range(5)
# A test text that "leaks" into more rows than this (and more than `STOCK_SHARE` of all) is a stock
# phrase, not a test question.
STOCK_ROWS, STOCK_SHARE = 10, 2e-4
_WORDS_RULE = RULES.index("words")
Compose = Callable[[Mapping[tuple[str, str], int]], list[Cell]]


@dataclass
class Rows:
    """The features of all rows that could be read, as columns; see `scan` for their meaning."""

    table: pa.Table
    parts: list[Features]
    starts: np.ndarray  # where in the table each part begins
    groups: list[
        tuple[str, str, str, str, bool]
    ]  # (language, task, source, licence, may be published)
    group: np.ndarray
    aside: Counter

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """One plain column as an array."""
        return self.table[name].to_numpy()

    def unchanged(self) -> None:
        """Raises `InputError` when an input is no longer the file that was read."""
        for path, stamp in {
            part.piece.source.path: part.piece.stamp for part in self.parts
        }.items():
            if not path.is_file() or stamp_of(path) != stamp:
                raise InputError(
                    f"{shown_path(path)}: the file was changed or removed after it was read. Run again"
                    " from the first step"
                )

    def place(self, row: int) -> near.Place:
        """(file, offset, length) of a row's text."""
        part = self.parts[int(np.searchsorted(self.starts, row, side="right")) - 1]
        return str(part.piece.source.path), int(self._offsets[row]), int(self._lengths[row])

    def __post_init__(self):
        self._offsets, self._lengths = self.column("offset"), self.column("length")

    def by_group(self) -> list[tuple[tuple[str, str, str, str, bool], int]]:
        """((language, task, source, licence, may be passed on), rows) of the candidates, sorted."""
        sizes = np.bincount(self.group, minlength=len(self.groups))
        return sorted(zip(self.groups, sizes.tolist(), strict=True))

    def signatures(self) -> near.Signatures:
        """The signatures of all rows."""
        return near.Signatures(
            [chunk.flatten().to_numpy() for chunk in self.table["signature"].chunks]
        )


@dataclass
class Decision:
    """For each row: its status, why, and which row (or, for a leak, which test item) is the reason;
    see `STATUSES`.
    """

    status: np.ndarray
    other: np.ndarray  # number of the row it was compared with, -1 for none
    leak: np.ndarray  # place among the tests, -1 for none
    rule: np.ndarray  # place in leakage.RULES, -1 for none
    similarity: np.ndarray  # with `other`; 1.0 for equal content
    order: np.ndarray  # rank of each row: the order of the mix
    cells: list[Cell]
    stock: dict[int, int]  # test item taken for a stock phrase: rows that contain it


def load(parts: list[Features], skip_damaged: bool = False) -> Rows:
    """The stored features as one table, read from disk when used.

    Raises `InputError` naming every damaged file, unless `skip_damaged`: then all pieces of such a
    file are left out, for a file that is broken in one place cannot be trusted in another.
    """
    damaged = {part.piece.source.path: part.damage for part in reversed(parts) if part.damage}
    if damaged and not skip_damaged:
        raise InputError(
            "; ".join(damaged.values())
            + '. Mend or remove the file, or leave it out with DAMAGED_INPUT = "skip"'
        )
    kept = [part for part in parts if part.piece.source.path not in damaged]
    tables, groups, codes, aside = [], {}, [], Counter()
    for part in kept:
        table = pa.ipc.open_file(pa.memory_map(str(part.file))).read_all()
        own = [
            groups.setdefault(tuple(group), len(groups))
            for group in json.loads(table.schema.metadata[b"groups"])
        ]
        codes.append(
            np.array(own, np.int32)[table["group"].to_numpy()] if own else np.zeros(0, np.int32)
        )
        aside.update(json.loads(table.schema.metadata[b"aside"]))
        tables.append(table.replace_schema_metadata())
    if not sum(map(len, tables)):
        raise InputError("no candidate row: every input is empty or holds no usable training row")
    starts = np.cumsum([0, *map(len, tables)])[:-1]
    return Rows(pa.concat_tables(tables), kept, starts, list(groups), np.concatenate(codes), aside)


def decide(
    rows: Rows, similarity: float, compose: Compose, publish: bool = False, run_map: Map = map
) -> Decision:
    """The status of each row. `compose` turns {(task, language): rows available} into `Cell`s; with
    `publish` rows that may not be passed on are held back.

    Order of the rules: leaks, rows with the same id or content, near duplicates, licence,
    composition. A near duplicate or a translation of a leaked row is leaked; a translation is no
    duplicate, however much of it was left as it was.
    """
    n = len(rows)
    found = Decision(
        np.zeros(n, np.int8), np.full(n, -1), rows.column("leak").copy(), rows.column("rule").copy(), np.zeros(n, np.float32),
        rows.column("rank"), [], {},
    )  # fmt: skip
    content, priority, whole = rows.column("content"), rows.column("priority"), rows.column("whole")
    _stock_phrases(found, content)
    found.status[found.leak >= 0] = LEAKED
    family, lang = rows.column("family"), np.array([lang for lang, *_ in rows.groups])[rows.group]
    _families_of_leaks(found, family, whole)
    # Leaked rows first, so that what resembles one is found; then by priority and rank. Equal ids
    # are told apart by all their fields.
    order = np.lexsort((whole, found.order, priority, found.status != LEAKED))
    for values in (found.order, content):
        order = _first_of_each(found, order, values)

    def translations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (family[one] == family[other]) & (lang[one] != lang[other])

    alike = near.duplicates(
        rows.signatures(),
        order,
        lambda place: rows.place(int(order[place])),
        similarity,
        run_map,
        translations,
    )
    for place, (other, value) in alike.items():
        _drop(found, order[place], order[other], value)
    _name_those_that_stay(found, content)
    if publish:
        closed = np.array([not allowed for *_, allowed in rows.groups])[rows.group]
        found.status[closed & (found.status == OK)] = HELD
    _compose(rows, found, compose)
    return found


def _stock_phrases(found: Decision, content: np.ndarray) -> None:
    """Take back leaks by rule "words" of a test text that stands in too many different rows to be a
    leaked question.
    """
    by_words = np.flatnonzero(found.rule == _WORDS_RULE)
    limit = max(STOCK_ROWS, STOCK_SHARE * len(content))
    tests, times = np.unique(
        found.leak[by_words[np.unique(content[by_words], return_index=True)[1]]], return_counts=True
    )
    found.stock = {
        int(test): int(count) for test, count in zip(tests, times, strict=True) if count > limit
    }
    taken_back = by_words[np.isin(found.leak[by_words], list(found.stock))]
    found.leak[taken_back] = found.rule[taken_back] = -1


def _families_of_leaks(found: Decision, family: np.ndarray, whole: np.ndarray) -> None:
    """A translation of a leaked row asks the same test question, also where the test set itself has
    but one language.
    """
    leaked = np.flatnonzero(found.status == LEAKED)
    leaked = leaked[np.lexsort((whole[leaked], found.order[leaked]))]
    names, first = np.unique(family[leaked], return_index=True)
    kin = np.flatnonzero(np.isin(family, names) & (found.status == OK))
    found.status[kin] = LEAKED
    found.other[kin] = leaked[first[np.searchsorted(names, family[kin])]]


def _name_those_that_stay(found: Decision, content: np.ndarray) -> None:
    """A row equal to one that resembles a third resembles the third."""
    equal = np.flatnonzero((found.status == DUPLICATE) & (found.other >= 0))
    via = found.other[equal]
    again = (content[equal] == content[via]) & (found.other[via] >= 0)
    equal, via = equal[again], via[again]
    found.other[equal], found.similarity[equal] = found.other[via], found.similarity[via]


def _drop(found: Decision, row: int, other: int, similarity: float) -> None:
    if found.status[row] == LEAKED:
        return  # it has a reason of its own
    found.status[row] = LEAKED if found.status[other] == LEAKED else DUPLICATE
    found.other[row], found.similarity[row] = other, similarity


def _first_of_each(found: Decision, order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Drop the rows of `order` whose value stood before; returns the rows that stay."""
    own = values[order]
    _, first, inverse = np.unique(own, return_index=True, return_inverse=True)
    kept = np.zeros(len(order), bool)
    kept[first] = True
    for place in np.flatnonzero(~kept):
        _drop(found, order[place], order[first[inverse[place]]], 1.0)
    return order[kept]


def _compose(rows: Rows, found: Decision, compose: Compose) -> None:
    place = np.array([f"{task} {lang}" for lang, task, *_ in rows.groups])
    here = place[rows.group]
    alive = np.flatnonzero(found.status == OK)
    alive = alive[np.lexsort((found.order[alive], rows.column("priority")[alive]))]
    pools = {tuple(name.split(" ")): alive[here[alive] == name] for name in sorted(set(place))}
    found.cells = compose({name: len(pool) for name, pool in pools.items()})
    for cell in found.cells:
        pool = pools.get((cell.task, cell.lang), alive[:0])
        found.status[pool[cell.taken :]] = SURPLUS


def removed(rows: Rows, found: Decision, tests: KnownTests) -> Iterator[pa.RecordBatch]:
    """Every row that is not in the mix, with its reason: columns id, status, note, other, lang,
    source. In batches of bounded size.
    """
    ids = rows.table["id"]
    numbers = np.flatnonzero(found.status != OK)
    whys = {(cell.task, cell.lang): cell.why for cell in found.cells}
    for start in range(0, len(numbers), 50_000):
        part = numbers[start : start + 50_000]
        others = found.other[part]
        named = dict(
            zip(
                others[others >= 0].tolist(),
                ids.take(pa.array(others[others >= 0])).to_pylist(),
                strict=True,
            )
        )
        lines = []
        for row, row_id in zip(part.tolist(), ids.take(pa.array(part)).to_pylist(), strict=True):
            lang, task, source, licence, _ = rows.groups[rows.group[row]]
            other, note = named.get(int(found.other[row]), ""), whys.get((task, lang), "")
            if found.status[row] == HELD:
                note = f"licence: {licence}"
            elif found.leak[row] >= 0:
                other, note = tests.ids[found.leak[row]], f"asks it: {RULES[found.rule[row]]}"
            elif other:
                value = found.similarity[row]
                note = (
                    "same id or content"
                    if value >= 1
                    else f"similarity {value:.2f}"
                    if value
                    else "parallel to a row"
                )
                note += ", which is leaked" if found.status[row] == LEAKED else ""
            lines.append((row_id, STATUSES[found.status[row]], note, other, lang, source))
        yield pa.record_batch(
            [pa.array(column, pa.string()) for column in zip(*lines, strict=True)], names=REMOVED
        )


REMOVED = ["id", "status", "note", "other", "lang", "source"]
