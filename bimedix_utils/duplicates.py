"""Near duplicates: texts that share most of their word sequences, found by MinHash without comparing every pair."""

from collections.abc import Iterable, Iterator

from .text import match_key

WORDS = 4  # words in one shingle
PERMUTATIONS = 128


def shingles(text: str) -> set[str]:
    """The runs of `WORDS` words of a text, in the form used for matching; a shorter text is one shingle."""
    words = match_key(text).split()
    return {" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))}


def near_duplicates(texts: Iterable[tuple[str, str]], similarity: float, kept: int = 1) -> Iterator[tuple[str, str | None]]:
    """(id, id of the text it resembles or None) for each (id, text), in order.

    A text is surplus when `kept` texts before it share at least `similarity` (0..1) of their shingles with it (Jaccard). Candidates come
    from a locality-sensitive index, which may miss a pair near the threshold; each candidate is then compared exactly.
    """
    from datasketch import MinHash, MinHashLSH

    index, seen = MinHashLSH(threshold=max(0.1, similarity - 0.15), num_perm=PERMUTATIONS), {}
    for row_id, text in texts:
        own = shingles(text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch(part.encode("utf-8") for part in own)
        alike = sorted(i for i in index.query(sketch) if len(own & seen[i]) >= similarity * len(own | seen[i]) - 1e-9)
        if len(alike) >= kept:
            yield row_id, alike[0]
            continue
        index.insert(row_id, sketch)
        seen[row_id] = own
        yield row_id, None
