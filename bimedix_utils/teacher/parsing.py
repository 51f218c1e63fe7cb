"""Reading the teacher's answers: what models really send, and a status for everything that is not
an answer.
"""

import json
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..core.records import explain
from .store import Answer

Model = TypeVar("Model", bound=BaseModel)
_HELD = (
    "no recording",
    "not sent",
    "waiting for",
)  # nobody has failed: the request waits for its turn
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'|’)?m (?:really )?sorry|i am sorry|sorry, (?:but )?i|i can(?:'|’|no)t"
    r" (?:help|assist|provide|comply)|i cannot|as an ai|"
    r"عذر|أعتذر|آسف|لا أستطيع|لا يمكنني)",
    re.IGNORECASE,
)


def loose_json(text: str) -> dict:
    """The JSON object inside an answer: code fences, words around it and trailing commas are
    forgiven, nothing else.

    Raises ValueError when there is no object, or one that is broken in another way.
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object")
    body = text[start : text.rfind("}") + 1]
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(body)
    except json.JSONDecodeError:
        # A comma before a closing bracket, outside strings: strings are matched whole and put back
        # unchanged. One without an end matches as well, or every quote in it would be tried as a
        # beginning and read to the end.
        mended = re.sub(
            r'"(?:[^"\\]|\\.)*"?|,(?=\s*[}\]])',
            lambda m: m.group() if m.group() != "," else "",
            body,
            flags=re.DOTALL,
        )
        value, _ = json.JSONDecoder(strict=False).raw_decode(mended)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    json.dumps(value, ensure_ascii=False).encode(
        "utf-8"
    )  # half a surrogate pair is JSON, and no text
    return value


def parse_answer(answer: Answer, schema: type[Model]) -> tuple[str, Model | None, str]:
    """(status, value, note) of one answer: `ok` with a validated value, or held / failed /
    truncated / refused / parse_failed.
    """
    if answer.text is None:
        return ("held" if answer.error.startswith(_HELD) else "failed"), None, answer.error
    if answer.finish_reason == "length":
        return "truncated", None, "cut at the token limit"
    if answer.finish_reason == "content_filter" or (
        _REFUSAL.match(answer.text) and "{" not in answer.text
    ):
        return "refused", None, answer.text[:80]
    try:
        return "ok", schema(**loose_json(answer.text)), ""
    except ValidationError as error:
        return "parse_failed", None, explain(error)[:200]
    except (
        ValueError,
        TypeError,
        RecursionError,
    ) as error:  # a model stuck on "[[[[" nests without end
        return "parse_failed", None, str(error)[:200]
