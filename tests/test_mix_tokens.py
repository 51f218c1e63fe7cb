"""Tokens of a mix: the real tokenizer, exact sums of shards, counting that resumes."""

import concurrent.futures
import json
import math
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record, Turn, iter_parquet
from bimedix_utils.core.templates import to_messages
from bimedix_utils.mixture import tokens
from bimedix_utils.mixture.scan import task_of

pytestmark = pytest.mark.unit
WORDS = {
    "en": "the patient has pain in chest and fever after three days of cough without rash".split(),
    "ar": "يعاني المريض من ألم في الصدر وحمى بعد ثلاثة أيام من السعال".split(),
}
TURN = pyarrow.struct([("role", pyarrow.string()), ("text", pyarrow.string())])
KINDS = {
    "options": pyarrow.list_(pyarrow.string()),
    "answer_index": pyarrow.int64(),
    "turns": pyarrow.list_(TURN),
}


def record(number: int) -> tuple[Record, str]:
    """A made-up row of one of six cells, of a random length."""
    draw = random.Random(number)
    lang, task = ("en", "en", "ar")[number % 3], ("qa", "medqa", "chat", "chat")[number % 4]

    def say() -> str:
        return " ".join(draw.choices(WORDS[lang], k=draw.randint(1, 40)))

    more = {"question": say(), "answer": say()}
    if task == "medqa":
        more |= {"options": ("first", "second"), "answer_index": number // 4 % 2}
    if task == "chat":
        turns = [
            Turn(role=role, text=say())
            for _ in range(draw.randint(1, 4))
            for role in ("patient", "doctor")
        ]
        more = {"turns": tuple(turns)}
    kind = {"medqa": "mcqa"}.get(task, task)
    return (
        Record(
            id=f"toy:{number}",
            kind=kind,
            lang=lang,
            source=f"s{task}",
            licence="MIT",
            split="train",
            **more,
        ),
        task,
    )


def table(rows: list[tuple[Record, str]]) -> pyarrow.Table:
    values = [row.model_dump(mode="json") | {"task": task} for row, task in rows]
    schema = pyarrow.schema(
        [(name, KINDS.get(name, pyarrow.string())) for name in [*Record.model_fields, "task"]]
    )
    return pyarrow.Table.from_pylist(values, schema=schema)


def write(
    folder: Path, rows: list[tuple[Record, str]], sizes: list[int], group: int = 16
) -> list[Path]:
    paths, start = [], 0
    (folder / "data").mkdir(parents=True)
    for i, size in enumerate(sizes):
        paths.append(folder / "data" / f"train-{i:05d}-of-{len(sizes):05d}.parquet")
        pyarrow.parquet.write_table(
            table(rows[start : start + size]), paths[-1], row_group_size=group
        )
        start += size
    assert start == len(rows)
    return paths


@pytest.fixture(scope="module")
def rows() -> list[tuple[Record, str]]:
    return [record(i) for i in range(240)]


@pytest.fixture(scope="module")
def shards(rows, tmp_path_factory) -> list[Path]:
    return write(tmp_path_factory.mktemp("mix"), rows, [100, 37, 103])


# One shard


def test_each_row_is_measured_as_it_is_rendered(rows):
    for row, _ in rows:
        texts = [message["content"] for message in to_messages(row)]
        count, words, _ = tokens.record_cost(row)
        assert count == tokens.record_tokens(row) == tokens.encoded_length("\n".join(texts))
        assert words == sum(len(text.split()) for text in texts)


def test_the_length_is_close_to_that_of_the_rendered_conversation(rows):
    """Rendered as Mixtral's own template renders it: <s> [INST] question [/INST] answer</s> ..."""
    for row, _ in rows:
        said = [message["content"] for message in to_messages(row)]
        pairs = zip(said[::2], said[1::2], strict=True)
        true = 1 + sum(
            tokens.encoded_length(f"[INST] {ask} [/INST]") + tokens.encoded_length(answer) + 1
            for ask, answer in pairs
        )
        *_, length = tokens.record_cost(row)
        assert abs(length - true) <= 2 + len(said) // 2, (length, true)


def test_lists_that_a_writer_stored_as_null_are_empty(rows, tmp_path):
    whole = table(rows[:12])
    for name in ("options", "turns"):
        column = whole[name].to_pylist()
        values = pyarrow.array([value or None for value in column], whole.schema.field(name).type)
        whole = whole.set_column(whole.schema.get_field_index(name), name, values)
    pyarrow.parquet.write_table(whole, tmp_path / "nulls.parquet")
    assert list(iter_parquet(tmp_path / "nulls.parquet")) == [row for row, _ in rows[:12]]


def test_broken_shards_are_named(rows, tmp_path):
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match="train-0.parquet: not a readable Parquet file"):
        tokens.count_shard(tmp_path / "train-0.parquet")
    whole = table(rows[:4])
    pyarrow.parquet.write_table(whole.drop_columns(["question"]), tmp_path / "train-1.parquet")
    with pytest.raises(InputError, match="train-1.parquet: no column question"):
        tokens.count_tokens([tmp_path / "train-1.parquet"], tmp_path / "cache")
    empty = whole.set_column(
        whole.schema.get_field_index("question"), "question", pyarrow.array(["", "", "", ""])
    )
    pyarrow.parquet.write_table(empty, tmp_path / "train-2.parquet")
    with pytest.raises(
        InputError, match="train-2.parquet, row 0: not a record: .*the question is empty"
    ):
        tokens.count_shard(tmp_path / "train-2.parquet")


# The table


def test_every_row_is_counted(rows, shards, tmp_path):
    counted = tokens.count_tokens(shards, tmp_path, max_tokens=90)
    total = sum(tokens.record_tokens(row) for row, _ in rows)
    assert counted["rows"] == 240 and counted["tokens"] == total
    for parts in (counted["cells"], counted["languages"]):
        assert sum(part["rows"] for part in parts) == 240
        assert sum(part["tokens"] for part in parts) == total
    for part in counted["cells"]:
        cell = (part["lang"], part["task"], part["source"])
        own = [row for row, _ in rows if (row.lang, task_of(row), row.source) == cell]
        assert (part["rows"], part["tokens"]) == (len(own), sum(map(tokens.record_tokens, own)))
    json.dumps(counted, allow_nan=False)


def test_lengths_of_all_rows(rows, shards, tmp_path):
    for part in tokens.count_tokens(shards, tmp_path, max_tokens=90)["languages"]:
        costs = [tokens.record_cost(row) for row, _ in rows if row.lang == part["lang"]]
        lengths = sorted(length for *_, length in costs)
        n, edges = len(lengths), [*tokens.EDGES, math.inf]
        ranked = [lengths[math.ceil(n * percent / 100) - 1] for percent in (50, 90, 99, 100)]
        assert [part[name] for name in ("p50", "p90", "p99", "max")] == ranked
        assert part["over"] == sum(length > 90 for length in lengths)
        assert part["over_share"] == part["over"] / n
        bins = zip(edges, edges[1:], strict=False)
        expected = [sum(low <= length < high for length in lengths) for low, high in bins]
        assert part["histogram"] == expected and sum(expected) == part["rows"]
        assert part["fertility"] == part["tokens"] / sum(words for _, words, _ in costs)


def test_very_long_rows_are_in_the_last_bin():
    cell = {"lang": "en", "task": "qa", "source": "s", "rows": 11, "tokens": 9, "words": 0}
    lengths = {"0": 1, "1": 1, "65535": 2, "65536": 3, "9999999": 4}
    (english,) = tokens.add_counts([{"cells": [cell], "lengths": {"en": lengths}}], 10)["languages"]
    assert english["histogram"] == [1, 1, *[0] * 14, 2, 7] and english["fertility"] is None


def test_workers_and_cuts_change_nothing(rows, shards, tmp_path):
    import multiprocessing

    one = tokens.count_tokens(shards, tmp_path / "1")
    assert one == tokens.count_tokens(shards[::-1], tmp_path / "2")
    cut = write(tmp_path, rows, [7] * 34 + [2], group=3)
    assert one == tokens.count_tokens(cut, tmp_path / "3")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert one == tokens.count_tokens(shards, tmp_path / "4", pool.map)


# Exact counts that resume


def counting(log: list[str]):
    def run_map(function, items):
        for item in items:
            log.append(item.name)
            yield function(item)

    return run_map


def test_a_second_run_counts_only_what_is_missing(rows, tmp_path):
    shards, cache, log = write(tmp_path / "mix", rows, [100, 37, 103]), tmp_path / "cache", []
    first = tokens.count_tokens(shards, cache, counting(log))
    assert log == [path.name for path in shards] and len(list(cache.glob("*.json"))) == 3
    assert tokens.count_tokens(shards, cache, counting(log)) == first and len(log) == 3
    log.clear()
    pyarrow.parquet.write_table(table(rows[137:200]), shards[2])  # a changed shard
    changed = tokens.count_tokens(shards, cache, counting(log))
    assert log == [shards[2].name] and changed["rows"] == 200
    log.clear()
    assert (
        tokens.count_tokens(shards, cache, counting(log), max_tokens=20)["languages"][0]["over"] > 0
        and log == []
    )  # the limit is no reason


def test_a_killed_run_goes_on_where_it_was(rows, shards, tmp_path):
    def dies(function, items):
        yield from map(function, items[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokens.count_tokens(shards, tmp_path, dies)
    log = []
    assert tokens.count_tokens(shards, tmp_path, counting(log))["tokens"] == sum(
        tokens.record_tokens(row) for row, _ in rows
    )
    assert log == [shards[2].name]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": "of another tokenizer", "sums": {}}']
)
def test_a_damaged_or_foreign_entry_is_counted_again(shards, tmp_path, damage):
    first = tokens.count_tokens(shards, tmp_path)
    sorted(tmp_path.glob("*.json"))[0].write_text(damage, encoding="utf-8")
    log = []
    assert tokens.count_tokens(shards, tmp_path, counting(log)) == first and len(log) == 1


def test_equal_shards_are_counted_once_and_added_twice(rows, tmp_path):
    log, shards = [], write(tmp_path / "mix", rows[:10] + rows[:10], [10, 10])
    assert (
        tokens.count_tokens(shards, tmp_path / "cache", counting(log))["rows"] == 20
        and len(log) == 1
    )


def test_no_shards_give_an_empty_table(tmp_path):
    empty = tokens.count_tokens([], tmp_path)
    assert [empty[name] for name in ("rows", "tokens", "cells", "languages")] == [0, 0, [], []]


# The tokenizer


def test_the_tokenizer_is_named():
    assert tokens.tokenizer_name().startswith(
        "Mixtral tokenizer.model.v1, 32,000 pieces, mistral-common "
    )
