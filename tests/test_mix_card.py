"""The data-set card: valid front matter, every number from the manifest, `not found` for the rest,
and a folder that loads.
"""

import copy
import re

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from bimedix_utils.core.cards import LICENCE_PAGES
from bimedix_utils.mixture import mix_card as card
from bimedix_utils.mixture import tokens

pytestmark = pytest.mark.unit


def token_table() -> dict:
    cells = [
        {"lang": lang, "task": "qa", "source": "umls", "rows": n, "tokens": n * 90, "words": n * 80}
        for lang, n in (("en", 60), ("ar", 20))
    ]
    lengths = {"en": {"90": 50, "3000": 10}, "ar": {"200": 20}}
    return tokens.add_counts([{"cells": cells, "lengths": lengths}], 2048)


@pytest.fixture
def manifest() -> dict:
    return {
        "kit": "0.1.0",
        "mode": "paper",
        "seed": 1234,
        "settings": {
            "arabic": 1,
            "english": 2,
            "tolerance": 0.005,
            "similarity": 0.8,
            "shard_rows": 50000,
        },
        "rules": {
            "shingle_words": 5,
            "long_text": 20,
            "long_share": 0.6,
            "same_question_words": 0.5,
        },
        "inputs": [
            {
                "file": "/somewhere/secret/umls.json",
                "bytes": 123456,
                "sha256": "a" * 64,
                "rows": 2100,
                "status": "x|y",
            }
        ],
        "tests": [
            {"source": "medqa", "lang": "en", "rows": 1273},
            {"source": "medqa", "lang": "ar", "rows": 1272},
        ],
        "tests_sha256": "b" * 64,
        "counts": {"ok": 1800, "duplicate": 200, "contaminated": 100},
        "removed": [
            {"source": "umls", "lang": "en", "status": "duplicate", "rows": 150},
            {"source": "umls", "lang": "ar", "status": "duplicate", "rows": 50},
            {"source": "umls", "lang": "en", "status": "contaminated", "rows": 100},
        ],
        "composition": [
            {
                "task": "qa",
                "lang": "en",
                "available": 1300,
                "target": 119879,
                "taken": 1200,
                "missing": 118679,
                "why": "no more rows",
            },
            {
                "task": "qa",
                "lang": "ar",
                "available": 650,
                "target": 156254,
                "taken": 600,
                "missing": 155654,
                "why": "",
            },
        ],
        "paper": [
            {
                "component": "Single-turn QA",
                "lang": "en",
                "task": "QA",
                "rows": 119879,
                "status": "stated",
            },
            {
                "component": "Single-turn QA (Ara)",
                "lang": "ar",
                "task": "QA",
                "rows": 156254,
                "status": "stated",
            },
            {
                "component": "BiMed1.3M total",
                "lang": "en+ar",
                "task": "all",
                "rows": "~1.311M",
                "status": "inferred",
            },
        ],
        "sources": [
            {
                "source": "umls",
                "lang": "en",
                "licence": "MIT",
                "redistribution": "allowed",
                "revision": "abc123",
                "rows": 1200,
            },
            {
                "source": "umls",
                "lang": "ar",
                "licence": "not found",
                "redistribution": "not found",
                "revision": None,
                "rows": 600,
            },
        ],
        "keys": [{"source": "medqa", "lang": "en", "n": 400, "counts": {"A": 100, "B": 300}}],
        "splits": {"train": 1700, "validation": 100},
        "shards": [
            {
                "file": "data/train-00000-of-00001.parquet",
                "split": "train",
                "rows": 1700,
                "bytes": 9000,
                "sha256": "c" * 64,
            },
            {
                "file": "data/validation-00000-of-00001.parquet",
                "split": "validation",
                "rows": 100,
                "bytes": 700,
                "sha256": "d" * 64,
            },
        ],
        "tokens": token_table(),
    }


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_is_what_the_hub_reads(manifest):
    from huggingface_hub import DatasetCard, DatasetCardData

    read = DatasetCard(card(manifest))
    assert isinstance(read.data, DatasetCardData)
    data = read.data.to_dict()
    assert data["language"] == ["ar", "en"] and data["task_categories"] == ["question-answering"]
    assert data["size_categories"] == ["1K<n<10K"] and "paper" in data["pretty_name"]
    assert (data["license"], data["license_name"]) == ("other", "mixed")
    assert data["license_details"] == "each row keeps its source's licence: MIT; not found"
    files = [
        {"split": split, "path": f"data/{split}-*.parquet"} for split in ("train", "validation")
    ]
    assert data["configs"] == [{"config_name": "default", "data_files": files}]
    splits = [{"name": "train", "num_examples": 1700}, {"name": "validation", "num_examples": 100}]
    assert data["dataset_info"] == {
        "config_name": "default",
        "splits": splits,
        "download_size": 9700,
    }
    assert read.text.lstrip().startswith("# BiMed")


@pytest.mark.parametrize("licence", ["MIT", "CC-BY-4.0", "apache-2.0"])
def test_one_known_licence_is_named_and_linked(manifest, licence):
    for source in manifest["sources"]:
        source |= {"licence": licence, "redistribution": "allowed"}
    assert head(card(manifest))["license"] == licence.lower() and "license_name" not in head(
        card(manifest)
    )
    assert f"| [{licence}]({LICENCE_PAGES[licence.lower()]}) |" in card(manifest)


def test_one_unknown_licence_is_other(manifest):
    for source in manifest["sources"]:
        source["licence"] = "UMLS Licence, v. 2"
    assert head(card(manifest))["license_name"] == "umls-licence-v.-2"


@pytest.mark.parametrize(
    "rows, size",
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (1_311_000, "1M<n<10M")],
)
def test_size_categories(manifest, rows, size):
    manifest["splits"] = {"train": rows - 5, "validation": 5}
    assert head(card(manifest))["size_categories"] == [size]


def test_the_numbers_of_the_manifest_are_on_the_card(manifest):
    text = card(manifest)
    for line in (
        "| seed | 1234 |",
        "| arabic | 1 |",
        "| english | 2 |",
        "| tolerance | 0.005 |",
        "| shard_rows | 50,000 |",
        f"| umls.json | 2,100 | 123,456 | {'a' * 64} | x\\|y |",
        "| sum | 2,100 |",
        "| qa | en | 1,300 | 119,879 | 1,200 | 118,679 | no more rows |",
        "| qa | ar | 650 | 156,254 | 600 | 155,654 | - |",
        "| sum | - | 1,950 | 276,133 | 1,800 | 274,333 | - |",
        "| Single-turn QA | en | QA | 119,879 | stated | 1,200 |",
        "| Single-turn QA (Ara) | ar | QA | 156,254 | stated | 600 |",
        "| BiMed1.3M total | en+ar | all | ~1.311M | inferred | no such row here |",
        "| umls | ar | 50 | 0 |",
        "| umls | en | 150 | 100 |",
        "| sum | - | 200 | 100 |",
        "| sum | - | 2,545 |",
        "| umls | ar | not found | 600 | not found | not found |",
        "| medqa | en | 400 | 100 (25.0%) | 300 (75.0%) |",
        f"| data/train-00000-of-00001.parquet | train | 1,700 | 9,000 | {'c' * 64} |",
        "| sum | - | 1,800 | 9,700 | - |",
    ):
        assert line in text, line
    for words in (
        "**For research only.",
        "not the paper's BiMed1.3M",
        "at least 0.8 of their word 5-grams",
        "0.6 of those of a text of at least 20 words",
        "**No source we could read states that the paper removed test questions.**",
        f"`{'b' * 64}`",
        "paraphrased",
        "load_dataset(",
        "from bimedix_utils.core.templates import to_messages",
        "## Intended use",
        "## Limits",
        "## Safety",
    ):
        assert words in text, words
    assert "secret" not in text


def test_tokens_are_those_of_the_manifest_with_their_tokenizer(manifest):
    text = card(manifest)
    assert "| en | 60 | 5,400 |" in text and "| en | qa | umls | 60 | 5,400 |" in text
    assert "| ar | 20 | 1,800 |" in text and "| sum | 80 | 7,200 |" in text
    assert f"Tokenizer: {tokens.tokenizer_name()}. All 80 training rows were counted." in text
    assert "| en | 1.12 | 90 | 3,000 | 3,000 | 3,000 | 16.67% |" in text and "over 2,048" in text


def test_sources_that_may_not_be_passed_on_are_listed(manifest):
    text = card(manifest)
    assert (
        "**Do not redistribute this data set.**" in text
        and "**Do not redistribute:** umls (ar)." in text
    )
    manifest["sources"][1]["redistribution"] = "not allowed"
    assert "**Do not redistribute:** umls (ar)." in card(manifest)
    manifest["sources"][1]["redistribution"] = "allowed"
    assert "redistribute" not in card(manifest).lower()
    manifest["sources"][0] |= {
        "redistribution": "not allowed",
        "rows": 0,
    }  # nothing of it is in the set
    assert "Do not redistribute" not in card(manifest)


def test_an_empty_manifest_gives_a_card_without_one_number():
    from huggingface_hub import DatasetCard

    text = card({})
    assert DatasetCard(text).data.to_dict()["license"] == "other"
    assert text.count("not found") > 15 and "None" not in text
    body = re.sub(r"```.*?```", "", text.split("---\n")[2], flags=re.DOTALL)
    assert re.findall(r"\d[\d,.]*", re.sub("BiMed1.3M|sha256", "", body)) == []


def test_any_missing_part_or_number_is_written_not_found(manifest):
    """Each key, and each key of a list's first row, is taken away in turn: the card still comes,
    and never says None.
    """
    cuts = [(name,) for name in manifest]
    cuts += [
        (name, 0, key)
        for name, part in manifest.items()
        if isinstance(part, list)
        for key in part[0]
    ]
    cuts += [("tokens", key) for key in manifest["tokens"]]
    cuts += [("tokens", "languages", 0, key) for key in manifest["tokens"]["languages"][0]]
    for cut in cuts:
        broken = copy.deepcopy(manifest)
        *where, last = cut
        part = broken
        for step in where:
            part = part[step]
        del part[last]
        text = card(broken)
        assert "None" not in text, cut
        head(text)
    assert card(manifest | {"tokens": None}).count("tokens were not counted") == 1
    assert "No rows were removed." in card(manifest | {"removed": []})


def test_a_missing_number_is_no_part_of_a_sum(manifest):
    del manifest["composition"][0]["taken"]
    assert "| sum | - | 1,950 | 276,133 | not found | 274,333 | - |" in card(manifest)


def test_text_of_a_source_cannot_become_markup(manifest):
    manifest["composition"][0]["why"] = "a | b\n\n<script>x</script> \\| c"
    assert "| a \\| b &lt;script>x&lt;/script> \\| c |" in card(manifest)


@pytest.mark.parametrize("with_validation", [True, False])
def test_the_folder_loads_with_its_card(manifest, tmp_path, with_validation):
    import datasets

    folder = tmp_path / "bimed"
    (folder / "data").mkdir(parents=True)
    names = ("train", "validation") if with_validation else ("train",)
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["split"] in names]
    manifest["splits"] = {"train": 1700, "validation": 100 if with_validation else 0}
    turns = pyarrow.array(
        [[]] * 1700,
        pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("text", pyarrow.string())])),
    )
    whole = pyarrow.table(
        {"id": [f"toy:{i}" for i in range(1700)], "task": ["qa"] * 1700, "turns": turns}
    )
    for shard in manifest["shards"]:
        pyarrow.parquet.write_table(whole.slice(0, shard["rows"]), folder / shard["file"])
    (folder / "README.md").write_text(card(manifest), encoding="utf-8")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {
        name: manifest["splits"][name] for name in names
    }
    assert loaded["train"][5]["id"] == "toy:5"


def test_a_folder_with_other_rows_than_the_card_says_does_not_load(manifest, tmp_path):
    """The counts of the front matter are checked by `load_dataset`: a lost shard is seen."""
    import datasets
    from datasets.exceptions import NonMatchingSplitsSizesError

    (tmp_path / "bimed" / "data").mkdir(parents=True)
    for shard in manifest["shards"]:
        pyarrow.parquet.write_table(
            pyarrow.table({"id": ["x"] * 7}), tmp_path / "bimed" / shard["file"]
        )
    (tmp_path / "bimed" / "README.md").write_text(card(manifest), encoding="utf-8")
    with pytest.raises(NonMatchingSplitsSizesError):
        datasets.load_dataset(str(tmp_path / "bimed"), cache_dir=str(tmp_path / "cache"))


def test_the_code_on_the_card_runs(manifest, tmp_path, monkeypatch):
    """As printed, on shards written from records: loaded rows become records and conversations
    again.
    """
    import datasets
    import pyarrow.parquet as pq

    from bimedix_utils.core.records import Record, Turn
    from bimedix_utils.core.templates import to_messages
    from bimedix_utils.mixture.shards import records_table

    common = {"lang": "en", "source": "toy", "licence": "MIT", "split": "train"}
    turns = (Turn(role="patient", text="It hurts."), Turn(role="doctor", text="Where?"))
    rows = [
        Record(
            id="1", kind="mcqa", question="Which?", options=("a", "b"), answer_index=1, **common
        ),
        Record(id="2", kind="chat", turns=turns, **common),
    ]
    (tmp_path / "path/of/this/folder/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    manifest["splits"] = {"train": 2}
    manifest["shards"] = [{**manifest["shards"][0], "rows": 2}]
    pq.write_table(records_table(rows), f"path/of/this/folder/{manifest['shards'][0]['file']}")
    text = card(manifest)
    (tmp_path / "path/of/this/folder/README.md").write_text(text, encoding="utf-8")
    load, render = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {}
    exec(load, scope)
    exec(render, scope)
    loaded = [
        Record(**{name: row[name] for name in Record.model_fields}) for row in scope["mix"]["train"]
    ]
    assert loaded == rows and [to_messages(row) for row in loaded] == [
        to_messages(row) for row in rows
    ]
