"""The report's pages: offline, accessible, complete; made from the committed notebooks, whose
outputs are those of a smoke run.
"""

import json
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from support import reports

from bimedix_utils.core.errors import InputError
from bimedix_utils.core.provenance import NOTEBOOKS
from bimedix_utils.runner import pipeline, report
from bimedix_utils.runner.report import chapter, figures, glossary, markup

pytestmark = pytest.mark.unit
MAIN = {
    "index.html",
    "exercises.html",
    "glossary.html",
    "results.html",
    "figures.html",
    "cards.html",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return reports.finished(tmp_path_factory.mktemp("runs") / "smoke")


@pytest.fixture(scope="module")
def pages(run) -> dict[str, BeautifulSoup]:
    return {
        path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted((run / "report").glob("*.html"))
    }


def test_every_notebook_and_every_main_page_is_there(pages):
    assert set(pages) == MAIN | {
        f"{path.stem}.html" for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")
    }


def test_nothing_is_loaded_from_elsewhere(run):
    """The first report took MathJax and fonts from a content network: without one it showed raw
    TeX.
    """
    for path in (run / "report").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "html.parser")
        loading = [
            tag.get("src") or tag.get("href")
            for tag in soup(
                ["img", "script", "link", "iframe", "source", "object", "embed", "video", "audio"]
            )
        ]
        assert all(str(where).startswith("data:") for where in loading), path.name
        assert (
            not soup("script")
            and "@import" not in text
            and not re.search(r"url\(\s*['\"]?(?!#)", text)
        ), path.name


def test_each_page_has_language_landmarks_and_one_title(pages):
    for name, soup in pages.items():
        assert (
            soup.html["lang"] == "en"
            and soup.title.get_text()
            and soup.find("meta", attrs={"name": "viewport"})
        ), name
        assert (
            len(soup("h1")) == len(soup("main")) == len(soup("header")) == len(soup("footer")) == 1
        ), name
        assert soup.body.find(True)["href"] == "#main" and soup.main["id"] == "main", (
            f"{name}: the skip link comes first"
        )
        names = [nav["aria-label"] for nav in soup("nav")]
        assert names and len(names) == len(set(names)), name
        assert len(soup("a", attrs={"aria-current": "page"})) == (name in MAIN), name


def test_headings_never_skip_a_level(pages):
    for name, soup in pages.items():
        levels = [int(tag.name[1]) for tag in soup(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and all(
            b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)
        ), (name, levels)


def test_ids_are_unique_and_inner_links_lead_somewhere(pages):
    ids = {name: [tag["id"] for tag in soup(id=True)] for name, soup in pages.items()}
    for name, soup in pages.items():
        assert len(ids[name]) == len(set(ids[name])), name
        for link in soup("a"):
            target, _, place = link["href"].partition("#")
            if not re.match(r"https?:", target) and not target.endswith((".ipynb", ".md", ".csv")):
                assert (target or name) in pages, (name, link["href"])
                assert not place or place in ids[target or name], (name, link["href"])


def test_every_picture_has_a_text_of_its_own(pages):
    for name, soup in pages.items():
        texts = [image.get("alt", "") for image in soup("img")]
        assert all(len(text) >= 10 for text in texts), (name, texts)
        assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in soup("svg")), name
    assert len(pages["figures.html"]("img")) >= 15
    assert "Mixtral tokens per word" in [
        image["alt"] for image in pages["05_build_bilingual_mix.html"]("img")
    ]


def test_tables_scroll_in_a_box_of_their_own_and_have_heads(pages):
    for name, soup in pages.items():
        for table in soup("table"):
            box = table.find_parent(class_="scroll")
            assert box and box["tabindex"] == "0" and box["aria-label"], name
        assert all(cell.get("scope") in ("col", "row") for cell in soup("th")), name


def test_arabic_is_marked_wherever_it_stands(pages):
    seen = 0
    for name, soup in pages.items():
        for text in soup.body.find_all(string=re.compile("[\u0620-\u064a]")):
            marked = text.find_parent(attrs={"lang": "ar"})
            assert marked is not None and marked.get("dir") in ("rtl", "auto"), (
                name,
                str(text)[:60],
            )
            seen += 1
    assert seen > 300


def test_solutions_are_folded_and_the_exercise_index_leads_to_each(pages):
    asked = pages["exercises.html"].main("a", href=re.compile("#exercise-"))
    folded = [
        fold
        for soup in pages.values()
        for fold in soup("details")
        if fold.summary.get_text().startswith("Solution of exercise")
    ]
    assert len(asked) == len(folded) >= 25
    assert all(
        not fold.has_attr("open") and fold(class_="code") and fold(class_="output")
        for fold in folded
    )
    assert f"{len(asked)} exercises" in pages["exercises.html"].main.p.get_text()


def test_notebooks_lead_to_their_neighbours(pages):
    chapters = sorted(name for name in pages if name[:2].isdigit())
    for place, name in enumerate(chapters):
        found = {link["rel"][0]: link["href"] for link in pages[name]("a", rel=True)}
        wanted = {"prev": chapters[place - 1]} if place else {}
        assert found == wanted | (
            {"next": chapters[place + 1]} if place + 1 < len(chapters) else {}
        )


def test_the_landing_page_tells_time_purpose_and_what_was_not_run(pages):
    text = pages["index.html"].main.get_text(" ")
    assert (
        "1.0" in text
        and "1,234" in text
        and "00_check_environment: a <teacher>" in text
        and "What was not run" in text
    )
    assert (
        pages["index.html"].find(attrs={"lang": "ar", "dir": "rtl"})
        and "0.500 (n=2)" in pages["results.html"].get_text()
    )
    assert all("Research only" in soup.footer.get_text() for soup in pages.values())


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(
        weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


CSS = (Path(report.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
SCHEMES = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in CSS.split("@media", 1)]
CONTRAST = [
    *((name, ground) for name in ("ink", "soft", "link", "warn") for ground in ("paper", "panel")),
    *((name, "panel") for name in ("keyword", "string", "number", "remark", "name")),
    *(("ink", ground) for ground in ("deleted", "inserted")),
]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("pair", CONTRAST, ids="-on-".join)
def test_words_stand_out_from_their_ground(pair, scheme):
    bright, dim = sorted((luminance(SCHEMES[scheme][name]) for name in pair), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_every_colour_of_a_text_is_in_the_contrast_list():
    names = re.findall(r"(?<![-\w])color: var\(--(\w+)\)", CSS)
    assert set(names) == {front for front, _ in CONTRAST} - {"warn"}
    assert SCHEMES[0].keys() == SCHEMES[1].keys()


def test_cards_are_shown_with_their_headings_below_the_pages(pages):
    main = pages["cards.html"].main
    assert [tag.get_text() for tag in main(re.compile("^h[2-4]$"))] == [
        "Bilingual mix (data card)",
        "A card",
        "Limits",
    ]
    assert "tags: [medical]" in main.details.get_text()


def test_fresh_pages_are_left_alone_and_an_empty_run_says_what_to_do(run, tmp_path):
    index = run / "report" / "index.html"
    before = index.stat().st_mtime_ns
    assert report.build_report(run) == index and index.stat().st_mtime_ns == before
    (run / "results.json").write_text(
        (run / "results.json").read_text().replace('"rows": 3', '"rows": 4', 1)
    )
    report.build_report(run)
    assert index.stat().st_mtime_ns != before
    with pytest.raises(InputError, match="make run"):
        report.build_report(tmp_path)


def test_stored_html_cannot_act_or_load():
    made = markup.clean_html(
        '<h2>a label</h2><p id="main" onclick="x()">a<script>x</script>'
        '<img src="https://host/x.png"><iframe src="//host"></iframe></p>'
    )
    assert not re.search('script|host|onclick|id="main"', made) and 'alt="a label"' in made


def test_plain_output_is_escaped_and_its_arabic_marked(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# A title"),
        nbformat.v4.new_code_cell('x = "<b>" + "الجرعة (500 mg) مثال"'),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_x.ipynb")
    made = chapter.read_chapter(tmp_path / "00_x.ipynb").body
    assert "&lt;b&gt;" in made and '<bdi dir="rtl" lang="ar">الجرعة (500 mg) مثال</bdi>' in made


def test_two_equal_headings_get_two_ids_and_an_empty_head_is_no_head():
    text = "## Results\n\n## Results\n\n| | a |\n|---|---|\n| 1 | 2 |"
    made = markup.clean_html(markup.markdown_html(text))
    assert 'id="results"' in made and 'id="results-2"' in made
    assert made.count("<th") - made.count("<thead") == 1


def test_a_formula_is_drawn_with_its_source_as_text():
    drawn = markup.formula_svg(r"W + \frac{\alpha}{r} B A")
    assert drawn.startswith('<svg role="img" aria-label="W + \\frac{\\alpha}{r} B A"')
    assert "currentColor" in drawn and "#ffffff" not in drawn
    twice = markup.clean_html(f"<p>{drawn} and {drawn}</p>")
    names, uses = re.findall(r' id="([^"]+)"', twice), re.findall(r'xlink:href="#([^"]+)"', twice)
    assert len(names) == len(set(names)) >= 6 and set(uses) <= set(names), (
        "glyphs of two formulas share a name"
    )
    assert markup.formula_svg(r"\nosuchword{x}") == r"<code>\nosuchword{x}</code>"
    assert "<svg" in markup.markdown_html("The sum $a + b$ and\n\n$$\nc = d\n$$\n")
    assert "$" not in markup.markdown_html("The sum $a + b$ and\n\n$$\nc = d\n$$\n")


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('axis = core.bar_chart({"a": 1}, "Rows by kind", "rows")', ["Rows by kind"]),
        ('core.bar_chart({}, f"Rows of {name}", "rows")', ["Rows of …"]),
        (
            'core.bar_chart({}, ylabel="x", title="Named")\ncore.interval_chart([], "Second", "x")',
            ["Named", "Second"],
        ),
        ("core.training_curve(log)", ["Loss of the answers"]),
        ('run.account("questions", ids, statuses)', []),
        ("not python (", []),
    ],
)
def test_a_figures_title_is_read_from_the_call_that_draws_it(source, wanted):
    assert figures.figure_titles(source) == wanted


def test_the_glossary_holds_the_field_in_both_languages():
    terms = glossary.read_glossary()
    assert len(terms) >= 50 and len({term.term_ar for term in terms}) == len(terms)
    known = {term.term_en for term in terms}
    for wanted in (
        "mixture of experts (MoE)",
        "router",
        "adapter",
        "quantisation",
        "perplexity",
        "token",
        "held-out data",
        "contamination",
        "Wilson interval",
    ):
        assert wanted in known
    for term in terms:
        assert term.explanation_en.endswith(".") and term.explanation_ar.endswith("."), term.term_en
        assert not re.search("[\u0660-\u0669،]{0}  ", term.explanation_ar), "two spaces"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,ب,c,", "none empty"),
        ("a,b,c,d", "hold no Arabic"),
        ("a,ب,c,د,e", "four cells"),
        ("a,ب,c,د\nA,ب,c,د", "duplicate"),
    ],
)
def test_a_broken_glossary_is_refused_by_line(tmp_path, row, message):
    (tmp_path / "g.csv").write_text(
        ",".join(glossary.Term._fields) + "\n" + row + "\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=message):
        glossary.read_glossary(tmp_path / "g.csv")
    (tmp_path / "g.csv").write_text("term\n", encoding="utf-8")
    with pytest.raises(InputError, match="columns"):
        glossary.read_glossary(tmp_path / "g.csv")


def test_jupyterlab_opens_at_a_start_page_whose_links_lead_to_files():
    """`make lab` once named a file that JupyterLab looked for in another folder, and ended with an
    error.
    """
    start = NOTEBOOKS / "START_HERE.md"
    links = re.findall(r"\]\(([^)]+)\)", start.read_text(encoding="utf-8"))
    assert {path.name for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")} <= set(links) and all(
        (NOTEBOOKS / link).exists() for link in links
    )
    lab = next(
        line
        for line in (NOTEBOOKS.parent / "Makefile").read_text(encoding="utf-8").splitlines()
        if "/jupyter lab" in line
    )
    assert (
        "default_url=/lab/tree/notebooks/START_HERE.md" in lab
        and "--notebook-dir=. " in lab
        and "app_settings_dir=notebooks/.lab" in lab
    )
    settings = json.loads((NOTEBOOKS / ".lab" / "overrides.json").read_text(encoding="utf-8"))
    assert settings["@jupyterlab/apputils-extension:notification"] == {
        "checkForUpdates": False,
        "fetchNews": "false",
    }, "asks another machine"
    assert (
        settings["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]["markdown"]
        == "Markdown Preview"
    )


# The README's commands


def commands() -> list[list[str]]:
    """Every `make` command of the README's shell blocks, as words, remarks left out."""
    text = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    return [
        shlex.split(part, comments=True)
        for line in lines
        for part in line.split(" && ")
        if part.startswith("make")
    ]


def test_every_command_of_the_readme_is_a_target_with_legal_parameters():
    """`make run NB=06 SET="LORA_RANK=16 SEED=1"` once stood there beside a RUN in which notebook 05
    had never run.
    """
    targets = set(
        re.findall(
            r"^([a-z-]+):",
            (NOTEBOOKS.parent / "Makefile").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    seen = 0
    for _, *words in commands():
        given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        named = [word for word in words if "=" not in word]
        assert set(named) <= targets, words
        if named == ["run"]:
            overrides = dict(item.split("=", 1) for item in given.pop("SET", "").split())
            overrides |= {
                name: given[name] for name in ("RUN", "RAW_DIR", "MODEL", "DATA") if name in given
            }
            chosen = pipeline.select_notebooks(given.get("NB", ""))
            pipeline.resolve_parameters(chosen, given.get("MODE", "smoke"), overrides)
            # A run of its own begins at the beginning, or names the data it starts from.
            first = chosen[0].name[:2]
            assert first in ("00", "01") or "RUN" not in given or "DATA" in given, words
            seen += 1
    assert seen >= 15
