"""The row: one typed record for multiple choice, open question and chat, in any language.

Records are the only thing that flows between stages. They are immutable; a stage makes new ones
with `replace`.
"""

import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError
from .files import atomic_file, iter_json_lines, write_text
from .text import digest

if TYPE_CHECKING:
    import pyarrow

Kind = Literal["mcqa", "qa", "chat"]
Split = Literal["train", "validation", "test"]
STATUSES = (
    "ok",  # usable by the next stage
    "parse_failed",  # the teacher answered something that is not the wanted structure
    "refused",  # the teacher declined
    "truncated",  # the teacher's answer was cut at the token limit
    "rejected",  # a check or a reviewer said no
    "held",  # waits: no recording, no reviewer's decision, or kept for testing
    "duplicate",  # another row with the same content was kept
    "contaminated",  # a test question: must not be trained on
    "surplus",  # usable, but the mix had no room for it
    "failed",  # the teacher could not be reached
)
LABELS = "ABCDEFGHIJ"


class Turn(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Literal["patient", "doctor"]
    text: str = Field(min_length=1, pattern=r"\S")


class Record(BaseModel):
    """One row. `question` is the stem or the open question, `context` what must be read first (an
    abstract).

    * `mcqa`: two or more `options`, `answer_index` counts from 0, `answer` explains the key (may be
      empty).
    * `qa`: `answer` is the reference answer.
    * `chat`: `turns`, the patient first.

    `parent_id` names the record this one was made from (a chat's question, a translation's English
    original).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1)
    kind: Kind
    lang: str = Field(pattern="^[a-z]{2}$")
    source: str
    licence: str
    split: Split
    question: str = ""
    context: str = ""
    options: tuple[str, ...] = ()
    answer_index: int | None = None
    answer: str = ""
    turns: tuple[Turn, ...] = ()
    topic: str = ""
    parent_id: str | None = None
    status: str = "ok"
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Record":
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {', '.join(STATUSES)}")
        if self.kind == "chat":
            if not self.turns:
                raise ValueError("a chat needs turns")
            return self
        if not self.question.strip():
            raise ValueError("the question is empty")
        if self.kind == "qa" and not self.answer.strip():
            raise ValueError("an open question needs an answer")
        if self.kind == "mcqa":
            if len(self.options) < 2 or any(not option.strip() for option in self.options):
                raise ValueError("a multiple-choice row needs at least two options, none empty")
            if len(self.options) > len(LABELS):
                raise ValueError(
                    f"a multiple-choice row has at most {len(LABELS)} options: there are no more"
                    " letters"
                )
            if self.answer_index is None or not 0 <= self.answer_index < len(self.options):
                raise ValueError(
                    f"answer_index {self.answer_index} does not point at one of {len(self.options)}"
                    " options"
                )
        return self

    def replace(self, **changes: object) -> "Record":
        """A validated copy with some fields changed."""
        return Record(**{**self.model_dump(), **changes})

    def key(self) -> str:
        """The answer's letter, counted from A; only for `mcqa`."""
        return LABELS[self.answer_index]

    def content_hash(self) -> str:
        """Hash of what a reader would see, whatever its id, source or status: equal rows are
        duplicates.
        """
        return digest(
            [
                self.kind,
                self.lang,
                self.question,
                self.context,
                self.options,
                self.answer_index,
                self.answer,
                [(turn.role, turn.text) for turn in self.turns],
            ]
        )


def explain(error: ValidationError) -> str:
    """A pydantic error as one short sentence without links or input dumps."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors())


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write one record a line, atomically; see `files.atomic_file`."""
    write_text(path, (record.model_dump_json() + "\n" for record in records))


def iter_jsonl(path: Path) -> Iterator[Record]:
    """Read records one by one. Raises `InputError` naming file and line for a broken row."""
    for number, value in iter_json_lines(path):
        try:
            yield Record(**value)
        except (ValidationError, TypeError) as error:
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            raise InputError(f"{path.name}, line {number}: not a record: {reason}") from None


def read_jsonl(path: Path) -> list[Record]:
    """All records of a file; see `iter_jsonl`."""
    return list(iter_jsonl(path))


class IdSet:
    """Finds duplicate ids among millions at 8 bytes an id: only a hash of each is kept."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, identity: str) -> None:
        self._hashes.append(hash64(identity))

    def __len__(self) -> int:
        return len(self._hashes)

    def duplicates(self) -> set[int]:
        """The hashes (`hash64`) that were added more than once."""
        import numpy

        values = numpy.sort(numpy.array(self._hashes, dtype=numpy.uint64))
        return {int(value) for value in values[1:][values[1:] == values[:-1]]}


def hash64(text: str) -> int:
    """A 64-bit hash that is the same in every process: that two of a million texts share one has a
    chance below 1 in 10 million.
    """
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def arrow_schema() -> "pyarrow.Schema":
    """The columns of a record in Arrow and Parquet: fixed types, so that a file without a single
    chat has the same columns.
    """
    import pyarrow

    string = pyarrow.string()
    turn = pyarrow.struct([("role", string), ("text", string)])
    special = {
        "options": pyarrow.list_(string),
        "answer_index": pyarrow.int64(),
        "turns": pyarrow.list_(turn),
    }
    return pyarrow.schema([(name, special.get(name, string)) for name in Record.model_fields])


def write_parquet(path: Path, records: Iterable[Record], group: int = 5_000) -> None:
    """Write records as Parquet in row groups of `group` rows, atomically, one group in memory at a
    time; see `arrow_schema`.
    """
    import pyarrow
    import pyarrow.parquet

    schema = arrow_schema()
    rows = iter(records)
    with atomic_file(path, "wb") as handle, pyarrow.parquet.ParquetWriter(handle, schema) as writer:
        while part := [record.model_dump(mode="json") for record in itertools.islice(rows, group)]:
            writer.write_table(pyarrow.Table.from_pylist(part, schema=schema))


def iter_parquet(path: Path) -> Iterator[Record]:
    """Read the records of a Parquet file one by one.

    Raises `InputError` for a file that cannot be read or lacks a column, and names the row that is
    not a record.
    """
    import pyarrow
    import pyarrow.parquet

    columns = list(Record.model_fields)
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name}: not a readable Parquet file: {reason}") from None
    with file:
        if missing := sorted(set(columns) - set(file.schema_arrow.names)):
            raise InputError(f"{path.name}: no column {', '.join(missing)}")
        batches = file.iter_batches(1_000, columns=columns)
        for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
            # Other writers may store an empty list as null.
            row["options"], row["turns"] = row["options"] or (), row["turns"] or ()
            try:
                yield Record(**row)
            except ValidationError as error:
                where = f"{path.name}, row {number}"
                raise InputError(f"{where}: not a record: {explain(error)}") from None
