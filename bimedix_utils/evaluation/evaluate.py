"""A complete evaluation: each model is loaded once, scored on every task of the plan, and asked
every open question; all of it goes into files that a killed run continues.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError
from ..core.text import digest
from .evaluated import EvaluatedEndpoint, EvaluatedLocal, EvaluatedModel
from .open_ended.base import PromptTurns, Responder
from .open_ended.open_set import OpenResults, OpenSet, answer_open_set
from .prompt_format import RenderedPrompt, render_prompt, task_version
from .samples import complete_samples, iter_samples
from .scoring import Sample
from .task_plan import Plan

_SAVE_EVERY = 64  # open answers written between two savings


@dataclass
class Evaluation:
    """What the models said. `samples` are by model, protocol, task and language.

    `strategies` says how each local model is scored, `prompts` holds one rendered prompt per format
    of the first local model.
    """

    samples: dict[tuple[str, str, str, str], list[Sample]] = field(default_factory=dict)
    open_results: dict[str, OpenResults] = field(default_factory=dict)
    strategies: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, RenderedPrompt] = field(default_factory=dict)

    @property
    def truncated(self) -> int:
        """Scored items that lost tokens by left truncation."""
        return sum(s.truncated > 0 for part in self.samples.values() for s in part)

    @property
    def unanswered(self) -> list[Sample]:
        """Items that an endpoint did not answer; they count as wrong."""
        return [s for part in self.samples.values() for s in part if s.unanswered]


def evaluate_models(
    folder: Path,
    models: Mapping[str, EvaluatedModel],
    plan: Plan,
    open_items: OpenSet,
    open_tokens: int,
) -> Evaluation:
    """Score what is not scored yet, ask what is not answered yet, and read everything back from
    `folder`. Endpoints have no option-text ranking: it is left out for them.
    """
    if not plan:
        raise InputError("no rows of a known benchmark: nothing can be scored")
    found = Evaluation()
    for name, model in models.items():
        with model.loaded():
            if isinstance(model, EvaluatedLocal):
                _describe(found, name, model, plan)
            found.samples |= score_plan(folder, name, model, plan)
            respond = cached_responder(folder, name, model, open_tokens)
            found.open_results[name] = answer_open_set(respond, open_items)
    return found


def _describe(found: Evaluation, name: str, model: EvaluatedLocal, plan: Plan) -> None:
    record = plan[0][0].records[0]
    own = {fmt.name: fmt for task, fmt in plan if task is plan[0][0]}
    if not found.prompts:
        tokenizer = model.scorer.tokenizer
        found.prompts = {key: render_prompt(record, fmt, tokenizer) for key, fmt in own.items()}
    ranked = [fmt for fmt in own.values() if fmt.protocol != "generation"]
    if ranked:
        # Several tokens an option test the block mask; a label is often one token.
        probe = max(ranked, key=lambda fmt: fmt.protocol == "option_text")
        strategy = model.scorer.strategy(record, probe)
        shared = "options side by side in one pass"
        plain = f"one pass per option: {strategy.reason}"
        found.strategies[name] = shared if strategy.shared else plain


def score_plan(
    folder: Path, name: str, model: EvaluatedModel, plan: Plan
) -> dict[tuple[str, str, str, str], list[Sample]]:
    """The samples of one loaded model."""
    found = {}
    for task, fmt in plan:
        if fmt.protocol == "option_text" and isinstance(model, EvaluatedEndpoint):
            continue
        header = {
            "model": name,
            "task": task.name,
            "lang": task.lang,
            "protocol": fmt.protocol,
            "prompt_format": fmt.name,
            "version": task_version(task, fmt),
            "identity": model.identity(),
        }
        path = complete_samples(
            folder, header, task.records, lambda rows, fmt=fmt: model.score(rows, fmt)
        )
        found[name, fmt.protocol, task.name, task.lang] = list(iter_samples(path))
    return found


def cached_responder(
    folder: Path, name: str, model: EvaluatedModel, max_new_tokens: int
) -> Responder:
    """The model's `respond`, each batch of answers kept in a file: a killed run asks only for what
    is missing. The file's name holds the model's identity, so that another model's answers are
    never taken for it.
    """
    path = folder / f"answers-{name}-{digest([model.identity(), max_new_tokens], 8)}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    if path.exists():
        data = path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]  # a kill may have left part of a line
        os.truncate(path, len(complete))
        known = dict(json.loads(line) for line in complete.splitlines())

    def respond(conversations: list[PromptTurns]) -> list[str]:
        keys = [digest(turns) for turns in conversations]
        pairs = zip(keys, conversations, strict=True)
        missing = {key: turns for key, turns in pairs if key not in known}
        with open(path, "a", encoding="utf-8") as file:
            for begin in range(0, len(missing), _SAVE_EVERY):
                part = list(missing)[begin : begin + _SAVE_EVERY]
                answers = model.respond([missing[key] for key in part], max_new_tokens)
                known.update(zip(part, answers, strict=True))
                # An empty answer may be an endpoint's failure: it is not kept, so that the next
                # run asks again.
                kept = [[key, known[key]] for key in part if known[key]]
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
                file.flush()
                os.fsync(file.fileno())
        return [known[key] for key in keys]

    return respond
