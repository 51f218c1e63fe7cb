"""The same tasks for EleutherAI's lm-evaluation-harness: YAML beside local JSON Lines, nothing to
download.

    lm_eval --model hf --model_args pretrained=<model> --include_path <folder> --tasks bimedix

The harness ranks options by the sum of their tokens' log-probabilities (`acc`) and by that sum a
character (`acc_norm`), as this kit does; both read the same rendered prompts, so what can differ is
arithmetic only.
"""

import json
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.files import write_json_lines, write_text
from ..sources.benchmarks import Task
from .forms import Form, asked, version

GROUP = "bimedix"


def task_name(task: Task, form: Form) -> str:
    """As `--tasks` takes it: bimedix_medqa_ar_label."""
    return f"{GROUP}_{task.name}_{task.lang}_{form.protocol}"


def write(folder: Path, tasks: list[Task], form: Form, tokenizer: Any = None) -> list[str]:
    """Write one YAML and one JSON Lines file a task, and a group of all; returns the tasks' names.

    With a `chat` form the prompts carry the template of `tokenizer` and are for that model alone:
    do not add `--apply_chat_template`. Raises `InputError` for `generation`, which the harness
    would read by other rules.
    """
    if form.protocol == "generation":
        raise InputError(
            "generation is not exported: the harness extracts answers by other rules; export label"
            " or option_text"
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for task in tasks:
        name, rows, space = task_name(task, form), [], " "
        for record in task.records:
            shown = asked(record, form, tokenizer)
            space = shown.space
            row = {
                "id": record.id,
                "prompt": shown.prompt,
                "choices": list(shown.continuations),
                "gold": record.answer_index,
            }
            rows.append(row)
        write_json_lines(folder / f"{name}.jsonl", rows)
        write_text(folder / f"{name}.yaml", [_yaml(name, folder, space, task, form)])
        names.append(name)
    group = {
        "group": f"{GROUP}_{form.protocol}",
        "task": names,
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}],
    }
    write_text(folder / f"_{GROUP}_{form.protocol}.yaml", [json.dumps(group, indent=1)])
    return names


def _yaml(name: str, folder: Path, space: str, task: Task, form: Form) -> str:
    """The task's configuration; JSON is YAML, and quotes every string."""
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": space,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": version(task, form), "form": form.name, "samples": task.hash},
    }
    return json.dumps(config, ensure_ascii=False, indent=1)
