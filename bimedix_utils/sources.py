"""Readers for the published files, in their owners' own formats. Each yields `Record`s and never guesses.

A folder is read by file name: `<source>[_anything][.<language>].<jsonl|json|csv>`, the language defaulting to English. The
kit's own `data/sample` uses the same names and formats, so the code that reads eight teaching rows reads the real files.

Formats, as seen in the owners' files:
* MedMCQA (raw): `cop` counts from 1; the hub copy `openlifescienceai/medmcqa` counts from 0 (told apart by the split's range).
* MedQA (US, 4 options), PubMedQA (`ori_pqal.json` layout), MMLU (csv without header), MTS-Dialog, Medical Meadow (Alpaca layout).
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from .errors import InputError
from .records import LABELS, Record, Turn, explain, iter_json_lines, read_utf8
from .text import digest, nfc

MMLU_SUBJECTS = (
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
    "anatomy",
)
PUBMEDQA_OPTIONS = {"en": ("yes", "no", "maybe"), "ar": ("نعم", "لا", "ربما")}
SPEAKERS = {
    "patient": "patient",
    "doctor": "doctor",
    "المريض": "patient",
    "المريضة": "patient",
    "الطبيب": "doctor",
    "الطبيبة": "doctor",
    "guest_family": "patient",
    "guest_clinician": "doctor",
}
KIT_LICENCE = "CC-BY-4.0"


@dataclass(frozen=True)
class Source:
    """What is known of a published set. `licence` is the owner's; the kit's own sample rows carry `KIT_LICENCE`."""

    name: str
    kind: str
    licence: str
    read: Callable[[Path, str, str], Iterator[Record]]


def _need(row: dict, columns: tuple[str, ...], where: str) -> None:
    missing = [name for name in columns if name not in row]
    if missing:
        raise InputError(
            f"{where}: columns wanted {', '.join(columns)}; missing {', '.join(missing)}; seen {', '.join(map(str, row)) or 'none'}"
        )


def _record(where: str, **fields: object) -> Record:
    try:
        return Record(**fields)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from None


def _text(row: dict, name: str, where: str, optional: bool = False) -> str:
    """A column's text; an `optional` one may be absent or null."""
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: column {name}: text wanted, found {type(value).__name__} {value!r}")
    return nfc(value)


def _medmcqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    rows = list(iter_json_lines(path))
    for number, row in rows:
        _need(row, ("id", "question", "opa", "opb", "opc", "opd", "cop"), f"{path.name}, line {number}")
        if not isinstance(row["cop"], int) or not 0 <= row["cop"] <= 4:
            raise InputError(f"{path.name}, line {number}: cop is {row['cop']!r}; wanted 1-4 (raw file) or 0-3 (hub copy)")
    # A single 0 or 4 decides the counting for the whole file; a file with both, or with neither, cannot be trusted.
    seen = {row["cop"] for _, row in rows}
    if {0, 4} <= seen or (rows and not seen & {0, 4}):
        raise InputError(
            f"{path.name}: cop takes the values {sorted(seen)}, so it cannot be told whether it counts from 0 (hub copy) or 1 (raw file)"
        )
    first = 0 if 0 in seen else 1
    for number, row in rows:
        where = f"{path.name}, line {number}"
        yield _record(
            where,
            id=f"medmcqa:{row['id']}",
            kind="mcqa",
            question=_text(row, "question", where),
            answer_index=row["cop"] - first,
            options=[_text(row, f"op{letter}", where) for letter in "abcd"],
            answer=_text(row, "exp", where, optional=True),
            topic=_text(row, "subject_name", where, optional=True),
            **_origin("medmcqa", lang, split),
        )


def _medqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    for number, row in iter_json_lines(path):
        where = f"{path.name}, line {number}"
        _need(row, ("question", "options", "answer_idx"), where)
        letters = sorted(row["options"]) if isinstance(row["options"], dict) else []
        if not letters or letters != list(LABELS[: len(letters)]) or row["answer_idx"] not in letters:
            raise InputError(
                f"{where}: options {letters} with answer_idx {row['answer_idx']!r}; wanted letters A-D and one of them as the key"
            )
        # The owner gives no id: the question's own hash is one that survives any re-ordering of the file.
        owner_id = row.get("id") or digest(_text(row, "question", where))
        yield _record(
            where,
            id=f"medqa:{owner_id}",
            kind="mcqa",
            question=_text(row, "question", where),
            topic=_text(row, "meta_info", where, optional=True),
            options=[_text(row["options"], letter, where) for letter in letters],
            answer_index=letters.index(row["answer_idx"]),
            **_origin("medqa", lang, split),
        )


def _distinct(pairs: list[tuple[str, object]]) -> dict:
    """JSON keeps the last of two equal keys without a word; a doubled id must be seen."""
    keys = [key for key, _ in pairs]
    key, times = Counter(keys).most_common(1)[0] if keys else ("", 0)
    if times > 1:
        raise ValueError(f"the key {key} stands twice")
    return dict(pairs)


def _pubmedqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    try:
        table = json.loads(read_utf8(path), object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if not isinstance(table, dict):
        raise InputError(f"{path.name}: a JSON object keyed by PubMed id was expected, found {type(table).__name__}")
    if lang not in PUBMEDQA_OPTIONS:
        raise InputError(f"{path.name}: no words for yes, no, maybe in language {lang!r}; add them to sources.PUBMEDQA_OPTIONS")
    decisions = PUBMEDQA_OPTIONS["en"]
    for owner_id, row in table.items():
        where = f"{path.name}, entry {owner_id}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON object was expected, found {type(row).__name__}")
        _need(row, ("QUESTION", "CONTEXTS", "final_decision"), where)
        if row["final_decision"] not in decisions:
            raise InputError(f"{where}: final_decision is {row['final_decision']!r}; wanted yes, no or maybe")
        if not isinstance(row["CONTEXTS"], list) or not all(isinstance(part, str) for part in row["CONTEXTS"]):
            raise InputError(f"{where}: CONTEXTS: a list of texts wanted, found {type(row['CONTEXTS']).__name__}")
        yield _record(
            where,
            id=f"pubmedqa:{owner_id}",
            kind="mcqa",
            question=_text(row, "QUESTION", where),
            context=nfc(" ".join(row["CONTEXTS"])),
            options=PUBMEDQA_OPTIONS[lang],
            answer_index=decisions.index(row["final_decision"]),
            answer=_text(row, "LONG_ANSWER", where, optional=True),
            **_origin("pubmedqa", lang, split),
        )


def _mmlu(path: Path, lang: str, split: str) -> Iterator[Record]:
    subject = path.name.split("_test")[0]
    if subject not in MMLU_SUBJECTS:
        raise InputError(f"{path.name}: MMLU subject {subject!r} is not one of {', '.join(MMLU_SUBJECTS)}")
    reader = csv.reader(io.StringIO(read_utf8(path)), strict=True)
    try:
        # The owner gives no id, and the twin in another language is known by position only: the row number is the id.
        for index, row in enumerate(reader):
            where = f"{path.name}, line {reader.line_num}"
            if len(row) != 6 or row[5] not in tuple("ABCD"):
                raise InputError(
                    f"{where}: wanted 6 columns (question, A, B, C, D, letter) without a header; seen {len(row)} ending in {row[-1:]!r}"
                )
            yield _record(
                where,
                id=f"mmlu_{subject}:{index}",
                kind="mcqa",
                question=nfc(row[0]),
                options=[nfc(o) for o in row[1:5]],
                answer_index="ABCD".index(row[5]),
                topic=subject,
                **_origin(f"mmlu_{subject}", lang, split),
            )
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV ({error})") from None


def _open_qa(path: Path, lang: str, split: str) -> Iterator[Record]:
    for number, row in iter_json_lines(path):
        where = f"{path.name}, line {number}"
        _need(row, ("instruction", "input", "output"), where)
        asked = _text(row, "input", where, optional=True) or _text(row, "instruction", where)
        owner_id = row.get("id") or digest(asked)
        yield _record(
            where,
            id=f"open_qa:{owner_id}",
            kind="qa",
            question=asked,
            answer=_text(row, "output", where),
            **_origin("open_qa", lang, split),
        )


def split_speakers(dialogue: str, where: str) -> list[Turn]:
    """Lines such as `Doctor: ...` as turns; a line without a speaker belongs to the one before, neighbours of one speaker are joined.

    Raises `InputError` when the first line names no known speaker.
    """
    said: list[tuple[str, list[str]]] = []
    for line in dialogue.replace("\r", "\n").split("\n"):
        if not line.strip():
            continue
        match = re.match(r"\s*([\w ]{2,20}?)\s*:\s*(.*)", line)
        role = SPEAKERS.get(match.group(1).strip().casefold()) if match else None
        if role is None and not said:
            raise InputError(f"{where}: a dialogue line starts without a known speaker ({', '.join(SPEAKERS)}): {line[:60]!r}")
        if role and (not said or said[-1][0] != role):
            said.append((role, []))
        said[-1][1].append(match.group(2) if role else line)
    turns: list[Turn] = []
    for role, lines in said:
        text = nfc(" ".join(lines))
        if text and turns and turns[-1].role == role:  # a speaker who said nothing stood between
            turns[-1] = Turn(role=role, text=f"{turns[-1].text} {text}")
        elif text:
            turns.append(Turn(role=role, text=text))
    return turns


def _dialogues(path: Path, lang: str, split: str) -> Iterator[Record]:
    for number, row in iter_json_lines(path):
        where = f"{path.name}, line {number}"
        _need(row, ("ID", "dialogue"), where)
        _text(row, "dialogue", where)  # refuses another type; the text itself must keep its lines
        turns = split_speakers(row["dialogue"], where)
        # Published files hold a few monologues: kept and shown, but they cannot teach an exchange.
        verdict = {"status": "rejected", "note": "only one speaker"} if len(turns) < 2 else {}
        yield _record(
            where,
            id=f"dialogue:{row['ID']}",
            kind="chat",
            turns=turns,
            topic=_text(row, "section_header", where, optional=True),
            **verdict,
            **_origin("dialogue", lang, split),
        )


SOURCES = {
    "medmcqa": Source("MedMCQA", "mcqa", "MIT", _medmcqa),
    "medqa": Source("MedQA", "mcqa", "MIT", _medqa),
    "pubmedqa": Source("PubMedQA", "mcqa", "MIT", _pubmedqa),
    "mmlu": Source("MMLU", "mcqa", "MIT", _mmlu),
    "open_qa": Source("open questions", "qa", "not found", _open_qa),
    "dialogue": Source("MTS-Dialog", "chat", "CC-BY-4.0", _dialogues),
}
# First match wins. Names are matched, not contents, so that a wrong file is an error and not another source.
_PATTERNS = (
    ("medmcqa", r"^medmcqa.*\.jsonl$"),
    ("medqa", r"^medqa.*\.jsonl$"),
    ("pubmedqa", r"^pubmedqa.*\.json$"),
    ("mmlu", r"^(" + "|".join(MMLU_SUBJECTS) + r")_test.*\.csv$"),
    ("open_qa", r"^open_qa.*\.jsonl$"),
    ("dialogue", r"^(mts_dialog|dialogues).*\.jsonl$"),
)


def _origin(source: str, lang: str, split: str) -> dict[str, str]:
    family = "mmlu" if source.startswith("mmlu_") else source
    # A translation has an owner and a licence of its own, which its file does not tell.
    return {"source": source, "lang": lang, "split": split, "licence": SOURCES[family].licence if lang == "en" else "not found"}


def recognise(path: Path) -> tuple[str, str, str] | None:
    """(source, language, split) told by a file's name, or None for a file that is none of ours.

    The language is the last dotted part (`.ar.`), English when there is none. The split is the word train, dev / valid(ation)
    or test in the name; a name with none of them is treated as test, so that it can never be trained on by accident.
    """
    for source, pattern in _PATTERNS:
        if re.match(pattern, path.name):
            lang = re.search(r"\.([a-z]{2})\.(?:jsonl|json|csv)$", path.name)
            found = re.search(r"(train|dev|valid|test)", path.name.removeprefix(source))
            split = {"train": "train", "dev": "validation", "valid": "validation"}.get(found.group(1) if found else "", "test")
            return source, lang.group(1) if lang else "en", split
    return None


def find_files(folder: Path) -> list[Path]:
    """The recognised files of a folder and its sub-folders, sorted. Raises `InputError` when there is none."""
    if not folder.is_dir():
        raise InputError(f"the data folder {folder.name!r} does not exist: check RAW_DIR, or leave it empty to read the kit's data/sample")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and recognise(path)]
    if not files:
        names = ", ".join(pattern for _, pattern in _PATTERNS)
        raise InputError(f"the data folder {folder.name!r} holds no file with a known name; known names match: {names}")
    return files


def read_file(path: Path, rows: int | None = None, kit: bool = False) -> list[Record]:
    """Read one recognised file, at most its first `rows` rows, in the owner's order. `kit` marks the kit's own sample rows:
    they carry the kit's licence, and MMLU-style rows get ids that cannot be taken for the published ones.

    Raises `InputError` naming file, line, the columns seen and the columns wanted; also for an empty file or a doubled id.
    """
    recognised = recognise(path)
    if recognised is None:
        raise InputError(f"{path.name}: not a file name this kit knows")
    source, lang, split = recognised
    records: list[Record] = []
    seen: dict[str, int] = {}
    for record in SOURCES[source].read(path, lang, split):
        if record.id in seen:
            raise InputError(f"{path.name}: id {record.id} stands twice (rows {seen[record.id]} and {len(seen) + 1})")
        seen[record.id] = len(seen) + 1
        if kit:
            own_id = record.id if ":kit-" in record.id else record.id.replace(":", ":kit-")
            record = record.replace(id=own_id, licence=KIT_LICENCE)
        records.append(record)
        if rows is not None and len(records) >= rows:
            break
    if not records:
        raise InputError(f"{path.name}: the file is empty; {SOURCES[source].name} rows were expected")
    # A row in another language is the same item: it carries the English id as its parent and its own language in its id.
    return records if lang == "en" else [r.replace(id=f"{r.id}:{lang}", parent_id=r.id) for r in records]
