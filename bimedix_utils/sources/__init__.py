"""Published files, in their owners' own formats, as records; read one at a time and never guessed
at.

A folder is read by file name: `<source>[_anything][.<language>].<ending>`, the language defaulting
to English. The kit's own `data/sample` uses the same names and formats, so the code that reads
eight teaching rows reads the real files.

* `exams`, `answers`, `arabic`: one reader for each format. MedMCQA's `cop` counts from 1 in the
  owner's file and from 0 in the hub copy (told apart by the file as a whole); PubMedQA's test rows
  are those of the owner's list, wherever they stand.
* `files`: JSON Lines, JSON lists and Parquet in bounded memory, XML without entities.
* `census`: counts kept while rows go by.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ..core.errors import InputError
from ..core.records import LABELS, IdSet, Record, hash64
from . import answers, arabic, exams
from .answers import SPEAKERS, split_speakers
from .catalogue import KIT_LICENCE
from .census import Census, examples
from .composition import (
    COMPOSITION,
    PaperPart,
    paper_composition,
    planned_and_present,
    planned_parts,
    stated_rows,
)
from .exams import MMLU_SUBJECTS, OFFICIAL_TEST, PUBMEDQA_OPTIONS

# A file this long with a key that is nearly always the same letter was read with the wrong rule, or
# is not the owner's.
BALANCE_ROWS, BALANCE_SHARE = 200, 0.6


@dataclass(frozen=True)
class Source:
    """How a published set is read. `pattern` knows its file names, first match wins: names are
    matched, not contents, so that a wrong file is an error and not another source.

    `split` is what every row of it is, whatever the file's name says. `twins`: a file in another
    language holds the same items under the same ids. `balanced`: its keys are spread over all
    options.
    """

    name: str
    read: Callable[[Path, str, str], Iterator[Record]]
    pattern: str
    split: str = ""
    twins: bool = True
    balanced: bool = True
    may_be_empty: bool = False


def _qa(name: str, source: str, pattern: str) -> Source:
    return Source(name, partial(answers.question_answer, source=source), pattern, split="train")


_SUBJECT = "(" + "|".join(MMLU_SUBJECTS) + ")"
_ROWS = r"\.(jsonl|json|parquet)$"
SOURCES = {
    "medmcqa": Source("MedMCQA", exams.medmcqa, r"^medmcqa.*\.(jsonl|parquet)$"),
    "medqa": Source("MedQA", exams.medqa, r"^medqa.*\.(jsonl|parquet)$"),
    # Its owner sorts rows by decision, and PQA-A says yes in nine of ten rows: no balance to
    # expect.
    "pubmedqa": Source(
        "PubMedQA",
        exams.pubmedqa,
        r"^(pubmedqa.*\.(jsonl|json|parquet)|ori_pqa[al]\.json)$",
        balanced=False,
    ),
    "mmlu": Source(
        "MMLU",
        exams.mmlu,
        rf"^({_SUBJECT}_test.*\.csv|mmlu_{_SUBJECT}_test.*\.(jsonl|parquet))$",
        split="test",
    ),
    "open_qa": Source("open questions", answers.open_qa, r"^open_qa.*\.(jsonl|parquet)$"),
    "dialogue": Source(
        "MTS-Dialog", answers.dialogues, r"^(mts_dialog|dialogues).*\.(jsonl|parquet)$"
    ),
    "healthcaremagic": _qa("HealthCareMagic", "healthcaremagic", r"(?i)^healthcaremagic.*" + _ROWS),
    "icliniq": _qa("iCliniq", "icliniq", r"(?i)^icliniq.*" + _ROWS),
    "medical_meadow": _qa("Medical Meadow", "medical_meadow", r"(?i)^medical_meadow.*" + _ROWS),
    "medicationqa": _qa("MedicationQA", "medicationqa", r"(?i)^medicationqa.*" + _ROWS),
    "umls_qa": _qa("QA made from the UMLS", "umls_qa", r"^umls_qa.*" + _ROWS),
    "liveqa": Source(
        "LiveQA",
        answers.liveqa,
        r"(?i)^(liveqa.*|trec-2017-liveqa-medical-train.*)\.xml$",
        split="train",
    ),
    "medquad": Source(
        "MedQuAD",
        answers.medquad,
        r"(?i)^(medquad.*|\d{7}(_\d+)*)\.xml$",
        split="train",
        may_be_empty=True,
    ),
    "bimedix": Source(
        "BiMediX Arabic test sets",
        arabic.bimedix,
        r"^bimedix_.*" + _ROWS,
        split="test",
        twins=False,
        balanced=False,
    ),
    "bimed_v": Source(
        "BiMed-V", answers.bimed_v, r"(?i)^(bimed_v|bimed-v).*" + _ROWS, split="train", twins=False
    ),
}


def recognise(path: Path) -> tuple[str, str, str] | None:
    """(source, language, split) told by a file's name, or None for a file that is none of ours.

    The language is the last dotted part (`.ar.`), English when there is none. The split is the word
    train, dev / valid(ation) or test in the name; a name with none of them is treated as test, so
    that it can never be trained on by accident. Sets that their owner publishes undivided, and that
    the catalogue knows as training or as test sets, are that whatever their name says.
    """
    for source, known in SOURCES.items():
        if re.match(known.pattern, path.name):
            lang = re.search(r"\.([a-z]{2})\.(?:jsonl|json|csv|parquet|xml)$", path.name)
            found = re.search(r"(train|dev|valid|test)", path.name.removeprefix(source))
            split = {"train": "train", "dev": "validation", "valid": "validation"}.get(
                found.group(1) if found else "", "test"
            )
            if source == "pubmedqa" and re.search(r"pqaa|artificial", path.name):
                split = "train"
            return source, lang.group(1) if lang else "en", known.split or split
    return None


def find_files(folder: Path) -> list[Path]:
    """The recognised files of a folder and its sub-folders, sorted. Raises `InputError` when there
    is none.
    """
    if not folder.is_dir():
        raise InputError(
            f"the data folder {folder.name!r} does not exist: check RAW_DIR, or leave it empty to"
            " read the kit's data/sample"
        )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and recognise(path)]
    if not files:
        names = ", ".join(source.pattern for source in SOURCES.values())
        raise InputError(
            f"the data folder {folder.name!r} holds no file with a known name; known names match:"
            f" {names}"
        )
    return files


def _read(path: Path, rows: int | None) -> tuple[Source, Iterator[Record]]:
    recognised = recognise(path)
    if recognised is None:
        raise InputError(f"{path.name}: not a file name this kit knows")
    source, lang, split = recognised
    return SOURCES[source], islice(SOURCES[source].read(path, lang, split), rows or None)


def iter_file(path: Path, rows: int | None = None, kit: bool = False) -> Iterator[Record]:
    """The records of one recognised file one by one, at most its first `rows` (0 or None: all), in
    the owner's order. `kit` marks the kit's own sample rows: they carry the kit's licence, and
    MMLU-style rows get ids that cannot be taken for the published ones.

    Raises `InputError` naming file, line, the columns seen and the columns wanted; behind the last
    row also for an empty file, a doubled id, and, from 200 rows on, for keys that are not spread
    over all options.
    """
    source, records = _read(path, rows)
    ids, keys, widest = IdSet(), Counter(), 0
    for record in records:
        ids.add(record.id)
        if record.kind == "mcqa":
            keys[record.answer_index] += 1
            widest = max(widest, len(record.options))
        if kit:
            own_id = record.id if ":kit-" in record.id else record.id.replace(":", ":kit-")
            record = record.replace(id=own_id, licence=KIT_LICENCE)
        if record.lang != "en":
            # A row in another language is the same item: it carries the English id as its parent
            # and its own language in its id.
            parent = record.id if source.twins else record.parent_id
            record = record.replace(id=f"{record.id}:{record.lang}", parent_id=parent)
        yield record
    if not len(ids) and not source.may_be_empty:
        raise InputError(f"{path.name}: the file is empty; {source.name} rows were expected")
    if doubled := ids.duplicates():
        _refuse_doubled(path, rows, doubled)
    if source.balanced and (total := sum(keys.values())) >= BALANCE_ROWS:
        counts = {LABELS[place]: keys[place] for place in range(widest)}
        if max(counts.values()) > BALANCE_SHARE * total or not all(counts.values()):
            raise InputError(
                f"{path.name}: the keys of {total} rows are"
                f" {', '.join(f'{k} {n}' for k, n in counts.items())}; every option was expected to"
                f" be right now and then, none in more than {BALANCE_SHARE:.0%} of the rows: is the"
                " key counted from the right end?"
            )


def _refuse_doubled(path: Path, rows: int | None, doubled: set[int]) -> None:
    """Reads again to name the first id that stands twice, and both rows."""
    first: dict[str, int] = {}
    for number, record in enumerate(_read(path, rows)[1], start=1):
        if hash64(record.id) in doubled:
            if record.id in first:
                raise InputError(
                    f"{path.name}: id {record.id} stands twice (rows {first[record.id]} and"
                    f" {number})"
                )
            first[record.id] = number


def read_file(path: Path, rows: int | None = None, kit: bool = False) -> list[Record]:
    """All records of `iter_file` at once: for small files and tests."""
    return list(iter_file(path, rows, kit))
