"""Reading a teacher's raw answers: what is forgiven, what is not, and the status of each."""

import json
import math
import time

import pytest
from pydantic import BaseModel, ConfigDict

from bimedix_utils.core.records import STATUSES
from bimedix_utils.teacher.parsing import loose_json, parse_answer
from bimedix_utils.teacher.store import Answer

pytestmark = pytest.mark.unit


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid")
    question: str
    options: list[str] = []


FORGIVEN = {
    "plain": ('{"a": 1}', {"a": 1}),
    "white space": ('\n\t {"a": 1} \n', {"a": 1}),
    "fence with a name": ('```json\n{"a": 1}\n```', {"a": 1}),
    "fence without a name": ('```\n{"a": 1}\n```', {"a": 1}),
    "words before": ('Sure! Here is the translation:\n{"a": 1}', {"a": 1}),
    "words after": ('{"a": 1}\nI hope this helps.', {"a": 1}),
    "braces after": ('{"a": 1}\nI kept {a} as it was.', {"a": 1}),
    "comma in an object": ('{"a": 1, "b": 2,}', {"a": 1, "b": 2}),
    "comma in an array": ('{"a": [1, 2, ]}', {"a": [1, 2]}),
    "comma on its own line": ('{\n "a": {"b": [1,\n ],\n },\n}', {"a": {"b": [1]}}),
    "comma inside a string": (
        '{"a": "x,}", "b": "[1,]", "c": [2,],}',
        {"a": "x,}", "b": "[1,]", "c": [2]},
    ),
    "comma after an escaped quote": ('{"a": "he said \\"x,}\\" ,]",}', {"a": 'he said "x,}" ,]'}),
    "backslash at the end of a string": ('{"a": "c:\\\\", "b": [1,],}', {"a": "c:\\", "b": [1]}),
    "fence, preamble and comma together": (
        'Here:\n```json\n{"a": ["x",],}\n```\nDone.',
        {"a": ["x"]},
    ),
    "nested": ('{"a": {"b": {"c": [{"d": []}, {}]}}}', {"a": {"b": {"c": [{"d": []}, {}]}}}),
    "arrays in arrays": ('{"a": [[1, [2]], []]}', {"a": [[1, [2]], []]}),
    "braces in strings": ('{"a": "} { ]", "b": "{"}', {"a": "} { ]", "b": "{"}),
    "Arabic": ('{"a": "ضغط الدم، 120/80؟"}', {"a": "ضغط الدم، 120/80؟"}),
    "escaped Arabic": ('{"a": "\\u0646\\u0639\\u0645"}', {"a": "نعم"}),
    "bare line break in a string": ('{"a": "two\nlines"}', {"a": "two\nlines"}),
    "empty object": ("{}", {}),
}


@pytest.mark.parametrize("text, value", FORGIVEN.values(), ids=FORGIVEN)
def test_forgiven(text, value):
    assert loose_json(text) == value


NOT_FORGIVEN = {
    "nothing": "",
    "a sentence": "The translation is quite good, I would give it 90.",
    "a number": "90",
    "an array": '["a", "b"]',
    "a string": '"text"',
    "no end": '{"a": "cut in the midd',
    "no end, fence": '```json\n{"a": ["x", "y"\n```',
    "end before start": "} then {",
    "single quotes": "{'a': 1}",
    "no quotes": "{a: 1}",
    "two commas": '{"a": [1,,]}',
    "comma first": '{,"a": 1}',
    "missing comma": '{"a": 1 "b": 2}',
    "unescaped quote": '{"a": "he said "yes""}',
    "comment": '{"a": 1 // one\n}',
}


@pytest.mark.parametrize("text", NOT_FORGIVEN.values(), ids=NOT_FORGIVEN)
def test_not_forgiven(text):
    with pytest.raises(ValueError):
        loose_json(text)


def test_nothing_is_changed_in_valid_json():
    """A string that looks like a trailing comma, a fence or a preamble comes back letter for
    letter.
    """
    value = {
        "a": "```json",
        "b": ",}",
        "c": "Here is: {x,}",
        "d": [",]", {"e": None, "f": True, "g": 1.5}],
    }
    assert loose_json(json.dumps(value)) == value
    assert loose_json(json.dumps(value)[:-1] + ",}") == value


def test_a_long_answer_is_read_in_no_time():
    """The fixing pattern must not backtrack: 200 kB with a trailing comma and many quotes."""
    text = '{"a": "' + '\\"x, ' * 40_000 + '",}'
    assert len(loose_json(text)["a"]) == 160_000


@pytest.mark.parametrize(
    "text",
    ["{" + '\\"' * 100_000 + "}", "{" + ", \n" * 100_000 + "}", '{"a": "' + "\\\\" * 100_000 + "}"],
)
def test_a_long_answer_that_is_broken_is_given_up_in_no_time(text):
    """A hundred kilobytes of escaped quotes took minutes: every quote was tried as the beginning of
    a string without an end.
    """
    begin = time.perf_counter()
    assert parse_answer(Answer("id", text), Toy)[0] == "parse_failed"
    assert time.perf_counter() - begin < 2


def test_a_degenerate_answer_is_parse_failed():
    """A small model caught in a loop repeats one bracket."""
    assert (
        parse_answer(Answer("id", '{"question": ' + "[" * 100_000 + "}"), Toy)[0] == "parse_failed"
    )


def test_half_an_emoji_is_parse_failed():
    assert parse_answer(Answer("id", '{"question": "half \\ud83d"}'), Toy)[0] == "parse_failed"
    assert (
        parse_answer(Answer("id", '{"question": "whole \\ud83d\\ude00"}'), Toy)[1].question
        == "whole 😀"
    )


GOOD = '{"question": "q", "options": ["a"]}'
STATUS = {
    "ok": (Answer("id", GOOD), "ok", ""),
    "fenced": (Answer("id", f"```json\n{GOOD}\n```"), "ok", ""),
    "no recording": (Answer("id", None, error="no recording"), "held", "no recording"),
    "HTTP error": (Answer("id", None, error="HTTP 500"), "failed", "HTTP 500"),
    "timeout": (Answer("id", None, error="TimeoutError"), "failed", "TimeoutError"),
    "cut": (Answer("id", GOOD[:12], "length"), "truncated", "token limit"),
    "cut at the very end": (Answer("id", GOOD, "length"), "truncated", "token limit"),
    "filtered": (Answer("id", "", "content_filter"), "refused", ""),
    "refused": (
        Answer("id", "I'm sorry, but I can't help with medical content."),
        "refused",
        "I'm sorry",
    ),
    "refused, curly": (Answer("id", "I’m sorry, I can’t do that."), "refused", "I’m sorry"),
    "refused, cannot": (Answer("id", "I cannot assist with this request."), "refused", "I cannot"),
    "refused, as an AI": (Answer("id", "As an AI, I do not give advice."), "refused", "As an AI"),
    "refused in Arabic": (Answer("id", "عذرًا، لا أستطيع المساعدة في ذلك."), "refused", "عذر"),
    "sorry, yet an answer": (Answer("id", f"I'm sorry for the delay: {GOOD}"), "ok", ""),
    "words only": (Answer("id", "I would give it 90."), "parse_failed", "no JSON object"),
    "empty": (Answer("id", ""), "parse_failed", "no JSON object"),
    "broken": (Answer("id", '{"question": "q"'), "parse_failed", "Expecting"),
    "key missing": (Answer("id", '{"options": []}'), "parse_failed", "question: Field required"),
    "key too many": (
        Answer("id", '{"question": "q", "extra": 1}'),
        "parse_failed",
        "extra: Extra inputs",
    ),
    "wrong type": (
        Answer("id", '{"question": "q", "options": "a"}'),
        "parse_failed",
        "options: Input should be a valid list",
    ),
    "an array": (Answer("id", '["q"]'), "parse_failed", "no JSON object"),
}


@pytest.mark.parametrize("answer, status, note", STATUS.values(), ids=STATUS)
def test_status(answer, status, note):
    found, value, told = parse_answer(answer, Toy)
    assert found == status and note in told
    assert found in STATUSES
    assert (value is not None) == (status == "ok")
    if value is not None:
        assert value == Toy(question="q", options=["a"]) and told == ""


def test_notes_stay_short():
    """A note is a table cell: neither a whole refusal nor a whole validation report."""
    many = json.dumps({"question": "q", **{f"key{i}": i for i in range(99)}})
    assert len(parse_answer(Answer("id", many), Toy)[2]) == 200
    assert len(parse_answer(Answer("id", "As an AI " + "x" * 500), Toy)[2]) == 80


def test_not_a_number_is_no_score():
    class Score(BaseModel):
        score: int

    assert math.isnan(loose_json('{"score": NaN}')["score"])
    assert parse_answer(Answer("id", '{"score": NaN}'), Score)[0] == "parse_failed"
