"""How a record becomes a conversation: layouts in both languages, and turns that alternate."""

import pytest

from bimedix_utils.core import templates
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record, Turn

pytestmark = pytest.mark.unit
BASE = {"id": "toy:1", "lang": "en", "source": "toy", "licence": "MIT", "split": "train"}
ENGLISH = Record(
    **BASE,
    kind="mcqa",
    question="Which organ makes bile?",
    options=("Heart", "Liver", "Lung", "Skin"),
    answer_index=1,
)
ARABIC = ENGLISH.replace(
    lang="ar", question="أي عضو يفرز الصفراء؟", options=("القلب", "الكبد", "الرئة", "الجلد")
)


def chat(*roles: str) -> Record:
    turns = tuple(Turn(role=role, text=f"{role} {i}") for i, role in enumerate(roles))
    return Record(**BASE, kind="chat", turns=turns)


def said(record: Record) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in templates.to_messages(record)]


def test_english_layout():
    assert said(ENGLISH) == [
        ("user", "Question: Which organ makes bile?\nOptions: A. Heart B. Liver C. Lung D. Skin"),
        ("assistant", "The correct answer is B."),
    ]


def test_arabic_layout():
    assert said(ARABIC) == [
        ("user", "السؤال: أي عضو يفرز الصفراء؟\nالخيارات: أ. القلب ب. الكبد ج. الرئة د. الجلد"),
        ("assistant", "الإجابة الصحيحة هي ب."),
    ]


def test_context_comes_first_and_the_explanation_before_the_letter():
    assert said(ENGLISH.replace(context="An abstract.", answer="Bile comes from the liver.")) == [
        (
            "user",
            (
                "Context: An abstract.\nQuestion: Which organ makes bile?\nOptions: A. Heart B."
                " Liver C. Lung D. Skin"
            ),
        ),
        ("assistant", "Bile comes from the liver. The correct answer is B."),
    ]
    arabic = said(ARABIC.replace(context="ملخص.", answer="تأتي الصفراء من الكبد."))
    assert (
        arabic[0][1].startswith("السياق: ملخص.\nالسؤال: ")
        and arabic[1][1] == "تأتي الصفراء من الكبد. الإجابة الصحيحة هي ب."
    )


@pytest.mark.parametrize("record", [ENGLISH, ARABIC], ids=["en", "ar"])
@pytest.mark.parametrize("key", range(4))
def test_the_reply_begins_as_the_ranking_does_and_names_the_key(record, key):
    """Letters are ranked after `lead`; training must have put the right letter there."""
    record = record.replace(answer_index=key)
    assert (
        templates.render_answer(record)
        == f"{templates.answer_lead(record.lang)} {templates.option_letters(record.lang)[key]}."
    )


def test_letters():
    assert (templates.option_letters("en")[:5], templates.option_letters("ar")[:5]) == (
        "ABCDE",
        "أبجده",
    )
    assert (
        len(templates.option_letters("en"))
        == len(templates.option_letters("ar"))
        == len(set(templates.option_letters("ar")))
        == 10
    )
    assert templates.answer_lead("ar") == "الإجابة الصحيحة هي"
    # A row of a language without a file was laid out under English words.
    with pytest.raises(InputError, match="no language 'fr'"):
        templates.layout_words("fr")


def test_open_question():
    record = Record(**BASE, kind="qa", question="What is anemia?", answer="Too little hemoglobin.")
    assert said(record) == [("user", "What is anemia?"), ("assistant", "Too little hemoglobin.")]


CHATS = {
    "plain": (("patient", "doctor", "patient", "doctor"), "0123"),
    "ends with the patient": (("patient", "doctor", "patient"), "01"),
    "starts with the doctor": (("doctor", "patient", "doctor"), "12"),
    "both": (("doctor", "patient", "doctor", "patient"), "12"),
}


@pytest.mark.parametrize("roles, kept", CHATS.values(), ids=CHATS)
def test_chats_begin_with_the_patient_and_end_with_the_doctor(roles, kept):
    found = said(chat(*roles))
    assert [role for role, _ in found] == ["user", "assistant"] * (len(found) // 2)
    assert "".join(text[-1] for _, text in found) == kept


@pytest.mark.parametrize(
    "roles",
    [
        ("patient",),
        ("doctor",),
        ("doctor", "patient"),
        ("patient", "patient", "doctor"),
        ("patient", "doctor", "doctor"),
        ("doctor", "doctor", "patient", "doctor"),
    ],
)
def test_chats_that_do_not_alternate_are_refused_by_name(roles):
    with pytest.raises(InputError, match="toy:1: roles .* do not alternate user, assistant"):
        templates.to_messages(chat(*roles))


def conversation(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in pairs]


def test_a_system_message_is_folded_into_the_first_user_turn():
    talk = conversation(
        ("system", "Be careful."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")
    )
    before = [dict(message) for message in talk]
    assert templates.checked_messages(talk) == conversation(
        ("user", "Be careful.\n\nHi"), ("assistant", "Hello"), ("user", "Bye")
    )
    assert talk == before  # the caller's history is left alone
    assert templates.checked_messages(conversation(("system", ""), ("user", "Hi"))) == conversation(
        ("user", "Hi")
    )


def test_a_conversation_without_system_message_is_returned_as_it_is():
    talk = conversation(("user", "Hi"), ("assistant", "Hello"))
    assert templates.checked_messages(talk) == talk


@pytest.mark.parametrize(
    "roles",
    [
        (),
        ("assistant",),
        ("user", "user"),
        ("user", "assistant", "assistant"),
        ("user", "system"),
        ("system", "system", "user"),
        ("tool",),
    ],
)
def test_other_conversations_are_refused(roles):
    with pytest.raises(InputError, match="do not alternate user, assistant"):
        templates.checked_messages(conversation(*((role, "text") for role in roles)))


@pytest.mark.parametrize(
    "roles", [("system",), ("system", "assistant"), ("system", "assistant", "assistant")]
)
def test_a_system_message_is_folded_into_a_user_turn_only(roles):
    with pytest.raises(InputError, match="do not alternate"):
        templates.checked_messages(conversation(*((role, "text") for role in roles)))
