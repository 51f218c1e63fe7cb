"""Which device holds a training, why another does not, what would help, how long it takes."""

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import KitError
from ...sources.catalogue import NOT_FOUND
from ..models.adapters import LORA_PARTS, resolve_targets
from . import cost as costs
from .cost import EpochRows, Range
from .memory import CPU_BUFFERS, GPU_CONTEXT, PeakMemory, peak_memory
from .setup import GB, Gpu, TrainingSetup, find_gpu, read_gpus
from .shape import ParameterCount, Shape, count_on_meta, find_config

GRAIN = 64  # tokens: the largest forward pass is found to this precision


@dataclass(frozen=True)
class DevicePlan:
    """Whether one device holds the training; hours, cost and steps None: no fit, or not found."""

    device: Gpu
    peak: PeakMemory
    micro_tokens: int  # the largest forward pass that fits, at most one process's step; 0: none
    hours: Range = None
    cost: Range = None  # US dollars
    steps_a_day: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the setup as it stands fits."""
        return self.peak.total <= self.device.bytes

    @property
    def why(self) -> str:
        """How much memory is left, or how much is missing and which parts take most."""
        need, have = self.peak.total / GB, self.device.bytes / GB
        if self.fits:
            return f"{have - need:.1f} GB are left of {have:g}"
        parts = sorted(self.peak.parts.items(), key=lambda item: -item[1])[:3]
        largest = ", ".join(f"{part} {size / GB:.1f} GB" for part, size in parts)
        more = f"{need - have:.1f} more than the {have:g} of {self.device.name}"
        return f"needs {need:.1f} GB ({self.peak.moment}), {more}; largest: {largest}"

    def shown(self, value: Any) -> Any:
        """A value, or why there is none."""
        missing = NOT_FOUND if self.fits else "does not fit"
        return missing if value is None else value

    def as_json(self) -> dict[str, Any]:
        """The device's entry in plan.json."""
        own = {"device": self.device.name, "memory_gb": self.device.memory_gb, "fits": self.fits}
        found = {"hours": self.hours, "cost_usd": self.cost, "steps_a_day": self.steps_a_day}
        shown = {name: self.shown(value) for name, value in found.items()}
        return {**own, "why": self.why, "largest_micro_tokens": self.micro_tokens, **shown}


def this_machine(processes: int = 1) -> Gpu:
    """The memory of this machine that each of some processes may take, a device without a rate."""
    share = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB / processes
    name = "this machine" if processes == 1 else f"this machine, shared by {processes}"
    return Gpu(name, round(share, 1), None, None, None, "the operating system")


def plan_device(
    shape: Shape, setup: TrainingSetup, device: Gpu, rows: EpochRows | None = None
) -> DevicePlan:
    """The plan for one device."""
    peak, most = peak_memory(shape, setup), largest_micro_tokens(shape, setup, device)
    if rows is None or peak.total > device.bytes:
        return DevicePlan(device, peak, most)
    hours = costs.training_hours(shape, setup, rows, device)
    cost = costs.training_cost(hours, setup.gpus, device.usd_per_hour)
    steps = costs.steps_in(24, shape, setup, rows, device)
    return DevicePlan(device, peak, most, hours, cost, steps)


def largest_micro_tokens(shape: Shape, setup: TrainingSetup, device: Gpu) -> int:
    """The most tokens, from one row to one process's step, of a pass that fits; 0: no row fits."""
    row, budget = setup.max_tokens, setup.recipe.token_budget

    def fits(tokens: int) -> bool:
        changed = setup.changed(micro_tokens=min(tokens, budget))
        return peak_memory(shape, changed).total <= device.bytes

    # A process that reads a whole step at once keeps no gradients between passes: tried first,
    # below it memory only grows with tokens.
    most = max(-(-budget // setup.gpus), row)
    if fits(most):
        return most
    if not fits(row):
        return 0
    sizes = range(row, most + 1, GRAIN)
    return sizes[bisect_left(sizes, True, lo=1, key=lambda tokens: not fits(tokens)) - 1]


def remedies(shape: Shape, setup: TrainingSetup, device: Gpu) -> list[str]:
    """Changes each of which makes the setup fit, and a smaller rank with checkpointing."""
    recipe, parts = setup.recipe, resolve_targets(setup.targets)
    micro = largest_micro_tokens(shape, setup, device)
    tokens, paged = min(micro, recipe.token_budget), "paged_adamw_8bit"
    several = setup.parallel == "ddp" and setup.gpus > 1
    tried: list[tuple[Any, str, dict[str, Any]]] = [  # whether it is a change, its name, its fields
        (micro, f"MICRO_TOKENS = {tokens}", {"micro_tokens": tokens}),
        (not recipe.checkpointing, 'CHECKPOINTING = "yes"', {"checkpointing": True}),
        (recipe.optimiser == "adamw", f'OPTIMISER = "{paged}"', {"optimiser": paged}),
        (several, 'PARALLEL = "fsdp"', {"parallel": "fsdp"}),
    ]
    names = {p: [p] if modules == LORA_PARTS[p] else modules for p, modules in parts.items()}
    for part in parts:
        rest = tuple(name for other in parts if other != part for name in names[other])
        tried.append((rest, f'LORA_TARGETS = "{" ".join(rest)}"', {"targets": rest}))

    def fits(**changes: Any) -> bool:
        return peak_memory(shape, setup.changed(**changes)).total <= device.bytes

    # Ranks and lengths are halved: each half needs less, so the first that fits is the largest.
    def first_rank(**changes: Any) -> int | None:
        halves = [setup.rank >> power for power in range(1, 12) if setup.rank >> power]
        return next((rank for rank in halves if fits(rank=rank, **changes)), None)

    found = [name for change, name, values in tried if change and fits(**values)]
    for length in [setup.max_tokens >> power for power in range(1, 12)] if not micro else ():
        tokens = min(length, recipe.micro_tokens)
        if length >= 64 and fits(max_tokens=length, micro_tokens=tokens):
            found.append(f"MAX_TOKENS = MICRO_TOKENS = {length}")
            break
    rank = first_rank()
    if rank:
        return [*found, f"LORA_RANK = {rank}"]
    rank = None if recipe.checkpointing else first_rank(checkpointing=True)
    return [*found, f'CHECKPOINTING = "yes" with LORA_RANK = {rank}'] if rank else found


@dataclass(frozen=True)
class TrainingPlan:
    """A planned training."""

    setup: TrainingSetup
    shape: Shape
    count: ParameterCount
    rows: EpochRows | None  # None: not known
    devices: Sequence[DevicePlan]  # first the setup's own GPU, or this machine where it names none

    @property
    def own(self) -> DevicePlan:
        """The plan for the setup's own device."""
        return self.devices[0]

    def check(self) -> None:
        """Raise `KitError` when the own device cannot hold it: what is short, what would help."""
        if self.own.fits:
            return
        found = "; ".join(remedies(self.shape, self.setup, self.own.device))
        one_of = f"any one of these would do: {found}"
        helps = one_of if found else "nothing would do; take a larger GPU"
        why = f"the training does not fit: it {self.own.why}"
        raise KitError(f"{why}. Of what the plan tries, {helps}")

    @cached_property
    def assumptions(self) -> list[str]:
        """What the plan takes for granted, in words (assumptions.yaml)."""
        import yaml

        text = Path(__file__).with_name("assumptions.yaml").read_text(encoding="utf-8")
        numbers = dict(zip(("low", "high"), costs.UTILISATION, strict=True))
        numbers |= {"context": GPU_CONTEXT / GB, "buffers": CPU_BUFFERS / 1e6}
        lines = yaml.safe_load(text)["gpu" if self.setup.gpu else "cpu"]
        return [line.format(**numbers) for line in lines]

    @cached_property
    def work(self) -> dict[str, Any]:
        """Steps, tokens and operations for a token, `not found` when the rows are not known."""
        if self.rows is None:
            return dict.fromkeys(("steps", "tokens", "flops_per_token"), NOT_FOUND)
        case = (self.setup, self.rows)
        flops = costs.flops_per_token(self.shape, self.setup, self.rows.mean)
        facts = {"steps": costs.optimiser_steps(*case), "tokens": costs.tokens_read(*case)}
        return {**facts, "flops_per_token": flops}

    def as_json(self) -> dict[str, Any]:
        """What plan.json holds: bytes, hours, US dollars; an unknown number is `not found`."""
        count, peak = self.count, self.own.peak
        return {
            "setup": asdict(self.setup),
            **{"parameters": count.parameters, "adapters": count.adapters},
            **{"adapted_modules": count.modules, "trainable_share_of_all": count.share},
            **{"memory_bytes": peak.parts, "memory_moment": peak.moment},
            "devices": [one.as_json() for one in self.devices],
            "rows": asdict(self.rows) if self.rows else NOT_FOUND,
            **self.work,
            "assumptions": self.assumptions,
        }


def plan_training(
    setup: TrainingSetup, rows: EpochRows | None, usd_per_hour: float | None = None
) -> TrainingPlan:
    """Plan on the setup's own GPU and on all of data/gpus.csv; without a GPU, on this machine only.

    `usd_per_hour`: price of the own GPU. Raises `InputError` for an unknown model or GPU,
    `AuditError` when the model on the meta device is not the one computed with.
    """
    own = find_gpu(setup.gpu) if setup.gpu else this_machine(setup.gpus)
    others = [gpu for gpu in read_gpus() if gpu.name != own.name] if setup.gpu else []
    config = find_config(setup.model)
    shape, count = Shape.of(config), count_on_meta(config, setup.rank, setup.targets)
    if usd_per_hour is not None:
        own = replace(own, usd_per_hour=usd_per_hour)
    devices = [plan_device(shape, setup, gpu, rows) for gpu in (own, *others)]
    return TrainingPlan(setup, shape, count, rows, devices)
