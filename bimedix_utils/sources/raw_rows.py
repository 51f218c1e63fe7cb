"""Rows of published files, one at a time: JSON Lines, a JSON list, CSV, Parquet; and safe XML."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from ..core.errors import InputError
from ..core.files import iter_json_lines, not_utf8, read_utf8

CHUNK = 1 << 20  # characters of a JSON list read at a time
LONGEST = 64 * CHUNK  # a row beyond this is a broken file, not a row
_BLANK, _DECODER = re.compile(r"\s*"), json.JSONDecoder()


def iter_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a `.jsonl`, `.json` (one list of objects), `.csv`, `.tsv` or `.parquet` file,
    in bounded memory; `where` is for messages.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        yield from _csv(path)
    elif path.suffix == ".json":
        for number, value in enumerate(_list(path), start=1):
            if not isinstance(value, dict):
                raise InputError(
                    f"{path.name}, row {number}: a JSON object was expected, found"
                    f" {type(value).__name__}"
                )
            yield f"{path.name}, row {number}", value
    else:
        for number, value in iter_json_lines(path):
            yield f"{path.name}, line {number}", value


def _csv(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows as texts, under the names of the header."""
    csv.field_size_limit(LONGEST)  # the library's own limit is shorter than a long abstract
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            reader = csv.DictReader(handle, delimiter=delimiter, strict=True)
            header = reader.fieldnames or []
            if len(set(header)) < len(header):
                raise InputError(f"{path.name}: a column name is repeated: {', '.join(header)}")
            for row in reader:
                where = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: {len(header)} columns expected, as in the header")
                yield where, row
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except csv.Error as error:
        line = reader.reader.line_num  # DictReader's own counts whole rows only
        raise InputError(f"{path.name}, line {line}: not valid CSV ({error})") from None


def _parquet(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(1_000):
                for value in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", value
    except pyarrow.ArrowInvalid as error:
        raise InputError(
            f"{path.name}: not a Parquet file ({str(error).splitlines()[0]}); fetch it again"
        ) from None


def _list(path: Path) -> Iterator[object]:
    """The members of a file that holds one JSON list, read a piece at a time: such files reach
    gigabytes.
    """
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as handle:
            window = _Window(handle.read)
            if (sign := window.sign()) is None:
                return
            if sign != "[":
                raise InputError(
                    f"{path.name}: one JSON list of objects was expected, found"
                    f" {'an object' if sign == '{' else repr(sign)}"
                )
            window.at += 1
            while (sign := window.sign()) is not None:
                if sign == "]":
                    window.at += 1
                    if window.sign() is not None:
                        raise InputError(
                            f"{path.name}: there is text after the end of the list, after row"
                            f" {number}"
                        )
                    return
                if number:
                    if sign != ",":
                        raise InputError(
                            f"{path.name}: a comma was expected after row {number}, found {sign!r}"
                        )
                    window.at += 1
                    window.sign()
                yield window.value(f"{path.name}, row {number + 1}")
                number += 1
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None
    raise InputError(
        f"{path.name}: the list has no end after row {number}; the file is incomplete: fetch"
        " it again"
    )


class _Window:
    """A piece of a long text that moves forward."""

    def __init__(self, read: Callable[[int], str]):
        self.read, self.text, self.at = read, "", 0

    def more(self) -> bool:
        """Forget what was used and read on; the piece doubles while one value does not fit, so that
        no letter is parsed often.
        """
        rest = self.text[self.at :]
        new = self.read(max(CHUNK, len(rest)))
        self.text, self.at = rest + new, 0
        return bool(new)

    def sign(self) -> str | None:
        """The next letter that is not white space, left in place; None at the end."""
        while True:
            self.at = _BLANK.match(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return None

    def value(self, where: str) -> object:
        """The JSON value that begins here."""
        while True:
            try:
                value, self.at = _DECODER.raw_decode(self.text, self.at)
                return value
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > LONGEST or not self.more():
                    raise InputError(
                        f"{where}: not valid JSON ({error.msg}); fetch it again"
                    ) from None


def read_xml(path: Path) -> ElementTree.Element:
    """The root of a small XML file. A document type, and with it any entity of its own, is refused:
    entities can grow without end or point at other files.
    """
    text = read_utf8(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(
            f"{path.name}: a document type or an entity is declared, which the owner's files do not"
            " do; it is not read"
        )
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(
            f"{path.name}, line {error.position[0]}: not valid XML ({error})"
        ) from None
