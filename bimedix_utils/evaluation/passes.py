"""A whole evaluation: every candidate, every task, every form, each into its own samples file."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from ..core.errors import InputError
from ..core.files import write_json
from ..core.records import Record
from ..core.text import digest
from ..sources.benchmarks import Task
from . import bias, samples
from .candidates import Candidate, Endpoint
from .forms import Form, Protocol, version
from .scoring import Sample

Place = tuple[str, str, str, str]  # model, protocol, task, language
Conversation = list[dict[str, str]]
BATCH = 64  # open answers written between two savings


def forms(protocols: str, letters: str, chat: bool) -> list[Form]:
    """The forms that a notebook's parameters name. Raises `InputError` for an unknown protocol."""
    legal = get_args(Protocol)
    if unknown := [name for name in protocols.split() if name not in legal] or (
        not protocols.split() and ["nothing"]
    ):
        raise InputError(f"PROTOCOLS names {', '.join(unknown)}; legal: {', '.join(legal)}")
    return [Form(protocol, letters, chat) for protocol in protocols.split()]


def with_examples(form: Form, task: Task, records: Iterable[Record], shots: int, seed: int) -> Form:
    """The form with `shots` worked examples: training rows of the task's source, then of others, in
    its language, by a seeded hash.

    The same examples stand before every item. Raises `InputError` when there are too few.
    """
    if not shots:
        return form
    rows = [
        r
        for r in records
        if r.kind == "mcqa" and r.split == "train" and r.lang == task.lang and r.status == "ok"
    ]
    rows.sort(key=lambda r: (r.source != task.name, digest(f"shots:{seed}:{r.id}")))
    if len(rows) < shots:
        raise InputError(
            f"{task.name}, {task.lang}: {shots} worked examples are wanted, {len(rows)} training"
            " rows are here; lower SHOTS"
        )
    return Form(form.protocol, form.letters, form.chat, tuple(rows[:shots]))


def turned(table: Mapping[tuple[str, str], Task], lang: str, rows: int) -> list[Task]:
    """Four tasks of the same four-option items of a language, their options turned by 0, 1, 2 and 3
    places; at most `rows` items.
    """
    items = [
        record
        for (_, own), task in table.items()
        if own == lang
        for record in task.records
        if len(record.options) == 4
    ]
    drawn = sorted(items, key=lambda record: digest(record.id))[:rows]
    return (
        [
            Task(f"turn-{by}", lang, tuple(bias.turned(record, by) for record in drawn))
            for by in range(4)
        ]
        if drawn
        else []
    )


def score_all(
    folder: Path, candidates: Mapping[str, Candidate], plan: Iterable[tuple[Task, Form]]
) -> dict[Place, list[Sample]]:
    """Score what is not scored yet and read everything back. Option-text ranking is left out for
    endpoints: they cannot give it.
    """
    found: dict[Place, list[Sample]] = {}
    plan = list(plan)
    for name, candidate in candidates.items():
        identity = candidate.identity()
        with candidate.loaded() as ready:
            for task, form in plan:
                if form.protocol == "option_text" and isinstance(candidate, Endpoint):
                    continue
                header = {
                    "model": name, "task": task.name, "lang": task.lang, "protocol": form.protocol, "form": form.name,
                    "version": version(task, form), "identity": identity,
                }  # fmt: skip
                path = samples.scored(
                    folder, header, task.records, lambda rows, form=form: ready.score(rows, form)
                )
                found[name, form.protocol, task.name, task.lang] = list(samples.read(path))
    return found


def remembering(
    folder: Path, name: str, candidate: Candidate, max_new_tokens: int
) -> Callable[[list[Conversation]], list[str]]:
    """The candidate's `respond`, each answer kept in a file as soon as its batch is done: a killed
    run asks only for what is missing.

    The file is named by what the model is, so that another model's answers are never taken for it.
    """
    path = folder / f"answers-{name}-{digest([candidate.identity(), max_new_tokens], 8)}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    if path.exists():
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        os.truncate(path, len(whole))
        known = dict(json.loads(line) for line in whole.splitlines())

    def respond(conversations: list[Conversation]) -> list[str]:
        keys = [digest(turns) for turns in conversations]
        missing = {
            key: turns for key, turns in zip(keys, conversations, strict=True) if key not in known
        }
        with open(path, "a", encoding="utf-8") as file:
            for begin in range(0, len(missing), BATCH):
                part = list(missing)[begin : begin + BATCH]
                answers = candidate.respond([missing[key] for key in part], max_new_tokens)
                known.update(zip(part, answers, strict=True))
                # An empty answer may be an endpoint's failure: it is not kept, so that the next run
                # asks again.
                file.write(
                    "".join(
                        json.dumps([key, known[key]], ensure_ascii=False) + "\n"
                        for key in part
                        if known[key]
                    )
                )
                file.flush()
                os.fsync(file.fileno())
        return [known[key] for key in keys]

    return respond


def write_cards(path: Path, plan: Iterable[tuple[Task, Form]]) -> None:
    """Every task with what its scores depend on: version, split, item ids, source revision, form,
    hash of all samples and of each.
    """
    cards: list[dict[str, Any]] = [
        {
            "task": task.name, "language": task.lang, "version": version(task, form), "form": form.name, "split": task.split,
            "source_revision": task.revision, "items": len(task.records), "hash": task.hash,
            "samples": {record.id: record.content_hash() for record in task.records},
        }
        for task, form in plan
    ]  # fmt: skip
    write_json(path, cards)
