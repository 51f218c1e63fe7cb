"""Agreement beyond chance against examples computed by hand, and the time reviewing took."""

import pytest

from bimedix_utils.review import ReviewDecision, agreement

pytestmark = pytest.mark.unit


def word(row, reviewer, verdict, edited=None, text="h", seconds=None):
    return ReviewDecision(f"row:{row}", verdict, edited, reviewer, "2026-01-02", text, "", seconds)


def double(pairs, people=("Dr A", "Dr B")):
    """Decisions of two people on rows, from (verdict, verdict) pairs."""
    return [
        word(i, person, verdict)
        for i, pair in enumerate(pairs)
        for person, verdict in zip(people, pair, strict=True)
    ]


def test_kappa_and_alpha_by_hand():
    """Ten rows: both approve 6, both reject 3, A approves and B rejects 1. So A: 7 approve, 3
    reject; B: 6 approve, 4 reject.

    Observed 0.9. Chance for kappa 0.7 * 0.6 + 0.3 * 0.4 = 0.54: kappa = 0.36 / 0.46.
    Alpha pools 20 verdicts, 13 approve and 7 reject: observed disagreement 2 / 20 = 0.1 (each
    ordered pair counts), expected 2 * 13 * 7 / (20 * 19): alpha = 1 - 0.1 * 380 / 182.
    """
    pairs = [("approve", "approve")] * 6 + [("approve", "reject")] + [("reject", "reject")] * 3
    found = agreement.reviewer_agreement(double(pairs))
    assert found["rows"] == 10 and found["share_equal"] == 0.9
    assert found["kappa"] == pytest.approx(0.36 / 0.46) and found["alpha"] == pytest.approx(
        1 - 38 / 182
    )
    assert (found["kappa_reason"], found["alpha_reason"]) == ("", "")
    assert found["disagreements"] == [("row:6", "Dr A", "approve", "Dr B", "reject")]


def test_three_categories_by_hand():
    """Equal on 1 of 4; A: approve 2, edit 1, reject 1; B: approve 1, edit 2, reject 1. Chance (2*1
    + 1*2 + 1*1) / 16 = 5/16.
    """
    found = agreement.reviewer_agreement(
        double(
            [("approve", "approve"), ("approve", "edit"), ("edit", "reject"), ("reject", "edit")]
        )
    )
    assert found["share_equal"] == 0.25
    assert found["kappa"] == pytest.approx((4 / 16 - 5 / 16) / (11 / 16))
    # 8 verdicts: approve 3, edit 3, reject 2. Expected disagreement: (64 - 9 - 9 - 4) / (8 * 7) =
    # 42/56; observed 3/4.
    assert found["alpha"] == pytest.approx(1 - (3 / 4) / (42 / 56))


def test_who_speaks_first_does_not_matter():
    pairs = [("approve", "approve")] * 3 + [("approve", "reject")] * 2 + [("reject", "reject")]
    forward = double(pairs)
    turned = [
        decision
        for i in range(len(pairs))
        for decision in (forward[2 * i : 2 * i + 2] if i % 2 else forward[2 * i : 2 * i + 2][::-1])
    ]
    assert (
        agreement.reviewer_agreement(turned)["kappa"]
        == agreement.reviewer_agreement(forward)["kappa"]
    )


@pytest.mark.parametrize(
    "pairs, reason",
    [
        ([], "0 rows reviewed twice; at least 2 are needed"),
        ([("approve", "reject")], "1 rows reviewed twice; at least 2 are needed"),
        (
            [("approve", "approve")] * 5,
            (
                "every verdict is approve: agreement beyond chance is not defined without a second"
                " category"
            ),
        ),
    ],
)
def test_undefined_measures_say_why(pairs, reason):
    found = agreement.reviewer_agreement(double(pairs))
    assert (
        found["kappa"] is None
        and found["alpha"] is None
        and found["kappa_reason"] == found["alpha_reason"] == reason
    )
    assert found["share_equal"] == (None if not pairs else 1.0 if len(pairs) > 1 else 0.0)


def test_more_than_two_people_have_an_alpha_and_no_kappa():
    decisions = double([("approve", "approve"), ("approve", "reject")]) + [
        word(7, "Dr A", "reject"),
        word(7, "Dr C", "reject"),
    ]
    found = agreement.reviewer_agreement(decisions)
    assert found["kappa"] is None and found["kappa_reason"].startswith(
        "Cohen's kappa compares two people, here are 3"
    )
    assert (
        found["alpha"] == pytest.approx(1 - (2 / 6) / (2 * 3 * 3 / (6 * 5)))
        and found["alpha_reason"] == ""
    )


def test_who_settles_a_dispute_is_no_second_opinion():
    pairs = [("approve", "approve"), ("approve", "reject"), ("reject", "reject")]
    decisions = double(pairs)
    assert agreement.reviewer_agreement(
        [*decisions, word(1, "Dr C", "reject")]
    ) == agreement.reviewer_agreement(decisions)


def test_the_last_word_of_each_and_only_words_on_one_text_count():
    decisions = [word(0, "Dr A", "approve"), word(0, "Dr B", "reject"), word(0, "Dr A", "reject")]
    decisions += [
        word(1, "Dr A", "approve"),
        word(1, "Dr B", "approve", text="older"),
        word(2, "Dr A", "edit", {"question": "x"}),
    ]
    found = agreement.reviewer_agreement(decisions)
    assert found["rows"] == 1 and found["share_equal"] == 1.0 and found["disagreements"] == []


def test_two_edits_with_other_words_are_one_verdict_and_still_a_disagreement():
    decisions = [
        word(0, "Dr A", "edit", {"question": "س"}),
        word(0, "Dr B", "edit", {"question": "ص"}),
    ]
    decisions += [
        word(1, "Dr A", "edit", {"question": "س"}),
        word(1, "Dr B", "edit", {"question": " س "}),
    ]
    found = agreement.reviewer_agreement(decisions)
    assert found["share_equal"] == 1.0 and found["disagreements"] == [
        ("row:0", "Dr A", "edit", "Dr B", "edit")
    ]


def test_time_spent_by_hand():
    """1 to 11 seconds: median 6, the 90th percentile lies at position 1 + 0.9 * 10 = 10."""
    decisions = [word(i, "Dr A", "approve", seconds=float(i)) for i in range(1, 12)] + [
        word(20, "Dr B", "reject"),
        word(21, "Dr B", "reject", seconds=4.0),
    ]
    spent = agreement.time_spent(decisions)
    people = spent.pop("reviewers")
    assert spent == {
        "decisions": 13,
        "timed": 12,
        "total": 70.0,
        "median": 5.5,
        "p90": pytest.approx(9.9),
    }
    assert people["Dr A"] == {
        "decisions": 11,
        "timed": 11,
        "total": 66.0,
        "median": 6.0,
        "p90": 10.0,
    }
    assert people["Dr B"] == {"decisions": 2, "timed": 1, "total": 4.0, "median": 4.0, "p90": 4.0}


def test_no_time_is_none_and_not_zero_seconds_each():
    assert agreement.time_spent([]) == {
        "decisions": 0,
        "timed": 0,
        "total": 0.0,
        "median": None,
        "p90": None,
        "reviewers": {},
    }
    assert agreement.time_spent([word(1, "Dr A", "approve")])["reviewers"]["Dr A"]["median"] is None


def test_a_replaced_decision_took_its_time_too():
    decisions = [word(1, "Dr A", "approve", seconds=5.0), word(1, "Dr A", "reject", seconds=2.0)]
    assert agreement.time_spent(decisions)["total"] == 7.0
