"""The bilingual mix: exact ratio, no duplicates, no test questions, families in one split, a card that tells the truth."""

import random
import re
from collections import Counter

import pytest

from bimedix_utils import mixture
from bimedix_utils.records import Record, Turn

pytestmark = pytest.mark.unit
ENGLISH = ("heart", "liver", "kidney", "lung", "spleen", "stomach", "brain", "skin")
ARABIC = ("القلب", "الكبد", "الكلية", "الرئة", "الطحال", "المعدة", "الدماغ", "الجلد")


def qa(number: int, lang: str = "en", **more) -> Record:
    organ = (ARABIC if lang == "ar" else ENGLISH)[number % 8]
    question = f"ما وظيفة {organ} رقم {number}؟" if lang == "ar" else f"What does the {organ} number {number} do?"
    fields = {"id": f"toy:{number}", "kind": "qa", "lang": lang, "source": "toy", "licence": "MIT", "split": "train", "question": question}
    if lang != "en":
        fields |= {"id": f"toy:{number}:{lang}", "parent_id": f"toy:{number}"}
    return Record(**{**fields, "answer": f"{organ} {number}", **more})


def chat(first: str, lang: str = "en", **more) -> Record:
    turns = (Turn(role="patient", text=first), Turn(role="doctor", text="نعم." if lang == "ar" else "Yes."))
    return Record(
        **{"id": "chat:1", "kind": "chat", "lang": lang, "source": "chat", "licence": "MIT", "split": "train", "turns": turns, **more}
    )


def rows(english: int, arabic: int) -> list[Record]:
    return [qa(i) for i in range(english)] + [qa(i, "ar") for i in range(arabic)]


# Ratio and order


@pytest.mark.parametrize(
    "english, arabic, parts, wanted",
    [
        (50, 50, (1, 2), (50, 25)),
        (50, 10, (1, 2), (20, 10)),
        (51, 30, (1, 2), (50, 25)),
        (9, 50, (1, 2), (8, 4)),
        (20, 20, (1, 1), (20, 20)),
        (20, 20, (2, 3), (18, 12)),
        (1, 20, (1, 2), (0, 0)),
        (20, 0, (1, 2), (0, 0)),
    ],
)
def test_the_ratio_is_exact_and_the_mix_as_large_as_it_can_be(english, arabic, parts, wanted):
    candidates = rows(english, arabic)
    mixed, surplus = mixture.mix(candidates, *parts, seed=1)
    counts = Counter(record.lang for record in mixed)
    assert (counts["en"], counts["ar"]) == wanted
    assert counts["en"] * parts[0] == counts["ar"] * parts[1]
    assert sorted([*(r.id for r in mixed), *surplus]) == sorted(r.id for r in candidates)
    assert set(surplus.values()) <= {("surplus", f"{parts[0]}:{parts[1]} was reached")}


def test_the_mix_does_not_depend_on_the_order_of_its_input():
    candidates = rows(60, 25)
    shuffled = random.Random(0).sample(candidates, len(candidates))
    one, other = mixture.mix(candidates, 1, 2, 42), mixture.mix(shuffled, 1, 2, 42)
    assert [r.id for r in one[0]] == [r.id for r in other[0]]
    assert one[1] == other[1]
    assert [r.id for r in one[0]] != [r.id for r in mixture.mix(candidates, 1, 2, 43)[0]]


def test_the_languages_are_shuffled_among_each_other():
    langs = [record.lang for record in mixture.mix(rows(60, 30), 1, 2, 42)[0]]
    assert 20 < sum(a != b for a, b in zip(langs, langs[1:], strict=False)) < 60


def test_published_rows_are_kept_before_generated_ones():
    generated = [qa(i, source="knowledge_drug_class", id=f"knowledge:{i}", answer="g") for i in range(100, 160)]
    mixed, surplus = mixture.mix([*generated, *rows(20, 15)], 1, 2, seed=3)
    assert {r.id for r in mixed} >= {f"toy:{i}" for i in range(20)}
    assert len(mixed) == 45 and set(surplus) < {r.id for r in generated} and len(surplus) == 50


# Duplicates and leaks


def test_duplicates_are_dropped_and_named_and_translations_are_not():
    first, again = qa(1), qa(1, id="other:1", source="other", licence="GPL", split="test", topic="x")
    kept, dropped = mixture.without_duplicates([first, again, qa(1, "ar"), qa(2), qa(1, answer="another answer", id="other:2")])
    assert [r.id for r in kept] == ["toy:1", "toy:1:ar", "toy:2", "other:2"]
    assert dropped == {"other:1": ("duplicate", "same as toy:1")}


def test_options_in_another_order_are_no_duplicate():
    question = {"kind": "mcqa", "answer": "", "answer_index": 0}
    pair = [qa(1, **question, options=("a", "b")), qa(1, **question, options=("b", "a"), id="x")]
    assert len(mixture.without_duplicates(pair)[0]) == 2


@pytest.mark.parametrize(
    "test, leak",
    [
        ("What does the heart do?", "  what DOES the heart do "),
        ("What does the heart do?", "“What does the heart do?”"),
        ("ما وظيفة القلب؟", "ما وظيفةُ القلب"),
        ("هل الأذن اليسرى مصابة؟", "هل الاذن اليسري مصابه"),
        ("كم قيمة الضغط ٥٠؟", "كم قيمة الضغط 50"),
    ],
)
def test_test_questions_are_found_in_both_languages(test, leak):
    lang = "en" if test.isascii() else "ar"
    record, clean = qa(1, lang, question=leak), qa(2, lang)
    kept, leaked = mixture.without_leaks([record, clean], [qa(9, lang, question=test, split="test", id="test:9")])
    assert kept == [clean]
    assert leaked == {record.id: ("leaked", "asks test:9")}


def test_a_chat_that_opens_with_a_test_question_is_a_leak():
    asked = "What does the heart do?"
    leak, clean = chat(asked), chat("I have a question about my heart.", id="chat:2")
    tests = [qa(9, question=asked, id="test:9", split="test"), chat("ما الأمر؟", "ar", id="test:10", split="test")]
    assert mixture.without_leaks([leak, clean], tests) == ([clean], {"chat:1": ("leaked", "asks test:9")})
    assert list(mixture.without_leaks([qa(3, "ar", question="ما الأمر")], tests)[1].values()) == [("leaked", "asks test:10")]


def test_without_tests_nothing_leaks():
    assert mixture.without_leaks(rows(3, 3), []) == (rows(3, 3), {})


# Splits


def test_a_row_and_its_translations_share_a_split():
    candidates = rows(300, 300) + [qa(i, "fr") for i in range(300)]
    train, validation = mixture.split(candidates, 0.2, 42)
    assert len(train) + len(validation) == 900
    assert not {mixture.family(r) for r in train} & {mixture.family(r) for r in validation}
    sizes = Counter(mixture.family(r) for r in candidates)
    assert set(sizes.values()) == {3}
    # Four standard errors of a share of 0.2 among 300 families.
    assert abs(len(validation) / 900 - 0.2) < 4 * (0.2 * 0.8 / 300) ** 0.5


def test_a_split_does_not_depend_on_order_or_neighbours():
    candidates = rows(100, 100)
    held = {r.id for r in mixture.split(candidates, 0.3, 42)[1]}
    assert {r.id for r in mixture.split(candidates[::-3], 0.3, 42)[1]} == {r.id for r in candidates[::-3]} & held
    assert held != {r.id for r in mixture.split(candidates, 0.3, 43)[1]}
    assert mixture.split(candidates, 0.0, 42) == (candidates, [])


def test_family_of_rows_made_from_others():
    assert mixture.family(qa(1)) == mixture.family(qa(1, "ar")) == "toy:1"
    assert mixture.family(chat("Hi", parent_id="toy:1")) == "chat:1"  # made from a question, but no translation of it
    assert mixture.family(chat("أهلا", "ar", id="chat:1:ar", parent_id="chat:1")) == "chat:1"


def test_generated_twins_share_a_split():
    """Their ids differ in the language at the end only; both ask the same fact with the same options."""
    twins = [qa(i, lang, id=f"knowledge:drug_class:{i:08x}:qa:0:0:{lang}", parent_id=None) for i in range(200) for lang in ("en", "ar")]
    train, validation = mixture.split(twins, 0.3, 42)
    assert not {r.id[:-3] for r in train} & {r.id[:-3] for r in validation}


# The card


@pytest.fixture(scope="module")
def mixed():
    extra = [chat("I have chest pain.", licence="CC-BY-4.0"), chat("أشعر بألم في الصدر.", "ar", id="chat:1:ar", parent_id="chat:1")]
    return rows(7, 4) + extra


def test_tokens_and_words_are_counted_by_language_and_kind(mixed):
    counts = mixture.token_counts(mixed)
    assert {place: numbers[0] for place, numbers in counts.items()} == {
        ("ar", "chat"): 1,
        ("ar", "qa"): 4,
        ("en", "chat"): 1,
        ("en", "qa"): 7,
    }
    assert counts[("en", "chat")][2] == len("I have chest pain. Yes.".split())
    assert all(tokens >= words > 0 for _, tokens, words in counts.values())
    # Arabic falls apart in Mixtral's vocabulary: more tokens for each word than English.
    dear = {lang: counts[(lang, "qa")][1] / counts[(lang, "qa")][2] for lang in ("en", "ar")}
    assert dear["ar"] > 1.5 * dear["en"]


def test_tokens_are_those_of_the_first_mixtral():
    """32,000 pieces; later Mistral tokenizers have more and give other ids."""
    tokenizer = mixture._mixtral_tokenizer()
    assert (tokenizer.n_words, tokenizer.encode("Hello world", bos=False, eos=False)) == (32000, [22557, 1526])


@pytest.mark.parametrize("text, tokens", [("", 0), (" aspirin", 2), (" I have chest pain.", 5), (" أشعر بألم في الصدر.", 18)])
def test_longer_answers_have_more_tokens(text, tokens):
    """The numbers were written down once."""
    start = mixture.tokens_of(qa(1, question="a", answer="b"))
    assert mixture.tokens_of(qa(1, question="a", answer=f"b{text}")) - start == tokens


def test_neither_ids_nor_sources_nor_notes_cost_tokens():
    row = qa(1)
    assert mixture.tokens_of(row) == mixture.tokens_of(row.replace(id="x" * 300, source="y" * 300, note="z" * 300, topic="t" * 300)) > 0


def test_tokens_of_a_chat_count_every_turn_that_is_trained_on():
    one = chat("I have chest pain.")
    two = one.replace(turns=(*one.turns, Turn(role="patient", text="Since Monday."), Turn(role="doctor", text="See a doctor today.")))
    closing = one.replace(turns=(*one.turns, Turn(role="patient", text="Thank you very much for all of this.")))
    assert mixture.tokens_of(two) > mixture.tokens_of(one) + 5
    assert mixture.tokens_of(closing) == mixture.tokens_of(one)  # nothing answers it, so it is left out


def test_tokens_of_rows_add_up_to_the_counts(mixed):
    counts = mixture.token_counts(mixed)
    for lang, kind in counts:
        assert counts[lang, kind][1] == sum(mixture.tokens_of(row) for row in mixed if (row.lang, row.kind) == (lang, kind))


def test_the_card_says_what_was_counted(mixed):
    counts = mixture.token_counts(mixed)
    sources = Counter((r.source, r.licence) for r in mixed)
    card = mixture.card(counts, sources, (1, 2), 42, "smoke")
    table = re.findall(r"^\| (en|ar) \| (\w+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \|$", card, re.MULTILINE)
    assert {(lang, kind): (int(n), int(t), ratio) for lang, kind, n, t, ratio in table} == {
        place: (n, t, f"{t / w:.2f}") for place, (n, t, w) in counts.items()
    }
    named = re.findall(r"^\| (\w+) \| ([\w.-]+) \| (\d+) \|$", card, re.MULTILINE)
    assert {(source, licence): int(n) for source, licence, n in named} == dict(sources) and sum(sources.values()) == len(mixed)
    for words in ("1:2 Arabic:English", "with seed 42", "`smoke` mode", "For research only", "language: [en, ar]"):
        assert words in card


def test_large_numbers_on_the_card_are_grouped():
    card = mixture.card({("en", "qa"): (1234567, 7654321, 5000000)}, Counter({("toy", "MIT"): 1234567}), (1, 2), 1, "paper")
    assert "| en | qa | 1,234,567 | 7,654,321 | 1.53 |" in card and "| toy | MIT | 1,234,567 |" in card
