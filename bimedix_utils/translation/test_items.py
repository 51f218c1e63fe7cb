"""The test-set policy before translating: which items are selected, which are excluded."""

import re
from collections.abc import Iterable, Mapping

from ..core.language import load_language
from ..core.records import Record
from ..core.text import digest, normalise_letters
from ..sources.benchmarks import Benchmark, load_benchmarks

_SENTENCE = re.compile(r"(?<=[.?!؟])\s+")


def select_test_items(
    records: Iterable[Record],
    count: int = 0,
    seed: int = 0,
    benchmarks: Mapping[str, Benchmark] | None = None,
) -> list[Record]:
    """The English items of `benchmarks`, by default the kit's.

    With a `count` that many of each, drawn by a seeded hash.
    """
    known = load_benchmarks() if benchmarks is None else benchmarks
    rows = [
        r
        for r in records
        if (r.kind, r.lang, r.status) == ("mcqa", "en", "ok")
        and r.source in known
        and r.split == known[r.source].split
    ]
    if not count:
        return rows
    drawn: set[str] = set()
    ordered = sorted(rows, key=lambda r: digest(f"testset:{seed}:{r.id}"))
    for name in known:
        drawn |= {r.id for r in [r for r in ordered if r.source == name][:count]}
    return [r for r in rows if r.id in drawn]


def untranslatable(record: Record) -> str:
    """Why an item cannot be translated, or "": its question is about a word of its own language.

    Judged by the last sentence, which asks, not by the story before it. The patterns are
    `untranslatable` in the language's file.
    """
    language = load_language(record.lang)
    text = normalise_letters(record.question.strip())
    asked = _SENTENCE.split(language.pattern("answer_instruction").sub("", text))[-1]
    reasons = language.data["untranslatable"]
    found = (r for r in reasons if language.pattern(f"untranslatable.{r}").search(asked))
    return next(found, "").replace("_", " ")
