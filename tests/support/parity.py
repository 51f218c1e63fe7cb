"""One model, one set of tasks, two scorers: the kit's and lm-evaluation-harness's own Hugging Face
backend.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bimedix_utils.evaluation import harness, scoring
from bimedix_utils.evaluation.prompt_format import PromptFormat
from bimedix_utils.evaluation.scoring import Sample
from bimedix_utils.sources.benchmarks import Task

AGREE, CLOSE = 1e-3, 2e-3  # natural log; options closer than CLOSE may change places by rounding


@dataclass(frozen=True)
class Compared:
    """One task: rows, largest difference of a log-likelihood, accuracies, and the rows whose two
    best options are within `CLOSE`.
    """

    task: str
    lang: str
    n: int
    largest: float
    ours: float
    theirs: float
    ours_normalised: float
    theirs_normalised: float
    close: tuple[str, ...]


def run_harness(
    model: Any, tokenizer: Any, tasks: list[Task], form: PromptFormat, folder: Path, batch: int = 1
) -> dict[str, Any]:
    """The harness's own evaluation of the exported files."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    names = harness.write_harness_tasks(folder, tasks, form, tokenizer)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device="cpu"),
        tasks=names,
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
        verbosity="ERROR",
    )


def compare(
    task: Task, form: PromptFormat, samples: list[Sample], result: dict[str, Any]
) -> Compared:
    """The kit's samples of a task against the harness's."""
    name = harness.harness_name(task, form)
    theirs = {
        row["doc"]["id"]: [float(response[0]) for response in row["filtered_resps"]]
        for row in result["samples"][name]
    }
    assert theirs.keys() == {sample.id for sample in samples}
    apart = [
        abs(a - b)
        for sample in samples
        for a, b in zip(sample.loglikelihoods, theirs[sample.id], strict=True)
    ]
    best = {sample.id: sorted(sample.loglikelihoods)[-2:] for sample in samples}
    close = tuple(row for row, (second, first) in best.items() if first - second < CLOSE)
    scores = result["results"][name]
    n = len(samples)
    own = (
        sum(sample.correct for sample in samples) / n,
        sum(sample.normalised_correct for sample in samples) / n,
    )
    return Compared(
        task.name,
        task.lang,
        n,
        max(apart),
        own[0],
        scores["acc,none"],
        own[1],
        scores["acc_norm,none"],
        close,
    )


def both(
    model: Any, tokenizer: Any, tasks: list[Task], form: PromptFormat, folder: Path
) -> list[Compared]:
    """Every task through both scorers."""
    result = run_harness(model, tokenizer, tasks, form, folder)
    scorer = scoring.Scorer(model, tokenizer)
    return [compare(task, form, list(scorer.score(task.records, form)), result) for task in tasks]
