"""Who the teacher is and how it is asked: the parameters that notebooks 02, 03 and 07 share."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core.errors import ParameterError
from ..core.parameters import Parameter
from ..core.provenance import answers_file
from ..core.records import explain
from ..core.runs import Run
from .ledger import Ledger, Spending, TokenPrice, price_of
from .pacing import Pace
from .permission import is_loopback
from .requests import Request

# The notebooks declare these as plain literals; a test holds their lines equal to this table.
TEACHER_PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("TEACHER", "replay", "one of: replay | http | batch | ray"),
        Parameter("TEACHER_MODEL", "recorded", "any text: the teacher's model name"),
        Parameter(
            "TEACHER_URL", "", "any text: base URL of an OpenAI-compatible endpoint, with /v1"
        ),
        Parameter("ALLOW_REMOTE", False, "one of: True | False: lets rows leave this machine"),
        Parameter("CONCURRENCY", 8, "1..512: requests under way at once"),
        Parameter("REQUESTS_PER_MINUTE", 0, "0..: most requests a minute, 0 for no limit"),
        Parameter("TOKENS_PER_MINUTE", 0, "0..: most tokens a minute, 0 for no limit"),
        Parameter("MAX_COST_USD", 0.0, "0..: most US dollars for one run of the notebook"),
        Parameter("ANSWER_TOKENS", 2048, "16..: most tokens of one answer"),
    )
}
SEND_PARAMETER = Parameter("SEND", "all", "one of: nothing | preview | all")  # of 02 and 03 only
_SETTINGS = {
    "TEACHER": "backend",
    "TEACHER_MODEL": "model",
    "TEACHER_URL": "url",
    "ANSWER_TOKENS": "max_tokens",
}  # every other parameter has its setting's name in capitals


class Teacher(BaseModel):
    """A teacher model and its limits. Unknown settings are refused.

    Copies share ledger, spending and pace: limits hold for all of them together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    backend: Literal["replay", "http", "batch", "ray"]
    model: str
    url: str = ""  # for `ray` several, separated by spaces
    recordings: Path | None = None
    answers: Path | None = None  # the store's file; None keeps answers in memory
    concurrency: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1)  # of `ray`
    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    timeout: float = Field(default=120.0, gt=0)  # seconds for one answer
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_tokens: int = Field(default=2048, gt=0)
    allow_remote: bool = False
    # of all calls together; for `batch`: of all requests whose results are not imported yet
    max_cost_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    prices: Path | None = None
    send: bool = True  # False reads the store and sends nothing
    ledger: Ledger = Field(default_factory=Ledger, repr=False)
    spending: Spending = Field(default_factory=Spending, repr=False)
    pace: Pace = Field(default_factory=Pace, repr=False)

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any], **settings: Any) -> "Teacher":
        """A teacher from the values of `TEACHER_PARAMETERS`. Raises `ParameterError`."""
        named = {_SETTINGS.get(name, name.lower()): parameters[name] for name in TEACHER_PARAMETERS}
        try:
            return cls(**named, **settings)
        except ValidationError as error:
            raise ParameterError(f"the teacher cannot be made: {explain(error)}") from None

    @classmethod
    def from_run(cls, run: Run, recordings: str = "data/recordings", **settings: Any) -> "Teacher":
        """The teacher of a notebook's run; what it reads becomes an input of the run.

        With `SEND = "nothing"` no request is sent.
        """
        values = run.params
        if values["TEACHER"] == "replay":
            settings["recordings"] = run.input(recordings)
        if values.get("SEND") == "nothing":
            settings["send"] = False
        prices = run.input("data/prices.csv")
        made = cls.from_parameters(values, answers=answers_file(), prices=prices, **settings)
        if values["TEACHER"] == "batch":  # results that arrive later make the stage run again
            results = made.batch_folder / "results"
            results.mkdir(parents=True, exist_ok=True)
            run.input(results)
        return made

    def request(
        self, stage: str, row_id: str, version: str, text: str, round: int = 0, sample: int = 0
    ) -> Request:
        """A request with this teacher's model and parameters."""
        limits = (("max_tokens", self.max_tokens), ("temperature", self.temperature))
        messages = (("user", text),)
        return Request(stage, row_id, round, sample, version, self.model, messages, limits)

    @property
    def batch_folder(self) -> Path:
        """Where the model's batch files are exchanged, beside the store."""
        safe = "".join(c if c.isalnum() or c in "-._" else "_" for c in self.model)
        safe = safe if safe.strip(".") else f"_{safe}"  # a model called ".." is no folder above
        return self.answers.parent / "batch" / safe

    @property
    def missing(self) -> int:
        """Requests so far that another try may answer; a missing recording stays missing."""
        return 0 if self.backend == "replay" else self.ledger.missing

    def price(self) -> TokenPrice | None:
        """The model's price, None when unknown. A model on this machine is free by default."""
        known = price_of(self.model, self.prices) if self.prices else None
        local = self.url and all(map(is_loopback, self.url.split()))
        return known or (TokenPrice(0.0, 0.0) if local else None)
