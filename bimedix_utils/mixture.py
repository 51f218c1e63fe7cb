"""BiMed: the bilingual instruction set, mixed at a stated Arabic:English ratio, without duplicates or test questions."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from .records import Record
from .templates import messages
from .text import digest, match_key


def order(record: Record, seed: int) -> str:
    """A sort key that is random and yet depends on seed and id only: another order of the input files gives the same mix."""
    return digest(f"mix:{seed}:{record.id}")


def family(record: Record) -> str:
    """The id shared by a record and its translations, which end in their language: parallel rows must land in the same split."""
    return record.id.removesuffix(f":{record.lang}")


def question_key(record: Record) -> str:
    """What makes two questions the same for leakage: the question's words, or a chat's first turn."""
    return match_key(record.turns[0].text if record.kind == "chat" else record.question)


def without_duplicates(records: Iterable[Record]) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """(first of each content, {id: ("duplicate", which one stays)}). Equal content in another language is no duplicate."""
    kept: dict[str, Record] = {}
    dropped = {}
    for record in records:
        first = kept.setdefault(record.content_hash(), record)
        if first is not record:
            dropped[record.id] = ("duplicate", f"same as {first.id}")
    return list(kept.values()), dropped


def without_leaks(records: Iterable[Record], tests: Iterable[Record]) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """(records that ask no test question, {id: ("leaked", which test row)}), compared by normalised question text."""
    known = {question_key(test): test.id for test in tests}
    kept, dropped = [], {}
    for record in records:
        test = known.get(question_key(record))
        if test is None:
            kept.append(record)
        else:
            dropped[record.id] = ("leaked", f"asks {test}")
    return kept, dropped


def mix(records: list[Record], arabic: int, english: int, seed: int) -> tuple[list[Record], dict[str, tuple[str, str]]]:
    """The largest mix with `arabic`:`english` rows, and what it had no room for ({id: ("surplus", why)}).

    Rows from published or synthesized sources are kept before generated knowledge rows. Sorted by a seeded hash of the id.
    """
    pools: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.source.startswith("knowledge"), order(r, seed))):
        pools["en" if record.lang == "en" else "ar"].append(record)
    unit = min(len(pools["ar"]) // arabic, len(pools["en"]) // english)
    keep = pools["ar"][: unit * arabic] + pools["en"][: unit * english]
    kept = {record.id for record in keep}
    surplus = {record.id: ("surplus", f"{arabic}:{english} was reached") for record in records if record.id not in kept}
    return sorted(keep, key=lambda r: order(r, seed)), surplus


def split(records: Iterable[Record], validation_share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """(training rows, validation rows); a row and its translations stay together."""
    train, validation = [], []
    for record in records:
        held = int(digest(f"split:{seed}:{family(record)}", 8), 16) / 0xFFFFFFFF < validation_share
        (validation if held else train).append(record)
    return train, validation


@cache
def _mixtral_tokenizer() -> Any:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.v1().instruct_tokenizer.tokenizer


def tokens_of(record: Record) -> int:
    """Tokens of a record's text with the real Mixtral tokenizer, which `mistral-common` ships."""
    text = "\n".join(message["content"] for message in messages(record))
    return len(_mixtral_tokenizer().encode(text, bos=False, eos=False))


def token_counts(records: Iterable[Record]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """{(language, kind): (rows, tokens, words)}, see `tokens_of`."""
    rows, tokens, words = Counter(), Counter(), Counter()
    for record in records:
        place = record.lang, record.kind
        rows[place] += 1
        tokens[place] += tokens_of(record)
        words[place] += sum(len(message["content"].split()) for message in messages(record))
    return {place: (rows[place], tokens[place], words[place]) for place in sorted(rows)}


def card(counts: dict, sources: Counter, ratio: tuple[int, int], seed: int, mode: str) -> str:
    """A data-set card in the Hugging Face layout, from the run's own numbers."""
    rows = "\n".join(f"| {lang} | {kind} | {n:,} | {t:,} | {t / w:.2f} |" for (lang, kind), (n, t, w) in counts.items())
    named = "\n".join(f"| {source} | {licence} | {n:,} |" for (source, licence), n in sorted(sources.items()))
    return f"""---
language: [en, ar]
task_categories: [question-answering, text-generation]
tags: [medical, research-only]
---

# BiMed, built in `{mode}` mode

A bilingual medical instruction set at {ratio[0]}:{ratio[1]} Arabic:English, built by the BiMediX reproducibility kit with seed {seed}.
**For research only. Nothing in it is medical advice.** These rows are not the paper's BiMed1.3M, which was not released under that name.

| language | kind | rows | tokens (Mixtral) | tokens a word |
|---|---|---:|---:|---:|
{rows}

| source | licence | rows |
|---|---|---:|
{named}
"""
