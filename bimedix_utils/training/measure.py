"""What a model expects of given answers."""

from collections.abc import Sequence
from typing import Any

from .batches import forward_passes, tensors
from .data import IGNORED, Example


def answer_loss(
    model: Any, examples: Sequence[Example], tokens: int = 4096, pad_id: int = 0
) -> float:
    """Mean cross-entropy (natural log) of the answers' tokens over all examples, in passes of at
    most `tokens`; not a number of none.

    The model is left as it was; its router's balancing loss is not part of the number.
    """
    import torch

    from . import fast

    head = model.get_output_embeddings()
    training, total, count = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for rows in (
            forward_passes(
                [len(e.input_ids) for e in examples], range(len(examples)), tokens, packing=False
            )
            if examples
            else ()
        ):
            part = tensors(examples, rows, pad_id, packing=False)
            ids, labels = part["input_ids"].to(model.device), part["labels"].to(model.device)
            with fast.answers_only(head, labels):
                # Padding stands on the right, where no real token looks.
                out = model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    use_cache=False,
                    output_router_logits=False,
                )
            total += float(out.logits)
            count += int((labels[:, 1:] != IGNORED).sum())
    model.train(training)
    return total / count if count else float("nan")
