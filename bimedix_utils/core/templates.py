"""How a record becomes a conversation: the one place where layouts and chat rules live.

The multiple-choice layouts are the two observed in a figure of the BiMediX README (English and
Arabic labels). Mixtral's chat template refuses a system role and turns that do not alternate:
`messages` folds and asserts before the tokenizer is asked.
"""

from .errors import InputError
from .language import language_data
from .records import Record

ROLES = {"patient": "user", "doctor": "assistant"}


def option_letters(lang: str) -> str:
    """The option letters of a language: A, B, C ... or أ, ب, ج ... as its exams print them."""
    return language_data(lang)["option_letters"]


def layout_words(lang: str) -> dict[str, str]:
    """The fixed words of the layout. Raises `InputError` for a language without a file."""
    return language_data(lang)["layout"]


def render_question(record: Record, letters: str = "") -> str:
    """The user's text of a question: context where there is one, the question, and for `mcqa` the
    lettered options.

    `letters` are those of the record's language unless others are given.
    """
    fixed = layout_words(record.lang)
    if record.kind == "qa":
        return record.question
    parts = [f"{fixed['context']}: {record.context}"] if record.context else []
    parts.append(f"{fixed['question']}: {record.question}")
    lettered = " ".join(
        f"{letter}. {option}"
        for letter, option in zip(
            letters or option_letters(record.lang), record.options, strict=False
        )
    )
    return "\n".join([*parts, f"{fixed['options']}: {lettered}"])


def answer_lead(lang: str) -> str:
    """The words before the letter: what the model continues when letters are ranked."""
    return layout_words(lang)["correct"]


def render_answer(record: Record) -> str:
    """The assistant's text: the answer, or for `mcqa` the explanation and the correct letter."""
    if record.kind == "qa":
        return record.answer
    letter = option_letters(record.lang)[record.answer_index]
    return f"{record.answer} {answer_lead(record.lang)} {letter}.".strip()


def to_messages(record: Record) -> list[dict[str, str]]:
    """The record as alternating user and assistant messages, the user first, the assistant last.

    A chat's closing patient turn is left out: nothing answers it. Raises `InputError` when turns do
    not alternate.
    """
    if record.kind != "chat":
        return [
            {"role": "user", "content": render_question(record)},
            {"role": "assistant", "content": render_answer(record)},
        ]
    turns = record.turns[1:] if record.turns[0].role == "doctor" else record.turns
    turns = turns[:-1] if turns and turns[-1].role == "patient" else turns
    return checked_messages(
        [{"role": ROLES[turn.role], "content": turn.text} for turn in turns], record.id
    )


def checked_messages(
    conversation: list[dict[str, str]], name: str = "conversation"
) -> list[dict[str, str]]:
    """Fold a system message into the first user turn; raises `InputError` without alternation."""
    if [message["role"] for message in conversation[:2]] == ["system", "user"]:
        system, first, *rest = conversation
        merged = f"{system['content']}\n\n{first['content']}".strip()
        conversation = [{"role": "user", "content": merged}, *rest]
    roles = [message["role"] for message in conversation]
    if not roles or roles != [("user", "assistant")[i % 2] for i in range(len(roles))]:
        raise InputError(f"{name}: roles {roles} do not alternate user, assistant")
    return conversation
