"""Near duplicates among millions of rows: candidate pairs from banded signatures, each pair
compared exactly, the rest out of core.

A row is a near duplicate when a row before it that is kept shares at least `similarity` of its word
runs (Jaccard). "Before" is an order that does not depend on the files, so another order of the
input gives the same set of rows.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ..core.shingles import PERMUTATIONS, bands_for, jaccard, shingle_hashes, signature_band
from .contamination import row_words
from .scan import parse
from .work import Map

# neighbours a row is compared with in one band; rows of one template can share a band by the
# thousand
WINDOW = 32
HEADS = 4  # and the first rows of that band, which are those that would be kept
PAIRS = 1_000  # compared in one piece of work
# candidates whose estimate lies more standard errors below the threshold are not compared exactly
DEVIATIONS = 4

Place = tuple[str, int, int]  # (file, offset, length) of a row


class Signatures:
    """The signatures of all rows, read from the stored features when asked for."""

    def __init__(self, columns: list[np.ndarray]):
        self._parts = [column.reshape(-1, PERMUTATIONS) for column in columns]
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def band(self, number: int, width: int) -> np.ndarray:
        """The key of every row in one band. Shape (rows,), uint64."""
        return (
            np.concatenate([signature_band(part, number, width) for part in self._parts])
            if self._parts
            else np.zeros(0, np.uint64)
        )

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Shape (len(numbers), PERMUTATIONS)."""
        found = np.empty((len(numbers), PERMUTATIONS), np.uint32)
        parts = np.searchsorted(self._starts, numbers, side="right") - 1
        for part in np.unique(parts):
            mine = parts == part
            found[mine] = self._parts[part][numbers[mine] - self._starts[part]]
        return found


def candidates(
    signatures: Signatures, order: np.ndarray, similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of places in `order` that share a band and whose estimated similarity is not far below
    the threshold.

    Shape (pairs, 2), the earlier place first, sorted by the later one. `order` holds row numbers.
    Then True for each place that shares a band with so many that not all of them are among the
    pairs.
    """
    bands, width = bands_for(similarity)
    n, found, crowded = len(order), [], np.zeros(len(order), bool)
    for number in range(bands):
        keys = signatures.band(number, width)[order]
        by_key = np.argsort(
            keys, kind="stable"
        )  # places, equal keys together, each group in the order of the rows
        keys = keys[by_key]
        for lag in range(1, WINDOW + 1):
            same = np.flatnonzero(keys[lag:] == keys[:-lag])
            if not len(same):
                break
            found.append(
                by_key[same].astype(np.uint64) * np.uint64(n) + by_key[same + lag].astype(np.uint64)
            )
        else:
            firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            sizes = np.diff(np.append(firsts, n))
            for first, size in zip(
                firsts[sizes > WINDOW + 1], sizes[sizes > WINDOW + 1], strict=True
            ):
                crowded[by_key[first : first + size]] = True
                for head in range(HEADS):
                    later = by_key[first + head + WINDOW + 1 : first + size].astype(np.uint64)
                    found.append(np.uint64(by_key[first + head]) * np.uint64(n) + later)
        if number % 4 == 3:  # the same pair often shares several bands: keep the list short
            found = [np.unique(np.concatenate(found))] if found else []
    codes = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)
    error = DEVIATIONS * (similarity * (1 - similarity) / PERMUTATIONS) ** 0.5
    kept = []
    for start in range(0, len(codes), 50_000):
        part = codes[start : start + 50_000]
        one, other = (part // np.uint64(n)).astype(np.int64), (part % np.uint64(n)).astype(np.int64)
        equal = (signatures.rows(order[one]) == signatures.rows(order[other])).mean(1)
        likely = equal >= similarity - error
        kept.append(np.stack([one[likely], other[likely]], 1))
    pairs = np.concatenate(kept) if kept else np.zeros((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))], crowded


def compare(places: list[tuple[Place, Place]]) -> list[float]:
    """The exact similarity of each pair of rows, read again from their files."""
    known: dict[Place, np.ndarray] = {}

    def runs(place: Place) -> np.ndarray:
        if place not in known:
            path, offset, length = place
            with open(path, "rb") as handle:
                handle.seek(offset)
                known[place] = shingle_hashes(
                    row_words(parse(handle.read(length), Path(path), offset)).everything
                )
        return known[place]

    return [jaccard(runs(one), runs(other)) for one, other in places]


def exact(
    pairs: np.ndarray, place_of, similarity: float, run_map: Map
) -> Iterator[tuple[int, int, float]]:
    """(earlier, later, similarity) of the pairs that reach the threshold; `place_of(place in the
    order)` says where a row lies.
    """

    def work() -> Iterator[list[tuple[Place, Place]]]:
        rows = iter(pairs.tolist())
        while part := list(islice(rows, PAIRS)):
            yield [(place_of(one), place_of(other)) for one, other in part]

    results = (value for part in run_map(compare, work()) for value in part)
    for (one, other), value in zip(pairs.tolist(), results, strict=True):
        if value >= similarity - 1e-9:
            yield one, other, value


def duplicates(
    signatures: Signatures,
    order: np.ndarray,
    place_of,
    similarity: float,
    run_map: Map = map,
    translations=None,
) -> dict[int, tuple[int, float]]:
    """{place in `order`: (place of the kept row it resembles, their similarity)}.

    `translations(earlier, later)` tells by row numbers which pairs are a row and its translation:
    those are never duplicates.
    """
    dropped: dict[int, tuple[int, float]] = {}
    left = np.arange(len(order))
    while True:
        neighbours: dict[int, list[tuple[int, float]]] = defaultdict(list)
        pairs, crowded = candidates(signatures, order[left], similarity)
        pairs = left[pairs]
        if translations:
            pairs = pairs[~translations(order[pairs[:, 0]], order[pairs[:, 1]])]
        for one, other, value in exact(pairs, place_of, similarity, run_map):
            neighbours[other].append((one, value))
        for later in sorted(neighbours):
            like = [(one, value) for one, value in neighbours[later] if one not in dropped]
            if like:
                dropped[later] = like[0]
        # What stays of crowded bands is compared again, now with nearer neighbours, as long as that
        # halves the work.
        before, left = np.count_nonzero(crowded), left[crowded]
        left = left[[place not in dropped for place in left.tolist()]]
        if len(left) < 2 or 2 * len(left) > before:
            return dropped
