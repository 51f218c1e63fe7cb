"""Which rows go together: every optimiser step of a run is planned before the first, so that a
resumed run takes the same steps.
"""

import random
from collections.abc import Sequence
from typing import Any

from ..core.errors import KitError
from .examples import IGNORE_INDEX, Example
from .recipe import Recipe

# Rows sorted by length at a time: enough for little padding, few enough to keep the order random.
_BUCKET = 512
MicroBatch = list[int]  # the rows of one forward pass


def micro_batches(
    lengths: Sequence[int], order: Sequence[int], tokens: int, packing: bool
) -> list[MicroBatch]:
    """Rows of similar length in groups of at most `tokens`, with padding (packed: there is none). A
    longer row is a group of its own.
    """
    made: list[MicroBatch] = []
    for start in range(0, len(order), _BUCKET):
        rows: MicroBatch = []
        filled = 0
        for row in sorted(order[start : start + _BUCKET], key=lambda i: lengths[i]):
            grown = filled + lengths[row] if packing else (len(rows) + 1) * lengths[row]
            if rows and grown > tokens:
                made.append(rows)
                rows, grown = [], lengths[row]
            rows.append(row)
            filled = grown
        made.append(rows)
    return made


def plan_steps(lengths: Sequence[int], recipe: Recipe) -> list[list[MicroBatch]]:
    """The optimiser steps of a whole run, each a list of micro-batches. Every row comes once an
    epoch, and each epoch has another order.

    A last step with too few micro-batches is split into as many as the others have, so that one
    process and several take the same steps. Raises `KitError` without rows.
    """
    if not lengths:
        raise KitError("no row is left to train on")
    rng = random.Random(recipe.seed)
    steps: list[list[MicroBatch]] = []
    epoch, n = 0, recipe.micro_batches
    while len(steps) < recipe.max_steps if recipe.max_steps else epoch < recipe.epochs:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        made = micro_batches(lengths, order, recipe.micro_tokens, recipe.packing)
        rng.shuffle(made)
        steps += [split_micro_batches(made[i : i + n], n) for i in range(0, len(made), n)]
        epoch += 1
    return steps[: recipe.max_steps or None]


def split_micro_batches(batches: list[MicroBatch], count: int) -> list[MicroBatch]:
    """`batches` with the largest halved until there are `count`, or until each holds one row."""
    parts = [list(rows) for rows in batches]
    while len(parts) < count and max(map(len, parts)) > 1:
        rows = parts.pop(max(range(len(parts)), key=lambda i: len(parts[i])))
        parts += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return parts


def shard_for_rank(step: list[MicroBatch], rank: int, processes: int) -> list[MicroBatch]:
    """The micro-batches of one process: the same number for all, an empty one where rows lack."""
    missing = -len(step) % processes
    return [*step, *([[]] * missing)][rank::processes]


def to_tensors(
    examples: Sequence[Example], rows: MicroBatch, pad_id: int, packing: bool
) -> dict[str, Any]:
    """One micro-batch: `input_ids`, `labels`, `real` (1 where a token is no padding), all (rows,
    longest row), or packed (1, tokens).

    Packed, `position_ids` begin anew with each row. Without rows the first example stands in,
    without labels: every process must take part in every forward pass.
    """
    import torch

    first = examples[0]
    empty = Example(first.id, first.lang, first.input_ids, [IGNORE_INDEX], 0)
    chosen = [examples[i] for i in rows] or [empty]
    if packing:
        ids = torch.tensor([[token for e in chosen for token in e.input_ids]])
        labels = torch.tensor([[label for e in chosen for label in _labels(e)]])
        positions = torch.tensor([[i for e in chosen for i in range(len(e.input_ids))]])
        real = torch.full_like(ids, bool(rows))
        return {"input_ids": ids, "labels": labels, "real": real, "position_ids": positions}
    longest = max(len(e.input_ids) for e in chosen)

    def padded(values: list[list[int]], filler: int) -> Any:
        return torch.tensor([row + [filler] * (longest - len(row)) for row in values])

    real = [[int(bool(rows))] * len(e.input_ids) for e in chosen]
    return {
        "input_ids": padded([[*e.input_ids] for e in chosen], pad_id),
        "labels": padded([_labels(e) for e in chosen], IGNORE_INDEX),
        "real": padded(real, 0),
    }


def _labels(example: Example) -> list[int]:
    """The labels without the first token's: nothing precedes it, or, packed, another row does."""
    missing = len(example.input_ids) - len(example.labels)
    return [IGNORE_INDEX, *example.labels[1:], *([IGNORE_INDEX] * missing)]
