"""Which rows go together: every optimiser step of a run is planned before the first, so that a
resumed run takes the same ones.
"""

import random
from collections.abc import Sequence
from typing import Any

from ..core.errors import KitError
from .examples import IGNORE_INDEX, Example
from .recipe import Recipe

# rows sorted by length at a time: enough for little padding, few enough to keep the order random
_BUCKET = 512
MicroBatch = list[int]  # the rows of one forward pass


def micro_batches(
    lengths: Sequence[int], order: Sequence[int], tokens: int, packing: bool
) -> list[MicroBatch]:
    """Rows of similar length in groups of at most `tokens`, padding included (packed: none). A
    longer row makes a group of its own.
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
    """The optimiser steps of a whole run, each a list of forward passes. Every row comes once an
    epoch.

    Each epoch has another order. A last step with too few passes is divided into as many as the
    others have, so that one process and several do the same. Raises `KitError` without rows.
    """
    if not lengths:
        raise KitError("no row is left to train on")
    rng = random.Random(recipe.seed)
    steps: list[list[MicroBatch]] = []
    epoch = 0
    while len(steps) < recipe.max_steps if recipe.max_steps else epoch < recipe.epochs:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        passes = micro_batches(lengths, order, recipe.micro_tokens, recipe.packing)
        rng.shuffle(passes)
        steps += [
            split_micro_batches(passes[i : i + recipe.passes], recipe.passes)
            for i in range(0, len(passes), recipe.passes)
        ]
        epoch += 1
    return steps[: recipe.max_steps or None]


def split_micro_batches(passes: list[MicroBatch], count: int) -> list[MicroBatch]:
    """`passes` with the ones of most rows halved until there are `count`, or until each holds one
    row.
    """
    parts = [list(rows) for rows in passes]
    while len(parts) < count and max(map(len, parts)) > 1:
        rows = parts.pop(max(range(len(parts)), key=lambda i: len(parts[i])))
        parts += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return parts


def shard_for_rank(step: list[MicroBatch], rank: int, processes: int) -> list[MicroBatch]:
    """The forward passes of one process: as many as any other has, an empty one where rows are
    missing.
    """
    missing = -len(step) % processes
    return [*step, *([[]] * missing)][rank::processes]


def to_tensors(
    examples: Sequence[Example], rows: MicroBatch, pad_id: int, packing: bool
) -> dict[str, Any]:
    """One forward pass: `input_ids`, `labels`, `real` (1 where a token is no padding), all (rows,
    longest row), or packed (1, tokens).

    Packed, `position_ids` begin anew with each row. Without rows the first example stands in, with
    nothing to learn: every process must take part in every pass.
    """
    import torch

    chosen = [examples[i] for i in rows] or [
        Example(examples[0].id, examples[0].lang, examples[0].input_ids, [IGNORE_INDEX], 0)
    ]
    if packing:
        ids = torch.tensor([[token for e in chosen for token in e.input_ids]])
        labels = torch.tensor([[label for e in chosen for label in _labels(e)]])
        positions = torch.tensor([[i for e in chosen for i in range(len(e.input_ids))]])
        return {
            "input_ids": ids,
            "labels": labels,
            "real": torch.full_like(ids, bool(rows)),
            "position_ids": positions,
        }
    longest = max(len(e.input_ids) for e in chosen)

    def filled(values: list[list[int]], filler: int) -> Any:
        return torch.tensor([row + [filler] * (longest - len(row)) for row in values])

    real = filled([[int(bool(rows))] * len(e.input_ids) for e in chosen], 0)
    return {
        "input_ids": filled([[*e.input_ids] for e in chosen], pad_id),
        "labels": filled([_labels(e) for e in chosen], IGNORE_INDEX),
        "real": real,
    }


def _labels(example: Example) -> list[int]:
    """The labels, the first token's never among them: nothing comes before it, or, packed, another
    row does.
    """
    return [
        IGNORE_INDEX,
        *example.labels[1:],
        *([IGNORE_INDEX] * (len(example.input_ids) - len(example.labels))),
    ]
