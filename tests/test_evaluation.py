"""Statistics against known values, the paper's tables against their own cells, comparison with the
paper.
"""

import math
from pathlib import Path

import pytest

from bimedix_utils.core import display, statistics
from bimedix_utils.core.records import Record
from bimedix_utils.evaluation import compare, paper
from bimedix_utils.evaluation.damage import Damage
from bimedix_utils.evaluation.prompt_format import PromptFormat
from bimedix_utils.evaluation.scoring import Sample
from bimedix_utils.sources import benchmarks
from bimedix_utils.sources.benchmarks import Benchmark

pytestmark = pytest.mark.unit
PAPER = Path(__file__).resolve().parents[1] / "data" / "paper"


def test_wilson_against_published_values():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert statistics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert statistics.wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_counts_only_disagreements():
    first, second = [True] * 50 + [False] * 10 + [True] * 2, [True] * 50 + [True] * 10 + [False] * 2
    assert statistics.mcnemar(first, second) == pytest.approx(
        2 * sum(math.comb(12, k) for k in range(3)) / 2**12
    )
    assert statistics.mcnemar(first, first) == 1.0


def test_paired_bootstrap_is_seeded_and_refuses_other_items():
    first, second = [False] * 60 + [True] * 40, [True] * 30 + [False] * 30 + [True] * 40
    change, low, high = statistics.paired_bootstrap(first, second, 1)
    assert change == pytest.approx(0.3) and 0.2 < low < change < high < 0.4
    assert statistics.paired_bootstrap(first, second, 1) == (change, low, high)
    with pytest.raises(ValueError, match="same items"):
        statistics.paired_bootstrap(first, second[:-1], 1)


def test_the_misprinted_mean_is_the_only_one():
    wrong = paper.misprinted_means(paper.read_paper_tables(PAPER))
    assert [row[:2] for row in wrong] == [["ar", "BiMediX (Bilingual)"]]
    row = next(r for r in paper.read_paper_table(PAPER, "ar") if r.model == "BiMediX (Bilingual)")
    assert row.printed_mean == 56.5 and round(row.mean, 2) == 57.34


def test_cells_that_no_count_gives_are_found():
    odd = paper.impossible_cells(paper.read_paper_table(PAPER, "en"))
    assert ("Meditron-70B", "MedGen", 77.8) in odd
    assert paper.impossible_cells(paper.read_paper_table(PAPER, "ar")) == []


def task_rows(
    n: int, name: str = "mmlu_anatomy", split: str = "test", lang: str = "en"
) -> list[Record]:
    common = {
        "kind": "mcqa",
        "source": name,
        "licence": "x",
        "split": split,
        "options": ("a", "b", "c", "d"),
        "answer_index": 1,
    }
    return [
        Record(id=f"{name}:{i}:{lang}", lang=lang, question=f"q{i}", **common) for i in range(n)
    ]


def test_tasks_take_their_own_split_and_hash_every_sample():
    rows = task_rows(5) + task_rows(3, "medmcqa", "validation") + task_rows(2, "medmcqa", "train")
    table = benchmarks.group_tasks(rows)
    assert {place: len(task.records) for place, task in table.items()} == {
        ("mmlu_anatomy", "en"): 5,
        ("medmcqa", "en"): 3,
    }
    changed = [rows[0].replace(options=("a", "b", "d", "c")), *rows[1:]]
    assert (
        benchmarks.group_tasks(changed)["mmlu_anatomy", "en"].hash
        != table["mmlu_anatomy", "en"].hash
    )
    assert len(benchmarks.group_tasks(rows, 2)["mmlu_anatomy", "en"].records) == 2


def test_rows_are_drawn_not_the_first_and_translations_with_their_originals():
    """PubMedQA's owner sorts its test items by answer: the first 200 of the official 500 are all
    "yes".
    """
    sorted_rows = [r.replace(answer_index=0 if i < 50 else 1) for i, r in enumerate(task_rows(100))]
    arabic = [r.replace(id=f"{r.id}:ar", lang="ar", parent_id=r.id) for r in sorted_rows]
    table = benchmarks.group_tasks(sorted_rows + arabic, 40, seed=1)
    english = table["mmlu_anatomy", "en"]
    assert 0.5 <= english.majority < 0.8
    assert [r.parent_id for r in table["mmlu_anatomy", "ar"].records] == [
        r.id for r in english.records
    ]
    assert (
        benchmarks.group_tasks(sorted_rows[::-1], 40, seed=1)["mmlu_anatomy", "en"].hash
        == english.hash
    )


def test_a_model_that_always_says_a_scores_what_the_keys_give():
    always_a = [
        Sample(f"i{i}", "en", "h", i % 4, (0.0, -1.0, -1.0, -1.0), (1, 1, 1, 1)) for i in range(100)
    ]
    assert compare.count_correct(always_a) == (25, 100)
    flat = Sample("t", "en", "h", 0, (-1.0, -1.0), (1, 2))
    assert flat.choice == 0 and flat.normalised_choice == 1
    assert compare.count_correct([flat]) == (1, 1) and compare.count_correct(
        [flat], normalised=True
    ) == (0, 1)


def test_missing_tasks_are_not_run_rather_than_numbers():
    table, form = benchmarks.group_tasks(task_rows(4)), PromptFormat("label")
    reference = {lang: paper.read_paper_table(PAPER, lang)[-1] for lang in ("en", "ar", "both")}
    scores = {("m", "label", "mmlu_anatomy", "en"): (3, 4)}
    rows, columns = compare.compare_with_paper(scores, "m", table, reference, form, "toy", False)
    by_place = {row[:2]: row for row in rows}
    assert len(rows) == 27 and all(len(row) == len(columns) for row in rows)
    assert by_place["en", "Ana"][3:6] == ("75.0", "other rows", "4")
    assert (
        by_place["ar", "Ana"][3]
        == by_place["both", "Ana"][3]
        == by_place["en", "CKG"][3]
        == "not run in this mode"
    )
    published = {
        row[:2]: row
        for row in compare.compare_with_paper(scores, "m", table, reference, form, "", True)[0]
    }
    assert float(published["en", "Ana"][4]) == pytest.approx(
        75.0 - reference["en"].cells["Ana"], abs=0.05
    )


def test_the_english_row_implied_by_the_bilingual_one():
    rows = {
        lang: next(
            r for r in paper.read_paper_table(PAPER, lang) if r.model == "BiMediX (Bilingual)"
        )
        for lang in ("ar", "both")
    }
    implied = paper.implied_english(rows["ar"], rows["both"])
    assert all(
        abs((implied.cells[c] + rows["ar"].cells[c]) / 2 - rows["both"].cells[c]) < 0.051
        for c in implied.cells
    )


def test_html_is_escaped_and_arabic_marked_right_to_left():
    shown = display.show_table([("<script>alert(1)</script>", "الجرعة (500 mg)")], ["a", "b"])
    page = shown._repr_html_()
    assert "<script>" not in page and 'dir="rtl" lang="ar"' in page and "\u2066500 mg\u2069" in page
    assert "\u2066" not in repr(shown)


def test_committed_paper_tables_parse_with_all_nine_columns():
    for lang in ("en", "ar", "both"):
        for row in paper.read_paper_table(PAPER, lang):
            assert (
                set(row.cells) == {one.column for one in benchmarks.nine_benchmarks().values()}
                and 0 < row.mean < 100
            )


def test_a_tenth_benchmark_stands_beside_the_nine_and_never_in_their_average():
    """The average of "the nine" took whatever tasks there were."""
    own = Benchmark(column="Own", items=2, split="test", labels="A-D")
    known = benchmarks.load_benchmarks() | {"own": own}
    table = benchmarks.group_tasks(task_rows(4) + task_rows(2, "own"), benchmarks=known)

    def samples(n, right):
        ranked = [(0.0, -1.0) if i < right else (-1.0, 0.0) for i in range(n)]
        return [Sample(f"{i}", "en", "h", 0, values, (1, 1)) for i, values in enumerate(ranked)]

    found = {
        ("m", "label", "mmlu_anatomy", "en"): samples(4, 1),
        ("m", "label", "own", "en"): samples(2, 2),
    }
    damaged = {("mmlu_anatomy", "en"): Damage({"3": "numbers: a number changed"})}
    rows, columns = compare.average_table(found, table, ["m"], damaged)
    shown = {row[columns.index("tasks")]: row[4:6] + row[7:] for row in rows}
    assert shown == {
        "the nine, plain mean": (4, "0.250", 3, "0.333"),
        "own": (2, "1.000", 2, "1.000"),
    }


def test_all_items_pooled_are_told_apart_from_chance_by_their_own_number_of_options():
    table = benchmarks.group_tasks(task_rows(40))
    for right, words in ((30, "above chance"), (1, "below chance"), (10, "not told apart")):
        scores = {("m", "label", "mmlu_anatomy", "en"): (right, 40)}
        ((name, lang, category),), _ = compare.chance_table(scores, ["m"], table)
        assert (name, lang) == ("m", "en") and category.startswith(words)
    assert compare.chance_table({}, ["m"], table)[0] == [("m", "en", "not run in this mode")]
    assert compare.score_intervals(
        {("m", "label", "mmlu_anatomy", "en"): (0, 20)}, ["m"], "label", [("mmlu_anatomy", "en")]
    ) == [("m · mmlu_anatomy · en", 0.0, 0.0, pytest.approx(0.1611, abs=5e-5))]
