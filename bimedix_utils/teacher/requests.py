"""A request to the teacher: one line of the OpenAI Batch format, identified by what it asks."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import TeacherError
from ..core.text import digest

_ROOMS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Request:
    """One question to the teacher; two requests with the same `id` are paid for once.

    `row_id`, `round` and `sample` say whose answer it is; `parameters` are those of the
    chat-completions API (temperature ...), `messages` pairs of role and content.
    """

    stage: str
    row_id: str
    round: int
    sample: int
    prompt_version: str
    model: str
    messages: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def id(self) -> str:
        """Hash of what is asked; never of code, time or backend. Raises `TeacherError`."""
        asked = [self.stage, self.prompt_version, self.model, self.parameters, self.messages]
        try:
            return digest([*asked, self.sample], 32)
        except UnicodeEncodeError:
            raise TeacherError(
                f"{self.stage}, row {self.row_id}: its text holds half a surrogate pair; fix"
                " the row"
            ) from None

    @property
    def recording_key(self) -> tuple[str, str, int, int]:
        """(stage, row id, round, sample): where a recording of the answer is stored."""
        return self.stage, self.row_id, self.round, self.sample

    def body(self) -> dict[str, Any]:
        """The chat-completions request body."""
        messages = [{"role": role, "content": content} for role, content in self.messages]
        return {"model": self.model, "messages": messages, **dict(self.parameters)}

    def line(self) -> dict[str, Any]:
        """One line of an OpenAI Batch file."""
        url = "/v1/chat/completions"
        return {"custom_id": self.id, "method": "POST", "url": url, "body": self.body()}

    def repair(self, answer: str, problem: str) -> "Request":
        """The follow-up with the unreadable answer and its problem; stage `repair_<stage>`."""
        asked = REPAIR.fill(problem=problem)
        messages = (*self.messages, ("assistant", answer), ("user", asked))
        stage = f"repair_{self.stage}"
        return replace(self, stage=stage, prompt_version=REPAIR.tag, messages=messages)


@dataclass(frozen=True)
class Prompt:
    """A versioned prompt: the file `prompts/<stage>.<version>.txt` of the room that asks it."""

    stage: str
    version: str

    @cached_property
    def text(self) -> str:
        """The file's text, its fields in braces. Raises `FileNotFoundError`."""
        name = f"{self.stage}.{self.version}.txt"
        path = next(_ROOMS.glob(f"*/prompts/{name}"), _ROOMS / name)
        return path.read_text(encoding="utf-8")

    @property
    def tag(self) -> str:
        """Version and hash of the text ("v1-0a1b2c3d"): an edit under an old version shows."""
        return f"{self.version}-{digest(self.text, 8)}"

    def fill(self, **values: str) -> str:
        """The text with its fields filled in. Raises `KeyError` for one without a value."""
        return self.text.format(**values)


REPAIR = Prompt("repair", "v1")
