"""The reviewer's spreadsheet, edited as reviewers and spreadsheet programs do, and Label Studio's
files.
"""

import datetime
import random
import xml.etree.ElementTree as ElementTree

import pytest
from openpyxl import Workbook, load_workbook

from bimedix_utils import review, translation
from bimedix_utils.core.errors import InputError
from bimedix_utils.review import label_studio
from bimedix_utils.review.sheets import SHEET_COLUMNS, read_sheet, write_sheet

pytestmark = pytest.mark.unit
RECORD = {
    "kind": "mcqa",
    "lang": "en",
    "source": "toy",
    "licence": "MIT",
    "split": "train",
    "question": "What causes the pain?",
    "options": ["A1", "B1", "1-2", "00012"],
    "answer_index": 0,
    "answer": "It is an inflammation, treated with 5 mg.",
}
VALUES = {
    "question": "ما سبب الألم؟",
    "options": ["أ", "ب", "1-2", "00012"],
    "answer": "السبب «التهاب»، والعلاج 5 ملغ.",
}
CHAT = {
    "kind": "chat",
    "lang": "en",
    "source": "toy",
    "licence": "MIT",
    "split": "train",
    "turns": [
        {"role": "patient", "text": "My back hurts."},
        {"role": "doctor", "text": "Since when?"},
    ],
}
ARABIC_CHAT = {
    "turns": [{"role": "patient", "text": "يؤلمني ظهري."}, {"role": "doctor", "text": "منذ متى؟"}]
}
FLAGS, ERRORS = (
    ["numbers: 5 is missing"],
    [
        {
            "category": "accuracy",
            "severity": "major",
            "source": "pain",
            "target": "الألم",
            "explanation": "x",
        }
    ],
)


def row(row_id="row:1", record=RECORD, values=VALUES):
    best = {
        "values": values,
        "text_hash": translation.text_hash(values),
        "score": 70,
        "round": 0,
        "flags": FLAGS,
        "errors": ERRORS,
    }
    state = {
        "id": row_id,
        "state": "human",
        "note": "",
        "best": best,
        "record": {"id": row_id, **record},
    }
    return {**state, "queue_reason": "low", "stratum": "toy 70-79", "reviewers": 1}


QUEUE = [row(), row("row:2", CHAT, ARABIC_CHAT), row("row:3")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "review.xlsx"


def cells(path):
    """The sheet as lists of texts, header first."""
    lines = load_workbook(path).active.iter_rows(values_only=True)
    return [["" if value is None else value for value in line] for line in lines]


def save(path, table):
    """Write a whole sheet again, as a spreadsheet program would."""
    book = Workbook()
    for number, line in enumerate(table, start=1):
        for index, value in enumerate(line, start=1):
            cell = book.active.cell(number, index, value if value != "" else None)
            if isinstance(value, str) and value:
                cell.data_type = "s"
    book.save(path)


def filled(path, *changes, queued=QUEUE):
    """Write the sheet of a queue and change cells: (sheet row, column, value)."""
    write_sheet(path, queued)
    table = cells(path)
    for number, column, value in changes:
        table[number - 1][SHEET_COLUMNS.index(column)] = value
    save(path, table)
    return path


# Sheet rows: 2-7 are row:1 (question, four options, answer), 8-9 row:2, 10-15 row:3.


def test_an_untouched_sheet_decides_nothing(path):
    write_sheet(path, QUEUE)
    assert read_sheet(path, QUEUE, "Dr A") == []
    assert [line[1] for line in cells(path)[1:9]] == [
        "question",
        "option 1",
        "option 2",
        "option 3",
        "option 4",
        "answer",
        "turn 1 patient",
        "turn 2 doctor",
    ]
    first = cells(path)[1]
    assert (
        first[SHEET_COLUMNS.index("flags")].split("\n") == review.row_findings(QUEUE[0])
        and len(review.row_findings(QUEUE[0])) == 2
    )


def test_each_verdict_with_reviewer_and_note(path):
    filled(
        path,
        (2, "verdict", " Approve "),
        (2, "note", "جيد"),
        (8, "verdict", "REJECT"),
        (8, "reviewer", "د. سلمى"),
        (11, "corrected", "ج"),
    )
    kept = read_sheet(path, QUEUE, "Dr A")
    assert [(d.row_id, d.verdict, d.reviewer, d.note, d.decided_at, d.seconds) for d in kept] == [
        ("row:1", "approve", "Dr A", "جيد", "not found", None),
        ("row:2", "reject", "د. سلمى", "", "not found", None),
        ("row:3", "edit", "Dr A", "", "not found", None),
    ]
    assert kept[2].edited == {**VALUES, "options": ["ج", "ب", "1-2", "00012"]}
    assert [d.text_hash for d in kept] == [q["best"]["text_hash"] for q in QUEUE]
    assert {
        i: s for i, (s, _, _) in review.merge_decisions(QUEUE, QUEUE, kept, "hold").items()
    } == {"row:1": "ok", "row:2": "rejected", "row:3": "ok"}


def test_an_edit_keeps_the_form_of_a_chat(path):
    filled(path, (9, "corrected", "منذ متى يؤلمك؟"), (8, "verdict", "edit"))
    (one,) = read_sheet(path, QUEUE, "Dr A")
    assert one.edited == {
        "turns": [ARABIC_CHAT["turns"][0], {"role": "doctor", "text": "منذ متى يؤلمك؟"}]
    }


def test_smart_quotes_are_text(path):
    filled(path, (2, "corrected", "ما سبب “الألم”؟ ‘نعم’"))
    assert read_sheet(path, QUEUE, "Dr A")[0].edited["question"] == "ما سبب “الألم”؟ ‘نعم’"


def test_a_sorted_sheet_with_added_columns_empty_lines_and_whole_rows_left_out(path):
    filled(path, (2, "verdict", "approve"), (10, "corrected", "س"))
    header, *lines = cells(path)
    lines = [line for line in lines if "row:2" not in line[0]]
    random.Random(3).shuffle(lines)
    order = random.Random(4).sample(range(len(header)), len(header))
    table = [
        [line[i] for i in order] + [extra]
        for line, extra in zip([header, *lines], ["my column", *"abcdefghijkl"], strict=True)
    ]
    save(path, [*table[:5], [""] * len(table[0]), *table[5:], [""] * len(table[0])])
    kept = read_sheet(path, QUEUE, "Dr A")
    assert [(d.row_id, d.verdict) for d in kept] == [("row:1", "approve"), ("row:3", "edit")]
    assert kept[1].edited == {**VALUES, "question": "س"}


def test_reading_tells_the_same_twice_and_one_persons_half_is_enough(path):
    filled(path, (2, "verdict", "approve"), queued=QUEUE[:1])
    assert (
        read_sheet(path, QUEUE, "Dr A") == read_sheet(path, QUEUE, "Dr A")
        and len(read_sheet(path, QUEUE, "Dr A")) == 1
    )


# What is refused, and with which sentence

REFUSED = {
    "changed id": (
        [(4, "row_id", "row:7")],
        r"row 4 \(row:7\): no row of this queue has that row_id",
    ),
    "emptied id": ([(4, "row_id", "")], r"row 4 \(no row_id\): no row of this queue"),
    "changed part": (
        [(4, "part", "option 9")],
        r"row 4 \(row:1\): 'option 9' is not a part of this row; expected question, option 1",
    ),
    "duplicate line": (
        [(4, "part", "option 1")],
        r"row 4 \(row:1\): option 1 stands in row 3 already",
    ),
    "overwritten candidate": (
        [(9, "candidate", "منذ متى يؤلمك؟")],
        r"row 9 \(row:2\): candidate of turn 2 doctor is .*written was",
    ),
    "emptied candidate": (
        [(9, "candidate", "")],
        r"row 9 \(row:2\): candidate of turn 2 doctor .*column corrected",
    ),
    "overwritten source": (
        [(2, "source", "What hurts?")],
        r"row 2 \(row:1\): source of question is 'What hurts\?'",
    ),
    "smart quotes in a candidate": (
        [(7, "candidate", VALUES["answer"].replace("«", "“"))],
        r"row 7 \(row:1\): candidate of answer",
    ),
    "other hash": (
        [(2, "text_hash", "0123456789abcdef")],
        r"row 2 \(row:1\): text_hash is not the queue's",
    ),
    "unknown verdict": (
        [(12, "verdict", "fine")],
        r"row 12 \(row:3\): verdict 'fine'; expected one of approve, edit, reject",
    ),
    "two verdicts": (
        [(2, "verdict", "edit"), (3, "verdict", "reject")],
        r"row 2 \(row:1\): verdict has two values, edit and reject",
    ),
    "two reviewers": (
        [(2, "verdict", "reject"), (2, "reviewer", "A"), (3, "reviewer", "B")],
        r"row 2 \(row:1\): reviewer has two values",
    ),
    "edit without one": (
        [(8, "verdict", "edit")],
        r"row 8 \(row:2\): an edit without any correction",
    ),
    "edit that repeats": (
        [(8, "verdict", "edit"), (9, "corrected", "منذ متى؟")],
        r"row 8 \(row:2\): an edit without any correction",
    ),
    "approved and corrected": (
        [(2, "verdict", "approve"), (3, "corrected", "س")],
        r"row 2 .*option 1 corrected, but the verdict is",
    ),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_what_makes_a_decision_doubtful_is_refused_with_its_row(changes, message, path):
    filled(path, *changes)
    with pytest.raises(InputError, match=rf"review\.\w+, {message}"):
        read_sheet(path, QUEUE, "Dr A")


def test_a_deleted_line_is_named(path):
    write_sheet(path, QUEUE)
    table = cells(path)
    save(path, table[:3] + table[4:])
    with pytest.raises(
        InputError,
        match=(
            r"row 2 \(row:1\): the line of option 2 is missing; lines of this row stand in 2, 3, 4,"
            r" 5, 6"
        ),
    ):
        read_sheet(path, QUEUE, "Dr A")


def test_a_decision_needs_a_person(path):
    filled(path, (2, "verdict", "approve"))
    with pytest.raises(InputError, match=r"row 2 \(row:1\): nobody is named as reviewer"):
        read_sheet(path, QUEUE)


@pytest.mark.parametrize(
    "column, message", [("text_hash", "no column text_hash"), ("corrected", "no column corrected")]
)
def test_a_removed_column_is_named(column, message, path):
    write_sheet(path, QUEUE)
    index = SHEET_COLUMNS.index(column)
    save(path, [line[:index] + line[index + 1 :] for line in cells(path)])
    with pytest.raises(InputError, match=f"row 1: {message}"):
        read_sheet(path, QUEUE, "Dr A")


def test_an_added_column_with_a_name_in_use_is_named(path):
    write_sheet(path, QUEUE)
    save(path, [[*line, "note" if number == 0 else ""] for number, line in enumerate(cells(path))])
    with pytest.raises(InputError, match="two columns named note"):
        read_sheet(path, QUEUE, "Dr A")


def test_a_candidate_that_lost_an_option_can_be_edited_and_not_approved(path):
    lost = [row("row:1", values={**VALUES, "options": ["أ", "ب", "1-2"]})]
    filled(path, (2, "verdict", "approve"), queued=lost)
    with pytest.raises(
        InputError, match=r"row 2 \(row:1\): the candidate does not have the parts of its source"
    ):
        read_sheet(path, lost, "Dr A")
    filled(path, (3, "corrected", "ألف"), queued=lost)
    with pytest.raises(InputError, match="option 4 has no translation"):
        read_sheet(path, lost, "Dr A")
    filled(path, (6, "corrected", "00012"), queued=lost)
    assert read_sheet(path, lost, "Dr A")[0].edited == VALUES


# Texts that spreadsheets damage

NASTY = [
    "=1+1",
    "+5",
    "-3",
    "@x",
    "1-2",
    "00012",
    "5",
    "5.0",
    "1e5",
    "3/4",
    "12:30",
    "TRUE",
    "'5",
    "''=1",
    "'",
    "-",
    "%",
    "a,b;c\td",
    'say "no"',
    '"',
    "line one\nline two",
    "a\r\nb",
    "\u200fمرحبا\u200e (500 mg)\u202b!\u202c",
    "دواء 💊🏽",
    "٣-٤",
    "5 مايو",
    "_x000D_",
    "a\x0bb",
    "a\u2028b",
    "نص طويل " * 3000,
    '=HYPERLINK("x")',
    "\tx",
    "123456789012345678901234567890",
]


def nasty_queue():
    queued = []
    for number, text in enumerate(NASTY):
        values = {**VALUES, "options": [text, *VALUES["options"][1:]]}
        queued.append(
            row(f"row:{number}", {**RECORD, "options": [text, *RECORD["options"][1:]]}, values)
        )
    return queued


def test_nasty_texts_come_back_as_they_were(path):
    """Approving and editing beside them leaves each text as the queue has it, and typed as a
    correction it arrives as typed.
    """
    queued = nasty_queue()
    write_sheet(path, queued)
    table = cells(path)
    for line in table[1:]:
        if line[1] == "answer":
            line[SHEET_COLUMNS.index("corrected")] = "جواب"
    save(path, table)
    kept = read_sheet(path, queued, "Dr A")
    assert [d.edited["options"][0] for d in kept] == NASTY
    assert all(d.edited["answer"] == "جواب" for d in kept)


def test_copying_a_nasty_candidate_into_the_correction_changes_nothing_but_the_answer(path):
    queued = nasty_queue()
    write_sheet(path, queued)
    table = cells(path)
    for line in table[1:]:
        line[SHEET_COLUMNS.index("corrected")] = (
            "جواب" if line[1] == "answer" else line[SHEET_COLUMNS.index("candidate")]
        )
    save(path, table)
    kept = read_sheet(path, queued, "Dr A")
    folded = [text.replace("\r\n", "\n").replace("\x0b", "").strip() for text in NASTY]
    assert [d.edited["options"][0].replace("\r\n", "\n") for d in kept] == folded


def test_random_texts_survive(path):
    draw, letters = random.Random(11), "=+-@'\"\n,;\t 0159.:/%eأبت٣💊\u200f“”x"
    values = [
        {**VALUES, "answer": "".join(draw.choices(letters, k=draw.randint(1, 12))) + "س"}
        for _ in range(60)
    ]
    queued = [row(f"row:{number}", values=value) for number, value in enumerate(values)]
    write_sheet(path, queued)
    table = cells(path)
    for line in table[1:]:
        if line[1] == "question":
            line[SHEET_COLUMNS.index("corrected")] = "سؤال"
    save(path, table)
    assert [d.edited for d in read_sheet(path, queued, "Dr A")] == [
        {**value, "question": "سؤال"} for value in values
    ]


def test_xlsx_holds_texts_only_right_to_left_where_arabic(tmp_path):
    path = tmp_path / "review.xlsx"
    write_sheet(
        path, nasty_queue() + [row("row:lost", values={**VALUES, "options": ["أ", "ب", "1-2"]})]
    )
    sheet = load_workbook(path).active
    types = {
        cell.data_type for line in sheet.iter_rows() for cell in line if cell.value is not None
    }
    assert types == {"s"} and sheet.freeze_panes == "A2" and not sheet.protection.sheet
    by = {name: index for index, name in enumerate(SHEET_COLUMNS)}
    first = sheet[2]
    assert (
        first[by["candidate"]].alignment.readingOrder == 2
        and first[by["candidate"]].alignment.horizontal == "right"
    )
    assert (
        first[by["corrected"]].alignment.readingOrder == 2
        and first[by["source"]].alignment.readingOrder == 1
    )
    assert (
        all(cell.number_format == "@" for cell in first)
        and first[by["candidate"]].alignment.wrap_text
    )
    assert (
        first[by["candidate"]].fill.fgColor.rgb
        == "00EEEEEE"
        != first[by["corrected"]].fill.fgColor.rgb
    )
    (choice,) = sheet.data_validations.dataValidation
    heads = [
        n
        for n in range(2, sheet.max_row + 1)
        if sheet.cell(n, by["row_id"] + 1).value != sheet.cell(n - 1, by["row_id"] + 1).value
    ]
    assert choice.formula1 == '"approve,edit,reject"'
    assert sorted(cell for part in choice.sqref.ranges for cell in part.rows for cell in cell) == [
        (n, by["verdict"] + 1) for n in heads
    ]


def test_a_date_made_by_the_spreadsheet_is_refused(tmp_path):
    made = datetime.datetime(2026, 2, 1)
    path = filled(tmp_path / "review.xlsx", (5, "candidate", made))
    with pytest.raises(
        InputError,
        match=r"row 5 \(row:1\): candidate of option 3 is '2026-02-01.*written was '1-2'",
    ):
        read_sheet(path, QUEUE, "Dr A")
    path = filled(tmp_path / "review.xlsx", (5, "corrected", made))
    with pytest.raises(
        InputError,
        match=(
            r"row 5 \(row:1\): corrected of option 3 became '2026-02-01 00:00:00'.*format to text"
        ),
    ):
        read_sheet(path, QUEUE, "Dr A")
    path = filled(tmp_path / "review.xlsx", (5, "corrected", "#NAME?"))
    with pytest.raises(
        InputError, match=r"row 5 \(row:1\): corrected of option 3 became '#NAME\?'"
    ):
        read_sheet(path, QUEUE, "Dr A")


def test_numbers_made_by_the_spreadsheet_are_the_texts_they_were(tmp_path):
    """Excel offers to turn "00012" into a number; the queue still knows the text."""
    path = filled(
        tmp_path / "review.xlsx",
        (6, "candidate", 12),
        (6, "source", 12.0),
        (5, "corrected", 7.0),
        (4, "corrected", 2.5),
    )
    assert read_sheet(path, QUEUE, "Dr A")[0].edited["options"] == ["أ", "2.5", "7", "00012"]
    path = filled(tmp_path / "review.xlsx", (6, "candidate", 13))
    with pytest.raises(InputError, match=r"row 6 \(row:1\): candidate of option 4 is '13'"):
        read_sheet(path, QUEUE, "Dr A")


def test_files_that_are_no_sheet_are_named(tmp_path):
    (tmp_path / "broken.xlsx").write_bytes(b"PK not a workbook")
    (tmp_path / "review.csv").write_bytes(b"")
    Workbook().save(tmp_path / "empty.xlsx")
    for name, message in {
        "broken.xlsx": "not a readable .xlsx file",
        "review.csv": "save the sheet as .xlsx",
        "empty.xlsx": "row 1: no column row_id",
        "nowhere.xlsx": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            read_sheet(tmp_path / name, QUEUE, "Dr A")
    with pytest.raises(InputError, match="review.ods: a sheet is written as .xlsx"):
        write_sheet(tmp_path / "review.ods", QUEUE)


def test_a_text_longer_than_a_cell_is_refused_before_it_is_cut(path):
    """A longer text used to be cut at the cell's limit without a word, and the reviewer would have
    approved the first part of it.
    """
    with pytest.raises(InputError, match="row:1, answer: candidate is longer than a cell holds"):
        write_sheet(path, [row(values={**VALUES, "answer": "س" * 40_000})])
    assert not path.exists()


def test_the_sheet_may_stand_beside_others_in_the_workbook(tmp_path):
    path = filled(tmp_path / "review.xlsx", (2, "verdict", "approve"))
    book = load_workbook(path)
    book.create_sheet("notes", 0)["A1"] = "my notes"
    book.active = 0
    book.save(path)
    assert len(read_sheet(path, QUEUE, "Dr A")) == 1


# Label Studio


def answered(task, verdict, texts=(), who=7, note="", **more):
    """A task of Label Studio's JSON export with one annotation."""
    result = (
        [
            {
                "from_name": "verdict",
                "to_name": "row",
                "type": "choices",
                "id": "a",
                "value": {"choices": [verdict]},
            }
        ]
        if verdict
        else []
    )
    for index, text in texts:
        name = f"corrected_{index}"
        result.append(
            {
                "from_name": name,
                "to_name": f"candidate_{index}",
                "type": "textarea",
                "id": name,
                "value": {"text": [text]},
            }
        )
    if note:
        result.append(
            {
                "from_name": "note",
                "to_name": "row",
                "type": "textarea",
                "id": "n",
                "value": {"text": note},
            }
        )
    annotation = {
        "id": 5,
        "result": result,
        "was_cancelled": False,
        "lead_time": 12.5,
        "completed_by": who,
        "updated_at": "2026-11-02T10:00:00Z",
    }
    return {"id": 31, **task, "annotations": [annotation | more]}


def test_label_studio_tasks_and_back():
    tasks = label_studio.to_label_studio(QUEUE)
    assert [t["data"]["row_id"] for t in tasks] == ["row:1", "row:2", "row:3"]
    assert tasks[1]["data"]["parts"][1] == {
        "part": "turn 2 doctor",
        "source": "Since when?",
        "candidate": "منذ متى؟",
    }
    export = [
        answered(tasks[0], "approve", note="جيد"),
        answered(
            tasks[1],
            "edit",
            [(1, "منذ متى “يؤلمك”؟")],
            {"id": 3, "email": "b@example.org", "first_name": "B"},
        ),
        {**tasks[2], "annotations": []},
    ]
    kept = label_studio.from_label_studio(export, QUEUE)
    assert [(d.row_id, d.verdict, d.reviewer, d.decided_at, d.seconds, d.note) for d in kept] == [
        ("row:1", "approve", "user 7", "2026-11-02T10:00:00Z", 12.5, "جيد"),
        ("row:2", "edit", "b@example.org", "2026-11-02T10:00:00Z", 12.5, ""),
    ]
    assert kept[1].edited["turns"] == [
        ARABIC_CHAT["turns"][0],
        {"role": "doctor", "text": "منذ متى “يؤلمك”؟"},
    ]
    assert kept[1].text_hash == translation.text_hash(ARABIC_CHAT)


def test_the_labelling_page_uses_the_fields_of_the_tasks_and_runs_right_to_left():
    page = ElementTree.parse(label_studio.LABEL_CONFIG).getroot()
    task = label_studio.to_label_studio(QUEUE)[0]["data"]
    expected = {
        value.split("[")[0].lstrip("$")
        for tag in page.iter()
        for value in tag.attrib.values()
        if value.startswith("$")
    }
    assert expected <= set(task)
    inner = {
        value.rpartition(".")[2]
        for tag in page.iter()
        for value in tag.attrib.values()
        if value.startswith("$parts[")
    }
    assert inner == set(task["parts"][0])
    named = {tag.get("name") for tag in page.iter()} - {None}
    assert {tag.get("toName") for tag in page.iter()} - {None} <= named
    assert [tag.get("value") for tag in page.iter("Choice")] == list(review.REVIEW_VERDICTS)
    (arabic,) = [tag for tag in page.iter("View") if tag.get("className") == "arabic"]
    assert {tag.get("name") for tag in arabic} == {
        "candidate_{{idx}}",
        "corrected_{{idx}}",
    } and "direction: rtl" in page.find("Style").text


def test_cancelled_annotations_are_skipped_and_two_people_are_a_double_review():
    (task,) = label_studio.to_label_studio(QUEUE[:1])
    late, early = (
        answered(task, "reject", who=2, updated_at="2026-11-03"),
        answered(task, "approve", who=1),
    )
    gone = answered(task, "reject", who=3, was_cancelled=True)
    both = {**late, "annotations": [x["annotations"][0] for x in (late, gone, early)]}
    kept = label_studio.from_label_studio([both], QUEUE)
    assert [(d.reviewer, d.verdict) for d in kept] == [("user 1", "approve"), ("user 2", "reject")]
    assert review.merge_decisions(QUEUE[:1], QUEUE[:1], kept, "hold")["row:1"][0] == "held"


def test_what_label_studio_may_bring_back_wrong_is_named():
    (task,) = label_studio.to_label_studio(QUEUE[:1])
    strange = {"data": {**task["data"], "row_id": "row:9"}}
    older = {"data": {**task["data"], "text_hash": "0" * 16}}
    for export, message in [
        (answered(strange, "approve"), r"task 31 \(row:9\): no row of this queue has that row_id"),
        (answered(older, "approve"), r"task 31 \(row:1\): the text changed"),
        (answered(task, ""), r"task 31 \(row:1\): verdict ''; expected one of"),
        (
            answered(task, "approve", [(0, "س")]),
            r"task 31 \(row:1\): question corrected, but the verdict is approve",
        ),
        (answered(task, "edit"), r"task 31 \(row:1\): an edit without any correction"),
        (answered(task, "edit", [(6, "س")]), r"task 31 \(row:1\): corrected_6 belongs to no part"),
        (task, r"task 1 \(row:1\): no annotations; export the project as JSON"),
    ]:
        with pytest.raises(InputError, match=message):
            label_studio.from_label_studio([export], QUEUE)
