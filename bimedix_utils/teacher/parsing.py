"""Read the teacher's answers: what models really send, and a status for all else."""

import json
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..core.language import is_refusal
from ..core.records import explain
from .store import Answer

_Model = TypeVar("_Model", bound=BaseModel)
_HELD = ("no recording", "not sent", "waiting for")  # no failure: the request was not asked yet
# Strings are matched whole and put back unchanged, so only commas outside them are found. A string
# without an end matches too, or every quote in it would be tried as a beginning.
_STRING_OR_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"?|,(?=\s*[}\]])', re.DOTALL)


def loose_json(text: str) -> dict:
    """The JSON object in an answer; code fences, text around it and trailing commas are ignored.

    Raises `ValueError` when there is no object, or one that is broken in another way.
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object")
    body = text[start : text.rfind("}") + 1]
    decoder = json.JSONDecoder(strict=False)
    try:
        value, _ = decoder.raw_decode(body)
    except json.JSONDecodeError:
        fixed = _STRING_OR_TRAILING_COMMA.sub(lambda m: m.group().removeprefix(","), body)
        value, _ = decoder.raw_decode(fixed)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses half a surrogate pair
    return value


def parse_answer(answer: Answer, schema: type[_Model]) -> tuple[str, _Model | None, str]:
    """(status, value, note) of one answer.

    The status is `ok` with a validated value, or held, failed, truncated, refused, parse_failed.
    """
    if answer.text is None:
        return ("held" if answer.error.startswith(_HELD) else "failed"), None, answer.error
    if answer.finish_reason == "length":
        return "truncated", None, "cut at the token limit"
    refused = "{" not in answer.text and is_refusal(answer.text)
    if answer.finish_reason == "content_filter" or refused:
        return "refused", None, answer.text[:80]
    try:
        return "ok", schema(**loose_json(answer.text)), ""
    except ValidationError as error:
        return "parse_failed", None, explain(error)[:200]
    except (ValueError, TypeError, RecursionError) as error:  # "[[[[" nests without end
        return "parse_failed", None, str(error)[:200]
