"""The manifest: everything a reader must know of a mix, counted from its rows. The card is made
from it and from nothing else.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..core.provenance import hash_path
from ..core.records import LABELS
from ..core.shingles import SHINGLE_WORDS
from ..sources.composition import paper_composition
from .contamination import LONG_SHARE, LONG_TEXT, RULES, SAME_QUESTION_WORDS, KnownTests
from .decide import LEAKED, OK, STATUSES, Decision, Rows
from .scan import Input
from .work import Map


def described(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the sentences a reader of the card needs."""
    return {
        **settings,
        "ratio": (
            f"{settings['arabic']}:{settings['english']}"
            if settings["composition"] == "ratio"
            else "the paper's composition"
        ),
        "duplicates": (
            "equal content within a language; or, in normalised text, at least"
            f" {settings['similarity']:g} of the runs of {SHINGLE_WORDS} words in common (Jaccard), found"
            " by MinHash, each pair compared exactly. A translation is a copy of its original, not"
            " a duplicate."
        ),
        "leakage": (
            f"the same question word for word; all runs of {SHINGLE_WORDS} words of a short test text,"
            f" {LONG_SHARE:g} of those of one of at least {LONG_TEXT} words; or the same set of"
            f" options beside a question with at least {SAME_QUESTION_WORDS:g} of the words. In"
            " both languages; a near duplicate or a translation of a leaked row is leaked."
        ),
    }


def counts(rows: Rows, found: Decision) -> dict[str, int]:
    """{status: rows}; they add up to the candidates."""
    return {
        STATUSES[code]: int(n)
        for code, n in zip(*np.unique(found.status, return_counts=True), strict=True)
    }


def caught(rows: Rows, found: Decision) -> dict[tuple[str, str], tuple[int, int]]:
    """{(source, language): (rows, of which leaked)}: of test rows planted among training rows, all
    should be.
    """
    size, leaked = (
        Counter(rows.group.tolist()),
        Counter(rows.group[found.status == LEAKED].tolist()),
    )
    table: dict[tuple[str, str], tuple[int, int]] = {}
    for group, n in sorted(size.items(), key=lambda item: rows.groups[item[0]][2]):
        lang, _, source, *_ = rows.groups[group]
        before = table.get((source, lang), (0, 0))
        table[source, lang] = before[0] + n, before[1] + leaked[group]
    return table


def removals(rows: Rows, found: Decision) -> list[dict[str, Any]]:
    """Rows by source, language and status, leaks by rule; sorted."""
    rules = [*RULES, ""]
    seen = Counter(
        zip(rows.group.tolist(), found.status.tolist(), found.rule.tolist(), strict=True)
    )
    total: Counter[tuple[str, ...]] = Counter()
    for (group, status, rule), n in seen.items():
        lang, _, source, *_ = rows.groups[group]
        total[source, lang, STATUSES[status], rules[rule] if status == LEAKED else ""] += n
    return [
        {"source": s, "lang": lang, "status": status, "rule": rule, "rows": n}
        for (s, lang, status, rule), n in sorted(total.items())
    ]


def sources(rows: Rows, found: Decision, revisions: dict[str, str]) -> list[dict[str, Any]]:
    """The kept rows by source, language and licence, and whether the licence lets them be
    published.
    """
    kept = Counter(rows.group[found.status == OK].tolist())
    table = []
    for group, n in sorted(kept.items(), key=lambda item: rows.groups[item[0]]):
        lang, task, source, licence, open_to_all = rows.groups[group]
        allowed = "allowed" if open_to_all else "not allowed"
        revision = revisions.get(source, "not found")
        table.append(
            {
                "source": source,
                "lang": lang,
                "task": task,
                "licence": licence,
                "redistribution": allowed,
                "revision": revision,
                "rows": n,
            }
        )
    return table


def keys(rows: Rows, found: Decision) -> list[dict[str, Any]]:
    """How often each option is the right one, by source and language, among the kept
    multiple-choice rows.
    """
    mine = (found.status == OK) & (rows.column("key") >= 0)
    seen = Counter(zip(rows.group[mine].tolist(), rows.column("key")[mine].tolist(), strict=True))
    table: dict[tuple[str, str], Counter[str]] = {}
    for (group, key), n in seen.items():
        lang, _, source, *_ = rows.groups[group]
        table.setdefault((source, lang), Counter())[LABELS[key]] += n
    return [
        {"source": s, "lang": lang, "n": sum(c.values()), "counts": dict(sorted(c.items()))}
        for (s, lang), c in sorted(table.items())
    ]


def inputs_of(inputs: list[Input], rows: Rows, run_map: Map) -> list[dict[str, Any]]:
    """File, bytes, SHA-256, candidates and status (used, or left out as damaged) of each input."""
    read = Counter()
    for part, start, end in zip(
        rows.parts, rows.starts, [*rows.starts[1:], len(rows)], strict=True
    ):
        read[part.piece.source] += int(end - start)
    used = {part.piece.source.path for part in rows.parts}
    hashes = run_map(hash_path, [source.path for source in inputs])
    names = Counter(path.name for path in {source.path for source in inputs})
    return [
        {
            "file": (
                source.path.name
                if names[source.path.name] == 1
                else "/".join(source.path.parts[-2:])
            ),
            "bytes": source.path.stat().st_size,
            "sha256": value,
            "rows": read[source],
            "status": (
                "used"
                if source.path in used
                else "left out: damaged"
                if source.path.stat().st_size
                else "empty"
            ),
        }
        for source, value in zip(inputs, hashes, strict=True)
    ]


def tests_of(tests: KnownTests) -> list[dict[str, Any]]:
    """Test rows by source and language."""
    seen = Counter(zip(tests.sources, tests.langs, strict=True))
    return [
        {"source": source, "lang": lang, "rows": n} for (source, lang), n in sorted(seen.items())
    ]


def paper_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the paper's composition table that concern text, with their status as the table
    gives it.
    """
    return [
        {
            "component": part.component,
            "task": part.task,
            "status": part.status,
            "lang": part.lang,
            "samples": part.rows,
        }
        for part in paper_composition(path)
        if part.rows and part.task in ("MCQA", "QA", "Chat") and part.lang in ("en", "ar")
    ]


def write_removed(path: Path, batches: Any, schema: Any) -> None:
    """The removed rows as one Parquet file, written batch by batch and put in place whole."""
    part = path.with_name(path.name + ".partial")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    part.replace(path)
