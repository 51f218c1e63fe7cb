"""BiMed: the bilingual instruction set at a stated Arabic:English ratio, at any size.

`build_mix` does everything; notebook 05 shows its steps one by one. Each step may be killed and run
again.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.errors import KitError
from ..core.files import atomic_file, write_json, write_text
from ..core.provenance import hash_path, shown_path
from ..core.records import iter_jsonl, write_jsonl
from ..sources.composition import COMPOSITION
from . import manifest
from .compose import Counts, MixCell, cells_by_ratio, cells_by_target, paper_targets
from .mix_card import mix_card
from .parallel import Map, parallel_map
from .scan import Input, load_tests, scan
from .selection import REMOVED_COLUMNS, Candidates, Selection, load_features, removed_rows, select
from .shards import SHARD_SPLITS, write_splits
from .tokens import count_tokens


@dataclass(frozen=True)
class MixSettings:
    """What a mix depends on besides its inputs.

    `similarity`: Jaccard of word 5-grams; `tolerance`: relative to the ratio; `purpose` "publish"
    holds back every row whose licence is not known to allow redistribution.
    """

    seed: int = 42
    arabic: int = 1
    english: int = 2
    tolerance: float = 0.02
    composition: Literal["ratio", "paper"] = "ratio"
    similarity: float = 0.8
    shard_rows: int = 20_000
    validation_share: float = 0.01
    max_tokens: int = 2_048
    damaged_input: Literal["stop", "skip"] = "stop"
    purpose: Literal["research", "publish"] = "research"


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """A full or read-only disk becomes a `KitError`; what was finished before stays."""
    try:
        yield
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM) and str(folder) in str(error.filename)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not denied:
            raise
        reason = os.strerror(error.errno).lower()
        raise KitError(
            f"{shown_path(folder)}: cannot be written ({reason}). Make room there or take another"
            " folder, and run again"
        ) from None


def scan_inputs(
    inputs: list[Input], tests: Path, work: Path, settings: MixSettings, run_map: Map = map
) -> Candidates:
    """Read every candidate once and keep its features in `work`.

    `tests`: JSON Lines of the test rows that no training row may repeat. Raises `InputError` naming
    the damaged inputs, unless `settings` says to leave them out.
    """
    with _disk_errors(work):
        parts = scan(inputs, tests, work / "features", settings.seed, run_map)
    return load_features(parts, skip_damaged=settings.damaged_input == "skip")


def select_rows(
    rows: Candidates, settings: MixSettings, run_map: Map = map, composition: Path = COMPOSITION
) -> Selection:
    """One status for each row; `composition` is the paper's table, a target of the settings."""
    rows.check_unchanged()

    def compose(available: Counts) -> list[MixCell]:
        if settings.composition == "paper":
            return cells_by_target(available, paper_targets(composition))
        return cells_by_ratio(available, settings.arabic, settings.english, settings.tolerance)

    return select(rows, settings.similarity, compose, settings.purpose == "publish", run_map)


def write_shards(
    rows: Candidates, found: Selection, folder: Path, settings: MixSettings, run_map: Map = map
) -> list[dict[str, Any]]:
    """Write the Parquet shards of both splits; gives their names, rows, bytes and hashes."""
    rows.check_unchanged()
    share, size = settings.validation_share, settings.shard_rows
    with _disk_errors(folder):
        for cut in folder.rglob("*.partial"):  # of a killed run
            cut.unlink()
        return write_splits(rows, found, folder, share, size, run_map)


def finish_mix(
    rows: Candidates,
    found: Selection,
    shards: list[dict[str, Any]],
    inputs: list[Input],
    tests: Path,
    folder: Path,
    settings: MixSettings,
    run_map: Map = map,
    composition: Path = COMPOSITION,
    mode: str = "custom",
    revisions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """List the removed rows, count tokens, write the card and, last, the manifest.

    Gives the manifest; its existence means complete. `revisions`: {source: hub revision}.
    """
    with _disk_errors(folder):
        rows.check_unchanged()
        tests_hash = hash_path(tests)
        known = load_tests(tests, tests_hash)
        _write_removed(folder / "removed.parquet", rows, found, known)
        train = [folder / shard["file"] for shard in shards if shard["split"] == "train"]
        facts = {
            "kit": "bimedix-kit",
            "mode": mode,
            "seed": settings.seed,
            "settings": asdict(settings),
            "rules": manifest.RULE_FACTS,
            "inputs": manifest.input_facts(inputs, rows, run_map),
            "excluded": dict(sorted(rows.excluded.items())),
            "tests": manifest.facts_of_tests(known),
            "tests_sha256": tests_hash,
            "candidates": len(rows),
            "counts": found.counts(),
            "removed": manifest.removals(rows, found),
            "stock_phrases": {known.ids[test]: n for test, n in sorted(found.stock.items())},
            "composition": [{**cell._asdict(), "missing": cell.missing} for cell in found.cells],
            "paper": manifest.paper_rows(composition),
            "sources": manifest.kept_sources(rows, found, revisions or {}),
            "keys": manifest.answer_keys(rows, found),
            "splits": {
                split: sum(shard["rows"] for shard in shards if shard["split"] == split)
                for split in SHARD_SPLITS
            },
            "shards": shards,
            "tokens": count_tokens(train, folder / ".tokens", run_map, settings.max_tokens),
        }
        write_text(folder / "README.md", [mix_card(facts)])
        write_json(folder / "manifest.json", facts)
        return facts


def _write_removed(path: Path, rows: Candidates, found: Selection, tests: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in REMOVED_COLUMNS])
    with atomic_file(path, "wb") as sink:
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for batch in removed_rows(rows, found, tests):
                writer.write_batch(batch)


def build_mix(
    inputs: list[Input | Path],
    tests: Path,
    folder: Path,
    settings: MixSettings = MixSettings(),
    workers: int = 1,
    backend: str = "processes",
    composition: Path = COMPOSITION,
    mode: str = "custom",
    revisions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """From files of records to shards, card and manifest in `folder`; gives the manifest.

    Run again, it does what is missing.
    """
    sources = [source if isinstance(source, Input) else Input(source) for source in inputs]
    run_map = parallel_map(workers, backend)
    (folder / "manifest.json").unlink(missing_ok=True)
    rows = scan_inputs(sources, tests, folder / ".work", settings, run_map)
    found = select_rows(rows, settings, run_map, composition)
    shards = write_shards(rows, found, folder, settings, run_map)
    more = (settings, run_map, composition, mode, revisions)
    return finish_mix(rows, found, shards, sources, tests, folder, *more)


def plant_tests(
    tests: Path, work: Path, settings: MixSettings, run_map: Map = map
) -> list[tuple[str, str, int, int]]:
    """(test set, language, planted, found) when every test row is planted among training rows.

    The copies have other ids; a filter that works finds all of them. Empty without a test row.
    """
    planted = work / "planted.jsonl"
    rows = (
        row.replace(id=f"planted:{row.id}", parent_id=None, split="train", status="ok")
        for row in iter_jsonl(tests)
    )
    work.mkdir(parents=True, exist_ok=True)
    write_jsonl(planted, rows)
    if not planted.stat().st_size:
        return []
    candidates = scan_inputs([Input(planted)], tests, work, settings, run_map)
    found = select_rows(candidates, settings, run_map)
    table = manifest.contaminated_by_source(candidates, found)
    return [(source, lang, *counts) for (source, lang), counts in table.items()]
