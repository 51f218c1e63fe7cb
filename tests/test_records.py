"""The row: its rules, its files, and the way through the data-set library and back."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bimedix_utils.core import files, records
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record, Turn

pytestmark = pytest.mark.unit

BASE = {"id": "a:1", "lang": "en", "source": "toy", "licence": "CC-BY-4.0", "split": "train"}


def mcqa(**changes: Any) -> Record:
    return Record(
        **{
            **BASE,
            "kind": "mcqa",
            "question": "Which?",
            "options": ["x", "y", "z"],
            "answer_index": 1,
            **changes,
        }
    )


def qa(**changes: Any) -> Record:
    return Record(**{**BASE, "kind": "qa", "question": "Why?", "answer": "Because.", **changes})


def chat(**changes: Any) -> Record:
    turns = [{"role": "patient", "text": "Hello."}, {"role": "doctor", "text": "Good day."}]
    return Record(**{**BASE, "kind": "chat", "turns": turns, **changes})


def every_kind() -> list[Record]:
    """Rows of each kind and language, with what files break on: Arabic, quotes, line ends,
    separators, empty lists.
    """
    return [
        mcqa(),
        mcqa(
            id="a:1:ar",
            lang="ar",
            question="ما العلاج؟ «جدًا» ٥٠%",
            options=["أ", "ب، ج", "د"],
            parent_id="a:1",
            status="held",
            note="ينتظر",
        ),
        qa(id="a:2", answer='Line one.\nLine "two"\u2028and\tmore, 5 µg.', topic="x"),
        qa(
            id="a:2:ar",
            lang="ar",
            question="لماذا؟",
            answer="لأن الجرعة (500 mg) كافية.",
            parent_id="a:2",
        ),
        chat(id="a:3", parent_id="a:1", status="rejected", note="only"),
        chat(
            id="a:3:ar",
            lang="ar",
            turns=[
                {"role": "patient", "text": "أعاني من ألم."},
                {"role": "doctor", "text": "منذ متى؟"},
                {"role": "patient", "text": "يومين."},
            ],
        ),
    ]


# --- rules


def test_a_record_has_quiet_defaults():
    row = mcqa()
    assert (row.status, row.note, row.parent_id, row.context, row.answer, row.topic, row.turns) == (
        "ok",
        "",
        None,
        "",
        "",
        "",
        (),
    )
    assert row.options == ("x", "y", "z")


@pytest.mark.parametrize("name", ["id", "kind", "lang", "source", "licence", "split"])
def test_identity_and_origin_are_required(name: str):
    values = {**BASE, "kind": "qa", "question": "q", "answer": "a"}
    del values[name]
    with pytest.raises(ValidationError, match=rf"{name}\n  Field required"):
        Record(**values)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (qa, {"id": ""}, "at least 1 character"),
        (qa, {"kind": "essay"}, "'mcqa', 'qa' or 'chat'"),
        (qa, {"lang": "EN"}, "should match pattern"),
        (qa, {"lang": "eng"}, "should match pattern"),
        (qa, {"lang": "en\n"}, "should match pattern"),
        (qa, {"split": "dev"}, "'train', 'validation' or 'test'"),
        (qa, {"status": "lost"}, "status 'lost' is not one of ok, parse_failed"),
        (qa, {"questoin": "q"}, "Extra inputs are not permitted"),
        (qa, {"question": " \n"}, "the question is empty"),
        (qa, {"question": 5}, "should be a valid string"),
        (qa, {"answer": ""}, "an open question needs an answer"),
        (qa, {"answer": "  "}, "an open question needs an answer"),
        (mcqa, {"question": ""}, "the question is empty"),
        (mcqa, {"options": []}, "at least two options"),
        (mcqa, {"options": ["x"]}, "at least two options"),
        (mcqa, {"options": ["x", " "]}, "at least two options, none empty"),
        (mcqa, {"options": ["x", None]}, "should be a valid string"),
        (mcqa, {"answer_index": None}, "answer_index None does not point at one of 3 options"),
        (mcqa, {"answer_index": 3}, "answer_index 3 does not point at one of 3 options"),
        (mcqa, {"answer_index": -1}, "answer_index -1 does not point at one of 3 options"),
        (mcqa, {"answer_index": "B"}, "should be a valid integer"),
        (chat, {"turns": []}, "a chat needs turns"),
        (chat, {"turns": [{"role": "nurse", "text": "x"}]}, "'patient' or 'doctor'"),
        (chat, {"turns": [{"role": "doctor", "text": ""}]}, "at least 1 character"),
        (
            chat,
            {"turns": [{"role": "doctor", "text": "x", "time": 1}]},
            "Extra inputs are not permitted",
        ),
        (chat, {"turns": [{"role": "doctor"}]}, "Field required"),
    ],
)
def test_rules_refuse_a_broken_row(make: Any, changes: dict, message: str):
    with pytest.raises(ValidationError) as error:
        make(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize("status", records.STATUSES)
def test_each_known_status_is_legal(status: str):
    assert mcqa(status=status).status == status


def test_a_chat_needs_no_question_and_an_mcqa_no_explanation():
    assert chat().question == ""
    assert mcqa(answer="").answer == ""
    assert mcqa(options=["x", "y"], answer_index=0).key() == "A"


def test_records_and_turns_cannot_be_changed_in_place():
    row = chat()
    with pytest.raises(ValidationError, match="frozen"):
        row.status = "held"
    with pytest.raises(ValidationError, match="frozen"):
        row.turns[0].text = "x"


def test_replace_makes_a_checked_copy():
    row = chat()
    copy = row.replace(status="held", note="waits")
    assert (copy.status, copy.note, copy.turns) == ("held", "waits", row.turns)
    assert (row.status, row.note) == ("ok", "")
    assert row.replace() == row
    with pytest.raises(ValidationError, match="status 'gone'"):
        row.replace(status="gone")
    with pytest.raises(ValidationError, match="answer_index 9 does not point"):
        mcqa().replace(answer_index=9)


@pytest.mark.parametrize(("index", "letter"), [(0, "A"), (1, "B"), (4, "E")])
def test_key_counts_letters_from_a(index: int, letter: str):
    assert mcqa(options=list("vwxyz"), answer_index=index).key() == letter


def test_content_hash_ignores_where_a_row_comes_from():
    others = {
        "id": "b:9",
        "source": "s",
        "licence": "l",
        "split": "test",
        "topic": "t",
        "parent_id": "p",
        "status": "held",
        "note": "n",
    }
    assert mcqa(**others).content_hash() == mcqa().content_hash()


def test_content_hash_follows_everything_a_reader_sees():
    rows = [
        mcqa(),
        mcqa(lang="ar"),
        mcqa(question="What?"),
        mcqa(context="Read."),
        mcqa(options=["y", "x", "z"]),
        mcqa(answer_index=0),
        mcqa(answer="Because."),
        qa(),
        qa(answer="No."),
        chat(),
        chat(
            turns=[{"role": "doctor", "text": "Hello."}, {"role": "patient", "text": "Good day."}]
        ),
    ]
    assert len({row.content_hash() for row in rows}) == len(rows)


@pytest.mark.parametrize("words", [" ", " \n", "\t", "\u00a0"])
def test_a_turn_of_white_space_only_is_refused(words: str):
    """A turn of blanks passed, where a question or an option of blanks did not."""
    with pytest.raises(ValidationError, match=r"turns\.1\.text"):
        chat(turns=[{"role": "patient", "text": "Hello."}, {"role": "doctor", "text": words}])


def test_more_options_than_letters_are_refused():
    """An eleventh option had no letter: `key()` ended in an IndexError."""
    options = [f"option {i}" for i in range(len(records.LABELS) + 1)]
    assert mcqa(options=options[:-1], answer_index=9).key() == "J"
    with pytest.raises(ValidationError, match="at most 10 options"):
        mcqa(options=options, answer_index=10)


def test_explain_is_one_line_without_links():
    with pytest.raises(ValidationError) as error:
        Record(
            **{**BASE, "kind": "chat", "split": "dev", "turns": [{"role": "nurse", "text": "x"}]}
        )
    text = records.explain(error.value)
    assert text.startswith("split: Input should be") and "; turns.0.role: Input should be" in text
    assert "http" not in text and "\n" not in text
    with pytest.raises(ValidationError) as error:
        chat(turns=[])
    assert records.explain(error.value) == "row: Value error, a chat needs turns"


# --- files


def test_jsonl_round_trip(tmp_path: Path):
    path = tmp_path / "deep" / "rows.jsonl"
    records.write_jsonl(path, iter(every_kind()))
    assert records.read_jsonl(path) == every_kind()
    raw = path.read_bytes()
    assert raw.count(b"\n") == len(every_kind()) and raw.endswith(b"}\n")
    assert "ما العلاج؟ «جدًا»".encode() in raw, "Arabic is stored readable, not as \\u escapes"
    assert not raw.startswith(b"\xef\xbb\xbf")


def test_write_jsonl_keeps_the_old_file_when_a_row_breaks(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    records.write_jsonl(path, [qa()])

    def rows():
        yield mcqa()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        records.write_jsonl(path, rows())
    assert records.read_jsonl(path) == [qa()]


def test_jsonl_reading_forgives_bom_windows_line_ends_and_blank_lines(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    lines = [row.model_dump_json() for row in every_kind()]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join([*lines, "  "]).encode())
    assert records.read_jsonl(path) == every_kind()


def test_json_lines_numbers_count_blank_lines(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('\n{"a": 1}\n\n{"b": 2}\n')
    assert list(files.iter_json_lines(tmp_path / "rows.jsonl")) == [(2, {"a": 1}), (4, {"b": 2})]


def test_json_lines_do_not_break_at_unicode_line_separators(tmp_path: Path):
    """`str.splitlines` would cut a JSON string at U+2028 or U+0085 and call the line truncated."""
    (tmp_path / "rows.jsonl").write_text('{"a": "x\u2028y\u0085z"}\n', encoding="utf-8")
    assert list(files.iter_json_lines(tmp_path / "rows.jsonl")) == [(1, {"a": "x\u2028y\u0085z"})]


def refused(path: Path, content: bytes) -> str:
    """The message for a file of records with this content."""
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        records.read_jsonl(path)
    return str(error.value)


def test_a_truncated_line_names_the_line_and_what_to_do(tmp_path: Path):
    good = qa().model_dump_json()
    message = refused(tmp_path / "rows.jsonl", f"{good}\n{good[:40]}".encode())
    assert message.startswith("rows.jsonl, line 2, column ")
    assert "not valid JSON" in message and "was not copied whole: fetch it again" in message


def test_rows_before_a_truncated_line_are_still_given(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(qa().model_dump_json() + '\n{"id": "a', encoding="utf-8")
    reader = records.iter_jsonl(path)
    assert next(reader) == qa()
    with pytest.raises(InputError, match="line 2"):
        next(reader)


def test_a_windows_1256_file_names_line_byte_and_the_command(tmp_path: Path):
    text = '{"a": "x"}\n{"a": "ألم في الصدر"}\n'
    message = refused(tmp_path / "rows.jsonl", b"\n" + text.encode("windows-1256"))
    assert message.startswith("rows.jsonl, line 3: not UTF-8 (byte 0xc3)")
    assert "iconv -f WINDOWS-1256 -t UTF-8 'rows.jsonl'" in message


def test_a_windows_1256_file_behind_a_bom_is_found_too(tmp_path: Path):
    assert "line 2: not UTF-8" in refused(
        tmp_path / "rows.jsonl", b"\xef\xbb\xbf\n" + '{"a": "ألم"}'.encode("windows-1256")
    )


def test_a_file_cut_inside_an_arabic_letter_is_called_cut_short(tmp_path: Path):
    """Half of all cuts in Arabic text fall inside a two-byte letter; iconv from Windows-1256 would
    turn a good file into noise.
    """
    (tmp_path / "rows.jsonl").write_bytes('{"a": "ألم"}\n{"a": "ألم'.encode()[:-1])
    with pytest.raises(InputError) as error:
        list(files.iter_json_lines(tmp_path / "rows.jsonl"))
    assert (
        str(error.value)
        == "rows.jsonl, line 2: the file is cut short inside a letter; fetch it again"
    )


@pytest.mark.parametrize(
    ("value", "name"), [("[1]", "list"), ('"x"', "str"), ("5", "int"), ("null", "NoneType")]
)
def test_a_line_that_is_no_object_names_what_it_is(tmp_path: Path, value: str, name: str):
    good = qa().model_dump_json()
    message = refused(tmp_path / "rows.jsonl", f"{good}\n{value}\n".encode())
    assert message == f"rows.jsonl, line 2: a JSON object was expected, found {name}"


def test_an_object_that_is_no_record_names_line_and_field(tmp_path: Path):
    broken = {**json.loads(mcqa().model_dump_json()), "answer_index": 7, "split": "dev"}
    message = refused(
        tmp_path / "rows.jsonl", f"{qa().model_dump_json()}\n{json.dumps(broken)}\n".encode()
    )
    assert message.startswith(
        "rows.jsonl, line 2: not a record: split: Input should be 'train', 'validation' or 'test'"
    )
    assert refused(tmp_path / "rows.jsonl", b"{}").startswith(
        "rows.jsonl, line 1: not a record: id: Field required; kind: Field required"
    )


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"none\.jsonl: cannot be read \(No such file or directory\)"
    ):
        records.read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        records.read_jsonl(tmp_path)


def test_an_empty_file_holds_no_records(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("")
    assert records.read_jsonl(tmp_path / "rows.jsonl") == []


# --- the data-set library


def test_parquet_columns_keep_their_types_when_empty(tmp_path: Path):
    """Without fixed types a file of questions only would store `turns` as null and could not be
    joined with chats.
    """
    import datasets
    import pyarrow.parquet

    for rows in ([], [qa()], every_kind()):
        records.write_parquet(tmp_path / "rows.parquet", rows)
        features = datasets.Features.from_arrow_schema(
            pyarrow.parquet.read_schema(tmp_path / "rows.parquet")
        )
        assert list(features) == list(Record.model_fields)
        assert features["options"].feature.dtype == "string"
        assert features["answer_index"].dtype == "int64"
        assert {name: value.dtype for name, value in features["turns"].feature.items()} == {
            "role": "string",
            "text": "string",
        }
        assert features["parent_id"].dtype == "string"


def loaded(form: str, path: Path) -> list[Record]:
    """What a user of the published file gets through `datasets.load_dataset`, as records."""
    import datasets

    back = datasets.load_dataset(
        form, data_files=str(path), split="train", cache_dir=str(path.parent / "cache")
    )
    return [Record(**row) for row in back]


@pytest.mark.parametrize(
    "rows", [every_kind(), [mcqa()], [qa()], [chat()]], ids=["all", "mcqa", "qa", "chat"]
)
def test_parquet_is_read_back_by_load_dataset(tmp_path: Path, rows: list[Record]):
    records.write_parquet(tmp_path / "rows.parquet", rows)
    assert loaded("parquet", tmp_path / "rows.parquet") == rows


@pytest.mark.parametrize(
    "rows", [every_kind(), [mcqa()], [qa()], [chat()]], ids=["all", "mcqa", "qa", "chat"]
)
def test_jsonl_is_read_back_by_load_dataset(tmp_path: Path, rows: list[Record]):
    records.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert loaded("json", tmp_path / "rows.jsonl") == rows


def test_json_written_by_the_library_is_read_back(tmp_path: Path):
    import datasets

    records.write_parquet(tmp_path / "rows.parquet", every_kind())
    datasets.Dataset.from_parquet(
        str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache")
    ).to_json(tmp_path / "rows.jsonl")
    assert records.read_jsonl(tmp_path / "rows.jsonl") == every_kind()


def test_a_parquet_row_that_is_no_record_is_named(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    rows = [record.model_dump(mode="json") for record in every_kind()]
    rows[2]["status"] = "gone"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows, schema=records.arrow_schema()), tmp_path / "rows.parquet"
    )
    with pytest.raises(
        InputError,
        match=(
            r"rows\.parquet, row 2: not a record: row: Value error, status 'gone' is not one of ok"
        ),
    ):
        list(records.iter_parquet(tmp_path / "rows.parquet"))


def test_turns_may_be_given_as_turns():
    assert chat(turns=(Turn(role="doctor", text="Hello."),)).turns[0].role == "doctor"


def test_ids_that_stand_twice_are_found_among_many():
    ids = records.IdSet()
    for number in [*range(1000), 7, 7, 999]:
        ids.add(f"a:{number}")
    assert len(ids) == 1003 and ids.duplicates() == {records.hash64("a:7"), records.hash64("a:999")}
    assert records.IdSet().duplicates() == set()


def test_the_hash_of_an_id_is_the_same_everywhere():
    assert records.hash64("medmcqa:1") == 5603095330021677040


def test_parquet_is_written_in_groups_and_read_back(tmp_path: Path):
    import pyarrow.parquet

    rows = every_kind() * 3
    records.write_parquet(tmp_path / "rows.parquet", iter(rows), group=4)
    file = pyarrow.parquet.ParquetFile(tmp_path / "rows.parquet")
    assert file.num_row_groups == -(-len(rows) // 4) and file.metadata.num_rows == len(rows)
    assert list(records.iter_parquet(tmp_path / "rows.parquet")) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_an_interrupted_parquet_file_leaves_the_old_one(tmp_path: Path):
    records.write_parquet(tmp_path / "rows.parquet", every_kind())

    def broken():
        yield from every_kind()
        raise InputError("line 5")

    with pytest.raises(InputError):
        records.write_parquet(tmp_path / "rows.parquet", broken(), group=1)
    assert list(records.iter_parquet(tmp_path / "rows.parquet")) == every_kind()
