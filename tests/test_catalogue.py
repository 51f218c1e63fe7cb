"""The catalogue: every entry complete and consistent, one place for licences, and what may be
published.
"""

import csv
import re
from pathlib import Path

import pytest
import yaml

from bimedix_utils import sources
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record
from bimedix_utils.sources import catalogue

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
SUBJECTS = [
    name.removeprefix("mmlu_") for name in sources.load_benchmarks() if name.startswith("mmlu_")
]
ENTRIES = catalogue.load_catalogue().entries
PARTS = [(name, part) for name, entry in ENTRIES.items() for part in entry.parts]


def record(**changes: object) -> Record:
    fields = {
        "id": "a:1",
        "kind": "qa",
        "lang": "en",
        "source": "medqa",
        "licence": "MIT",
        "split": "train",
        "question": "q",
        "answer": "a",
    }
    return Record(**{**fields, **changes})


def test_every_source_of_the_paper_has_an_entry():
    expected = {
        "pubmedqa_artificial",
        "pubmedqa",
        "medmcqa",
        "medqa",
        "healthcaremagic",
        "icliniq",
        "medical_meadow",
        "liveqa",
        "medicationqa",
        "umls_qa",
        "medquad",
        "dialogue",
        "bimed_v",
    }
    expected |= {f"mmlu_{subject}" for subject in SUBJECTS}
    expected |= {
        f"bimedix_{name}"
        for name in ("medqa", "medmcqa", "pubmedqa", *(f"mmlu_{s}" for s in SUBJECTS))
    }
    assert set(ENTRIES) == expected


@pytest.mark.parametrize(("name", "part"), PARTS, ids=[part.file for _, part in PARTS])
def test_a_part_is_read_by_its_own_reader_as_the_split_it_is(
    name: str, part: catalogue.CataloguePart
):
    if part.file == "medquad":  # a folder of many small files
        return
    file = sources.recognise(Path(part.file))
    source, lang, split = file.entry.name, file.lang, file.split
    entry = ENTRIES[name]
    assert entry.source == source or entry.source.startswith(f"{source}_")
    assert lang in entry.languages and split == part.role


def test_no_revision_is_invented():
    """No source states one: it is resolved at the first download and kept in the lock file."""
    assert {entry.revision for entry in ENTRIES.values()} == {None}


def test_mmlu_and_the_arabic_sets_are_never_trained_on():
    for name, entry in ENTRIES.items():
        if name.startswith(("mmlu_", "bimedix_")):
            assert {part.role for part in entry.parts} == {"test"} and entry.component is None, name


def test_sizes_are_those_of_the_papers_benchmark_table():
    with open(ROOT / "data" / "paper" / "benchmark_sizes.csv", encoding="utf-8") as handle:
        sizes = {row["task"]: int(row["items"]) for row in csv.DictReader(handle)}
    for subject in SUBJECTS:
        stated = next(n for task, n in sizes.items() if task.startswith(f"MMLU {subject}"))
        assert (
            ENTRIES[f"mmlu_{subject}"].parts[0].rows
            == ENTRIES[f"bimedix_mmlu_{subject}"].parts[0].rows
            == stated
        )
    assert (
        ENTRIES["medmcqa"].parts[1].rows == sizes["MedMCQA"]
        and ENTRIES["medqa"].parts[1].rows == sizes["MedQA-USMLE test"]
    )


def test_the_text_names_no_path_of_a_machine():
    text = catalogue.CATALOGUE.read_text(encoding="utf-8")
    assert not re.search(r"(^|[\s\"'])(/|\.\./|~/)\w", text)


@pytest.mark.parametrize("source", sources.known_sources())
def test_readers_take_their_licence_from_the_catalogue(source: str):
    known = {entry.licence for entry in catalogue.entries_of_source(source)}
    assert catalogue.source_licence(source) in (known or {"not found"}) | {"not found"}
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "bimedix_utils" / "sources").glob("*.py")
        if path.name != "catalogue.py"  # which names the kit's own licence
    )
    assert not re.search(r"\"MIT\"|Apache|\"CC-BY", code)


@pytest.mark.parametrize(
    ("source", "lang", "licence"),
    [
        ("medmcqa", "en", "MIT"),
        ("medmcqa", "ar", "not found"),
        ("mmlu_anatomy", "en", "MIT"),
        ("mmlu", "en", "MIT"),
        ("mmlu_anatomy", "ar", "not found"),
        ("dialogue", "en", "CC-BY-4.0"),
        ("open_qa", "en", "not found"),
        ("umls_qa", "en", "UMLS Metathesaurus License"),
        ("bimedix_medqa", "ar", "not found"),
        ("nobody", "en", "not found"),
    ],
)
def test_the_licence_of_a_source_and_language(source: str, lang: str, licence: str):
    assert catalogue.source_licence(source, lang) == licence


@pytest.mark.parametrize(
    ("name", "lang", "may"),
    [
        ("MIT", "en", True),
        ("MIT", "ar", True),
        ("CC-BY-4.0", "en", True),
        ("not found", "en", False),
        ("CC, version not stated", "en", False),
        ("UMLS Metathesaurus License", "en", False),
        ("a licence nobody knows", "en", False),
        ("", "en", False),
        ("medqa", "en", True),
        ("medqa", "ar", False),
        ("mmlu", "en", True),
        ("mmlu_anatomy", "ar", False),
        ("umls_qa", "en", False),
        ("healthcaremagic", "en", False),
        ("bimed_v", "ar", False),
        ("bimedix", "ar", False),
        ("medquad", "en", True),
    ],
)
def test_only_what_is_known_to_be_allowed_may_be_published(name: str, lang: str, may: bool):
    source = name if catalogue.entries_of_source(name) else "chat"
    licence = name if source == "chat" else catalogue.source_licence(name, lang)
    row = record(source=source, licence=licence, lang=lang)
    assert catalogue.may_publish_record(row) is may


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"licence": "not found"}, False),
        ({"source": "chat", "licence": "MIT"}, True),  # made from a row under MIT
        ({"source": "chat", "licence": "not found"}, False),
        ({"lang": "ar", "parent_id": "a:1"}, True),  # this kit's own translation of such a row
        (
            {"source": "umls_qa", "licence": "MIT"},
            False,
        ),  # a wrong licence on a row that its source forbids
        ({"source": "umls_qa", "licence": "CC-BY-4.0"}, False),
        ({"source": "umls_qa", "licence": "CC-BY-4.0", "id": "umls_qa:kit-1"}, True),
        ({"source": "knowledge_drug_class", "licence": "CC-BY-4.0"}, True),
    ],
)
def test_a_row_is_published_by_its_own_licence_and_never_against_its_source(
    changes: dict, may: bool
):
    assert catalogue.may_publish_record(record(**changes)) is may


def test_the_overview_has_a_row_for_each_role_and_counts_present_rows_once():
    rows = {
        row[0]: row
        for row in catalogue.catalogue_overview(
            {"dialogue en test": 5, "medqa en train": 7, "medqa ar train": 9}
        )
    }
    assert rows["dialogue: test 1, test 2"][4:] == ("test", 400, 5)
    assert rows["medqa: train"] == (
        "medqa: train",
        "GBaker/MedQA-USMLE-4-options",
        "MIT",
        "allowed",
        "train",
        10_178,
        7,
    )
    assert (
        rows["umls_qa: not found"][3] == "forbidden"
        and rows["umls_qa: not found"][5] == "not found"
    )


def broken(tmp_path: Path, change: dict, licences: dict | None = None) -> str:
    value = yaml.safe_load(catalogue.CATALOGUE.read_text(encoding="utf-8"))
    value["entries"]["medqa"].update(change)
    value["licences"].update(licences or {})
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    with pytest.raises(InputError) as error:
        catalogue.read_catalogue(tmp_path / "toy.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": 5}, "entries.medqa.price: Extra inputs are not permitted"),
        ({"licence": "not found"}, "a licence that was not found allows nothing"),
        (
            {"redistribution": "forbidden"},
            "medqa: redistribution is 'forbidden', its licence 'MIT' says 'allowed'",
        ),
        ({"licence": "WTFPL"}, "redistribution is 'allowed', its licence 'WTFPL' says 'not found'"),
        ({"component": "Everything"}, "component 'Everything' is not one of"),
        ({"hub": "not found", "revision": "abc"}, "a revision without a hub id"),
        ({"evidence": ""}, "entries.medqa.evidence"),
        ({"parts": []}, "entries.medqa.parts"),
        (
            {
                "parts": [
                    {
                        "split": "x",
                        "role": "train",
                        "rows": "many",
                        "file": "x.jsonl",
                        "evidence": "nowhere",
                    }
                ]
            },
            "entries.medqa.parts.0.rows",
        ),
    ],
)
def test_an_inconsistent_or_incomplete_entry_is_refused(tmp_path: Path, change: dict, message: str):
    assert message in broken(tmp_path, change)


def test_two_parts_may_not_write_one_file(tmp_path: Path):
    part = {
        "split": "x",
        "role": "train",
        "rows": 1,
        "file": "medmcqa_train.jsonl",
        "evidence": "a toy",
    }
    assert "two parts write the file medmcqa_train.jsonl" in broken(tmp_path, {"parts": [part]})


def test_choosing_by_name_and_role():
    assert catalogue.choose_entries(["medqa", "medmcqa"]) == ["medqa", "medmcqa"]
    assert catalogue.choose_entries([], "validation") == ["medmcqa", "dialogue"]
    with pytest.raises(
        InputError, match="no source medqua in the catalogue; known: medmcqa, medqa"
    ):
        catalogue.choose_entries(["medqua"])


def test_the_figure_marks_what_is_absent():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from bimedix_utils.core import charts

    axis = charts.planned_chart(
        [("MedQA", "en", 20_691, 20), ("MedQA", "ar", 11_210, 0)], "title", "rows"
    )
    texts = [text.get_text().strip() for text in axis.texts]
    assert texts == ["20 of 20,691", "none of 11,210"] and axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["MedQA, en", "MedQA, ar"]
    pyplot.close(axis.figure)


def test_the_stage_that_reads_sources_depends_on_readers_and_catalogue():
    """An edited reader must re-run notebook 01."""
    from bimedix_utils.core import freshness

    package = ROOT / "bimedix_utils"
    modules = {
        path.relative_to(package).as_posix()
        for path in freshness.imported_modules("from bimedix_utils import sources")
    }
    parts = {
        f"sources/{name}.py"
        for name in (
            "__init__",
            "census",
            "documents",
            "exams",
            "fields",
            "layouts",
            "raw_rows",
            "readers",
        )
    }
    assert {*parts, "sources/catalogue.py", "core/records.py"} <= modules
