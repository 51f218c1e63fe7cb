"""The paper's composition table: one reader, plain counts only, planned beside present."""

import csv
from pathlib import Path

import pytest

from bimedix_utils import sources
from bimedix_utils.sources.catalogue import COMPONENTS
from bimedix_utils.sources.composition import paper_component

pytestmark = pytest.mark.unit
PAPER = Path(__file__).resolve().parents[1] / "data" / "paper"


def counts_of_the_table() -> dict[str, int]:
    return {part.component: part.rows for part in sources.paper_composition() if part.rows}


@pytest.fixture(scope="module")
def printed() -> list[dict[str, str]]:
    with open(PAPER / "composition.csv", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_composition_holds_every_plain_count_and_nothing_else(printed):
    counts = counts_of_the_table()
    plain = {row["component"]: row["samples"] for row in printed if row["samples"].isdigit()}
    assert {name: str(number) for name, number in counts.items()} == plain
    assert counts["Multi-turn conversation"] == 133134 and counts["MedMCQA (Ara)"] == 97523


@pytest.mark.parametrize("words", ["~1.311M", "249.7k (arXiv) / 200k (EMNLP)", "632.3M", "1:2"])
def test_a_rough_figure_is_never_taken_for_a_count(words, printed):
    (component,) = [row["component"] for row in printed if row["samples"] == words]
    assert component not in counts_of_the_table()


def test_the_compositions_parts_add_up_to_its_sums(printed):
    counts = counts_of_the_table()
    text = [
        row
        for row in printed
        if row["status"] == "stated"
        and row["task"] in ("MCQA", "QA", "Chat")
        and row["component"] in counts
    ]
    sums = {
        lang: sum(counts[row["component"]] for row in text if row["lang"] == lang)
        for lang in ("EN", "AR")
    }
    assert sums == {"EN": counts["EN text subtotal"], "AR": counts["AR text subtotal"]}
    assert (
        counts["multi-turn EN+AR in BiMed-V"]
        == counts["Multi-turn conversation"] + counts["Multi-turn conversation (Ara)"]
    )
    stated = sum(
        counts[row["component"]]
        for row in printed
        if row["status"] == "stated" and row["component"] in counts
    )
    assert stated == 2 * counts["BiMed-V total"]  # all parts and their total


def test_components_are_named_once(printed):
    names = [row["component"] for row in printed]
    assert len(names) == len(set(names))


def test_the_plan_is_the_papers_table():
    plan = sources.planned_parts()
    assert [(p.name, p.lang) for p in plan] == [
        (name, lang) for name in COMPONENTS for lang in ("en", "ar")
    ]
    assert (
        sum(p.rows for p in plan if p.lang == "en") == 666_585
        and sum(p.rows for p in plan if p.lang == "ar") == 444_995
    )
    assert {p.status for p in plan} == {"stated"}


def test_planned_present_and_missing_stand_side_by_side():
    compared = {
        row[:2]: row[2:]
        for row in sources.planned_and_present({("MedQA", "en"): 10_178, ("MedQA", "ar"): 99_999})
    }
    assert compared["MedQA", "en"] == (20_691, 10_178, 10_513)
    assert compared["MedQA", "ar"] == (11_210, 99_999, 0)  # more than planned: nothing is missing
    assert compared["PubMedQA", "en"] == (210_169, 0, 210_169)


@pytest.mark.parametrize(
    ("source", "kind", "part"),
    [
        ("pubmedqa", "mcqa", "PubMedQA"),
        ("medmcqa", "mcqa", "MedMCQA"),
        ("chat", "chat", "Multi-turn conversation"),
        ("icliniq", "qa", "Single-turn QA"),
        ("open_qa", "qa", "Single-turn QA"),
        ("bimed_v", "chat", "Multi-turn conversation"),
        ("dialogue", "chat", None),
        ("mmlu_anatomy", "mcqa", None),
        ("medquad", "qa", None),
        ("knowledge_x", "qa", None),
    ],
)
def test_a_row_counts_for_the_papers_part_it_belongs_to(source: str, kind: str, part: str | None):
    assert paper_component(source, kind) == part
