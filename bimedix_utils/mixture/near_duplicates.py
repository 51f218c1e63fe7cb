"""Near duplicates among millions of rows: candidate pairs from MinHash bands, compared exactly.

A row is a near duplicate when an earlier row that is kept shares at least `similarity` of its
5-grams (Jaccard). "Earlier" is an order that does not depend on the files, so another order of the
input gives the same set of rows. Signatures stay on disk.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ..core.shingles import PERMUTATIONS, bands_for, jaccard, shingle_hashes, signature_band
from .contamination import row_words
from .parallel import Map
from .scan import parse_row

# Rows after it that a row is compared with in one band: rows of one template can share a band by
# the thousand. And the first rows of that band, which are those that would be kept.
NEIGHBOURS, HEADS = 32, 4
PAIRS = 1_000  # compared in one call of a worker
# A pair whose estimate lies more standard errors below the threshold is not compared exactly.
DEVIATIONS = 4
BATCH_PAIRS = 50_000

Location = tuple[str, int, int]  # (file, offset, length) of a row


class Signatures:
    """The MinHash signatures of all rows, read from the stored features when asked for."""

    def __init__(self, columns: list[np.ndarray]):
        self._parts = [column.reshape(-1, PERMUTATIONS) for column in columns]
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def band(self, number: int, width: int) -> np.ndarray:
        """The key of every row in one band. Shape (rows,), uint64."""
        return np.concatenate([signature_band(part, number, width) for part in self._parts])

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Shape (len(numbers), PERMUTATIONS)."""
        found = np.empty((len(numbers), PERMUTATIONS), np.uint32)
        parts = np.searchsorted(self._starts, numbers, side="right") - 1
        for part in np.unique(parts):
            mine = parts == part
            found[mine] = self._parts[part][numbers[mine] - self._starts[part]]
        return found


def _candidate_pairs(
    signatures: Signatures, order: np.ndarray, similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share a band and whose estimated similarity is not far below the threshold.

    Pairs are positions in `order` (row numbers), shape (pairs, 2), the earlier first, sorted by the
    later one. Then True for each position that shares a band with too many rows to pair them all.
    """
    bands, width = bands_for(similarity)
    n = np.uint64(len(order))
    codes, crowded = np.zeros(0, np.uint64), np.zeros(len(order), bool)
    found = []
    for number in range(bands):
        keys = signatures.band(number, width)[order]
        by_key = np.argsort(keys, kind="stable")  # equal keys together, in the order of the rows
        keys, at = keys[by_key], by_key.astype(np.uint64)
        for lag in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(keys[lag:] == keys[:-lag])
            if not len(same):
                break
            found.append(at[same] * n + at[same + lag])
        else:
            firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            sizes = np.diff(np.append(firsts, len(order)))
            big = sizes > NEIGHBOURS + 1
            for first, size in zip(firsts[big], sizes[big], strict=True):
                crowded[by_key[first : first + size]] = True
                for head in range(first, first + HEADS):
                    found.append(at[head] * n + at[head + NEIGHBOURS + 1 : first + size])
        if number % 4 == 3 or number == bands - 1:
            # The same pair often shares several bands: keep the list short.
            codes, found = np.unique(np.concatenate([codes, *found])), []
    # The share of equal signature values estimates the similarity; its standard error is that of a
    # binomial share.
    least = similarity - DEVIATIONS * (similarity * (1 - similarity) / PERMUTATIONS) ** 0.5
    kept = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(codes), BATCH_PAIRS):
        pairs = np.stack(np.divmod(codes[start : start + BATCH_PAIRS], n), 1).astype(np.int64)
        one, other = (signatures.rows(order[pairs[:, side]]) for side in (0, 1))
        kept.append(pairs[(one == other).mean(1) >= least])
    pairs = np.concatenate(kept)
    return pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))], crowded


def _similarities(pairs: list[tuple[Location, Location]]) -> list[float]:
    """The exact similarity of each pair of rows, read again from their files."""
    known: dict[Location, np.ndarray] = {}

    def shingles(location: Location) -> np.ndarray:
        if location not in known:
            path, offset, length = location
            with open(path, "rb") as handle:
                handle.seek(offset)
                record = parse_row(handle.read(length), Path(path), offset)
            known[location] = shingle_hashes(row_words(record).everything)
        return known[location]

    return [jaccard(shingles(one), shingles(other)) for one, other in pairs]


def _similar_pairs(
    pairs: np.ndarray, locate: Callable[[int], Location], similarity: float, run_map: Map
) -> Iterator[tuple[int, int, float]]:
    """(earlier, later, similarity) of the pairs that reach the threshold."""

    def batches() -> Iterator[list[tuple[Location, Location]]]:
        rows = iter(pairs.tolist())
        while part := list(islice(rows, PAIRS)):
            yield [(locate(one), locate(other)) for one, other in part]

    values = (value for part in run_map(_similarities, batches()) for value in part)
    for (one, other), value in zip(pairs.tolist(), values, strict=True):
        if value >= similarity - 1e-9:
            yield one, other, value


def find_near_duplicates(
    signatures: Signatures,
    order: np.ndarray,
    locate: Callable[[int], Location],
    similarity: float,
    run_map: Map,
    parallel_rows: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[int, tuple[int, float]]:
    """{position in `order`: (position of the kept row it resembles, their similarity)}.

    `locate(position)` says where a row lies. `parallel_rows(earlier, later)` tells by row numbers
    which pairs are a row and its translation: those are never duplicates.
    """
    dropped: dict[int, tuple[int, float]] = {}
    left = np.arange(len(order))
    while True:
        neighbours: dict[int, list[tuple[int, float]]] = defaultdict(list)
        pairs, crowded = _candidate_pairs(signatures, order[left], similarity)
        pairs = left[pairs]
        pairs = pairs[~parallel_rows(order[pairs[:, 0]], order[pairs[:, 1]])]
        for one, other, value in _similar_pairs(pairs, locate, similarity, run_map):
            neighbours[other].append((one, value))
        for later in sorted(neighbours):
            kept = [(one, value) for one, value in neighbours[later] if one not in dropped]
            if kept:
                dropped[later] = kept[0]
        # The rows that stay of crowded bands are compared again, now with nearer neighbours, as
        # long as that halves the work.
        before, left = np.count_nonzero(crowded), left[crowded]
        left = left[[position not in dropped for position in left.tolist()]]
        if len(left) < 2 or 2 * len(left) > before:
            return dropped
