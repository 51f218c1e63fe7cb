"""What every check reads, and what it reports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ...core.language import Language, load_language
from ...core.text import normalise_letters

_LONGEST_REASON = 300  # characters; a text of ten thousand numbers gives as long a reason
SEVERITIES = ("note", "human", "reject")  # worth knowing; a person must look; cannot stand


@dataclass(frozen=True)
class Flag:
    """One finding: which check, how severe (one of `SEVERITIES`), and why in words."""

    check: str
    severity: str
    reason: str

    def __post_init__(self):
        if len(self.reason) > _LONGEST_REASON:
            object.__setattr__(self, "reason", self.reason[:_LONGEST_REASON] + " ...")

    @property
    def stops(self) -> bool:
        """True when a translation with this finding is not accepted by itself."""
        return self.severity != "note"

    def __str__(self) -> str:
        return f"{self.check}: {self.reason}"


@dataclass(frozen=True)
class TextPart:
    """One text and its translation, each also as patterns see it (`normalise_letters`)."""

    name: str
    source: str
    target: str

    @cached_property
    def folded_source(self) -> str:
        """The source with its letters normalised."""
        return normalise_letters(self.source)

    @cached_property
    def folded_target(self) -> str:
        """The translation with its letters normalised."""
        return normalise_letters(self.target)


@dataclass(frozen=True)
class TextPair:
    """A record's texts in order and their translations; the lists may differ in length.

    `names` say in which part a finding is, such as `option 1`.
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
    def parts(self) -> list[TextPart]:
        """The texts that have a counterpart."""
        both = zip(self.source, self.candidate, strict=False)
        return [TextPart(self.name(index), *texts) for index, texts in enumerate(both)]

    def name(self, index: int) -> str:
        """What a text is called: its own name, or its number counted from 1."""
        return self.names[index] if index < len(self.names) else f"part {index + 1}"


Finding = tuple[str, str]  # a severity and a reason
Check = Callable[[TextPair], Iterator[Finding]]
