"""Ask the teacher: look into the store first, send what is missing, store each answer before anybody reads it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import TeacherError
from . import http, replay
from .ledger import Ledger
from .requests import Request
from .store import Answer, Store


class Teacher(BaseModel):
    """Who is asked, and how. Unknown settings are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    backend: Literal["replay", "http"]
    model: str
    url: str = ""
    recordings: Path | None = None
    answers: Path | None = None  # the store's file; None keeps answers in memory
    concurrency: int = 8
    timeout: float = 120.0  # seconds for one answer
    temperature: float = 0.0
    max_tokens: int = 2048
    allow_remote: bool = False
    ledger: Ledger = Field(default_factory=Ledger, repr=False)

    def request(self, stage: str, row_id: str, version: str, text: str, round: int = 0, sample: int = 0) -> Request:
        """A request with this teacher's model and parameters."""
        parameters = (("max_tokens", self.max_tokens), ("temperature", self.temperature))
        return Request(stage, row_id, round, sample, version, self.model, (("user", text),), parameters)


def ask(teacher: Teacher, requests: list[Request]) -> dict[str, Answer]:
    """An `Answer` for every request, by request id. Equal requests are asked once; stored ones are not asked again.

    Raises `TeacherError` before anything is sent when the teacher may not or cannot be asked.
    """
    if teacher.backend == "replay":
        if teacher.recordings is None:
            raise TeacherError("replay needs the folder of recordings")
        found = replay.answers(requests, teacher.recordings)
        teacher.ledger.note(requests, found, bought=set())
        return found
    distinct = {request.id: request for request in requests}
    store = Store(teacher.answers)
    try:
        known = store.get(distinct)
        missing = [request for request in distinct.values() if request.id not in known]
        fresh: dict[str, Answer] = {}

        def arrived(request: Request, answer: Answer) -> None:
            if answer.text is not None:
                store.put(answer, request.stage, request.row_id, request.model)
            fresh[request.id] = answer

        if missing:
            if not teacher.url:
                raise TeacherError("TEACHER_URL is empty: give the base URL of an OpenAI-compatible endpoint")
            http.check_permission(teacher.url, len(missing), teacher.allow_remote)
            http.send(missing, teacher.url, teacher.concurrency, teacher.timeout, arrived)
        teacher.ledger.note(requests, {**known, **fresh}, bought=set(fresh))
        return {**known, **fresh}
    finally:
        store.close()
