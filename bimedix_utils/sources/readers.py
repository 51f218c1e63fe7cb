"""One reader for each owner's format. Each yields records one at a time and refuses what it does not know; none looks at file names
but to tell MMLU's subject and PubMedQA's labelled part.

An owner's own id names a row; where there is none, a hash of the question does, and a question that stands twice is told by a number.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from .. import catalogue
from ..errors import InputError
from ..records import LABELS, Record, Turn, explain, hash64, read_utf8
from ..text import digest, is_arabic, nfc
from . import files

MMLU_SUBJECTS = (
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
    "anatomy",
)
PUBMEDQA_OPTIONS = {"en": ("yes", "no", "maybe"), "ar": ("نعم", "لا", "ربما")}
OFFICIAL_TEST = "test_ground_truth.json"  # PubMedQA's own list of test ids
OFFICIAL_ROWS = 500
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
MISSING = "(not in the file)"  # stands in a rejected row for a text that the owner left out
_licence = cache(catalogue.licence)


def _origin(source: str, lang: str, split: str) -> dict[str, str]:
    return {"source": source, "lang": lang, "split": split, "licence": _licence(source, lang)}


class _Names:
    """Ids for rows without one: a hash of their content; the second row with the same content ends in -2."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._again: Counter[str] = Counter()

    def __call__(self, content: object) -> str:
        name = digest(content)
        if (number := hash64(name)) not in self._seen:
            self._seen.add(number)
            return name
        self._again[name] += 1
        return f"{name}-{self._again[name] + 1}"


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


def medmcqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Two passes over the file: the first tells where `cop` begins to count, the second reads."""
    seen = set()
    for where, row in files.rows(path):
        _need(row, ("id", "question", "opa", "opb", "opc", "opd", "cop"), where)
        if not isinstance(row["cop"], int) or not 0 <= row["cop"] <= 4:
            raise InputError(f"{where}: cop is {row['cop']!r}; wanted 1-4 (raw file) or 0-3 (hub copy)")
        seen.add(row["cop"])
    first = _first_key(path, "cop", seen)
    for where, row in files.rows(path):
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


def _first_key(path: Path, column: str, seen: set[int]) -> int:
    """0 or 1. A single 0 or 4 decides the counting for the whole file; a file with both, or with neither, cannot be trusted."""
    if {0, 4} <= seen or (seen and not seen & {0, 4}):
        raise InputError(
            f"{path.name}: {column} takes the values {sorted(seen)}, so it cannot be told whether it counts from 0 (hub copy) or 1 "
            "(raw file)"
        )
    return 0 if 0 in seen else 1


def medqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    names = _Names()
    for where, row in files.rows(path):
        _need(row, ("question", "options", "answer_idx"), where)
        letters = sorted(row["options"]) if isinstance(row["options"], dict) else []
        if not letters or letters != list(LABELS[: len(letters)]) or row["answer_idx"] not in letters:
            raise InputError(
                f"{where}: options {letters} with answer_idx {row['answer_idx']!r}; wanted letters A-D and one of them as the key"
            )
        # The owner gives no id: the question's own hash is one that survives any re-ordering of the file.
        owner_id = row.get("id") or names(_text(row, "question", where))
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


def _json_object(path: Path) -> dict:
    """A file that is one JSON object keyed by PubMed id. It is held in memory as a whole: the owner's format leaves no choice."""
    try:
        table = json.loads(read_utf8(path), object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if not isinstance(table, dict):
        raise InputError(f"{path.name}: a JSON object keyed by PubMed id was expected, found {type(table).__name__}")
    return table


def _pubmedqa_rows(path: Path) -> Iterator[tuple[str, str, str, list, str, str]]:
    """(place, PubMed id, question, contexts, long answer, decision) of the owner's object or of the hub copy's rows."""
    owner = path.suffix == ".json"
    rows = ((f"{path.name}, entry {key}", row) for key, row in _json_object(path).items()) if owner else files.rows(path)
    question, contexts, answer = ("QUESTION", "CONTEXTS", "LONG_ANSWER") if owner else ("question", "context", "long_answer")
    for where, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON object was expected, found {type(row).__name__}")
        _need(row, (question, contexts, "final_decision", *([] if owner else ["pubid"])), where)
        parts = row[contexts]
        if not owner:
            parts = parts.get("contexts") if isinstance(parts, dict) else parts
        if row["final_decision"] not in PUBMEDQA_OPTIONS["en"]:
            raise InputError(f"{where}: final_decision is {row['final_decision']!r}; wanted yes, no or maybe")
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InputError(f"{where}: {contexts if owner else 'context.contexts'}: a list of texts wanted, found {type(parts).__name__}")
        key = where.rpartition(" ")[2] if owner else str(row["pubid"])
        yield where, key, _text(row, question, where), parts, _text(row, answer, where, optional=True), row["final_decision"]


def _official_test(path: Path) -> dict[str, str] | None:
    """{PubMed id: decision} of the owner's test list beside this file, or None. Raises `InputError` when it is not the whole list."""
    beside = path.with_name(OFFICIAL_TEST)
    if not beside.exists():
        return None
    table = _json_object(beside)
    if len(table) != OFFICIAL_ROWS or not set(table.values()) <= set(PUBMEDQA_OPTIONS["en"]):
        raise InputError(f"{OFFICIAL_TEST}: the owner's list has {OFFICIAL_ROWS} ids with yes, no or maybe; found {len(table)}")
    return table


def pubmedqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """A row is a test row when its id stands in the owner's list, never by its position. The labelled part (`ori_pqal.json`, the
    hub's pqa_labeled) cannot be read without the list; its other rows, the owner's cross-validation half, are validation rows."""
    if lang not in PUBMEDQA_OPTIONS:
        raise InputError(f"{path.name}: no words for yes, no, maybe in language {lang!r}; add them to sources.PUBMEDQA_OPTIONS")
    official = _official_test(path)
    labelled = re.search(r"pqal|(?<!un)label", path.name, re.IGNORECASE) is not None
    if labelled and official is None:
        raise InputError(
            f"{path.name}: {OFFICIAL_TEST} is missing. Put the owner's file beside it: it names the {OFFICIAL_ROWS} test rows, "
            "which no position in this file does"
        )
    missing = set(official or ())
    for where, owner_id, question, contexts, answer, decision in _pubmedqa_rows(path):
        own_split = split
        if official is not None:
            if owner_id in official:
                own_split = "test"
                missing.discard(owner_id)
                if official[owner_id] != decision:
                    raise InputError(f"{where}: final_decision is {decision!r}, {OFFICIAL_TEST} says {official[owner_id]!r}")
            elif labelled:
                own_split = "validation"
            elif split == "test":
                raise InputError(f"{where}: the name says test, but the id is not in {OFFICIAL_TEST}")
        yield _record(
            where,
            id=f"pubmedqa:{owner_id}",
            kind="mcqa",
            question=question,
            context=nfc(" ".join(contexts)),
            options=PUBMEDQA_OPTIONS[lang],
            answer_index=PUBMEDQA_OPTIONS["en"].index(decision),
            answer=answer,
            **_origin("pubmedqa", lang, own_split),
        )
    if labelled and missing:
        raise InputError(f"{path.name}: {len(missing)} of the {OFFICIAL_ROWS} official test ids are not in it, first {min(missing)}")


def mmlu(path: Path, lang: str, split: str) -> Iterator[Record]:
    """The owner's CSV without a header, or the hub copy's rows. The owner gives no id, and the twin in another language is known by
    position only: the row number is the id."""
    subject = path.name.removeprefix("mmlu_").split("_test")[0]
    if subject not in MMLU_SUBJECTS:
        raise InputError(f"{path.name}: MMLU subject {subject!r} is not one of {', '.join(MMLU_SUBJECTS)}")
    rows = _mmlu_csv(path) if path.suffix == ".csv" else _mmlu_hub(path, subject)
    for index, (where, question, options, key) in enumerate(rows):
        yield _record(
            where,
            id=f"mmlu_{subject}:{index}",
            kind="mcqa",
            question=nfc(question),
            options=[nfc(o) for o in options],
            answer_index=key,
            topic=subject,
            **_origin(f"mmlu_{subject}", lang, split),
        )


def _mmlu_csv(path: Path) -> Iterator[tuple[str, str, list[str], int]]:
    reader = csv.reader(io.StringIO(read_utf8(path)), strict=True)
    try:
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if len(row) != 6 or row[5] not in tuple("ABCD"):
                raise InputError(
                    f"{where}: wanted 6 columns (question, A, B, C, D, letter) without a header; seen {len(row)} ending in {row[-1:]!r}"
                )
            yield where, row[0], row[1:5], "ABCD".index(row[5])
    except csv.Error as error:
        raise InputError(f"{path.name}, line {reader.line_num}: not valid CSV ({error})") from None


def _mmlu_hub(path: Path, subject: str) -> Iterator[tuple[str, str, list[str], int]]:
    for where, row in files.rows(path):
        _need(row, ("question", "choices", "answer"), where)
        if row.get("subject", subject) != subject:
            raise InputError(f"{where}: subject is {row['subject']!r} in a file named {subject}")
        if not isinstance(row["choices"], list) or len(row["choices"]) != 4 or not all(isinstance(c, str) for c in row["choices"]):
            raise InputError(f"{where}: choices: a list of 4 texts wanted, found {row['choices']!r}")
        if type(row["answer"]) is not int or not 0 <= row["answer"] <= 3:
            raise InputError(f"{where}: answer is {row['answer']!r}; wanted 0-3")
        yield where, _text(row, "question", where), row["choices"], row["answer"]


def open_qa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """instruction, input, output: your own rows, or any set in that layout whose owner the kit does not know."""
    names = _Names()
    for where, row in files.rows(path):
        _need(row, ("instruction", "input", "output"), where)
        asked = _text(row, "input", where, optional=True) or _text(row, "instruction", where)
        owner_id = row.get("id") or names(asked)
        yield _record(
            where,
            id=f"open_qa:{owner_id}",
            kind="qa",
            question=asked,
            answer=_text(row, "output", where),
            **_origin("open_qa", lang, split),
        )


def _pair(where: str, source: str, owner_id: str, question: str, answer: str, origin: dict[str, str], **more: object) -> Record:
    """A published question and its answer. One without the other is kept as a rejected row: rows never vanish."""
    verdict = {}
    if not question or not answer:
        verdict = {"status": "rejected", "note": f"no {'answer' if question else 'question'} in the owner's file"}
    fields = {"question": question or MISSING, "answer": answer or MISSING, **verdict, **more}
    return _record(where, id=f"{source}:{owner_id}", kind="qa", **fields, **origin)


# Where the published question-answer sets keep the question (first that is not empty) and the answer (first column present).
QA_COLUMNS = {
    "medical_meadow": (("input", "instruction"), ("output",)),
    "healthcaremagic": (("input", "instruction"), ("output",)),
    "icliniq": (("input", "instruction"), ("answer_icliniq", "output")),
    "umls_qa": (("input", "instruction"), ("output",)),
    "medicationqa": (("Question", "question"), ("Answer", "answer")),
}


def question_answer(path: Path, lang: str, split: str, source: str) -> Iterator[Record]:
    asked_in, answered_in = QA_COLUMNS[source]
    names, origin = _Names(), _origin(source, lang, split)
    for where, row in files.rows(path):
        answered = next((name for name in answered_in if name in row), None)
        if answered is None or not any(name in row for name in asked_in):
            wanted = f"{' or '.join(asked_in)} with {' or '.join(answered_in)}"
            raise InputError(f"{where}: columns wanted {wanted}; seen {', '.join(map(str, row)) or 'none'}")
        questions = (_text(row, name, where, optional=True) for name in asked_in)
        question, answer = next(filter(None, questions), ""), _text(row, answered, where, optional=True)
        yield _pair(where, source, str(row.get("id") or names([question, answer])), question, answer, origin)


def liveqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """One row an answer, as the owner counts pairs. The subject is the question where the message is empty."""
    origin = _origin("liveqa", lang, split)
    questions = list(files.xml(path).iter("NLM-QUESTION"))
    if not questions:
        raise InputError(f"{path.name}: no NLM-QUESTION in it; seen {', '.join(sorted({e.tag for e in files.xml(path).iter()}))}")
    for one in questions:
        name = one.get("questionid") or one.get("qid")
        if not name:
            raise InputError(f"{path.name}: an NLM-QUESTION without questionid or qid")
        question = nfc(one.findtext("MESSAGE") or "") or nfc(one.findtext("SUBJECT") or "")
        for sub_number, sub in enumerate(one.iter("SUB-QUESTION"), start=1):
            for number, answer in enumerate(sub.iter("ANSWER"), start=1):
                own = answer.get("answerid") or f"{name}-S{sub_number}-A{number}"
                said = nfc("".join(answer.itertext()))
                yield _pair(
                    f"{path.name}, question {name}", "liveqa", own, question, said, origin, topic=nfc(sub.findtext(".//FOCUS") or "")
                )


def medquad(path: Path, lang: str, split: str) -> Iterator[Record]:
    """One document. Three subsets come without answers: their owner took them out."""
    root, origin = files.xml(path), _origin("medquad", lang, split)
    if root.tag != "Document" or root.find("QAPairs") is None:
        raise InputError(f"{path.name}: a Document with QAPairs was expected; seen {', '.join(sorted({e.tag for e in root.iter()}))}")
    for pair in root.iter("QAPair"):
        asked = pair.find("Question")
        if asked is None or not asked.get("qid"):
            raise InputError(f"{path.name}: a QAPair without a Question that has a qid")
        own = f"{root.get('source')}-{asked.get('qid')}"
        answer, question = nfc("".join(pair.find("Answer").itertext())) if pair.find("Answer") is not None else "", nfc(asked.text or "")
        yield _pair(f"{path.name}, {asked.get('qid')}", "medquad", own, question, answer, origin, topic=nfc(root.findtext("Focus") or ""))


# --- BiMediX's Arabic test sets: their columns were not found in any copy, so they are mapped by inspection.

BIMEDIX_QUESTION = ("question", "Question", "QUESTION", "question_ar", "arabic_question", "sent1", "السؤال")
BIMEDIX_OPTIONS = ("options", "choices", "Options", "endings", "options_ar")
BIMEDIX_LETTERED = (("opa", "opb", "opc", "opd"), ("A", "B", "C", "D"), ("option_a", "option_b", "option_c", "option_d"),
                    ("ending0", "ending1", "ending2", "ending3"))  # fmt: skip
BIMEDIX_KEY = ("answer_idx", "cop", "final_decision", "label", "answerKey", "correct_answer", "answer", "Answer", "target")
BIMEDIX_ID = {"pubmedqa": ("pubid", "pubmed_id", "id"), "medmcqa": ("id",)}
BIMEDIX_CONTEXT = ("context", "contexts", "CONTEXTS", "abstract", "context_ar")
ARABIC_LETTERS = "أبجد"


def _bimedix_options(row: dict, source: str) -> list[str] | None:
    for name in BIMEDIX_OPTIONS:
        value = row.get(name)
        if isinstance(value, dict) and isinstance(value.get("text"), list):  # {"text": [...], "label": [...]}
            value = value["text"]
        if isinstance(value, dict) and sorted(k for k, v in value.items() if v is not None) == list(LABELS[: len(value)]):
            value = [value[letter] for letter in sorted(value)]
        if isinstance(value, list) and value and all(isinstance(option, str) for option in value):
            return value
    for names in BIMEDIX_LETTERED:
        if all(isinstance(row.get(name), str) for name in names):
            return [row[name] for name in names]
    return list(PUBMEDQA_OPTIONS["ar"]) if source.endswith("pubmedqa") else None


def _bimedix_key(value: object, options: list[str], first: int) -> int | None:
    """The place of the key given as a number, a Latin or Arabic letter, the option's own text or yes, no, maybe."""
    if type(value) is int or (isinstance(value, str) and value.strip().isdecimal() and value.strip() not in options):
        place = int(value) - first
        return place if 0 <= place < len(options) else None
    if not isinstance(value, str):
        return None
    said = nfc(value).rstrip(".)")
    for alphabet in (LABELS, ARABIC_LETTERS, PUBMEDQA_OPTIONS["en"]):
        if said in list(alphabet[: len(options)]):
            return list(alphabet).index(said)
    texts = [nfc(option).rstrip(".)") for option in options]
    return texts.index(said) if texts.count(said) == 1 else None


def bimedix(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Always test rows: the hub calls the one split of these sets "train". Raises `InputError` with the columns seen when question,
    options or key cannot be found, and never guesses between 0-3 and 1-4."""
    source = re.match(r"bimedix_(?:medqa|medmcqa|pubmedqa|mmlu_(?:" + "|".join(MMLU_SUBJECTS) + "))", path.name)
    if source is None:
        raise InputError(f"{path.name}: wanted bimedix_medqa, bimedix_medmcqa, bimedix_pubmedqa or bimedix_mmlu_<subject>")
    source, family = source.group(), source.group().removeprefix("bimedix_")
    numbers: dict[str, set[int]] = {}
    for _, row in files.rows(path):  # first pass: where do numbers begin to count?
        for name in BIMEDIX_KEY:
            if type(row.get(name)) is int:
                numbers.setdefault(name, set()).add(row[name])
    names, origin = _Names(), _origin(source, lang, "test")
    for where, row in files.rows(path):
        question = next((row[name] for name in BIMEDIX_QUESTION if isinstance(row.get(name), str) and row[name].strip()), None)
        options = _bimedix_options(row, source)
        key = next((name for name in BIMEDIX_KEY if row.get(name) is not None), None)
        if question is None or options is None or key is None:
            lacking = [word for word, found in (("question", question), ("options", options), ("key", key)) if found is None]
            raise InputError(f"{where}: no column was found for {', '.join(lacking)}; columns seen: {', '.join(map(str, row)) or 'none'}")
        first = _first_key(path, key, numbers[key]) if key in numbers else 0
        place = _bimedix_key(row[key], options, first)
        if place is None:
            raise InputError(f"{where}: the key {key} = {row[key]!r} names none of {len(options)} options; columns seen: {', '.join(row)}")
        context = next((row[name] for name in BIMEDIX_CONTEXT if row.get(name)), "")
        context = context.get("contexts", "") if isinstance(context, dict) else context
        own = next((str(row[name]) for name in BIMEDIX_ID.get(family, ()) if row.get(name) is not None), None)
        yield _record(
            where,
            id=f"{source}:{own or names(nfc(question))}",
            kind="mcqa",
            question=nfc(question),
            context=nfc(" ".join(context) if isinstance(context, list) else str(context)),
            options=[nfc(option) for option in options],
            answer_index=place,
            topic=family.removeprefix("mmlu_") if family.startswith("mmlu_") else "",
            # The order of these sets is not known to be the English one: only an id of the owner's names the original.
            parent_id=f"{family}:{own}" if own else None,
            **origin,
        )


# --- BiMed-V

_ROLES = {"human": "patient", "user": "patient", "gpt": "doctor", "assistant": "doctor"}


def bimed_v(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Conversations in the LLaVA layout (inferred): {id, image, conversations: [{from, value}]}. One exchange is a question with its
    answer, more are a chat; the language is told by the letters. A row with an image is kept as rejected: this kit reads text."""
    names = _Names()
    for where, row in files.rows(path):
        _need(row, ("conversations",), where)
        said = row["conversations"]
        if not isinstance(said, list) or not all(isinstance(t, dict) and {"from", "value"} <= set(t) for t in said):
            raise InputError(f"{where}: conversations: a list of from and value wanted; columns seen: {', '.join(row)}")
        strangers = {str(turn["from"]) for turn in said} - set(_ROLES)
        if strangers:
            raise InputError(f"{where}: from is {', '.join(sorted(strangers))}; wanted {', '.join(_ROLES)}")
        turns = [(_ROLES[turn["from"]], nfc(_text(turn, "value", where, optional=True).replace("<image>", " "))) for turn in said]
        turns = [(role, text) for role, text in turns if text]
        words = " ".join(text for _, text in turns)
        note = "has an image" if row.get("image") else "" if len(turns) > 1 else "no exchange"
        verdict = {"status": "rejected", "note": note} if note else {}
        # Ids of such files are those of images and repeat: the content names the row.
        own = names([row.get("image"), turns])
        fields = {"id": f"bimed_v:{own}", **verdict, **_origin("bimed_v", "ar" if is_arabic(words) else "en", split)}
        if len(turns) > 2:
            yield _record(where, kind="chat", turns=[Turn(role=role, text=text) for role, text in turns], **fields)
        else:
            question, answer = (*(text for _, text in turns), MISSING, MISSING)[:2]
            yield _record(where, kind="qa", question=question, answer=answer, **fields)


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


def dialogues(path: Path, lang: str, split: str) -> Iterator[Record]:
    for where, row in files.rows(path):
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
