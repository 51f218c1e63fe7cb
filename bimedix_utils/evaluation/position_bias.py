"""Position bias: does the model answer the question, or prefer one option position?

Scores by the position of the key, and the same items under cyclic option permutation.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.records import Record
from ..core.text import digest
from ..sources.benchmarks import Task
from .score_tables import Table, make_table
from .scoring import Sample

PERMUTED_OPTIONS = 4  # only four-option items are permuted
_COLUMNS = "model, language, items, accuracy under each permutation, chosen at A B C D, consistent"


def accuracy_by_position(samples: Sequence[Sample]) -> list[tuple[int, int, int, int]]:
    """(position, items with their key there, of these correct, times this position was chosen) for
    each position from 0.
    """
    keys, correct = Counter(s.key for s in samples), Counter(s.key for s in samples if s.correct)
    chosen = Counter(s.choice for s in samples)
    last = max([*keys, *filter(None, chosen)], default=-1)
    return [(i, keys[i], correct[i], chosen[i]) for i in range(last + 1)]


def permuted(record: Record, by: int) -> Record:
    """The same item with its options shifted cyclically by `by` positions; the key moves with its
    option.
    """
    n = len(record.options)
    options = tuple(record.options[(i + by) % n] for i in range(n))
    return record.replace(options=options, answer_index=(record.answer_index - by) % n)


def permuted_tasks(table: Mapping[tuple[str, str], Task], lang: str, rows: int) -> list[Task]:
    """Four tasks of the same four-option items, shifted by 0, 1, 2 and 3; at most `rows` items."""
    items = [
        record
        for (_, own), task in table.items()
        if own == lang
        for record in task.records
        if len(record.options) == PERMUTED_OPTIONS
    ]
    drawn = sorted(items, key=lambda record: digest(record.id))[:rows]
    if not drawn:
        return []
    shifts = range(PERMUTED_OPTIONS)
    return [Task(f"shift-{by}", lang, tuple(permuted(r, by) for r in drawn)) for by in shifts]


@dataclass(frozen=True)
class Consistency:
    """The same items under every permutation: `correct[shift]` of `n`; for `consistent` items one
    option was chosen each time.
    """

    n: int
    correct: tuple[int, ...]
    consistent: int


def permutation_consistency(rounds: Sequence[Sequence[Sample]]) -> Consistency:
    """`rounds[shift]` holds the samples of all items shifted by `shift`, in one order.

    Raises `ValueError` when the rounds hold other items.
    """
    if len({tuple(sample.id for sample in samples) for samples in rounds}) > 1:
        raise ValueError("every round needs the same items in the same order")
    consistent = 0
    for item in zip(*rounds, strict=True):
        sizes = [len(sample.loglikelihoods) or len(rounds) for sample in item]
        original = {
            None if s.choice is None else (s.choice + shift) % n
            for shift, (s, n) in enumerate(zip(item, sizes, strict=True))
        }
        consistent += len(original) == 1 and None not in original
    correct = tuple(sum(s.correct for s in samples) for samples in rounds)
    return Consistency(len(rounds[0]) if rounds else 0, correct, consistent)


def permutation_table(
    samples: Mapping[tuple, list[Sample]], models: Sequence[str], langs: Sequence[str]
) -> Table:
    """One row for each model and language that answered permuted items."""
    lines = []
    for name in models:
        for lang in langs:
            keys = [(name, "label", f"shift-{by}", lang) for by in range(PERMUTED_OPTIONS)]
            rounds = [samples[key] for key in keys if key in samples]
            if not rounds:
                continue
            found = permutation_consistency(rounds)
            accuracy = " ".join(f"{n / found.n:.2f}" for n in found.correct)
            positions = accuracy_by_position(rounds[0])
            chosen = " ".join(f"{times / found.n:.0%}" for *_, times in positions)
            share = f"{found.consistent / found.n:.0%}"
            lines.append((name, lang, found.n, accuracy, chosen, share))
    return make_table(lines, _COLUMNS)
