"""Reviewing in a spreadsheet program: an XLSX workbook there and back.

A spreadsheet program changes what it opens: "1-2" becomes a date, "00012" a number, "=1+1" a sum,
and a person deletes, sorts and renames. So the files carry enough to notice, and the candidate's
text is always taken from the queue, never from the file.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.text import is_right_to_left
from ..translation.texts import named_texts
from .decisions import REVIEW_VERDICTS, ReviewDecision, make_decision
from .parts import row_findings, side_by_side

# The columns in order, with their widths in a workbook.
_WIDTHS = {
    "row_id": 24,
    "part": 16,
    "source": 50,
    "candidate": 50,
    "corrected": 50,
    "verdict": 12,
    "note": 30,
    "reviewer": 12,
    "score": 12,
    "flags": 40,
    "text_hash": 20,
}
SHEET_COLUMNS = list(_WIDTHS)
_MAY_BE_DROPPED = ("note", "reviewer", "score", "flags")
_FILLED_BY_REVIEWER = ("corrected", "verdict", "note", "reviewer")
_LONGEST_CELL = 32_767  # characters in one cell of a spreadsheet (Excel's specification)
_SAFE_LENGTH = 30_000  # letters; leaves room for letters that count twice
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # XML cannot hold them: shown without
_FORMULA_SIGNS = ("=", "+", "-", "@")
_DATES = (datetime, date, time, timedelta)
_Line = tuple[int, dict[str, Any]]  # sheet row number, {column: value}


# Writing a sheet


def _lines(queued: Iterable[dict]) -> Iterator[dict[str, str]]:
    """One line per part of each row, every cell a text."""
    for row in queued:
        score = row["best"].get("score")
        for number, (part, source, candidate) in enumerate(side_by_side(row)):
            line = dict.fromkeys(SHEET_COLUMNS, "")
            line |= {"row_id": row["id"], "text_hash": row["best"]["text_hash"]}
            line |= {"part": part, "source": source, "candidate": candidate}
            if number == 0:
                line["score"] = "" if score is None else str(score)
                line["flags"] = "\n".join(row_findings(row))
            for column, text in line.items():
                # Excel counts UTF-16 units.
                if len(text.encode("utf-16-le", "surrogatepass")) // 2 >= _LONGEST_CELL:
                    raise InputError(
                        f"{row['id']}, {part}: {column} is longer than a cell holds; review this"
                        " row in the form"
                    )
            yield line


def split_by_cell_limit(queued: Iterable[dict]) -> tuple[list[dict], list[dict]]:
    """(rows that fit in a spreadsheet, rows with a text that is too long for a cell)."""
    fit, too_long = [], []
    for row in queued:
        texts = [text for _, text in named_texts(row["best"]["values"])]
        (too_long if max(map(len, texts), default=0) > _SAFE_LENGTH else fit).append(row)
    return fit, too_long


def write_sheet(path: Path, queued: Iterable[dict]) -> None:
    """Write queued rows as an XLSX workbook for a reviewer: one line per part.

    `verdict` is filled once per row, corrections go in `corrected`. Raises `InputError` for another
    suffix and for a text longer than a cell. Nothing is locked: a protected sheet cannot be sorted.
    """
    if path.suffix != ".xlsx":
        raise InputError(f"{path.name}: a sheet is written as .xlsx")
    lines = list(_lines(queued))
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    grey, bold = PatternFill("solid", fgColor="EEEEEE"), Font(bold=True)
    alignments = {
        arabic: Alignment(side, "top", wrap_text=True, readingOrder=1 + arabic)
        for arabic, side in ((True, "right"), (False, "left"))
    }
    choices = f'"{",".join(REVIEW_VERDICTS)}"'
    choice = DataValidation("list", choices, allow_blank=True, showErrorMessage=True)
    book = Workbook()
    sheet = book.active
    sheet.title, sheet.freeze_panes = "review", "A2"
    sheet.add_data_validation(choice)
    for index, (column, width) in enumerate(_WIDTHS.items(), start=1):
        sheet.cell(1, index, column).font = bold
        sheet.column_dimensions[get_column_letter(index)].width = width
    previous = None
    for number, line in enumerate(lines, start=2):
        # A correction is typed in the direction of the candidate, and from right to left when the
        # candidate lacks the part.
        directions = {"corrected": is_right_to_left(line["candidate"]) or not line["candidate"]}
        first, previous = line["row_id"] != previous, line["row_id"]
        for index, (column, value) in enumerate(line.items(), start=1):
            cell, text = sheet.cell(number, index), _ILLEGAL.sub("", value)
            if text:
                cell.value = text
                cell.data_type = "s"  # after the value: "=1+1" is a text here, not a formula
            cell.number_format, cell.quotePrefix = "@", text[:1] in _FORMULA_SIGNS
            cell.alignment = alignments[directions.get(column, is_right_to_left(text))]
            if column not in _FILLED_BY_REVIEWER or (column == "verdict" and not first):
                cell.fill = grey
        if first:
            choice.add(sheet.cell(number, SHEET_COLUMNS.index("verdict") + 1))
    book.save(path)


# Reading it back


def _workbook_rows(path: Path) -> list[list[Any]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path)
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror or error})") from None
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path.name}: not a readable .xlsx file ({error})") from None
    sheets = [list(map(list, sheet.iter_rows(values_only=True))) for sheet in book.worksheets]
    for rows in sheets:
        if rows and {"row_id", "part"} <= {str(value).strip() for value in rows[0]}:
            return rows
    return sheets[0]


def _text(value: Any) -> str:
    """A cell as text; a whole number that a spreadsheet made 5.0 is 5 again."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _is_unchanged(value: Any, exported: str) -> bool:
    """True when a cell holds what was written, whatever line ends or number type it was given."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(exported) == value
        except ValueError:
            return False
    ends = ("_x000D_", "\r"), ("\r\n", "\n"), ("\r", "\n")
    texts = [_text(value), exported]
    for old, new in ends:
        texts = [text.replace(old, new) for text in texts]
    found, expected = (_ILLEGAL.sub("", text).strip() for text in texts)
    return not isinstance(value, _DATES) and found == expected


def _sheet_lines(path: Path) -> list[_Line]:
    """The lines that are not empty."""
    if path.suffix.lower() != ".xlsx":
        raise InputError(f"{path.name}: save the sheet as .xlsx")
    rows = _workbook_rows(path)
    header = [_text(value).strip() for value in rows[0]] if rows else []
    absent = [c for c in SHEET_COLUMNS if c not in header and c not in _MAY_BE_DROPPED]
    if absent:
        raise InputError(
            f"{path.name}, row 1: no column {', '.join(absent)}; the header must stay as it was"
            " written"
        )
    if twice := [column for column in SHEET_COLUMNS if header.count(column) > 1]:
        raise InputError(f"{path.name}, row 1: two columns named {twice[0]}; rename the added one")
    result = []
    for number, cells in enumerate(rows[1:], start=2):
        if any(_text(cell).strip() for cell in cells):
            line = dict.fromkeys(SHEET_COLUMNS) | dict(zip(header, cells, strict=False))
            result.append((number, line))
    return result


def read_sheet(path: Path, queued: Iterable[dict], reviewer: str = "") -> list[ReviewDecision]:
    """Decisions from a sheet of `write_sheet`, in queue order.

    Rows without a verdict or a correction are undecided. Lines are found by row id and part: order,
    added columns, empty lines and rows left out as a whole do not matter. `reviewer` counts where
    the sheet's own column is empty. Raises `InputError` naming file, sheet row and row id for
    everything that makes a decision doubtful: a missing, duplicate or unknown line, a changed
    source, candidate or hash, a verdict that does not fit the corrections.
    """
    rows = {row["id"]: row for row in queued}
    found: dict[str, dict[str, _Line]] = {}
    for number, line in _sheet_lines(path):
        row_id, part = _text(line["row_id"]).strip(), _text(line["part"]).strip()
        where = f"{path.name}, row {number} ({row_id or 'no row_id'})"
        if row_id not in rows:
            raise InputError(
                f"{where}: no row of this queue has that row_id; was it changed, or is the sheet of"
                " another run?"
            )
        known = found.setdefault(row_id, {})
        if part in known:
            raise InputError(
                f"{where}: {part} stands in row {known[part][0]} already; take one of the two lines"
                " out"
            )
        _require_unchanged(where, rows[row_id], part, line)
        known[part] = (number, line)
    decisions = [_row_decision(path, row, found.get(row["id"]), reviewer) for row in rows.values()]
    return [decision for decision in decisions if decision]


def _require_unchanged(where: str, row: dict, part: str, line: dict[str, Any]) -> None:
    """Raises `InputError` for an unknown part, or a cell that is not what was written."""
    parts = {name: texts for name, *texts in side_by_side(row)}
    if part not in parts:
        raise InputError(
            f"{where}: {part!r} is not a part of this row; expected {', '.join(parts)}"
        )
    if not _is_unchanged(line["text_hash"], row["best"]["text_hash"]):
        raise InputError(
            f"{where}: text_hash is not the queue's; the text changed since the sheet was written:"
            " write it again"
        )
    for column, exported in zip(("source", "candidate"), parts[part], strict=True):
        if not _is_unchanged(line[column], exported):
            raise InputError(
                f"{where}: {column} of {part} is {_text(line[column])[:40]!r}, written was"
                f" {exported[:40]!r}; a spreadsheet program or a hand changed it. Put it back;"
                " corrections belong into the column corrected"
            )


def _only_value(where: str, column: str, lines: Iterable[_Line]) -> str:
    """The one value a column has on the lines of a row, or ""; a verdict in lower case."""
    values = {_text(line[column]).strip() for _, line in lines} - {""}
    values = {value.casefold() for value in values} if column == "verdict" else values
    if len(values) > 1:
        found = " and ".join(sorted(values))
        raise InputError(f"{where}: {column} has two values, {found}; expected one per row")
    return values.pop() if values else ""


def _row_decision(
    path: Path, row: dict, found: dict[str, _Line] | None, reviewer: str
) -> ReviewDecision | None:
    if not found:
        return None
    lines, numbers = list(found.values()), sorted(number for number, _ in found.values())
    with_verdict = [number for number, line in lines if _text(line["verdict"]).strip()]
    where = f"{path.name}, row {min(with_verdict or numbers)} ({row['id']})"
    if absent := [part for part, _, _ in side_by_side(row) if part not in found]:
        raise InputError(
            f"{where}: the line of {absent[0]} is missing; lines of this row stand in"
            f" {', '.join(map(str, numbers))}"
        )
    verdict = _only_value(where, "verdict", lines)
    corrections = {}
    for part, (number, line) in found.items():
        value, text = line["corrected"], _text(line["corrected"]).strip()
        if isinstance(value, _DATES) or text.startswith(("#NAME?", "#VALUE!", "#REF!")):
            raise InputError(
                f"{path.name}, row {number} ({row['id']}): corrected of {part} became {text!r} in"
                " the spreadsheet program; set the cell's format to text and type it again"
            )
        if text:
            corrections[part] = text
    if not verdict and not corrections:
        return None
    notes = dict.fromkeys(_text(line["note"]).strip() for _, line in lines)
    note = "; ".join(text for text in notes if text)
    who = _only_value(where, "reviewer", lines) or reviewer
    return make_decision(where, row, verdict or "edit", corrections, who, "not found", note, None)
