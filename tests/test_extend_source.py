"""A new source in a common layout is one entry of a `sources.yaml` beside the data."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from bimedix_utils import sources
from bimedix_utils.core.errors import InputError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path):
    """A folder of data with these entries in its sources.yaml, and files of these texts."""

    def _folder(entries: dict, **files: str) -> Path:
        text = yaml.safe_dump({"sources": entries}, allow_unicode=True)
        (tmp_path / "sources.yaml").write_text(text, encoding="utf-8")
        for name, content in files.items():
            name, _, ending = name.rpartition("_")
            (tmp_path / f"{name}.{ending}").write_text(content, encoding="utf-8")
        return tmp_path

    return _folder


def read(folder: Path) -> list:
    return [row for file in sources.find_files(folder) for row in sources.iter_file(file)]


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


EXAM = {
    "title": "Heart exam",
    "pattern": r"^heart_exam.*\.csv$",
    "layout": "multiple_choice",
    "columns": {
        "id": "nr",
        "question": "stem",
        "options": ["c1", "c2", "c3"],
        "key": "right",
        "explanation": "why",
        "topic": "chapter",
    },
    "split": "train",
    "licence": "CC-BY-4.0",
}
ROWS = [
    ["nr", "stem", "c1", "c2", "c3", "right", "why", "chapter"],
    ["7", 'Which valve, "first"?', "mitral", "aortic", "tricuspid", "B", "Because.", "valves"],
    ["8", "أي صمام؟", "التاجي", "الأبهري", "مثلث الشرفات", "C", "", ""],
]


def table(rows: list[list[str]], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(rows)


def test_a_csv_with_foreign_column_names_is_one_entry(folder):
    data = folder({"heart_exam": EXAM})
    table(ROWS, data / "heart_exam_2024.csv")
    (file,) = sources.find_files(data)
    assert (file.entry.name, file.lang, file.split) == ("heart_exam", "en", "train")
    first, second = sources.read_file(file)
    assert (first.id, first.source, first.licence) == ("heart_exam:7", "heart_exam", "CC-BY-4.0")
    assert first.options == ("mitral", "aortic", "tricuspid") and first.key() == "B"
    assert (first.question, first.answer) == ('Which valve, "first"?', "Because.")
    assert (first.topic, second.key(), second.answer) == ("valves", "C", "")
    assert sources.may_publish_record(first)
    assert sources.unknown_files(data) == ["sources.yaml"]


def test_a_translation_is_aligned_only_when_the_entry_says_so(folder):
    data = folder({"heart_exam": EXAM})
    table(ROWS[:1] + ROWS[2:], data / "heart_exam.ar.csv")
    (row,) = read(data)
    assert (row.lang, row.id, row.parent_id) == ("ar", "heart_exam:8:ar", None)
    data = folder({"heart_exam": {**EXAM, "aligned": True}})
    assert read(data)[0].parent_id == "heart_exam:8"


def test_without_a_stated_licence_nothing_may_be_published(folder):
    data = folder({"heart_exam": {key: v for key, v in EXAM.items() if key != "licence"}})
    table(ROWS[:2], data / "heart_exam.csv")
    (row,) = read(data)
    assert row.licence == "not found" and not sources.may_publish_record(row)


@pytest.mark.parametrize(
    ("key", "values", "letters"),
    [
        ("from_0", "0 1 2", "ABC"),
        ("from_1", "1 2 2", "ABB"),
        ("number", "1 2 3", "ABC"),
        ("number", "0 2 1", "ACB"),
        ("text", "aortic mitral aortic", "BAB"),
    ],
)
def test_keys_are_letters_texts_or_numbers(folder, key: str, values: str, letters: str):
    data = folder({"heart_exam": {**EXAM, "key": key}})
    rows = [[str(i), f"Q{i}?", *ROWS[1][2:5], v, "", ""] for i, v in enumerate(values.split())]
    table([ROWS[0], *rows], data / "heart_exam.csv")
    assert "".join(row.key() for row in read(data)) == letters


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("letter", "D", "c1 c2 c3 ['A', 'B', 'C'] with right 'D'; expected letters"),
        ("from_0", "3", "right is 3; expected 0-2"),
        ("from_1", "0", "right is 0; expected 1-3"),
        ("number", "2", "right takes the values [2], so it cannot be told"),
        ("text", "heart", "right 'heart' is not the text of one option"),
    ],
)
def test_a_key_that_does_not_fit_is_an_error(folder, key: str, value: str, message: str):
    data = folder({"heart_exam": {**EXAM, "key": key}})
    table([ROWS[0], [*ROWS[1][:5], value, "", ""]], data / "heart_exam.csv")
    with pytest.raises(InputError) as error:
        read(data)
    assert message in str(error.value)


ALPACA = {
    "title": "Clinic questions",
    "pattern": r"^clinic.*\.jsonl$",
    "layout": "question_answer",
    "columns": {"question": ["ask", "task"], "answer": "reply"},
}


def test_questions_and_answers_keep_rows_without_an_answer(folder):
    rows = [{"ask": "", "task": "What is gout?", "reply": "A disease."}, {"ask": "Why?"}]
    data = folder({"clinic": ALPACA}, clinic_train_jsonl=lines(rows[0], {**rows[1], "reply": None}))
    good, bad = read(data)
    assert (good.question, good.answer, good.split) == ("What is gout?", "A disease.", "train")
    assert (bad.status, bad.note) == ("rejected", "no answer in the owner's file")


@pytest.mark.parametrize(
    ("turns", "role", "text", "speakers"),
    [
        ("conversations", "from", "value", ("human", "gpt")),  # ShareGPT
        ("messages", "role", "content", ("user", "assistant")),  # messages
        ("talk", "who", "words", ("client", "medic")),
    ],
)
def test_chats_in_lists_of_turns(folder, turns: str, role: str, text: str, speakers: tuple):
    said = ["My knee hurts.", "Since when?", "Monday.", "Rest it."]
    listed = [{role: speakers[i % 2], text: words} for i, words in enumerate(said)]
    listed.insert(0, {role: "system", text: "You are a doctor."})
    roles = {speakers[0]: "patient", speakers[1]: "doctor", "system": "ignored"}
    columns = {"turns": turns, "role": role, "text": text}
    entry = {"title": "Talks", "pattern": r"^talks", "layout": "chat", "columns": columns}
    data = folder({"talks": {**entry, "roles": roles}}, talks_train_jsonl=lines({turns: listed}))
    (row,) = read(data)
    assert [turn.text for turn in row.turns] == said
    assert [turn.role for turn in row.turns] == ["patient", "doctor"] * 2


def test_parquet_and_one_text_with_speakers(folder):
    import pyarrow
    import pyarrow.parquet

    entry = {
        "title": "Visits",
        "pattern": r"^visits.*\.parquet$",
        "layout": "speakers",
        "columns": {"id": "visit", "text": "transcript"},
        "roles": {"patient": "patient", "dr": "doctor"},
    }
    data = folder({"visits": entry})
    rows = [{"visit": 3, "transcript": "Patient: My knee.\nDr: Rest it."}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data / "visits_test.parquet")
    (row,) = read(data)
    assert (row.id, row.split, [turn.role for turn in row.turns]) == (
        "visits:3",
        "test",
        ["patient", "doctor"],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "sources.heart_exam.colour: Extra inputs are not permitted"),
        ({"layout": "odd"}, "layout 'odd' is not one of"),
        ({"columns": {"question": "stem"}}, "columns: key, options expected by multiple_choice"),
        ({"columns": {**EXAM["columns"], "hint": "h"}}, "no field hint; legal: context, explanat"),
        ({"key": "colour"}, "sources.heart_exam.key: Input should be 'letter', 'text'"),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused_by_name(folder, change: dict, message: str):
    data = folder({"heart_exam": {**EXAM, **change}})
    with pytest.raises(InputError) as error:
        sources.find_files(data)
    assert str(error.value).startswith("sources.yaml: ") and message in str(error.value)


def test_an_entry_with_a_name_of_the_kits_is_refused(folder):
    with pytest.raises(InputError, match="the kit has a source medqa: rename"):
        sources.find_files(folder({"medqa": EXAM}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nr,stem\n1,a,b\n", "heart_exam.csv, line 2: 2 columns expected, as in the header"),
        ("nr,nr\n1,2\n", "heart_exam.csv: a column name is repeated: nr, nr"),
        ('nr,stem\n1,"a\n', "heart_exam.csv, line 2: not valid CSV"),
        ("nr,stem\n1,a\n", "heart_exam.csv, line 2: columns expected nr, stem, c1, c2, c3, right;"),
    ],
)
def test_a_csv_that_is_not_whole_is_refused_with_its_line(folder, text: str, message: str):
    with pytest.raises(InputError) as error:
        read(folder({"heart_exam": EXAM}, heart_exam_csv=text))
    assert str(error.value).startswith(message)


def test_a_layout_of_ones_own_is_one_function_and_its_registration(folder, monkeypatch):
    from bimedix_utils.core.records import Record
    from bimedix_utils.sources import layouts

    monkeypatch.setattr(layouts, "LAYOUTS", dict(layouts.LAYOUTS))
    monkeypatch.setattr("bimedix_utils.sources.readers.LAYOUTS", layouts.LAYOUTS)

    @sources.layout("one_line_each")
    def read_lines(path, source, lang, split):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            question, answer = line.split(" = ")
            yield Record(
                id=f"{source.name}:{number}",
                kind="qa",
                question=question,
                answer=answer,
                lang=lang,
                split=split,
                source=source.name,
                licence="not found",
            )

    entry = {"title": "Lines", "pattern": r"^lines.*\.txt$", "layout": "one_line_each"}
    data = folder({"lines": entry}, lines_train_txt="gout = a disease\n")
    assert [(row.question, row.answer) for row in read(data)] == [("gout", "a disease")]


def test_the_examples_in_the_card_of_the_catalogue_are_accepted(tmp_path):
    """A reader copies them: an example that the kit refuses is a fault of the card."""
    card = Path(__file__).resolve().parents[1] / "data" / "catalogue" / "README.md"
    examples = re.findall(r"```yaml\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        name = example.split(":")[0]
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.yaml").write_text(example, encoding="utf-8")
        assert "heart_exam" in sources.known_sources(tmp_path / name)
