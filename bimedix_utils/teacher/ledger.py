"""The ledger: what was asked and answered, stage by stage, and what it took."""

from dataclasses import dataclass, field

from .requests import Request
from .store import Answer


@dataclass
class Entry:
    """One stage's sums. Tokens are those of newly bought answers, as the endpoint counted them."""

    requests: int = 0  # distinct requests
    answered: int = 0
    bought: int = 0  # answered now, not found in the store
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Ledger:
    """Sums by stage, in the order the stages were first asked."""

    stages: dict[str, Entry] = field(default_factory=dict)

    def note(self, requests: list[Request], answers: dict[str, Answer], bought: set[str]) -> None:
        """Count a finished batch; `bought` holds the ids that were not in the store."""
        for request in {request.id: request for request in requests}.values():
            entry, answer = self.stages.setdefault(request.stage, Entry()), answers[request.id]
            entry.requests += 1
            entry.answered += answer.text is not None
            if request.id in bought:
                entry.bought += answer.text is not None
                entry.prompt_tokens += answer.usage.get("prompt_tokens", 0)
                entry.completion_tokens += answer.usage.get("completion_tokens", 0)
