"""Which rows repeat a test question, in both languages, and which only look like it."""

import os
from pathlib import Path

import pytest

from bimedix_utils import sources
from bimedix_utils.core.records import Record, Turn
from bimedix_utils.core.shingles import shingle_hashes
from bimedix_utils.mixture.contamination import KnownTests, row_words

pytestmark = pytest.mark.unit
VIGNETTE = (
    "A 58-year-old man comes to the physician because of crushing chest pain that began two hours"
    " ago while he was shovelling snow. He has smoked one pack of cigarettes daily for thirty years"
    " and takes amlodipine. Which of the following is the best next step?"
)
ARABIC_VIGNETTE = (
    "راجع رجل عمره ثمان وخمسون سنة الطبيب بسبب ألم ساحق في الصدر بدأ قبل ساعتين أثناء جرف الثلج،"
    " وهو يدخن علبة سجائر يوميًا منذ ثلاثين سنة ويتناول الأملوديبين لعلاج ارتفاع الضغط. أي مما يلي"
    " أفضل خطوة تالية؟"
)
OPTIONS = ("Aspirin", "Chest radiography", "Exercise stress test", "Reassurance")


def row(
    question: str = "What is it?", options=(), lang="en", kind="", split="train", **more
) -> Record:
    kind = kind or ("mcqa" if options else "qa")
    fields = {
        "id": f"{split}:1",
        "kind": kind,
        "lang": lang,
        "source": "s",
        "licence": "l",
        "split": split,
    }
    fields |= {"options": options, "answer_index": 0} if options else {"answer": "An answer."}
    return Record(**{**fields, "question": question, **more})


def chat(*turns: str, **more) -> Record:
    said = tuple(Turn(role=("patient", "doctor")[i % 2], text=text) for i, text in enumerate(turns))
    return Record(
        **{
            "id": "c:1",
            "kind": "chat",
            "lang": "en",
            "source": "s",
            "licence": "l",
            "split": "train",
            "turns": said,
            **more,
        }
    )


def rule(record: Record, *tests: Record) -> str | None:
    words = row_words(record)
    found = KnownTests(tests).find(record, words, shingle_hashes(words.everything))
    return found.rule if found else None


@pytest.mark.parametrize(
    "test, copy",
    [
        ("What does the heart do?", "  what DOES the heart do "),
        ("What does the heart do?", "“What does the heart do?”"),
        ("ما وظيفة القلب؟", "ما وظيفةُ القلب"),
        ("هل الأذن اليسرى مصابة؟", "هل الاذن اليسري مصابه"),
        ("كم قيمة الضغط ٥٠؟", "كم قيمة الضغط 50"),
    ],
)
def test_a_question_asked_word_for_word(test, copy):
    lang = "en" if test.isascii() else "ar"
    assert rule(row(copy, lang=lang), row(test, lang=lang, split="test")) == "question"
    assert rule(chat(copy, "Yes."), row(test, lang=lang, split="test")) == "question"
    assert rule(row(copy + " now", lang=lang), row(test, lang=lang, split="test")) != "question"


def test_a_short_stock_question_of_another_item_is_no_match():
    test = row("Which is true?", OPTIONS, split="test")
    assert rule(row("Which is true?", ("Red", "Green", "Blue", "White")), test) is None
    assert rule(row("Which is true?", (*OPTIONS[:2], "Blue", "White")), test) == "question"


@pytest.mark.parametrize("text", [VIGNETTE, ARABIC_VIGNETTE])
@pytest.mark.parametrize(
    "hidden",
    [
        lambda text: row(f"Please help me with my exam. {text} Thank you in advance!"),
        lambda text: row(answer=f"It was once asked: {text}"),
        lambda text: chat(
            "Hello", "Good morning. What is it?", f"My teacher asked me this. {text}", "Aspirin."
        ),
        lambda text: row("Another question", ("a", "b"), context=text),
    ],
    ids=["question", "answer", "later turn", "context"],
)
def test_a_long_question_is_found_wherever_it_hides(text, hidden):
    assert rule(hidden(text), row(text, OPTIONS, split="test")) == "n-grams"


def test_a_long_question_is_found_with_some_words_changed_and_not_by_its_frame_alone():
    changed = (
        VIGNETTE.replace("58", "61")
        .replace("two hours", "an hour")
        .replace("amlodipine", "ramipril")
    )
    assert rule(row(changed), row(VIGNETTE, OPTIONS, split="test")) == "n-grams"
    frame = (
        "A 58-year-old man comes to the physician because of blood in his urine. Which of the"
        " following is the best next step?"
    )
    assert rule(row(frame), row(VIGNETTE, OPTIONS, split="test")) is None


def test_a_short_question_must_stand_there_whole():
    test = row("Scurvy follows from a lack of which vitamin?", split="test")
    assert (
        rule(row("I read: scurvy follows from a lack of which vitamin? Please answer."), test)
        == "n-grams"
    )
    assert (
        rule(row("I read: beriberi follows from a lack of which vitamin? Please answer."), test)
        is None
    )


def test_a_short_stock_question_within_a_longer_one_is_no_match():
    test = row("Which of the following statements is false?", OPTIONS, split="test")
    assert (
        rule(
            row(
                "Which of the following statements is false about apoptosis?", ("a", "b", "c", "d")
            ),
            test,
        )
        is None
    )
    assert (
        rule(chat("Help me: which of the following statements is false?", "I cannot tell."), test)
        == "n-grams"
    )


def test_words_that_many_test_questions_share_prove_nothing():
    tests = [
        row(f"{start} is shown. What is the most likely diagnosis of this?", split="test")
        for start in ("Alpha", "Beta", "Gamma")
    ]
    asked = "What is the most likely diagnosis of this"
    assert rule(row(f"Here is my case. {asked} then?"), *tests) is None
    assert (
        rule(row("A picture of Beta is shown. What is the most likely diagnosis of this?"), *tests)
        == "n-grams"
    )


def test_an_abstract_of_a_test_item_is_found():
    abstract = " ".join(f"finding{i} of the study" for i in range(30))
    test = row("Does it help?", ("yes", "no", "maybe"), context=abstract, split="test")
    assert (
        rule(row("Another question entirely", ("yes", "no", "maybe"), context=abstract), test)
        == "n-grams"
    )
    assert (
        rule(
            row(
                "Another question entirely",
                ("yes", "no", "maybe"),
                context="Another study was made.",
            ),
            test,
        )
        is None
    )


def test_equal_options_in_any_order_beside_a_question_with_like_words():
    test = row("Which drug is best given first in a crushing chest pain?", OPTIONS, split="test")
    assert (
        rule(row("Which drug would you give first in chest pain?", OPTIONS[::-1]), test)
        == "options"
    )
    assert rule(row("Name the safest exercise for old runners.", OPTIONS[::-1]), test) is None
    assert (
        rule(row("Which drug would you give first in chest pain?", (*OPTIONS[:3], "Surgery")), test)
        is None
    )


def test_options_long_enough_are_no_coincidence_and_stock_options_are():
    long = tuple(
        f"{name} because of the long standing {name} of the left ventricle"
        for name in ("fibrosis", "dilatation", "rupture")
    )
    assert (
        rule(row("Why?", long), row("What explains the finding on the film?", long, split="test"))
        == "options"
    )
    tests = [
        row(f"Is {word} a sign of chest pain?", ("yes", "no", "maybe"), split="test")
        for word in ("cough", "fever", "pallor")
    ]
    assert rule(row("Is sweating a sign of chest pain?", ("yes", "no", "maybe")), *tests) is None


def test_a_test_dialogue_is_found_and_its_greeting_is_no_question():
    said = (
        "It began last night after dinner and it moved down to my right side, and now I cannot walk"
        " upright at all."
    )
    test = chat(
        "Hello doctor.", "Good morning. What is it?", said, "I shall examine you.", split="test"
    )
    assert rule(chat("Hello doctor.", "What brings you here?", "My knee."), test) is None
    assert (
        rule(
            chat(
                "Hello doctor.",
                "Good morning. What is it?",
                said,
                "I shall examine you.",
                "Thank you.",
            ),
            test,
        )
        == "n-grams"
    )


def test_the_item_itself_is_named():
    tests = [
        row(f"Question number {word}?", split="test", id=f"test:{word}")
        for word in ("one", "two", "three")
    ]
    known = KnownTests(tests)
    match = row("question number two")
    words = row_words(match)
    assert known.ids[known.find(match, words, shingle_hashes(words.everything)).test] == "test:two"


def test_without_tests_nothing_matches():
    assert rule(row(VIGNETTE)) is None
    assert rule(chat("Hi")) is None


RAW = os.environ.get("RAW_DIR")
needs_rows = pytest.mark.skipif(not RAW, reason="RAW_DIR names no folder of published rows")


@needs_rows
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_every_published_mmlu_question_planted_into_training_is_caught(lang):
    items = [
        r for path in sorted(Path(RAW).rglob(f"*_test.{lang}.csv")) for r in sources.read_file(path)
    ]
    assert len(items) == 682
    known = KnownTests(items)
    for item in items:
        planted = item.replace(id=f"planted:{item.id}", split="train", source="medmcqa")
        words = row_words(planted)
        assert known.find(planted, words, shingle_hashes(words.everything)) is not None, item.id


@needs_rows
def test_published_sets_do_not_match_each_other():
    """1,000 MedMCQA rows against MedQA, PubMedQA and MMLU: what is found must truly be the same
    item.
    """
    folder = Path(RAW)
    tests = [
        r
        for file in sources.find_files(folder)
        if not file.path.name.startswith(("medmcqa", "mts"))
        for r in sources.read_file(file)
    ]
    known, found = KnownTests(tests), []
    for record in sources.read_file(next(folder.glob("medmcqa*.jsonl"))):
        words = row_words(record)
        if match := known.find(record, words, shingle_hashes(words.everything)):
            found.append((record.question, match.rule, known.ids[match.test]))
    assert found == []
