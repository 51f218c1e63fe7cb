"""Near duplicates: what is alike is found, what is not stays, whatever the language, the order or
the process.
"""

import os
import random
import subprocess
import sys

import pytest

from bimedix_utils.core.shingles import comparable_words, jaccard, near_duplicates, shingle_hashes

pytestmark = pytest.mark.unit
WORDS = [
    f"{first}{second}"
    for first in ("car", "neu", "gas", "der", "hep", "pul", "ost")
    for second in ("dio", "rol", "tra", "mal", "nic", "ver")
]
CASE = (
    "A man of forty has had a dry cough for three weeks and wakes at night with sweat on his back"
)


def found(*texts: str, similarity: float = 0.6, kept: int = 1) -> list[str | None]:
    """What each text resembles; the texts are called a, b, c ..."""
    named = list(zip("abcdefghij", texts, strict=False))
    result = list(near_duplicates(named, similarity, kept))
    assert [row_id for row_id, _ in result] == [row_id for row_id, _ in named]
    return [other for _, other in result]


def sharing(count: int, of: int) -> tuple[str, str]:
    """Two texts with `count` shingles in common and `of` in all: they begin alike and end in words
    of their own.
    """
    common = [f"common{i}" for i in range(count + 4)]  # n words have n - 4 shingles
    left = [f"left{i}" for i in range((of - count) // 2)]
    right = [f"right{i}" for i in range(of - count - len(left))]
    return " ".join(common + left), " ".join(common + right)


def plain_jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the word 5-grams, as plain Python sets."""
    words = (comparable_words(first), comparable_words(second))
    one, other = ({tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in words)
    value = len(one & other) / len(one | other)
    assert jaccard(*map(shingle_hashes, words)) == value
    return value


# Alike or not


def test_an_exact_copy_is_found():
    assert found(CASE, CASE) == [None, "a"]


@pytest.mark.parametrize(
    "copy",
    [CASE.upper(), f"  {CASE}!! ", CASE.replace(" ", "\n"), CASE.replace("cough", "“cough”,")],
)
def test_case_punctuation_and_white_space_make_no_difference(copy):
    assert found(CASE, copy, similarity=1.0) == [None, "a"]


@pytest.mark.parametrize(
    "share, alike", [(0.45, False), (0.55, False), (0.65, True), (0.75, True), (0.95, True)]
)
def test_the_threshold_parts_near_copies_from_others(share, alike):
    first, second = sharing(round(share * 100), 100)
    assert plain_jaccard(first, second) == share
    assert found(first, second, similarity=0.6) == [None, "a" if alike else None]


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_the_threshold_itself_is_enough(similarity):
    first, second = sharing(round(similarity * 200), 200)
    assert plain_jaccard(first, second) == similarity
    assert found(first, second, similarity=similarity) == [None, "a"]
    first, second = sharing(round(similarity * 200) - 1, 200)
    assert found(first, second, similarity=similarity) == [None, None]


def test_one_changed_word_in_the_middle_of_a_long_text_is_a_near_copy():
    words = [random.Random(1).choice(WORDS) + str(i) for i in range(60)]
    changed = [*words[:30], "other", *words[31:]]
    assert found(" ".join(words), " ".join(changed), similarity=0.8) == [None, "a"]


def test_unrelated_texts_are_kept():
    bile = "The liver makes bile, which the gall bladder stores until fat arrives."
    assert found(CASE, bile, "Vitamin C cures scurvy.") == [None] * 3


def test_the_same_words_in_another_order_are_another_text():
    words = CASE.split()
    shuffled = random.Random(3).sample(words, len(words))
    assert found(CASE, " ".join(shuffled)) == [None, None]


# Arabic

ARABIC = "أشعر بألم شديد في أسفل البطن منذ ثلاثة أيام وأخشى أن تكون الزائدة الدودية ملتهبة"


@pytest.mark.parametrize(
    "copy",
    [
        ("أَشعُرُ بِألمٍ شديدٍ في أسفلِ البطنِ منذُ ثلاثةِ أيامٍ وأخشى أن تكونَ الزائدةُ الدوديةُ ملتهبةً"),
        ARABIC.replace("أ", "ا"),
        ARABIC.replace("ى", "ي"),
        ARABIC.replace("ة", "ه"),
        ARABIC.replace("شديد", "شـــديد"),
        f"{ARABIC}؟",
    ],
    ids=["diacritics", "hamza seats", "alif maqsura", "ta marbuta", "tatweel", "question mark"],
)
def test_ways_of_writing_arabic_make_no_difference(copy):
    assert copy != ARABIC and found(ARABIC, copy, similarity=1.0) == [None, "a"]


def test_another_arabic_complaint_is_kept():
    other = "ابني في الخامسة من عمره ويسعل كثيرًا في الليل منذ أسبوع ولا ينام"
    assert found(ARABIC, other) == [None, None]


def test_arabic_digits_are_digits():
    text = "أتناول {} ملغ من الدواء كل صباح منذ {} أسابيع ولا أشعر بأي تحسن"
    texts = [text.format(*pair) for pair in (("٥٠٠", "٣"), ("500", "3"), ("250", "8"))]
    assert found(*texts) == [None, "a", None]


# Short and empty


def test_nothing_in_nothing_out():
    assert list(near_duplicates([], 0.6)) == []


def test_one_text_resembles_nothing():
    assert found(CASE) == [None]


@pytest.mark.parametrize(
    "text, count",
    [
        ("", 1),
        ("fever", 1),
        ("fever and cough", 1),
        ("a b c d e", 1),
        ("a b c d e f", 2),
        ("a a a a a a a", 1),
    ],
)
def test_shingles_are_word_5_grams(text, count):
    assert len(shingle_hashes(comparable_words(text))) == count
    assert set(shingle_hashes(comparable_words("One, two three FOUR five six"))) == {
        *shingle_hashes(["one", "two", "three", "four", "five"]),
        *shingle_hashes(["two", "three", "four", "five", "six"]),
    }
    assert list(shingle_hashes(list("abcde"))) != list(shingle_hashes(list("edcba")))


def test_bands_catch_pairs_at_the_threshold_of_the_big_build():
    """One pair in 500 may be lost at Jaccard 0.8: here 300 pairs, each with words of its own."""
    lost = 0
    for number in range(300):
        common = [f"c{number}x{i}" for i in range(204)]  # 200 shingles of 250
        texts = [
            ("a", " ".join(common + [f"l{number}x{i}" for i in range(25)])),
            ("b", " ".join(common + [f"r{number}x{i}" for i in range(25)])),
        ]
        lost += [other for _, other in near_duplicates(texts, 0.8)] != [None, "a"]
    assert lost <= 4


def test_texts_shorter_than_a_shingle_are_compared_whole():
    texts = "Fever.", "fever", "Fever and cough", "cough", "Cough and fever", "fever AND cough"
    assert found(*texts) == [None, "a", None, None, None, "c"]


def test_texts_without_words_are_all_alike():
    assert found("", "?!", " ", "word") == [None, "a", "a", None]


# How many are kept, and in which order


def test_two_of_a_kind_may_be_kept():
    assert found(CASE, CASE, CASE, CASE, kept=2) == [None, None, "a", "a"]
    assert found(CASE, "fever", CASE, CASE, kept=2) == [None, None, None, "a"]


def test_surplus_texts_do_not_count_against_later_ones():
    """A chain in which each text resembles the one before: the third resembles only the second, and
    that is not kept.
    """
    words = [f"w{i}" for i in range(160)]
    first, second, third = (" ".join(words[start : start + 100]) for start in (0, 15, 30))
    assert plain_jaccard(first, second) > 0.6 > plain_jaccard(first, third)
    assert found(first, second, third) == [None, "a", None]


def test_the_first_of_a_kind_stays():
    near = CASE + " and shivers"
    assert found(near, CASE) == [None, "a"] == found(CASE, near)


def test_texts_are_read_one_by_one():
    """A generator in, a generator out: nothing waits for the end of a million texts."""
    read = []

    def texts():
        for i in range(3):
            read.append(i)
            yield str(i), CASE

    result = near_duplicates(texts(), 0.6)
    assert next(result) == ("0", None) and read == [0]
    assert next(result) == ("1", "0") and read == [0, 1]


# Many


def many() -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(300 texts of 60 to 120 words in random order, {id of a planted near copy: id of its
    original}).
    """
    draw = random.Random(42)
    originals = [(f"text:{i}", draw.choices(WORDS, k=draw.randint(60, 120))) for i in range(270)]
    texts, planted = list(originals), {}
    for number, (row_id, text) in enumerate(draw.sample(originals, 30)):
        copy = list(text)
        for place in draw.sample(range(len(copy)), 2):
            copy[place] = "changed"
        planted[f"copy:{number}"] = row_id
        texts.append((f"copy:{number}", copy))
    draw.shuffle(texts)
    return [(row_id, " ".join(words)) for row_id, words in texts], planted


def test_every_planted_near_copy_among_300_is_found_and_nothing_else():
    texts, planted = many()
    pairs = {frozenset(pair) for pair in planted.items()}
    found_pairs = {frozenset(pair) for pair in near_duplicates(texts, 0.6) if pair[1]}
    assert found_pairs == pairs and len(pairs) == 30


def test_another_process_finds_the_same():
    """Python's own hashes change between processes; they must not decide."""
    code = "import test_shingles as t; print(list(t.near_duplicates(t.many()[0][:80], 0.6)))"
    folders = os.pathsep.join(
        filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")])
    )
    printed = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": folders}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        printed.append(done.stdout)
    here = list(near_duplicates(many()[0][:80], 0.6))
    assert printed[0] == printed[1] == f"{here}\n" and any(other for _, other in here)
