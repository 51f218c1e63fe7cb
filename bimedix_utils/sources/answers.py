"""Readers of questions with free answers and of dialogues: sets in the layout instruction, input,
output, LiveQA, MedQuAD, MTS-Dialog and BiMed-V.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import InputError
from ..core.records import Record, Turn
from ..core.text import is_arabic, nfc
from . import fields, files

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


def open_qa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """instruction, input, output: your own rows, or any set in that layout whose owner the kit does
    not know.
    """
    names = fields.Names()
    for where, row in files.rows(path):
        fields.need(row, ("instruction", "input", "output"), where)
        asked = fields.text(row, "input", where, optional=True) or fields.text(
            row, "instruction", where
        )
        owner_id = row.get("id") or names(asked)
        yield fields.record(
            where,
            id=f"open_qa:{owner_id}",
            kind="qa",
            question=asked,
            answer=fields.text(row, "output", where),
            **fields.origin("open_qa", lang, split),
        )


def _pair(
    where: str,
    source: str,
    owner_id: str,
    question: str,
    answer: str,
    origin: dict[str, str],
    **more: object,
) -> Record:
    """A published question and its answer. One without the other is kept as a rejected row: rows
    never vanish.
    """
    verdict = {}
    if not question or not answer:
        verdict = {
            "status": "rejected",
            "note": f"no {'answer' if question else 'question'} in the owner's file",
        }
    values = {"question": question or MISSING, "answer": answer or MISSING, **verdict, **more}
    return fields.record(where, id=f"{source}:{owner_id}", kind="qa", **values, **origin)


# Where the published question-answer sets keep the question (first that is not empty) and the
# answer (first column present).
QA_COLUMNS = {
    "medical_meadow": (("input", "instruction"), ("output",)),
    "healthcaremagic": (("input", "instruction"), ("output",)),
    "icliniq": (("input", "instruction"), ("answer_icliniq", "output")),
    "umls_qa": (("input", "instruction"), ("output",)),
    "medicationqa": (("Question", "question"), ("Answer", "answer")),
}


def question_answer(path: Path, lang: str, split: str, source: str) -> Iterator[Record]:
    asked_in, answered_in = QA_COLUMNS[source]
    names, origin = fields.Names(), fields.origin(source, lang, split)
    for where, row in files.rows(path):
        answered = next((name for name in answered_in if name in row), None)
        if answered is None or not any(name in row for name in asked_in):
            wanted = f"{' or '.join(asked_in)} with {' or '.join(answered_in)}"
            raise InputError(
                f"{where}: columns wanted {wanted}; seen {', '.join(map(str, row)) or 'none'}"
            )
        questions = (fields.text(row, name, where, optional=True) for name in asked_in)
        question, answer = (
            next(filter(None, questions), ""),
            fields.text(row, answered, where, optional=True),
        )
        yield _pair(
            where, source, str(row.get("id") or names([question, answer])), question, answer, origin
        )


def liveqa(path: Path, lang: str, split: str) -> Iterator[Record]:
    """One row an answer, as the owner counts pairs. The subject is the question where the message
    is empty.
    """
    origin = fields.origin("liveqa", lang, split)
    questions = list(files.xml(path).iter("NLM-QUESTION"))
    if not questions:
        raise InputError(
            f"{path.name}: no NLM-QUESTION in it; seen"
            f" {', '.join(sorted({e.tag for e in files.xml(path).iter()}))}"
        )
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
                    f"{path.name}, question {name}",
                    "liveqa",
                    own,
                    question,
                    said,
                    origin,
                    topic=nfc(sub.findtext(".//FOCUS") or ""),
                )


def medquad(path: Path, lang: str, split: str) -> Iterator[Record]:
    """One document. Three subsets come without answers: their owner took them out."""
    root, origin = files.xml(path), fields.origin("medquad", lang, split)
    if root.tag != "Document" or root.find("QAPairs") is None:
        raise InputError(
            f"{path.name}: a Document with QAPairs was expected; seen"
            f" {', '.join(sorted({e.tag for e in root.iter()}))}"
        )
    for pair in root.iter("QAPair"):
        asked = pair.find("Question")
        if asked is None or not asked.get("qid"):
            raise InputError(f"{path.name}: a QAPair without a Question that has a qid")
        own = f"{root.get('source')}-{asked.get('qid')}"
        answer, question = (
            nfc("".join(pair.find("Answer").itertext())) if pair.find("Answer") is not None else "",
            nfc(asked.text or ""),
        )
        yield _pair(
            f"{path.name}, {asked.get('qid')}",
            "medquad",
            own,
            question,
            answer,
            origin,
            topic=nfc(root.findtext("Focus") or ""),
        )


def split_speakers(dialogue: str, where: str) -> list[Turn]:
    """Lines such as `Doctor: ...` as turns; a line without a speaker belongs to the one before,
    neighbours of one speaker are joined.

    Raises `InputError` when the first line names no known speaker.
    """
    said: list[tuple[str, list[str]]] = []
    for line in dialogue.replace("\r", "\n").split("\n"):
        if not line.strip():
            continue
        match = re.match(r"\s*([\w ]{2,20}?)\s*:\s*(.*)", line)
        role = SPEAKERS.get(match.group(1).strip().casefold()) if match else None
        if role is None and not said:
            raise InputError(
                f"{where}: a dialogue line starts without a known speaker ({', '.join(SPEAKERS)}):"
                f" {line[:60]!r}"
            )
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
        fields.need(row, ("ID", "dialogue"), where)
        fields.text(
            row, "dialogue", where
        )  # refuses another type; the text itself must keep its lines
        turns = split_speakers(row["dialogue"], where)
        # Published files hold a few monologues: kept and shown, but they cannot teach an exchange.
        # A doctor who opens and a patient who replies: nothing in it answers a patient, so there is
        # nothing to learn.
        answered = "patient doctor" in " ".join(turn.role for turn in turns)
        note = (
            "only one speaker" if len(turns) < 2 else "" if answered else "no answer to the patient"
        )
        verdict = {"status": "rejected", "note": note} if note else {}
        yield fields.record(
            where,
            id=f"dialogue:{row['ID']}",
            kind="chat",
            turns=turns,
            topic=fields.text(row, "section_header", where, optional=True),
            **verdict,
            **fields.origin("dialogue", lang, split),
        )


# --- BiMed-V

_ROLES = {"human": "patient", "user": "patient", "gpt": "doctor", "assistant": "doctor"}


def bimed_v(path: Path, lang: str, split: str) -> Iterator[Record]:
    """Conversations in the LLaVA layout (inferred): {id, image, conversations: [{from, value}]}.
    One exchange is a question with its answer, more are a chat; the language is told by the
    letters. A row with an image is kept as rejected: this kit reads text.
    """
    names = fields.Names()
    for where, row in files.rows(path):
        fields.need(row, ("conversations",), where)
        said = row["conversations"]
        if not isinstance(said, list) or not all(
            isinstance(t, dict) and {"from", "value"} <= set(t) for t in said
        ):
            raise InputError(
                f"{where}: conversations: a list of from and value wanted; columns seen:"
                f" {', '.join(row)}"
            )
        strangers = {str(turn["from"]) for turn in said} - set(_ROLES)
        if strangers:
            raise InputError(
                f"{where}: from is {', '.join(sorted(strangers))}; wanted {', '.join(_ROLES)}"
            )
        turns = [
            (
                _ROLES[turn["from"]],
                nfc(fields.text(turn, "value", where, optional=True).replace("<image>", " ")),
            )
            for turn in said
        ]
        turns = [(role, text) for role, text in turns if text]
        words = " ".join(text for _, text in turns)
        note = "has an image" if row.get("image") else "" if len(turns) > 1 else "no exchange"
        verdict = {"status": "rejected", "note": note} if note else {}
        # Ids of such files are those of images and repeat: the content names the row.
        own = names([row.get("image"), turns])
        values = {
            "id": f"bimed_v:{own}",
            **verdict,
            **fields.origin("bimed_v", "ar" if is_arabic(words) else "en", split),
        }
        if len(turns) > 2:
            yield fields.record(
                where,
                kind="chat",
                turns=[Turn(role=role, text=text) for role, text in turns],
                **values,
            )
        else:
            question, answer = (*(text for _, text in turns), MISSING, MISSING)[:2]
            yield fields.record(where, kind="qa", question=question, answer=answer, **values)
