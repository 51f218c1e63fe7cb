"""Open-ended answers and chats: overlap with references, language, safety, presuppositions, and a
language model as judge.

Models are seen through one callable, a `Responder`: conversations in (lists of messages with `role`
and `content`), one answer for each out, in order; an answer that never came is "". Rules are
simple, say what they cannot see, and are themselves tested on labelled answers. Research only: no
score here says that an answer is medical advice.
"""

from collections.abc import Callable, Sequence

from ...core.errors import InputError
from ...core.templates import checked_messages

Conversation = list[dict[str, str]]
Responder = Callable[[list[Conversation]], list[str]]
LANGS = ("en", "ar")


def answer(respond: Responder, conversations: Sequence[Conversation]) -> list[str]:
    """What the model answers to each conversation, in order. Turns must alternate and end with the
    user's.

    Raises `InputError` for a conversation that does not, and for a responder that gives another
    number of answers or no texts.
    """
    folded = [
        checked_messages(list(conversation), f"conversation {place}")
        for place, conversation in enumerate(conversations)
    ]
    for place, conversation in enumerate(folded):
        if conversation[-1]["role"] != "user":
            raise InputError(
                f"conversation {place}: the last message is the assistant's; nothing is left to"
                " answer"
            )
    answers = respond(folded)
    if len(answers) != len(folded) or not all(isinstance(text, str) for text in answers):
        raise InputError(
            f"the responder gave {len(answers)} answers to {len(folded)} conversations; one text"
            " each is wanted, '' for none"
        )
    return answers


def single(text: str) -> Conversation:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]
