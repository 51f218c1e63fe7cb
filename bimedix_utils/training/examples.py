"""What the model reads and what it must learn: records through the chat template, labels on the
answers only.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import KitError
from ..core.records import Record
from ..core.templates import to_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORE_INDEX = -100  # the label that cross-entropy skips


@dataclass(frozen=True)
class Example:
    """One tokenised conversation: `labels` equals `input_ids` where the model must learn, else
    -100. `cut` counts lost tokens.

    Four bytes a token, twice: the paper's 632 million tokens take 5 GB, as lists they would take
    ten times as much.
    """

    id: str
    lang: str
    input_ids: array  # of type "i"
    labels: array
    cut: int


def encode_record(record: Record, tokenizer: "PreTrainedTokenizerFast", max_tokens: int) -> Example:
    """Tokenise one record through the chat template; labels only on the assistant's words and the
    end token behind them.

    Longer rows are cut at the end and the loss counted. Works with any fast tokenizer: the text is
    tokenised once, and a token is an answer token when it starts at or behind the place where the
    answer begins.
    """
    conversation = to_messages(record)
    text, spans = "", []
    for index, message in enumerate(conversation):
        whole = tokenizer.apply_chat_template(conversation[: index + 1], tokenize=False)
        if not whole.startswith(text):
            raise KitError(
                f"{record.id}: the chat template rewrites earlier turns; answers cannot be told"
                " from questions"
            )
        if message["role"] == "assistant":
            # Where a template opens the answer with a header (ChatML), the header is given, not
            # learned.
            asked = tokenizer.apply_chat_template(
                conversation[:index], tokenize=False, add_generation_prompt=True
            )
            spans.append((len(asked if whole.startswith(asked) else text), len(whole)))
        text = whole
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # An answer's first token may begin with the space before it, and byte-level offsets leave that
    # space out: both are inside.
    labels = [
        token if any(begin <= start and end > start for begin, end in spans) else IGNORE_INDEX
        for token, (start, _) in zip(coded.input_ids, coded.offset_mapping, strict=True)
    ]
    ids = coded.input_ids
    return Example(
        record.id,
        record.lang,
        array("i", ids[:max_tokens]),
        array("i", labels[:max_tokens]),
        max(0, len(ids) - max_tokens),
    )


def filter_long_rows(
    examples: Sequence[Example], long_rows: str
) -> tuple[list[Example], dict[str, tuple[str, str]]]:
    """(rows to train on, {id: (status, why)} of the others). `long_rows`: `cut` trains on what is
    left of a long row, `skip` does not.

    A row cut before its answer teaches nothing and is left out under either rule.
    """
    good, out = [], {}
    for example in examples:
        if example.cut and long_rows == "skip":
            out[example.id] = ("truncated", "longer than MAX_TOKENS")
        elif all(label == IGNORE_INDEX for label in example.labels):
            out[example.id] = ("truncated", "no answer left after the cut")
        else:
            good.append(example)
    return good, out


def decode_rows(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerFast"
) -> list[tuple[str, str]]:
    """(whole row, what of it is learned) of each example, decoded from the tokens themselves."""
    return [
        (
            tokenizer.decode([*e.input_ids]),
            tokenizer.decode([label for label in e.labels if label != IGNORE_INDEX]),
        )
        for e in examples
    ]


def token_table(examples: Sequence[Example]) -> list[tuple[str, int, int, int, int]]:
    """For each language (language, rows, tokens, tokens that are learned, rows cut), sorted."""
    table = {}
    for e in examples:
        row = table.setdefault(e.lang, [0, 0, 0, 0])
        for place, value in enumerate(
            (1, len(e.input_ids), sum(label != IGNORE_INDEX for label in e.labels), int(e.cut > 0))
        ):
            row[place] += value
    return [(lang, *row) for lang, row in sorted(table.items())]
