"""The maker of damage: every kind finds enough positions, damages what its name says and nothing
else, and repeats itself.
"""

import copy
import random
import re
from collections import Counter, defaultdict
from functools import cache

import pytest
from support import mutator, mutator_words

pytestmark = pytest.mark.unit
# The kinds that matter most must be measured on at least 25 rows, every other on at least 10.
MANY = (
    "dose_x10",
    "unit_swapped",
    "unit_dropped",
    "number_changed",
    "option_lost",
    "negation_dropped",
    "negation_added",
    "except_dropped",
    "laterality_swapped",
    "drug_replaced",
    "half_untranslated",
    "untranslated_copy",
    "duplicated_from_neighbour",
    "truncated",
    "preamble_added",
)
ALL = (*mutator.KINDS, *mutator.HARMLESS)
# What anyone who writes a list would write first.
COMMON_DRUGS = (
    "hydroxyzine hydralazine prednisone prednisolone vinblastine vincristine metformin"
    " metronidazole clonidine clonazepam lamotrigine chlorpromazine insulin heparin warfarin"
    " aspirin paracetamol ibuprofen morphine epinephrine"
).split()
COMMON_NEGATIONS = (
    r"(?:^|\s)[وف]?(?:لا|لم|لن|ليست?|غير|بدون|دون|عدم|بلا|[يت]نفي|ما عدا|باستثناء|سلبية?)(?:\s|$)"
)
SIGNS = str.maketrans("٠١٢٣٤٥٦٧٨٩٫٬", "0123456789.,")


@cache
def golds() -> dict[str, tuple[dict, dict]]:
    return {row_id: (source, gold) for row_id, source, gold in mutator.gold_pairs()}


@cache
def cases() -> dict[str, list[tuple[str, dict, mutator.Damage]]]:
    """The benchmark of seed 0 by kind: (row id, gold, damage)."""
    table = defaultdict(list)
    for row_id, kind, _, made in mutator.benchmark(0):
        table[kind].append((row_id, golds()[row_id][1], made))
    return table


def changed(gold: dict, damaged: dict) -> list[tuple[str, str]]:
    """(before, after) of each slot whose text differs; both must have the same slots."""
    slots_of = mutator.slots(gold)
    assert slots_of == mutator.slots(damaged)
    return [
        (mutator.get(gold, s), mutator.get(damaged, s))
        for s in slots_of
        if mutator.get(gold, s) != mutator.get(damaged, s)
    ]


def only(gold: dict, damaged: dict) -> tuple[str, str]:
    """(before, after) of the one slot that differs."""
    pairs = changed(gold, damaged)
    assert len(pairs) == 1
    return pairs[0]


def words_changed(before: str, after: str) -> tuple[str, str]:
    """What is left of two texts without their common beginning and end, in whole words."""
    old, new = before.split(" "), after.split(" ")
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return " ".join(old), " ".join(new)


def numbers(values: dict) -> list[str]:
    """Every number of a row in order: Arabic-Indic digits and signs folded, thousands signs taken
    away, number words as digits.
    """
    in_words = {
        word.replace("أ", "ا"): str(n)
        for row in (mutator_words.MASCULINE_WORDS, mutator_words.FEMININE_WORDS)
        for n, word in enumerate(row)
        if word
    }
    found = []
    for slot in mutator.slots(values):
        text = re.sub(r"[\u064b-\u0652]", "", mutator.get(values, slot).translate(SIGNS)).replace(
            "أ", "ا"
        )
        counted = "|".join(mutator_words.COUNTED).replace("أ", "ا")
        text = re.sub(
            rf"(?<!\w)({'|'.join(in_words)})(?= (?:{counted})(?!\w))",
            lambda m: in_words[m[1]],
            text,
        )
        found += re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))
    return found


# Enough of each


def test_every_kind_is_measured_on_enough_rows():
    counts = {kind: len(cases()[kind]) for kind in ALL}
    print(*(f"{kind}: {count}" for kind, count in counts.items()), sep="\n")
    assert {
        kind: count for kind, count in counts.items() if count < (25 if kind in MANY else 10)
    } == {}


def test_the_extra_pairs_are_sixty_or_more_with_places_that_match():
    extra = {row_id: pair for row_id, pair in golds().items() if row_id.startswith("extra:")}
    assert len(extra) >= 60
    for row_id, (source, gold) in extra.items():
        assert mutator.slots(source) == mutator.slots(gold), row_id
        for slot in mutator.slots(source):
            english, arabic = (
                sorted(re.findall(r"\d+(?:\.\d+)?", mutator.get(values, slot)))
                for values in (source, gold)
            )
            assert english == arabic, (row_id, slot)


def test_no_pair_stands_twice_and_every_gold_is_arabic():
    pairs = mutator.gold_pairs()
    assert (
        len({row_id for row_id, _, _ in pairs})
        == len(pairs)
        == len({mutator.get(g, mutator._main(g)) + str(g) for _, _, g in pairs})
    )
    assert all(
        re.search(r"[\u0621-\u064a]", mutator.get(gold, mutator._main(gold)))
        for _, _, gold in pairs
    )


def test_a_third_of_the_drugs_are_not_the_first_that_come_to_mind():
    used = [made.words[0] for _, _, made in cases()["drug_replaced"]]
    assert len(mutator_words.DRUGS) >= 60 and len(set(used)) >= 50
    assert sum(english not in COMMON_DRUGS for english in used) >= len(used) / 3


def test_a_third_of_the_negations_are_no_common_particle():
    # What stood there before a negation was lost, and what stands there after one was added.
    used = [
        made.words[1]
        for kind in ("negation_dropped", "except_dropped")
        for _, _, made in cases()[kind]
    ]
    used += [made.words[2] for _, _, made in cases()["negation_added"]]
    rare = [arabic for arabic in used if not re.search(COMMON_NEGATIONS, arabic)]
    assert len(rare) >= len(used) / 3 and len(set(rare)) >= 50


def test_a_drug_is_never_mistaken_for_a_spelling_of_its_own():
    for english, (spellings, other) in mutator_words.DRUGS.items():
        assert other not in spellings, english
        assert re.fullmatch(r"[\u0621-\u064a ]+", other), english


# Every kind


@pytest.mark.parametrize("kind", ALL)
def test_a_damage_differs_from_gold_and_carries_its_kind_and_severity(kind):
    for row_id, gold, made in cases()[kind]:
        assert made.values != gold, row_id
        assert made.kind == kind and made.note
        assert made.severity == mutator.KINDS.get(kind, "none")
        assert bool(made.words) == (
            kind in ("drug_replaced", "negation_dropped", "negation_added", "except_dropped")
        )


@pytest.mark.parametrize("kind", ALL)
def test_the_input_is_never_changed_and_nothing_is_shared_with_it(kind):
    for row_id, gold, _ in cases()[kind][:40]:
        source, neighbour = (
            golds()[row_id][0],
            next(g for i, (_, g) in golds().items() if i != row_id and set(g) == set(gold)),
        )
        before = copy.deepcopy((source, gold, neighbour))
        made = mutator.damage(kind, source, gold, random.Random(1), neighbour)
        assert (source, gold, neighbour) == before
        for key, value in (made.values if made else {}).items():
            if isinstance(value, list):
                value.append("more")
                assert (source, gold, neighbour) == before, key


def test_equal_seeds_give_equal_benchmarks_and_others_differ():
    first, again, other = (list(mutator.benchmark(seed)) for seed in (0, 0, 1))
    assert first == again
    assert sum(a != b for a, b in zip(first, other, strict=False)) > len(first) / 3


def test_a_case_depends_on_no_other_kind_or_row():
    row_id, gold, made = cases()["drug_replaced"][3]
    assert (
        mutator.damage(
            "drug_replaced", golds()[row_id][0], gold, random.Random(f"0:{row_id}:drug_replaced")
        )
        == made
    )


def test_an_unknown_kind_is_an_error():
    with pytest.raises(KeyError):
        mutator.damage("typo", {"question": "a"}, {"question": "ا"}, random.Random(0))


@pytest.mark.parametrize(
    "kind",
    [
        k
        for k in mutator.KINDS
        if k not in ("preamble_added", "prompt_leak", "markup_leak", "refusal_inserted", "mojibake")
    ],
)
def test_a_row_without_a_place_gives_none(kind):
    source, gold = {"question": "Define pain."}, {"question": "عرف الألم."}
    assert mutator.damage(kind, source, gold, random.Random(0)) is None


# Numbers


def test_a_dose_changes_by_ten_and_nothing_but_its_digits():
    for row_id, gold, made in cases()["dose_x10"]:
        before, after = only(gold, made.values)
        assert re.sub(r"[\d.,]", "", before) == re.sub(r"[\d.,]", "", after)
        old, new = (text.split()[0] for text in words_changed(before, after))
        assert float(new) / float(old) in (pytest.approx(10), pytest.approx(0.1)), row_id


def test_a_number_changes_in_its_digits_only_and_was_in_the_english():
    for row_id, gold, made in cases()["number_changed"]:
        before, after = only(gold, made.values)
        assert re.sub(r"\d", "", before) == re.sub(r"\d", "", after) and len(before) == len(
            after
        ), row_id
        assert numbers(gold) != numbers(made.values)
        assert re.search(r"number (\S+) became", made.note)[1] in str(golds()[row_id][0])


@pytest.mark.parametrize("number", ["45", "38.2", "1,200", "7", "0.04", "100"])
def test_another_number_has_as_many_digits_and_another_value(number):
    for seed in range(50):
        other = mutator._other_number(number, random.Random(seed))
        assert len(other) == len(number) and float(other.replace(",", "")) != float(
            number.replace(",", "")
        )
        assert number.startswith("0") or not other.startswith("0")


@pytest.mark.parametrize(
    "number, up, down",
    [
        ("500", "5000", "50"),
        ("0.5", "5", "0.05"),
        ("1,000", "10,000", "100"),
        ("2.4", "24", "0.24"),
    ],
)
def test_ten_times_and_a_tenth(number, up, down):
    assert (mutator._times(number, "10"), mutator._times(number, "0.1")) == (up, down)


def test_a_unit_is_swapped_or_dropped_and_every_number_stays():
    for kind in ("unit_swapped", "unit_dropped"):
        for row_id, gold, made in cases()[kind]:
            assert numbers(gold) == numbers(made.values), row_id
            before, after = only(gold, made.values)
            assert kind == "unit_swapped" or len(after) < len(before)


def test_units_are_swapped_in_both_writings():
    used = [made.note for _, _, made in cases()["unit_swapped"]]
    assert sum("ملغ" in note for note in used) >= 20 and any(
        "week became month" in note for note in used
    )
    source, gold = {"answer": "Give 5 mg of it."}, {"answer": "أعطه 5 mg منه."}
    assert {
        mutator.damage("unit_swapped", source, gold, random.Random(i)).values["answer"]
        for i in range(9)
    } == {"أعطه 5 mcg منه.", "أعطه 5 g منه."}


def test_a_frequency_becomes_another_frequency():
    for row_id, gold, made in cases()["frequency_changed"]:
        before, after = words_changed(*only(gold, made.values))
        assert before or after, row_id
        assert re.search(
            r"مر[ةت]|مرات|كل|يوم|واحدة|ثلاث|أربع|ساع|\d|صباح|مساء|أسبوع", f"{before} {after}"
        ), row_id


# Negation, drugs, sides


def test_a_negation_is_replaced_by_its_opposite_where_the_english_has_it():
    for kind in ("negation_dropped", "negation_added"):
        for row_id, gold, made in cases()[kind]:
            english, arabic, opposite = made.words
            before, after = only(gold, made.values)
            assert english.lower() in str(golds()[row_id][0]).lower() and arabic in before, row_id
            assert opposite in after and arabic != opposite, row_id


def test_an_added_negation_never_doubles_one_and_asks_no_yes_no_question():
    for row_id, gold, made in cases()["negation_added"]:
        _, after = only(gold, made.values)
        assert not re.search(
            r"(?<!\w)(?:غير غير|لا لا|لا غير)(?!\w)|(?<!\w)و?هل لا(?!\w)|غير \w+\u064b", after
        ), row_id


def test_an_exception_is_lost_from_the_stem():
    for row_id, gold, made in cases()["except_dropped"]:
        before, after = only(gold, made.values)
        assert made.words[0] in ("EXCEPT", "except", "NOT") and before == gold["question"]
        lost, left = words_changed(before, after)
        assert made.words[1].split()[-1] in lost and len(left) <= len(lost) + 3, row_id


def test_a_drug_is_replaced_and_its_english_name_stands_in_the_source():
    for row_id, gold, made in cases()["drug_replaced"]:
        english, spelling, other = made.words
        before, after = only(gold, made.values)
        assert english in str(golds()[row_id][0]).lower() and spelling in before, row_id
        assert other in after and not re.search(rf"(?<!\w){spelling}(?!\w)", after), row_id
        assert (
            re.sub(
                rf"(?<!\w)((?:[وف])?(?:ال|بال|لل|كال|[بلك])?){spelling}(?!\w)",
                rf"\1{other}",
                before,
            )
            == after
        ), row_id


def test_a_side_is_swapped_only_where_the_english_means_a_side():
    pairs = [
        ("The right kidney is absent.", "الكلية اليمنى غائبة.", "الكلية اليسرى غائبة."),
        ("Pain on the left.", "ألم في اليسار.", "ألم في اليمين."),
    ]
    for english, arabic, expected in pairs:
        made = mutator.damage(
            "laterality_swapped", {"question": english}, {"question": arabic}, random.Random(0)
        )
        assert made.values["question"] == expected
    for english in (
        "You did the right thing.",
        "Call right now.",
        "He left the hospital.",
        "Nothing is left alone.",
    ):
        assert (
            mutator.damage(
                "laterality_swapped",
                {"question": english},
                {"question": "الجانب الأيمن"},
                random.Random(0),
            )
            is None
        )
    for row_id, gold, made in cases()["laterality_swapped"]:
        before, after = only(gold, made.values)
        sides = r"(?<!\w)\w*(?:يمن|يسر|يمين|يسار|ثنائي|أحادي)\w*"
        assert re.sub(sides, "", before) == re.sub(sides, "", after), row_id


# Options, language, length


def test_options_are_swapped_lost_or_duplicated():
    for _, gold, made in cases()["options_swapped"]:
        assert (
            sorted(made.values["options"]) == sorted(gold["options"])
            and len(changed(gold, made.values)) == 2
        )
    for _, gold, made in cases()["option_lost"]:
        assert len(made.values["options"]) == len(gold["options"]) - 1 and {
            **made.values,
            "options": 0,
        } == {**gold, "options": 0}
    for _, gold, made in cases()["option_duplicated"]:
        _, after = only(gold, made.values)
        assert (
            len(made.values["options"]) == len(gold["options"])
            and made.values["options"].count(after) == gold["options"].count(after) + 1
        )


def test_half_a_text_is_english_and_half_is_arabic():
    for row_id, gold, made in cases()["half_untranslated"]:
        before, after = only(gold, made.values)
        latin, arabic = (
            len(re.findall(r"[A-Za-z]", after)),
            len(re.findall(r"[\u0621-\u064a]", after)),
        )
        assert 0.2 < latin / (latin + arabic) < 0.85 and after.split()[:3] == before.split()[:3], (
            row_id
        )


def test_an_untranslated_place_is_its_english():
    for row_id, gold, made in cases()["untranslated_copy"]:
        source = golds()[row_id][0]
        assert made.values == source or only(gold, made.values)[1] in str(source), row_id


def test_a_duplicate_is_the_neighbours_question():
    everywhere = {mutator.get(gold, mutator._main(gold)) for _, gold in golds().values()}
    for _, gold, made in cases()["duplicated_from_neighbour"]:
        asked = mutator.get(made.values, mutator._main(made.values))
        assert asked in everywhere and asked != mutator.get(gold, mutator._main(gold))
    assert (
        mutator.damage("duplicated_from_neighbour", *golds()["extra:001"], random.Random(0)) is None
    )


def test_a_broken_off_text_has_lost_a_quarter_and_thirty_characters():
    for row_id, gold, made in cases()["truncated"]:
        before, after = only(gold, made.values)
        assert before.startswith(after) and len(before) - len(after) >= max(30, len(before) / 4), (
            row_id
        )
        assert after[-1] not in ".؟!", row_id


def test_a_loop_repeats_a_phrase_at_least_six_times():
    for row_id, gold, made in cases()["repetition_loop"]:
        phrase, times = re.fullmatch(r"(.+) repeated (\d+) times", made.note).groups()
        assert int(times) >= 6 and only(gold, made.values)[1].count(phrase) >= 6, row_id


def test_additions_keep_the_text_they_are_added_to():
    for kind in ("preamble_added", "prompt_leak"):
        assert all(
            before in after
            for _, gold, made in cases()[kind]
            for before, after in [only(gold, made.values)]
        )
    assert len({made.note for _, _, made in cases()["preamble_added"]}) >= 15
    assert {made.note[-1] for _, _, made in cases()["refusal_inserted"]} == {"."}
    for _, gold, made in cases()["refusal_inserted"]:
        assert any(refusal in only(gold, made.values)[1] for refusal in mutator_words.REFUSALS)


def test_broken_letters_come_in_every_style():
    styles = Counter(made.note.split(" in ")[0] for _, _, made in cases()["mojibake"])
    assert (
        set(styles) == {"replacement", "presentation", "latin", "question marks", "windows"}
        and min(styles.values()) >= 10
    )


def test_a_chat_loses_a_turn_or_its_roles():
    for _, gold, made in cases()["turn_lost"]:
        assert len(made.values["turns"]) == len(gold["turns"]) - 1 and all(
            turn in gold["turns"] for turn in made.values["turns"]
        )
    for _, gold, made in cases()["turn_roles"]:
        pairs = list(zip(gold["turns"], made.values["turns"], strict=True))
        assert all(a["text"] == b["text"] and a["role"] != b["role"] for a, b in pairs)


# Harmless variants


@pytest.mark.parametrize("kind", mutator.HARMLESS)
def test_a_harmless_variant_keeps_every_number(kind):
    for row_id, gold, made in cases()[kind]:
        before, after = numbers(gold), numbers(made.values)
        assert (
            (sorted(before) == sorted(after)) if kind == "clause_reordered" else (before == after)
        ), row_id


@pytest.mark.parametrize("kind", mutator.HARMLESS)
def test_a_harmless_variant_keeps_places_roles_and_order(kind):
    for row_id, gold, made in cases()[kind]:
        assert mutator.slots(made.values) == mutator.slots(gold), row_id
        assert [t["role"] for t in made.values.get("turns", [])] == [
            t["role"] for t in gold.get("turns", [])
        ]


def test_marks_hamza_and_punctuation_change_nothing_else():
    marks, latin = re.compile(r"[\u064b-\u0652]"), str.maketrans("،؛؟", ",;?")
    for kind, fold in (
        ("vowel_marks", lambda text: marks.sub("", text)),
        ("hamza_spelling", lambda text: re.sub("[أإ]", "ا", text)),
        ("punctuation", lambda text: text.translate(latin)),
        ("arabic_indic_digits", lambda text: text.translate(SIGNS)),
        ("eastern_decimal_signs", lambda text: text.translate(SIGNS)),
    ):
        for row_id, gold, made in cases()[kind]:
            assert all(
                fold(before) == fold(after) for before, after in changed(gold, made.values)
            ), (kind, row_id)


def test_a_reordered_clause_has_the_same_words():
    for row_id, gold, made in cases()["clause_reordered"]:
        before, after = only(gold, made.values)
        assert sorted(re.findall(r"[^\s،.]+", before)) == sorted(re.findall(r"[^\s،.]+", after)), (
            row_id
        )


@pytest.mark.parametrize(
    "digits, in_words",
    [
        ("3 أيام", "ثلاثة أيام"),
        ("3 ساعات", "ثلاث ساعات"),
        ("8 سنوات", "ثماني سنوات"),
        ("10 أشهر", "عشرة أشهر"),
        ("10 دقائق", "عشر دقائق"),
    ],
)
def test_a_number_word_agrees_with_what_is_counted(digits, in_words):
    made = mutator.damage(
        "number_word",
        {"question": "For some time."},
        {"question": f"منذ {digits}."},
        random.Random(0),
    )
    assert made.values["question"] == f"منذ {in_words}."


@pytest.mark.parametrize(
    "text", ["من 3 إلى 6 أيام", "12 يومًا", "كل 6 أو 8 ساعات", "1.5 ساعات", "140/5 أيام"]
)
def test_a_number_in_a_range_or_beyond_ten_keeps_its_digits(text):
    assert (
        mutator.damage(
            "number_word", {"question": "For some time."}, {"question": text}, random.Random(0)
        )
        is None
    )
