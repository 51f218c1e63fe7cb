"""The bilingual mix: ratio, duplicates, test questions, licences; repeatable to the byte,
resumable, honest about damage.
"""

import csv
import errno
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import synthetic

from bimedix_utils import mixture, sources
from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.core.provenance import ROOT, hash_path
from bimedix_utils.core.records import Record, Turn, write_jsonl
from bimedix_utils.core.shingles import jaccard, shingle_hashes
from bimedix_utils.mixture import compose, scan
from bimedix_utils.mixture.contamination import row_words
from bimedix_utils.sources import catalogue

pytestmark = pytest.mark.unit
COMPOSITION = ROOT / "data" / "paper" / "composition.csv"
PATHS = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS}
VOCABULARY = {lang: synthetic.vocabulary(lang)[:4000] for lang in ("en", "ar")}
# With `BOUNDLESS` no cell is cut, and nothing is held out: a row's status shows one rule.
ALL = mixture.MixSettings(composition="paper", validation_share=0.0)
RATIO = replace(ALL, composition="ratio", tolerance=0)
PARTS = ("PubMedQA", "MedMCQA", "MedQA", "Single-turn QA", "Multi-turn conversation")
BOUNDLESS = "component,lang,task,samples,status\n" + "".join(
    f"{part}{end},{lang},QA,1000000,made up\n"
    for part in PARTS
    for end, lang in (("", "EN"), (" (Ara)", "AR"))
)


def words(seed: object, n: int, lang: str = "en") -> str:
    return " ".join(random.Random(f"{seed}:{lang}").choices(VOCABULARY[lang], k=n))


def qa(number: object, lang: str = "en", **more) -> Record:
    suffix = "" if lang == "en" else f":{lang}"
    script = "ar" if lang == "ar" else "en"
    text = words(f"{number}{suffix}", 20, script)
    fields = {
        "id": f"toy:{number}{suffix}",
        "kind": "qa",
        "lang": lang,
        "source": "toy",
        "licence": "MIT",
        "split": "train",
    }
    return Record(
        **{
            **fields,
            "question": text + "?",
            "answer": words(f"answer {number}{suffix}", 10, script),
            **more,
        }
    )


def mcqa(number: object, lang: str = "en", **more) -> Record:
    options = tuple(words(f"{number} option {i}", 3, lang) for i in range(4))
    return qa(
        number,
        lang,
        **{
            "kind": "mcqa",
            "source": "medmcqa",
            "options": options,
            "answer_index": 1,
            "answer": "",
            **more,
        },
    )


def chat(number: object, lang: str = "en", **more) -> Record:
    turns = [
        Turn(role=("patient", "doctor")[i % 2], text=words(f"{number} turn {i}", 12, lang))
        for i in range(4)
    ]
    return qa(
        number,
        lang,
        **{
            "kind": "chat",
            "source": "dialogue",
            "question": "",
            "answer": "",
            "turns": tuple(turns),
            **more,
        },
    )


def edited(text: str, place: int, word: str = "changed") -> str:
    parts = text.split(" ")
    return " ".join([*parts[:place], word, *parts[place + 1 :]])


class Mix:
    """What a build left on the disk, read with nothing of the mixture's own code but `read`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.removed = {
            row["id"]: row for row in pq.read_table(folder / "removed.parquet").to_pylist()
        }
        self.removed_rows = pq.read_table(folder / "removed.parquet").num_rows
        self.rows = [
            row
            for file in sorted((folder / "data").glob("*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
        self.ids = [row["id"] for row in self.rows]

    def status(self, row_id: str) -> str:
        return "ok" if row_id in self.ids else self.removed[row_id]["status"]

    def note(self, row_id: str) -> str:
        return self.removed[row_id]["note"]

    def bytes(self) -> dict[str, str]:
        return {
            path.name: hash_path(path) for path in sorted((self.folder / "data").glob("*.parquet"))
        }


def build(
    folder: Path,
    files: dict[str, list[Record] | bytes],
    tests=(),
    settings: mixture.MixSettings = ALL,
    inputs=None,
    **more,
) -> Mix:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (
            (folder / name).write_bytes(rows)
            if isinstance(rows, bytes)
            else write_jsonl(folder / name, rows)
        )
    write_jsonl(folder / "tests.jsonl", tests)
    more = {"composition": boundless(folder), **more}
    mixture.build_mix(
        inputs or [folder / name for name in files],
        folder / "tests.jsonl",
        folder / "out",
        settings,
        **more,
    )
    return Mix(folder / "out")


def boundless(folder: Path) -> Path:
    (folder / "boundless.csv").write_text(BOUNDLESS, encoding="utf-8")
    return folder / "boundless.csv"


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> tuple[list[Path], Path]:
    """Four files of 600 synthetic rows in both languages, with planted copies and test questions;
    and their tests.
    """
    folder = tmp_path_factory.mktemp("material")
    synthetic.write(folder, 600, seed=5, files=4, tests=0.02)
    return sorted(folder.glob("train-*.jsonl")), folder / "tests.jsonl"


SMALL = mixture.MixSettings(shard_rows=70, validation_share=0.1)


@pytest.fixture(scope="module")
def reference(material, tmp_path_factory) -> Mix:
    inputs, tests = material
    folder = tmp_path_factory.mktemp("reference")
    mixture.build_mix(inputs, tests, folder, SMALL)
    return Mix(folder)


# Composition


def cells(available, *rule):
    return {(cell.task, cell.lang): cell for cell in compose.cells_by_ratio(available, *rule)}


@pytest.mark.parametrize(
    "english, arabic, parts, wanted",
    [
        (50, 50, (1, 2), (50, 25)),
        (50, 10, (1, 2), (20, 10)),
        (51, 30, (1, 2), (50, 25)),
        (9, 50, (1, 2), (8, 4)),
        (20, 20, (1, 1), (20, 20)),
        (20, 20, (2, 3), (18, 12)),
        (20, 20, (3, 2), (12, 18)),
        (1, 20, (1, 2), (0, 0)),
        (20, 0, (1, 2), (0, 0)),
        (0, 20, (1, 2), (0, 0)),
    ],
)
def test_without_tolerance_the_ratio_is_exact_and_the_mix_as_large_as_it_can_be(
    english, arabic, parts, wanted
):
    found = cells({("qa", "en"): english, ("qa", "ar"): arabic}, *parts, 0)
    assert (found["qa", "en"].taken, found["qa", "ar"].taken) == wanted


def test_the_ratio_is_within_the_tolerance_for_every_task_and_their_sum_and_no_row_more_would_fit():
    draw = random.Random(3)
    for _ in range(300):
        arabic, english, tolerance = (
            draw.randint(1, 4),
            draw.randint(1, 4),
            draw.choice([0, 0.005, 0.02, 0.1]),
        )
        available = {
            (task, lang): draw.choice([0, draw.randint(1, 60), draw.randint(1, 5000)])
            for task in mixture.TASKS
            for lang in ("en", "ar")
        }
        found = cells(available, arabic, english, tolerance)
        slack = 1 + Fraction(str(tolerance))
        for task in mixture.TASKS:
            if not any(available[task, lang] for lang in ("en", "ar")):
                continue
            en, ar = (found[task, lang].taken for lang in ("en", "ar"))
            fits = lambda en, ar: (
                ar * english <= en * arabic * slack and en * arabic <= ar * english * slack
            )
            assert fits(en, ar) and en <= available[task, "en"] and ar <= available[task, "ar"]
            assert not (ar < available[task, "ar"] and fits(en, ar + 1)) and not (
                en < available[task, "en"] and fits(en + 1, ar)
            )
        total = {
            lang: sum(cell.taken for (_, own), cell in found.items() if own == lang)
            for lang in ("en", "ar")
        }
        assert (
            total["ar"] * english <= total["en"] * arabic * slack
            and total["en"] * arabic <= total["ar"] * english * slack
        )


def test_a_third_language_shares_the_arabic_part():
    found = cells({("qa", "en"): 60, ("qa", "ar"): 40, ("qa", "fr"): 20}, 1, 2, 0)
    assert [found["qa", lang].taken for lang in ("en", "ar", "fr")] == [60, 20, 10]


def test_cells_off_the_ratio_are_named():
    cell = lambda task, lang, taken: compose.MixCell(task, lang, taken, taken, taken, "")
    good = [cell("qa", "en", 200), cell("qa", "ar", 60), cell("qa", "ur", 40)]
    assert compose.tasks_off_ratio(good, 1, 2, 0) == {}
    bad = [*good, cell("chat", "en", 10), cell("chat", "ar", 6)]
    assert compose.tasks_off_ratio(bad, 1, 2, 0.02) == {"chat": (10, 6)}
    assert compose.tasks_off_ratio(bad, 1, 2, 0) == {"chat": (10, 6), "all": (210, 106)}


def test_what_a_ratio_could_not_meet_is_told():
    found = cells(
        {
            ("qa", "en"): 100,
            ("qa", "ar"): 10,
            ("chat", "en"): 7,
            ("medqa", "en"): 20,
            ("medqa", "ar"): 10,
        },
        1,
        2,
        0,
    )
    assert (found["qa", "en"].taken, found["qa", "en"].why) == (20, "1:2 was reached")
    assert (found["qa", "ar"].missing, found["qa", "ar"].why) == (
        40,
        "too few rows for all English ones",
    )
    assert (found["chat", "en"].why, found["chat", "ar"].why) == (
        "no Arabic rows",
        "no rows available",
    )
    assert (found["medqa", "en"].missing, found["medqa", "en"].why) == (0, "")


def test_the_papers_composition_is_the_target():
    wanted = mixture.paper_targets(COMPOSITION)
    with open(COMPOSITION, encoding="utf-8", newline="") as handle:
        stated = {row["component"]: row["samples"] for row in csv.DictReader(handle)}
    assert sum(n for (_, lang), n in wanted.items() if lang == "en") == int(
        stated["EN text subtotal"]
    )
    assert sum(n for (_, lang), n in wanted.items() if lang == "ar") == int(
        stated["AR text subtotal"]
    )
    available = {
        ("medqa", "en"): 30_000,
        ("medqa", "ar"): 11_210,
        ("chat", "en"): 5,
        ("mcqa", "en"): 3,
    }
    found = {(cell.task, cell.lang): cell for cell in compose.cells_by_target(available, wanted)}
    assert (found["medqa", "en"].taken, found["medqa", "en"].why) == (20_691, "target reached")
    assert (found["medqa", "ar"].taken, found["medqa", "ar"].why) == (11_210, "")
    assert (found["chat", "en"].missing, found["chat", "en"].why) == (133_129, "too few rows")
    assert (found["mcqa", "en"].taken, found["mcqa", "en"].why) == (0, "not in the target")
    assert found["pubmedqa", "ar"].missing == 115_773


def test_a_mix_to_the_papers_composition(tmp_path):
    rows = (
        [qa(i) for i in range(6)]
        + [qa(i, "ar") for i in range(4)]
        + [mcqa(f"m{i}", source="exam") for i in range(3)]
    )
    got = build(tmp_path, {"a.jsonl": rows}, composition=COMPOSITION)
    assert Counter(row["lang"] for row in got.rows) == {"en": 6, "ar": 4}
    assert {got.note(f"toy:m{i}") for i in range(3)} == {"not in the target"}


def test_the_ratio_of_a_mix_and_the_surplus(tmp_path):
    rows = [qa(i) for i in range(50)] + [qa(i, "ar") for i in range(10)]
    got = build(tmp_path, {"a.jsonl": rows}, settings=RATIO)
    assert Counter(row["lang"] for row in got.rows) == {"en": 20, "ar": 10}
    assert {row["note"] for row in got.removed.values()} == {"1:2 was reached"}
    assert sorted([*got.ids, *got.removed]) == sorted(row.id for row in rows)
    langs = [row["lang"] for row in got.rows]
    assert 5 < sum(a != b for a, b in zip(langs, langs[1:], strict=False)), (
        "the languages are not shuffled among each other"
    )


# Which row stays


def test_a_lower_priority_is_taken_first_whatever_the_order_of_the_inputs(tmp_path):
    published, generated = [qa(i) for i in range(20)], [qa(f"g{i}") for i in range(40)]
    again = [qa(3, id="toy:again", source="other")]
    files = {
        "generated.jsonl": [*generated, *again],
        "published.jsonl": [*published, *[qa(i, "ar") for i in range(15)]],
    }
    inputs = [
        mixture.Input(tmp_path / "generated.jsonl", priority=5),
        mixture.Input(tmp_path / "published.jsonl"),
    ]
    got = build(tmp_path, files, inputs=inputs, settings=RATIO)
    assert {r.id for r in published} < set(got.ids) and len(got.rows) == 45
    assert got.removed["toy:again"]["other"] == "toy:3" and got.status("toy:again") == "duplicate"


def test_rules_in_their_order(tmp_path):
    asked = mcqa("asked", split="test", id="test:1")
    text = words("near", 60)
    rows = [
        mcqa("asked"),  # contaminated
        mcqa(
            "asked", id="toy:asked2", licence="not found"
        ),  # contaminated, is a duplicate, and may not be published
        qa("a", licence="not found"),
        qa("a", id="toy:z", licence="not found"),  # a duplicate of one that may not be published
        qa("n1", question=text),
        qa("n2", question=edited(text, 30), answer=qa("n1").answer),
        qa("umls", source="umls_qa", licence="UMLS Metathesaurus License"),
        *(qa(i, "ar") for i in range(2)),
        *(qa(f"more{i}") for i in range(8)),
    ]
    got = build(tmp_path, {"a.jsonl": rows}, [asked], replace(RATIO, purpose="publish"))
    assert got.status("toy:asked") == got.status("toy:asked2") == "contaminated"
    assert {got.note("toy:asked"), got.removed["toy:asked"]["other"]} == {
        "same test question by: question",
        "test:1",
    }
    assert sorted([got.status("toy:a"), got.status("toy:z")]) == ["duplicate", "held"]
    assert "duplicate" in (got.status("toy:n1"), got.status("toy:n2"))
    assert (got.status("toy:umls"), got.note("toy:umls")) == (
        "held",
        "licence: UMLS Metathesaurus License",
    )
    assert (
        Counter(row["lang"] for row in got.rows) == {"en": 4, "ar": 2}
        and got.manifest["counts"]["surplus"] == 5
    )
    assert sum(got.manifest["counts"].values()) == got.manifest["candidates"] == len(rows)


def test_only_what_may_be_passed_on_is_published(tmp_path):
    """Neither a licence of one's own choice nor a neighbour of the kit's rows opens a source whose
    owner forbids it.
    """
    umls = {"source": "umls_qa", "licence": catalogue.KIT_LICENCE}
    rows = [
        qa(1),
        qa(2, licence="not found"),
        qa(3, licence="made up"),
        qa(4, source="umls_qa", licence="MIT"),
        qa(5, **umls),
        qa(6, id="umls:kit-6", **umls),
    ]
    got = build(tmp_path, {"a.jsonl": rows}, settings=replace(ALL, purpose="publish"))
    assert sorted(got.ids) == ["toy:1", "umls:kit-6"]
    assert got.manifest["counts"] == {"ok": 2, "held": 4}
    assert all(catalogue.may_publish_record(row) for row in mixture.read_split(got.folder, "train"))
    assert {source["redistribution"] for source in got.manifest["sources"]} == {"allowed"}
    research = build(tmp_path / "research", {"a.jsonl": rows})
    assert len(research.ids) == 6
    told = {
        source["redistribution"]: source["rows"]
        for source in research.manifest["sources"]
        if source["licence"] == "MIT"
    }
    assert told == {"allowed": 1, "not allowed": 1}


def test_what_resembles_a_contaminated_row_is_contaminated(tmp_path):
    """Even when the other one has the lower priority and its own question is not found by the rules
    of contamination.
    """
    question = " ".join(["What", "is", "it"])
    asked = mcqa("asked", question=question, context="", split="test", id="test:1")
    long = words("long", 80)
    contaminated = mcqa("contaminated", question=question, options=asked.options, context=long)
    twin = mcqa(
        "twin", question="What was it", options=asked.options[:3] + ("other",), context=long
    )
    files = {"a.jsonl": [twin], "b.jsonl": [contaminated, qa(1)]}
    inputs = [mixture.Input(tmp_path / "a.jsonl", 0), mixture.Input(tmp_path / "b.jsonl", 9)]
    got = build(tmp_path, files, [asked], inputs=inputs)
    assert got.ids == ["toy:1"] and got.status("toy:twin") == "contaminated"
    assert got.removed["toy:twin"]["other"] == "toy:contaminated" and got.note("toy:twin").endswith(
        "which is contaminated"
    )


def test_a_translation_of_a_contaminated_row_is_contaminated(tmp_path):
    """The test set may have one language only: the translation asks the same question."""
    asked = mcqa("asked", split="test", id="test:1")
    copied = mcqa("kin", "ar", id="toy:other", source="x")
    got = build(
        tmp_path,
        {
            "a.jsonl": [
                qa(1),
                qa(1, "ar"),
                mcqa("kin", question=asked.question),
                mcqa("kin", "ar"),
                copied,
            ]
        },
        [asked],
    )
    assert sorted(got.ids) == ["toy:1", "toy:1:ar"]
    assert {got.status(row) for row in got.removed} == {"contaminated"}
    assert (
        got.removed["toy:kin:ar"]["other"] == "toy:kin"
        and got.note("toy:kin:ar") == "translation of a row, which is contaminated"
    )


def test_a_translation_is_no_duplicate_even_where_little_was_translated(tmp_path):
    text = " ".join(f"IL-{i}" for i in range(60))
    parent, child = qa(1, question=text), qa(1, "ar", question=text, answer=qa(1).answer)
    stranger = qa(2, "ar", question=text, answer=qa(1).answer)
    inputs = [mixture.Input(tmp_path / "a.jsonl"), mixture.Input(tmp_path / "b.jsonl", priority=1)]
    got = build(tmp_path, {"a.jsonl": [parent, child], "b.jsonl": [stranger]}, inputs=inputs)
    assert sorted(got.ids) == ["toy:1", "toy:1:ar"] and got.status("toy:2:ar") == "duplicate"


def test_the_same_id_twice_leaves_one_row_whatever_the_order(tmp_path):
    pair = [qa(1), qa(1, question=words("another", 20))]
    one, other = (
        build(tmp_path / str(i), {"a.jsonl": rows}) for i, rows in enumerate((pair, pair[::-1]))
    )
    assert one.manifest["counts"] == {"ok": 1, "duplicate": 1} and one.bytes() == other.bytes()


def test_rows_alike_in_id_and_content_but_not_in_licence_do_not_depend_on_the_order(tmp_path):
    pair = {"a.jsonl": [qa(1, licence="MIT")], "b.jsonl": [qa(1, licence="GPL", topic="x")]}
    one = build(tmp_path / "1", pair)
    other = build(tmp_path / "2", dict(reversed(pair.items())))
    assert one.bytes() == other.bytes() and one.manifest["sources"] == other.manifest["sources"]


def test_a_changed_licence_is_written_anew(tmp_path):
    build(tmp_path, {"a.jsonl": [qa(1, licence="GPL")]})
    got = build(tmp_path, {"a.jsonl": [qa(1, licence="MIT")]})
    assert (
        [row["licence"] for row in got.rows]
        == ["MIT"]
        == [source["licence"] for source in got.manifest["sources"]]
    )


def test_options_in_another_order_are_no_exact_duplicate_and_other_languages_none_at_all(tmp_path):
    long = {"question": "Short?", "options": ("alpha beta gamma", "delta", "epsilon zeta", "eta")}
    pair = [
        mcqa(1, **long),
        mcqa(2, **{**long, "options": long["options"][::-1]}),
        mcqa(1, "ar", **long),
    ]
    assert build(tmp_path, {"a.jsonl": pair}).manifest["counts"] == {"ok": 3}


def test_what_is_no_candidate_is_counted(tmp_path):
    rows = [
        qa(1),
        qa(2, split="test"),
        qa(3, split="validation"),
        qa(4, status="held"),
        qa(5, "ar"),
        qa(6, "fr"),
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    got = build(tmp_path, {}, inputs=[mixture.Input(tmp_path / "a.jsonl", langs=("en", "ar"))])
    assert (
        got.manifest["excluded"]
        == {"language fr": 1, "status held": 1, "test or validation split": 2}
        and len(got.rows) == 2
    )


# Near duplicates


def templated(n: int, seed: int) -> list[Record]:
    """Rows of ten templates with many or few words of their own: similarities from 0.3 to 1, in
    clusters.
    """
    draw, rows = random.Random(seed), []
    frames = [words(f"frame {seed} {i}", 60) for i in range(10)]
    for i in range(n):
        text = draw.choice(frames)
        for place in draw.sample(range(60), draw.choice([0, 1, 1, 2, 2, 3, 6, 12])):
            text = edited(text, place, draw.choice(VOCABULARY["en"]))
        rows.append(qa(i, question=text, answer="Yes."))
    return rows


def brute(rows: list[Record], seed: int, similarity: float) -> set[str]:
    """The rows that stay by the rule itself: every row against every kept row before it."""
    kept: list[tuple[str, np.ndarray]] = []
    seen = set()
    for row in sorted(rows, key=lambda row: scan.seeded_rank(row.id, seed)):
        own = shingle_hashes(row_words(row).everything)
        if row.content_hash() not in seen and all(
            jaccard(own, other) < similarity - 1e-9 for _, other in kept
        ):
            kept.append((row.id, own))
        seen.add(row.content_hash())
    return {row_id for row_id, _ in kept}


@pytest.mark.parametrize("seed, similarity", [(1, 0.8), (2, 0.8), (3, 0.9), (4, 0.6)])
def test_the_rule_is_a_kept_earlier_row_at_least_so_similar(tmp_path, seed, similarity):
    rows = templated(300, seed)
    got = build(
        tmp_path, {"a.jsonl": rows}, settings=replace(ALL, seed=seed, similarity=similarity)
    )
    assert set(got.ids) == brute(rows, seed, similarity)
    assert 20 < len(got.ids) < 290
    sets = {row.id: shingle_hashes(row_words(row).everything) for row in rows}
    for row in got.removed.values():
        assert row["other"] in got.ids
        value = jaccard(sets[row["id"]], sets[row["other"]])
        assert value >= similarity - 1e-9 and (
            row["note"] == "same id or content" or row["note"] == f"similarity {value:.2f}"
        )


def test_rows_of_a_crowded_template_are_compared_until_few_are_left(tmp_path):
    frame = words("crowd", 60)
    rows = [
        qa(i, question=edited(frame, i % 60, VOCABULARY["en"][i]), answer="Yes.")
        for i in range(500)
    ]
    assert set(build(tmp_path, {"a.jsonl": rows}).ids) == brute(rows, ALL.seed, ALL.similarity)


def test_a_big_group_is_reduced_to_one_row_in_either_language(tmp_path):
    rows = []
    for lang in ("en", "ar"):
        text = words("group", 120, lang)
        rows += [
            qa(i, lang, question=edited(text, i % 120, str(i)), answer=qa("g", lang).answer)
            for i in range(200)
        ]
    got = build(tmp_path, {"a.jsonl": rows})
    assert Counter(row["lang"] for row in got.rows) == {"en": 1, "ar": 1}


def test_rows_without_words_are_told_apart_from_others(tmp_path):
    rows = [qa(i, question=mark, answer=mark) for i, mark in enumerate(("؟؟؟", "...", "😀"))] + [
        qa(9)
    ]
    got = build(tmp_path, {"a.jsonl": rows}, [qa("t", split="test", question="!!", answer="!")])
    assert "toy:9" in got.ids and sum(got.manifest["counts"].values()) == 4


def test_every_planted_test_row_is_found(tmp_path):
    tests = [mcqa("a", split="test"), mcqa("a", "ar", split="test"), qa("b", split="validation")]
    write_jsonl(tmp_path / "tests.jsonl", tests)
    assert mixture.plant_tests(tmp_path / "tests.jsonl", tmp_path / "trial", ALL) == [
        ("medmcqa", "en", 1, 1),
        ("medmcqa", "ar", 1, 1),
        ("toy", "en", 1, 1),
    ]
    write_jsonl(tmp_path / "none.jsonl", [])
    assert mixture.plant_tests(tmp_path / "none.jsonl", tmp_path / "trial", ALL) == []


# Splits and files


def test_parallel_rows_share_a_split(tmp_path):
    rows = [qa(i, lang) for i in range(150) for lang in ("en", "ar")]
    rows += [
        qa(i, lang, id=f"kit:{i}:{lang}", question=words(f"twin {i}", 20, lang))
        for i in range(50)
        for lang in ("en", "ar")
    ]
    got = build(tmp_path, {"a.jsonl": rows}, settings=replace(ALL, validation_share=0.2))
    splits = {
        split: {mixture.family_id(r) for r in mixture.read_split(got.folder, split)}
        for split in ("train", "validation")
    }
    assert (
        not splits["train"] & splits["validation"]
        and len(splits["train"] | splits["validation"]) == 200
    )
    # Four standard errors of a share of 0.2 among 200 families.
    assert abs(len(splits["validation"]) / 200 - 0.2) < 4 * (0.2 * 0.8 / 200) ** 0.5


def test_family_of_rows_made_from_others():
    assert mixture.family_id(qa(1)) == mixture.family_id(qa(1, "ar")) == "toy:1"
    assert (
        mixture.family_id(chat(1, id="chat:1", parent_id="toy:1")) == "chat:1"
    )  # made from a question, but no translation of it
    assert mixture.family_id(chat(1, "ar", id="chat:1:ar", parent_id="chat:1")) == "chat:1"


def test_rows_come_back_as_they_were(tmp_path):
    rows = [
        qa(1, topic="a|b", note='"quoted"', context="line\nbreak\r\n\ttab \u2028 \u0085"),
        *(qa("x\ny"), qa("مريض"), qa("😀", source="s p a c e")),
        *(mcqa(2), mcqa(2, "ar", parent_id="toy:2"), chat(3), chat(3, "ar")),
    ]
    got = build(tmp_path, {"a.jsonl": rows})
    back = sorted(mixture.read_split(got.folder, "train"), key=lambda r: r.id)
    assert back == sorted(rows, key=lambda r: r.id)
    assert list(mixture.read_split(got.folder, "validation")) == []


def test_a_reader_without_shards_takes_json_lines_or_says_what_is_missing(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [qa(1)])
    assert list(mixture.read_split(tmp_path, "train")) == [qa(1)]
    with pytest.raises(InputError, match="neither data/validation-"):
        list(mixture.read_split(tmp_path, "validation"))


def test_the_manifest_is_what_is_counted_again(material, reference):
    inputs, tests = material
    candidates = [
        json.loads(line)
        for path in inputs
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert sorted([*reference.ids, *reference.removed]) == sorted(row["id"] for row in candidates)
    manifest = reference.manifest
    assert manifest["candidates"] == len(candidates) == len(reference.rows) + reference.removed_rows
    assert manifest["counts"] == Counter({"ok": len(reference.rows)}) + Counter(
        r["status"] for r in reference.removed.values()
    )
    assert {"contaminated", "duplicate", "surplus"} <= set(manifest["counts"])
    by_cell = Counter((row["task"], row["lang"]) for row in reference.rows)
    assert {
        (cell["task"], cell["lang"]): cell["taken"]
        for cell in manifest["composition"]
        if cell["taken"]
    } == by_cell
    columns = ("source", "lang", "task", "licence")
    by_source = Counter(tuple(row[name] for name in columns) for row in reference.rows)
    assert {
        tuple(source[name] for name in columns): source["rows"] for source in manifest["sources"]
    } == by_source
    gone = Counter(
        (row["source"], row["lang"], row["status"]) for row in reference.removed.values()
    )
    told = Counter()
    for row in manifest["removed"]:
        told[row["source"], row["lang"], row["status"]] += row["rows"]
    assert (
        told == gone + Counter((row["source"], row["lang"], "ok") for row in reference.rows)
        or told == gone
    )
    for shard in manifest["shards"]:
        file = reference.folder / shard["file"]
        assert (hash_path(file), file.stat().st_size, pq.read_metadata(file).num_rows) == (
            shard["sha256"],
            shard["bytes"],
            shard["rows"],
        )
    assert (
        sum(manifest["splits"].values())
        == len(reference.rows)
        == manifest["tokens"]["rows"] + manifest["splits"]["validation"]
    )
    assert [(i["file"], i["sha256"], i["status"]) for i in manifest["inputs"]] == [
        (p.name, hash_path(p), "used") for p in inputs
    ]
    keys = Counter(
        (row["source"], row["lang"], "ABCDEFGHIJ"[row["answer_index"]])
        for row in reference.rows
        if row["kind"] == "mcqa"
    )
    assert {
        (k["source"], k["lang"], letter): n
        for k in manifest["keys"]
        for letter, n in k["counts"].items()
    } == keys
    english, arabic = (
        sum(n for (_, own), n in by_cell.items() if own == lang) for lang in ("en", "ar")
    )
    assert abs(english / arabic / 2 - 1) <= SMALL.tolerance + 1e-9


def test_planted_copies_and_test_questions_are_all_found(material, reference):
    planted = [
        json.loads(line)
        for line in (material[1].parent / "planted.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {(row["planted"], row["lang"]) for row in planted} == {
        (kind, lang) for kind in ("exact", "near", "leak") for lang in ("en", "ar")
    }
    for row in planted:
        if row["planted"] == "leak":
            assert reference.status(row["id"]) == "contaminated", row
        elif row["jaccard"] >= 0.8:
            pair = {reference.status(row["id"]), reference.status(row["other"])}
            assert pair & {"duplicate", "contaminated"}, row


def test_the_folder_loads_with_datasets(reference, tmp_path):
    import datasets

    loaded = datasets.load_dataset(str(reference.folder), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == reference.manifest["splits"]
    assert loaded["train"]["id"][:] + loaded["validation"]["id"][:] == reference.ids


# The same bytes


def by_steps(material, folder: Path, run_map) -> list[dict]:
    inputs = [mixture.Input(path) for path in material[0]]
    rows = mixture.scan_inputs(inputs, material[1], folder / ".work", SMALL, run_map)
    found = mixture.select_rows(rows, SMALL)
    assert sum(found.taken_by_language().values()) == found.counts()["ok"]
    return mixture.write_shards(rows, found, folder, SMALL, run_map)


def test_another_number_of_workers_gives_the_same_bytes(material, reference, tmp_path):
    assert by_steps(material, tmp_path, mixture.parallel_map(2)) == reference.manifest["shards"]
    assert {
        path.name: hash_path(path) for path in (tmp_path / "data").glob("*.parquet")
    } == reference.bytes()


def test_another_order_and_another_cut_of_the_input_give_the_same_bytes(
    material, reference, tmp_path, monkeypatch
):
    inputs, tests = material
    lines = [line for path in inputs for line in path.read_bytes().splitlines(keepends=True)]
    random.Random(1).shuffle(lines)
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines))
    monkeypatch.setattr(scan, "CHUNK_BYTES", 5_000)
    mixture.build_mix([tmp_path / "all.jsonl"], tests, tmp_path / "one", SMALL)
    assert Mix(tmp_path / "one").bytes() == reference.bytes()
    monkeypatch.setattr(scan, "CHUNK_BYTES", 300_000)
    mixture.build_mix(inputs[::-1], tests, tmp_path / "two", SMALL)
    assert Mix(tmp_path / "two").bytes() == reference.bytes()
    # The second run reads what is there: not one feature file or shard is made again.
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "two").rglob("*.[ap]*")
        if path.suffix in (".arrow", ".parquet")
    }
    mixture.build_mix(inputs[::-1], tests, tmp_path / "two", SMALL)
    assert len(before) > 8 and all(
        path.stat().st_mtime_ns == at
        for path, at in before.items()
        if path.name != "removed.parquet"
    )


@pytest.mark.parametrize("size", [1, 7, 600, 10**6])
def test_every_line_belongs_to_one_piece(tmp_path, monkeypatch, size):
    lines = [b"a" * n + b"\n" for n in (0, 1, 5, 6, 7, 8, 500, 3, 0, 0, 1300)] + [
        b"the last has no end"
    ]
    (tmp_path / "a").write_bytes(b"".join(lines))
    monkeypatch.setattr(scan, "CHUNK_BYTES", size)
    read = [
        scan.read_chunk(chunk) for chunk in scan.cut_into_chunks([mixture.Input(tmp_path / "a")])
    ]
    assert b"".join(raw for raw, _ in read) == b"".join(lines)
    place = 0
    for raw, start in read:
        assert not raw or start == place
        place += len(raw)


def test_line_ends_blank_lines_and_a_byte_order_mark_make_no_difference(tmp_path):
    lines = [qa(i).model_dump_json().encode() for i in range(9)]
    files = {
        "plain.jsonl": b"\n".join(lines[:3]) + b"\n",
        "windows.jsonl": b"\xef\xbb\xbf" + b"\r\n".join(lines[3:6]) + b"\r\n",
        "gaps.jsonl": b"\n\n  \n" + b"\n\n".join(line.replace(b",", b",\r") for line in lines[6:]),
        "empty.jsonl": b"",
    }
    got = build(tmp_path / "one", files)
    assert got.bytes() == build(tmp_path / "two", {"a.jsonl": [qa(i) for i in range(9)]}).bytes()
    assert [(i["file"], i["rows"], i["status"]) for i in got.manifest["inputs"]] == [
        *((f"{name}.jsonl", 3, "used") for name in ("plain", "windows", "gaps")),
        ("empty.jsonl", 0, "empty"),
    ]


# Damage


GOOD = b"".join(qa(i).model_dump_json().encode() + b"\n" for i in range(3))
DAMAGED = {
    "cut": (GOOD + qa(7).model_dump_json().encode()[:-40], 4),
    "no record": (GOOD + b'{"id": "x"}\n' + GOOD, 4),
    "no object": (b"[1]\n" + GOOD, 1),
    "not UTF-8": (GOOD + qa(7, topic="é").model_dump_json().encode("latin-1") + b"\n", 4),
    "zeros": (GOOD + b"\0" * 500, 4),
    "half a surrogate": (
        GOOD + qa(7, topic="X").model_dump_json().encode().replace(b'"X"', b'"\\ud800"') + b"\n",
        4,
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("size", [500, 10**6])
def test_a_damaged_input_is_named_and_left_out_only_when_told(tmp_path, monkeypatch, damage, size):
    monkeypatch.setattr(scan, "CHUNK_BYTES", size)
    raw, line = DAMAGED[damage]
    files = {"good.jsonl": [qa(f"good{i}") for i in range(5)], "bad.jsonl": raw}
    with pytest.raises(InputError, match=rf"bad\.jsonl, line {line}: not a record") as error:
        build(tmp_path, files)
    assert "good.jsonl" not in str(error.value) and 'DAMAGED_INPUT = "skip"' in str(error.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    got = build(tmp_path, files, settings=replace(ALL, damaged_input="skip"))
    assert sorted(got.ids) == [f"toy:good{i}" for i in range(5)]
    assert [(i["file"], i["rows"], i["status"]) for i in got.manifest["inputs"]] == [
        ("good.jsonl", 5, "used"),
        ("bad.jsonl", 0, "left out: damaged"),
    ]


def test_every_damaged_input_is_named_with_its_folder(tmp_path):
    """Shards of many sources bear the same name."""
    files = {f"source{i}/train.jsonl": GOOD + (b"{\n" if i % 4 == 1 else b"") for i in range(10)}
    with pytest.raises(InputError) as error:
        build(tmp_path, files)
    assert [f"source{i}/train.jsonl, line 4" in str(error.value) for i in range(10)] == [
        i % 4 == 1 for i in range(10)
    ]
    got = build(tmp_path, files, settings=replace(ALL, damaged_input="skip"))
    assert [i["file"] for i in got.manifest["inputs"]] == list(files) and got.manifest[
        "counts"
    ] == {"ok": 3, "duplicate": 18}


def test_one_file_may_serve_twice(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [qa(i, lang) for i in range(3) for lang in ("en", "ar")])
    got = build(
        tmp_path,
        {},
        inputs=[
            mixture.Input(tmp_path / "a.jsonl", 0, ("en",)),
            mixture.Input(tmp_path / "a.jsonl", 1, ("ar",)),
        ],
    )
    assert len(got.rows) == 6 and [i["rows"] for i in got.manifest["inputs"]] == [3, 3]


def test_inputs_that_are_absent_or_hold_nothing(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jsonl: the input file does not exist"):
        build(tmp_path, {}, inputs=[tmp_path / "nowhere.jsonl"])
    for content in (b"", b"\n\n", [qa(1, split="test")]):
        with pytest.raises(InputError, match="no candidate row"):
            build(tmp_path, {"a.jsonl": content})


def test_damaged_or_absent_tests_stop_the_mix_and_are_named(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [qa(1)])
    skip = replace(ALL, damaged_input="skip")
    with pytest.raises(InputError, match="tests.jsonl: the file of test rows does not exist"):
        mixture.build_mix([tmp_path / "a.jsonl"], tmp_path / "tests.jsonl", tmp_path / "out", skip)
    (tmp_path / "tests.jsonl").write_bytes(GOOD + b"{")
    with pytest.raises(InputError, match="^tests.jsonl, line 4"):
        mixture.build_mix([tmp_path / "a.jsonl"], tmp_path / "tests.jsonl", tmp_path / "out", skip)


def test_without_tests_the_card_names_none(tmp_path):
    got = build(tmp_path, {"a.jsonl": [qa(1)]})
    assert got.manifest["tests"] == []
    assert "):\n\nnot found\n" in (got.folder / "README.md").read_text(encoding="utf-8")


def test_other_tests_are_looked_for_anew(tmp_path):
    assert build(tmp_path, {"a.jsonl": [mcqa(1), qa(2)]}).manifest["counts"] == {"ok": 2}
    assert (
        build(tmp_path, {}, [mcqa(1, split="test")], inputs=[tmp_path / "a.jsonl"]).status("toy:1")
        == "contaminated"
    )


@pytest.mark.parametrize("step", ["select", "write", "finish"])
@pytest.mark.parametrize("change", ["other row", "shorter", "gone"])
def test_an_input_changed_after_it_was_read_is_noticed(tmp_path, step, change):
    file, tests = tmp_path / "a.jsonl", tmp_path / "tests.jsonl"
    write_jsonl(file, [qa(i) for i in range(5)])
    write_jsonl(tests, [])

    def changed(now: str) -> None:
        if now == step:
            text = file.read_text(encoding="utf-8")
            file.unlink()
            if change != "gone":
                file.write_text(
                    text.replace('"MIT"', '"GPL"') if change == "other row" else text[:1000],
                    encoding="utf-8",
                )
            if change == "other row":
                os.utime(file, ns=(1, 1))

    with pytest.raises(
        InputError, match=r"a\.jsonl: the file was changed or removed after it was read"
    ):
        rows = mixture.scan_inputs([mixture.Input(file)], tests, tmp_path / ".work", ALL)
        changed("select")
        found = mixture.select_rows(rows, ALL, composition=boundless(tmp_path))
        changed("write")
        written = mixture.write_shards(rows, found, tmp_path / "out", ALL)
        changed("finish")
        mixture.finish_mix(
            rows, found, written, [mixture.Input(file)], tests, tmp_path / "out", ALL
        )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_row_that_is_another_one_by_now_is_never_written(tmp_path):
    """Even where size and time of the file tell nothing."""
    file, tests = tmp_path / "a.jsonl", tmp_path / "tests.jsonl"
    write_jsonl(file, [qa(i) for i in range(5)])
    write_jsonl(tests, [])
    before = file.stat()
    rows = mixture.scan_inputs([mixture.Input(file)], tests, tmp_path / ".work", ALL)
    found = mixture.select_rows(rows, ALL, composition=boundless(tmp_path))
    file.write_bytes(file.read_bytes().replace(b'"MIT"', b'"GPL"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match="an input was changed after it was read"):
        mixture.write_shards(rows, found, tmp_path / "out", ALL)
    assert not [
        path for path in (tmp_path / "out" / "data").iterdir() if path.name.startswith("train")
    ]


# Crashes


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "ruin",
    [
        lambda raw: raw[:-9],
        lambda raw: b"",
        lambda raw: b"\0" * len(raw),
        lambda raw: raw[: len(raw) // 2],
    ],
)
def test_what_a_crash_cut_short_is_made_again(material, reference, tmp_path, ruin):
    inputs, tests = material
    mixture.build_mix(inputs[:1], tests, tmp_path, SMALL)
    whole, names = Mix(tmp_path).bytes(), files_of(tmp_path)
    for pattern in (
        ".work/features/*",
        "data/*",
        "data/.*",
        "removed.parquet",
        "README.md",
        "manifest.json",
    ):
        for path in list(tmp_path.glob(pattern))[:2]:
            path.write_bytes(ruin(path.read_bytes()))
    for stale in (
        ".work/features/x.123.partial",
        "data/train-00000-of-00001.parquet.123.partial",
        "data/.x.json.partial",
    ):
        (tmp_path / stale).write_bytes(b"cut")
    mixture.build_mix(inputs[:1], tests, tmp_path, SMALL)
    assert Mix(tmp_path).bytes() == whole and files_of(tmp_path) == names


@pytest.mark.parametrize("full", [".arrow", ".parquet", "manifest.json"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_named_and_another_run_goes_on(
    material, reference, tmp_path, monkeypatch, full, number
):
    """A run on a real disk of 2 MB was tried by hand; here the disk is full when a file is put in
    its place.
    """
    put = os.replace

    def replace_file(old, new):
        if str(new).endswith(full):
            raise OSError(number, os.strerror(number), str(old))
        put(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_file)
        with pytest.raises(
            KitError,
            match=r": cannot be written \((no space left on device|read-only file system)\)",
        ):
            mixture.build_mix(*material, tmp_path, SMALL)
    assert not (tmp_path / "manifest.json").exists()
    mixture.build_mix(*material, tmp_path, SMALL)
    assert Mix(tmp_path).bytes() == reference.bytes() and not [
        name for name in files_of(tmp_path) if "partial" in name
    ]


def test_other_settings_leave_nothing_stale(material, tmp_path):
    inputs, tests = material
    mixture.build_mix(inputs, tests, tmp_path, replace(SMALL, shard_rows=20))
    mixture.build_mix(inputs[:2], tests, tmp_path, replace(SMALL, shard_rows=1000, seed=9))
    got = Mix(tmp_path)
    assert (
        len(got.bytes()) == 2 == len(got.manifest["shards"])
        and len(list((tmp_path / ".work" / "features").iterdir())) == 2
    )


BUILD = """
import sys
from pathlib import Path
from bimedix_utils import mixture
from bimedix_utils.mixture import scan
scan.CHUNK_BYTES = 20_000
if __name__ == "__main__":
    *inputs, tests, folder = map(Path, sys.argv[1:])
    settings = mixture.MixSettings(shard_rows=70, validation_share=0.1)
    mixture.build_mix(inputs, tests, folder, settings, workers=2)
"""


def test_a_run_killed_at_random_moments_resumes_to_the_same_bytes(material, reference, tmp_path):
    inputs, tests = material
    script, folder = tmp_path / "run.py", tmp_path / "out"
    script.write_text(BUILD, encoding="utf-8")
    command = [sys.executable, str(script), *map(str, inputs), str(tests), str(folder)]
    draw, killed = random.Random(4), 0
    for _ in range(3):
        process = subprocess.Popen(
            command, start_new_session=True, env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while not folder.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 1.5))
        killed += process.poll() is None
        # the parent alone, as the kernel does when memory is short: its workers must follow
        process.kill()
        process.wait()
    assert killed
    mixture.build_mix(inputs, tests, folder, SMALL)
    assert Mix(folder).bytes() == reference.bytes() and Mix(folder).manifest == reference.manifest
    assert files_of(folder) - {p for p in files_of(folder) if ".work/" in p} == {
        p for p in files_of(reference.folder) if ".work/" not in p
    }
    assert not [name for name in files_of(folder) if "partial" in name]


# Other machines, other rows


SLEEP = """
import os, sys, time
from bimedix_utils import mixture

def step(number):
    open(os.path.join(sys.argv[1], f"{os.getpid()}.pid"), "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(mixture.parallel_map(2)(step, [1, 2]))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SLEEP, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )

    def wait(happened) -> bool:
        until = time.monotonic() + 30
        while not happened() and time.monotonic() < until:
            time.sleep(0.05)
        return happened()

    assert wait(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    process.kill()
    process.wait()
    assert wait(lambda: not any(_alive(worker) for worker in workers))


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KitError, match=r'pip install -e "\.\[ray\]"'):
        list(mixture.parallel_map(2, "ray")(str, [1]))


def test_published_rows_planted_into_training_are_all_found(tmp_path, raw_dir):
    known = [row for path in sources.find_files(raw_dir) for row in sources.read_file(path)]
    tests = [row for row in known if row.source.startswith("mmlu")]
    assert Counter(row.lang for row in tests) == {"en": 682, "ar": 682}
    others = [row.replace(split="train") for row in known if not row.source.startswith("mmlu")]
    planted = [
        row.replace(id=f"planted:{row.id}", split="train", source="medmcqa") for row in tests
    ]
    files = {"published.jsonl": others, "planted.jsonl": planted}
    got = build(tmp_path, files, tests, workers=2)
    assert {got.status(row.id) for row in planted} == {"contaminated"}
    assert sum(got.manifest["counts"].values()) + sum(got.manifest["excluded"].values()) == len(
        others
    ) + len(planted)
    others_removed = {
        row_id for row_id, row in got.removed.items() if row["status"] == "contaminated"
    } - {row.id for row in planted}
    assert others_removed == set()
