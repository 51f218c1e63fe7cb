"""Sizes of parallel texts: equal tokens a second are not equal sentences a second."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .. import sources
from ..core.errors import InputError
from ..core.records import Record

_PAIR = ("en", "ar")
_END = re.compile(r"[.!?؟…]+[\"'»”)\]]*(?=\s|$)")  # a point inside a number ends nothing


@dataclass(frozen=True)
class TokenCost:
    """The size of the texts of one language with one tokenizer."""

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
        """(characters, sentences) a second of a model that decodes so many tokens a second."""
        return tokens_per_s / self.per_character, tokens_per_s / self.per_sentence


def parallel_items(folder: Path) -> list[tuple[Record, Record]]:
    """(English, Arabic) of each item in both languages; `InputError` when there is none."""
    found: dict[str, dict[str, Record]] = {}
    for path in sources.find_files(folder):
        for record in sources.read_file(path, kit=True):
            item = record.id.removesuffix(f"-{record.lang}").removesuffix(f":{record.lang}")
            found.setdefault(item, {})[record.lang] = record
    both = [(item["en"], item["ar"]) for _, item in sorted(found.items()) if {*_PAIR} <= set(item)]
    if not both:
        raise InputError(f"{folder.name} holds no item in both languages")
    return both


def running_text(record: Record) -> list[str]:
    """A record's turns, or context, question and answer; options are no sentences."""
    if record.kind == "chat":
        return [turn.text for turn in record.turns if turn.text]
    return [text for text in (record.context, record.question, record.answer) if text]


def count_sentences(text: str) -> int:
    """Sentences of a text by their ends, in either language; a text without one counts as one."""
    return max(1, len(_END.findall(text)))


@cache
def mixtral_counter() -> Callable[[str], int]:
    """Counts tokens with Mixtral's own tokenizer file, which `mistral-common` ships."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.v1().instruct_tokenizer.tokenizer
    return lambda text: len(tokenizer.encode(text, bos=False, eos=False))


def tiny_counter(folder: Path) -> Callable[[str], int]:
    """Counts tokens with the tiny model's tokenizer, trained here as in notebook 06."""
    from ..sources import knowledge
    from ..training.models.tiny import TinySpec, build_tokenizer

    texts, words = knowledge.pretraining_and_questions(knowledge.load_relations(folder))
    tokenizer = build_tokenizer([*texts, *words], TinySpec().vocabulary)
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


def token_costs(
    rows: Sequence[tuple[Record, Record]], counters: Mapping[str, Callable[[str], int]]
) -> list[TokenCost]:
    """The cost of the same content in both languages, for each tokenizer."""
    found = []
    for name, count in counters.items():
        for index, lang in enumerate(_PAIR):
            texts = [text for row in rows for text in running_text(row[index])]
            sizes = [sum(map(measure, texts)) for measure in (len, count_sentences, count)]
            found.append(TokenCost(name, lang, len(texts), *sizes))
    return found
