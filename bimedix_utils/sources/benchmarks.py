"""Benchmarks as data: `data/catalogue/benchmarks.yaml`, and a user's own beside their data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..core.errors import InputError
from ..core.files import write_json
from ..core.records import Record
from ..core.statistics import seeded_sample
from ..core.text import digest
from .data_files import CATALOGUE_FOLDER, StrictModel, read_yaml
from .layouts import SourceEntry

OWN_BENCHMARKS = "benchmarks.yaml"  # a user's own entries, beside the data
# Raise it when scoring changes unseen by a hash: prompt, letters, examples and rows are hashed.
TASK_VERSION = 2


class Benchmark(StrictModel):
    """One benchmark; its name is the `source` of its rows."""

    column: str = Field(min_length=1)  # the heading in a table of scores
    items: int | Literal["not found"]  # of the full test set
    split: Literal["validation", "test"]  # the part that is scored
    labels: str  # how its options are labelled, such as A-D
    nine: bool = False  # one of the paper's nine
    read: SourceEntry | None = None  # how its files are read, where no source does that
    evidence: str = "not found"  # where column and items are stated


class _Benchmarks(StrictModel):
    benchmarks: dict[str, Benchmark]


@cache
def _kit_benchmarks() -> dict[str, Benchmark]:
    return read_yaml(CATALOGUE_FOLDER / OWN_BENCHMARKS, _Benchmarks).benchmarks


def load_benchmarks(folder: Path | None = None) -> dict[str, Benchmark]:
    """{name: benchmark}: the kit's, then those of a `benchmarks.yaml` in the folder, if any.

    Raises `InputError` for an own benchmark with a name or column of the kit's, or that claims to
    be one of the paper's nine.
    """
    kit = _kit_benchmarks()
    path = folder and folder / OWN_BENCHMARKS
    if not path or not path.is_file():
        return dict(kit)
    own = read_yaml(path, _Benchmarks).benchmarks
    new = {name: benchmark for name, benchmark in own.items() if kit.get(name) != benchmark}
    columns = {benchmark.column for benchmark in kit.values()}
    for name, benchmark in new.items():
        if name in kit or benchmark.column in columns:
            raise InputError(f"{path.name}: {name}: the kit has a benchmark of this name or column")
        if benchmark.nine:
            raise InputError(f"{path.name}: {name}: nine is true for the paper's benchmarks only")
    return kit | new


def write_benchmarks(path: Path, benchmarks: Mapping[str, Benchmark]) -> None:
    """Write benchmarks in a form that `load_benchmarks` reads, for the stages after notebook 01."""
    rows = {
        name: one.model_dump(mode="json", exclude_defaults=True) for name, one in benchmarks.items()
    }
    write_json(path, {"benchmarks": rows})


def nine_benchmarks() -> dict[str, Benchmark]:
    """The paper's nine, in the order of its tables."""
    return {name: benchmark for name, benchmark in _kit_benchmarks().items() if benchmark.nine}


@dataclass(frozen=True)
class Task:
    """One task in one language. `hash` changes when any sample does."""

    name: str
    lang: str
    records: tuple[Record, ...]
    revision: str = "not found"  # of the source, where the hub's lock file knows it
    benchmark: Benchmark | None = None  # by default the kit's of this name

    @property
    def _known(self) -> Benchmark | None:
        return self.benchmark or _kit_benchmarks().get(self.name)

    @property
    def split(self) -> str:
        """The source's split that is scored."""
        return self._known.split if self._known else "test"

    @property
    def column(self) -> str:
        """The heading of the task in a table of scores."""
        return self._known.column if self._known else self.name

    @property
    def majority(self) -> float:
        """The share of the commonest key: what always giving the same answer would score."""
        keys = [record.answer_index for record in self.records]
        return max(map(keys.count, keys)) / len(keys)

    @property
    def hash(self) -> str:
        """Hash of all samples, in their order."""
        return digest([self.name, self.lang, [record.content_hash() for record in self.records]])


def group_tasks(
    records: Iterable[Record],
    rows: int | None = None,
    seed: int = 0,
    revisions: Mapping[str, str] | None = None,
    benchmarks: Mapping[str, Benchmark] | None = None,
) -> dict[tuple[str, str], Task]:
    """{(task, language): Task} of the rows that `benchmarks` (by default the kit's) score; at most
    `rows` of each, drawn by a seeded hash of the item's id.

    Drawn, not the first ones: PubMedQA's owner sorts its test items by answer, so its first 200 are
    all "yes". A translation is drawn together with its original. `revisions` are those of the
    sources, where known.
    """
    known = _kit_benchmarks() if benchmarks is None else benchmarks
    table: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        benchmark = known.get(record.source)
        if record.kind == "mcqa" and benchmark and record.split == benchmark.split:
            table.setdefault((record.source, record.lang), []).append(record)
    languages = sorted({lang for _, lang in table}, key=lambda lang: (lang != "en", lang))
    tasks = {}
    for name, lang in ((name, lang) for name in known for lang in languages):
        if (name, lang) in table:
            # A translation has its original's key, so that both are drawn together.
            drawn = seeded_sample(
                table[name, lang], rows, str(seed), lambda row: row.parent_id or row.id
            )
            revision = (revisions or {}).get(name, "not found")
            tasks[name, lang] = Task(name, lang, tuple(drawn), revision, known[name])
    return tasks
