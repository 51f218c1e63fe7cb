"""Does the model answer the question, or like a place? Scores by the key's place, and the same
items with their options turned round.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.records import Record
from .scoring import Sample


def by_place(samples: Sequence[Sample]) -> list[tuple[int, int, int, int]]:
    """(place, items whose key stands there, of these right, times this place was chosen) for each
    place from 0, all items together.
    """
    keys, right = Counter(s.key for s in samples), Counter(s.key for s in samples if s.correct)
    chosen = Counter(s.choice for s in samples)
    return [
        (place, keys[place], right[place], chosen[place])
        for place in range(max([*keys, *filter(None, chosen)], default=-1) + 1)
    ]


def turned(record: Record, by: int) -> Record:
    """The same item with its options turned by `by` places; the key goes with its option. Turning
    by their number changes nothing.
    """
    n = len(record.options)
    options = tuple(record.options[(place + by) % n] for place in range(n))
    return record.replace(options=options, answer_index=(record.answer_index - by) % n)


@dataclass(frozen=True)
class Turns:
    """The same items under every turn: `right[turn]` of `n`; `steady` chose one option each time."""

    n: int
    right: tuple[int, ...]
    steady: int


def over_turns(rounds: Sequence[Sequence[Sample]]) -> Turns:
    """`rounds[turn]` holds the samples of all items with their options turned by `turn` places, in
    one order.

    Raises `ValueError` when the rounds hold other items.
    """
    if len({tuple(sample.id for sample in samples) for samples in rounds}) > 1:
        raise ValueError("every round needs the same items in the same order")
    steady = 0
    for item in zip(*rounds, strict=True):
        options = [len(sample.loglikelihoods) or len(rounds) for sample in item]
        original = {
            None if s.choice is None else (s.choice + turn) % n
            for turn, (s, n) in enumerate(zip(item, options, strict=True))
        }
        steady += len(original) == 1 and None not in original
    return Turns(
        len(rounds[0]) if rounds else 0,
        tuple(sum(s.correct for s in samples) for samples in rounds),
        steady,
    )
