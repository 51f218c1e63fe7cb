"""The nine benchmark tasks as data: name, the paper's column, sizes, and a hash of every sample."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..core.records import Record
from ..core.text import digest

# Raise it when scoring changes unseen by a hash. Prompt, letters, examples and rows are hashed:
# `evaluation.forms.version`, `Task.hash`.
VERSION = 2
# name -> (column of the paper's tables, items of the full test set; sources:
# data/paper/benchmark_sizes.csv)
NINE = {
    "mmlu_clinical_knowledge": ("CKG", 265),
    "mmlu_college_biology": ("CBio", 144),
    "mmlu_college_medicine": ("CMed", 173),
    "mmlu_medical_genetics": ("MedGen", 100),
    "mmlu_professional_medicine": ("ProMed", 272),
    "mmlu_anatomy": ("Ana", 135),
    "medmcqa": ("MedMCQA", 4183),
    "medqa": ("MedQA", 1273),
    "pubmedqa": ("PubMedQA", 500),
}
# MedMCQA's test labels are not public: the paper, like everyone, scores its validation split.
SPLITS = {name: ("validation",) if name == "medmcqa" else ("test",) for name in NINE}


@dataclass(frozen=True)
class Task:
    """One task in one language. `hash` changes when any sample does."""

    name: str
    lang: str
    records: tuple[Record, ...]
    revision: str = "not found"  # of the source, where the hub's lock file knows it

    @property
    def split(self) -> str:
        """The source's split that is scored."""
        return SPLITS.get(self.name, ("test",))[0]

    @property
    def column(self) -> str:
        """The paper's name for the task."""
        return NINE[self.name][0]

    @property
    def majority(self) -> float:
        """The share of the commonest key: what always giving the same answer would score."""
        keys = [record.answer_index for record in self.records]
        return max(map(keys.count, keys)) / len(keys)

    @property
    def hash(self) -> str:
        """Hash of all samples, in their order."""
        return digest([self.name, self.lang, [record.content_hash() for record in self.records]])


def group(
    records: Iterable[Record],
    rows: int | None = None,
    seed: int = 0,
    revisions: Mapping[str, str] | None = None,
) -> dict[tuple[str, str], Task]:
    """{(task, language): Task} of the test rows among `records`; at most `rows` of each, drawn by a
    seeded hash of the item's id.

    Drawn, not the first ones: PubMedQA's owner sorts its test items by answer, so its first 200 are
    all "yes". A translation is drawn together with its original. `revisions` are those of the
    sources, where known.
    """
    table: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if (
            record.kind == "mcqa"
            and record.source in NINE
            and record.split in SPLITS[record.source]
        ):
            table.setdefault((record.source, record.lang), []).append(record)
    languages = sorted({lang for _, lang in table}, key=lambda lang: (lang != "en", lang))
    ordered = [(name, lang) for name in NINE for lang in languages if (name, lang) in table]
    drawn = {
        place: sorted(table[place], key=lambda r: digest(f"{seed}:{r.parent_id or r.id}"))[:rows]
        for place in ordered
    }
    return {
        place: Task(*place, tuple(drawn[place]), (revisions or {}).get(place[0], "not found"))
        for place in ordered
    }
