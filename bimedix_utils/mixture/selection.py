"""Second step: from the features of all rows, one status for each row.

Rows never vanish: the statuses add up to the candidates.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..core.errors import InputError
from ..core.provenance import shown_path
from .compose import Counts, MixCell
from .contamination import RULES, KnownTests
from .near_duplicates import Location, Signatures, find_near_duplicates
from .parallel import Map
from .scan import Features, file_stamp

MIX_STATUSES = ("ok", "duplicate", "contaminated", "surplus", "held")
OK, DUPLICATE, CONTAMINATED, SURPLUS, HELD = range(5)
# A test text found in more different rows than this (and than this share of all) is a stock phrase,
# not a test question.
STOCK_ROWS, STOCK_SHARE = 10, 2e-4
REMOVED_COLUMNS = ("id", "status", "note", "other", "lang", "source")
Group = tuple[str, str, str, str, bool]  # language, task, source, licence, may be published


@dataclass
class Candidates:
    """The features of all rows that could be read, as columns; see `scan` for their meaning."""

    table: pa.Table
    parts: list[Features]
    starts: np.ndarray  # where in the table each part begins
    groups: list[Group]
    group: np.ndarray  # index in `groups` of each row
    excluded: Counter  # rows that are no candidates, by reason

    def __post_init__(self):
        self._offsets, self._lengths = self.column("offset"), self.column("length")

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """One plain column as an array."""
        return self.table[name].to_numpy()

    def check_unchanged(self) -> None:
        """Raises `InputError` when an input is no longer the file that was read."""
        stamps = {part.chunk.source.path: part.chunk.stamp for part in self.parts}
        for path, stamp in stamps.items():
            if not path.is_file() or file_stamp(path) != stamp:
                raise InputError(
                    f"{shown_path(path)}: the file was changed or removed after it was read. Run"
                    " again from the first step"
                )

    def locate(self, row: int) -> Location:
        """(file, offset, length) of a row's text."""
        part = self.parts[int(np.searchsorted(self.starts, row, side="right")) - 1]
        return str(part.chunk.source.path), int(self._offsets[row]), int(self._lengths[row])

    def by_group(self) -> list[tuple[Group, int]]:
        """(group, candidates of it), sorted."""
        sizes = np.bincount(self.group, minlength=len(self.groups))
        return sorted(zip(self.groups, sizes.tolist(), strict=True))

    def signatures(self) -> Signatures:
        """The MinHash signatures of all rows."""
        chunks = self.table["signature"].chunks
        return Signatures([chunk.flatten().to_numpy() for chunk in chunks])


@dataclass
class Selection:
    """For each row: its status, why, and which row or test item is the reason."""

    status: np.ndarray  # index in `MIX_STATUSES`
    other: np.ndarray  # number of the row it was compared with, -1 for none
    test: np.ndarray  # index of the test item it repeats, -1 for none
    rule: np.ndarray  # index in `contamination.RULES`, -1 for none
    similarity: np.ndarray  # with `other`; 1.0 for equal content
    rank: np.ndarray  # pseudo-random: the order of the mix
    cells: list[MixCell]
    stock: dict[int, int]  # {test item taken for a stock phrase: rows that contain it}

    def taken_by_language(self) -> dict[str, int]:
        """{language: rows in the mix}, sorted."""
        langs = sorted({cell.lang for cell in self.cells})
        return {lang: sum(c.taken for c in self.cells if c.lang == lang) for lang in langs}

    def counts(self) -> dict[str, int]:
        """{status: rows}; they add up to the candidates."""
        codes, sizes = np.unique(self.status, return_counts=True)
        return {MIX_STATUSES[c]: n for c, n in zip(codes, sizes.tolist(), strict=True)}


def load_features(parts: list[Features], skip_damaged: bool = False) -> Candidates:
    """The stored features as one table, read from disk when used.

    Raises `InputError` naming every damaged file, unless `skip_damaged`: then all chunks of such a
    file are left out, for a file that is broken in one place cannot be trusted in another.
    """
    damaged = {part.chunk.source.path: part.damage for part in reversed(parts) if part.damage}
    if damaged and not skip_damaged:
        raise InputError(
            "; ".join(damaged.values())
            + '. Repair or remove the file, or leave it out with DAMAGED_INPUT = "skip"'
        )
    kept = [part for part in parts if part.chunk.source.path not in damaged]
    tables, groups, codes, excluded = [], {}, [], Counter()
    for part in kept:
        table = pa.ipc.open_file(pa.memory_map(str(part.file))).read_all()
        facts = {name: json.loads(value) for name, value in table.schema.metadata.items()}
        own = [groups.setdefault(tuple(group), len(groups)) for group in facts[b"groups"]]
        codes.append(np.array(own, np.int32)[table["group"].to_numpy()])
        excluded.update(facts[b"excluded"])
        tables.append(table.replace_schema_metadata())
    if not sum(map(len, tables)):
        raise InputError("no candidate row: every input is empty or holds no usable training row")
    starts = np.cumsum([0, *map(len, tables)])[:-1]
    table, group = pa.concat_tables(tables), np.concatenate(codes)
    return Candidates(table, kept, starts, list(groups), group, excluded)


def select(
    rows: Candidates,
    similarity: float,
    compose: Callable[[Counts], list[MixCell]],
    publish: bool = False,
    run_map: Map = map,
) -> Selection:
    """The status of each row. With `publish`, rows that may not be passed on are held back.

    Order of the rules: test questions, rows with the same id or content, near duplicates, licence,
    composition. A near duplicate or a translation of a contaminated row is contaminated. A
    translation is no duplicate, however little of the text was translated.
    """
    n = len(rows)
    status, similar = np.zeros(n, np.int8), np.zeros(n, np.float32)
    test, rule = rows.column("test").copy(), rows.column("rule").copy()
    found = Selection(status, np.full(n, -1), test, rule, similar, rows.column("rank"), [], {})
    content, record, family = (rows.column(name) for name in ("content", "record", "family"))
    lang = np.array([lang for lang, *_ in rows.groups])[rows.group]
    _ignore_stock_phrases(found, content)
    status[test >= 0] = CONTAMINATED
    _spread_to_translations(found, family, record)
    # Contaminated rows first, so that what resembles one is found; then by priority and rank. Equal
    # ids are told apart by all their fields.
    order = np.lexsort((record, found.rank, rows.column("priority"), status != CONTAMINATED))
    for values in (found.rank, content):
        order = _keep_first_of_each(found, order, values)

    def parallel_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (family[one] == family[other]) & (lang[one] != lang[other])

    alike = find_near_duplicates(
        rows.signatures(),
        order,
        lambda position: rows.locate(int(order[position])),
        similarity,
        run_map,
        parallel_rows,
    )
    for position, (other, value) in alike.items():
        _drop(found, order[position], order[other], value)
    _name_the_kept_row(found, content)
    if publish:
        closed = np.array([not allowed for *_, allowed in rows.groups])[rows.group]
        status[closed & (status == OK)] = HELD
    _fill_cells(rows, found, compose)
    return found


def _ignore_stock_phrases(found: Selection, content: np.ndarray) -> None:
    """Take back matches by n-grams of a test text that is in too many different rows."""
    by_ngrams = np.flatnonzero(found.rule == RULES.index("n-grams"))
    different = by_ngrams[np.unique(content[by_ngrams], return_index=True)[1]]
    tests, times = np.unique(found.test[different], return_counts=True)
    stock = times > max(STOCK_ROWS, STOCK_SHARE * len(content))
    found.stock = dict(zip(tests[stock].tolist(), times[stock].tolist(), strict=True))
    taken_back = by_ngrams[np.isin(found.test[by_ngrams], tests[stock])]
    found.test[taken_back] = found.rule[taken_back] = -1


def _spread_to_translations(found: Selection, family: np.ndarray, record: np.ndarray) -> None:
    """A translation of a contaminated row asks the same test question.

    Also where the test set itself has but one language.
    """
    matched = np.flatnonzero(found.status == CONTAMINATED)
    matched = matched[np.lexsort((record[matched], found.rank[matched]))]
    names, first = np.unique(family[matched], return_index=True)
    related = np.flatnonzero(np.isin(family, names) & (found.status == OK))
    found.status[related] = CONTAMINATED
    found.other[related] = matched[first[np.searchsorted(names, family[related])]]


def _name_the_kept_row(found: Selection, content: np.ndarray) -> None:
    """A row equal to one that resembles a third resembles the third."""
    equal = np.flatnonzero((found.status == DUPLICATE) & (found.other >= 0))
    via = found.other[equal]
    again = (content[equal] == content[via]) & (found.other[via] >= 0)
    equal, via = equal[again], via[again]
    found.other[equal], found.similarity[equal] = found.other[via], found.similarity[via]


def _drop(found: Selection, row: int, other: int, similarity: float) -> None:
    if found.status[row] == CONTAMINATED:
        return  # it has a reason of its own
    matched = found.status[other] == CONTAMINATED
    found.status[row] = CONTAMINATED if matched else DUPLICATE
    found.other[row], found.similarity[row] = other, similarity


def _keep_first_of_each(found: Selection, order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Drop the rows of `order` whose value occurred before; returns the rows that stay."""
    _, first, inverse = np.unique(values[order], return_index=True, return_inverse=True)
    kept = np.zeros(len(order), bool)
    kept[first] = True
    for position in np.flatnonzero(~kept):
        _drop(found, order[position], order[first[inverse[position]]], 1.0)
    return order[kept]


def _fill_cells(
    rows: Candidates, found: Selection, compose: Callable[[Counts], list[MixCell]]
) -> None:
    """Low priorities first, then by rank; what a cell does not take is surplus."""
    cells = [(task, lang) for lang, task, *_ in rows.groups]
    names = sorted(set(cells))
    cell = np.array([names.index(name) for name in cells])[rows.group]
    usable = np.flatnonzero(found.status == OK)
    usable = usable[np.lexsort((found.rank[usable], rows.column("priority")[usable]))]
    pools = {name: usable[cell[usable] == i] for i, name in enumerate(names)}
    found.cells = compose({name: len(pool) for name, pool in pools.items()})
    for part in found.cells:
        pool = pools.get((part.task, part.lang), usable[:0])
        found.status[pool[part.taken :]] = SURPLUS


def removed_rows(rows: Candidates, found: Selection, tests: KnownTests) -> Iterator[pa.RecordBatch]:
    """Every row that is not in the mix, with its reason: `REMOVED_COLUMNS`, in bounded batches."""
    ids = rows.table["id"]
    numbers = np.flatnonzero(found.status != OK)
    why = {(cell.task, cell.lang): cell.why for cell in found.cells}
    for start in range(0, len(numbers), 50_000):
        part = numbers[start : start + 50_000]
        others = found.other[part]
        named = ids.take(pa.array(np.maximum(others, 0))).to_pylist()
        lines = []
        own = ids.take(pa.array(part)).to_pylist()
        for row, row_id, number, other in zip(part, own, others, named, strict=True):
            lang, task, source, licence, _ = rows.groups[rows.group[row]]
            other = other if number >= 0 else ""
            if found.status[row] == HELD:
                note = f"licence: {licence}"
            elif found.test[row] >= 0:
                other = tests.ids[found.test[row]]
                note = f"same test question by: {RULES[found.rule[row]]}"
            elif other:
                note = _note_of_copy(found.similarity[row], found.status[row] == CONTAMINATED)
            else:
                note = why.get((task, lang), "")
            lines.append((row_id, MIX_STATUSES[found.status[row]], note, other, lang, source))
        columns = [pa.array(column, pa.string()) for column in zip(*lines, strict=True)]
        yield pa.record_batch(columns, names=list(REMOVED_COLUMNS))


def _note_of_copy(similarity: float, contaminated: bool) -> str:
    if similarity >= 1:
        note = "same id or content"
    else:
        note = f"similarity {similarity:.2f}" if similarity else "translation of a row"
    return note + (", which is contaminated" if contaminated else "")
