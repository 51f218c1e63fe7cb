"""One conversation: what is shown, what the model reads, and what happens when something goes
wrong. Knows no page and no model.

    talk = Conversation()
    for shown in talk.say(model, "What is insulin?"):   # `shown` is the whole conversation so far:
    [Shown(who, text), ...]
        draw(shown)

`who` is one of `user`, `emergency`, `model`, `note`, `problem`, `notice`. The emergency message
comes before the model is asked anything.
"""

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from ..core.errors import InputError, KitError
from ..core.language import research_notice
from ..core.text import arabic_share
from .red_flags import language, red_flag

LONGEST_MESSAGE = (
    8_000  # characters: about 2,000 English tokens, 3,000 Arabic ones with Mixtral's tokenizer
)
MOST_EXCHANGES = 50  # of which the model reads; older ones are left out
SAYINGS = {
    "long": {
        "en": (
            "This message has {n:,} characters; at most {most:,} are read. It was not sent: please"
            " shorten it."
        ),
        "ar": "عدد أحرف هذه الرسالة {n}، والحد الأقصى {most}. لم تُرسل، ويرجى اختصارها.",
    },
    "loading": {
        "en": "The model is still loading. The answer follows as soon as it is ready.",
        "ar": "ما زال النموذج قيد التحميل. سيأتي الجواب فور جاهزيته.",
    },
    "stopped": {"en": "Stopped.", "ar": "أُوقف الجواب."},
    "nothing": {"en": "The model gave an empty answer.", "ar": "أعطى النموذج جوابًا فارغًا."},
    "cut": {"en": "The answer was cut at its longest length.", "ar": "قُطع الجواب عند طوله الأقصى."},
    "forgotten": {
        "en": (
            "The conversation is too long for the model: it no longer reads the oldest {n} turns."
        ),
        "ar": "المحادثة أطول مما يقرؤه النموذج: لم يعد يقرأ أقدم الأدوار فيها، وعددها {n}.",
    },
    "other_language": {
        "en": "The model answered in another language than the question.",
        "ar": "أجاب النموذج بلغة غير لغة السؤال.",
    },
    "failed": {"en": "No answer: {why}", "ar": "لا جواب: {why}"},
    "unkept": {
        "en": "This could not be written to the transcript: {why}",
        "ar": "تعذّرت كتابة هذا في سجل المحادثة: {why}",
    },
}


class Shown(NamedTuple):
    """One thing on the screen."""

    who: str
    text: str


@dataclass
class Ending:
    """How an answer ended; the model fills it in."""

    cut: bool = False  # at the longest length
    left_out: int = 0  # oldest turns the model did not read
    loading: bool = False  # the model was not ready when it was asked


class Model(Protocol):
    """Whatever can answer."""

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """Pieces of the answer to a history that ends with the user, until it ends or `stop` is
        set. Raises `KitError`.

        An empty piece is legal and says "still at work".
        """


def saying(name: str, lang: str, **values: object) -> str:
    """One of the fixed sentences in the user's language."""
    return SAYINGS[name][lang].format(**values)


def turns_that_fit(
    history: list[dict[str, str]], length: Callable[[list[dict[str, str]]], int], room: int
) -> list[dict[str, str]]:
    """The longest end of a history, beginning with a user's turn, whose `length` is at most `room`.

    Raises `InputError` when the last message alone is longer: nothing is cut in the middle of a
    turn.
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
    """The turns of one user. `transcript` names a JSON Lines file that everything said is added to;
    empty keeps nothing.
    """

    transcript: str = ""
    name: str = ""  # in the transcript: which of several conversations
    shown: list[Shown] = field(default_factory=list)
    history: list[dict[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    busy: bool = False

    def clear(self) -> None:
        """Forget everything and stop what is under way."""
        self.stop.set()
        self.stop = threading.Event()  # the old one stays set for the answer it stopped
        self.shown, self.history, self.busy = [], [], False

    def say(self, model: Model, text: str) -> Iterator[list[Shown]]:
        """Everything that is shown, each time it changes, from the user's message to the notice
        after the answer.

        Errors of the model become a `problem`; the conversation goes on without the message that
        got no answer. A message that comes while another is answered is left alone.
        """
        text = text.strip()
        if not text or self.busy:
            return
        self.busy = True
        self.stop = stop = threading.Event()
        shown, history = (
            self.shown,
            self.history,
        )  # a cleared conversation has new lists: what still arrives here is lost
        begun = len(shown)
        try:
            for _ in self._say(model, text, shown, history, stop):
                if self.shown is not shown:
                    return
                yield list(shown)
        finally:
            stop.set()  # whoever closes this generator stops the model
            if self.stop is stop:
                self.busy = False
            failure = self._keep(shown[begun:])
        if failure:
            shown.append(Shown("problem", saying("unkept", language(text), why=failure)))
            yield list(shown)

    def _say(
        self,
        model: Model,
        text: str,
        shown: list[Shown],
        history: list[dict[str, str]],
        stop: threading.Event,
    ) -> Iterator[None]:
        lang = language(text)
        shown.append(
            Shown("user", text[:LONGEST_MESSAGE] + (" […]" if len(text) > LONGEST_MESSAGE else ""))
        )
        if warning := red_flag(text):
            shown.append(Shown("emergency", warning))
        if len(text) > LONGEST_MESSAGE:
            shown.append(Shown("problem", saying("long", lang, n=len(text), most=LONGEST_MESSAGE)))
            yield
            return
        yield
        asked = {"role": "user", "content": text}
        said, ending, place = "", Ending(), len(shown)
        try:
            for piece in model.stream([*history[-2 * MOST_EXCHANGES :], asked], stop, ending):
                said += piece
                after = [Shown("model", said.strip())] if said.strip() else []
                if ending.loading and not said.strip():
                    after = [Shown("note", saying("loading", lang))]
                if shown[place:] != after:
                    shown[place:] = after
                    yield
                if stop.is_set():
                    break
        except Exception as error:  # whatever it is, the surface must not be left waiting
            why = str(error)
            if not isinstance(error, KitError):
                traceback.print_exc()
                why = type(error).__name__
            shown[place:] = [Shown("model", said.strip())] if said.strip() else []
            shown.append(Shown("problem", saying("failed", lang, why=why)))
            yield
            return
        ending.left_out += max(0, len(history) - 2 * MOST_EXCHANGES)
        said = said.strip().rstrip("\ufffd")  # an answer cut between the bytes of a letter
        shown[place:] = [Shown("model", said)] if said else []
        if said:
            history += [asked, {"role": "assistant", "content": said}]
        shown += [Shown("note", note) for note in _notes(said, ending, stop.is_set(), lang)]
        if said:
            shown.append(Shown("notice", research_notice(lang)))
        yield

    def _keep(self, said: list[Shown]) -> str:
        """Add to the transcript, where one is kept. Returns why it could not be done, or ""."""
        if not self.transcript:
            return ""
        try:
            with open(Path(self.transcript), "a", encoding="utf-8") as file:
                for who, text in said:
                    file.write(
                        json.dumps(
                            {"conversation": self.name, "who": who, "text": text},
                            ensure_ascii=False,
                        )
                        + "\n"
                    )
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""


def _notes(said: str, ending: Ending, stopped: bool, lang: str) -> Iterator[str]:
    """What a reader should know about an answer."""
    if ending.left_out:
        yield saying("forgotten", lang, n=ending.left_out)
    if stopped:
        yield saying("stopped", lang)
    elif not said:
        yield saying("nothing", lang)
    elif ending.cut:
        yield saying("cut", lang)
    share = arabic_share(said)
    if sum(letter.isalpha() for letter in said) >= 8 and (
        share < 0.1 if lang == "ar" else share > 0.5
    ):
        yield saying("other_language", lang)
