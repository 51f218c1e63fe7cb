"""What the checks find: damage made by a mutator that knows none of their lists, harmless variants,
and the published damaged rows.
"""

import re
from collections import Counter, defaultdict

import pytest
from benchmarks import checks as bench
from support import mutator

from bimedix_utils.core.language import load_language
from bimedix_utils.core.studies import STUDIES, read_study
from bimedix_utils.translation import adequacy, run_checks, text_pair

pytestmark = pytest.mark.unit
MOST = {
    True: 170,
    False: 30,
}  # cases of a kind that must be found, and of another: the whole benchmark is `make bench-checks`


@pytest.fixture(scope="module")
def cases():
    """Cases of every kind, in the benchmark's order."""
    kept = defaultdict(list)
    for case in mutator.benchmark(0):
        if len(kept[case[1]]) < MOST[case[1] in bench.REQUIRED_KINDS]:
            kept[case[1]].append(case)
    return kept


def stopped(source, values):
    texts = text_pair(source, values, bench.ARABIC)
    return [
        flag
        for flag in run_checks(texts.source, texts.candidate, bench.ARABIC, texts.names)
        if flag.stops
    ]


@pytest.mark.parametrize(
    "kind", [kind for kind in bench.REQUIRED_KINDS if kind != "duplicated_from_neighbour"]
)
def test_dangerous_damage_is_stopped(kind, cases):
    found = [bool(stopped(english, damage.values)) for _, _, english, damage in cases[kind]]
    assert len(found) >= 20 and sum(found) >= 0.95 * len(found)


def test_a_neighbours_translation_is_found_among_the_others(cases):
    pairs, some = mutator.gold_pairs(), cases["duplicated_from_neighbour"][:40]
    told = bench.inadequate([(english, damage.values) for _, _, english, damage in some])
    found = [
        bool(bench.found(row_id, english, damage.values, pairs) or more)
        for (row_id, _, english, damage), more in zip(some, told, strict=True)
    ]
    assert sum(found) >= 0.95 * len(found)


def test_rejecting_rules_leave_gold_and_harmless_variants_alone(cases):
    good = [(english, gold) for _, english, gold in mutator.gold_pairs()]
    good += [
        (english, damage.values)
        for kind in mutator.HARMLESS
        for _, _, english, damage in cases[kind]
    ]
    rejected = [
        flag.reason
        for english, values in good
        for flag in stopped(english, values)
        if flag.severity == "reject"
    ]
    assert len(good) >= 500 and len(rejected) <= 0.02 * len(good), rejected


def test_a_third_of_the_drug_and_negation_damage_uses_words_in_neither_list(cases):
    """Otherwise the benchmark would ask the checks for their own lists back."""
    listed = (
        load_language("en").pattern("negation.not").pattern
        + load_language("en").pattern("negation.lack").pattern
    )
    plain = set(re.findall(r"[a-z]{2,}", listed)) & {
        "not",
        "no",
        "never",
        "without",
        "neither",
        "nor",
        "cannot",
        "none",
        "nothing",
        "except",
    }
    negation = [
        damage.words[0].casefold()
        for kind in ("negation_dropped", "except_dropped")
        for *_, damage in cases[kind]
    ]
    drugs = [damage.words[0].casefold() for *_, damage in cases["drug_replaced"]]
    assert len(plain) >= 9 and sum(word not in plain for word in negation) >= len(negation) / 3
    assert sum(word not in bench.ARABIC.drugs for word in drugs) >= len(drugs) / 3


def test_the_study_is_of_todays_checks_and_counts_right():
    """The committed table names each check that ever stopped something; its manifest holds the
    shares the notebook's text speaks of.
    """
    rows = read_study(STUDIES, "checks")
    assert len(rows) >= 14 and all(
        int(row["of_these_stopped"]) <= int(row["of_these"]) for row in rows
    )
    known = {
        "part_count",
        "numbers",
        "units",
        "frequency",
        "negation",
        "exception",
        "side",
        "drug",
        "untranslated",
        "script",
        "characters",
        "preamble",
        "prompt_overlap",
        "markup",
        "length",
        "truncation",
        "repetition",
        "repeated_target",
        "adequacy",
        "order",
        "roles",
    }
    assert {row["check"] for row in rows} <= known
    wrong = Counter({row["check"]: int(row["good_stopped"]) for row in rows})
    assert wrong.total() <= 0.02 * sum(int(row["damaged_stopped"]) for row in rows)


# Published rows


def test_every_replaced_question_of_the_published_arabic_rows_is_found(raw_dir):
    found = bench.replaced(raw_dir)
    assert found["replaced_rows"] == 45 and found["replaced_recall"] == 1.0
    assert found["replaced_false_alarm"] <= 0.05 and found["published_rejected_by_rules"] <= 0.05


def test_the_reason_of_a_replaced_question_is_in_words(raw_dir):
    pairs = bench.published(raw_dir)[0][:300]
    flags, _ = adequacy(pairs)
    assert flags and all("similarity " in flag.reason for found in flags.values() for flag in found)
