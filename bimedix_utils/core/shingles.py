"""Near duplicates: texts that share most of their word 5-grams, found by MinHash.

Texts are compared in the form of `text.match_key`. A text is the set of its 5-grams ("shingles"),
each a 64-bit hash: the chance that two different shingles of one pair of texts have the same hash
is below one in 10^13. Two sets are compared by their Jaccard similarity.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .text import match_key

SHINGLE_WORDS = 5  # words in one shingle
PERMUTATIONS = 126
# (bands, values in a band). The chance to share a band is 0.998 for a pair of Jaccard 0.8 (strict),
# 0.99996 for one of 0.6 (loose).
_STRICT, _LOOSE = (21, 6), (42, 3)
_KNOWN_WORDS = 500_000  # hashes kept: bounds the memory of a long scan
_SEED = 42  # of the permutations: part of what a stored signature means


class _WordHashes(dict):
    """Eight bytes for each word. Bytes, not numbers: joined they are an array at once, and this is
    the inner loop of the big build.
    """

    def __missing__(self, word: str) -> bytes:
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        raw = word.encode("utf-8", "surrogatepass")
        value = self[word] = hashlib.blake2b(raw, digest_size=8).digest()
        return value


_hash_of = _WordHashes().__getitem__


def comparable_words(text: str) -> list[str]:
    """The words of a text in the form used for matching."""
    return match_key(text).split()


def shingle_hashes(words: Sequence[str]) -> np.ndarray:
    """Sorted, distinct 64-bit hashes of the word 5-grams; fewer words make one shingle.

    Shape (n,), uint64.
    """
    values = np.frombuffer(b"".join(map(_hash_of, words)), "<u8")
    length = min(SHINGLE_WORDS, len(values))
    hashes = np.full(max(1, len(values) - SHINGLE_WORDS + 1), length, np.uint64)
    for position in range(length):
        # Multiply, add, fold the high half down: order counts, and no two positions cancel.
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= values[position : position + len(hashes)]
        hashes ^= hashes >> np.uint64(32)
    hashes.sort()
    # np.unique, without the hash table that it builds first.
    return hashes[np.concatenate(([True], hashes[1:] != hashes[:-1]))]


def signatures(sets: Sequence[np.ndarray]) -> np.ndarray:
    """MinHash signatures of sets of shingles. Shape (len(sets), PERMUTATIONS), uint32."""
    from rensa import RMinHash

    if not len(sets):
        return np.zeros((0, PERMUTATIONS), np.uint32)
    ends = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
    flat = np.concatenate(sets)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(flat, ends, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def signature_band(signature: np.ndarray, number: int, width: int) -> np.ndarray:
    """One 64-bit key for each signature from the `width` values of one band. Shape (n,), uint64."""
    key = np.full(len(signature), number, np.uint64)
    for column in range(number * width, (number + 1) * width):
        key = (key * np.uint64(0x9E3779B97F4A7C15)) ^ signature[:, column]
        key ^= key >> np.uint64(29)
    return key


def bands_for(similarity: float) -> tuple[int, int]:
    """(bands, values in a band) that hardly miss a pair of this similarity."""
    return _STRICT if similarity >= 0.75 else _LOOSE


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared shingles / all shingles of two sorted sets, 0..1."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def near_duplicates(
    texts: Iterable[tuple[str, str]], similarity: float, kept: int = 1
) -> Iterator[tuple[str, str | None]]:
    """(id, id of the text it resembles or None) for each (id, text), in order, all in memory.

    For thousands of texts; `mixture` compares millions. A text is surplus when `kept` earlier texts
    share at least `similarity` (0..1) of their shingles with it. Candidates share a band of their
    signatures, which misses few pairs near the threshold; each candidate is compared exactly.
    """
    bands, width = bands_for(similarity)
    seen: dict[str, np.ndarray] = {}
    index: dict[tuple[int, int], list[str]] = defaultdict(list)
    for row_id, text in texts:
        own = shingle_hashes(comparable_words(text))
        signature = signatures([own])
        keys = [(band, int(signature_band(signature, band, width)[0])) for band in range(bands)]
        candidates = {other for key in keys for other in index.get(key, ())}
        least = similarity - 1e-9
        alike = sorted(other for other in candidates if jaccard(own, seen[other]) >= least)
        if len(alike) >= kept:
            yield row_id, alike[0]
            continue
        for key in keys:
            index[key].append(row_id)
        seen[row_id] = own
        yield row_id, None
