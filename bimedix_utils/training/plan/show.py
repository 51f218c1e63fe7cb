"""The plan as tables and as one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...core import display
from . import work
from .hardware import GB, UNKNOWN, Gpu, gpus
from .memory import Peak, peak
from .setup import Setup
from .shape import Shape
from .whole import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the figure shows as one block: few enough to tell apart from the last row. Okabe-Ito colours.
BLOCKS = {
    "4-bit weights": (("weights, NF4",), "#0072B2"),
    "other weights": (("weights, not quantised",), "#56B4E9"),
    "adapters": (("adapters", "adapters, 16-bit copies"), "#009E73"),
    "gradients": (("gradients", "gradient buckets"), "#F0E442"),
    "optimiser": (("optimiser",), "#E69F00"),
    "activations, temporary": (("activations", "transients"), "#D55E00"),
    "loss": (("loss head",), "#CC79A7"),
    "context (assumed)": (("context",), "#999999"),
}


def gigabytes(size: float) -> str:
    """A size as text: GB, or MB below a tenth of one; 10^9 and 10^6 bytes."""
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"


def by_part(found: Peak) -> display.Shown:
    """The parts of a peak with their sum."""
    rows = [
        (part, gigabytes(size), f"{size / found.total:.1%}")
        for part, size in found.parts.items()
        if size
    ]
    return display.show_table(
        [*rows, ("sum", gigabytes(found.total), "")], ["part", "memory", "share"], found.moment
    )


def by_device(made: Plan) -> display.Shown:
    """Every device's answer."""
    rows = []
    for answer in made.answers:
        found, day = answer.verdict, answer.steps_a_day
        span = [
            answer.missing() if pair is None else f"{pair[0]:,.1f} to {pair[1]:,.1f}"
            for pair in (answer.hours, answer.cost)
        ]
        rows.append((found.device.name, f"{found.device.memory_gb:.0f} GB", gigabytes(found.peak.total), "yes" if found.fits else "no",
                     found.micro_tokens or "none fits", span[0], answer.missing() if day is None else day, span[1]))  # fmt: skip
    return display.show_table(
        rows,
        [
            "device",
            "memory",
            "needed",
            "fits",
            "most MICRO_TOKENS",
            "hours",
            "steps a day, at least",
            "US dollars",
        ],
    )


def text(made: Plan) -> str:
    """The plan as the command line prints it."""
    setup, proof, own = made.setup, made.proof, made.own
    adapted = ", ".join(f"{count} in {part}" for part, count in proof.targets.items())
    who = (
        f"each of {setup.gpus} processes ({own.device.name}, {setup.parallel})"
        if setup.gpus > 1
        else own.device.name
    )
    lines = [
        f"{setup.model}: {proof.base:,} parameters. LoRA of rank {setup.rank}: {adapted};",
        (
            f"{proof.learning:,} parameters learn, {proof.share:.2%} of all,"
            f" {proof.learning / proof.base:.2%} of the base"
        ),
        "",
        f"memory of {who} when it is highest: {own.peak.moment}",
        repr(by_part(own.peak)),
        "",
        repr(by_device(made)),
        (
            "MICRO_TOKENS is searched up to what one process reads in a step; hours and dollars are"
            " for all processes together"
        ),
        "",
        *_work(made),
        "taken for granted:",
        *(f"  - {line}" for line in made.assumptions()),
    ]
    return "\n".join(lines)


def _work(made: Plan) -> list[str]:
    """Lines on rows, steps and operations."""
    setup, rows = made.setup, made.rows
    if rows is None:
        return [
            f"rows, steps and hours: {UNKNOWN}; run notebook 05 first (make run NB=05), or give"
            " --tokens-per-row"
        ]
    flops = work.flops_per_token(made.shape, setup, rows.mean)
    return [
        f"{rows.rows:,} rows, {rows.tokens:,} tokens, {rows.mean:.0f} a row: {rows.source}",
        (
            f"{work.steps(setup, rows):,} optimiser steps of at most {setup.step_tokens:,} tokens;"
            f" forward passes of one process in a step: {setup.accumulation};"
            f" {work.tokens_read(setup, rows):,} tokens in all"
        ),
        f"{sum(flops.values()) / 1e9:,.3g} GFLOP a token: "
        + ", ".join(f"{name} {value / 1e9:,.3g}" for name, value in flops.items()),
    ]


def variants(
    shape: Shape, setup: Setup, ranks: Sequence[int] = (16, 32, 64, 128)
) -> list[tuple[str, Peak]]:
    """The setup itself, and with other ranks and with a float32 AdamW: (label, peak), for `figure`."""
    rows = [
        (f"rank {rank}", peak(shape, replace(setup, rank=rank)))
        for rank in sorted({*ranks, setup.rank})
    ]
    if setup.optimiser != "adamw":
        top = max(*ranks, setup.rank)
        rows.append(
            (
                f"rank {top},\nAdamW in float32",
                peak(shape, replace(setup, rank=top, optimiser="adamw")),
            )
        )
    return rows


def figure(
    plan_rows: Sequence[tuple[str, Peak]],
    devices: Sequence[Gpu] | None = None,
    title: str = "Memory of one GPU",
) -> "Axes":
    """A stacked bar for each (label, peak), with the memory of the GPUs as dashed lines. `devices`:
    default, those of data/gpus.csv.
    """
    axis = display.new_axes(title, ylabel="GB", size=(10.0, 5.5))
    labels, floor = [label for label, _ in plan_rows], [0.0] * len(plan_rows)
    for block, (parts, colour) in BLOCKS.items():
        heights = [sum(found.parts[part] for part in parts) / GB for _, found in plan_rows]
        if any(heights):
            axis.bar(labels, heights, bottom=floor, color=colour, width=0.6, label=block)
        floor = [a + b for a, b in zip(floor, heights, strict=True)]
    white = {
        "facecolor": "white",
        "edgecolor": "none",
        "pad": 1,
    }  # a dashed line must not cross a number
    for place, total in enumerate(floor):
        axis.text(
            place,
            total,
            f"{total:.1f}" if total >= 1 else f"{total:.2f}",
            ha="center",
            va="bottom",
            fontsize=11,
            fontweight="bold",
            bbox=white,
        )
    sizes: Mapping[float, list[str]] = {}
    for device in gpus() if devices is None else devices:
        sizes.setdefault(device.memory_gb, []).append(device.name)
    # Up to the first size that holds every bar; a larger one would only press the bars down.
    holding = min((size for size in sizes if size >= max(floor)), default=max(floor))
    shown = [size for size in sorted(sizes) if size <= holding]
    for size in shown:
        axis.axhline(size, linestyle="--", color="black", linewidth=1)
        axis.text(
            len(labels) - 0.45,
            size,
            f"{size:g} GB: {', '.join(sizes[size])}",
            va="bottom",
            ha="left",
            fontsize=10,
        )
    axis.set_xlim(-0.5, 1.4 * len(labels) + 0.2)  # room for the names on the right
    axis.set_ylim(0, 1.08 * max([*floor, *shown]))
    axis.grid(visible=False)  # the dashed lines are the grid that matters
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, fontsize=10, frameon=False
    )
    return axis
