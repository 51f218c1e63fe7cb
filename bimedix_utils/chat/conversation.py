"""One conversation: the messages shown, the turns the model reads, and the errors on the way.

    conversation = Conversation()
    for shown in conversation.say(model, "What is insulin?"):
        draw(shown)  # all messages so far: [Message(who, text), ...]

`who` is `user`, `emergency`, `model`, `note`, `problem` or `notice`. The emergency message comes
before the model is called. This module knows no page and no model.
"""

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..core.errors import InputError, KitError
from ..core.language import in_language, language_data, language_of, research_notice
from .red_flags import red_flag

# Characters: about 2,000 English tokens, 3,000 Arabic ones with Mixtral's tokenizer.
LONGEST_MESSAGE = 8_000
MAX_EXCHANGES = 50  # the model reads no more; older ones are left out


class Message(NamedTuple):
    """One message on the screen."""

    who: str
    text: str


@dataclass
class Ending:
    """How an answer ended; the model fills it in."""

    cut: bool = False  # at the longest length
    left_out: int = 0  # oldest turns that the model did not read
    loading: bool = False  # the model was still loading


class ChatModel(Protocol):
    """Anything that answers a history."""

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """Yield pieces of the answer until it ends or `stop` is set. Raises `KitError`.

        The history ends with a user turn. An empty piece means "no new text yet".
        """


def chat_sentence(name: str, lang: str, **values: object) -> str:
    """One of the chat's fixed sentences in a language."""
    return language_data(lang)["chat"][name].format(**values)


def turns_that_fit(
    history: list[dict[str, str]], length: Callable[[list[dict[str, str]]], int], room: int
) -> list[dict[str, str]]:
    """The longest end of a history whose `length` is at most `room`; it begins with a user turn.

    No turn is cut: raises `InputError` when the last message alone is longer.
    """
    for first in range(0, len(history), 2):
        if length(history[first:]) <= room:
            return history[first:]
    raise InputError(
        f"the message has {length(history[-1:]):,} tokens, the model reads at most {room:,}: please"
        " shorten it"
    )


@dataclass
class Conversation:
    """The turns of one user. With a `transcript` every message is added to that JSON Lines file."""

    transcript: str = ""
    name: str = ""  # in the transcript: tells conversations apart
    shown: list[Message] = field(default_factory=list)
    history: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    busy: bool = False

    def clear(self) -> None:
        """Forget all messages and stop a running answer."""
        self.stop.set()
        self.stop = threading.Event()  # the old one stays set for the answer it stopped
        self.shown, self.history, self.busy = [], [], False

    def say(self, model: ChatModel, text: str) -> Iterator[list[Message]]:
        """Yield all messages each time they change, from the user's message to the notice.

        An error of the model becomes a `problem`; the history then omits the unanswered message.
        A message sent during an answer is ignored.
        """
        text = text.strip()
        if not text or self.busy:
            return
        self.busy, self.stop = True, threading.Event()
        # `clear` makes new lists: what still arrives for the old ones is lost.
        stop, shown, history = self.stop, self.shown, self.history
        first = len(shown)
        try:
            for _ in _exchange(model, text, shown, history, stop):
                if self.shown is not shown:
                    return
                yield list(shown)
        finally:
            stop.set()  # closing this generator stops the model
            if self.stop is stop:
                self.busy = False
            failure = self._write_transcript(shown[first:])
        if failure:
            sentence = chat_sentence("not_kept", language_of(text), why=failure)
            shown.append(Message("problem", sentence))
            yield list(shown)

    def _write_transcript(self, messages: list[Message]) -> str:
        """Returns why it failed, or ""."""
        if not self.transcript:
            return ""
        try:
            with open(self.transcript, "a", encoding="utf-8") as file:
                for message in messages:
                    row = {"conversation": self.name, **message._asdict()}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""


def _exchange(
    model: ChatModel,
    text: str,
    shown: list[Message],
    history: list[dict[str, str]],
    stop: threading.Event,
) -> Iterator[None]:
    """One message and its answer, added to `shown` and `history`; yields after each change."""
    lang = language_of(text)
    too_long = len(text) > LONGEST_MESSAGE
    shown.append(Message("user", text[:LONGEST_MESSAGE] + (" […]" if too_long else "")))
    if warning := red_flag(text):
        shown.append(Message("emergency", warning))
    if too_long:
        sentence = chat_sentence("too_long", lang, n=len(text), most=LONGEST_MESSAGE)
        shown.append(Message("problem", sentence))
        yield
        return
    yield
    question = {"role": "user", "content": text}
    answer, ending, first = "", Ending(), len(shown)
    try:
        for piece in model.stream([*history[-2 * MAX_EXCHANGES :], question], stop, ending):
            answer += piece
            after = _answer_messages(answer)
            if ending.loading and not after:
                after = [Message("note", chat_sentence("loading", lang))]
            if shown[first:] != after:
                shown[first:] = after
                yield
            if stop.is_set():
                break
    except Exception as error:  # no error may leave the page waiting
        why = str(error)
        if not isinstance(error, KitError):
            traceback.print_exc()
            why = type(error).__name__
        problem = Message("problem", chat_sentence("failed", lang, why=why))
        shown[first:] = [*_answer_messages(answer), problem]
        yield
        return
    ending.left_out += max(0, len(history) - 2 * MAX_EXCHANGES)
    answer = answer.strip().rstrip("\ufffd")  # an answer cut between the bytes of a letter
    shown[first:] = _answer_messages(answer)
    if answer:
        history += [question, {"role": "assistant", "content": answer}]
    shown += [Message("note", note) for note in _notes(answer, ending, stop.is_set(), lang)]
    if answer:
        shown.append(Message("notice", research_notice(lang)))
    yield


def _answer_messages(answer: str) -> list[Message]:
    return [Message("model", answer.strip())] if answer.strip() else []


def _notes(answer: str, ending: Ending, stopped: bool, lang: str) -> Iterator[str]:
    """What a reader should know about an answer."""
    if ending.left_out:
        yield chat_sentence("forgotten", lang, n=ending.left_out)
    if stopped:
        yield chat_sentence("stopped", lang)
    elif not answer:
        yield chat_sentence("empty", lang)
    elif ending.cut:
        yield chat_sentence("cut", lang)
    # Latin drug names are usual in all other languages: an answer there needs less of its script.
    least = 0.5 if lang == "en" else 0.1
    if sum(letter.isalpha() for letter in answer) >= 8 and not in_language(answer, lang, least):
        yield chat_sentence("other_language", lang)
