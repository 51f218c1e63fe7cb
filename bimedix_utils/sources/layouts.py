"""Sources as data: an entry of a sources YAML says which columns hold which field, and one reader
for each common layout does the rest. An odd layout is a function of its own with `@layout`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from ..core.errors import InputError
from ..core.records import LABELS, Record, Turn
from ..core.text import is_right_to_left, nfc
from . import fields
from .data_files import StrictModel
from .raw_rows import iter_rows

CHAT_ROLES = {
    **dict.fromkeys(("human", "user", "patient"), "patient"),
    **dict.fromkeys(("gpt", "assistant", "doctor"), "doctor"),
}


class Layout(NamedTuple):
    """A reader, and the fields for which an entry must or may name columns."""

    read: Callable[..., Iterator[Record]]
    required: frozenset[str]
    optional: frozenset[str]


LAYOUTS: dict[str, Layout] = {}


def layout(name: str, required: str = "", optional: str = "") -> Callable[[Callable], Callable]:
    """Registers a reader `(path, source, lang, split) -> records` under the name that an entry's
    `layout` gives; `required` and `optional` are the fields of its `columns`.
    """

    def register(read: Callable) -> Callable:
        LAYOUTS[name] = Layout(read, frozenset(required.split()), frozenset(optional.split()))
        return read

    return register


class SourceEntry(StrictModel):
    """How a set is read. `pattern` is a regular expression on its file names, first match wins:
    names are matched, not contents, so that a wrong file is an error and not another source.
    """

    title: str = Field(min_length=1)
    pattern: str = Field(min_length=1)
    layout: str
    columns: dict[str, str | list[str]] = {}  # field -> column, or the columns it may stand in
    options: Literal["columns", "letters", "list"] = "columns"  # where the options stand
    key: Literal["letter", "text", "number", "from_0", "from_1"] = "letter"
    roles: dict[str, Literal["patient", "doctor", "ignored"]] = CHAT_ROLES
    split: Literal["", "train", "validation", "test"] = ""  # "": told by the file's name
    train_names: str | None = None  # files whose name matches this are training rows
    licence: str = ""  # of a user's own source; the catalogue knows the published ones
    aligned: bool = False  # a file in another language holds the same items under the same ids
    balanced: bool = True  # its keys are spread over all options
    strict: bool = False  # a row without question or answer is an error, not a rejected row
    mixed_languages: bool = False  # each row's language is told by its letters
    may_be_empty: bool = False
    name: str = ""  # the key of the entry, and the `source` of its rows

    @model_validator(mode="after")
    def _columns_fit_the_layout(self) -> "SourceEntry":
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r} is not one of {', '.join(sorted(LAYOUTS))}")
        _, required, optional = LAYOUTS[self.layout]
        named = set(self.columns)
        if missing := required - named:
            raise ValueError(f"columns: {', '.join(sorted(missing))} expected by {self.layout}")
        if unknown := named - required - optional:
            legal = ", ".join(sorted(required | optional)) or "none"
            raise ValueError(f"columns: no field {', '.join(sorted(unknown))}; legal: {legal}")
        re.compile(self.pattern)
        return self

    def names(self, field: str) -> tuple[str, ...]:
        """The columns named for a field; none when the entry does not name it."""
        value = self.columns.get(field, ())
        return (value,) if isinstance(value, str) else tuple(value)

    def column(self, field: str) -> str:
        """The one column of a field, or "" when the entry does not name it."""
        return next(iter(self.names(field)), "")

    def row_id(self, row: dict, names: fields.ContentNames, content: Any) -> str:
        """The owner's id: of the column named for it, else of a column `id`; without one, a hash of
        the content, which survives any re-ordering of the file.
        """
        own = row.get(self.column("id") or "id")
        return f"{self.name}:{names(content) if own in (None, '') else own}"

    def origin(self, lang: str, split: str) -> dict[str, str]:
        """The fields of a record that say where it is from."""
        return fields.origin(self.name, lang, split, self.licence)


def _exchange_note(roles: list[str]) -> str:
    """Why turns cannot teach an exchange, or "". Published files hold a few monologues, and
    dialogues in which a doctor opens and nothing answers the patient: they are kept and shown.
    """
    if len(roles) < 2:
        return "only one speaker"
    return "" if "patient doctor" in " ".join(roles) else "no answer to the patient"


def _rejected(note: str) -> dict[str, str]:
    return {"status": "rejected", "note": note} if note else {}


def _optional(row: dict, source: SourceEntry, field: str, where: str) -> str:
    return fields.text(row, source.column(field), where, optional=True)


# --- multiple choice


def _option_texts(row: dict, source: SourceEntry, where: str) -> list[str]:
    names = source.names("options")
    if source.options == "columns":
        return [fields.text(row, name, where) for name in names]
    value = row[names[0]]
    if source.options == "list":
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise InputError(f"{where}: {names[0]}: a list of texts expected, found {value!r}")
        return [nfc(text) for text in value]
    letters = sorted(value) if isinstance(value, dict) else []
    if not letters or letters != list(LABELS[: len(letters)]):
        raise _wrong_letter(row, source, letters, where)
    return [fields.text(value, letter, where) for letter in letters]


def _wrong_letter(row: dict, source: SourceEntry, letters: list[str], where: str) -> InputError:
    key = source.column("key")
    return InputError(
        f"{where}: {' '.join(source.names('options'))} {letters} with {key} {row[key]!r}; expected"
        " letters A-D and one of them as the key"
    )


def _number(value: Any, source: SourceEntry, count: int, where: str, in_csv: bool) -> int:
    """A key that counts options, as it is in the file."""
    expected = {
        "from_0": f"0-{count - 1}",
        "from_1": f"1-{count}",
        "number": f"1-{count} (raw file) or 0-{count - 1} (hub copy)",
    }[source.key]
    if in_csv and isinstance(value, str) and value.strip().isdecimal():
        value = int(value)  # a CSV file holds nothing but texts
    lowest, highest = int(source.key == "from_1"), count - (source.key == "from_0")
    if type(value) is not int or not lowest <= value <= highest:
        raise InputError(f"{where}: {source.column('key')} is {value!r}; expected {expected}")
    return value


@layout("multiple_choice", "question options key", "id context explanation topic")
def read_multiple_choice(
    path: Path, source: SourceEntry, lang: str, split: str
) -> Iterator[Record]:
    """A question, its options and a key: a letter, the option's own text, or a number.

    Two passes for a `number`: the first tells for the file as a whole where it begins to count.
    """
    key, in_csv = source.column("key"), path.suffix in (".csv", ".tsv")
    columns = tuple(
        name for field in ("id", "question", "options", "key") for name in source.names(field)
    )
    first = {"from_1": 1}.get(source.key, 0)
    if source.key == "number":
        seen, most = set(), 0
        for where, row in iter_rows(path):
            fields.need(row, columns, where)
            count = len(_option_texts(row, source, where))
            most = max(most, count)
            seen.add(_number(row[key], source, count, where, in_csv))
        first = fields.first_key(path, key, seen, most)
    names, origin = fields.ContentNames(), source.origin(lang, split)
    for where, row in iter_rows(path):
        fields.need(row, columns, where)
        options = _option_texts(row, source, where)
        if source.key == "letter":
            letters = list(LABELS[: len(options)])
            if row[key] not in letters:
                raise _wrong_letter(row, source, letters, where)
            index = letters.index(row[key])
        elif source.key == "text":
            answer = fields.text(row, key, where)
            if options.count(answer) != 1:
                raise InputError(f"{where}: {key} {answer!r} is not the text of one option")
            index = options.index(answer)
        else:
            index = _number(row[key], source, len(options), where, in_csv) - first
        question = fields.text(row, source.column("question"), where)
        yield fields.record(
            where,
            id=source.row_id(row, names, question),
            kind="mcqa",
            question=question,
            options=options,
            answer_index=index,
            context=_optional(row, source, "context", where),
            answer=_optional(row, source, "explanation", where),
            topic=_optional(row, source, "topic", where),
            **origin,
        )


# --- question and answer


@layout("question_answer", "question answer", "id topic")
def read_question_answer(
    path: Path, source: SourceEntry, lang: str, split: str
) -> Iterator[Record]:
    """The question is in the first of its columns that is not empty, the answer in the first
    that is there. Alpaca's instruction, input and output are such columns.
    """
    asked_in, answered_in = source.names("question"), source.names("answer")
    names, origin = fields.ContentNames(), source.origin(lang, split)
    for where, row in iter_rows(path):
        if source.strict:
            fields.need(row, (*asked_in, *answered_in), where)
        answered = next((name for name in answered_in if name in row), None)
        if answered is None or not any(name in row for name in asked_in):
            expected = f"{' or '.join(asked_in)} with {' or '.join(answered_in)}"
            seen = ", ".join(map(str, row)) or "none"
            raise InputError(f"{where}: columns expected {expected}; seen {seen}")
        texts = (
            fields.text(row, name, where, optional=not source.strict or name != asked_in[-1])
            for name in asked_in
        )
        question = next(filter(None, texts), "")
        answer = fields.text(row, answered, where, optional=not source.strict)
        own = source.row_id(row, names, question if source.strict else [question, answer])
        values = {"id": own, "topic": _optional(row, source, "topic", where), **origin}
        yield fields.pair(where, question, answer, source.strict, **values)


# --- dialogues


@layout("chat", "turns role text", "id image topic")
def read_chat(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """Lists of turns, such as ShareGPT's {conversations: [{from, value}]} or
    {messages: [{role, content}]}. One exchange is a question with its answer, more are a chat. A
    row with an image is kept as rejected: this kit reads text.
    """
    names, listed = fields.ContentNames(), source.column("turns")
    role, text = source.column("role"), source.column("text")
    for where, row in iter_rows(path):
        fields.need(row, (listed,), where)
        turns = [
            (source.roles[turn[role]], fields.text(turn, text, where, optional=True))
            for turn in _checked_turns(row, source, where)
        ]
        turns = [(who, nfc(words.replace("<image>", " "))) for who, words in turns]
        turns = [(who, words) for who, words in turns if words and who != "ignored"]
        if source.mixed_languages:
            lang = "ar" if is_right_to_left(" ".join(words for _, words in turns)) else "en"
        image = row.get(source.column("image")) if source.column("image") else None
        note = "has an image" if image else _exchange_note([who for who, _ in turns])
        # A column `id` of such files is often that of an image and repeats: it counts only when it
        # is named.
        named = row if source.column("id") else {}
        values = {
            "id": source.row_id(named, names, [image, turns]),
            "topic": _optional(row, source, "topic", where),
            **_rejected(note),
            **source.origin(lang, split),
        }
        if len(turns) > 2:
            listed_turns = [Turn(role=who, text=words) for who, words in turns]
            yield fields.record(where, kind="chat", turns=listed_turns, **values)
        else:
            question, answer = (*(words for _, words in turns), fields.MISSING, fields.MISSING)[:2]
            yield fields.record(where, kind="qa", question=question, answer=answer, **values)


def _checked_turns(row: dict, source: SourceEntry, where: str) -> list[dict]:
    listed, role, text = (source.column(field) for field in ("turns", "role", "text"))
    turns = row[listed] if isinstance(row[listed], list) else [None]
    if not all(isinstance(turn, dict) and {role, text} <= set(turn) for turn in turns):
        raise InputError(
            f"{where}: {listed}: a list of {role} and {text} expected; columns seen:"
            f" {', '.join(row)}"
        )
    if unknown := {str(turn[role]) for turn in turns} - set(source.roles):
        found, expected = ", ".join(sorted(unknown)), ", ".join(source.roles)
        raise InputError(f"{where}: {role} is {found}; expected {expected}")
    return turns


def split_speakers(dialogue: str, roles: dict[str, str], where: str) -> list[Turn]:
    """Lines such as `Doctor: ...` as turns; a line without a speaker belongs to the one before,
    neighbours of one speaker are joined. `roles` maps speakers, in small letters, to roles.

    Raises `InputError` when the first line names no known speaker.
    """
    spoken: list[tuple[str, list[str]]] = []
    for line in dialogue.replace("\r", "\n").split("\n"):
        if not line.strip():
            continue
        match = re.match(r"\s*([\w ]{2,20}?)\s*:\s*(.*)", line)
        role = roles.get(match.group(1).strip().casefold()) if match else None
        if role is None and not spoken:
            raise InputError(
                f"{where}: a dialogue line starts without a known speaker ({', '.join(roles)}):"
                f" {line[:60]!r}"
            )
        if role and (not spoken or spoken[-1][0] != role):
            spoken.append((role, []))
        spoken[-1][1].append(match.group(2) if role else line)
    turns: list[Turn] = []
    for role, lines in spoken:
        text = nfc(" ".join(lines))
        if text and turns and turns[-1].role == role:  # a speaker without words stood between
            turns[-1] = Turn(role=role, text=f"{turns[-1].text} {text}")
        elif text:
            turns.append(Turn(role=role, text=text))
    return turns


@layout("speakers", "id text", "topic")
def read_speakers(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """A dialogue as one text, a line a turn, each with its speaker before a colon."""
    origin = source.origin(lang, split)
    own, column = source.column("id"), source.column("text")
    for where, row in iter_rows(path):
        fields.need(row, (own, column), where)
        fields.text(row, column, where)  # refuses another type; the text must keep its lines
        turns = split_speakers(row[column], source.roles, where)
        yield fields.record(
            where,
            id=f"{source.name}:{row[own]}",
            kind="chat",
            turns=turns,
            topic=_optional(row, source, "topic", where),
            **_rejected(_exchange_note([turn.role for turn in turns])),
            **origin,
        )
