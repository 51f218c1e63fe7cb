"""Score any OpenAI-compatible model through the teacher: its store, its limits, its cost cap.

`generation`: the item is sent as a user's message, and the answer parsed from the text. `label`:
where the server gives log-probabilities of its first token, they rank the letters; a letter that is
not among the server's top tokens counts as less likely than all of them.
"""

import json
from collections.abc import Sequence
from math import exp, log

from ..core.errors import TeacherError
from ..core.records import Record
from ..core.templates import answer_lead, render_question
from ..core.text import match_key
from ..sources.benchmarks import TASK_VERSION
from ..teacher import engine
from ..teacher.requests import Request
from ..teacher.settings import Teacher
from ..teacher.store import Answer
from .extraction import answer_words
from .prompt_format import PromptFormat
from .scoring import NO_ANSWER, Sample, generated_sample

_TOP_LOGPROBS = 20  # of the first token: the most that the OpenAI protocol allows


def item_request(teacher: Teacher, record: Record, fmt: PromptFormat) -> Request:
    """The item as one request. Raises `TeacherError` for a protocol an endpoint cannot serve."""
    if fmt.protocol == "option_text":
        raise TeacherError(
            "an endpoint does not give the likelihood of a text it has not written: use generation,"
            " or label"
        )
    turns: list[tuple[str, str]] = []
    for example in fmt.examples:
        letters = fmt.labels(example.lang)
        answer = f"{answer_lead(example.lang)} {letters[example.answer_index]}."
        turns += [("user", render_question(example, letters)), ("assistant", answer)]
    letters, words = fmt.labels(record.lang), answer_words(record.lang)
    text = render_question(record, letters)
    if fmt.protocol == "generation":
        text += "\n" + words["one_sentence"].format(lead=answer_lead(record.lang))
        limits = (("max_tokens", teacher.max_tokens), ("temperature", 0.0))
    else:
        listed = words["comma"].join(letters[: len(record.options)])
        text += "\n" + words["one_letter"].format(letters=listed)
        limits = (
            ("logprobs", True),
            ("max_tokens", 1),
            ("temperature", 0.0),
            ("top_logprobs", _TOP_LOGPROBS),
        )
    messages = (*turns, ("user", text))
    return Request("evaluate", record.id, 0, 0, f"v{TASK_VERSION}", teacher.model, messages, limits)


def score_endpoint(teacher: Teacher, records: Sequence[Record], fmt: PromptFormat) -> list[Sample]:
    """Every item's sample, in order. An item without an answer is wrong, and its sample says why in
    `text`.

    Raises `TeacherError` as the teacher does, and when a server gives no log-probabilities.
    """
    requests = [item_request(teacher, record, fmt) for record in records]
    answers = engine.ask(teacher, requests)
    samples = []
    for record, request in zip(records, requests, strict=True):
        answer = answers[request.id]
        if answer.text is None:
            samples.append(Sample.of_record(record, text=f"{NO_ANSWER}{answer.error}"))
        elif fmt.protocol == "label":
            samples.append(_ranked(record, fmt, answer))
        else:
            samples.append(generated_sample(record, fmt, answer.text))
    return samples


def _ranked(record: Record, fmt: PromptFormat, answer: Answer) -> Sample:
    """Letters ranked by the first token's log-probabilities; spellings of one letter ("A", " a")
    are added. No letter among them: nothing is chosen.
    """
    try:
        first = json.loads(answer.body)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        top = [(match_key(str(entry["token"])), float(entry["logprob"])) for entry in first]
    except (KeyError, IndexError, TypeError, ValueError):
        raise TeacherError(
            "this server gives no log-probabilities of the first token: use the generation protocol"
        ) from None
    least = min((value for _, value in top), default=0.0) - 1.0
    values = []
    for letter in fmt.labels(record.lang)[: len(record.options)]:
        own = [exp(value) for token, value in top if token == match_key(letter)]
        values.append(log(sum(own)) if own else least)
    if max(values) == least:
        return Sample.of_record(record, text=answer.text or "")
    return Sample.of_record(
        record,
        loglikelihoods=tuple(values),
        characters=(1,) * len(values),
        mass=sum(exp(value) for value in values if value > least),
        text=answer.text or "",
    )
