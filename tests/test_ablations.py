"""The study of arms: what each trains, that they are equal in steps and questions, and how its
table is read.
"""

import pytest

from bimedix_utils import mixture
from bimedix_utils.core import parameters, statistics
from bimedix_utils.core.provenance import NOTEBOOKS, resolve_path
from bimedix_utils.evaluation import ablation_results
from bimedix_utils.runner import ablations
from bimedix_utils.sources import knowledge
from bimedix_utils.training import models

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory):
    """(values, {arm: (rows, facts)}) of a few steps with a very small base."""
    values = parameters.preset_values(NOTEBOOKS, "smoke", NOTEBOOKS / "06_finetune_qlora.ipynb")
    values |= {
        "RELATIONS": "deficiency_disease",
        "PRETRAIN_STEPS": 2,
        "VOCABULARY": 600,
        "MAX_STEPS": 2,
        "LORA_RANK": 8,
        "LORA_ALPHA": 16,
    }
    rows = knowledge.knowledge_mix(
        knowledge.choose_relations(
            knowledge.load_relations(resolve_path("data/knowledge")), values["RELATIONS"]
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mixture,
            "read_split",
            lambda folder, split: rows[::3] if split == "train" else rows[1::20],
        )
        found = {
            arm: (lines, facts)
            for arm, lines, facts in ablations.train_arms(
                values, None, tmp_path_factory.mktemp("study")
            )
        }
    return values, found


def test_every_arm_takes_as_many_steps_and_answers_the_same_questions(one_seed):
    _, found = one_seed
    assert list(found) == [ablations.UNTUNED, *ablations.ARMS]
    assert {facts["steps"] for arm, (_, facts) in found.items() if arm != ablations.UNTUNED} == {2}
    places = [
        [(part, lang, n) for _, _, part, lang, _, n, _ in lines] for lines, _ in found.values()
    ]
    assert all(part == places[0] for part in places) and len(places[0]) == 2 * len(
        ablations.WORLD_PARTS
    )
    for lines, _ in found.values():
        assert all(hits == right.count("1") and n == len(right) for *_, hits, n, right in lines)


def test_the_arms_train_what_they_say(one_seed):
    _, found = one_seed
    learning = {
        arm: facts["trainable_parameters"]
        for arm, (_, facts) in found.items()
        if arm != ablations.UNTUNED
    }
    assert learning["attention only"] < learning["attention and experts"] < learning["reference"]
    assert learning["rank 4"] == learning["reference"] // 2 == learning["English only"] // 2
    rows = {arm: facts["rows"] for arm, (_, facts) in found.items() if arm != ablations.UNTUNED}
    assert (
        rows["English only"] + rows["Arabic only"] == rows["reference"]
        and rows["English, then Arabic"] == rows["Arabic only"]
    )
    hashes = [facts["adapter"] for arm, (_, facts) in found.items() if arm != ablations.UNTUNED]
    assert len(set(hashes)) == len(hashes)


def test_the_arm_that_goes_on_begins_with_the_other_ones_adapter(one_seed, monkeypatch, tmp_path):
    """Fresh adapters change nothing: an arm that forgot to load the first one would begin with the
    base's loss.
    """
    values, found = one_seed
    _, after = found["English, then Arabic"]
    _, alone = found["Arabic only"]
    assert after["rows"] == alone["rows"] and after["adapter"] != alone["adapter"]
    assert after["held_out_loss"]["en"] < alone["held_out_loss"]["en"], (
        "nothing of the English training is left"
    )


def test_contrasts_are_paired_by_seed_and_corrected_as_one_family():
    table = {
        ("reference", "paraphrase", "en"): {
            "1": [True, True, False, False],
            "2": [True, True, True, False],
        }
    }
    table["worse", "paraphrase", "en"] = {
        "1": [True, False, False, False],
        "2": [True, True, False, False],
    }
    table["same", "paraphrase", "en"] = dict(table["reference", "paraphrase", "en"])
    table["worse", "stated", "en"] = {"1": [False], "2": [False]}
    worse, same = ablation_results.arm_contrasts(table, "paraphrase")
    assert (worse.arm, worse.difference, worse.shares) == (
        "worse",
        -0.25,
        (0.25, 0.5),
    ) and worse.low == worse.high == -0.25
    assert worse.mcnemar == 0.5 and worse.p_holm == 0 and worse.reading == "worse"
    assert same.difference == 0 and same.p == 1 and same.reading == "no difference shown"


def test_an_interval_over_three_seeds_is_students():
    mean, low, high, p = statistics.over_seeds([0.1, 0.2, 0.3])
    # by hand: standard error 0.1 / sqrt(3), t(0.975, 2) = 4.3027
    half = pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert mean == pytest.approx(0.2) and high - mean == half and mean - low == half
    assert p == pytest.approx(0.0742, abs=1e-4)
    with pytest.raises(ValueError, match="one seed"):
        statistics.over_seeds([0.1])


def test_a_tiny_spec_comes_from_the_parameters(one_seed):
    values, _ = one_seed
    spec = models.TinySpec.of(values)
    assert (spec.vocabulary, spec.steps, spec.seed) == (600, 2, 42)
