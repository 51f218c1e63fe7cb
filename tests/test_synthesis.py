"""Chats from questions: each rule by itself, and every recorded chat in the state it belongs in."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bimedix_utils import sources, synthesis
from bimedix_utils.records import Record
from bimedix_utils.synthesis import ChatTurn
from bimedix_utils.teacher.engine import Teacher, ask
from bimedix_utils.teacher.store import Answer

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
MIN, MAX = 2, 6
OPTIONS = ("Insulin", "Glucagon", "Cortisol", "Gastrin")


def mcqa(options=OPTIONS, answer_index=0, **more) -> Record:
    fields = {"id": "toy:1", "kind": "mcqa", "lang": "en", "source": "toy", "licence": "CC-BY-4.0", "split": "train", "topic": "Physiology"}
    return Record(**{**fields, "question": "Which hormone lowers blood sugar?", "options": options, "answer_index": answer_index, **more})


def chat(*texts: str, first: str = "patient") -> list[ChatTurn]:
    roles = ("patient", "doctor") if first == "patient" else ("doctor", "patient")
    return [ChatTurn(role=roles[i % 2], text=text) for i, text in enumerate(texts)]


GOOD = (
    "I am thirsty all day.",
    "How long has this been going on?",
    "For a month.",
    "Low insulin can do that; please see a clinician soon.",
)


def broken(*texts: str, question: Record | None = None, **how) -> list[str]:
    return synthesis.problems(chat(*texts, **how), question or mcqa(), MIN, MAX)


def ending(text: str) -> list[str]:
    """The rules a chat breaks whose last turn is `text`."""
    return broken(*GOOD[:3], text)


# Each rule


def test_a_good_chat_breaks_no_rule():
    assert broken(*GOOD) == []
    assert broken(*GOOD, "Thanks.", "You are welcome. Come back if it gets worse.") == []


def test_order_of_roles():
    assert broken("Hello.", *GOOD, first="doctor") == ["role_order"]
    assert broken(*GOOD, first="doctor") == ["role_order", "doctor_not_last", "no_question_asked"]
    doubled = chat(*GOOD)[:2] + chat("And what else?", first="doctor") + chat(*GOOD)[2:]
    assert synthesis.problems(doubled, mcqa(), MIN, MAX) == ["role_order"]


def test_the_doctor_has_the_last_word():
    assert broken(*GOOD, "Thank you.") == ["doctor_not_last"]


@pytest.mark.parametrize("exchanges, found", [(1, ["exchange_count"]), (2, []), (6, []), (7, ["exchange_count"])])
def test_number_of_exchanges(exchanges, found):
    turns = ["I feel ill.", "Since when?"] * exchanges
    assert [name for name in broken(*turns) if name != "no_question_asked"] == found


def test_limits_of_exchanges_are_the_callers():
    assert synthesis.problems(chat(*GOOD), mcqa(), 3, 4) == ["exchange_count"]
    assert synthesis.problems(chat(*GOOD[2:]), mcqa(), 1, 1) == ["no_question_asked"]


def test_an_empty_chat_is_not_usable():
    assert synthesis.problems([], mcqa(), MIN, MAX) == ["exchange_count", "no_question_asked"]


def test_the_doctor_asks_before_concluding():
    assert broken(GOOD[0], "I see.", *GOOD[2:]) == ["no_question_asked"]
    # Neither the patient's question nor one in the doctor's last words counts.
    assert broken("Why am I thirsty?", "I see.", "What is it?", "Low insulin. Is that clear?") == ["no_question_asked"]


@pytest.mark.parametrize(
    "text",
    [
        "This is a common exam question.",
        "In exams this would be insulin.",
        "It is a multiple-choice question on insulin.",
        "The answer key says insulin.",
        "The answer is option B, insulin.",
        "Of these, option A is right: insulin.",
        "Options A and C are wrong; insulin it is.",
        "The correct answer is A. Insulin.",
        "The answer is (A) insulin.",
        "Choice C is wrong; it is insulin.",
        "It is insulin (A).",
    ],
)
def test_no_talk_of_exams_options_or_letters(text):
    assert ending(text) == ["mentions_exam"]


def test_the_patient_may_not_talk_of_exams_either():
    assert broken("Is it option A?", *GOOD[1:]) == ["mentions_exam"]


@pytest.mark.parametrize(
    "text",
    [
        "Several treatment options exist; low insulin is the cause.",
        "Vitamin A is fine, your insulin is low.",
        "Hepatitis B is not the cause; low insulin is.",
        "You have two choices, and insulin is one.",
        "Your blood group (AB) does not matter; insulin does.",
    ],
)
def test_ordinary_talk_is_not_about_exams(text):
    assert ending(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "I would like to examine you; low insulin is likely.",
        "A physical examination comes next; low insulin is likely.",
        "Low insulin, for example, makes people thirsty.",
        "The short answer is a lack of insulin.",
        "Those are choices a clinician explains; insulin is one.",
    ],
)
def test_ordinary_clinical_talk_is_not_about_exams(text):
    assert ending(text) == []


def test_english_only():
    assert ending("الإنسولين منخفض. Insulin is low.") == ["other_language"]
    assert broken("أشعر بالعطش", *GOOD[1:]) == ["other_language"]
    assert ending("Low insulin – at 37.5 °C, a naïve “café” test; β-cells do it.") == []


@pytest.mark.parametrize("text", ["Insulin is low. 请去看医生。", "Insulin is low. Обратитесь к врачу."], ids=["Chinese", "Russian"])
def test_english_only_in_any_script(text):
    assert ending(text) == ["other_language"]


def test_a_wrong_option_may_not_win():
    assert ending("This is due to glucagon.") == ["wrong_answer"]
    assert ending("Not glucagon: it is insulin.") == []
    assert ending("The hormone of the pancreas is too low.") == []  # nothing is named: words cannot tell
    assert broken("Is it glucagon?", *GOOD[1:]) == []  # only the doctor's words count


def test_only_words_that_tell_options_apart_count():
    options = ("Colles fracture", "Smith fracture", "Barton fracture", "Galeazzi fracture")
    said = [*GOOD[:3], "That looks like a fracture of the wrist."]
    assert broken(*said, question=mcqa(options)) == []
    said[-1] = "That looks like a Smith fracture."
    assert broken(*said, question=mcqa(options)) == ["wrong_answer"]
    assert broken(*said, question=mcqa(options, answer_index=1)) == []


def test_yes_no_maybe_has_no_wrong_words():
    """Three options are a research question: 'no' in a sentence decides nothing."""
    assert broken(*GOOD, question=mcqa(("insulin", "thirsty month", "maybe"), answer_index=2)) == []


def test_words_meet_in_their_first_six_letters():
    assert synthesis.content_words("An inhibitor of the enzyme") == {"inhibi", "enzyme"}
    assert synthesis.content_words("It inhibits ENZYMES") >= {"inhibi", "enzyme"}
    assert synthesis.content_words("is of to a no") == set()


def test_several_broken_rules_are_all_named_in_order():
    assert broken("Option A?", "خذ Glucagon.", "Thanks") == [
        "doctor_not_last", "exchange_count", "no_question_asked", "mentions_exam", "other_language", "wrong_answer",
    ]  # fmt: skip


# Requests and statuses


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(backend="replay", model="recorded", recordings=DATA / "recordings")


def test_a_request_holds_question_options_key_and_limits(teacher):
    (request,) = synthesis.requests([mcqa(answer="It moves glucose into cells.", context="An abstract.")], teacher, 3, 5, 1)
    text = request.messages[0][1]
    assert request.place == ("synthesize_chat", "toy:1", 0, 0) and request.prompt_version == synthesis.PROMPT.tag
    for part in (
        "Context: An abstract.",
        "Which hormone lowers",
        "A. Insulin B. Glucagon",
        "Correct answer: Insulin",
        "between 3 and 5 exchanges",
    ):
        assert part in text
    assert "It moves glucose into cells." in text and any(persona in text for persona in synthesis.PERSONAS)


def test_personas_do_not_depend_on_order_or_neighbours(teacher):
    rows = [mcqa(id=f"toy:{i}") for i in range(40)]
    texts = {r.row_id: r.messages for r in synthesis.requests(rows, teacher, MIN, MAX, 42)}
    backwards = {r.row_id: r.messages for r in synthesis.requests(rows[::-2], teacher, MIN, MAX, 42)}
    assert len(backwards) == 20
    assert backwards == {row_id: texts[row_id] for row_id in backwards}
    other_seed = {r.row_id: r.messages for r in synthesis.requests(rows, teacher, MIN, MAX, 43)}
    assert 0 < sum(texts[i] != other_seed[i] for i in texts) < 40
    assert len(set(texts.values())) > 5


def test_every_question_ends_in_one_status(teacher):
    rows = [mcqa(id=f"toy:{i}", question=f"Question {i}?") for i in range(6)]
    asked = synthesis.requests(rows, teacher, MIN, MAX, 42)
    good = json.dumps({"turns": [turn.model_dump() for turn in chat(*GOOD)]})
    raw = [(good, "stop"), (good, "length"), ("I cannot help.", "stop"), ("{}", "stop"), (good.replace("For a month", "Option B"), "stop")]
    answers = {r.id: Answer(r.id, *raw[i]) if i < 5 else Answer(r.id, None, error="HTTP 500") for i, r in enumerate(asked)}
    chats, statuses = synthesis.collect(rows, asked, answers, MIN, MAX)
    assert [statuses[row.id][0] for row in rows] == ["ok", "truncated", "refused", "parse_failed", "rejected", "failed"]
    assert statuses["toy:4"] == ("rejected", "mentions_exam")
    (made,) = chats
    assert (made.id, made.parent_id, made.kind, made.split, made.topic) == ("chat:toy:0", "toy:0", "chat", "train", "Physiology")
    assert [turn.text for turn in made.turns] == list(GOOD)


def test_an_answer_with_a_third_role_or_an_empty_turn_is_parse_failed(teacher):
    rows = [mcqa(id="toy:0"), mcqa(id="toy:1", question="Another question?")]
    asked = synthesis.requests(rows, teacher, MIN, MAX, 42)
    texts = ['{"turns": [{"role": "nurse", "text": "Hi"}]}', '{"turns": [{"role": "patient", "text": ""}]}']
    answers = {r.id: Answer(r.id, text) for r, text in zip(asked, texts, strict=True)}
    statuses = synthesis.collect(rows, asked, answers, MIN, MAX)[1]
    assert [status for status, _ in statuses.values()] == ["parse_failed", "parse_failed"]


# The recordings

FAULTS = {
    "chat_one_exchange": ("rejected", "exchange_count"),
    "chat_letters": ("rejected", "mentions_exam"),
    "chat_no_question": ("rejected", "no_question_asked"),
    "chat_role_order": ("rejected", "role_order"),
    "chat_states_wrong": ("rejected", "wrong_answer"),
    "truncated": ("truncated", "cut at the token limit"),
    "refusal": ("refused", "I'm sorry"),
    "not_json": ("parse_failed", "no JSON object"),
    "code_fence": ("ok", ""),
    "": ("ok", ""),
}
RECORDED = [json.loads(row) for row in (DATA / "recordings" / "synthesize_chat.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def collected(teacher):
    names = ("medmcqa_train.en.jsonl", "medqa_train.en.jsonl", "pubmedqa_train.en.json")
    questions = [record for name in names for record in sources.read_file(DATA / "sample" / name, kit=True)]
    asked = synthesis.requests(questions, teacher, MIN, MAX, seed=42)
    return questions, *synthesis.collect(questions, asked, ask(teacher, asked), MIN, MAX)


def test_every_fault_is_recorded_and_known():
    assert {row["fault"] for row in RECORDED} == set(FAULTS)


@pytest.mark.parametrize("row_id, fault", [(row["row_id"], row["fault"]) for row in RECORDED])
def test_recorded_chat_ends_where_it_should(row_id, fault, collected):
    status, note = collected[2][row_id]
    wanted, word = FAULTS[fault]
    assert status == wanted, note
    assert word in note and (word or not note)
    if status == "rejected" and fault == "chat_states_wrong":
        assert note == "wrong_answer"  # nothing else is wrong with it


def test_every_sample_question_is_accounted_for(collected):
    questions, chats, statuses = collected
    assert list(statuses) == [question.id for question in questions]
    counts = Counter(status for status, _ in statuses.values())
    assert counts["ok"] == len(chats) == sum(row["fault"] in ("", "code_fence") for row in RECORDED)
    unrecorded = {question.id for question in questions} - {row["row_id"] for row in RECORDED}
    assert {row_id for row_id, why in statuses.items() if why == ("held", "no recording")} == unrecorded
    assert all(made.id == synthesis.chat_id(made.parent_id) and made.licence == sources.KIT_LICENCE for made in chats)
