"""The tables of the speed notebook, and the committed study of `make bench-speed`."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.display import Shown, show_table
from ..core.studies import read_manifest, read_study
from ..sources.catalogue import NOT_FOUND
from ..training.plan.setup import Gpu
from ..training.plan.shape import Shape
from .claim import CONTEXT, LLAMA_2_70B, gpu_rows, needed_bandwidth
from .comparison import SpeedComparison
from .measure import TimeRatio
from .probes import Machine
from .roofline import step_parts
from .token_costs import TokenCost

Comparisons = Mapping[str, SpeedComparison]  # by precision


def size_table(shapes: Mapping[str, Shape]) -> Shown:
    """Total and active parameters of the models compared."""
    rows = [(name, s.total, s.active, f"{s.active / s.total:.2f}") for name, s in shapes.items()]
    return show_table(rows, ["model", "parameters", "active: used for one token", "share"])


def bytes_by_part(
    shapes: Mapping[str, Shape], batches: Sequence[int]
) -> dict[str, dict[str, float]]:
    """{model and rows: {part: GB read in one decoding step}}, weights in bfloat16."""
    unit = Machine("one byte a second", {1: 1.0})
    return {
        f"{name}, {n} row{'s' if n > 1 else ''}": {
            part.part: part.bytes / 1e9 for part in step_parts(shape, unit, n, CONTEXT, "bfloat16")
        }
        for name, shape in shapes.items()
        for n in batches
    }


def parts_table(parts: Mapping[str, Mapping[str, float]]) -> Shown:
    """The numbers of `bytes_by_part` with their sums."""
    rows = []
    for name, amounts in parts.items():
        cells = [f"{value:.1f}" for value in (*amounts.values(), sum(amounts.values()))]
        rows.append((name, *cells))
    names = next(iter(parts.values()))
    return show_table(rows, ["read in one step, bfloat16, GB", *names, "sum"])


def machine_table(measured: Comparisons, cache: int | None) -> Shown:
    """Bandwidth by rows and highest rate of this machine; the models' weights over its cache."""
    some = next(iter(measured.values()))
    batches, names = some.settings.batches, list(some.shapes)
    rows = []
    for precision, one in measured.items():
        machine = one.machine(max(batches))
        speeds = [f"{machine.bytes_per_second(n) / 1e9:.1f}" for n in batches]
        over = [f"{one.weight_bytes(n) / cache:.1f}" if cache else NOT_FOUND for n in names]
        rows.append((precision, *speeds, f"{machine.flops / 1e9:,.0f}", " / ".join(over)))
    columns = ["precision", *(f"GB/s, rows: {n}" for n in batches), "GFLOP/s, highest"]
    return show_table(rows, [*columns, f"weights / cache: {' / '.join(names)}"])


def ratio_table(measured: Comparisons) -> Shown:
    """How many times faster the sparse model decodes and prefills, with intervals."""

    def row(precision: str, load: str, name: str, ratio: TimeRatio) -> tuple[str, ...]:
        numbers = (f"{ratio.median:.2f}", ratio.interval, f"{ratio.confidence:.0%}")
        return precision, load, name, *numbers

    rows = []
    for precision, one in measured.items():
        for (batch, name), ratio in one.decode_ratios().items():
            rows.append(row(precision, f"decode, batch {batch}", name, ratio))
    for precision, one in measured.items():
        for name, ratio in one.prefill_ratios().items():
            rows.append(row(precision, f"prefill, {one.settings.prefill} tokens", name, ratio))
    columns = ["precision", "load", "sparse against dense of", "times faster", "interval"]
    return show_table(rows, [*columns, "holds the median in"])


def prediction_table(measured: SpeedComparison) -> Shown:
    """Measured and predicted ratios in decoding, and the prediction with a single bandwidth."""
    rows = []
    single = measured.predictions(single_bandwidth=True)
    for one, textbook in zip(measured.predictions(), single, strict=True):
        hit = f"{sum(measured.loads[one.batch].values()):.1f}"
        found = (f"{one.measured.median:.2f}", one.measured.interval, f"{one.predicted:.2f}")
        row = (one.batch, one.against, hit, *found, f"{one.error:+.0%}")
        rows.append((*row, f"{textbook.predicted:.2f}"))
    columns = ["rows", "dense of", "experts hit", "measured", "interval", "predicted", "error"]
    return show_table(rows, [*columns, "with a single bandwidth"])


@dataclass(frozen=True)
class BenchmarkRow:
    """One precision, batch and dense model of the study: the numbers of all repeats."""

    precision: str
    batch: int
    against: str
    measured: list[float]  # median ratios
    predicted: list[float]
    errors: list[float]
    weights_over_cache: str


def read_benchmark(folder: Path) -> list[BenchmarkRow]:
    """The study, repeats joined; `InputError` when its manifest describes another table."""
    groups: dict[tuple[str, int, str], list[dict[str, str]]] = {}
    for row in read_study(folder, "speed"):
        key = (row["precision"], int(row["batch"]), row["against"])
        groups.setdefault(key, []).append(row)
    found = []
    for key, rows in groups.items():
        columns = ("measured", "predicted", "error")
        numbers = [[float(row[column]) for row in rows] for column in columns]
        found.append(BenchmarkRow(*key, *numbers, rows[0]["weights_over_cache"]))
    return found


def benchmark_conditions(folder: Path) -> dict:
    """The study's manifest: cache, threads, rounds, limit, load, versions, commit."""
    return read_manifest(folder, "speed")


def benchmark_table(rows: Sequence[BenchmarkRow]) -> Shown:
    """The study's ratios, measured and predicted."""
    cells = []
    for row in rows:
        middle, predicted = statistics.median(row.measured), statistics.median(row.predicted)
        reach = f"{min(row.measured):.2f} to {max(row.measured):.2f}"
        found = (f"{middle:.2f}", reach, f"{predicted:.2f}", f"{max(row.errors, key=abs):+.0%}")
        cells.append((row.precision, row.batch, row.against, *found, row.weights_over_cache))
    columns = ["precision", "rows", "dense of", "measured", "range of repeats", "predicted"]
    return show_table(cells, [*columns, "worst error", "least weights / cache"])


def gpu_table(gpus: Sequence[Gpu], claim: float, sparse: Shape) -> Shown:
    """What the data sheets give: GPUs, best tokens/s and ratios at 1, 8 and 32 rows."""
    columns = ["GPU", "GPUs, Mixtral", "tokens/s", "GPUs, 70B", "tokens/s", "times faster, 1 row"]
    columns += ["8 rows", "32 rows", f"share of {claim:.1f}, 1 row"]
    return show_table(gpu_rows(gpus, (1, 8, 32), claim, sparse), columns)


def claim_table(lines: Mapping[str, Mapping[int, float]]) -> Shown:
    """The ratios of `claim_ratios`."""
    rows = [(name, *(f"{value:.2f}" for value in found.values())) for name, found in lines.items()]
    return show_table(rows, ["case", *(f"batch {n}" for n in next(iter(lines.values())))])


def needed_table(rates: tuple[float, float], sparse: Shape, gpu: Gpu) -> Shown:
    """The bandwidth that the paper's rates need at one row, in GB/s and in GPUs of a kind."""
    rows = []
    for name, shape, rate in (("Mixtral", sparse, rates[0]), ("70B", LLAMA_2_70B, rates[1])):
        for precision in ("bfloat16", "nf4"):
            need = needed_bandwidth(shape, rate, precision) / 1e9
            share = NOT_FOUND if gpu.bandwidth is None else f"{need / gpu.bandwidth:.2f}"
            rows.append((name, precision, f"{need:,.0f}", share))
    columns = ["model at the paper's rate", "weights", "GB/s needed"]
    return show_table(rows, [*columns, f"{gpu.name} GPUs at full bandwidth"])


def token_cost_table(costs: Sequence[TokenCost]) -> Shown:
    """Texts, characters, sentences and tokens by tokenizer and language."""
    rows = []
    for one in costs:
        sizes = (one.texts, one.characters, one.sentences, one.tokens)
        each = (f"{one.per_character:.2f}", f"{one.per_sentence:.1f}")
        rows.append((one.tokenizer, one.lang, *sizes, *each))
    columns = ["tokenizer", "language", "texts", "characters", "sentences", "tokens"]
    return show_table(rows, [*columns, "tokens a character", "tokens a sentence"])


def sentence_table(measured: SpeedComparison, costs: Sequence[TokenCost]) -> Shown:
    """Characters and sentences a second of the measured sparse model, by batch and language."""
    rows = []
    for batch, rate in measured.rates("sparse").items():
        for one in costs:
            model = f"this sparse model, batch {batch}"
            each = [f"{value:.2f}" for value in one.rates(rate)]
            rows.append((model, one.tokenizer, one.lang, f"{rate:.1f}", *each))
    columns = ["model", "tokenizer", "language", "tokens/s", "characters/s", "sentences/s"]
    return show_table(rows, columns)
