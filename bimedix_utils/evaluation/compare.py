"""Scores side by side: this run's in one column, the paper's in another, never added or mixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..core.statistics import holm, mcnemar, paired_bootstrap, wilson
from ..sources.benchmarks import Task, nine_benchmarks
from .damage import Damage, undamaged_samples
from .paper import PaperRow
from .prompt_format import PromptFormat, task_version
from .score_tables import Table, make_table
from .scoring import Sample

_PAPER = "table, task, paper, this run, difference, n, 95 %, protocol, version, deviation"
_AVERAGE = (
    "model, protocol, language, tasks, items, accuracy, 95 % of the pooled share,"
    " items without damage, accuracy without"
)
_PAIRED = "protocol, task, language, n, tuned - base, 95 %, McNemar p, p (Holm)"
_LABEL = "model, language, probability on the labels, written answers that name an option"
_TRANSLATION = "model, task, items in both, right by hand, right by the pipeline, items that differ"
NOT_RUN = "not run in this mode"
_THE_NINE = "the nine, plain mean"
Scores = dict[tuple[str, str, str, str], tuple[int, int]]  # (model, protocol, task, language) ->
Samples = Mapping[tuple[str, str, str, str], list[Sample]]  # ... -> (right answers, items)
TaskTable = Mapping[tuple[str, str], Task]  # (task, language)


def plain_mean(values: Sequence[float]) -> float:
    """The plain mean; 0.0 of nothing."""
    return fmean(values) if values else 0.0


def count_correct(samples: Sequence[Sample], normalised: bool = False) -> tuple[int, int]:
    """(right answers, items); `normalised`: by length-normalised log-likelihood (acc_norm)."""
    right = sum(s.normalised_correct if normalised else s.correct for s in samples)
    return right, len(samples)


def share_with_interval(right: int, n: int) -> tuple[float, float, float]:
    """(share, low, high) with the 95 % Wilson interval."""
    return (right / n if n else 0.0, *wilson(right, n))


def macro_average(scores: Mapping[str, tuple[int, int]]) -> tuple[int, float, float, float]:
    """(items, plain mean over tasks, low, high): the interval is Wilson's for all items pooled, so
    it is about that share.
    """
    right, n = (sum(pair[i] for pair in scores.values()) for i in (0, 1))
    return n, plain_mean([a / b for a, b in scores.values() if b]), *wilson(right, n)


def average_table(
    samples: Samples,
    table: TaskTable,
    models: Sequence[str],
    damaged: Mapping[tuple[str, str], Damage],
) -> Table:
    """For each model, protocol and language the plain mean of the nine, then
    every other benchmark beside it, with and without damaged rows.
    """
    protocols = dict.fromkeys(
        protocol for _, protocol, task, lang in samples if (task, lang) in table
    )
    variants = [(protocol, protocol, False) for protocol in protocols]
    if "option_text" in protocols:
        variants.append(("option_text, acc_norm", "option_text", True))
    langs = dict.fromkeys(lang for _, lang in table)
    lines = []
    for name in models:
        for label, protocol, normalised in variants:
            for lang in langs:
                parts = _parts(samples, table, (name, protocol, lang))
                for group, tasks in parts.items():
                    full = {t: count_correct(part, normalised) for t, part in tasks.items()}
                    sound = {
                        t: count_correct(_undamaged(part, damaged, (t, lang)), normalised)
                        for t, part in tasks.items()
                    }
                    n, mean, low, high = macro_average(full)
                    kept, without, *_ = macro_average(sound)
                    interval = f"[{low:.3f}, {high:.3f}]"
                    shown = n, f"{mean:.3f}", interval, kept, f"{without:.3f}"
                    lines.append((name, label, lang, group, *shown))
    return make_table(lines, _AVERAGE)


def _parts(
    samples: Samples, table: TaskTable, key: tuple[str, str, str]
) -> dict[str, dict[str, list[Sample]]]:
    """{what is averaged: {task: its samples}} of one model, protocol and language."""
    name, protocol, lang = key
    parts: dict[str, dict[str, list[Sample]]] = {}
    for task, own in table:
        found = samples.get((name, protocol, task, lang))
        if own == lang and found is not None:
            parts.setdefault(_THE_NINE if task in nine_benchmarks() else task, {})[task] = found
    return parts


def _undamaged(
    part: list[Sample], damaged: Mapping[tuple[str, str], Damage], key: tuple[str, str]
) -> list[Sample]:
    return undamaged_samples(part, damaged[key]) if key in damaged else part


def chance_category(scores: Scores, model: str, table: TaskTable, lang: str) -> str:
    """Above, below or not told apart from chance, for all items of a language under label ranking.

    Chance counts each item's own number of options (PubMedQA has three).
    """
    keys = [key for key in table if key[1] == lang]
    if not keys or any((model, "label", *key) not in scores for key in keys):
        return NOT_RUN
    right, n = (sum(scores[model, "label", *key][i] for key in keys) for i in (0, 1))
    chance = plain_mean([1 / len(record.options) for key in keys for record in table[key].records])
    low, high = wilson(right, n)
    if low > chance:
        return "above chance"
    return "below chance" if high < chance else "not told apart from chance"


def chance_table(scores: Scores, models: Sequence[str], table: TaskTable) -> Table:
    """`chance_category` of each model and language."""
    langs = dict.fromkeys(lang for _, lang in table)
    rows = [(m, lang, chance_category(scores, m, table, lang)) for m in models for lang in langs]
    return make_table(rows, "model, language, all tasks pooled against chance by label ranking")


def score_intervals(
    scores: Scores, models: Sequence[str], protocol: str, keys: Sequence[tuple[str, str]]
) -> list[tuple[str, float, float, float]]:
    """(name, share, low, high; Wilson) of each task, language and model, for a chart."""
    return [
        (f"{name} · {task} · {lang}", *share_with_interval(*scores[name, protocol, task, lang]))
        for task, lang in keys
        for name in models
    ]


def label_table(samples: Samples, table: TaskTable, models: Sequence[str]) -> Table:
    """For each model and language: is most of the probability on the labels, and do most written
    answers name an option?
    """
    lines = []
    for name in models:
        for lang in dict.fromkeys(lang for _, lang in table):
            words = []
            for protocol in ("label", "generation"):
                keys = [(name, protocol, *key) for key in table if key[1] == lang]
                part = [s for key in keys for s in samples.get(key, [])]
                if protocol == "label":
                    share = plain_mean([s.mass for s in part])
                else:
                    share = plain_mean([s.prediction is not None for s in part])
                words.append("-" if not part else "most" if share > 0.5 else "little")
            lines.append((name, lang, *words))
    return make_table(lines, _LABEL)


def translation_table(samples: Samples, models: Sequence[str]) -> Table:
    """The same items translated by hand and by notebook 03 (tasks whose
    name ends in `-pipeline`), option-text ranking.
    """
    lines = []
    for (name, protocol, task, lang), part in samples.items():
        if name not in models or protocol != "option_text" or not task.endswith("-pipeline"):
            continue
        own = samples[name, protocol, task.removesuffix("-pipeline"), lang]
        by_hand = {s.id: s.correct for s in own}
        by_pipeline = {s.id: s.correct for s in part}
        both = sorted(by_hand.keys() & by_pipeline.keys())
        right = sum(by_hand[i] for i in both), sum(by_pipeline[i] for i in both)
        lines.append(
            (name, task, len(both), *right, sum(by_hand[i] != by_pipeline[i] for i in both))
        )
    return make_table(lines, _TRANSLATION)


def compare_with_paper(
    scores: Scores,
    model: str,
    table: TaskTable,
    reference: Mapping[str, PaperRow],
    fmt: PromptFormat,
    deviation: str,
    same_rows: bool,
) -> Table:
    """One row for each of the nine and table (en, ar, both).

    A bilingual cell is the plain mean of the two languages' accuracies and carries no interval of
    its own. A difference is given only for `same_rows`: other items than the published ones have
    none.
    """
    rows = []
    for lang in ("en", "ar", "both"):
        langs = ("en", "ar") if lang == "both" else (lang,)
        for task, benchmark in nine_benchmarks().items():
            column = benchmark.column
            printed = reference[lang].cells[column]
            start = lang, column, f"{printed:.1f}"
            keys = [(model, fmt.protocol, task, part) for part in langs]
            if not all(key in scores for key in keys):
                rows.append((*start, NOT_RUN, "-", "-", "-", fmt.name, "-", "-"))
                continue
            each = [scores[key] for key in keys]
            share = 100 * plain_mean([right / n for right, n in each])
            low, high = wilson(*each[0])
            interval = "-" if lang == "both" else f"[{100 * low:.0f}, {100 * high:.0f}]"
            difference = f"{share - printed:+.1f}" if same_rows else "other rows"
            count = " + ".join(str(n) for _, n in each)
            versions = " ".join(task_version(table[task, part], fmt) for part in langs)
            found = f"{share:.1f}", difference, count, interval
            rows.append((*start, *found, fmt.name, versions, deviation))
    return make_table(rows, _PAPER)


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same items of one task: accuracy difference (second - first), bootstrap
    interval, McNemar's p, and p corrected by Holm.
    """

    task: str
    lang: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare_paired(
    first: Mapping[tuple[str, str], list[Sample]],
    second: Mapping[tuple[str, str], list[Sample]],
    seed: int,
) -> list[PairedComparison]:
    """Every (task, language) both models answered; one family for Holm's correction. Raises
    `ValueError` when the items differ.
    """
    found = []
    for key in first.keys() & second.keys():
        if [s.hash for s in first[key]] != [s.hash for s in second[key]]:
            raise ValueError(f"{key}: the two models answered other items")
        marks = [s.correct for s in first[key]], [s.correct for s in second[key]]
        found.append((*key, len(first[key]), *paired_bootstrap(*marks, seed), mcnemar(*marks)))
    found.sort()
    adjusted = holm([row[-1] for row in found])
    return [PairedComparison(*row, p) for row, p in zip(found, adjusted, strict=True)]


def paired_table(
    samples: Samples,
    models: Sequence[str],
    families: Mapping[str, Sequence[tuple[str, str]]],
    seed: int,
) -> Table:
    """The second of two models against the first. `families` names the (task,
    language) pairs of each protocol. No rows unless there are two models.
    """
    if len(models) != 2:
        return make_table([], _PAIRED)
    lines = []
    for protocol, keys in families.items():
        first, second = (
            {k: samples[name, protocol, *k] for k in keys if (name, protocol, *k) in samples}
            for name in models
        )
        for p in compare_paired(first, second, seed):
            interval = f"[{p.low:+.3f}, {p.high:+.3f}]"
            tests = f"{p.p:.2g}", f"{p.p_holm:.2g}"
            difference = f"{p.difference:+.3f}"
            lines.append((protocol, p.task, p.lang, p.n, difference, interval, *tests))
    return make_table(lines, _PAIRED)
