"""Cards: missing facts are named, tables escape their text, the header is the hub's own."""

import pytest
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from bimedix_utils.core import cards

pytestmark = pytest.mark.unit


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "card.md.j2"
    path.write_text('# {{ name }}\n\n{{ rows | table({"task": "task", "n": "n:rows"}) }}\n')
    return path


def test_what_a_card_does_not_know_is_written_not_found(template):
    assert cards.render_card(template) == "# not found\n\nnot found\n"
    text = cards.render_card(template, name="x", rows=[{"task": "qa"}])
    assert text.endswith("| task | rows |\n|---|---:|\n| qa | not found |\n")


@pytest.mark.parametrize(
    "data, reader", [(ModelCardData(), ModelCard), (DatasetCardData(), DatasetCard)]
)
def test_the_header_comes_back_as_it_was_given(template, data, reader):
    data.license, data.tags = "mit", ["medical"]
    read = reader(cards.render_card(template, data, name="A name"))
    assert read.data.license == "mit" and read.data.tags == ["medical"]
    assert read.text.lstrip().startswith("# A name")


def test_a_table_sums_formats_and_escapes():
    rows = [{"name": "a | b\n<i>", "n": 1200, "share": 0.25}, {"name": "", "n": 5, "share": None}]
    columns = {"name": "name", "n": "n:rows", "share": "n:share|.1%"}
    assert cards.markdown_table(rows, columns, total=["n"]).splitlines() == [
        "| name | rows | share |",
        "|---|---:|---:|",
        "| a \\| b &lt;i> | 1,200 | 25.0% |",
        "| not found | 5 | not found |",
        "| sum | 1,205 | - |",
    ]


def test_a_part_is_no_total():
    assert cards.column_sum([{"n": 1}, {"n": 2}], "n") == 3
    assert cards.column_sum([{"n": 1}, {}], "n") is None and cards.column_sum([], "n") is None


@pytest.mark.parametrize(
    "name, header",
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("UMLS Licence, v. 2", {"license": "other", "license_name": "umls-licence-v.-2"}),
        ("not found", {"license": "other", "license_name": "not-found"}),
    ],
)
def test_a_licence_the_hub_does_not_know_is_other(name, header):
    assert cards.licence_header(name) == header
