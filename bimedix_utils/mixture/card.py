"""The data-set card of a mix, in the Hugging Face layout, from the mix's manifest and nothing else.

What the manifest does not tell is written `not found`: a card is read without its data, so no
number on it may come from memory.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from .compose import COMPONENTS

MISSING = "not found"
NAMES = {"en": "English", "ar": "Arabic"}
# Licences the hub knows by name, with the page of their owner.
LICENCES = {
    "mit": "https://opensource.org/license/mit",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "gpl-3.0": "https://www.gnu.org/licenses/gpl-3.0.html",
}
TASK_CATEGORIES = {
    "pubmedqa": "question-answering",
    "medmcqa": "question-answering",
    "medqa": "question-answering",
    "mcqa": "question-answering",
    "qa": "question-answering",
    "chat": "text-generation",
}
# The hub's classes: n is below the number.
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
LEAKS = ("duplicate", "leaked")
SHOWN_ELSEWHERE = (
    "ratio",
    "tolerance",
    "duplicates",
    "leakage",
)  # settings with a place of their own


def card(manifest: Mapping[str, Any]) -> str:
    """The card (`README.md`) of the mix that `manifest` describes: YAML front matter, then sections
    in Markdown.

    Counts are rows, sizes bytes, lengths tokens. `settings` may hold `ratio`, `tolerance`,
    `duplicates` and `leakage` (how rows were compared, one sentence each). A part or number the
    manifest lacks is written `not found`; nothing is raised for it.
    """
    sections = [
        _opening(manifest),
        _built(manifest),
        _composition(manifest),
        _paper(manifest),
        _cleaning(manifest),
        _tokens(manifest.get("tokens")),
        _sources(manifest),
        _keys(manifest),
        _files(manifest),
        _use(),
    ]
    return _front_matter(manifest) + "\n" + "\n\n".join(sections) + "\n"


# Small pieces


def _list(manifest: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return list(manifest.get(name) or [])


def _shown(value: Any) -> str:
    """A value as a table cell: thousands grouped, no sign that would end the cell or the line."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items()) or MISSING
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or MISSING
    # A source's text must not become markup of the card.
    text = re.sub(r"\s+", " ", str(value)).strip().replace("<", "&lt;")
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _name(file: Any) -> str:
    """A file as the card may show it: a path from the root of some machine keeps its last part
    only.
    """
    text = str(file or MISSING)
    if PurePosixPath(text).is_absolute():
        return PurePosixPath(text).name
    return PureWindowsPath(text).name if PureWindowsPath(text).drive else text


def _table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """A Markdown table; `not found` when there are no rows. A column named `n:...` is
    right-aligned.
    """
    lines = ["| " + " | ".join(map(_shown, row)) + " |" for row in rows]
    if not lines:
        return MISSING
    head = "| " + " | ".join(name.removeprefix("n:") for name in columns) + " |"
    rule = "|" + "|".join("---:" if name.startswith("n:") else "---" for name in columns) + "|"
    return "\n".join([head, rule, *lines])


def _sum(rows: Iterable[Mapping[str, Any]], name: str) -> int | None:
    """The sum of a column; None when there are no rows or one lacks it: a part is no total."""
    values = [row.get(name) for row in rows]
    return sum(values) if values and all(isinstance(value, int) for value in values) else None


def _splits(manifest: Mapping[str, Any]) -> dict[str, int | None]:
    """{split: rows} of the splits that have files (the card must not point at files that are not
    there).
    """
    rows = manifest.get("splits") or {}
    named = {shard["split"] for shard in _list(manifest, "shards") if shard.get("split")} or {
        split for split in rows if rows[split] != 0
    }
    return {
        split: rows.get(split) for split in sorted(named, key=lambda name: (name != "train", name))
    }


def _forbidden(manifest: Mapping[str, Any]) -> list[str]:
    """Sources in the mix whose owner does not allow, or is not known to allow, passing them on."""
    allowed = {"yes", "true", "allowed", True}
    closed = [
        s
        for s in _list(manifest, "sources")
        if s.get("rows") != 0 and _plain(s.get("redistribution")) not in allowed
    ]
    return [f"{_shown(source.get('source'))} ({_shown(source.get('lang'))})" for source in closed]


def _plain(value: Any) -> Any:
    """A yes or no, also when a remark follows it."""
    return (
        re.split(r"[\s,;:(]", value.strip().lower())[0]
        if isinstance(value, str) and value.strip()
        else value
    )


# Front matter


def _licence(manifest: Mapping[str, Any]) -> dict[str, str]:
    named = sorted(
        {str(s.get("licence") or MISSING) for s in _list(manifest, "sources") if s.get("rows") != 0}
    )
    if len(named) == 1 and named[0].lower() in LICENCES:
        return {"license": named[0].lower()}
    details = "; ".join(named) or MISSING
    name = (
        re.sub(r"[^a-z0-9.]+", "-", named[0].lower()).strip("-")
        if len(named) == 1
        else "mixed"
        if named
        else "not-found"
    )
    return {
        "license": "other",
        "license_name": name or "not-found",
        "license_details": f"each row keeps its source's licence: {details}",
    }


def _front_matter(manifest: Mapping[str, Any]) -> str:
    import yaml

    splits, composition, sources = (
        _splits(manifest),
        _list(manifest, "composition"),
        _list(manifest, "sources"),
    )
    taken = [row for row in composition if row.get("taken") != 0]
    languages = sorted(
        {
            row["lang"]
            for row in [*taken, *(s for s in sources if s.get("rows") != 0)]
            if row.get("lang")
        }
    )
    tasks = sorted({TASK_CATEGORIES.get(row.get("task"), "text-generation") for row in taken})
    rows = (
        sum(splits.values())
        if splits and all(isinstance(n, int) for n in splits.values())
        else None
    )
    head: dict[str, Any] = {
        "pretty_name": f"BiMed built by the reproducibility kit ({manifest.get('mode') or MISSING})"
    }
    if languages:
        head["language"] = languages
    head |= _licence(manifest)
    if tasks:
        head["task_categories"] = tasks
    head["tags"] = ["medical", "bilingual", "research-only"]
    if rows is not None:
        head["size_categories"] = [
            next((name for limit, name in SIZES if rows < limit), "100M<n<1B")
        ]
    head["configs"] = [
        {
            "config_name": "default",
            "data_files": [
                {"split": split, "path": f"data/{split}-*.parquet"}
                for split in splits or ("train",)
            ],
        }
    ]
    if rows is not None:
        # Without column types: they are in the Parquet files, and a second list could disagree with
        # them.
        head["dataset_info"] = {
            "config_name": "default",
            "splits": [{"name": name, "num_examples": n} for name, n in splits.items()],
        }
        size = _sum(_list(manifest, "shards"), "bytes")
        if size is not None:
            head["dataset_info"]["download_size"] = size
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000)}---\n"


# Sections


def _opening(manifest: Mapping[str, Any]) -> str:
    closed = _forbidden(manifest)
    lines = [
        f"# BiMed, built in `{manifest.get('mode') or MISSING}` mode",
        (
            "**For research only. Nothing in it is medical advice: never use it for a real person;"
            " see a clinician.**"
        ),
        (
            "A bilingual (Arabic and English) medical instruction set, built from its sources by"
            " the BiMediX reproducibility kit. These rows are **not the paper's BiMed1.3M**: they"
            " were collected, translated and chosen again."
        ),
    ]
    if closed:
        lines.append(
            "**Do not redistribute this data set.** Passing on is not allowed, or not known to be"
            f" allowed, for: {', '.join(closed)}. Whoever needs it builds it again from the"
            " sources."
        )
    return "\n\n".join(lines)


def _built(manifest: Mapping[str, Any]) -> str:
    settings = manifest.get("settings") or {}
    known = [
        ("kit", manifest.get("kit")),
        ("seed", None if manifest.get("seed") is None else str(manifest["seed"])),
    ]
    known += [("Arabic : English", settings.get("ratio")), ("tolerance", settings.get("tolerance"))]
    other = [
        (name, _name(value) if isinstance(value, str) else value)
        for name, value in settings.items()
        if name not in SHOWN_ELSEWHERE
    ]
    inputs = [
        (
            _name(i.get("file")),
            i.get("rows"),
            i.get("bytes"),
            i.get("sha256"),
            i.get("status"),
            i.get("note") or "-",
        )
        for i in _list(manifest, "inputs")
    ]
    counts = list((manifest.get("counts") or {}).items())
    whole = (
        sum(n for _, n in counts) if counts and all(isinstance(n, int) for _, n in counts) else None
    )
    parts = [
        "## How it was built",
        _table([*known, *other], ["setting", "value"]),
        "Input files:",
        _table(inputs, ["file", "n:rows", "n:bytes", "sha256", "status", "note"]),
        "Every candidate row ended in exactly one status (`ok` rows are in the set):",
        _table([*counts, ("sum", whole)] if counts else [], ["status", "n:rows"]),
    ]
    return "\n\n".join(parts)


def _composition(manifest: Mapping[str, Any]) -> str:
    rows = _list(manifest, "composition")
    names = ("available", "target", "taken", "missing")
    body = [
        (r.get("task"), r.get("lang"), *(r.get(name) for name in names), r.get("why") or "-")
        for r in rows
    ]
    if rows:
        body.append(("sum", "-", *(_sum(rows, name) for name in names), "-"))
    return "## Composition\n\n" + _table(
        body, ["task", "language", *(f"n:{name}" for name in names), "why"]
    )


def _paper(manifest: Mapping[str, Any]) -> str:
    ours = {
        (row.get("task"), row.get("lang")): row.get("taken")
        for row in _list(manifest, "composition")
    }
    body = []
    for row in _list(manifest, "paper"):
        component, lang = str(row.get("component") or MISSING), str(row.get("lang") or "").lower()
        task = COMPONENTS.get(component.removesuffix(" (Ara)"))
        samples = row.get("samples")
        samples = int(samples) if isinstance(samples, str) and samples.isdigit() else samples
        mine = ours.get((task, lang), MISSING) if task else "no such row here"
        body.append((component, row.get("lang"), row.get("task"), samples, row.get("status"), mine))
    return "\n\n".join(
        [
            "## Beside the paper",
            (
                "The paper's numbers are its authors'; `stated` ones were printed by them, others"
                " were computed or inferred from those. This mix stands beside them for comparison"
                " only; the columns are never added."
            ),
            _table(
                body,
                [
                    "component",
                    "language",
                    "task",
                    "n:paper (rows)",
                    "status of the paper's number",
                    "n:this mix (rows)",
                ],
            ),
        ]
    )


def _cleaning(manifest: Mapping[str, Any]) -> str:
    settings, removed = manifest.get("settings") or {}, _list(manifest, "removed")
    found = {str(row.get("status") or MISSING) for row in removed}
    statuses = [*LEAKS, *sorted(found - set(LEAKS))]
    places = sorted(
        {(str(row.get("source") or MISSING), str(row.get("lang") or MISSING)) for row in removed}
    )

    def rows_of(status: str, place: tuple[str, str] | None) -> int | None:
        chosen = [r for r in removed if str(r.get("status") or MISSING) == status]
        chosen = [
            r
            for r in chosen
            if place in (None, (str(r.get("source") or MISSING), str(r.get("lang") or MISSING)))
        ]
        return _sum(chosen, "rows") if chosen else 0

    body = [(*place, *(rows_of(status, place) for status in statuses)) for place in places]
    if body:
        body.append(("sum", "-", *(rows_of(status, None) for status in statuses)))
    nothing = "No rows were removed." if manifest.get("removed") == [] else MISSING
    tests = _list(manifest, "tests")
    held = [(test.get("source"), test.get("lang"), test.get("rows")) for test in tests]
    held += [("sum", "-", _sum(tests, "rows"))] if tests else []
    return "\n\n".join(
        [
            "## Duplicates and test questions",
            f"How rows were compared for duplicates: {_shown(settings.get('duplicates'))}",
            f"How rows were compared with test questions: {_shown(settings.get('leakage'))}",
            "Removed, by source, language and status:",
            (
                _table(body, ["source", "language", *(f"n:{status}" for status in statuses)])
                if body
                else nothing
            ),
            (
                "Test sets that were compared with (sha256 of all their questions:"
                f" `{_shown(manifest.get('tests_sha256'))}`):"
            ),
            _table(held, ["test set", "language", "n:questions"]),
            (
                "**The paper reports no decontamination**, so its scores and those of a model"
                " trained on this set differ in this too."
            ),
            (
                "Limits: a test question that was paraphrased, summarised or freely translated is"
                " not found. Test sets not listed above were not compared with."
            ),
        ]
    )


def _interval(
    part: Mapping[str, Any], low: str = "low", high: str = "high", digits: str = ",.0f"
) -> str:
    if part.get("rows") is not None and part.get("measured") == part.get("rows"):
        return "counted"
    if part.get(low) is None or part.get(high) is None:
        return MISSING
    return f"{part[low]:{digits}} to {part[high]:{digits}}" + (
        " (few rows)" if part.get("few") else ""
    )


def _number(value: Any, digits: str = ",.0f") -> str:
    return MISSING if value is None else f"{value:{digits}}"


def _tokens(table: Mapping[str, Any] | None) -> str:
    if not table:
        return f"## Tokens\n\n{MISSING}: tokens were not counted."
    if table.get("method") == "exact":
        how = f"All {_shown(table.get('rows'))} rows were counted."
    else:
        how = (
            f"Estimated from a seeded simple random sample of {_shown(table.get('measured'))} of"
            f" {_shown(table.get('rows'))} rows (seed {table.get('seed', MISSING)}), with 95 %"
            " intervals; `few rows` marks those from fewer than 30 rows, not to be trusted."
        )

    def totals(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[tuple]:
        return [
            (
                *(r.get(n) for n in names),
                r.get("rows"),
                r.get("measured"),
                _number(r.get("tokens")),
                _interval(r),
            )
            for r in rows
        ]

    shape = ["n:rows", "n:measured", "n:tokens", "95 % interval"]
    languages, total = list(table.get("languages") or []), table.get("total") or {}
    lengths = [
        (
            r.get("lang"),
            _number(r.get("fertility"), ".2f"),
            _interval(r, "fertility_low", "fertility_high", ".2f"),
            *(r.get(name) for name in ("p50", "p90", "p99", "max")),
            _number(r.get("over_share"), ".2%"),
            _interval(
                {**r, "few": False}, "over_low", "over_high", ".2%"
            ),  # Wilson's holds for few rows too
        )
        for r in languages
    ]
    limit = _shown(table.get("max_tokens"))
    return "\n\n".join(
        [
            "## Tokens",
            f"Tokenizer: {_shown(table.get('tokenizer'))}. {how}",
            _table(
                totals(languages, ["lang"])
                + (totals([{**total, "lang": "sum"}], ["lang"]) if total else []),
                ["language", *shape],
            ),
            (
                "Fertility is tokens a word (a word ends at white space). Lengths are tokens of a"
                " whole row with the chat template's own, computed to within a few tokens;"
                " quantiles and the longest are those of the measured rows. Rows longer than"
                f" {limit} tokens do not fit in training whole."
            ),
            _table(
                lengths,
                [
                    "language",
                    "n:fertility",
                    "95 % interval",
                    "n:p50",
                    "n:p90",
                    "n:p99",
                    "n:longest",
                    f"n:over {limit}",
                    "95 % interval",
                ],
            ),
            "By task and source:",
            _table(
                totals(table.get("cells") or [], ["lang", "task", "source"]),
                ["language", "task", "source", *shape],
            ),
        ]
    )


def _linked(licence: Any) -> str:
    link = LICENCES.get(str(licence).lower())
    return f"[{licence}]({link})" if link else _shown(licence)


def _sources(manifest: Mapping[str, Any]) -> str:
    body = [
        (
            s.get("source"),
            s.get("lang"),
            _linked(s.get("licence")),
            s.get("rows"),
            s.get("redistribution"),
            s.get("revision"),
        )
        for s in _list(manifest, "sources")
    ]
    columns = ["source", "language", "licence", "n:rows", "redistribution allowed?", "revision"]
    parts = [
        "## Sources and licences",
        "Each row names its source and keeps its licence (`source`, `licence`).",
        _table(body, columns),
    ]
    if closed := _forbidden(manifest):
        parts.append(f"**Do not redistribute:** {', '.join(closed)}.")
    return "\n\n".join(parts)


def _keys(manifest: Mapping[str, Any]) -> str:
    keys = _list(manifest, "keys")
    letters = sorted({letter for row in keys for letter in row.get("counts") or {}})

    def share(row: Mapping[str, Any], letter: str) -> str:
        counts, n = row.get("counts"), row.get("n")
        return (
            MISSING
            if not counts or not n
            else f"{counts.get(letter, 0):,} ({counts.get(letter, 0) / n:.1%})"
        )

    body = [
        (
            row.get("source"),
            row.get("lang"),
            row.get("n"),
            *(share(row, letter) for letter in letters),
        )
        for row in keys
    ]
    return "\n\n".join(
        [
            "## Balance of the answer keys",
            (
                "How often each letter is the key of a multiple-choice row: a model that learns a"
                " lopsided key guesses it."
            ),
            _table(body, ["source", "language", "n:rows", *(f"n:{letter}" for letter in letters)]),
        ]
    )


def _files(manifest: Mapping[str, Any]) -> str:
    shards, splits = _list(manifest, "shards"), _splits(manifest)
    body = [
        (_name(s.get("file")), s.get("split"), s.get("rows"), s.get("bytes"), s.get("sha256"))
        for s in shards
    ]
    if shards:
        body.append(("sum", "-", _sum(shards, "rows"), _sum(shards, "bytes"), "-"))
    return "\n\n".join(
        [
            "## Files",
            _table(splits.items(), ["split", "n:rows"]),
            _table(body, ["file", "split", "n:rows", "n:bytes", "sha256"]),
            (
                "A row has the kit's record fields and `task`. Load it from the folder this file"
                " is in:"
            ),
            (
                "```python\nfrom datasets import load_dataset\n\nmix ="
                ' load_dataset("path/of/this/folder")\n```'
            ),
            "Render a row as the conversation that is trained on:",
            (
                "```python\nfrom bimedix_utils.core.records import Record\nfrom"
                " bimedix_utils.core.templates import messages\n\nrow ="
                ' mix["train"][0]\nmessages(Record(**{name: row[name] for name in'
                " Record.model_fields}))\n```"
            ),
        ]
    )


def _use() -> str:
    return "\n\n".join(
        [
            "## Intended use",
            (
                "Research on bilingual medical language models: reproducing the paper's training,"
                " measuring what language balance, translation and decontamination change,"
                " teaching. Not for products, not for care."
            ),
            "## Limits",
            (
                "Rows translated by a model carry its errors and its style. Dialogues written by a"
                " model are not real consultations. Exam questions reflect the countries and years"
                " they were written in. Answers were not checked against today's guidelines."
            ),
            "## Safety",
            (
                "Rows may hold wrong, outdated or dangerous medical statements, and doses must not"
                " be taken from them. Text from public forums may still name persons: report and"
                " remove such rows. A model trained on this set needs its own safety tests before"
                " anyone talks to it, and its answers need the notice that stands at the top of"
                " this card."
            ),
        ]
    )
