"""The manifest: everything a reader must know of a mix, counted from its rows.

The card is made from it and from nothing else.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ..core.provenance import hash_path
from ..core.records import LABELS
from ..core.shingles import SHINGLE_WORDS
from ..sources.composition import paper_composition
from .contamination import LONG_SHARE, LONG_TEXT, RULES, SAME_QUESTION_WORDS, KnownTests
from .parallel import Map
from .scan import Input
from .selection import CONTAMINATED, MIX_STATUSES, OK, Candidates, Selection

# The constants of the rules, for the sentences of the card.
RULE_FACTS = {
    "shingle_words": SHINGLE_WORDS,
    "long_text": LONG_TEXT,
    "long_share": LONG_SHARE,
    "same_question_words": SAME_QUESTION_WORDS,
}


def contaminated_by_source(
    rows: Candidates, found: Selection
) -> dict[tuple[str, str], tuple[int, int]]:
    """{(source, language): (rows, contaminated rows)}."""
    size = Counter(rows.group.tolist())
    hits = Counter(rows.group[found.status == CONTAMINATED].tolist())
    table: dict[tuple[str, str], tuple[int, int]] = {}
    for group, n in sorted(size.items(), key=lambda item: rows.groups[item[0]][2]):
        lang, _, source, *_ = rows.groups[group]
        before = table.get((source, lang), (0, 0))
        table[source, lang] = before[0] + n, before[1] + hits[group]
    return table


def removals(rows: Candidates, found: Selection) -> list[dict[str, Any]]:
    """Rows by source, language and status (the kept ones too), contaminated ones also by rule."""
    rules = [*RULES, ""]
    total: Counter[tuple[str, ...]] = Counter()
    columns = (rows.group.tolist(), found.status.tolist(), found.rule.tolist())
    for (group, status, rule), n in Counter(zip(*columns, strict=True)).items():
        lang, _, source, *_ = rows.groups[group]
        by = rules[rule] if status == CONTAMINATED else ""
        total[source, lang, MIX_STATUSES[status], by] += n
    return [
        {"source": source, "lang": lang, "status": status, "rule": rule, "rows": n}
        for (source, lang, status, rule), n in sorted(total.items())
    ]


def kept_sources(
    rows: Candidates, found: Selection, revisions: dict[str, str]
) -> list[dict[str, Any]]:
    """The kept rows by source, language, task and licence; whether they may be passed on."""
    kept = Counter(rows.group[found.status == OK].tolist())
    table = []
    for group, n in sorted(kept.items(), key=lambda item: rows.groups[item[0]]):
        lang, task, source, licence, allowed = rows.groups[group]
        row = {"source": source, "lang": lang, "task": task, "licence": licence, "rows": n}
        row["redistribution"] = "allowed" if allowed else "not allowed"
        table.append({**row, "revision": revisions.get(source, "not found")})
    return table


def answer_keys(rows: Candidates, found: Selection) -> list[dict[str, Any]]:
    """How often each option is the correct one, by source and language, of the kept rows."""
    mine = (found.status == OK) & (rows.column("key") >= 0)
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    pairs = zip(rows.group[mine].tolist(), rows.column("key")[mine].tolist(), strict=True)
    for (group, key), n in Counter(pairs).items():
        lang, _, source, *_ = rows.groups[group]
        table[source, lang][LABELS[key]] += n
    return [
        {"source": s, "lang": lang, "n": sum(c.values()), "counts": dict(sorted(c.items()))}
        for (s, lang), c in sorted(table.items())
    ]


def input_facts(inputs: list[Input], rows: Candidates, run_map: Map) -> list[dict[str, Any]]:
    """File, bytes, SHA-256, candidates and status of each input."""
    read: Counter[Input] = Counter()
    sizes = np.diff([*rows.starts, len(rows)])
    for part, size in zip(rows.parts, sizes.tolist(), strict=True):
        read[part.chunk.source] += size
    used = {part.chunk.source.path for part in rows.parts}
    names = Counter(path.name for path in {source.path for source in inputs})
    hashes = run_map(hash_path, [source.path for source in inputs])
    table = []
    for source, sha256 in zip(inputs, hashes, strict=True):
        path, size = source.path, source.path.stat().st_size
        name = path.name if names[path.name] == 1 else "/".join(path.parts[-2:])
        status = "used" if path in used else "left out: damaged" if size else "empty"
        row = {"file": name, "bytes": size, "sha256": sha256}
        table.append({**row, "rows": read[source], "status": status})
    return table


def facts_of_tests(tests: KnownTests) -> list[dict[str, Any]]:
    """Test rows by source and language."""
    seen = Counter(zip(tests.sources, tests.langs, strict=True))
    return [{"source": s, "lang": lang, "rows": n} for (s, lang), n in sorted(seen.items())]


def paper_rows(path: Path) -> list[dict[str, Any]]:
    """The text parts of the paper's composition table, with their status as the table gives it."""
    return [
        {
            "component": p.component,
            "lang": p.lang,
            "task": p.task,
            "rows": p.rows,
            "status": p.status,
        }
        for p in paper_composition(path)
        if p.is_text
    ]
