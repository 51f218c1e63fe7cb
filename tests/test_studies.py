"""The committed studies: each table is the one its manifest describes, made with today's
parameters, and says what the notebooks say.
"""

import json

import pytest

from bimedix_utils import sources, synthesis
from bimedix_utils.core import parameters, studies
from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.core.provenance import NOTEBOOKS, ROOT, hash_path
from bimedix_utils.core.studies import STUDIES, read_study
from bimedix_utils.evaluation import ablation_results, compare
from bimedix_utils.runner import ablations

pytestmark = pytest.mark.unit
TABLE = ablation_results.read_arms(STUDIES)
MANIFEST = json.loads((STUDIES / "ablations.json").read_text(encoding="utf-8"))


def test_every_arm_and_seed_with_the_parameters_of_todays_preset():
    assert set(MANIFEST["arms"]) == {ablations.UNTUNED, *ablations.ARMS}
    assert all(
        list(seeds) == [str(seed) for seed in ablations.ABLATION_SEEDS]
        for seeds in MANIFEST["arms"].values()
    )
    assert MANIFEST["parameters"] == parameters.preset_values(
        NOTEBOOKS, "smoke", NOTEBOOKS / "06_finetune_qlora.ipynb"
    ), "make ablations"
    assert MANIFEST["git"]["commit"] and not MANIFEST["git"]["dirty"]
    assert MANIFEST["seconds"] <= 20 * 60


def test_each_arm_answers_each_part_in_each_language_with_each_seed():
    assert {place[0] for place in TABLE} == set(MANIFEST["arms"])
    for arm in MANIFEST["arms"]:
        assert {place[1:] for place in TABLE if place[0] == arm} == {
            (p, lang) for p in ablations.WORLD_PARTS for lang in ("en", "ar")
        }
    for (_, part, lang), seeds in TABLE.items():
        assert [len(right) for right in seeds.values()] == [
            len(r) for r in TABLE[ablations.UNTUNED, part, lang].values()
        ]


def test_every_arm_takes_equal_steps():
    tuned = [seeds for arm, seeds in MANIFEST["arms"].items() if arm != ablations.UNTUNED]
    for seed in MANIFEST["arms"][ablations.UNTUNED]:
        assert len({seeds[seed]["steps"] for seeds in tuned}) == 1, (
            "another order of rows may give a seed one step more, for all its arms"
        )


def test_held_out_phrasings_are_answered_far_above_the_base_in_both_languages():
    """The bilingual arm keeps both languages: with every seed the intervals of tuned and base do
    not touch.
    """
    for lang in ("en", "ar"):
        for seed in MANIFEST["arms"]["reference"]:
            base, tuned = (
                TABLE[arm, "paraphrase", lang][seed] for arm in (ablations.UNTUNED, "reference")
            )
            assert len(tuned) >= 300
            assert (
                compare.share_with_interval(sum(tuned), len(tuned))[1]
                > compare.share_with_interval(sum(base), len(base))[2]
            ), (lang, seed)


def test_an_altered_table_is_refused(tmp_path):
    for name in ("ablations.csv", "ablations.json"):
        (tmp_path / name).write_bytes((STUDIES / name).read_bytes())
    assert ablation_results.read_arms(tmp_path) == TABLE
    (tmp_path / "ablations.csv").write_bytes(
        (tmp_path / "ablations.csv").read_bytes().replace(b"rank 4", b"rank 8")
    )
    with pytest.raises(InputError, match="renew the study"):
        ablation_results.read_arms(tmp_path)


def test_the_rules_objections_to_the_kits_dialogues_are_the_committed_ones():
    kit = sources.read_file(ROOT / "data" / "sample" / "dialogues_train.en.jsonl", kit=True)
    assert_objections("kit", kit)


def test_the_rules_objections_to_published_dialogues_are_the_committed_ones(raw_dir):
    path = next(iter(raw_dir.glob("mts_dialog_validation*.jsonl")))
    assert json.loads((STUDIES / "rules.json").read_text())["inputs"][path.name] == hash_path(path)
    assert_objections("published", sources.read_file(path))


def assert_objections(name: str, rows: list) -> None:
    usable = [r for r in rows if r.status == "ok"]
    rows_of_study = [row for row in read_study(STUDIES, "rules") if row["dialogues"] == name]
    committed = {row["rule"]: (int(row["objections"]), int(row["n"])) for row in rows_of_study}
    found = {
        rule: (sum(not kept(r.turns) for r in usable), len(usable))
        for rule, kept in synthesis.FORM_RULES.items()
    }
    assert committed == found, "renew the study: make bench-rules RAW_DIR=folder"


@pytest.mark.parametrize("dirty", [False, True, "not found"])
def test_a_study_is_made_on_a_clean_checkout_only(monkeypatch, dirty):
    state = {"commit": "a", "dirty": dirty}
    monkeypatch.setattr(studies, "git_state", lambda: state)
    if not dirty:
        assert studies.clean_git_state() == state
        return
    with pytest.raises(KitError, match="commit first"):
        studies.clean_git_state()
