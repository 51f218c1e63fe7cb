"""Reviewing in a spreadsheet program: XLSX or CSV there and back.

A spreadsheet program changes what it opens: "1-2" becomes a date, "00012" a number, "=1+1" a sum,
and a person deletes, sorts and renames. So the files carry enough to notice, and the candidate's
text is always taken from the queue, never from the file.
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.text import is_arabic
from . import decide, findings, side_by_side
from .decisions import VERDICTS, Decision

SHEET = [
    "row_id",
    "part",
    "source",
    "candidate",
    "corrected",
    "verdict",
    "note",
    "reviewer",
    "score",
    "flags",
    "text_hash",
]
NEEDED = [
    "row_id",
    "part",
    "source",
    "candidate",
    "corrected",
    "verdict",
    "text_hash",
]  # a reviewer may drop the others
OPEN = ("corrected", "verdict", "note", "reviewer")  # the cells a reviewer fills
WIDTHS = {
    "row_id": 24,
    "part": 16,
    "source": 50,
    "candidate": 50,
    "corrected": 50,
    "note": 30,
    "flags": 40,
    "text_hash": 20,
}
LONGEST = 32_767  # characters in one cell of a spreadsheet (Excel's specification)
_ILLEGAL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
)  # XML cannot hold them; such a text is shown without


# Writing a sheet


def _lines(queued: Iterable[dict]) -> Iterable[dict[str, str]]:
    """One line per part of each row, every cell a text."""
    for row in queued:
        score = row["best"].get("score")
        for number, (part, source, candidate) in enumerate(side_by_side(row)):
            line = dict.fromkeys(SHEET, "") | {
                "row_id": row["id"], "part": part, "source": source, "candidate": candidate, "text_hash": row["best"]["text_hash"],
            }  # fmt: skip
            if number == 0:
                line |= {
                    "score": "" if score is None else str(score),
                    "flags": "\n".join(findings(row)),
                }
            for column, text in line.items():
                if len(text.encode("utf-16-le", "surrogatepass")) // 2 >= LONGEST:
                    raise InputError(
                        f"{row['id']}, {part}: {column} is longer than a cell holds; review this"
                        " row in the form"
                    )
            yield line


def guard(text: str) -> str:
    """A CSV cell that no spreadsheet program takes for a formula, a date or a number: an apostrophe
    is put before a text that looks like one, and before a text that begins with an apostrophe
    already.
    """
    risky = text[:1] in ("=", "+", "-", "@", "'", "\t", "\r", "\n") or text.strip().casefold() in (
        "true",
        "false",
    )
    short = len(text) <= 40 and any(c.isdigit() for c in text)
    return f"'{text}" if risky or short or (text and not any(c.isalpha() for c in text)) else text


def unguard(text: str) -> str:
    """The inverse of `guard`; a text without a guard stays. An apostrophe that a reviewer puts
    before such a text is taken for a guard.
    """
    return text[1:] if text[:1] == "'" and guard(text[1:]) == text else text


def write_sheet(path: Path, queued: Iterable[dict]) -> None:
    """Write queued rows as `.xlsx` or `.csv` for a reviewer: one line per part, `verdict` once per
    row, corrections in `corrected`.

    Raises `InputError` for another suffix and for a text longer than a cell. Nothing is locked: a
    protected sheet cannot be sorted.
    """
    lines = list(_lines(queued))
    if path.suffix == ".csv":
        with open(path, "w", encoding="utf-8-sig", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(SHEET)
            writer.writerows(
                [line[c] if c in ("part", "score") else guard(line[c]) for c in SHEET]
                for line in lines
            )
    elif path.suffix == ".xlsx":
        _write_xlsx(path, lines)
    else:
        raise InputError(f"{path.name}: a sheet is written as .xlsx or .csv")


def _write_xlsx(path: Path, lines: list[dict[str, str]]) -> None:
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    grey, bold = PatternFill("solid", fgColor="EEEEEE"), Font(bold=True)
    sides = {
        arabic: Alignment(side, "top", wrap_text=True, readingOrder=1 + arabic)
        for arabic, side in ((True, "right"), (False, "left"))
    }
    book = Workbook()
    sheet = book.active
    sheet.title, sheet.freeze_panes = "review", "A2"
    for place, column in enumerate(SHEET, start=1):
        sheet.cell(1, place, column).font = bold
        sheet.column_dimensions[get_column_letter(place)].width = WIDTHS.get(column, 12)
    choice = DataValidation(
        type="list", formula1=f'"{",".join(VERDICTS)}"', allow_blank=True, showErrorMessage=True
    )
    sheet.add_data_validation(choice)
    previous = None
    for number, line in enumerate(lines, start=2):
        # A correction is typed in the direction of the candidate, or of a whole Arabic sheet's when
        # the candidate lacks the part.
        arabic = {
            "candidate": is_arabic(line["candidate"]),
            "corrected": is_arabic(line["candidate"]) or not line["candidate"],
        }
        for place, column in enumerate(SHEET, start=1):
            cell = sheet.cell(number, place)
            text = _ILLEGAL.sub("", line[column])
            if text:
                cell.value = text
                cell.data_type = "s"  # after the value: "=1+1" is a text here, not a formula
            cell.number_format, cell.quotePrefix = "@", text[:1] in ("=", "+", "-", "@")
            cell.alignment = sides[arabic.get(column, is_arabic(text))]
            if column not in OPEN or (column == "verdict" and line["row_id"] == previous):
                cell.fill = grey
        if line["row_id"] != previous:
            choice.add(sheet.cell(number, SHEET.index("verdict") + 1))
        previous = line["row_id"]
    book.save(path)


# Reading it back


def _csv_rows(path: Path) -> list[list[str]]:
    """Rows of a CSV file as Excel may have saved it: commas, semicolons or tabs, UTF-8 or its
    "Unicode text" (UTF-16).
    """
    try:
        start = path.read_bytes()[:2]
        text = (
            path.read_text(encoding="utf-16")
            if start in (b"\xff\xfe", b"\xfe\xff")
            else read_utf8(path)
        )
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path.name}: begins as UTF-16 but is cut short or damaged; save it again"
        ) from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(10 * LONGEST)
    try:
        return [
            [unguard(cell) for cell in cells]
            for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise InputError(f"{path.name}: not a readable CSV file ({error})") from None


def _xlsx_rows(path: Path) -> list[list[Any]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path)
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror or error})") from None
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path.name}: not a readable .xlsx file ({error})") from None
    sheets = [
        [[cell.value for cell in row] for row in sheet.iter_rows()] for sheet in book.worksheets
    ]
    return next(
        (
            rows
            for rows in sheets
            if rows and {"row_id", "part"} <= {str(value).strip() for value in rows[0]}
        ),
        sheets[0],
    )


def _text(value: Any) -> str:
    """A cell as text; a whole number that a spreadsheet made 5.0 is 5 again."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _same(value: Any, exported: str) -> bool:
    """True when a cell still holds what was written, whatever line ends or number type a program
    gave it.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(exported) == value
        except ValueError:
            return False

    def folded(text: str) -> str:
        return _ILLEGAL.sub(
            "", text.replace("_x000D_", "\r").replace("\r\n", "\n").replace("\r", "\n")
        ).strip()

    return not isinstance(value, datetime | date | time) and folded(_text(value)) == folded(
        exported
    )


def _sheet_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(sheet row number, {column: value}) of every line that is not empty."""
    if path.suffix.lower() not in (".xlsx", ".csv", ".txt", ".tsv"):
        raise InputError(f"{path.name}: save the sheet as .xlsx, or as CSV UTF-8")
    rows = _xlsx_rows(path) if path.suffix.lower() == ".xlsx" else _csv_rows(path)
    header = [_text(value).strip() for value in rows[0]] if rows else []
    if absent := [column for column in NEEDED if column not in header]:
        raise InputError(
            f"{path.name}, row 1: no column {', '.join(absent)}; the header must stay as it was"
            " written"
        )
    if twice := [column for column in SHEET if header.count(column) > 1]:
        raise InputError(f"{path.name}, row 1: two columns named {twice[0]}; rename the added one")
    result = []
    for number, cells in enumerate(rows[1:], start=2):
        if any(_text(cell).strip() for cell in cells):
            padded = [*cells, *[None] * (len(header) - len(cells))]
            result.append(
                (
                    number,
                    {
                        column: padded[header.index(column)] if column in header else None
                        for column in SHEET
                    },
                )
            )
    return result


def read_sheet(path: Path, queued: Iterable[dict], reviewer: str = "") -> list[Decision]:
    """Decisions from a sheet of `write_sheet`, in queue order; rows without a verdict or a
    correction are undecided.

    Lines are found by row id and part: order, added columns, empty lines and rows left out as a
    whole do not matter. `reviewer` counts where the sheet's own column is empty. Raises
    `InputError` naming file, sheet row and row id for everything that makes a decision doubtful: a
    missing, doubled or unknown line, a changed source, candidate or hash, a verdict that does not
    fit the corrections.
    """
    rows = {row["id"]: row for row in queued}
    expected = {
        row_id: {part: (source, candidate) for part, source, candidate in side_by_side(row)}
        for row_id, row in rows.items()
    }
    found: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {}
    for number, line in _sheet_lines(path):
        row_id, part = _text(line["row_id"]).strip(), _text(line["part"]).strip()
        where = f"{path.name}, row {number} ({row_id or 'no row_id'})"
        if row_id not in rows:
            raise InputError(
                f"{where}: no row of this queue has that row_id; was it changed, or is the sheet of"
                " another run?"
            )
        if part not in expected[row_id]:
            raise InputError(
                f"{where}: {part!r} is not a part of this row; wanted {', '.join(expected[row_id])}"
            )
        if part in found.setdefault(row_id, {}):
            raise InputError(
                f"{where}: {part} stands in row {found[row_id][part][0]} already; take one of the"
                " two lines out"
            )
        if not _same(line["text_hash"], rows[row_id]["best"]["text_hash"]):
            raise InputError(
                f"{where}: text_hash is not the queue's; the text changed since the sheet was"
                " written: write it again"
            )
        for column, exported in zip(("source", "candidate"), expected[row_id][part], strict=True):
            if not _same(line[column], exported):
                raise InputError(
                    f"{where}: {column} of {part} is {_text(line[column])[:40]!r}, written was"
                    f" {exported[:40]!r}; a spreadsheet program or a hand changed it. Put it back;"
                    " corrections belong into the column corrected"
                )
        found[row_id][part] = (number, line)
    return [
        decision
        for row_id in rows
        if row_id in found
        and (decision := _row_decision(path, rows[row_id], found[row_id], reviewer))
    ]


def _only(where: str, column: str, lines: Iterable[tuple[int, dict[str, Any]]]) -> str:
    """The one value a column has on the lines of a row, in lower case for a verdict; empty when it
    has none.
    """
    values = {_text(line[column]).strip() for _, line in lines} - {""}
    values = {value.casefold() for value in values} if column == "verdict" else values
    if len(values) > 1:
        raise InputError(
            f"{where}: {column} has two values, {' and '.join(sorted(values))}; one per row is"
            " wanted"
        )
    return values.pop() if values else ""


def _row_decision(
    path: Path, row: dict, found: dict[str, tuple[int, dict[str, Any]]], reviewer: str
) -> Decision | None:
    numbers = sorted(number for number, _ in found.values())
    spoken = [number for number, line in found.values() if _text(line["verdict"]).strip()]
    where = f"{path.name}, row {min(spoken or numbers)} ({row['id']})"
    if absent := [part for part, _, _ in side_by_side(row) if part not in found]:
        raise InputError(
            f"{where}: the line of {absent[0]} is missing; lines of this row stand in"
            f" {', '.join(map(str, numbers))}"
        )
    verdict = _only(where, "verdict", found.values())
    corrections = {}
    for part, (number, line) in found.items():
        value = line["corrected"]
        if isinstance(value, datetime | date | time | timedelta) or _text(value).startswith(
            ("#NAME?", "#VALUE!", "#REF!")
        ):
            raise InputError(
                f"{path.name}, row {number} ({row['id']}): corrected of {part} became"
                f" {_text(value)!r} in the spreadsheet program; set the cell's format to text and"
                " type it again"
            )
        if text := _text(value).strip():
            corrections[part] = text
    if not verdict and not corrections:
        return None
    verdict = verdict or "edit"
    notes = list(
        dict.fromkeys(text for _, line in found.values() if (text := _text(line["note"]).strip()))
    )
    who = _only(where, "reviewer", found.values()) or reviewer
    return decide(where, row, verdict, corrections, who, "not found", "; ".join(notes), None)
