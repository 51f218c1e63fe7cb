"""Written answers of a local model, greedy, in batches."""

from collections.abc import Sequence
from typing import Any

from .forms import encode
from .forward import batches

TOKENS = (
    32  # of a written answer to a multiple-choice item: the lead words, a letter and a little more
)


def local(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, budget: int
) -> list[tuple[str, int]]:
    """(what the model wrote, tokens its prompt lost at the left) for each prompt, greedy; `budget`
    is tokens of one batch.

    Prompts carry their own special tokens where they come from a chat template. Raises `ValueError`
    when an answer of `max_new_tokens` leaves no room for a prompt.
    """
    import torch

    room = (getattr(model.config, "max_position_embeddings", None) or 1 << 30) - max_new_tokens
    if room < 1:
        raise ValueError(f"max_new_tokens = {max_new_tokens} leaves no position for the prompt")
    coded = [encode(tokenizer, prompt) for prompt in prompts]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    result: list[Any] = [None] * len(prompts)
    for batch in batches([min(len(ids), room) + max_new_tokens for ids in coded], budget):
        rows = [coded[i][-room:] for i in batch]
        longest = max(map(len, rows))
        # At the left: what is written follows the last token of each prompt.
        ids = torch.tensor(
            [[pad] * (longest - len(row)) + row for row in rows], device=model.device
        )
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device
        )
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=pad,
            )
        for i, tokens in zip(batch, out[:, longest:], strict=True):
            result[i] = (
                tokenizer.decode(tokens, skip_special_tokens=True).strip(),
                max(0, len(coded[i]) - room),
            )
    return result
