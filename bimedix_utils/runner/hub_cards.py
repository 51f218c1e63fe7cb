"""Cards in the hub's format for what a run made, with what only the finished run knows.

A header the hub can read, the run's own numbers, use, limits, safety, licences. The adapter, the
mix and the test set have cards of their own, written where they are made.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..core.cards import LICENCE_PAGES, licence_header, render_card, size_category, with_header
from ..core.errors import InputError
from ..core.language import research_notice
from ..core.provenance import hash_path
from ..core.statistics import wilson
from ..sources.catalogue import NOT_FOUND

TRAINING, EVALUATION, MIX = "06_finetune_qlora", "07_evaluate_models", "05_build_bilingual_mix"
# Licences of base models by what their names begin with, as their owners state them.
BASES = {
    "mistralai/mixtral-8x7b": "apache-2.0",
    "huggingfacetb/smollm2-135m": "apache-2.0",
    "bimedix/": "cc-by-nc-sa-4.0",  # the paper's weights
}
# From the freest to the strictest; a licence that is not here is not understood, and nothing is
# concluded from it.
STRICTNESS = [
    "cc0-1.0",
    "mit",
    "apache-2.0",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
]
_SCORE = re.compile(r"tuned (?P<task>\S+) (?P<lang>[a-z]{2})(?: (?P<protocol>\S+))?")


class InheritedLicence(NamedTuple):
    """What the header says, and the sentence on how it came about."""

    name: str  # of the hub's list, or "not found"
    why: str

    @property
    def is_known(self) -> bool:
        """Whether a licence can be stated."""
        return self.name in LICENCE_PAGES


def read_run_json(path: Path) -> Any:
    """A JSON file of the run. Raises `InputError` when the stage that writes it was not run."""
    if not path.exists():
        raise InputError(f"{path.parent.name}/{path.name} is not there: run that notebook first")
    return json.loads(path.read_text(encoding="utf-8"))


def strictest_licence(named: dict[str, str]) -> InheritedLicence:
    """The licence that a product must carry, from {what went in: its licence}.

    "not found" when one is unknown, or when two exclude each other.
    """
    known = {what: licence.lower() for what, licence in named.items()}
    stated = "; ".join(f"{what}: {licence}" for what, licence in named.items())
    unknown = [what for what, licence in known.items() if licence not in STRICTNESS]
    if unknown or not known:
        return InheritedLicence(
            NOT_FOUND,
            f"{stated or 'nothing is known of what went in'}. The licence of"
            f" {', '.join(unknown) or 'the inputs'} is not known.",
        )
    found = sorted(set(known.values()), key=STRICTNESS.index)
    shared = [licence for licence in found if "-sa" in licence]
    if len(shared) > 1 or (shared and found[-1] != shared[0]):
        why = "Two of them exclude each other: each wants its own terms for all derived works."
        return InheritedLicence(NOT_FOUND, f"{stated}. {why}")
    return InheritedLicence(
        found[-1],
        f"{stated}. The strictest is stated. Whether a model inherits the licences of its training"
        " rows is not settled in law; here it is treated as if it did.",
    )


def base_licence(folder: Path) -> tuple[str, str]:
    """(base model's name, its licence or "not found") of the run's training."""
    name = str(read_run_json(folder / TRAINING / "base.json")["model"])
    if name == "tiny":
        return name, "cc-by-4.0"  # made by this kit from data/knowledge
    for start, licence in BASES.items():
        if name.lower().startswith(start):
            return name, licence
    origin = folder / TRAINING / "merged" / "origin.json"
    known = read_run_json(origin) if origin.exists() else {}
    return name, str(known.get("licence", NOT_FOUND))


def model_licence(folder: Path) -> InheritedLicence:
    """Of an adapter or merged model: the strictest of the base model's and the rows' licences."""
    name, own = base_licence(folder)
    by_licence = {own.lower(): [f"base model {name}"]}
    inputs = read_run_json(folder / TRAINING / "run.json")["inputs"]
    mix = folder / MIX / "bimed" / "manifest.json"
    if f"run:{MIX}/bimed" in inputs and mix.exists():
        rows = {s["source"]: s["licence"] for s in read_run_json(mix)["sources"] if s["rows"]}
    else:
        rows = {"DATA": NOT_FOUND}
    for source, licence in rows.items():
        by_licence.setdefault(licence.lower(), []).append(f"rows of {source}")
    return strictest_licence({_shortened(names): name for name, names in by_licence.items()})


def _shortened(names: list[str]) -> str:
    if len(names) < 4:
        return ", ".join(names)
    return f"{names[0]}, {names[1]} and {len(names) - 2} more"


def tuned_scores(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """(scores of the tuned model, why there are none).

    Only scores of this very adapter count: those of an older one would be another model's.
    """
    manifest = folder / EVALUATION / "run.json"
    if not manifest.exists():
        return [], "this run has not evaluated it"
    adapter = read_run_json(manifest)["inputs"].get(f"run:{TRAINING}/adapter")
    if adapter != hash_path(folder / TRAINING / "adapter"):
        return [], "notebook 07 evaluated another adapter: run it again"
    found = []
    for name, value in read_run_json(folder / EVALUATION / "results.json")["learned"].items():
        if (match := _SCORE.fullmatch(name)) and value["n"]:
            hits, n = value["hits"], value["n"]
            low, high = wilson(hits, n)
            found.append(
                {
                    "task": match["task"],
                    "lang": match["lang"],
                    "protocol": match["protocol"] or "option_text",
                    "n": n,
                    "accuracy": hits / n,
                    "wilson_95": [round(low, 4), round(high, 4)],
                    "interval": f"{low:.2f} to {high:.2f}",
                }
            )
    return found, "" if found else "notebook 07 left no scores of the tuned model"


def hub_model_card(folder: Path, repo: str, merged: bool) -> str:
    """The card of the run's adapter or merged model; see `model_card.md.j2`.

    Raises `InputError` when training was not run.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    base, _ = base_licence(folder)
    licence, (found, why_none) = model_licence(folder), tuned_scores(folder)
    own = ModelCard.load(folder / TRAINING / "adapter" / "README.md")
    name = repo.split("/")[-1]
    tags = ["medical", "mixture-of-experts", "bilingual", "research-only"]
    results = [
        EvalResult(
            task_type="multiple-choice",
            dataset_type=score["task"],
            dataset_name=f"{score['task']}, rows of this run",
            dataset_config=score["lang"],
            metric_type="accuracy",
            metric_name=f"accuracy, {score['protocol']}",
            metric_value=round(score["accuracy"], 4),
            metric_args={key: score[key] for key in ("protocol", "n", "wilson_95")},
        )
        for score in found
    ]
    data = ModelCardData(
        language=own.data.language,
        **licence_header(licence.name),
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        base_model=base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        tags=tags if merged else [*tags, "lora"],
        model_name=name,
        eval_results=results or None,
    )
    notices = [
        {"lang": lang, "dir": direction, "text": research_notice(lang)}
        for lang, direction in (("en", "ltr"), ("ar", "rtl"))
    ]
    return render_card(
        Path(__file__).parent / "templates" / "model_card.md.j2",
        data,
        name=name,
        base=base,
        merged=merged,
        notices=notices,
        training=own.text.strip().split("\n", 1)[1].strip(),  # without its title
        scores=found,
        why_no_scores=why_none,
        licence=licence,
    )


def hub_testset_card(folder: Path, licences: set[str]) -> str:
    """The test set's own card below a header for the hub. `licences`: those of its rows."""
    from huggingface_hub import DatasetCardData

    manifest = read_run_json(folder / "manifest.json")
    licence = strictest_licence({f"rows under {name}": name for name in sorted(licences)})
    files = [task["file"] for task in manifest["tasks"].values() if task["items"]]
    data = DatasetCardData(
        pretty_name=f"Medical test set, {manifest['language']}, {manifest['version']}",
        language=[manifest["language"]],
        **licence_header(licence.name),
        task_categories=["question-answering", "multiple-choice"],
        size_categories=[size_category(manifest["items"])],
        tags=["medical", "translated", "research-only"],
        configs=[
            {"config_name": file.split(".")[0], "data_files": [{"split": "test", "path": file}]}
            for file in files
        ],
    )
    return with_header(data, (folder / "README.md").read_text(encoding="utf-8").lstrip())
