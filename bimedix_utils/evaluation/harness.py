"""The same tasks for EleutherAI's lm-evaluation-harness: YAML beside local JSON Lines, nothing to
download.

    lm_eval --model hf --model_args pretrained=<model> --include_path <folder> --tasks bimedix

The harness ranks options by the sum of their tokens' log-probabilities (`acc`) and by that sum per
character (`acc_norm`), as this kit does. Both read the same rendered prompts, so only arithmetic
can differ.
"""

import json
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.files import write_json_lines, write_text
from ..sources.benchmarks import Task
from .prompt_format import PromptFormat, render_prompt, task_version

_GROUP = "bimedix"


def harness_name(task: Task, fmt: PromptFormat) -> str:
    """As `--tasks` takes it: bimedix_medqa_ar_label."""
    return f"{_GROUP}_{task.name}_{task.lang}_{fmt.protocol}"


def write_harness_tasks(
    folder: Path, tasks: list[Task], fmt: PromptFormat, tokenizer: Any = None
) -> list[str]:
    """Write one YAML and one JSON Lines file per task, and a group of all; returns their names.

    With a `chat` format the prompts carry the template of `tokenizer` and are for that model alone:
    do not add `--apply_chat_template`. Raises `InputError` for `generation`: the harness extracts
    answers by other rules.
    """
    if fmt.protocol == "generation":
        raise InputError(
            "generation is not exported: the harness extracts answers by other rules; export label"
            " or option_text"
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for task in tasks:
        name, rows, space = harness_name(task, fmt), [], " "
        for record in task.records:
            shown = render_prompt(record, fmt, tokenizer)
            space = shown.space
            choices, gold = list(shown.continuations), record.answer_index
            rows.append({"id": record.id, "prompt": shown.prompt, "choices": choices, "gold": gold})
        write_json_lines(folder / f"{name}.jsonl", rows)
        _write_yaml(folder / f"{name}.yaml", _task_config(name, folder, space, task, fmt))
        names.append(name)
    group = f"{_GROUP}_{fmt.protocol}"
    metrics = [{"metric": "acc", "weight_by_size": False}]  # the paper's AVG is a plain mean
    config = {"group": group, "task": names, "aggregate_metric_list": metrics}
    _write_yaml(folder / f"_{group}.yaml", config)
    return names


def _write_yaml(path: Path, config: dict[str, Any]) -> None:
    # JSON is YAML, and quotes every string.
    write_text(path, [json.dumps(config, ensure_ascii=False, indent=1)])


def _task_config(
    name: str, folder: Path, space: str, task: Task, fmt: PromptFormat
) -> dict[str, Any]:
    metric = {"aggregation": "mean", "higher_is_better": True}
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": space,
        "metric_list": [{"metric": name, **metric} for name in ("acc", "acc_norm")],
        "metadata": {
            "version": task_version(task, fmt),
            "prompt_format": fmt.name,
            "samples": task.hash,
        },
    }
