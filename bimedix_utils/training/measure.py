"""What a model expects of given answers."""

from collections.abc import Sequence
from typing import Any

from .batches import micro_batches, to_tensors
from .examples import IGNORE_INDEX, Example


def answer_loss(
    model: Any, examples: Sequence[Example], tokens: int = 4096, pad_id: int = 0
) -> float:
    """Mean cross-entropy (natural log) of the answers' tokens over all examples, in passes of at
    most `tokens`; not a number of none.

    The model is left as it was; its router's balancing loss is not part of the number.
    """
    import torch

    from . import fast_lora

    head = model.get_output_embeddings()
    training, total, count = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for rows in (
            micro_batches(
                [len(e.input_ids) for e in examples], range(len(examples)), tokens, packing=False
            )
            if examples
            else ()
        ):
            part = to_tensors(examples, rows, pad_id, packing=False)
            ids, labels = part["input_ids"].to(model.device), part["labels"].to(model.device)
            with fast_lora.answer_loss_head(head, labels):
                # Padding stands on the right, where no real token looks.
                out = model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    use_cache=False,
                    output_router_logits=False,
                )
            total += float(out.logits)
            count += int((labels[:, 1:] != IGNORE_INDEX).sum())
    model.train(training)
    return total / count if count else float("nan")
