"""Does it fit, why not, what would help, and how large a forward pass may be."""

import os
from dataclasses import dataclass, replace

from ..models import LORA_PARTS
from .hardware import GB, Gpu
from .memory import Peak, peak
from .setup import Setup
from .shape import Shape

GRAIN = 64  # tokens: the largest forward pass is found to this precision


@dataclass(frozen=True)
class Verdict:
    """One GPU's answer. `micro_tokens`: the largest forward pass that fits, at most one step's
    share of the process; 0: none.
    """

    device: Gpu
    peak: Peak
    micro_tokens: int

    @property
    def fits(self) -> bool:
        """Whether the setup as it stands fits."""
        return self.peak.total <= self.device.bytes

    @property
    def why(self) -> str:
        """What is short and which parts take most, or what is left."""
        need, have = self.peak.total / GB, self.device.bytes / GB
        if self.fits:
            return f"{have - need:.1f} GB are left of {have:g}"
        parts = sorted(self.peak.parts.items(), key=lambda item: -item[1])[:3]
        largest = ", ".join(f"{part} {size / GB:.1f} GB" for part, size in parts)
        return (
            f"needs {need:.1f} GB ({self.peak.moment}), {need - have:.1f} more than the {have:g} of"
            f" {self.device.name}; largest: {largest}"
        )


def this_machine(processes: int = 1) -> Gpu:
    """The memory of this machine that each of some processes may take, as a device without a known
    rate.
    """
    share = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB / processes
    name = "this machine" if processes == 1 else f"this machine, shared by {processes}"
    return Gpu(name, round(share, 1), None, None, None, "the operating system")


def verdict(shape: Shape, setup: Setup, device: Gpu, head_tokens: int | None = None) -> Verdict:
    """The answer for one device; `head_tokens` as in `memory.peak`."""
    return Verdict(
        device,
        peak(shape, setup, head_tokens=head_tokens),
        largest_micro(shape, setup, device, head_tokens),
    )


def largest_micro(shape: Shape, setup: Setup, device: Gpu, head_tokens: int | None = None) -> int:
    """The most tokens of one forward pass that fit, in rows of MAX_TOKENS.

    At least one row, at most what one process reads in a step; 0 when not even one row fits.
    """

    def fits(tokens: int) -> bool:
        return (
            peak(shape, replace(setup, micro_tokens=tokens), head_tokens=head_tokens).total
            <= device.bytes
        )

    # Whoever reads a whole step at once keeps no gradients between passes: tried first, below it
    # memory only grows with tokens.
    most = max(-(-setup.step_tokens // setup.gpus), setup.row_tokens)
    if fits(most):
        return most
    if not fits(setup.row_tokens):
        return 0
    low, high = 0, (most - setup.row_tokens) // GRAIN
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(setup.row_tokens + middle * GRAIN) else (low, middle - 1)
    return setup.row_tokens + low * GRAIN


def remedies(shape: Shape, setup: Setup, device: Gpu, head_tokens: int | None = None) -> list[str]:
    """Changes each of which would make the setup fit a device: single ones, and a smaller rank with
    checkpointing.
    """
    tried: list[tuple[str, Setup]] = []
    micro = largest_micro(shape, setup, device, head_tokens)
    if micro:
        tried.append((f"MICRO_TOKENS = {micro}", replace(setup, micro_tokens=micro)))
    if not setup.checkpointing:
        tried.append(('CHECKPOINTING = "yes"', replace(setup, checkpointing=True)))
    if setup.optimiser == "adamw":
        tried.append(
            ('OPTIMISER = "paged_adamw_8bit"', replace(setup, optimiser="paged_adamw_8bit"))
        )
    if setup.parallel == "ddp" and setup.gpus > 1:
        tried.append(('PARALLEL = "fsdp"', replace(setup, parallel="fsdp")))
    for part in LORA_PARTS:
        rest = tuple(name for name in setup.parts if name != part)
        if part in setup.parts and rest:
            tried.append((f'LORA_TARGETS = "{" ".join(rest)}"', replace(setup, parts=rest)))

    def fits(other: Setup) -> bool:
        return peak(shape, other, head_tokens=head_tokens).total <= device.bytes

    found = [name for name, other in tried if fits(other)]
    halves = [2**power for power in range(1, 12)]
    rows = [setup.row_tokens // half for half in halves if setup.row_tokens // half >= 64]
    ranks = [setup.rank // half for half in halves if setup.rank // half]
    short = next(
        (
            n
            for n in rows
            if fits(replace(setup, row_tokens=n, micro_tokens=min(n, setup.micro_tokens)))
        ),
        None,
    )
    thin = next((rank for rank in ranks if fits(replace(setup, rank=rank))), None)
    if not micro and short:
        found.append(f"MAX_TOKENS = MICRO_TOKENS = {short}")
    if thin:
        found.append(f"LORA_RANK = {thin}")
    elif not setup.checkpointing:
        thin = next(
            (rank for rank in ranks if fits(replace(setup, rank=rank, checkpointing=True))), None
        )
        found += [f'CHECKPOINTING = "yes" with LORA_RANK = {thin}'] if thin else []
    return found
