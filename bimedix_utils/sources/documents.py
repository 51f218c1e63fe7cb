"""Readers of question-answer sets in XML: LiveQA and MedQuAD."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from ..core.errors import InputError
from ..core.records import Record
from ..core.text import nfc
from . import fields
from .layouts import SourceEntry, layout
from .raw_rows import read_xml


def _tags(root: Element) -> str:
    return ", ".join(sorted({element.tag for element in root.iter()}))


def _all_text(element: Element | None) -> str:
    return "" if element is None else nfc("".join(element.itertext()))


@layout("liveqa")
def read_liveqa(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """One row an answer, as the owner counts pairs. The subject is the question where the message
    is empty.
    """
    root, origin = read_xml(path), fields.origin("liveqa", lang, split)
    questions = list(root.iter("NLM-QUESTION"))
    if not questions:
        raise InputError(f"{path.name}: no NLM-QUESTION in it; seen {_tags(root)}")
    for one in questions:
        name = one.get("questionid") or one.get("qid")
        if not name:
            raise InputError(f"{path.name}: an NLM-QUESTION without questionid or qid")
        question = nfc(one.findtext("MESSAGE") or "") or nfc(one.findtext("SUBJECT") or "")
        for sub_number, sub in enumerate(one.iter("SUB-QUESTION"), start=1):
            topic = nfc(sub.findtext(".//FOCUS") or "")
            for number, answer in enumerate(sub.iter("ANSWER"), start=1):
                own = answer.get("answerid") or f"{name}-S{sub_number}-A{number}"
                where, text = f"{path.name}, question {name}", _all_text(answer)
                yield fields.pair(where, question, text, id=f"liveqa:{own}", topic=topic, **origin)


@layout("medquad")
def read_medquad(path: Path, source: SourceEntry, lang: str, split: str) -> Iterator[Record]:
    """One document. Three subsets come without answers: their owner took them out."""
    root, origin = read_xml(path), fields.origin("medquad", lang, split)
    if root.tag != "Document" or root.find("QAPairs") is None:
        raise InputError(f"{path.name}: a Document with QAPairs was expected; seen {_tags(root)}")
    topic = nfc(root.findtext("Focus") or "")
    for both in root.iter("QAPair"):
        asked = both.find("Question")
        if asked is None or not asked.get("qid"):
            raise InputError(f"{path.name}: a QAPair without a Question that has a qid")
        own, answer = asked.get("qid"), _all_text(both.find("Answer"))
        identity = f"medquad:{root.get('source')}-{own}"
        where, question = f"{path.name}, {own}", nfc(asked.text or "")
        yield fields.pair(where, question, answer, id=identity, topic=topic, **origin)
