"""The committed study: the table is the one its manifest describes, made with today's parameters, and says what it should."""

import csv
import json

import pytest

from bimedix_utils import parameters, sources, studies, synthesis
from bimedix_utils.errors import InputError
from bimedix_utils.evaluation import compare
from bimedix_utils.provenance import NOTEBOOKS, ROOT, hash_path
from bimedix_utils.records import read_study

pytestmark = pytest.mark.unit
TABLE = compare.study(studies.FOLDER, "seeds")
MANIFEST = json.loads((studies.FOLDER / "seeds.json").read_text(encoding="utf-8"))


def test_three_seeds_with_parameters_of_todays_preset():
    assert list(MANIFEST["arms"]) == list(studies.STUDIES["seeds"]) and len(MANIFEST["arms"]) == 3
    for arm, changes in studies.STUDIES["seeds"].items():
        for stage, manifest in MANIFEST["arms"][arm].items():
            preset = parameters.preset_values(NOTEBOOKS, "smoke", NOTEBOOKS / f"{stage}.ipynb")
            differing = {name for name, value in preset.items() if manifest["parameters"].get(name, value) != value}
            assert differing <= {"RUN", *changes}, f"{arm}, {stage}: renew the study with `make ablations`"
            assert manifest["git"]["commit"] and not manifest["git"]["dirty"]


def test_each_seed_gives_each_part_language_and_model():
    assert set(TABLE) == {(part, lang) for part in ("taught", "paraphrase", "stated", "transfer") for lang in ("en", "ar")}
    for by_arm in TABLE.values():
        assert list(by_arm) == list(MANIFEST["arms"]) and all(set(models) == {"base", "tuned"} for models in by_arm.values())


def test_seeds_differ_where_something_was_learned():
    for lang in ("en", "ar"):
        assert len({models["tuned"] for models in TABLE["paraphrase", lang].values()}) > 1


def test_held_out_phrasings_are_answered_above_the_base_in_both_languages():
    """With every seed more often than by its base; with the committed seed, and over all seeds, the intervals do not touch."""
    for lang in ("en", "ar"):
        arms = TABLE["paraphrase", lang]
        assert all(models["tuned"][0] > models["base"][0] and models["tuned"][1] >= 300 for models in arms.values())
        pooled = {name: tuple(map(sum, zip(*(models[name] for models in arms.values()), strict=True))) for name in ("base", "tuned")}
        for models in (arms["seed 42"], pooled):
            assert compare.with_interval(*models["tuned"])[1] > compare.with_interval(*models["base"])[2], lang


def test_an_altered_table_is_refused(tmp_path):
    for name in ("seeds.csv", "seeds.json"):
        (tmp_path / name).write_bytes((studies.FOLDER / name).read_bytes())
    assert compare.study(tmp_path, "seeds") == TABLE
    (tmp_path / "seeds.csv").write_bytes((tmp_path / "seeds.csv").read_bytes().replace(b"seed 42", b"seed 41"))
    with pytest.raises(InputError, match="renew the study"):
        compare.study(tmp_path, "seeds")
    assert compare.study(tmp_path, "other") == {}


def test_the_rules_objections_to_the_kits_dialogues_are_the_committed_ones():
    kit = sources.read_file(ROOT / "data" / "sample" / "dialogues_train.en.jsonl", kit=True)
    assert_objections("kit", kit)


def test_the_rules_objections_to_published_dialogues_are_the_committed_ones(raw_dir):
    path = next(iter(raw_dir.glob("mts_dialog_validation*.jsonl")))
    assert json.loads((studies.FOLDER / "rules.json").read_text())["inputs"][path.name] == hash_path(path)
    assert_objections("published", sources.read_file(path))


def assert_objections(name: str, rows: list) -> None:
    usable = [r for r in rows if r.status == "ok"]
    rows_of_study = [row for row in read_study(studies.FOLDER, "rules") if row["dialogues"] == name]
    committed = {row["rule"]: (int(row["objections"]), int(row["n"])) for row in rows_of_study}
    found = {rule: (sum(not kept(r.turns) for r in usable), len(usable)) for rule, kept in synthesis.FORM_RULES.items()}
    assert committed == found, "renew the study: python -m bimedix_utils.studies rules RAW_DIR"


def test_rows_are_the_held_out_scores_and_nothing_else():
    learned = {
        "base paraphrase en": {"hits": 3, "n": 9},
        "tuned transfer ar": {"hits": 4, "n": 9},
        "tuned medqa en label": {"hits": 1, "n": 9},
    }
    assert studies.rows("x", learned) == [("x", "paraphrase", "en", "base", 3, 9), ("x", "transfer", "ar", "tuned", 4, 9)]
    with open(studies.FOLDER / "seeds.csv", encoding="utf-8", newline="") as handle:
        assert next(csv.reader(handle)) == studies.COLUMNS
