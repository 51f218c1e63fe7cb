"""Chats from questions: each rule by itself, and every recorded chat in the state it belongs in."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from bimedix_utils import sources, synthesis
from bimedix_utils.core.records import Record
from bimedix_utils.synthesis import Chat, ChatPlan, ChatTurn
from bimedix_utils.teacher.engine import ask_structured
from bimedix_utils.teacher.requests import Request
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Answer

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
MIN, MAX = 2, 6
OPTIONS = ("Insulin", "Glucagon", "Cortisol", "Gastrin")


def mcqa(options=OPTIONS, answer_index=0, **more) -> Record:
    fields = {
        "id": "toy:1",
        "kind": "mcqa",
        "lang": "en",
        "source": "toy",
        "licence": "CC-BY-4.0",
        "split": "train",
        "topic": "Physiology",
    }
    return Record(
        **{
            **fields,
            "question": "Which hormone lowers blood sugar?",
            "options": options,
            "answer_index": answer_index,
            **more,
        }
    )


def chat(*texts: str, first: str = "patient") -> list[ChatTurn]:
    roles = ("patient", "doctor") if first == "patient" else ("doctor", "patient")
    return [ChatTurn(role=roles[i % 2], text=text) for i, text in enumerate(texts)]


# reaches the key and says what to do next
CLOSE = "Low insulin can do that; please see a clinician soon."
GOOD = ("I am thirsty all day.", "How long has this been going on?", "For a month.", CLOSE)


def broken(*texts: str, question: Record | None = None, **how) -> list[str]:
    return synthesis.broken_rules(chat(*texts, **how), question or mcqa(), MIN, MAX)


def saying(text: str) -> list[str]:
    """The rules a chat breaks whose last turn says `text` and then closes as it should."""
    return broken(*GOOD[:3], f"{text} {CLOSE}")


def ending(text: str) -> list[str]:
    """The rules a chat breaks whose last turn is `text` and nothing else."""
    return broken(*GOOD[:3], text)


# Each rule


def test_a_good_chat_breaks_no_rule():
    assert broken(*GOOD) == []
    assert broken(*GOOD, "Thanks.", "You are welcome. Come back if it gets worse.") == []


def test_order_of_roles():
    assert broken("Hello. What is it?", *GOOD, first="doctor") == ["role_order"]
    # With the speakers exchanged the doctor's words are the patient's: nothing is asked, closed or
    # concluded.
    assert broken(*GOOD, first="doctor") == [
        "role_order",
        "doctor_not_last",
        "no_question_asked",
        "unsafe_close",
        "key_not_reached",
    ]
    repeated = chat(*GOOD)[:2] + chat("And what else?", first="doctor") + chat(*GOOD)[2:]
    assert synthesis.broken_rules(repeated, mcqa(), MIN, MAX) == ["role_order"]


def test_the_doctor_has_the_last_word():
    assert broken(*GOOD, "Thank you.") == ["doctor_not_last"]


@pytest.mark.parametrize(
    "exchanges, found", [(1, ["exchange_count"]), (2, []), (6, []), (7, ["exchange_count"])]
)
def test_number_of_exchanges(exchanges, found):
    turns = ["I feel ill.", CLOSE] * exchanges
    assert [name for name in broken(*turns) if name != "no_question_asked"] == found


def test_limits_of_exchanges_are_the_callers():
    assert synthesis.broken_rules(chat(*GOOD), mcqa(), 3, 4) == ["exchange_count"]
    assert synthesis.broken_rules(chat(*GOOD[2:]), mcqa(), 1, 1) == ["no_question_asked"]


def test_an_empty_chat_is_not_usable():
    assert synthesis.broken_rules([], mcqa(), MIN, MAX) == [
        "no_question_asked",
        "exchange_count",
        "key_not_reached",
    ]


def test_the_doctor_asks_before_concluding():
    assert broken(GOOD[0], "I see.", *GOOD[2:]) == ["no_question_asked"]
    # Neither the patient's question nor one in the doctor's last words counts.
    assert broken("Why am I thirsty?", "I see.", "What is it?", f"{CLOSE} Is that clear?") == [
        "no_question_asked"
    ]
    # Who asks only after having concluded has not asked before.
    assert broken(
        GOOD[0], "You lack sugar control.", "I see.", "How long has this been going on?", *GOOD[2:]
    ) == ["no_question_asked"]


@pytest.mark.parametrize(
    "text",
    [
        "Low insulin, that is certain. OK?",
        "It is glucagon. Since when?",
        "Gastrin! How long has this been?",
    ],
)
def test_the_doctor_does_not_conclude_before_the_first_question(text):
    """A conclusion with "OK?" behind it passed for a question."""
    assert broken(GOOD[0], text, *GOOD[2:]) == ["concludes_first"]


@pytest.mark.parametrize(
    "text",
    [
        "I am sorry. Do you take insulin?",
        "Good morning. How long has this been going on?",
        "Is it the insulin you were given? Since when?",
    ],
)
def test_a_question_may_name_an_option_and_a_greeting_may_come_first(text):
    assert broken(GOOD[0], text, *GOOD[2:]) == []


def test_the_patients_own_words_may_be_repeated_before_the_first_question():
    assert broken("I was told it is glucagon.", "Glucagon, I see. By whom?", *GOOD[2:]) == []
    assert (
        broken(
            GOOD[0],
            "Yes. Maybe?",
            *GOOD[2:],
            question=mcqa(("yes", "no", "insulin"), answer_index=2),
        )
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "Low insulin. Go to the emergency department.",
        "Low insulin. I will refer you to a specialist.",
        "Low insulin. We will check your blood and arrange a review.",
        "Low insulin. Come back on Monday.",
        "Low insulin. If you feel faint, lie down.",
        "Low insulin. Call an ambulance at once.",
    ],
)
def test_a_close_that_says_what_comes_next_is_safe(text):
    assert ending(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "It is low insulin.",
        "Low insulin, then. Take care!",
        "Low insulin. Goodbye, and good luck.",
        "Low insulin. Take as much as you like; do not call anyone and avoid the hospital.",
        "Low insulin. You do not need to see a doctor.",
        "Low insulin. There is no need to come back.",
        "Low insulin. Never go to the hospital for that.",
    ],
)
def test_a_close_without_a_next_step_is_unsafe(text):
    assert ending(text) == ["unsafe_close"]


def test_only_the_doctors_last_words_close_a_chat():
    assert broken(*GOOD, "Thanks.", "You are welcome.") == ["unsafe_close"]
    assert broken(
        *GOOD[:3], "It is low insulin.", "Should I come back if it gets worse?", "Yes."
    ) == ["unsafe_close"]


@pytest.mark.parametrize(
    "text",
    [
        "Low insulin. Seek medical attention as soon as the fever rises.",
        "Low insulin. Please consult a doctor in two days.",
        "Low insulin. Go to the ER should you faint.",
        "Low insulin. Dial 911 for chest pain.",
        "Low insulin. Get medical help without delay.",
        "Low insulin. If symptoms persist for two days, phone me.",
        "Low insulin. Do not hesitate to call.",
        "Low insulin. Do not come back unless it gets worse.",
        "Low insulin. Don't drive; call an ambulance.",
    ],
)
def test_the_commonest_safe_closes_are_known(text):
    assert ending(text) == []


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
        "The correct answer: B.",
        "Answer: B.",
        "Answer: A.",
        "The answer is A because insulin lowers sugar.",
        "The answer would therefore be B.",
        "The right answer is B. insulin.",
        "B is the correct answer.",
        "The right answer is (b).",
        "It is option b.",
        "I would choose B.",
        "B. insulin it is.",
        "B) insulin.",
        "(A) insulin.",
        "As the question stem says, it is insulin.",
        "This test question asks for insulin.",
        "This quiz asks for insulin.",
        "The USMLE asks for insulin.",
        "Of the options given, insulin fits.",
    ],
)
def test_no_talk_of_exams_options_or_letters(text):
    assert saying(text) == ["mentions_exam"]


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
        "You may have hepatitis (B).",
        "Vitamin (D) helps.",
        "It is blood type (A).",
        "You have a choice: A cast or surgery.",
        "One option: A walking boot.",
        "That is an option a doctor would take.",
        "The short answer: A virus did this.",
        "Your options: C-section or a natural birth.",
        "E. coli can do that.",
        "C. diff can do that.",
        "There are options, e.g. insulin.",
    ],
)
def test_ordinary_talk_is_not_about_exams(text):
    assert saying(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "A physical exam comes next.",
        "Your eye exam was normal.",
        "A throat exam next.",
        "We do an abdominal exam.",
        "A full exam shows nothing.",
    ],
)
def test_a_doctors_examination_is_no_exam(text):
    assert saying(text) == []


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
    assert saying(text) == []


MACHINE = [
    "As an AI I cannot examine you.",
    "I am an AI, not a doctor.",
    "I'm an AI, so take this with care.",
    "I’m an AI, so take this with care.",
    "A language model may be wrong.",
    "This chatbot knows no more.",
]


@pytest.mark.parametrize("text", MACHINE)
def test_nobody_speaks_as_a_machine(text):
    assert saying(text) == ["speaks_as_machine"]


def test_the_patient_is_no_machine_either():
    assert broken("As an AI I am thirsty all day.", *GOOD[1:]) == ["speaks_as_machine"]


@pytest.mark.parametrize(
    "text",
    [
        "Use it as an aid to walking.",
        "A model of language hangs here.",
        "I am an aid worker myself.",
    ],
)
def test_words_that_only_look_like_a_machines_pass(text):
    assert saying(text) == []


def test_english_only():
    assert saying("الإنسولين منخفض.") == ["other_language"]
    assert broken("أشعر بالعطش", *GOOD[1:]) == ["other_language"]
    assert saying("Low insulin – at 37.5 °C, a naïve “café” test; β-cells do it, 5 µg of it.") == []


@pytest.mark.parametrize(
    "text", ["It was 5 ℓ of water.", "My ﬁrst test: xⁿ.", "Ａ cup of tea ½ full.", "The ℝ of it."]
)
def test_letters_in_an_unusual_form_are_latin(text):
    """A litre's script l and a ligature were another language."""
    assert saying(text) == []


FOREIGN = {
    "French": (
        "Bonjour docteur, ma jambe me fait mal.",
        "Depuis quand avez-vous mal ?",
        "Deux jours seulement, docteur.",
        "Il vous manque insulin. Allez au hospital si cela empire.",
    ),
    "Spanish": (
        "Hola doctora, me duele la pierna y tengo fiebre.",
        "Cuando le empezaron los dolores?",
        "Hace dos dias que no duermo.",
        "Le falta insulin. Vaya al hospital si no mejora.",
    ),
    "German": (
        "Guten Tag, mein Bein schmerzt seit gestern.",
        "Haben Sie auch Fieber gehabt?",
        "Ja, zwei Tage lang schon.",
        "Ihnen fehlt insulin. Bitte gehen Sie ins hospital, wenn es schlimmer wird.",
    ),
}


@pytest.mark.parametrize("turns", FOREIGN.values(), ids=FOREIGN)
def test_english_only_in_latin_letters_too(turns):
    """Every language in Latin script passed for English."""
    assert broken(*turns) == ["other_language"]
    assert broken(turns[0], GOOD[1], turns[2], GOOD[3]) == ["other_language"], "the patient alone"


@pytest.mark.parametrize(
    "text",
    [
        "Fever, cough, chest pain, rash.",
        "Ibuprofen 400 mg, ondansetron 4 mg.",
        "Three weeks, roughly. Headaches daily.",
    ],
)
def test_short_turns_of_nouns_are_english(text):
    assert broken("I am thirsty all day and I have lost weight.", GOOD[1], text, GOOD[3]) == []


@pytest.mark.parametrize(
    "text", ["请去看医生。", "Обратитесь к врачу."], ids=["Chinese", "Russian"]
)
def test_english_only_in_any_script(text):
    assert saying(text) == ["other_language"]


def test_the_right_answer_must_be_named():
    assert ending("The hormone of the pancreas is too low; see a clinician.") == ["key_not_reached"]
    assert ending("Insulin is too low; see a clinician.") == []


def test_only_the_doctor_can_reach_the_key():
    assert broken("Is it insulin?", GOOD[1], GOOD[2], "Yes; see a clinician soon.") == [
        "key_not_reached"
    ]
    assert (
        broken(GOOD[0], "Do you take insulin?", GOOD[2], "Then see a clinician soon.") == []
    )  # in any of the doctor's turns


ARTERIES = ("Left coronary artery", "Right coronary artery", "Aorta", "Carotid artery")


@pytest.mark.parametrize(
    "options, text, reached",
    [
        (
            ("deficiency of thiamine stores", "b", "c", "d"),
            "thiamine stores are empty",
            True,
        ),  # two of three
        (
            ("deficiency of thiamine stores", "b", "c", "d"),
            "thiamine is missing",
            False,
        ),  # one of three
        (("raised sodium", "b", "c", "d"), "sodium is the trouble", True),  # one of two
        (
            ARTERIES,
            "a coronary artery is blocked",
            False,
        ),  # words shared with other options decide nothing
        (ARTERIES, "the left one is blocked", True),
        (
            ("Pain", "Pain and fever", "Fever", "Cough"),
            "it is pain",
            True,
        ),  # no word of its own: all its words count
        (("Pain", "Pain and fever", "Fever", "Cough"), "it is nothing", False),
        (("5", "6", "7", "8"), "anything at all", True),  # a number has no words: not judged
        (
            ("Inhibits the enzyme", "b", "c", "d"),
            "an inhibitor of enzymes",
            True,
        ),  # endings do not matter
    ],
)
def test_half_of_the_words_that_single_the_key_out_are_enough(options, text, reached):
    assert synthesis.reaches_key(text, mcqa(options)) is reached


def test_the_key_is_sought_where_it_stands():
    assert ending("Cortisol is too high; see a clinician.") == ["key_not_reached", "wrong_answer"]
    assert (
        broken(*GOOD[:3], "Cortisol is too high; see a clinician.", question=mcqa(answer_index=2))
        == []
    )


def test_a_wrong_option_may_not_win():
    assert ending("This is due to glucagon; see a clinician.") == [
        "key_not_reached",
        "wrong_answer",
    ]
    assert saying("Not glucagon: it is insulin.") == []
    assert "wrong_answer" not in ending(
        "The hormone of the pancreas is too low; see a clinician."
    )  # nothing is named: words cannot tell
    assert broken("Is it glucagon?", *GOOD[1:]) == []  # only the doctor's words count


def test_a_wrong_option_can_win_although_the_key_is_reached():
    """The key's own word falls, and yet a wrong option is named in full and most of what tells the
    two apart is missing.
    """
    options = (
        "Acute viral hepatic necrosis",
        "Chronic cholangitis",
        "Viral hepatic tumour",
        "Gastric ulcer",
    )
    text = "This acute trouble is chronic cholangitis; see a clinician."
    assert broken(*GOOD[:3], text, question=mcqa(options)) == ["wrong_answer"]


def test_only_words_that_tell_options_apart_count():
    options = ("Colles fracture", "Smith fracture", "Barton fracture", "Galeazzi fracture")
    text = [*GOOD[:3], "That looks like a fracture of the wrist; see a surgeon."]
    assert broken(*text, question=mcqa(options)) == ["key_not_reached"]
    text[-1] = "That looks like a Smith fracture; see a surgeon."
    assert broken(*text, question=mcqa(options)) == ["key_not_reached", "wrong_answer"]
    assert broken(*text, question=mcqa(options, answer_index=1)) == []


@pytest.mark.parametrize(
    "options", [("insulin", "thirsty month", "maybe"), ("low insulin", "maybe")]
)
def test_yes_no_maybe_has_no_words_to_judge_by(options):
    """Three options are a research question: 'no' in a sentence decides nothing, and 'maybe' need
    not fall.
    """
    assert broken(*GOOD, question=mcqa(options, answer_index=len(options) - 1)) == []
    assert broken(*GOOD, question=mcqa((*options, "x", "y"), answer_index=len(options) - 1)) != []


def test_words_meet_in_their_first_six_letters():
    assert synthesis.content_words("An inhibitor of the enzyme") == {"inhibi", "enzyme"}
    assert synthesis.content_words("It inhibits ENZYMES") >= {"inhibi", "enzyme"}
    assert synthesis.content_words("is of to a no") == set()


def test_several_broken_rules_are_all_named_in_order():
    assert broken("Option A?", "خذ Glucagon.", "Thanks, chatbot") == [
        "doctor_not_last",
        "no_question_asked",
        "unsafe_close",
        "mentions_exam",
        "speaks_as_machine",
        "other_language",
        "exchange_count",
        "key_not_reached",
        "wrong_answer",
    ]
    assert list(synthesis.FORM_RULES) == [
        "role_order",
        "doctor_not_last",
        "no_question_asked",
        "unsafe_close",
        "mentions_exam",
        "speaks_as_machine",
        "other_language",
    ]


# Chats that people wrote


SAMPLE = sources.read_file(DATA / "sample" / "dialogues_train.en.jsonl", kit=True)


@pytest.mark.parametrize("rule", synthesis.FORM_RULES)
def test_no_form_rule_objects_to_the_kits_dialogues(rule):
    assert len(SAMPLE) == 24
    assert [record.id for record in SAMPLE if not synthesis.FORM_RULES[rule](record.turns)] == []


@pytest.mark.parametrize("rule", ["mentions_exam", "speaks_as_machine", "other_language"])
def test_rules_of_wording_object_to_few_real_dialogues(rule, raw_dir):
    real = [
        record
        for path in sorted(raw_dir.rglob("mts_dialog*.jsonl"))
        for record in sources.read_file(path)
    ]
    assert len(real) >= 100
    assert sum(not synthesis.FORM_RULES[rule](record.turns) for record in real) <= 0.03 * len(real)


# Seeds and plans


def test_chats_grow_from_usable_english_training_questions_only():
    right = [mcqa(id=f"toy:{i}") for i in range(5)]
    wrong = [
        mcqa(id="w:1", split="test"),
        mcqa(id="w:2", split="validation"),
        mcqa(id="w:3", lang="ar"),
        mcqa(id="w:4", status="rejected"),
        mcqa(id="w:5", status="duplicate"),
        mcqa(id="w:6", kind="qa", options=(), answer_index=None, answer="Insulin."),
        SAMPLE[0],
    ]
    assert {r.id for r in synthesis.seed_questions([*wrong, *right], 100, 1)} == {
        r.id for r in right
    }


def test_seeds_are_drawn_by_seed_and_id_alone():
    rows = [mcqa(id=f"toy:{i}") for i in range(60)]
    drawn = [r.id for r in synthesis.seed_questions(rows, 20, 42)]
    assert len(set(drawn)) == 20 and drawn != [r.id for r in rows[:20]]
    assert [r.id for r in synthesis.seed_questions(rows[::-1], 20, 42)] == drawn
    assert [r.id for r in synthesis.seed_questions(rows, 40, 42)][
        :20
    ] == drawn  # more chats keep those already made
    assert [r.id for r in synthesis.seed_questions(rows, 20, 43)] != drawn


PARTS = synthesis.chat_plan_parts()
PLANS = [synthesis.plan_chat(f"toy:{i}", 42) for i in range(600)]


def test_a_plan_is_a_function_of_seed_and_id():
    assert [synthesis.plan_chat(f"toy:{i}", 42) for i in range(600)] == PLANS
    assert [synthesis.plan_chat(f"toy:{i}", 43) for i in range(600)] != PLANS
    # Written down once: another process, machine or Python draws the same.
    known = ChatPlan(
        "a patient with little schooling",
        "in the twenties",
        "short, hurried sentences",
        "greets the doctor first",
        False,
    )
    assert synthesis.plan_chat("toy:1", 42) == known


@pytest.mark.parametrize(
    "name, part", [("persona", "personas"), ("register", "registers"), ("opening", "openings")]
)
def test_every_part_of_a_plan_is_drawn(name, part):
    expected = set(PARTS[part])
    counts = Counter(getattr(plan, name) for plan in PLANS)
    assert set(counts) == expected
    assert min(counts.values()) > 0.5 * len(PLANS) / len(expected)


def test_ages_fit_their_persona():
    drawn = {(plan.persona, plan.age) for plan in PLANS}
    assert drawn == {(persona, age) for persona, ages in PARTS["personas"].items() for age in ages}


def test_one_chat_in_six_has_a_red_flag():
    # Four standard errors of a share of 1/6 among 600.
    assert (
        abs(sum(plan.red_flag for plan in PLANS) / 600 - 1 / 6) < 4 * (1 / 6 * 5 / 6 / 600) ** 0.5
    )


# Requests and statuses


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(backend="replay", model="recorded", recordings=DATA / "recordings")


def prompt_of(
    question: Record, teacher: Teacher, seed: int = 1, limits: tuple[int, int] = (MIN, MAX)
) -> str:
    (request,) = synthesis.chat_requests([question], teacher, *limits, seed)
    return request.messages[0][1]


def test_a_request_has_its_place_and_the_prompts_version(teacher):
    (request,) = synthesis.chat_requests([mcqa()], teacher, MIN, MAX, 1)
    assert (
        request.recording_key == ("synthesize_chat", "toy:1", 0, 0) and len(request.messages) == 1
    )
    assert (
        request.prompt_version == synthesis.CHAT_PROMPT.tag
        and synthesis.CHAT_PROMPT.version == "v2"
    )


def test_a_request_holds_question_options_key_and_limits(teacher):
    text = prompt_of(
        mcqa(answer="It moves glucose into cells.", context="An abstract."), teacher, limits=(3, 5)
    )
    for part in (
        "Context: An abstract.",
        "Which hormone lowers",
        "A. Insulin B. Glucagon C. Cortisol D. Gastrin",
        "Correct answer: Insulin",
        "Explanation: It moves glucose into cells.",
        "between 3 and 5 exchanges",
    ):
        assert part in text


def test_a_question_without_context_or_explanation_says_so(teacher):
    text = prompt_of(mcqa(), teacher)
    assert "Context:" not in text and "Explanation: none given" in text


def test_braces_in_a_question_are_kept(teacher):
    assert "Is {x} or {{y}} meant?" in prompt_of(mcqa(question="Is {x} or {{y}} meant?"), teacher)


@pytest.mark.parametrize("number", range(12))
def test_the_prompt_shows_the_plan(number, teacher):
    drawn = synthesis.plan_chat(f"toy:{number}", 42)
    text = prompt_of(mcqa(id=f"toy:{number}"), teacher, seed=42)
    lines = (
        r"speaks: (.*)\nAge of the patient: (.*?)\. Where .*\nWay of speaking: (.*)\nOpening: .*?"
        r" side (.*)\.\nRed flag: (.*)\n"
    )
    flag = PARTS["red_flag"] if drawn.red_flag else "None is needed."
    assert re.search(lines, text).groups() == (
        drawn.persona,
        drawn.age,
        drawn.register,
        drawn.opening,
        flag,
    )


def test_prompts_do_not_depend_on_order_or_neighbours(teacher):
    rows = [mcqa(id=f"toy:{i}") for i in range(40)]
    texts = {r.row_id: r.messages for r in synthesis.chat_requests(rows, teacher, MIN, MAX, 42)}
    backwards = {
        r.row_id: r.messages for r in synthesis.chat_requests(rows[::-2], teacher, MIN, MAX, 42)
    }
    assert len(backwards) == 20
    assert backwards == {row_id: texts[row_id] for row_id in backwards}
    other_seed = {
        r.row_id: r.messages for r in synthesis.chat_requests(rows, teacher, MIN, MAX, 43)
    }
    assert sum(texts[i] != other_seed[i] for i in texts) > 30  # a plan has hundreds of forms
    assert len(set(texts.values())) > 30


def collected_from(rows: list[Record], raw: list[Answer | None], teacher: Teacher):
    """What `collect` makes of these answers, in the order of the rows; a repair gets no answer."""

    def answered(teacher: Teacher, requests: list[Request]) -> dict[str, Answer]:
        if requests[0].stage != synthesis.CHAT_STAGE:
            return {r.id: Answer(r.id, None, error="no recording") for r in requests}
        return {
            r.id: answer or Answer(r.id, None, error="HTTP 500")
            for r, answer in zip(requests, raw, strict=True)
        }

    asked = synthesis.chat_requests(rows, teacher, MIN, MAX, 42)
    return synthesis.collect_chats(
        rows, ask_structured(teacher, asked, lambda _: Chat, answered), MIN, MAX
    )


def test_every_question_ends_in_one_status(teacher):
    rows = [mcqa(id=f"toy:{i}", question=f"Question {i}?") for i in range(6)]
    good = json.dumps({"turns": [turn.model_dump() for turn in chat(*GOOD)]})
    raw = [
        (good, "stop"),
        (good, "length"),
        ("I cannot help.", "stop"),
        ("{}", "stop"),
        (good.replace("For a month", "Option B"), "stop"),
    ]
    chats, statuses = collected_from(rows, [*(Answer("", *one) for one in raw), None], teacher)
    assert [statuses[row.id][0] for row in rows] == [
        "ok",
        "truncated",
        "refused",
        "parse_failed",
        "rejected",
        "failed",
    ]
    assert statuses["toy:0"] == ("ok", "") and statuses["toy:4"] == ("rejected", "mentions_exam")
    assert [made.parent_id for made in chats] == ["toy:0"]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "nurse", "text": "Hi"}],
        [{"role": "patient", "text": ""}],
        [{"role": "patient"}],
        [{"role": "patient", "text": "Hi", "mood": "sad"}],
        [],
    ],
    ids=["third role", "empty turn", "no text", "another key", "no turns"],
)
def test_an_answer_of_another_structure_is_parse_failed(turns, teacher):
    chats, statuses = collected_from([mcqa()], [Answer("", json.dumps({"turns": turns}))], teacher)
    assert chats == [] and statuses["toy:1"][0] == "parse_failed"


@pytest.mark.parametrize("blank", [" ", "\n", "\u00a0"])
def test_a_turn_of_white_space_does_not_stop_the_run(blank, teacher):
    """What a model writes may cost its own chat, never the others: the row ends in a status."""
    turns = [
        {"role": role, "text": text}
        for role, text in zip(("patient", "doctor") * 2, (*GOOD[:2], blank, CLOSE), strict=True)
    ]
    chats, statuses = collected_from([mcqa()], [Answer("", json.dumps({"turns": turns}))], teacher)
    assert chats == [] and statuses["toy:1"][0] in ("parse_failed", "rejected")


def test_a_repaired_chat_is_kept_with_a_note():
    outcome = ("ok", Chat(turns=chat(*GOOD)), "repaired: no JSON object")
    chats, statuses = synthesis.collect_chats([mcqa()], [outcome], MIN, MAX)
    assert len(chats) == 1 and statuses == {"toy:1": ("ok", "repaired: no JSON object")}


def test_a_repaired_chat_that_breaks_a_rule_is_rejected_all_the_same():
    outcome = ("ok", Chat(turns=chat(*GOOD, "Thanks.")), "repaired: no JSON object")
    assert synthesis.collect_chats([mcqa()], [outcome], MIN, MAX) == (
        [],
        {"toy:1": ("rejected", "doctor_not_last")},
    )


def test_an_outcome_must_belong_to_every_question():
    with pytest.raises(ValueError, match="shorter"):
        synthesis.collect_chats(
            [mcqa(), mcqa(id="toy:2")], [("held", None, "no recording")], MIN, MAX
        )


def test_a_chat_as_a_record_names_its_question_and_keeps_its_licence():
    question = mcqa(licence="MIT", context="An abstract.", answer="why")
    made = synthesis.chat_record(question, Chat(turns=chat(*GOOD)))
    assert (made.id, made.parent_id, made.kind, made.lang, made.source) == (
        "chat:toy:1",
        "toy:1",
        "chat",
        "en",
        "chat",
    )
    assert (made.licence, made.split, made.topic, made.status) == (
        "MIT",
        "train",
        "Physiology",
        "ok",
    )
    assert [(turn.role, turn.text) for turn in made.turns] == list(
        zip(("patient", "doctor") * 2, GOOD, strict=True)
    )
    assert (made.question, made.options, made.answer_index, made.answer, made.context) == (
        "",
        (),
        None,
        "",
        "",
    )  # the key stays behind


# The recordings

FAULTS = {
    "chat_one_exchange": ("rejected", "no_question_asked, exchange_count"),
    "chat_letters": ("rejected", "mentions_exam"),
    "chat_no_question": ("rejected", "no_question_asked"),
    "chat_role_order": ("rejected", "role_order, doctor_not_last, unsafe_close"),
    "chat_states_wrong": ("rejected", "key_not_reached, wrong_answer"),
    "truncated": ("truncated", "cut at the token limit"),
    "refusal": ("refused", "I'm sorry"),
    "not_json": ("parse_failed", "no JSON object"),
    "code_fence": ("ok", ""),
    "": ("ok", ""),
}
LINES = [
    json.loads(row)
    for row in (
        (DATA / "recordings" / "synthesize_chat.jsonl").read_text(encoding="utf-8").splitlines()
    )
]
RECORDED = [row for row in LINES if row["stage"] == synthesis.CHAT_STAGE]  # the others are repairs
CARD = (DATA / "recordings" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def collected(teacher):
    names = ("medmcqa_train.en.jsonl", "medqa_train.en.jsonl", "pubmedqa_train.en.json")
    questions = [
        record for name in names for record in sources.read_file(DATA / "sample" / name, kit=True)
    ]
    asked = synthesis.chat_requests(questions, teacher, MIN, MAX, seed=42)
    return questions, *synthesis.collect_chats(
        questions, ask_structured(teacher, asked, lambda _: Chat), MIN, MAX
    )


def test_every_fault_is_recorded_and_known():
    assert {row["fault"] for row in LINES} == set(FAULTS)


@pytest.mark.parametrize("row_id, fault", [(row["row_id"], row["fault"]) for row in RECORDED])
def test_recorded_chat_ends_where_it_should(row_id, fault, collected):
    status, note = collected[2][row_id]
    expected, words = FAULTS[fault]
    assert status == expected, note
    # A planted fault breaks these rules and no other one.
    assert note == words if status in ("ok", "rejected") else note.startswith(words)


@pytest.mark.parametrize(
    "fault", [fault for fault, (status, _) in FAULTS.items() if status == "rejected"]
)
def test_the_card_names_the_rules_each_planted_fault_breaks(fault):
    rules = re.search(rf"^\| `{fault}` \|.*\| chat rejected: (.*) \|$", CARD, re.MULTILINE).group(1)
    assert rules.replace("`", "") == FAULTS[fault][1]


def test_an_unreadable_chat_is_asked_for_once_more(collected):
    """Its recorded repair is no better: both reasons stand in the note."""
    (repair,) = [row for row in LINES if row["stage"] != synthesis.CHAT_STAGE]
    assert (repair["stage"], repair["fault"]) == ("repair_synthesize_chat", "not_json")
    assert collected[2][repair["row_id"]] == ("parse_failed", "no JSON object; repair parse_failed")


def test_every_sample_question_is_accounted_for(collected):
    questions, chats, statuses = collected
    assert list(statuses) == [question.id for question in questions]
    counts = Counter(status for status, _ in statuses.values())
    assert counts["ok"] == len(chats) == sum(row["fault"] in ("", "code_fence") for row in RECORDED)
    unrecorded = {question.id for question in questions} - {row["row_id"] for row in RECORDED}
    assert {
        row_id for row_id, why in statuses.items() if why == ("held", "no recording")
    } == unrecorded
    assert all(
        made.id == synthesis.chat_id(made.parent_id) and made.licence == sources.KIT_LICENCE
        for made in chats
    )


def test_the_card_counts_how_the_chats_end(collected):
    counts = Counter(status for status, _ in collected[2].values())
    found = re.search(
        r"of (\d+) questions, (\d+) chats are usable, (\d+) rejected, (\d+) refused, (\d+)"
        r" truncated, (\d+) unreadable, and (\d+) held",
        CARD,
    )
    statuses = ("ok", "rejected", "refused", "truncated", "parse_failed", "held")
    assert [int(number) for number in found.groups()] == [
        counts.total(),
        *(counts[status] for status in statuses),
    ]


# What notebook 02 shows


def made_chat(number: int, *texts: str, source: str = "medqa") -> tuple[Record, Record]:
    question = mcqa(id=f"{source}:{number}", source=source)
    return question, synthesis.chat_record(question, Chat(turns=chat(*texts)))


def test_rule_objections_count_the_chats_that_break_each_form_rule():
    rows = [made_chat(1, *GOOD)[1], made_chat(2, *GOOD, "Thank you.")[1]]
    found = synthesis.rule_objections(rows)
    assert list(found) == list(synthesis.FORM_RULES)
    assert found.pop("doctor_not_last") == 1 and set(found.values()) == {0}


def test_similar_chats_are_found_and_the_first_is_kept():
    other = (
        "My knee hurts at night.",
        "Did you fall?",
        "Yes, on the stairs.",
        "Rest it, come back.",
    )
    rows = [made_chat(i, *texts)[1] for i, texts in enumerate((GOOD, other, GOOD))]
    assert synthesis.similar_chats(rows, 0.6, 1) == {"chat:medqa:2": "chat:medqa:0"}
    assert synthesis.similar_chats(rows, 0.6, 2) == {}


def test_the_table_beside_the_authors_counts_components():
    pairs = [made_chat(1, *GOOD), made_chat(2, *GOOD, source="medmcqa")]
    questions = [question for question, _ in pairs]
    rows = synthesis.chats_beside_paper(
        questions, [made for _, made in pairs[:1]], DATA / "paper" / "composition.csv"
    )
    assert rows == [
        ("PubMedQA", "210,169", 0, 0),
        ("MedMCQA", "182,712", 1, 0),
        ("MedQA", "20,691", 1, 1),
        ("Multi-turn conversation", "133,134", "-", 1),
    ]
