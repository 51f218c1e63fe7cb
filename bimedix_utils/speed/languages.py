"""Tokens, characters and sentences of parallel texts: a model that writes equal tokens a second
does not write equal sentences.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .. import sources
from ..core.errors import InputError
from ..core.records import Record

LANGUAGES = ("en", "ar")
END = re.compile(r"[.!?؟…]+[\"'»”)\]]*(?=\s|$)")  # a point inside a number ends nothing


@dataclass(frozen=True)
class Cost:
    """What the texts of one language cost with one tokenizer."""

    tokenizer: str
    lang: str
    texts: int
    characters: int
    sentences: int
    tokens: int

    @property
    def per_character(self) -> float:
        """Tokens a character."""
        return self.tokens / self.characters

    @property
    def per_sentence(self) -> float:
        """Tokens a sentence."""
        return self.tokens / self.sentences

    def rates(self, tokens_per_s: float) -> tuple[float, float]:
        """(characters a second, sentences a second) of a model that writes so many tokens a second."""
        return tokens_per_s / self.per_character, tokens_per_s / self.per_sentence


def pairs(folder: Path) -> list[tuple[Record, Record]]:
    """The folder's items that are there in both languages, (English, Arabic). Raises `InputError`
    when there is none.
    """
    found: dict[str, dict[str, Record]] = {}
    for path in sources.find_files(folder):
        for record in sources.read_file(path, kit=True):
            found.setdefault(
                record.id.removesuffix(f"-{record.lang}").removesuffix(f":{record.lang}"), {}
            )[record.lang] = record
    both = [
        (item["en"], item["ar"]) for _, item in sorted(found.items()) if set(LANGUAGES) <= set(item)
    ]
    if not both:
        raise InputError(f"{folder.name} holds no item in both languages")
    return both


def prose(record: Record) -> list[str]:
    """A record's running text: turns of a chat, or context, question and answer; no options, which
    are no sentences.
    """
    texts = (
        [turn.text for turn in record.turns]
        if record.kind == "chat"
        else [record.context, record.question, record.answer]
    )
    return [text for text in texts if text]


def sentences(text: str) -> int:
    """Sentences of a text by their ends, in either language; a text without an end counts as one."""
    return max(1, len(END.findall(text)))


@cache
def mixtral_tokens() -> Callable[[str], int]:
    """Counts tokens with Mixtral's own tokenizer file, which `mistral-common` ships."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.v1().instruct_tokenizer.tokenizer
    return lambda text: len(tokenizer.encode(text, bos=False, eos=False))


def tiny_tokens(vocabulary: int, relations: Any) -> Callable[[str], int]:
    """Counts tokens with the tiny model's tokenizer, trained here on the knowledge world's texts as
    notebook 06 does it.
    """
    from ..sources import knowledge
    from ..training import models

    texts, words = knowledge.pretraining_and_questions(relations)
    tokenizer = models.build_tokenizer([*texts, *words], vocabulary)
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


def tokens_by_language(
    rows: Sequence[tuple[Record, Record]], tokenizers: Mapping[str, Callable[[str], int]]
) -> list[Cost]:
    """The cost of the same content in both languages, for each tokenizer."""
    found = []
    for name, count in tokenizers.items():
        for place, lang in enumerate(LANGUAGES):
            texts = [text for row in rows for text in prose(row[place])]
            sizes = (
                len(texts),
                sum(map(len, texts)),
                sum(map(sentences, texts)),
                sum(map(count, texts)),
            )
            found.append(Cost(name, lang, *sizes))
    return found
