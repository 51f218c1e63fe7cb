"""Multiple choice by likelihood: label ranking and option-text ranking, on any causal model.

* `label`: the question with lettered options is shown; the option whose letter is likeliest after the lead words wins.
* `option_text`: only the question is shown; the option whose text is likeliest (sum of its tokens' log-probabilities) wins.

The two can differ by ten points for one model: a score is never printed without its protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import AuditError
from ..records import Record
from ..templates import ask, labels, lead, words

Protocol = Literal["label", "option_text"]


@dataclass(frozen=True)
class Sample:
    """One scored item. `loglikelihoods` has one value an option (natural log); `mass` is the probability of all labels together."""

    id: str
    lang: str
    key: int
    loglikelihoods: tuple[float, ...]
    mass: float
    cut: int  # tokens lost at the left because the model has too few positions

    @property
    def choice(self) -> int:
        """The likeliest option; of equals the first."""
        return max(range(len(self.loglikelihoods)), key=lambda i: self.loglikelihoods[i])

    @property
    def correct(self) -> bool:
        """True when the choice is the key."""
        return self.choice == self.key


def prompt_text(record: Record, protocol: Protocol, tokenizer: Any) -> str:
    """The text before the scored words, through the model's own chat template."""
    if protocol == "label":
        shown = ask(record)
    else:
        fixed = words(record.lang)
        shown = f"{fixed['context']}: {record.context}\n{record.question}" if record.context else record.question
    text = tokenizer.apply_chat_template([{"role": "user", "content": shown}], tokenize=False, add_generation_prompt=True)
    return f"{text} {lead(record.lang)}" if protocol == "label" else text


def continuations(record: Record, protocol: Protocol) -> list[str]:
    """The scored words of each option, with the space that parts them from the prompt."""
    if protocol == "label":
        return [f" {letter}" for letter in labels(record.lang)[: len(record.options)]]
    return [f" {option}" for option in record.options]


def split_tokens(tokenizer: Any, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
    """(prompt tokens, continuation tokens) of the two tokenised **together**; " A" and "A" are different tokens.

    Raises `AuditError` when the continuation changes the prompt's own tokens: the score would belong to another text.
    """
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    whole = tokenizer(prompt + continuation, add_special_tokens=False).input_ids
    if whole[: len(before)] != before or len(whole) == len(before):
        raise AuditError(f"the tokenizer merges the prompt's end with {continuation!r}: score another form of the label")
    return before, whole[len(before) :]


def score(model: Any, tokenizer: Any, records: Sequence[Record], protocol: Protocol, budget: int = 8192) -> list[Sample]:
    """Score every record; the result has the order of `records`. Memory depends on `budget` (tokens a batch), not on their number.

    Rows too long for the model lose tokens at the left, where the context begins; the loss is counted in the sample.
    """
    positions = model.config.max_position_embeddings
    jobs = []  # (record number, option number, prompt tokens, continuation tokens, tokens cut)
    for number, record in enumerate(records):
        prompt = prompt_text(record, protocol, tokenizer)
        pieces = [split_tokens(tokenizer, prompt, text) for text in continuations(record, protocol)]
        if protocol == "label" and all(len(after) == 1 for _, after in pieces):
            # One position decides between all letters: one sequence is enough.
            pieces = [(pieces[0][0], [after[0] for _, after in pieces])]
            jobs.append((number, -1, *_fit(*pieces[0], positions, 1)))
        else:
            jobs += [(number, option, *_fit(*piece, positions, len(piece[1]))) for option, piece in enumerate(pieces)]
    values: dict[tuple[int, int], tuple[list[float], int]] = {}
    for batch in _batches(jobs, budget):
        for (number, option, _, _, cut), found in zip(batch, _loglikelihoods(model, batch), strict=True):
            values[number, option] = found, cut
    samples = []
    for number, record in enumerate(records):
        if (number, -1) in values:
            found, cut = values[number, -1]
        else:
            each = [values[number, option] for option in range(len(record.options))]
            found, cut = [sum(likelihoods) for likelihoods, _ in each], max(lost for _, lost in each)
        samples.append(Sample(record.id, record.lang, record.answer_index, tuple(found), _mass(found), cut))
    return samples


def _mass(loglikelihoods: Sequence[float]) -> float:
    import math

    return sum(math.exp(value) for value in loglikelihoods)


def _fit(prompt: list[int], continuation: list[int], positions: int, width: int) -> tuple[list[int], list[int], int]:
    cut = max(0, len(prompt) + width - positions)
    return prompt[cut:], continuation, cut


def _batches(jobs: list[tuple], budget: int) -> list[list[tuple]]:
    """Jobs sorted by length and cut into batches of at most `budget` tokens, padding included."""
    batches: list[list[tuple]] = [[]]
    for job in sorted(jobs, key=lambda j: (len(j[2]) + len(j[3]), j[:2])):
        if batches[-1] and (len(batches[-1]) + 1) * (len(job[2]) + len(job[3])) > budget:
            batches.append([])
        batches[-1].append(job)
    return [batch for batch in batches if batch]


def _loglikelihoods(model: Any, batch: list[tuple]) -> list[list[float]]:
    """For each job the log-probabilities of its continuation tokens (a label job: of each letter at the one position)."""
    import torch

    rows = [prompt + (continuation[:-1] if option >= 0 else []) for _, option, prompt, continuation, _ in batch]
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.inference_mode():
        # The output layer only where it is needed: on long prompts with short answers that is most of the saving.
        hidden = core.model(input_ids=ids.to(core.device), attention_mask=mask.to(core.device), use_cache=False).last_hidden_state
        result = []
        for place, (_, option, prompt, continuation, _) in enumerate(batch):
            width = 1 if option < 0 else len(continuation)
            logits = core.lm_head(hidden[place, len(prompt) - 1 : len(prompt) - 1 + width]).float().log_softmax(-1)
            wanted = torch.tensor(continuation, device=logits.device)
            result.append((logits[0, wanted] if option < 0 else logits.gather(1, wanted[:, None])[:, 0]).tolist())
    return result
