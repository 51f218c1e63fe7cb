"""The plan as tables and as one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import display
from .hardware import GB, UNKNOWN, Gpu, gpus
from .memory import Peak, peak
from .setup import Setup
from .shape import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the figure shows as one block: few enough to tell apart from the last row. Okabe-Ito colours.
BLOCKS = {
    "4-bit weights": (("weights, NF4",), "#0072B2"),
    "other weights": (("weights, not quantised",), "#56B4E9"),
    "adapters": (("adapters", "adapters, 16-bit copies"), "#009E73"),
    "gradients": (("gradients", "gradient buckets"), "#F0E442"),
    "optimiser": (("optimiser",), "#E69F00"),
    "activations": (("activations", "transients"), "#D55E00"),
    "loss": (("loss head",), "#CC79A7"),
    "context (assumed)": (("context",), "#999999"),
}


def gigabytes(size: float) -> str:
    """A size as text: GB, or MB below a tenth of one; 10^9 and 10^6 bytes."""
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"


def span(pair: tuple[float, float] | None, unit: str = "") -> str:
    """A range as text, or `not found`."""
    return UNKNOWN if pair is None else f"{unit}{pair[0]:,.1f} to {unit}{pair[1]:,.1f}"


def by_part(found: Peak) -> display.Shown:
    """The parts of a peak with their sum."""
    rows = [(part, gigabytes(size), f"{size / found.total:.1%}") for part, size in found.parts.items() if size]
    return display.table([*rows, ("sum", gigabytes(found.total), "")], ["part", "memory", "share"], found.moment)


def variants(shape: Shape, setup: Setup, ranks: Sequence[int] = (16, 32, 64, 128)) -> list[tuple[str, Peak]]:
    """The setup itself, and with other ranks and with a float32 AdamW: (label, peak), for `figure`."""
    rows = [(f"rank {rank}", peak(shape, replace(setup, rank=rank))) for rank in sorted({*ranks, setup.rank})]
    if setup.optimiser != "adamw":
        top = max(*ranks, setup.rank)
        rows.append((f"rank {top},\nAdamW in float32", peak(shape, replace(setup, rank=top, optimiser="adamw"))))
    return rows


def figure(plan_rows: Sequence[tuple[str, Peak]], devices: Sequence[Gpu] | None = None, title: str = "Memory of one GPU") -> "Axes":
    """A stacked bar for each (label, peak), with the memory of the GPUs as dashed lines. `devices`: default, those of data/gpus.csv."""
    axis = display.axes(title, ylabel="GB", size=(10.0, 5.5))
    labels, floor = [label for label, _ in plan_rows], [0.0] * len(plan_rows)
    for block, (parts, colour) in BLOCKS.items():
        heights = [sum(found.parts[part] for part in parts) / GB for _, found in plan_rows]
        axis.bar(labels, heights, bottom=floor, color=colour, width=0.6, label=block)
        floor = [a + b for a, b in zip(floor, heights, strict=True)]
    for place, total in enumerate(floor):
        axis.text(place, total, f"{total:.1f}" if total >= 1 else f"{total:.2f}", ha="center", va="bottom", fontsize=11, fontweight="bold")
    sizes: Mapping[float, list[str]] = {}
    for device in gpus() if devices is None else devices:
        sizes.setdefault(device.memory_gb, []).append(device.name)
    # A size far above every bar would only press the bars down.
    shown = [size for size in sorted(sizes) if size <= 1.3 * max(floor)] or sorted(sizes)[:1]
    for size in shown:
        axis.axhline(size, linestyle="--", color="black", linewidth=1)
        axis.text(len(labels) - 0.45, size, f"{size:g} GB: {', '.join(sizes[size])}", va="bottom", ha="left", fontsize=10)
    axis.set_xlim(-0.5, len(labels) + 1.1)  # room for the names on the right
    axis.set_ylim(0, 1.12 * max([*floor, *shown]))
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", ncols=2, fontsize=10)
    return axis
