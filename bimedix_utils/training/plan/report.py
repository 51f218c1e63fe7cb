"""The plan as tables, as text and as one figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core import charts, display
from .memory import PeakMemory
from .planner import TrainingPlan
from .setup import GB, Gpu, read_gpus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the figure shows as one block: few enough to tell apart. Okabe-Ito colours.
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


def _size(size: float) -> str:
    """A size as text: GB, or MB below a tenth of one; 10^9 and 10^6 bytes."""
    return f"{size / GB:.1f} GB" if size >= GB / 10 else f"{size / 1e6:.1f} MB"


def memory_table(peak: PeakMemory) -> display.Shown:
    """The parts of a peak with their sum."""
    parts = {part: size for part, size in peak.parts.items() if size}
    rows = [(part, _size(size), f"{size / peak.total:.1%}") for part, size in parts.items()]
    rows.append(("sum", _size(peak.total), ""))
    return display.show_table(rows, ["part", "memory", "share"], peak.moment)


def preset_table(plans: Mapping[str, TrainingPlan]) -> display.Shown:
    """One row a plan: parameters, the trainable share with both denominators, its own device."""
    columns = ["preset", "base", "trainable", "of base and adapters", "of the base"]
    rows = []
    for name, plan in plans.items():
        count, own = plan.count, plan.own
        memory = f"{own.peak.total / GB:.1f} of {own.device.memory_gb:.0f} GB"
        shares = f"{count.share:.2%}", f"{count.trainable / count.base:.2%}"
        verdict = "fits" if own.fits else own.why
        rows.append((name, count.base, count.trainable, *shares, own.device.name, memory, verdict))
    return display.show_table(rows, [*columns, "GPU", "memory of each", "verdict"])


def device_table(plan: TrainingPlan) -> display.Shown:
    """The plan of every device."""
    columns = ["device", "memory", "needed", "fits", "most MICRO_TOKENS", "hours"]
    columns += ["steps a day, at least", "US dollars"]
    rows = []
    for one in plan.devices:
        memory, needed = f"{one.device.memory_gb:.0f} GB", _size(one.peak.total)
        hours, cost = (
            f"{pair[0]:,.1f} to {pair[1]:,.1f}" if pair else one.shown(None)
            for pair in (one.hours, one.cost)
        )
        row = (one.device.name, memory, needed, "yes" if one.fits else "no")
        most = one.micro_tokens or "none fits"
        rows.append((*row, most, hours, one.shown(one.steps_a_day), cost))
    return display.show_table(rows, columns)


def plan_text(plan: TrainingPlan) -> str:
    """The plan as the command line prints it (templates/plan.txt.j2)."""
    from jinja2 import Environment, StrictUndefined

    text = (Path(__file__).parent / "templates" / "plan.txt.j2").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    tables = {"memory": memory_table(plan.own.peak), "devices": device_table(plan)}
    return environment.from_string(text).render(plan=plan, **tables).rstrip()


def memory_figure(
    bars: Sequence[tuple[str, PeakMemory]],
    devices: Sequence[Gpu] | None = None,
    title: str = "Memory of one GPU",
) -> "Axes":
    """A stacked bar for each (label, peak), the memory of the GPUs as dashed lines."""
    axis = charts.new_axes(title, ylabel="GB", size=(10.0, 5.5))
    labels, tops = [label for label, _ in bars], [0.0] * len(bars)
    for block, (parts, colour) in BLOCKS.items():
        heights = [sum(peak.parts[part] for part in parts) / GB for _, peak in bars]
        if any(heights):
            axis.bar(labels, heights, bottom=tops, color=colour, width=0.6, label=block)
        tops = [a + b for a, b in zip(tops, heights, strict=True)]
    # A white box behind each number: a dashed line must not cross it.
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    style = {"ha": "center", "va": "bottom", "fontsize": 11, "fontweight": "bold", "bbox": box}
    for index, total in enumerate(tops):
        axis.text(index, total, f"{total:.1f}" if total >= 1 else f"{total:.2f}", **style)
    sizes: Mapping[float, list[str]] = {}
    for device in read_gpus() if devices is None else devices:
        sizes.setdefault(device.memory_gb, []).append(device.name)
    # Up to the first size that holds every bar; a larger one would only press the bars down.
    holding = min((size for size in sizes if size >= max(tops)), default=max(tops))
    lines = [size for size in sorted(sizes) if size <= holding]
    for size in lines:
        axis.axhline(size, linestyle="--", color="black", linewidth=1)
        text = f"{size:g} GB: {', '.join(sizes[size])}"
        axis.text(len(labels) - 0.45, size, text, va="bottom", ha="left", fontsize=10)
    axis.set_xlim(-0.5, 1.4 * len(labels) + 0.2)  # room for the names on the right
    axis.set_ylim(0, 1.08 * max([*tops, *lines]))
    axis.grid(visible=False)  # the dashed lines are the grid that matters
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}
    axis.legend(**place, ncols=4, fontsize=10, frameon=False)
    return axis
