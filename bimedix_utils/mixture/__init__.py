"""BiMed: the bilingual instruction set at a stated Arabic:English ratio, without duplicates or test
questions, at any size.

`build` is the whole; its steps `look`, `choose`, `write`, `finish` are what notebook 05 shows one
by one. Each may be killed and run again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ..core.files import write_json, write_text
from ..core.provenance import hash_path, resolve_path
from . import compose, decide, manifest, scan, shards, tokens
from .card import card
from .compose import COMPONENTS, Cell, paper_targets
from .decide import REMOVED, STATUSES, Decision, Rows
from .manifest import caught, counts
from .scan import TASKS, Input, family, load_tests, task_of
from .shards import read
from .tokens import tokens_of
from .work import BACKENDS, Map, mapper, writing


@dataclass(frozen=True)
class Settings:
    """What a mix depends on besides its inputs.

    `similarity`: Jaccard over runs of five words; `tolerance`: relative to the ratio; `token_rows`:
    rows whose tokens are counted, 0 for all (exact, resumable, slow); `purpose` "publish" holds
    back every row whose licence is not known to allow redistribution.
    """

    seed: int = 42
    arabic: int = 1
    english: int = 2
    tolerance: float = 0.02
    composition: Literal["ratio", "paper"] = "ratio"
    similarity: float = 0.8
    shard_rows: int = 20_000
    validation_share: float = 0.01
    token_rows: int = 20_000
    max_tokens: int = 2_048
    damaged_input: Literal["stop", "skip"] = "stop"
    purpose: Literal["research", "publish"] = "research"


def look(
    inputs: list[Input], tests: Path, work: Path, settings: Settings, run_map: Map = map
) -> Rows:
    """Read every candidate once; what decides its fate is kept in `work`.

    Raises `InputError` naming the damaged inputs, unless `settings` says to leave them out.
    """
    with writing(work):
        parts = scan.scan(inputs, tests, work / "features", settings.seed, run_map)
    return decide.load(parts, skip_damaged=settings.damaged_input == "skip")


def choose(rows: Rows, settings: Settings, composition: Path, run_map: Map = map) -> Decision:
    """One status for each row; `composition` is the paper's table, the target when
    `settings.composition` is "paper".
    """

    rows.unchanged()

    def by_rule(available: Mapping[tuple[str, str], int]) -> list[Cell]:
        if settings.composition == "paper":
            return compose.by_target(available, paper_targets(composition))
        return compose.by_ratio(available, settings.arabic, settings.english, settings.tolerance)

    return decide.decide(rows, settings.similarity, by_rule, settings.purpose == "publish", run_map)


def write(
    rows: Rows, found: Decision, folder: Path, settings: Settings, run_map: Map = map
) -> list[dict[str, Any]]:
    """The Parquet shards of both splits; see `shards.write`."""
    rows.unchanged()
    with writing(folder):
        return shards.write(
            rows, found, folder, settings.validation_share, settings.shard_rows, run_map
        )


def finish(
    rows: Rows, found: Decision, written: list[dict[str, Any]], inputs: list[Input], tests: Path, folder: Path, composition: Path,
    settings: Settings, mode: str, revisions: Mapping[str, str], run_map: Map = map,
) -> dict[str, Any]:  # fmt: skip
    """Count tokens, list the removed rows, write the card and, last, the manifest, which is
    returned. Its existence means complete.
    """
    with writing(folder):
        rows.unchanged()
        tests_hash = hash_path(tests)
        known = load_tests(tests, tests_hash)
        manifest.write_removed(
            folder / "removed.parquet",
            decide.removed(rows, found, known),
            pa.schema([(name, pa.string()) for name in REMOVED]),
        )
        train = [folder / shard["file"] for shard in written if shard["split"] == "train"]
        counted = (
            tokens.sample(
                train,
                settings.token_rows,
                settings.seed,
                run_map=run_map,
                max_tokens=settings.max_tokens,
            )
            if settings.token_rows
            else tokens.exact(
                train, folder / ".tokens", run_map=run_map, max_tokens=settings.max_tokens
            )
        )
        facts = {
            "kit": "bimedix-kit",
            "mode": mode,
            "seed": settings.seed,
            "settings": manifest.described(asdict(settings)),
            "inputs": manifest.inputs_of(inputs, rows, run_map),
            "set_aside": dict(sorted(rows.aside.items())),
            "tests": manifest.tests_of(known),
            "tests_sha256": tests_hash,
            "candidates": len(rows),
            "counts": manifest.counts(rows, found),
            "removed": manifest.removals(rows, found),
            "stock_phrases": {known.ids[test]: n for test, n in sorted(found.stock.items())},
            "composition": [{**cell._asdict(), "missing": cell.missing} for cell in found.cells],
            "paper": manifest.paper_rows(composition),
            "sources": manifest.sources(rows, found, dict(revisions)),
            "keys": manifest.keys(rows, found),
            "splits": {
                split: sum(s["rows"] for s in written if s["split"] == split)
                for split in shards.SPLITS
            },
            "shards": written,
            "tokens": counted.as_json(),
        }
        write_text(folder / "README.md", [card(facts)])
        write_json(folder / "manifest.json", facts)
        return facts


def build(
    inputs: list[Input | Path], tests: Path, folder: Path, settings: Settings = Settings(), workers: int = 1, backend: str = "processes",
    composition: Path | None = None, mode: str = "custom", revisions: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """From files of records to shards, card and manifest in `folder`; returns the manifest. Run
    again, it does what is missing.

    `tests`: JSON Lines of the test rows. `composition`: the paper's table, by default the one in
    data/paper.
    """
    composition = composition or resolve_path("data/paper/composition.csv")
    sources = [source if isinstance(source, Input) else Input(source) for source in inputs]
    run_map = mapper(workers, backend)
    (folder / "manifest.json").unlink(missing_ok=True)
    rows = look(sources, tests, folder / ".work", settings, run_map)
    found = choose(rows, settings, composition, run_map)
    written = write(rows, found, folder, settings, run_map)
    return finish(
        rows,
        found,
        written,
        sources,
        tests,
        folder,
        composition,
        settings,
        mode,
        revisions or {},
        run_map,
    )
