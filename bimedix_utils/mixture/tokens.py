"""What the mix costs in tokens of the real Mixtral tokenizer: estimated from a seeded sample, or
counted shard by shard.

Both ways add up the same whole numbers for each shard (`tally`, `merge`) and read them with the
same formulas (`estimate`), so a sample of all rows gives the exact table, and neither the number of
workers nor the borders of the shards can change a digit.
"""

import json
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..core import templates
from ..core.errors import InputError
from ..core.files import write_json
from ..core.provenance import hash_path
from ..core.records import Record, explain
from ..core.templates import to_messages
from ..core.text import digest
from .work import Map

if TYPE_CHECKING:
    import pyarrow

Cell = tuple[str, str, str]  # language, task, source
CELL = ("lang", "task", "source")
SUMS = ("rows", "tokens", "words", "characters", "tokens_squared", "words_squared", "tokens_words")
QUANTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
# Lower edges of the length bins: 0, 1, 2-3, 4-7, ... and everything from 65,536 on. Fixed, so that
# figures of two mixes can be compared.
EDGES = (0, *(2**power for power in range(17)))
FEW = (
    30  # below this many sampled rows the normal approximation of an interval is not to be trusted
)
# What Mixtral's chat template adds to the text of a row: "[INST]", "[/INST]" and the end sign for
# each exchange, the start sign once, less the line breaks `tokens_of` puts between messages. The
# letters at the seams move the exact cost by about a token for each exchange.
FRAME, FRAME_OF_AN_EXCHANGE = 2, 6


@cache
def _mixtral_tokenizer() -> Any:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.v1().instruct_tokenizer.tokenizer


@cache
def tokenizer_name() -> str:
    """Which tokenizer counts: its file, vocabulary size and the version of the package that ships
    it.
    """
    from importlib.metadata import version

    tokenizer = _mixtral_tokenizer()
    return (
        f"Mixtral {Path(tokenizer.file_path).name}, {tokenizer.n_words:,} pieces, mistral-common"
        f" {version('mistral-common')}"
    )


def _encoded(text: str) -> int:
    return len(_mixtral_tokenizer().encode(text, bos=False, eos=False))


def tokens_of(record: Record) -> int:
    """Tokens of a record's text with the real Mixtral tokenizer, which `mistral-common` ships."""
    return _encoded("\n".join(message["content"] for message in to_messages(record)))


# One shard


def _rows(path: Path, rows: Sequence[int] | None) -> Iterator[dict[str, Any]]:
    """The chosen rows (row numbers within the shard, ascending) one by one; one row group is in
    memory at a time.
    """
    columns = [*Record.model_fields, "task"]
    with _open(path, columns) as file:
        start, wanted = 0, None if rows is None else sorted(rows)
        if wanted and not 0 <= wanted[0] <= wanted[-1] < file.metadata.num_rows:
            raise InputError(
                f"{path.name}: rows {wanted[0]}..{wanted[-1]} were asked for, but it has"
                f" {file.metadata.num_rows}"
            )
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            inside = None
            if wanted is not None:
                inside = [
                    row - start
                    for row in wanted[
                        bisect_left(wanted, start) : bisect_left(wanted, start + size)
                    ]
                ]
            if inside is None or inside:
                part = file.read_row_group(group, columns=columns)
                yield from (part if inside is None else part.take(inside)).to_pylist()
            start += size


def _open(path: Path, columns: Iterable[str]) -> Any:
    """A Parquet file that has `columns`. Raises `InputError` naming the file otherwise."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(
            f"{Path(path).name}: not a readable Parquet file: {str(error).splitlines()[0]}"
        ) from None
    missing = sorted(set(columns) - set(file.schema_arrow.names))
    if missing:
        file.close()
        raise InputError(
            f"{Path(path).name}: no column {', '.join(missing)}; shards have the fields of a record"
            " and `task`"
        )
    return file


def measure_shard(path: Path, rows: Sequence[int] | None = None) -> "pyarrow.Table":
    """What each row of one shard costs: lang, task, source, tokens, words, characters, length.

    `rows` are row numbers within the shard; None measures all. `tokens` are Mixtral tokens of the
    rendered messages, `words` their parts between white space, `characters` their Unicode
    characters; `length` is tokens with the chat template's own, computed to within 2 tokens and one
    more for each exchange. Depends on its arguments only, so it can run in any process. Raises
    `InputError` for a broken file, a row that is not a record and a chat that cannot be rendered.
    """
    import pyarrow

    out: dict[str, list] = {name: [] for name in (*CELL, "tokens", "words", "characters", "length")}
    for row in _rows(Path(path), rows):
        task = row.pop("task")
        # Parquet writers may store an empty list as null.
        row["options"], row["turns"] = row["options"] or (), row["turns"] or ()
        try:
            record = Record(**row)
        except ValidationError as error:
            raise InputError(
                f"{Path(path).name}, row {row['id']}: not a record: {explain(error)}"
            ) from None
        texts = [message["content"] for message in to_messages(record)]
        tokens = _encoded("\n".join(texts))
        values = (
            record.lang,
            task,
            record.source,
            tokens,
            sum(len(text.split()) for text in texts),
            sum(map(len, texts)),
        )
        for name, value in zip(
            out, (*values, tokens + FRAME + FRAME_OF_AN_EXCHANGE * (len(texts) // 2)), strict=True
        ):
            out[name].append(value)
    kinds = [pyarrow.string() if name in CELL else pyarrow.int64() for name in out]
    return pyarrow.table(
        list(out.values()), schema=pyarrow.schema(list(zip(out, kinds, strict=True)))
    )


def tally(measured: "pyarrow.Table") -> dict[str, Any]:
    """The sums of measured rows as plain JSON: {"cells": [cell and `SUMS`], "lengths": {lang:
    {length: rows}}}. Whole numbers only.
    """
    cells: dict[Cell, list[int]] = {}
    lengths: dict[str, Counter[int]] = {}
    columns = measured.to_pydict()
    for *cell, t, w, c, length in zip(
        *(columns[name] for name in (*CELL, "tokens", "words", "characters", "length")), strict=True
    ):
        sums = cells.setdefault(tuple(cell), [0] * len(SUMS))
        for i, value in enumerate((1, t, w, c, t * t, w * w, t * w)):
            sums[i] += value
        lengths.setdefault(cell[0], Counter())[length] += 1
    return {
        "cells": [
            {**dict(zip(CELL, cell, strict=True)), **dict(zip(SUMS, sums, strict=True))}
            for cell, sums in sorted(cells.items())
        ],
        "lengths": {
            lang: {str(length): n for length, n in sorted(found.items())}
            for lang, found in sorted(lengths.items())
        },
    }


def merge(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of tallies; the order of the parts does not matter."""
    cells: dict[Cell, Counter[str]] = {}
    lengths: dict[str, Counter[str]] = {}
    for part in tallies:
        for cell in part["cells"]:
            cells.setdefault(tuple(cell[name] for name in CELL), Counter()).update(
                {name: cell[name] for name in SUMS}
            )
        for lang, found in part["lengths"].items():
            lengths.setdefault(lang, Counter()).update(found)
    return {
        "cells": [
            {**dict(zip(CELL, cell, strict=True)), **{name: sums[name] for name in SUMS}}
            for cell, sums in sorted(cells.items())
        ],
        "lengths": {
            lang: dict(sorted(found.items(), key=lambda pair: int(pair[0])))
            for lang, found in sorted(lengths.items())
        },
    }


def rows_by_cell(shards: Iterable[Path]) -> tuple[dict[Cell, int], list[int]]:
    """({(lang, task, source): rows}, rows of each shard), exact, from these three columns alone: no
    text is read.
    """
    found: Counter[Cell] = Counter()
    sizes = []
    for path in shards:
        with _open(path, CELL) as file:
            table = file.read(columns=list(CELL)).combine_chunks()
        sizes.append(table.num_rows)
        counted = table.group_by(list(CELL)).aggregate([([], "count_all")]).to_pylist()
        if any(row[name] is None for row in counted for name in CELL):
            raise InputError(f"{path.name}: a row has no lang, task or source")
        found.update({tuple(row[name] for name in CELL): row["count_all"] for row in counted})
    return dict(sorted(found.items())), sizes


# The table


@dataclass(frozen=True)
class TokenTable:
    """Tokens of a mix. Every part is plain JSON: `as_json` gives what a manifest holds.

    * `cells`, `tasks`, `languages`, `total`: each with `rows` (exact), `measured` (rows whose
      tokens were counted), `tokens` (their total, estimated unless all rows were measured; None
      when no row was), `low` and `high` (95 % interval; None where all rows were measured, or fewer
      than 2) and `few` (True: an interval from fewer than 30 rows, not to be trusted).
    * `languages` also have `fertility` (tokens a word) with `fertility_low`, `fertility_high`;
      `p50`, `p90`, `p99`, `max` of the length in tokens (of the measured rows: the longest row may
      be longer); `over`, the measured rows longer than `max_tokens`; `over_share` (0..1) with its
      Wilson interval `over_low`, `over_high`; and `histogram`, measured rows between one of `edges`
      and the next.
    """

    method: str  # sample or exact
    tokenizer: str
    seed: int | None
    rows: int
    measured: int
    max_tokens: int
    edges: list[int]
    cells: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    languages: list[dict[str, Any]]
    total: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The table as one JSON object."""
        return asdict(self)


def estimate(
    tallied: Mapping[str, Any],
    population: Mapping[Cell, int],
    max_tokens: int,
    method: str = "exact",
    seed: int | None = None,
) -> TokenTable:
    """The table that the sums of some rows (`tally`) tell about all rows, `population` = {(lang,
    task, source): rows}.

    A total is the exact number of rows times the mean of the measured ones; the grand total adds
    the languages. Intervals are normal with the finite-population correction, for a simple random
    sample; those of shares are Wilson's without it, so slightly wide. Raises `InputError` when more
    rows were measured than there are: another mix was counted.
    """
    sums = {
        tuple(cell[name] for name in CELL): Counter({name: cell[name] for name in SUMS})
        for cell in tallied["cells"]
    }
    for cell, got in sums.items():
        if got["rows"] > population.get(cell, 0):
            raise InputError(
                f"{'/'.join(cell)}: {got['rows']:,} rows were measured, but the mix has"
                f" {population.get(cell, 0):,}"
            )

    def grouped(depth: int) -> list[tuple[dict[str, Any], Counter[str], int]]:
        sizes: Counter[tuple[str, ...]] = Counter()
        parts: dict[tuple[str, ...], Counter[str]] = {}
        for cell, n in population.items():
            sizes[cell[:depth]] += n
            parts.setdefault(cell[:depth], Counter()).update(sums.get(cell, {}))
        names = CELL[:depth]
        return [
            (dict(zip(names, key, strict=True)) | _total(parts[key], n), parts[key], n)
            for key, n in sorted(sizes.items())
        ]

    languages = [
        place | _fertility(got, n) | _lengths(tallied, place["lang"], n, max_tokens)
        for place, got, n in grouped(1)
    ]
    rows, measured = sum(population.values()), sum(got["rows"] for got in sums.values())
    return TokenTable(
        method=method,
        tokenizer=tokenizer_name(),
        seed=seed,
        rows=rows,
        measured=measured,
        max_tokens=max_tokens,
        edges=list(EDGES),
        cells=[place for place, _, _ in grouped(3)],
        tasks=[place for place, _, _ in grouped(2)],
        languages=languages,
        total=_sum_of(languages),
    )


def _z() -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.975))


def _total(got: Counter[str], size: int) -> dict[str, Any]:
    """Tokens of `size` rows from the sums of a simple random sample of them."""
    n, tokens = got["rows"], got["tokens"]
    out = {
        "rows": size,
        "measured": n,
        "tokens": tokens if n == size else None,
        "low": None,
        "high": None,
        "few": n < min(FEW, size),
    }
    if 0 < n < size:
        out["tokens"] = size * tokens / n
    if 1 < n < size:
        # n * sum(t^2) - sum(t)^2 is a whole number: nothing is lost to rounding, however long the
        # rows.
        variance = (n * got["tokens_squared"] - tokens * tokens) / (n * (n - 1))
        half = _z() * size * (variance / n * (1 - n / size)) ** 0.5
        out["low"], out["high"] = max(float(tokens), out["tokens"] - half), out["tokens"] + half
    return out


def _sum_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The grand total of languages, whose errors are independent given how many rows each has in
    the sample.
    """
    known = all(part["tokens"] is not None for part in parts)
    counted = all(part["measured"] == part["rows"] for part in parts)
    bounded = (
        known
        and not counted
        and all(part["high"] is not None or part["measured"] == part["rows"] for part in parts)
    )
    tokens = sum(part["tokens"] for part in parts) if known else None
    low = high = None
    if bounded:
        half = (
            sum((part["high"] - part["tokens"]) ** 2 for part in parts if part["high"] is not None)
            ** 0.5
        )
        low, high = tokens - half, tokens + half
    sizes = {name: sum(part[name] for part in parts) for name in ("rows", "measured")}
    return {
        **sizes,
        "tokens": tokens,
        "low": low,
        "high": high,
        "few": any(part["few"] for part in parts),
    }


def _fertility(got: Counter[str], size: int) -> dict[str, float | None]:
    """Tokens a word: a ratio of two sums, so its error is that of the residuals tokens - fertility
    x words.
    """
    n, t, w = got["rows"], got["tokens"], got["words"]
    ratio = t / w if w else None
    out = {"fertility": ratio, "fertility_low": None, "fertility_high": None}
    if ratio is not None and 1 < n < size:
        residuals = (
            got["tokens_squared"] * w * w
            - 2 * t * w * got["tokens_words"]
            + t * t * got["words_squared"]
        ) / (w * w)
        half = _z() * ((1 - n / size) * residuals / (n - 1) * n) ** 0.5 / w
        out |= {"fertility_low": ratio - half, "fertility_high": ratio + half}
    return out


def _lengths(tallied: Mapping[str, Any], lang: str, size: int, max_tokens: int) -> dict[str, Any]:
    """Quantiles (nearest rank), the share over the limit and the histogram of one language's
    lengths.
    """
    from scipy.stats import binomtest

    found = {int(length): n for length, n in tallied["lengths"].get(lang, {}).items()}
    n, over = (
        sum(found.values()),
        sum(rows for length, rows in found.items() if length > max_tokens),
    )
    histogram = [0] * len(EDGES)
    for length, rows in found.items():
        histogram[min(length.bit_length(), len(EDGES) - 1)] += rows
    share = {
        "over": over,
        "over_share": over / n if n else None,
        "over_low": None,
        "over_high": None,
    }
    if 0 < n < size:
        interval = binomtest(over, n).proportion_ci(method="wilson")
        share |= {"over_low": float(interval.low), "over_high": float(interval.high)}
    quantiles = {}
    for name, hundredths in QUANTILES.items():
        seen, quantiles[name] = 0, None
        for length, rows in sorted(found.items()):
            seen += rows
            if seen * 100 >= hundredths * n:
                quantiles[name] = length
                break
    return {**quantiles, **share, "histogram": histogram}


# Two ways to count


def _tally_of(item: tuple[Path, list[int] | None]) -> dict[str, Any]:
    """Tallied where it was measured: a few kilobytes come back from a worker, whatever the shard's
    size.
    """
    path, rows = item
    return tally(measure_shard(path, rows))


def chosen_rows(sizes: Sequence[int], n: int, seed: int) -> list[list[int]]:
    """For each shard the row numbers of a simple random sample of `n` rows without replacement over
    all; all rows when there are fewer.
    """
    total = sum(sizes)
    numbers = sorted(random.Random(f"tokens:{seed}").sample(range(total), min(n, total)))
    out, start, position = [], 0, 0
    for size in sizes:
        first = position
        while position < len(numbers) and numbers[position] < start + size:
            position += 1
        out.append([number - start for number in numbers[first:position]])
        start += size
    return out


def sample(
    shards: Iterable[Path], n: int, seed: int, run_map: Map = map, max_tokens: int = 2048
) -> TokenTable:
    """The table estimated from `n` rows, drawn by their number among all rows of the shards in the
    order of their names.

    `max_tokens` is the training length. `run_map(function, items)` yields results in order; the
    default counts here, one by one. The same seed draws the same rows however many workers there
    are, and however the same rows are cut into shards. Raises `InputError` for a broken shard.
    """
    paths = _in_order(shards)
    population, sizes = rows_by_cell(paths)
    items = [
        (path, rows) for path, rows in zip(paths, chosen_rows(sizes, n, seed), strict=True) if rows
    ]
    return estimate(
        merge(run_map(_tally_of, items)), population, max_tokens, method="sample", seed=seed
    )


def exact(
    shards: Iterable[Path], cache_folder: Path, run_map: Map = map, max_tokens: int = 2048
) -> TokenTable:
    """The table counted over all rows. Each shard's sums are kept in `cache_folder/<sha256 of the
    shard>.json` as soon as they arrive.

    A second run counts only shards that are new or changed; a killed run goes on where it was. Sums
    made with another tokenizer or another layout of the messages are counted again. Raises
    `InputError` for a broken shard; what was counted before it stays.
    """
    paths = _in_order(shards)
    folder, version = Path(cache_folder), _version()
    files = [folder / f"{hash_path(path)}.json" for path in paths]
    kept = {
        file: found
        for file in dict.fromkeys(files)
        if (found := _cached(file, version)) is not None
    }
    missing = {file: path for file, path in zip(files, paths, strict=True) if file not in kept}
    for file, counted in zip(
        missing, run_map(_tally_of, [(path, None) for path in missing.values()]), strict=True
    ):
        write_json(file, {"version": version, "tokenizer": tokenizer_name(), "tally": counted})
        kept[file] = counted
    merged = merge(kept[file] for file in files)
    population = {tuple(cell[name] for name in CELL): cell["rows"] for cell in merged["cells"]}
    return estimate(merged, population, max_tokens)


def _in_order(shards: Iterable[Path]) -> list[Path]:
    return sorted((Path(path) for path in shards), key=lambda path: path.name)


def _version() -> str:
    """Changes when the same shard could give other sums: another tokenizer, another rendering,
    another way to count.
    """
    return digest(
        [tokenizer_name(), hash_path(Path(templates.__file__)), hash_path(Path(__file__))]
    )


def _cached(file: Path, version: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept["tally"] if kept["version"] == version else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: count again
