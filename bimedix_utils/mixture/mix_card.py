"""The data-set card of a mix, from the mix's manifest and nothing else; see `mix_card.md.j2`."""

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from ..core.cards import (
    column_sum,
    licence_header,
    licence_link,
    markdown_cell,
    render_card,
    size_category,
)
from ..sources.catalogue import NOT_FOUND
from .compose import PAPER_TASKS

TEMPLATE = Path(__file__).with_name("mix_card.md.j2")
Manifest = Mapping[str, Any]


def mix_card(manifest: Manifest) -> str:
    """The card (`README.md`) of the mix that `manifest` describes.

    Counts are rows, sizes bytes, lengths tokens. A part or number the manifest lacks is written
    `not found`; nothing is raised for it.
    """
    by_status, statuses = _by_status(manifest)
    letters = sorted({x for row in _rows(manifest, "keys") for x in row.get("counts") or {}})
    sources = _rows(manifest, "sources")
    facts = {
        **manifest,
        "settings": _settings(manifest),
        "similarity": (manifest.get("settings") or {}).get("similarity"),
        "inputs": [
            {**row, "file": _portable(row.get("file"))} for row in _rows(manifest, "inputs")
        ],
        "closed": _closed_sources(manifest),
        "composition": [
            {**cell, "why": cell.get("why") or "-"} for cell in _rows(manifest, "composition")
        ],
        "paper": _paper(manifest),
        "statuses": [{"name": n, "rows": k} for n, k in (manifest.get("counts") or {}).items()],
        "by_status": by_status,
        "statuses_found": {name: f"n:{name}" for name in statuses},
        "sources": [{**row, "licence": licence_link(row.get("licence"))} for row in sources],
        "keys": _key_shares(manifest),
        "letters": {letter: f"n:{letter}" for letter in letters},
        "split_rows": [{"split": s, "rows": n} for s, n in _splits(manifest).items()],
    }
    return render_card(TEMPLATE, _header(manifest), **facts)


def _rows(manifest: Manifest, name: str) -> list[Mapping[str, Any]]:
    return list(manifest.get(name) or [])


def _used(manifest: Manifest) -> list[Mapping[str, Any]]:
    """The sources that have rows in the set."""
    return [source for source in _rows(manifest, "sources") if source.get("rows") != 0]


def _portable(file: Any) -> str:
    """A file as the card may show it: of an absolute path the last part only."""
    path = PureWindowsPath(str(file or NOT_FOUND))  # this class splits at both kinds of slash
    return path.name if path.anchor else str(file or NOT_FOUND)


def _settings(manifest: Manifest) -> list[dict[str, Any]]:
    seed = manifest.get("seed")
    settings = {"kit": manifest.get("kit"), "seed": None if seed is None else str(seed)}
    settings = {**(manifest.get("settings") or {}), **settings}
    return [
        {"name": name, "value": _portable(value) if isinstance(value, str) else value}
        for name, value in settings.items()
    ]


def _splits(manifest: Manifest) -> dict[str, int | None]:
    """{split: rows} of the splits that have files: the header must not name absent ones."""
    rows = manifest.get("splits") or {}
    named = {shard["split"] for shard in _rows(manifest, "shards") if shard.get("split")}
    named = named or {split for split in rows if rows[split] != 0}
    return {split: rows.get(split) for split in sorted(named, key=lambda s: (s != "train", s))}


def _closed_sources(manifest: Manifest) -> list[str]:
    """Sources whose owner does not allow, or is not known to allow, passing them on."""
    closed = [s for s in _used(manifest) if s.get("redistribution") != "allowed"]
    return [f"{markdown_cell(s.get('source'))} ({markdown_cell(s.get('lang'))})" for s in closed]


def _paper(manifest: Manifest) -> list[dict[str, Any]]:
    """The paper's parts, each with the rows of this mix for the same task and language."""
    taken = {(c.get("task"), c.get("lang")): c.get("taken") for c in _rows(manifest, "composition")}
    table = []
    for row in _rows(manifest, "paper"):
        task = PAPER_TASKS.get(str(row.get("component")).removesuffix(" (Ara)"))
        ours = taken.get((task, row.get("lang")))
        table.append({**row, "ours": ours if task else "no such row here"})
    return table


def _by_status(manifest: Manifest) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows by source and language with a column for each status, the statuses)."""
    rows = _rows(manifest, "removed")
    found = {str(row.get("status") or NOT_FOUND) for row in rows}
    first = ["duplicate", "contaminated"]
    statuses = [*first, *sorted(found - set(first))]
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (str(row.get("source") or NOT_FOUND), str(row.get("lang") or NOT_FOUND))
        line = dict.fromkeys(statuses, 0) | {"source": key[0], "lang": key[1]}
        line = table.setdefault(key, line)
        name, n = str(row.get("status") or NOT_FOUND), row.get("rows")
        line[name] = None if n is None or line[name] is None else line[name] + n
    return [table[key] for key in sorted(table)], statuses


def _key_shares(manifest: Manifest) -> list[dict[str, Any]]:
    """How often each letter is the key: "count (share)" by letter."""
    table = []
    for row in _rows(manifest, "keys"):
        counts, n = row.get("counts") or {}, row.get("n")
        shares = {letter: f"{k:,} ({k / n:.1%})" for letter, k in counts.items()} if n else {}
        table.append({"source": row.get("source"), "lang": row.get("lang"), "n": n, **shares})
    return table


def _header(manifest: Manifest) -> Any:
    from huggingface_hub import DatasetCardData

    taken = [row for row in _rows(manifest, "composition") if row.get("taken") != 0]
    languages = {row["lang"] for row in [*taken, *_used(manifest)] if row.get("lang")}
    tasks = {"text-generation" if r.get("task") == "chat" else "question-answering" for r in taken}
    licences = sorted({str(s.get("licence") or NOT_FOUND) for s in _used(manifest)})
    name = licences[0] if len(licences) == 1 else "mixed" if licences else NOT_FOUND
    details = f"each row keeps its source's licence: {'; '.join(licences) or NOT_FOUND}"
    splits = _splits(manifest)
    paths = [{"split": s, "path": f"data/{s}-*.parquet"} for s in splits or ("train",)]
    rows = sum(n or 0 for n in splits.values()) if None not in splits.values() else None
    facts: dict[str, Any] = {}
    if splits and rows is not None:
        facts["size_categories"] = [size_category(rows)]
        # Without column types: they are in the Parquet files, and a second list could disagree.
        sizes = [{"name": split, "num_examples": n} for split, n in splits.items()]
        facts["dataset_info"] = {"config_name": "default", "splits": sizes}
        if (size := column_sum(_rows(manifest, "shards"), "bytes")) is not None:
            facts["dataset_info"]["download_size"] = size
    mode = manifest.get("mode") or NOT_FOUND
    return DatasetCardData(
        pretty_name=f"BiMed built by the reproducibility kit ({mode})",
        language=sorted(languages) or None,
        **licence_header(name, details),
        task_categories=sorted(tasks) or None,
        tags=["medical", "bilingual", "research-only"],
        configs=[{"config_name": "default", "data_files": paths}],
        **facts,
    )
