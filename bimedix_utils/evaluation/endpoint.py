"""Score any OpenAI-compatible model, through the teacher engine: its store, its limits, its cost
cap.

`generation`: the item is sent as a user's message, and the answer read from the text. `label`:
where the server gives log-probabilities of its first token, the letters are ranked by them; a
letter that is not among the server's few best counts as less likely than all of them.
"""

import json
from collections.abc import Sequence
from math import exp, log
from typing import Any

from ..core.errors import TeacherError
from ..core.records import Record
from ..core.templates import answer_lead, render_question
from ..core.text import match_key
from ..sources.benchmarks import TASK_VERSION
from ..teacher import engine
from ..teacher.requests import Request
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .forms import Form
from .scoring import NO_ANSWER, Sample, said

TOP = 20  # log-probabilities of the first token: the most that the protocol's owner allows
FORMS = {
    "en": "Answer with one sentence: {lead} <letter>.",
    "ar": "يُرجى الإجابة بجملة واحدة: {lead} <الحرف>.",
}


def request(teacher: Teacher, record: Record, form: Form) -> Request:
    """The item as one request. Raises `TeacherError` for a protocol an endpoint cannot serve."""
    if form.protocol == "option_text":
        raise TeacherError(
            "an endpoint does not give the likelihood of a text it has not written: use generation,"
            " or label"
        )
    lang = record.lang if record.lang in FORMS else "en"
    turns: list[tuple[str, str]] = []
    for example in form.examples:
        letter = form.labels(example.lang)[example.answer_index]
        turns += [
            ("user", render_question(example, form.labels(example.lang))),
            ("assistant", f"{answer_lead(example.lang)} {letter}."),
        ]
    wanted = (
        FORMS[lang].format(lead=answer_lead(record.lang))
        if form.protocol == "generation"
        else _letter_only(record, form)
    )
    text = f"{render_question(record, form.labels(record.lang))}\n{wanted}"
    most: tuple[tuple[str, Any], ...] = (("max_tokens", teacher.max_tokens), ("temperature", 0.0))
    if form.protocol == "label":
        most = (("logprobs", True), ("max_tokens", 1), ("temperature", 0.0), ("top_logprobs", TOP))
    return Request(
        "evaluate",
        record.id,
        0,
        0,
        f"v{TASK_VERSION}",
        teacher.model,
        (*turns, ("user", text)),
        most,
    )


def _letter_only(record: Record, form: Form) -> str:
    letters = form.labels(record.lang)[: len(record.options)]
    if record.lang == "ar":
        return f"يُرجى الإجابة بحرف واحد فقط من: {'، '.join(letters)}"
    return f"Answer with one letter only: {', '.join(letters)}"


def score(teacher: Teacher, records: Sequence[Record], form: Form) -> list[Sample]:
    """Every item's sample, in order. An item without an answer is wrong, and its sample says why in
    `text`.

    Raises `TeacherError` as the engine does, and when a server asked for log-probabilities gives
    none.
    """
    requests = [request(teacher, record, form) for record in records]
    answers = engine.ask(teacher, requests)
    samples = []
    for record, one in zip(records, requests, strict=True):
        answer = answers[one.id]
        if answer.text is None:
            samples.append(_without(record, f"{NO_ANSWER}{answer.error}"))
        elif form.protocol == "label":
            samples.append(_ranked(record, form, answer))
        else:
            samples.append(said(record, form, answer.text))
    return samples


def _without(record: Record, text: str) -> Sample:
    return Sample(record.id, record.lang, record.content_hash(), record.answer_index, text=text)


def _ranked(record: Record, form: Form, answer: Answer) -> Sample:
    """Letters ranked by the first token's log-probabilities; forms of one letter ("A", " a") are
    added. None ranked: nothing chosen.
    """
    try:
        first = json.loads(answer.body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        best = [(str(entry["token"]), float(entry["logprob"])) for entry in first]
    except (KeyError, IndexError, TypeError, ValueError):
        raise TeacherError(
            "this server gives no log-probabilities of the first token: use the generation protocol"
        ) from None
    least = min((value for _, value in best), default=0.0) - 1.0
    found = []
    for letter in form.labels(record.lang)[: len(record.options)]:
        own = [exp(value) for token, value in best if match_key(token) == match_key(letter)]
        found.append(log(sum(own)) if own else least)
    if max(found) == least:
        return _without(record, answer.text or "")
    values = tuple(found)
    mass = sum(exp(value) for value in values if value > least)
    return Sample(
        record.id,
        record.lang,
        record.content_hash(),
        record.answer_index,
        values,
        (1,) * len(values),
        mass,
        text=answer.text or "",
    )
