"""The scorer tried on translations of known quality, and people's ratings."""

import json

import pytest

from bimedix_utils.core.errors import InputError
from bimedix_utils.core.language import load_language
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.core.records import Record
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Answer
from bimedix_utils.translation import calibration
from bimedix_utils.translation.calibration import CalibrationItem, HumanRating, ScoredItem

pytestmark = pytest.mark.unit
ARABIC = load_language("ar")


def judged(severity, score, stopped=False, kind=None):
    return ScoredItem(
        CalibrationItem(
            "i", "r", kind or ("clean" if severity == "none" else "dose"), severity, {}
        ),
        "ok",
        score,
        stopped,
    )


SOME = [
    judged("none", 96),
    judged("none", 90),
    judged("major", 88, stopped=True),
    judged("critical", 86),
    judged("critical", 20),
]


def test_bands_hold_every_scored_item_once_and_say_how_many_are_clean():
    rows = calibration.reliability_bands([*SOME, judged("none", None)])
    assert sum(n for _, n, *_ in rows) == 5
    assert [(band, n, clean) for band, n, clean, *_ in rows] == [
        ("0 to 49", 1, 0),
        ("50 to 69", 0, 0),
        ("70 to 84", 0, 0),
        ("85 to 94", 3, 1),
        ("95 to 100", 1, 1),
    ]
    assert all(low <= share <= high for _, n, _, share, low, high in rows if n)


def test_a_threshold_lets_through_what_scores_and_rules_miss():
    assert calibration.threshold_table(SOME, (50, 85, 90)) == [
        (50, 2, 2, 1, 1),
        (85, 2, 2, 1, 1),
        (90, 2, 0, 0, 0),
    ]
    assert calibration.missed_damage(SOME, 85) == {"dose": 1} and not calibration.missed_damage(
        SOME, 90
    )


def test_agreement_of_a_perfect_and_of_a_blind_scorer():
    perfect = [judged("none", 99), judged("none", 98), judged("major", 60), judged("critical", 10)]
    assert calibration.scorer_agreement(perfect) == pytest.approx(
        {"n": 4, "auc": 1.0, "spearman": -0.9486832980505138}
    )
    assert calibration.scorer_agreement([judged("none", 90), judged("major", 90)]) == {"n": 2}
    assert calibration.scorer_agreement([judged("none", 90), judged("none", 80)]) == {"n": 2}
    backwards = [judged("none", 10), judged("critical", 90)]
    assert calibration.scorer_agreement(backwards)["auc"] == 0.0


def test_severities_are_summed_in_order():
    assert calibration.scores_by_severity(SOME) == [
        ("none", 2, 93.0, 90, 96),
        ("major", 1, 88.0, 88, 88),
        ("critical", 2, 53.0, 20, 86),
    ]


def test_an_item_is_asked_with_the_prompt_of_the_rounds_and_without_its_truth():
    record = Record(
        id="r",
        kind="qa",
        lang="en",
        source="toy",
        licence="x",
        split="train",
        question="Give 50 mg?",
        answer="Yes.",
    )
    asked = []

    def ask(teacher, requests):
        asked.extend(requests)
        return {r.id: Answer(r.id, json.dumps({"errors": [], "score": 97})) for r in requests}

    item = CalibrationItem(
        "calibration:1",
        "r",
        "dose_x10",
        "critical",
        {"question": "هل يعطى 500 ملغ؟", "answer": "نعم."},
    )
    (found,) = calibration.score_items(
        [item, CalibrationItem("x", "gone", "clean", "none", {})],
        {"r": record},
        Teacher(backend="replay", model="m"),
        ARABIC,
        ask,
    )
    text = asked[0].messages[0][1]
    assert (found.score, found.stopped, found.status) == (97, True, "ok") and asked[
        0
    ].recording_key == ("score", "calibration:1", 0, 0)
    assert "500" in text and "dose_x10" not in text


def test_an_unreadable_score_is_counted_and_never_a_number():
    record = Record(
        id="r",
        kind="qa",
        lang="en",
        source="toy",
        licence="x",
        split="train",
        question="q",
        answer="a",
    )
    item = CalibrationItem("i", "r", "clean", "none", {"question": "س", "answer": "ج"})
    (found,) = calibration.score_items(
        [item],
        {"r": record},
        Teacher(backend="replay", model="m"),
        ARABIC,
        lambda teacher, requests: {r.id: Answer(r.id, "well, 90 perhaps") for r in requests},
    )
    assert (
        found.status == "parse_failed"
        and found.score is None
        and calibration._with_score([found]) == []
    )


def test_the_committed_items_cover_clean_and_damaged_and_have_recorded_scores():
    items = calibration.read_calibration_items(ROOT / "data" / "calibration" / "items.jsonl")
    scores = [
        json.loads(line)["row_id"]
        for line in (
            (ROOT / "data" / "recordings" / "calibration_scores.jsonl")
            .read_text("utf-8")
            .splitlines()
        )
    ]
    assert (
        sorted(scores) == sorted(item.id for item in items)
        and len(set(scores)) == len(scores) >= 60
    )
    assert (
        len({item.kind for item in items if item.damaged}) >= 12
        and sum(not item.damaged for item in items) >= 25
    )


def test_a_line_that_is_no_item_is_named(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(
        json.dumps({"id": "i", "row_id": "r", "kind": "clean", "severity": "huge", "values": {}})
        + "\n"
    )
    with pytest.raises(InputError, match=r"items\.jsonl, line 1: expected id, row_id"):
        calibration.read_calibration_items(path)


# People's ratings


def ratings(tmp_path, *lines, head="row_id,text_hash,rater,kind,rating"):
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_ratings_are_read(tmp_path):
    path = ratings(tmp_path, "r1,h,Dr. Amal,human,90", "r1,h,Dr. Omar,Human,80.5")
    assert calibration.read_human_ratings(path) == [
        HumanRating("r1", "h", "Dr. Amal", 90.0),
        HumanRating("r1", "h", "Dr. Omar", 80.5),
    ]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("r,h,Amal,human,good", "line 2: rating 'good' is not a number"),
        ("r,h,Amal,human,101", "line 2: rating 101 is not within 0 to 100"),
        ("r,h,gpt-4,human,90", "line 2: rater 'gpt-4', kind 'human': only ratings by people"),
        ("r,h, ,human,90", "line 2: rater '', kind"),
        ("r,h,Amal,model,90", "line 2: rater 'Amal', kind 'model': only ratings by people"),
        (",h,Amal,human,90", "line 2: row_id and text_hash"),
    ],
)
def test_what_is_no_persons_rating_is_refused(line, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        calibration.read_human_ratings(ratings(tmp_path, line))


def test_a_file_with_other_columns_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected row_id, text_hash, rater, kind, rating"):
        calibration.read_human_ratings(ratings(tmp_path, "r,9", head="row_id,rating"))


def test_people_and_scorer_are_compared_over_the_texts_both_judged():
    people = [
        HumanRating("a", "1", "x", 90),
        HumanRating("a", "1", "y", 80),
        HumanRating("b", "2", "x", 40),
        HumanRating("c", "3", "x", 10),
        HumanRating("d", "4", "x", 99),
    ]
    found = calibration.correlation_with_people(
        people, {("a", "1"): 95, ("b", "2"): 60, ("c", "3"): 20, ("b", "old"): 1}
    )
    assert found["n"] == 3 and found["spearman"] == 1.0 and found["pearson"] > 0.9
    assert calibration.correlation_with_people(people, {}) == {"n": 0}
