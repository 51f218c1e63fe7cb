"""Cards in the hub's format for what a run made: a header the hub can read, the run's own numbers,
use, limits, safety, licences.

The adapter's and the mix's own cards are written where they are made; here they get what only the
finished run knows.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ...core.cards import LICENCE_PAGES as LICENCES
from ...core.cards import NOT_STATED as MISSING
from ...core.errors import InputError
from ...core.language import research_notice
from ...core.provenance import hash_path
from ...core.statistics import wilson

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
_SCORE = re.compile(r"tuned (?P<task>\S+) (?P<lang>en|ar)(?: (?P<protocol>\S+))?")


class Licence(NamedTuple):
    """What the header says, and the sentence on how it came about."""

    name: str  # of the hub's list, or "not found"
    why: str


def read(path: Path) -> Any:
    """A JSON file of the run. Raises `InputError` when the stage that writes it was not run."""
    if not path.exists():
        raise InputError(f"{path.parent.name}/{path.name} is not there: run that notebook first")
    return json.loads(path.read_text(encoding="utf-8"))


def strictest(named: dict[str, str]) -> Licence:
    """The licence that what was made must carry. `named`: {what went in: its licence}; two that
    exclude each other give "not found".
    """
    known = {what: licence.lower() for what, licence in named.items()}
    told = "; ".join(f"{what}: {licence}" for what, licence in named.items())
    strange = [what for what, licence in known.items() if licence not in STRICTNESS]
    if strange or not known:
        return Licence(
            MISSING,
            f"{told or 'nothing is known of what went in'}. The licence of"
            f" {', '.join(strange) or 'the inputs'} is not known.",
        )
    found = sorted(set(known.values()), key=STRICTNESS.index)
    shared = [licence for licence in found if "-sa" in licence]
    if shared and (
        len(shared) > 1
        or any(STRICTNESS.index(other) > STRICTNESS.index(shared[0]) for other in found)
    ):
        return Licence(
            MISSING,
            f"{told}. Two of them exclude each other: each wants all that is derived under its own"
            " terms.",
        )
    return Licence(
        found[-1],
        f"{told}. The strictest is stated. Whether a model inherits the licences of the rows it was"
        " trained on is not settled in law; here it is treated as if it did.",
    )


def base_licence(folder: Path) -> tuple[str, str]:
    """(base model's name, its licence or "not found") of the run's training."""
    name = str(read(folder / TRAINING / "base.json")["model"])
    if name == "tiny":
        return name, "cc-by-4.0"  # made by this kit from data/knowledge
    owners = next(
        (licence for start, licence in BASES.items() if name.lower().startswith(start)), MISSING
    )
    origin = folder / TRAINING / "merged" / "origin.json"
    if owners == MISSING and origin.exists():
        owners = str(read(origin).get("licence", MISSING))
    return name, owners


def model_licence(folder: Path) -> Licence:
    """Of an adapter or merged model: the base model's, the training rows', or the strictest of
    them.
    """
    name, own = base_licence(folder)
    named = {f"base model {name}": own}
    inputs, mix = (
        read(folder / TRAINING / "run.json")["inputs"],
        folder / MIX / "bimed" / "manifest.json",
    )
    if f"run:{MIX}/bimed" in inputs and mix.exists():
        for source in read(mix)["sources"]:
            if source["rows"]:
                named[f"rows of {source['source']}"] = source["licence"]
    else:
        named["rows of DATA"] = MISSING
    by_licence: dict[str, list[str]] = {}
    for what, licence in named.items():
        by_licence.setdefault(licence.lower(), []).append(what)
    return strictest({_counted(what): licence for licence, what in by_licence.items()})


def _counted(names: list[str]) -> str:
    return (
        ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
    )


def scores(folder: Path) -> tuple[list[tuple[str, str, str, int, int]], str]:
    """([(task, language, protocol, right answers, questions)] of the tuned model, why there are
    none).

    Only scores of this very adapter count: those of an older one would be another model's.
    """
    manifest = folder / EVALUATION / "run.json"
    if not manifest.exists():
        return [], "this run has not evaluated it"
    adapter = read(manifest)["inputs"].get(f"run:{TRAINING}/adapter")
    if adapter != hash_path(folder / TRAINING / "adapter"):
        return [], "notebook 07 evaluated another adapter: run it again"
    found = []
    for name, value in read(folder / EVALUATION / "results.json")["learned"].items():
        if (match := _SCORE.fullmatch(name)) and value["n"]:
            found.append(
                (
                    match["task"],
                    match["lang"],
                    match["protocol"] or "option_text",
                    value["hits"],
                    value["n"],
                )
            )
    return found, "" if found else "notebook 07 left no scores of the tuned model"


def model_card(folder: Path, repo: str, merged: bool) -> str:
    """The card of the run's adapter, or of the merged model, as the hub reads it. Raises
    `InputError` when training was not run.
    """
    from huggingface_hub import EvalResult, ModelCardData

    base, _ = base_licence(folder)
    licence, (found, why_none) = model_licence(folder), scores(folder)
    text = (folder / TRAINING / "adapter" / "README.md").read_text(encoding="utf-8")
    own = text.split("\n---\n", 1)[1].strip().split("\n", 1)[1].strip()
    languages = re.findall(
        r"\w+",
        (re.search(r"^language: \[(.*)\]$", text, re.MULTILINE) or [""])[0].removeprefix(
            "language"
        ),
    )
    results = [
        EvalResult(
            task_type="multiple-choice",
            dataset_type=task,
            dataset_name=f"{task}, rows of this run",
            dataset_config=lang,
            metric_type="accuracy",
            metric_name=f"accuracy, {protocol}",
            metric_value=round(hits / n, 4),
            metric_args={
                "protocol": protocol,
                "n": n,
                "wilson_95": [round(bound, 4) for bound in wilson(hits, n)],
            },
        )
        for task, lang, protocol, hits, n in found
    ]
    data = ModelCardData(
        language=languages,
        **_licence(licence),
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        base_model=base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        tags=[
            "medical",
            "mixture-of-experts",
            "bilingual",
            "research-only",
            *([] if merged else ["lora"]),
        ],
        model_name=repo.split("/")[-1],
        eval_results=results or None,
    )
    return (
        f"---\n{data}\n---\n\n"
        + "\n\n".join(
            [
                f"# {repo.split('/')[-1]}",
                "\n>\n".join(
                    f'> <span dir="{way}" lang="{lang}">{research_notice(lang)}</span>'
                    for lang, way in (("en", "ltr"), ("ar", "rtl"))
                ),
                _what(base, merged),
                f"## How it was trained\n\n{own}",
                _table(found, why_none),
                _use(),
                f"## Licence\n\n{licence.name}. {licence.why}",
            ]
        )
        + "\n"
    )


def _licence(licence: Licence) -> dict[str, str]:
    if licence.name in LICENCES:
        return {"license": licence.name}
    return {"license": "other", "license_name": "not-found"}


def _what(base: str, merged: bool) -> str:
    kind = (
        "A merged model: base and adapter in one."
        if merged
        else f"A LoRA adapter; it needs its base model, {base}."
    )
    toy = (
        " The base is a toy of two million parameters that the kit makes itself: it knows a few"
        " hundred textbook facts and nothing else. Without the kit's own base the adapter is of no"
        " use."
        if base == "tiny"
        else ""
    )
    return (
        f"{kind} Made by the BiMediX reproducibility kit in the way the paper describes; **not the"
        f" paper's model, not its scores**.{toy}"
    )


def _table(found: list[tuple[str, str, str, int, int]], why_none: str) -> str:
    if not found:
        return f"## Evaluation\n\nNone: {why_none}."
    lines = [
        f"| {task} | {lang} | {p} | {hits / n:.3f} | {n} | {wilson(hits, n)[0]:.2f} to"
        f" {wilson(hits, n)[1]:.2f} |"
        for task, lang, p, hits, n in found
    ]
    head = (
        "| task | language | protocol | accuracy | n | 95 % (Wilson)"
        " |\n|---|---|---|---:|---:|---|\n"
    )
    return (
        "## Evaluation\n\nBy this run, on its own rows; not comparable with published numbers of"
        " other protocols.\n\n" + head + "\n".join(lines)
    )


def _use() -> str:
    return "\n\n".join(
        [
            "## Intended use",
            (
                "Research on bilingual medical language models, reproduction of the paper's method,"
                " teaching. Not for products, not for care, not for decisions on any person."
            ),
            "## Limits",
            (
                "It states wrong things fluently, in both languages. Arabic is Modern Standard"
                " Arabic; dialects were not trained. Translated rows carry their translator's"
                " errors. Multiple-choice accuracy says little about a conversation."
            ),
            "## Safety",
            (
                "No safety alignment and no test of bias was done. Doses, diagnoses and advice must"
                " not be taken from it. Whoever lets people talk to it needs tests of their own,"
                " the notice above in view, and emergencies answered before the model is asked."
            ),
        ]
    )


def testset_card(folder: Path, licences: set[str]) -> str:
    """The test set's own card under a header for the hub. `licences`: those of its rows."""
    from huggingface_hub import DatasetCardData

    manifest = read(folder / "manifest.json")
    licence = strictest({f"rows under {name}": name for name in sorted(licences)})
    splits = [
        {"split": "test", "path": task["file"]}
        for task in manifest["tasks"].values()
        if task["items"]
    ]
    data = DatasetCardData(
        pretty_name=f"Medical test set, {manifest['language']}, {manifest['version']}",
        language=[manifest["language"]],
        **_licence(licence),
        task_categories=["question-answering", "multiple-choice"],
        size_categories=[
            (
                "n<1K"
                if manifest["items"] < 1000
                else "1K<n<10K"
                if manifest["items"] < 10000
                else "10K<n<100K"
            )
        ],
        tags=["medical", "translated", "research-only"],
        configs=[
            {"config_name": part["path"].split(".")[0], "data_files": [part]} for part in splits
        ],
    )
    return f"---\n{data}\n---\n\n{(folder / 'README.md').read_text(encoding='utf-8').lstrip()}"
