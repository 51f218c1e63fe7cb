"""The synthetic rows of the mix's benchmark: valid, repeatable, and as alike as they say; nothing
else is alike enough to be removed.
"""

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from benchmarks import mix as bench
from support import synthetic

from bimedix_utils.core.records import Record
from bimedix_utils.core.text import match_key

pytestmark = pytest.mark.unit
ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("synthetic")
    synthetic.write(path, ROWS, seed=7, files=4, tests=0.05)
    return path


@pytest.fixture(scope="module")
def lines(folder) -> list[str]:
    return [
        line
        for path in sorted(folder.glob("train-*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def rows(lines) -> dict[str, Record]:
    return {row.id: row for row in (Record(**json.loads(line)) for line in lines)}


@pytest.fixture(scope="module")
def tests(folder) -> dict[str, Record]:
    return {
        row["id"]: Record(**row)
        for row in map(
            json.loads, (folder / "tests.jsonl").read_text(encoding="utf-8").splitlines()
        )
    }


@pytest.fixture(scope="module")
def planted(folder) -> dict[str, list[dict]]:
    table = defaultdict(list)
    for line in (folder / "planted.jsonl").read_text(encoding="utf-8").splitlines():
        table[(entry := json.loads(line))["planted"]].append(entry)
    return table


def five_grams(row: Record) -> set[str]:
    """The word 5-grams, counted without the generator's own help."""
    parts = [
        row.question,
        row.context,
        *row.options,
        row.answer,
        *(turn.text for turn in row.turns),
    ]
    words = match_key(" ".join(parts)).split()
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


def likeness(first: Record, second: Record) -> float:
    one, other = five_grams(first), five_grams(second)
    return len(one & other) / len(one | other)


def test_every_line_is_a_record_written_as_the_kit_writes_it(folder, lines, rows):
    assert len(lines) == len(rows) == ROWS
    assert all(Record(**json.loads(line)).model_dump_json() == line for line in lines)
    for line in (folder / "tests.jsonl").read_text(encoding="utf-8").splitlines():
        assert Record(**json.loads(line)).model_dump_json() == line


def test_size_languages_and_sources_are_those_of_the_paper(folder, rows):
    size = json.loads((folder / "made.json").read_text())["bytes"]
    assert size == sum(path.stat().st_size for path in folder.glob("train-*.jsonl"))
    assert 2400 < size / ROWS < 2600
    counts = Counter(row.lang for row in rows.values())
    assert 1.9 < counts["en"] / counts["ar"] < 2.05
    by_source = Counter(
        row.source
        for row in rows.values()
        if row.lang == "en" and ":copy" not in row.id and ":edit" not in row.id
    )
    assert (
        by_source["open_qa"]
        > by_source["pubmedqa"]
        > by_source["medmcqa"]
        > by_source["dialogue"]
        > by_source["medqa"]
        > 0
    )


def test_translations_are_parallel_to_their_parents(rows):
    translated = [row for row in rows.values() if row.parent_id]
    assert len(translated) > 0.9 * sum(row.lang == "ar" for row in rows.values())
    for row in translated:
        parent = rows[row.parent_id]
        assert (
            row.id == f"{parent.id}:ar"
            and parent.lang == "en"
            and row.kind == parent.kind
            and row.answer_index == parent.answer_index
        )
        assert len(row.turns) == len(parent.turns) and len(row.options) == len(parent.options)


def test_test_items_come_in_both_languages(tests):
    sizes = Counter((row.source, row.lang) for row in tests.values())
    assert len(sizes) == 18 and sizes["medmcqa", "en"] == sizes["medmcqa", "ar"] == round(
        4183 * 0.05
    )
    assert sum(synthetic.test_sizes(1.0)) == 7045
    assert len({match_key(row.question) for row in tests.values()}) == len(tests)
    assert all(tests[row.parent_id].lang == "en" for row in tests.values() if row.lang == "ar")


@pytest.mark.parametrize("name, share", [("exact", 0.03), ("near", 0.05), ("leak", 0.005)])
def test_the_planted_share_is_the_same_in_both_languages(rows, planted, name, share):
    for lang in ("en", "ar"):
        there = sum(row.lang == lang for row in rows.values())
        assert sum(entry["lang"] == lang for entry in planted[name]) / there == pytest.approx(
            share, abs=1.5 / there + 0.001
        )


def test_exact_copies_are_exact_under_another_id(rows, planted):
    for entry in planted["exact"]:
        copy, original = rows[entry["id"]], rows[entry["other"]]
        assert copy.id != original.id and copy.content_hash() == original.content_hash()
    elsewhere = sum(
        rows[entry["id"]].source != rows[entry["other"]].source for entry in planted["exact"]
    )
    assert 0.3 < elsewhere / len(planted["exact"]) < 0.7
    assert max(Counter(entry["other"] for entry in planted["exact"]).values()) == 2


def test_the_recorded_similarity_is_the_true_one(rows, planted):
    assert all(
        entry["jaccard"] == likeness(rows[entry["id"]], rows[entry["other"]])
        for entry in planted["near"]
    )
    values = [entry["jaccard"] for entry in planted["near"]]
    assert sum(0.80 <= value <= 0.95 for value in values) > 0.95 * len(values)
    assert 0.84 < sum(values) / len(values) < 0.865 and min(values) < 0.81 and max(values) > 0.9
    assert not {entry["other"] for entry in planted["near"]} & {
        entry["other"] for entry in planted["exact"]
    }


def test_contaminated_rows_hold_the_test_question_word_for_word(rows, tests, planted):
    for entry in planted["leak"]:
        row, item = rows[entry["id"]], tests[entry["other"]]
        assert row.lang == item.lang
        if row.kind == "mcqa":
            assert (row.question, row.options, row.answer_index) == (
                item.question,
                item.options,
                item.answer_index,
            )
        else:
            asked = (
                row.question
                if row.kind == "qa"
                else " ".join(turn.text for turn in row.turns if turn.role == "patient")
            )
            assert item.question in asked
    assert {entry["form"] for entry in planted["leak"]} == {"mcqa", "qa", "chat"}


def test_no_other_row_holds_a_test_question(rows, tests, planted):
    planted_ids = {entry["id"] for entry in planted["leak"]}
    asked = [f" {match_key(item.question)} " for item in tests.values()]
    for row in random.Random(1).sample(
        [row for row in rows.values() if row.id not in planted_ids], 300
    ):
        text = f" {match_key(synthetic.full_text(row.model_dump()))} "
        assert not any(question in text for question in asked)


def test_planted_rows_are_spread_over_the_files(folder, planted):
    where = {}
    for path in sorted(folder.glob("train-*.jsonl")):
        where |= {
            json.loads(line)["id"]: path.name
            for line in path.read_text(encoding="utf-8").splitlines()
        }
    pairs = [entry for entry in planted["exact"] + planted["near"]]
    assert len({where[entry["id"]] for entry in pairs}) == 4
    assert sum(where[entry["id"]] != where[entry["other"]] for entry in pairs) > len(pairs) / 2


def test_only_planted_pairs_are_alike(rows, planted):
    """Every pair of rows that shares a word 5-gram, by an inverted index: templates make
    pairs of 0.3 to 0.7, none of 0.75.
    """
    group = {entry["id"]: entry["other"] for entry in planted["exact"] + planted["near"]}
    asked = {
        entry["id"]: entry["other"] for entry in planted["leak"]
    }  # two rows that ask one test question may be alike
    names = list(rows)
    grams = [five_grams(rows[name]) for name in names]
    holders = defaultdict(list)
    for number, found in enumerate(grams):
        for gram in found:
            holders[gram].append(number)
    shared = Counter()
    for numbers in holders.values():
        # A 5-gram of more rows is of a stock phrase and adds little to a pair that is alike in
        # nothing else.
        if len(numbers) < 150:
            shared.update(combinations(numbers, 2))
    middle = 0
    for (first, second), count in shared.items():
        one, other = names[first], names[second]
        if (
            count < 20
            or group.get(one, one) == group.get(other, other)
            or asked.get(one, one) == asked.get(other, other)
        ):
            continue
        similarity = len(grams[first] & grams[second]) / len(grams[first] | grams[second])
        assert similarity < 0.75, (one, other)
        middle += 0.3 <= similarity <= 0.7
    assert middle > ROWS


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(folder, tmp_path):
    synthetic.write(tmp_path / "again", ROWS, seed=7, files=4, tests=0.05)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    assert all(
        (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names
    )
    synthetic.write(tmp_path / "other", 300, seed=8, files=4, tests=0.05)
    assert (tmp_path / "other" / "train-00.jsonl").read_bytes()[:2000] not in (
        folder / "train-00.jsonl"
    ).read_bytes()


def test_two_processes_write_the_same_bytes_as_one(tmp_path, monkeypatch):
    synthetic.write(tmp_path / "one", 400, seed=3, files=3, tests=0.02, workers=1)
    monkeypatch.setattr(synthetic, "PARALLEL", 0)
    synthetic.write(tmp_path / "two", 400, seed=3, files=3, tests=0.02, workers=2)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_whole_data_set_is_not_made_again(tmp_path):
    synthetic.write(tmp_path, 300, seed=1, files=2, tests=0.02)
    before = (tmp_path / "train-00.jsonl").stat().st_mtime_ns
    synthetic.write(tmp_path, 300, seed=1, files=2, tests=0.02)
    assert (tmp_path / "train-00.jsonl").stat().st_mtime_ns == before
    synthetic.write(tmp_path, 310, seed=1, files=2, tests=0.02)
    assert (tmp_path / "train-00.jsonl").stat().st_mtime_ns != before


# The benchmark's judgement


@pytest.fixture
def judge(folder, rows, tmp_path):
    """Judges a result given as {id: (status, id of the row that stays)}; everything else is in the
    shards.
    """
    import pyarrow
    from pyarrow import parquet

    def judged(removed: dict[str, tuple[str, str]]) -> dict:
        (tmp_path / "data").mkdir(exist_ok=True)
        columns = {
            "id": list(removed),
            "status": [s for s, _ in removed.values()],
            "other": [o for _, o in removed.values()],
        }
        text = pyarrow.string()
        parquet.write_table(
            pyarrow.table(columns, schema=pyarrow.schema({name: text for name in columns})),
            tmp_path / "removed.parquet",
        )
        kept = [row_id for row_id in rows if row_id not in removed]
        parquet.write_table(pyarrow.table({"id": kept}), tmp_path / "data" / "train-00000.parquet")
        return bench.judged(folder, tmp_path, ROWS)

    return judged


@pytest.fixture
def truth(planted) -> dict[str, tuple[str, str]]:
    """What a perfect mix removes."""
    return {
        e["id"]: ("contaminated" if name == "leak" else "duplicate", e["other"])
        for name, entries in planted.items()
        for e in entries
    }


def test_a_perfect_result_is_judged_perfect(judge, truth, rows, planted):
    result = judge(truth)
    assert [result[f"{name}_recall"] for name in ("exact", "near", "leak")] == [1, 1, 1]
    assert result["false_removal"] == 0 and result["accounted"]
    known = {entry["id"] for entries in planted.values() for entry in entries}
    known |= {entry["other"] for name in ("exact", "near") for entry in planted[name]}
    assert result["unplanted"] == len(rows.keys() - known)


def test_nothing_removed_is_judged_as_nothing_found(judge):
    result = judge({})
    assert [result[f"{name}_recall"] for name in ("exact", "near", "leak")] == [0, 0, 0] and result[
        "false_removal"
    ] == 0


def test_either_of_a_pair_may_stay(judge, truth, planted):
    for entry in planted["near"]:
        truth[entry["other"]] = ("duplicate", entry["id"])
        del truth[entry["id"]]
    result = judge(truth)
    assert result["near_recall"] == 1 and result["false_removal"] == 0


def test_a_missed_copy_a_missed_leak_and_a_wrong_removal_count(judge, truth, planted):
    for name in ("exact", "near", "leak"):
        del truth[planted[name][0]["id"]]
    innocent = "pubmedqa:1"
    assert innocent not in truth and innocent not in {
        e["other"] for entries in planted.values() for e in entries
    }
    result = judge(truth | {innocent: ("contaminated", "test")})
    assert sum(sum(counts.values()) for counts in result["missed"].values()) == 3
    assert result["false_removal"] == 1 / result["unplanted"] and result["false_removals"] == {
        "contaminated": 1
    }


def test_no_room_is_no_removal(judge, truth):
    result = judge(truth | {"pubmedqa:1": ("surplus", "")})
    assert result["false_removal"] == 0 and result["accounted"]


def test_a_leak_may_be_the_duplicate_of_another_leak(judge, truth, planted):
    first, second, third = (entry["id"] for entry in planted["leak"][:3])
    truth[second], truth[third] = ("duplicate", first), ("duplicate", second)
    assert judge(truth)["leak_recall"] == 1
    truth[first] = ("duplicate", third)
    assert judge(truth)["leak_recall"] < 1


def test_memory_counts_a_child(tmp_path):
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytes([1]) * 10**8;"
        " print(1, flush=True); input()'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        found = bench.tree(process.pid)
        assert len(found) == 2
        assert bench.memory(found, False) > 10**8 > bench.memory([process.pid], False)
        assert 10**8 < bench.memory(found, True) <= bench.memory(found, False)
    finally:
        process.communicate(b"\n")
