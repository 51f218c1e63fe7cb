"""A plan as a whole: the proven shape, every GPU's answer, steps, hours and cost; plain numbers for
tables, a file or a notebook.
"""

from dataclasses import asdict, dataclass
from typing import Any

from ...core.errors import KitError
from . import work
from .fit import Verdict, remedies, this_machine, verdict
from .hardware import GB, UNKNOWN, gpu, gpus
from .memory import CPU_BUFFERS, GPU_CONTEXT
from .setup import Setup
from .shape import Proof, Shape, find_config, prove, shape_of
from .work import Rows

Range = tuple[float, float] | None


@dataclass(frozen=True)
class Answer:
    """One device: whether it holds the training, and if so hours, US dollars and steps in a day;
    None: does not fit, or not found.
    """

    verdict: Verdict
    hours: Range
    cost: Range
    steps_a_day: int | None

    def missing(self) -> str:
        """What to print for a number that is None."""
        return UNKNOWN if self.verdict.fits else "does not fit"


@dataclass(frozen=True)
class Plan:
    """A planned training. The first of `answers` is the setup's own device, or this machine where
    it names none.
    """

    setup: Setup
    shape: Shape
    proof: Proof
    rows: Rows | None  # None: not known, and the paper's are not meant
    answers: list[Answer]
    head_tokens: int | None

    @property
    def own(self) -> Verdict:
        """The verdict of the setup's own device."""
        return self.answers[0].verdict

    def check(self) -> None:
        """Raise `KitError` when the setup's own device cannot hold it: what is short, and each
        change that would help.
        """
        if self.own.fits:
            return
        found = remedies(self.shape, self.setup, self.own.device, self.head_tokens)
        helps = (
            "any one of these would do: " + "; ".join(found)
            if found
            else "nothing would do; take a larger GPU"
        )
        raise KitError(
            f"the training does not fit: it {self.own.why}. Of what the plan tries, {helps}"
        )

    def assumptions(self) -> list[str]:
        """What the plan takes for granted, in words."""
        low, high = work.UTILISATION
        if not self.setup.gpu:
            return [
                (
                    f"{CPU_BUFFERS / 1e6:g} MB for the libraries' buffers and a little for each"
                    " matrix's Python objects: see memory.py"
                ),
                "Python and the imported libraries themselves are not counted",
            ]
        return [
            (
                f"a GPU reaches {low:.0%} to {high:.0%} of its dense bfloat16 rate: assumed, not"
                " measured"
            ),
            (
                f"{GPU_CONTEXT / GB:g} GB for the driver's context, library buffers and what the"
                " allocator cannot reuse: assumed"
            ),
            (
                "a GB is 10^9 bytes; batches are padded, so attention needs a mask; every expert"
                " gets an even share of the tokens"
            ),
            (
                "adapters and gradients in float32, the base in bfloat16 under autocast, which"
                " keeps 16-bit copies of the adapters"
            ),
            (
                "steps and hours count no padding; paged optimiser states are counted as if they"
                " stayed on the GPU"
            ),
        ]

    def as_json(self) -> dict[str, Any]:
        """What plan.json holds: bytes, hours, US dollars; an unknown number is `not found`."""
        devices = [
            {
                "device": answer.verdict.device.name,
                "memory_gb": answer.verdict.device.memory_gb,
                "fits": answer.verdict.fits,
                "why": answer.verdict.why,
                "largest_micro_tokens": answer.verdict.micro_tokens,
                "hours": answer.hours or answer.missing(),
                "cost_usd": answer.cost or answer.missing(),
                "steps_a_day": (
                    answer.missing() if answer.steps_a_day is None else answer.steps_a_day
                ),
            }
            for answer in self.answers
        ]
        return {
            "setup": asdict(self.setup),
            "parameters": self.proof.parameters,
            "adapters": self.proof.adapters,
            "adapted_modules": self.proof.targets,
            "learning_share_of_all": self.proof.share,
            "memory_bytes": self.own.peak.parts,
            "memory_moment": self.own.peak.moment,
            "devices": devices,
            "rows": asdict(self.rows) if self.rows else UNKNOWN,
            "steps": work.steps(self.setup, self.rows) if self.rows else UNKNOWN,
            "tokens": work.tokens_read(self.setup, self.rows) if self.rows else UNKNOWN,
            "flops_per_token": (
                work.flops_per_token(self.shape, self.setup, self.rows.mean)
                if self.rows
                else UNKNOWN
            ),
            "assumptions": self.assumptions(),
        }


def make(
    setup: Setup,
    rows: Rows | None,
    usd_per_hour: float | None = None,
    head_tokens: int | None = None,
) -> Plan:
    """Plan a training on its own device and on every GPU of data/gpus.csv; without a GPU, on this
    machine only.

    `usd_per_hour` is the price of one hour of the setup's own GPU. Raises `InputError` for an
    unknown model or GPU, `AuditError` when the model on the meta device is not the one computed
    with.
    """
    own = gpu(setup.gpu) if setup.gpu else this_machine(setup.gpus)
    config = find_config(setup.model)
    shape, proof = shape_of(config), prove(config, setup.rank, setup.parts)
    answers = []
    for device in (
        [own, *(item for item in gpus() if item.name != own.name)] if setup.gpu else [own]
    ):
        found = verdict(shape, setup, device, head_tokens)
        price = usd_per_hour if usd_per_hour is not None and device is own else device.usd_per_hour
        time = work.hours(shape, setup, rows, device) if found.fits and rows else None
        day = work.steps_in(24, shape, setup, rows, device) if found.fits and rows else None
        answers.append(Answer(found, time, work.cost(time, setup, price), day))
    return Plan(setup, shape, proof, rows, answers, head_tokens)
