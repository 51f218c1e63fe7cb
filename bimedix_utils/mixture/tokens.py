"""What the mix costs in tokens of the real Mixtral tokenizer: every row is counted.

Each shard's sums are whole numbers and are kept, so a killed count goes on where it was, and
neither the number of workers nor the borders of the shards can change a digit. A million rows take
some minutes on one core.
"""

import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..core import templates
from ..core.files import write_json
from ..core.language import PACKAGE
from ..core.provenance import hash_path
from ..core.records import Record, iter_parquet
from ..core.templates import to_messages
from ..core.text import digest
from .parallel import Map
from .scan import task_of

_CELL, _SUMS = ("lang", "task", "source"), ("rows", "tokens", "words")
QUANTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
# Lower edges of the length bins: 0, 1, 2-3, 4-7, ... and everything from 65,536 on. Fixed, so that
# figures of two mixes can be compared.
EDGES = (0, *(2**power for power in range(17)))
# What Mixtral's chat template adds to the text of a row: "[INST]", "[/INST]" and the end token for
# each exchange, the start token once, less the line breaks put between messages here. The letters
# at the seams move the exact cost by about a token for each exchange.
FRAME, FRAME_OF_AN_EXCHANGE = 2, 6


@cache
def _mixtral_tokenizer() -> Any:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.v1().instruct_tokenizer.tokenizer


@cache
def tokenizer_name() -> str:
    """The tokenizer's file, its vocabulary size and the version of the package that ships it."""
    from importlib.metadata import version

    tokenizer, package = _mixtral_tokenizer(), "mistral-common"
    name = Path(tokenizer.file_path).name
    return f"Mixtral {name}, {tokenizer.n_words:,} pieces, {package} {version(package)}"


def encoded_length(text: str) -> int:
    """Tokens of a text, without start and end tokens."""
    return len(_mixtral_tokenizer().encode(text, bos=False, eos=False))


def record_cost(record: Record) -> tuple[int, int, int]:
    """(tokens, words, length) of a record's rendered messages.

    Words end at white space. `length` is tokens with those of the chat template, to within 2 tokens
    and one more for each exchange.
    """
    texts = [message["content"] for message in to_messages(record)]
    tokens = encoded_length("\n".join(texts))
    words = sum(len(text.split()) for text in texts)
    return tokens, words, tokens + FRAME + FRAME_OF_AN_EXCHANGE * (len(texts) // 2)


def record_tokens(record: Record) -> int:
    """Tokens of a record's text with the real Mixtral tokenizer, which `mistral-common` ships."""
    return record_cost(record)[0]


def count_shard(path: Path) -> dict[str, Any]:
    """The sums of one shard as plain JSON; depends on its rows only, so any process can do it.

    {"cells": [{lang, task, source, rows, tokens, words}], "lengths": {lang: {length: rows}}}
    """
    cells: dict[tuple[str, ...], np.ndarray] = {}
    lengths: dict[str, Counter[str]] = {}
    for record in iter_parquet(path):
        tokens, words, length = record_cost(record)
        cell = (record.lang, task_of(record), record.source)
        cells[cell] = cells.get(cell, 0) + np.array([1, tokens, words])
        lengths.setdefault(record.lang, Counter())[str(length)] += 1
    rows = [(*cell, *sums.tolist()) for cell, sums in sorted(cells.items())]
    return {
        "cells": [dict(zip(_CELL + _SUMS, row, strict=True)) for row in rows],
        "lengths": lengths,
    }


def count_tokens(
    shards: Iterable[Path], cache_folder: Path, run_map: Map = map, max_tokens: int = 2048
) -> dict[str, Any]:
    """The token table of a mix, counted over all rows of its shards; see `add_counts`.

    Each shard's sums are kept in `cache_folder/<sha256 of the shard>.json` as soon as they arrive;
    a second run counts only shards that are new or changed. Sums of another tokenizer or another
    layout of the messages are counted again. Raises `InputError` for a broken shard.
    """
    paths = sorted((Path(path) for path in shards), key=lambda path: path.name)
    sources = (Path(templates.__file__), PACKAGE / "languages", Path(__file__))
    version = digest([tokenizer_name(), *map(hash_path, sources)])
    files = [cache_folder / f"{hash_path(path)}.json" for path in paths]
    kept = {file: sums for file in set(files) if (sums := _kept_sums(file, version)) is not None}
    missing = {file: path for file, path in zip(files, paths, strict=True) if file not in kept}
    for file, sums in zip(missing, run_map(count_shard, list(missing.values())), strict=True):
        write_json(file, {"version": version, "sums": sums})
        kept[file] = sums
    return add_counts([kept[file] for file in files], max_tokens)


def _kept_sums(file: Path, version: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept["sums"] if kept["version"] == version else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: count again


def add_counts(parts: list[dict[str, Any]], max_tokens: int) -> dict[str, Any]:
    """The sums of shards (`count_shard`) added up, as the manifest holds them.

    `cells` have lang, task, source, rows and tokens; `languages` also have `fertility` (tokens a
    word), `p50`, `p90`, `p99` and `max` of the length in tokens (nearest rank), `over` and
    `over_share` (rows longer than `max_tokens`) and `histogram` (rows between one of `edges` and
    the next).
    """
    cells: dict[tuple[str, ...], np.ndarray] = {}
    languages: dict[str, np.ndarray] = {}
    lengths: dict[str, Counter[int]] = {}
    for part in parts:
        for row in part["cells"]:
            cell, sums = tuple(row[name] for name in _CELL), [row[name] for name in _SUMS]
            cells[cell] = cells.get(cell, 0) + np.array(sums)
            languages[cell[0]] = languages.get(cell[0], 0) + np.array(sums)
        for lang, found in part["lengths"].items():
            lengths.setdefault(lang, Counter()).update({int(x): n for x, n in found.items()})
    return {
        "tokenizer": tokenizer_name(),
        "max_tokens": max_tokens,
        "edges": list(EDGES),
        "rows": sum(int(rows) for rows, *_ in cells.values()),
        "tokens": sum(int(tokens) for _, tokens, _ in cells.values()),
        "cells": [
            dict(zip((*_CELL, "rows", "tokens"), (*cell, *sums[:2].tolist()), strict=True))
            for cell, sums in sorted(cells.items())
        ],
        "languages": [
            {
                "lang": lang,
                "rows": int(rows),
                "tokens": int(tokens),
                "fertility": int(tokens) / int(words) if words else None,
                **_length_facts(lengths[lang], max_tokens),
            }
            for lang, (rows, tokens, words) in sorted(languages.items())
        ],
    }


def _length_facts(found: Counter[int], max_tokens: int) -> dict[str, Any]:
    lengths, rows = (np.array(part) for part in zip(*sorted(found.items()), strict=True))
    reached, n = rows.cumsum(), int(rows.sum())
    facts: dict[str, Any] = {
        name: int(lengths[np.searchsorted(reached * 100, percent * n)])
        for name, percent in QUANTILES.items()
    }
    over = int(rows[lengths > max_tokens].sum())
    bins = np.searchsorted(EDGES, lengths, side="right") - 1
    histogram = np.bincount(bins, rows, len(EDGES)).astype(int).tolist()
    return facts | {"over": over, "over_share": over / n, "histogram": histogram}
