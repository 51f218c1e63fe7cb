"""Tokens of a mix: the real tokenizer, exact sums of shards, a seeded sample whose intervals hold,
counting that resumes.
"""

import concurrent.futures
import json
import math
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record, Turn
from bimedix_utils.core.templates import to_messages
from bimedix_utils.mixture import tokens

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


def test_each_row_is_measured_as_it_is_rendered(rows, shards):
    measured = tokens.measure_shard(shards[1], None).to_pylist()
    assert len(measured) == 37
    for (row, task), got in zip(rows[100:137], measured, strict=True):
        texts = [message["content"] for message in to_messages(row)]
        assert (got["lang"], got["task"], got["source"], got["tokens"]) == (
            row.lang,
            task,
            row.source,
            tokens.tokens_of(row),
        )
        assert got["words"] == sum(len(text.split()) for text in texts) and got[
            "characters"
        ] == sum(map(len, texts))


def test_chosen_rows_of_any_row_group_are_measured(shards):
    whole = tokens.measure_shard(shards[0], None)
    assert tokens.measure_shard(shards[0], [0, 15, 16, 17, 63, 99]) == whole.take(
        [0, 15, 16, 17, 63, 99]
    )
    assert tokens.measure_shard(shards[0], []).num_rows == 0
    for wrong in ([100], [-1, 3]):
        with pytest.raises(
            InputError, match="train-00000-of-00003.parquet: rows .* but it has 100"
        ):
            tokens.measure_shard(shards[0], wrong)


def test_the_length_is_close_to_that_of_the_rendered_conversation(rows, shards):
    """Rendered as Mixtral's own template renders it: <s> [INST] question [/INST] answer</s> ..."""
    measured = [row for shard in shards for row in tokens.measure_shard(shard, None).to_pylist()]
    for (row, _), got in zip(rows, measured, strict=True):
        said = [message["content"] for message in to_messages(row)]
        pairs = zip(said[::2], said[1::2], strict=True)
        true = 1 + sum(
            tokens._encoded(f"[INST] {ask} [/INST]") + tokens._encoded(answer) + 1
            for ask, answer in pairs
        )
        assert abs(got["length"] - true) <= 2 + len(said) // 2, (got, true)


def test_lists_that_a_writer_stored_as_null_are_empty(rows, tmp_path):
    whole = table(rows[:12])
    for name in ("options", "turns"):
        column = whole[name].to_pylist()
        values = pyarrow.array([value or None for value in column], whole.schema.field(name).type)
        whole = whole.set_column(whole.schema.get_field_index(name), name, values)
    pyarrow.parquet.write_table(whole, tmp_path / "nulls.parquet")
    assert tokens.measure_shard(tmp_path / "nulls.parquet")["tokens"].to_pylist() == [
        tokens.tokens_of(row) for row, _ in rows[:12]
    ]


def test_broken_shards_are_named(rows, tmp_path):
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match="train-0.parquet: not a readable Parquet file"):
        tokens.measure_shard(tmp_path / "train-0.parquet", None)
    whole = table(rows[:4])
    pyarrow.parquet.write_table(whole.drop_columns(["task"]), tmp_path / "train-1.parquet")
    with pytest.raises(InputError, match="train-1.parquet: no column task"):
        tokens.exact([tmp_path / "train-1.parquet"], tmp_path / "cache")
    empty = whole.set_column(
        whole.schema.get_field_index("question"), "question", pyarrow.array(["", "", "", ""])
    )
    pyarrow.parquet.write_table(empty, tmp_path / "train-2.parquet")
    with pytest.raises(
        InputError, match="train-2.parquet, row toy:0: not a record: .*the question is empty"
    ):
        tokens.measure_shard(tmp_path / "train-2.parquet", None)
    no_task = whole.set_column(
        whole.schema.get_field_index("task"), "task", pyarrow.array([None, "qa", "qa", "qa"])
    )
    pyarrow.parquet.write_table(no_task, tmp_path / "train-3.parquet")
    with pytest.raises(InputError, match="train-3.parquet: a row has no lang, task or source"):
        tokens.sample([tmp_path / "train-3.parquet"], 2, 1)


# Sampling


def test_a_sample_of_all_rows_is_the_exact_count(rows, shards, tmp_path):
    counted, sampled = (
        tokens.exact(shards, tmp_path, max_tokens=90),
        tokens.sample(shards, 10**9, 7, max_tokens=90),
    )
    assert sampled.as_json() | {"method": "exact", "seed": None} == counted.as_json()
    assert counted.rows == counted.measured == 240
    assert counted.total["tokens"] == sum(tokens.tokens_of(row) for row, _ in rows)
    assert {part["low"] for part in (*counted.cells, *counted.tasks, *counted.languages)} == {None}
    for part in counted.cells:
        own = [
            row
            for row, task in rows
            if (row.lang, task, row.source) == (part["lang"], part["task"], part["source"])
        ]
        assert (part["rows"], part["tokens"]) == (len(own), sum(map(tokens.tokens_of, own)))
    json.dumps(counted.as_json(), allow_nan=False)


def test_lengths_of_all_rows(shards, tmp_path):
    measured = pyarrow.concat_tables(
        tokens.measure_shard(path, None) for path in shards
    ).to_pylist()
    for part in tokens.exact(shards, tmp_path, max_tokens=90).languages:
        lengths = sorted(row["length"] for row in measured if row["lang"] == part["lang"])
        ranked = [
            lengths[math.ceil(len(lengths) * percent / 100) - 1] for percent in (50, 90, 99, 100)
        ]
        assert [part[name] for name in ("p50", "p90", "p99", "max")] == ranked
        assert part["over"] == sum(length > 90 for length in lengths) and part[
            "over_share"
        ] == part["over"] / len(lengths)
        edges = [*tokens.EDGES, math.inf]
        wanted = [
            sum(low <= length < high for length in lengths)
            for low, high in zip(edges, edges[1:], strict=False)
        ]
        assert part["histogram"] == wanted and sum(wanted) == part["rows"]
        words = sum(row["words"] for row in measured if row["lang"] == part["lang"])
        assert part["fertility"] == part["tokens"] / words


def test_very_long_rows_are_in_the_last_bin():
    found = {"lengths": {"en": {"0": 1, "1": 1, "65535": 2, "65536": 3, "9999999": 4}}}
    assert tokens._lengths(found, "en", 11, 10)["histogram"] == [1, 1, *[0] * 14, 2, 7]


def test_chosen_rows_are_seeded_and_do_not_depend_on_the_cut():
    one, cut = tokens.chosen_rows([1000], 200, 3)[0], tokens.chosen_rows([1, 0, 499, 500], 200, 3)
    assert len(set(one)) == 200 and one == sorted(one)
    assert one == [
        row + start for rows, start in zip(cut, (0, 1, 1, 500), strict=True) for row in rows
    ]
    assert one != tokens.chosen_rows([1000], 200, 4)[0]
    assert (
        tokens.chosen_rows([3, 2], 9, 1) == [[0, 1, 2], [0, 1]]
        and tokens.chosen_rows([], 5, 1) == []
    )


def test_workers_and_cuts_change_nothing(rows, shards, tmp_path):
    one = tokens.sample(shards, 90, 5).as_json()
    assert one == tokens.sample(shards[::-1], 90, 5).as_json()
    assert one == tokens.sample(write(tmp_path, rows, [7] * 34 + [2], group=3), 90, 5).as_json()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert one == tokens.sample(shards, 90, 5, pool.map).as_json()
    assert (
        one["measured"] == 90
        and one["rows"] == 240
        and one != tokens.sample(shards, 90, 6).as_json()
    )


def test_another_process_counts_the_same(shards, tmp_path):
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(
        2, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        assert (
            tokens.exact(shards, tmp_path / "pool", pool.map).as_json()
            == tokens.exact(shards, tmp_path / "one").as_json()
        )


def test_the_parts_of_a_table_tell_one_story(shards):
    table = tokens.sample(shards, 90, 5)
    for parts in (table.cells, table.tasks, table.languages):
        assert (
            sum(part["rows"] for part in parts) == 240
            and sum(part["measured"] for part in parts) == 90
        )
        assert all(
            part["low"] < part["tokens"] < part["high"]
            for part in parts
            if 1 < part["measured"] < part["rows"]
        )
        assert all(
            part["few"] == (part["measured"] < 30)
            for part in parts
            if part["measured"] < part["rows"]
        )
    assert table.total["tokens"] == sum(part["tokens"] for part in table.languages)
    assert {part["few"] for part in table.cells} == {True} and {
        part["lang"] for part in table.languages
    } == {"ar", "en"}


def test_nothing_is_invented_for_cells_without_a_sampled_row():
    got = {
        "cells": [
            dict(
                zip(
                    (*tokens.CELL, *tokens.SUMS),
                    ("en", "qa", "a", 1, 10, 5, 40, 100, 25, 50),
                    strict=True,
                )
            )
        ]
    }
    table = tokens.estimate(
        got | {"lengths": {"en": {"18": 1}}},
        {("en", "qa", "a"): 50, ("ar", "qa", "a"): 7},
        2048,
        "sample",
        1,
    )
    arabic, english = table.languages
    assert {
        arabic[name] for name in ("tokens", "low", "high", "fertility", "p50", "max", "over_share")
    } == {None} and arabic["rows"] == 7
    assert (english["tokens"], english["low"], english["high"], english["few"]) == (
        500,
        None,
        None,
        True,
    )
    assert table.total["tokens"] is None and table.total["low"] is None
    with pytest.raises(InputError, match="en/qa/a: 1 rows were measured, but the mix has 0"):
        tokens.estimate(got | {"lengths": {}}, {}, 2048)


# Intervals


@pytest.fixture(scope="module")
def population() -> pyarrow.Table:
    """Rows as long as real ones are: log-normal, Arabic dearer, the two languages unlike in number."""
    draw = random.Random(0)
    out = []
    for number in range(8000):
        lang = ("en", "en", "ar")[number % 3]
        words = max(1, round(draw.lognormvariate(4.5, 0.7)))
        cost = max(1, round(words * draw.gauss(1.4 if lang == "en" else 4.2, 0.3)))
        out.append(
            {
                "lang": lang,
                "task": ("qa", "chat")[number % 2],
                "source": "s",
                "tokens": cost,
                "words": words,
                "characters": words,
            }
        )
    return pyarrow.Table.from_pylist([row | {"length": row["tokens"] + 8} for row in out])


def test_intervals_cover_the_truth(population):
    """Of 100 seeds at least 90 must cover (a 95 % interval does so in 99 of 100 tries), and the
    width must be no larger than needed.
    """
    sizes = {
        key: 0
        for key in (("ar", "chat", "s"), ("ar", "qa", "s"), ("en", "chat", "s"), ("en", "qa", "s"))
    }
    for lang, task in zip(
        population["lang"].to_pylist(), population["task"].to_pylist(), strict=True
    ):
        sizes[lang, task, "s"] += 1
    truth = tokens.estimate(tokens.tally(population), sizes, 500)
    covered: dict[tuple, int] = {}
    errors: dict[tuple, list[tuple[float, float]]] = {}  # (how far off, half the interval)
    for seed in range(100):
        # 3,000 of 8,000: without the finite-population correction the intervals would be a quarter
        # too wide.
        got = tokens.estimate(
            tokens.tally(population.take(tokens.chosen_rows([8000], 3000, seed)[0])),
            sizes,
            500,
            "sample",
            seed,
        )
        for level in ("cells", "tasks", "languages"):
            for true, part in zip(getattr(truth, level), getattr(got, level), strict=True):
                place = level, part["lang"], part.get("task")
                covered[place] = covered.get(place, 0) + (
                    part["low"] <= true["tokens"] <= part["high"]
                )
                for low, high, value in (
                    ("fertility_low", "fertility_high", "fertility"),
                    ("over_low", "over_high", "over_share"),
                ):
                    if level == "languages":
                        covered[*place, value] = covered.get((*place, value), 0) + (
                            part[low] <= true[value] <= part[high]
                        )
                    if level == "languages" and value == "fertility":
                        errors.setdefault((*place, value), []).append(
                            (part[value] - true[value], part[high] - part[value])
                        )
                errors.setdefault(place, []).append(
                    (part["tokens"] - true["tokens"], part["high"] - part["tokens"])
                )
        covered[("total",)] = covered.get(("total",), 0) + (
            got.total["low"] <= truth.total["tokens"] <= got.total["high"]
        )
        errors.setdefault(("total",), []).append(
            (got.total["tokens"] - truth.total["tokens"], got.total["high"] - got.total["tokens"])
        )
    assert min(covered.values()) >= 90, covered
    # An interval that is too wide covers as well: its width must be that of the errors seen (whose
    # root mean square has a 7 % error).
    for place, seen in errors.items():
        spread = (sum(error**2 for error, _ in seen) / 100) ** 0.5
        assert 0.8 < sum(half for _, half in seen) / 100 / 1.96 / spread < 1.22, place


def test_shares_have_the_interval_of_wilson(population):
    from bimedix_utils.core.statistics import wilson

    part = tokens.estimate(
        tokens.tally(population.slice(0, 100)),
        {("en", t, "s"): 9000 for t in ("qa", "chat")}
        | {("ar", t, "s"): 9000 for t in ("qa", "chat")},
        200,
    ).languages[0]
    assert 0 < part["over"] < part["measured"] == 33
    assert (part["over_low"], part["over_high"]) == pytest.approx(wilson(part["over"], 33))


def test_a_small_cell_that_was_counted_whole_is_not_marked(population):
    sizes = {("en", t, "s"): 9000 for t in ("qa", "chat")} | {
        ("ar", "qa", "s"): 2,
        ("ar", "chat", "s"): 1,
    }
    few = {
        (part["lang"], part["task"]): part["few"]
        for part in tokens.estimate(tokens.tally(population.slice(0, 10)), sizes, 200).cells
    }
    assert few == {
        ("ar", "chat"): False,
        ("ar", "qa"): False,
        ("en", "chat"): True,
        ("en", "qa"): True,
    }


def test_the_finite_population_correction_narrows_to_nothing(population):
    english = population.filter(pyarrow.compute.equal(population["lang"], "en"))
    size = english.num_rows
    sizes = {("en", task, "s"): english["task"].to_pylist().count(task) for task in ("qa", "chat")}
    widths = []
    for n in (500, 2000, size - 1):
        part = tokens.estimate(
            tokens.tally(english.take(tokens.chosen_rows([size], n, 1)[0])), sizes, 500
        ).languages[0]
        widths.append((part["high"] - part["low"]) / part["tokens"])
    assert widths[0] > 2 * widths[1] > 20 * widths[2] > 0


# Exact counts that resume


def counting(log: list[str]):
    def run_map(function, items):
        for item in items:
            log.append(item[0].name)
            yield function(item)

    return run_map


def test_a_second_run_counts_only_what_is_missing(rows, tmp_path):
    shards, cache, log = write(tmp_path / "mix", rows, [100, 37, 103]), tmp_path / "cache", []
    first = tokens.exact(shards, cache, counting(log))
    assert log == [path.name for path in shards] and len(list(cache.glob("*.json"))) == 3
    assert tokens.exact(shards, cache, counting(log)) == first and len(log) == 3
    log.clear()
    pyarrow.parquet.write_table(table(rows[137:200]), shards[2])  # a changed shard
    changed = tokens.exact(shards, cache, counting(log))
    assert log == [shards[2].name] and changed.rows == 200
    log.clear()
    assert (
        tokens.exact(shards, cache, counting(log), max_tokens=20).languages[0]["over"] > 0
        and log == []
    )  # the limit is no reason


def test_a_killed_run_goes_on_where_it_was(rows, shards, tmp_path):
    def dies(function, items):
        yield from map(function, items[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokens.exact(shards, tmp_path, dies)
    log = []
    assert tokens.exact(shards, tmp_path, counting(log)).total["tokens"] == sum(
        tokens.tokens_of(row) for row, _ in rows
    )
    assert log == [shards[2].name]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"version": "of another tokenizer", "tally": {}}']
)
def test_a_damaged_or_foreign_entry_is_counted_again(shards, tmp_path, damage):
    first = tokens.exact(shards, tmp_path)
    sorted(tmp_path.glob("*.json"))[0].write_text(damage, encoding="utf-8")
    log = []
    assert tokens.exact(shards, tmp_path, counting(log)) == first and len(log) == 1


def test_equal_shards_are_counted_once_and_added_twice(rows, tmp_path):
    log, shards = [], write(tmp_path / "mix", rows[:10] + rows[:10], [10, 10])
    assert tokens.exact(shards, tmp_path / "cache", counting(log)).rows == 20 and len(log) == 1


def test_no_shards_give_an_empty_table(tmp_path):
    for table in (tokens.exact([], tmp_path), tokens.sample([], 10, 1)):
        assert (table.rows, table.cells, table.languages, table.total["tokens"]) == (0, [], [], 0)


# The tokenizer (moved with `tokens_of`)


def test_the_tokenizer_is_named():
    assert tokens.tokenizer_name().startswith(
        "Mixtral tokenizer.model.v1, 32,000 pieces, mistral-common "
    )
