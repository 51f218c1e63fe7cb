"""From records to training examples: the chat template, tokens, and labels on the answers only."""

from array import array
from collections.abc import Iterable, Sequence
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
    """One tokenised conversation: `labels` equals `input_ids` on answers and is -100 elsewhere.
    `cut` counts lost tokens.

    Four bytes a number: the paper's 632 million tokens take 5 GB, as lists ten times as much.
    """

    id: str
    lang: str
    input_ids: array  # of type "i"
    labels: array
    cut: int


def encode_record(record: Record, tokenizer: "PreTrainedTokenizerFast", max_tokens: int) -> Example:
    """Tokenise one record through the chat template; labels only on the assistant's words and the
    end token behind them. A longer row is cut at the end; `cut` counts its lost tokens.

    Works with any fast tokenizer: the text is tokenised once, and character offsets tell which
    tokens belong to an answer.
    """
    conversation = to_messages(record)
    text, spans = "", []
    for i, message in enumerate(conversation):
        so_far = tokenizer.apply_chat_template(conversation[: i + 1], tokenize=False)
        if not so_far.startswith(text):
            raise KitError(
                f"{record.id}: the chat template rewrites earlier turns; answers cannot be told"
                " from questions"
            )
        if message["role"] == "assistant":
            # A template may open the answer with a header (ChatML): the prompt already holds it.
            prompt = tokenizer.apply_chat_template(
                conversation[:i], tokenize=False, add_generation_prompt=True
            )
            spans.append((len(prompt if so_far.startswith(prompt) else text), len(so_far)))
        text = so_far
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # An answer's first token may begin with the space before it, which byte-level offsets leave
    # out: in both cases the token ends inside the answer.
    labels = [
        token if any(begin <= start and end > start for begin, end in spans) else IGNORE_INDEX
        for token, (start, _) in zip(coded.input_ids, coded.offset_mapping, strict=True)
    ]
    ids, cut = coded.input_ids, max(0, len(coded.input_ids) - max_tokens)
    kept = array("i", ids[:max_tokens]), array("i", labels[:max_tokens])
    return Example(record.id, record.lang, *kept, cut)


def filter_long_rows(
    examples: Sequence[Example], long_rows: str
) -> tuple[list[Example], dict[str, tuple[str, str]]]:
    """(rows to train on, {id: (status, why)} of the others). `long_rows`: `cut` trains on the rest
    of a long row, `skip` leaves the row out.

    Both leave out a row that was cut before its answer: it has no label.
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


def encode_rows(
    records: Iterable[Record], tokenizer: "PreTrainedTokenizerFast", max_tokens: int, long_rows: str
) -> tuple[list[Example], dict[str, tuple[str, str]]]:
    """`encode_record` for each record, then `filter_long_rows`."""
    examples = [encode_record(record, tokenizer, max_tokens) for record in records]
    return filter_long_rows(examples, long_rows)


def decode_rows(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerFast"
) -> list[tuple[str, str]]:
    """(the row, its labelled part) of each example, decoded from the tokens."""
    rows = []
    for e in examples:
        labelled = [label for label in e.labels if label != IGNORE_INDEX]
        rows.append((tokenizer.decode([*e.input_ids]), tokenizer.decode(labelled)))
    return rows


def token_texts(text: str, tokenizer: "PreTrainedTokenizerFast") -> list[str]:
    """The text of each token, without special tokens."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return [tokenizer.decode([token]) for token in ids]


def token_table(examples: Sequence[Example]) -> list[tuple[str, int, int, int, int]]:
    """For each language (language, rows, tokens, tokens with a label, rows cut), sorted."""
    table: dict[str, list[int]] = {}
    for e in examples:
        labelled = sum(label != IGNORE_INDEX for label in e.labels)
        values = 1, len(e.input_ids), labelled, int(e.cut > 0)
        row = table.setdefault(e.lang, [0, 0, 0, 0])
        table[e.lang] = [a + b for a, b in zip(row, values, strict=True)]
    return [(lang, *row) for lang, row in sorted(table.items())]
