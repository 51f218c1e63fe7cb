"""What every check reads, and what it says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ...core.language import Language, load_language
from ...core.text import normalise_letters

LONGEST_REASON = 300  # characters
SEVERITIES = ("note", "human", "reject")  # to know of; a person must look; cannot stand


@dataclass(frozen=True)
class Flag:
    """One finding: which check, how severe (one of `SEVERITIES`), and why in words."""

    check: str
    severity: str
    reason: str

    def __post_init__(self):
        if (
            len(self.reason) > LONGEST_REASON
        ):  # a text of ten thousand numbers gives as long a reason
            object.__setattr__(self, "reason", self.reason[:LONGEST_REASON] + " ...")

    @property
    def stops(self) -> bool:
        """True when a translation with this finding is not accepted by itself."""
        return self.severity != "note"


@dataclass(frozen=True)
class Part:
    """A text and its translation, each also as the patterns see it, see `text.normalise_letters`."""

    name: str
    before: str
    after: str

    @cached_property
    def source(self) -> str:
        """The folded source."""
        return normalise_letters(self.before)

    @cached_property
    def target(self) -> str:
        """The folded translation."""
        return normalise_letters(self.after)


@dataclass(frozen=True)
class Pair:
    """A record's texts in order and their translations; the lists may differ in length. `names` say
    where a finding is.
    """

    source: list[str]
    candidate: list[str]
    language: Language
    names: tuple[str, ...] = ()

    @cached_property
    def english(self) -> Language:
        """The source language."""
        return load_language("en")

    @cached_property
    def parts(self) -> list[Part]:
        """The texts that have a counterpart."""
        return [
            Part(self.name(i), *texts)
            for i, texts in enumerate(zip(self.source, self.candidate, strict=False))
        ]

    def name(self, place: int) -> str:
        """How a text is called: its own name, or its number counted from 1."""
        return self.names[place] if place < len(self.names) else f"part {place + 1}"


Check = Callable[[Pair], Iterator[Flag]]
