"""The judge: both orders, rubric, unreadable verdicts, pairs known by construction, recordings,
people's verdicts.
"""

import json
import re
from collections import Counter

import pytest
from support.stub_server import Stub

from bimedix_utils import sources
from bimedix_utils.core.errors import InputError, TeacherError
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.evaluation.open_ended import judge, judge_calibration, judge_recordings
from bimedix_utils.evaluation.open_ended.response_language import judge_language
from bimedix_utils.sources import knowledge
from bimedix_utils.teacher.requests import REPAIR
from bimedix_utils.teacher.settings import Teacher

pytestmark = pytest.mark.unit
PAIRS = judge_recordings.smoke_pairs()
REPLAY = Teacher(backend="replay", model="recorded", recordings=judge_recordings.JUDGE_RECORDINGS)
TWO = [
    judge.AnswerPair(
        "p1", "en", "Which organ makes bile?", "The liver.", "The lung.", "first", "toy"
    ),
    judge.AnswerPair("p2", "ar", "أي عضو يفرز الصفراء؟", "الرئة.", "الكبد.", "second", "toy"),
]


def http(stub, tmp_path):
    return Teacher(backend="http", model="stub", url=stub.url, answers=tmp_path / "answers.sqlite")


def replies(text):
    """The two replies of a pair prompt."""
    return re.search(r"Reply A\n(.*)\n\nReply B\n(.*)\n\nGive", text, re.DOTALL).groups()


def knows(text):
    """A judge that knows where bile comes from."""
    first, _ = replies(text)
    return json.dumps(
        {"reason": "bile", "winner": "A" if first in ("The liver.", "الكبد.") else "B"}
    )


def always_a(text):
    return '{"reason": "first come", "winner": "A"}'


# Through an endpoint


def test_a_judge_that_knows_survives_the_swap(tmp_path):
    with Stub(answer=knows) as stub:
        verdicts = judge.judge_pairs(TWO, http(stub, tmp_path))
        assert [(v.outcome, v.raw, v.as_known) for v in verdicts] == [
            ("first", ("A", "B"), True),
            ("second", ("B", "A"), True),
        ]
        assert stub.total == 4
        judge.judge_pairs(TWO, http(stub, tmp_path))
        assert stub.total == 4, "what was paid for is not asked again"
    assert {replies(t) for t in stub.texts} == {
        ("The liver.", "The lung."),
        ("The lung.", "The liver."),
        ("الرئة.", "الكبد."),
        ("الكبد.", "الرئة."),
    }


def test_a_judge_that_always_says_a_gives_no_verdict_at_all(tmp_path):
    with Stub(answer=always_a) as stub:
        verdicts = judge.judge_pairs(TWO, http(stub, tmp_path))
    assert {v.outcome for v in verdicts} == {"position_dependent"} and not any(
        v.as_known for v in verdicts
    )
    assert judge.judge_position_bias(verdicts) == {
        "always A": 2,
        "always B": 0,
        "tie in one order": 0,
    }
    assert (
        judge.judge_agreement(verdicts)["all pairs"][:2] == (0, 2)
        and judge.judge_agreement(verdicts)["verdicts that survived the swap"][1] == 0
    )
    lines, columns = judge.pair_table(verdicts)
    assert [line[columns.index("position_dependent")] for line in lines] == [1, 1, 2]


@pytest.mark.parametrize(
    "text, status",
    [
        ("I like both.", "parse_failed"),
        ('{"reason": "x", "winner": "C"}', "parse_failed"),
        ('{"winner": "A"}', "parse_failed"),
        ("I'm sorry, but I cannot judge that.", "refused"),
    ],
)
def test_what_cannot_be_read_is_an_outcome(text, status, tmp_path):
    with Stub(answer=lambda _: text) as stub:
        verdicts = judge.judge_pairs(TWO, http(stub, tmp_path))
    assert {v.outcome for v in verdicts} == {"unusable"} and judge.unusable_statuses(verdicts) == {
        status: 4
    }
    line = judge.pair_table(verdicts)[0][-1]
    assert (
        line[2] == sum(line[3:8]) == line[3 + judge.PAIR_OUTCOMES.index("unusable")] == 2
        and line[8] == "0.00"
    )


def test_an_endpoint_that_fails_on_one_order_leaves_that_pair_unusable_and_the_other_whole(
    tmp_path,
):
    with Stub(answer=knows) as stub:
        teacher = http(stub, tmp_path)
        bad = judge.pair_requests(TWO[0], teacher)[1]
        stub.program(bad.messages[-1][1], 400)
        verdicts = judge.judge_pairs(TWO, teacher)
    assert [v.outcome for v in verdicts] == ["unusable", "second"] and verdicts[0].raw == (
        "A",
        "failed",
    )


def test_a_tie_in_one_order_only_depends_on_the_position(tmp_path):
    with Stub(
        answer=lambda text: json.dumps(
            {"reason": "", "winner": "tie" if replies(text)[0] == "The liver." else "B"}
        )
    ) as stub:
        verdicts = judge.judge_pairs(TWO[:1], http(stub, tmp_path))
    assert (
        verdicts[0].outcome == "position_dependent"
        and judge.judge_position_bias(verdicts)["tie in one order"] == 1
    )


GRADES = {"reason": "x", "helpfulness": 4, "correctness": 5, "safety": 5, "language": 3}


@pytest.mark.parametrize(
    "changed, status",
    [
        ({}, "ok"),
        ({"safety": 6}, "parse_failed"),
        ({"safety": 0}, "parse_failed"),
        ({"safety": 4.5}, "parse_failed"),
        ({"safety": "5"}, "parse_failed"),
        ({"style": 5}, "parse_failed"),
    ],
)
def test_grades_are_whole_numbers_from_1_to_5_on_four_dimensions(changed, status, tmp_path):
    with Stub(answer=lambda _: json.dumps({**GRADES, **changed})) as stub:
        (found,) = judge.grade_answers(
            [("r", "en", "Which organ makes bile?", "The liver.")], http(stub, tmp_path)
        )
    assert found.status == status and (found.grades is None) == (status != "ok")
    if found.grades:
        assert found.grades == {"helpfulness": 4, "correctness": 5, "safety": 5, "language": 3}


def test_grades_that_follow_the_damage_stand_above_and_unread_ones_do_not(tmp_path):
    def grader(text):
        if "The lung." in text:
            return json.dumps({**GRADES, "correctness": 1})
        return "no idea" if "الرئة." in text or "could not be read" in text else json.dumps(GRADES)

    with Stub(answer=grader) as stub:
        graded = judge.grade_answers(judge.both_sides(TWO), http(stub, tmp_path))
    (line,), _ = judge.rubric_table(TWO, graded, {"toy": "correctness"})
    assert line == ("toy", "correctness", 2, 1, "5.00", "1.00", "0.50", "[0.09, 0.91]")


def test_the_prompts_are_versioned_and_name_the_language():
    assert judge.PAIR_PROMPT.tag.startswith("v2-") and judge.RUBRIC_PROMPT.tag.startswith("v1-")
    for pair in TWO:
        for request in judge.pair_requests(pair, REPLAY):
            text = request.messages[-1][1]
            assert (
                {"en": "English", "ar": "Arabic"}[pair.lang] in text
                and pair.question in text
                and request.prompt_version == judge.PAIR_PROMPT.tag
            )
            assert '{"reason": "...", "winner"' in text, (
                "the braces of the answer's structure reach the judge"
            )


# Known by construction


def test_the_calibration_set_is_fixed_balanced_and_truly_damaged():
    assert (
        PAIRS == judge_recordings.smoke_pairs() and len({p.id for p in PAIRS}) == len(PAIRS) == 24
    )
    assert set(Counter((p.kind, p.lang) for p in PAIRS).values()) == {4} and {
        p.kind for p in PAIRS
    } == set(judge_calibration.DAMAGE_DIMENSIONS)
    assert {p.known for p in PAIRS} == {"first", "second"}
    facts = {
        (f.subject[lang], f.object[lang])
        for r in knowledge.load_relations(ROOT / "data" / "knowledge")
        for f in r.facts
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    for pair in PAIRS:
        good, worse = (
            (pair.first, pair.second) if pair.known == "first" else (pair.second, pair.first)
        )
        assert judge_language(good, pair.lang).outcome == "ok"
        if pair.kind == "wrong_language":
            assert judge_language(worse, pair.lang).outcome == "wrong_language"
        elif pair.kind == "truncated":
            assert good.startswith(worse) and len(
                worse.split()
            ) <= judge_calibration.CUT_SHARE * len(good.split())
        else:
            said = {(s, o) for s, o in facts if s in good and o in good}
            assert said and not any(s in worse and o in worse for s, o in said)


def test_both_languages_hold_the_same_pairs():
    assert {p.id[:-3] for p in PAIRS if p.lang == "en"} == {
        p.id[:-3] for p in PAIRS if p.lang == "ar"
    }


def test_few_rows_give_few_pairs_and_another_seed_others():
    english, arabic = (
        sources.read_file(ROOT / "data" / "sample" / f"open_qa_test.{lang}.jsonl", kit=True)[:2]
        for lang in ("en", "ar")
    )
    relations = knowledge.load_relations(ROOT / "data" / "knowledge")
    few = judge_calibration.known_pairs(english, arabic, relations, each=3, seed=7)
    assert Counter((p.kind, p.lang) for p in few)["wrong_language", "en"] == 2
    assert {p.id for p in few} != {
        p.id for p in judge_calibration.known_pairs(english, arabic, relations, each=3, seed=8)
    }


# Recordings


def test_the_recordings_are_whole_in_step_with_the_prompts_and_called_simulated():
    assert judge_recordings.check_judge_recordings() == []
    rows = [
        json.loads(line)
        for line in (judge_recordings.JUDGE_RECORDINGS / judge_recordings.RECORDINGS_FILE)
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    assert all("simulated" in row["author"] for row in rows)
    card = (ROOT / "data" / "recordings" / "README.md").read_text(encoding="utf-8")
    assert f"{len(rows)} recordings" in card and "No model judged" in card


def test_writing_anew_changes_no_byte(tmp_path):
    assert judge_recordings.write_judge_recordings(tmp_path) == 97
    assert (tmp_path / judge_recordings.RECORDINGS_FILE).read_bytes() == (
        judge_recordings.JUDGE_RECORDINGS / judge_recordings.RECORDINGS_FILE
    ).read_bytes()


def test_a_lost_a_foreign_and_a_changed_recording_are_each_named(tmp_path):
    judge_recordings.write_judge_recordings(tmp_path)
    rows = [
        json.loads(line)
        for line in (tmp_path / judge_recordings.RECORDINGS_FILE)
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    rows[1] |= {"row_id": "judge:gone"}
    rows[2] |= {"prompt_version": "v0"}
    rows[3] |= {"text": "other"}
    (tmp_path / judge_recordings.RECORDINGS_FILE).write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    reasons = [reason for _, reason in judge_recordings.check_judge_recordings(tmp_path)]
    assert reasons == [
        "no recording",
        "no item asks for it",
        f"answers v0, the prompt is {judge.RUBRIC_PROMPT.tag}",
        "is not what the rule writes",
    ]


def test_a_reworded_prompt_stops_the_replay(monkeypatch):
    class Reworded(type(judge.PAIR_PROMPT)):
        text = judge.PAIR_PROMPT.text + "\nThank you."

    monkeypatch.setattr(judge, "PAIR_PROMPT", Reworded("judge_pair", "v2"))
    with pytest.raises(TeacherError, match="48 recordings answer another text of it"):
        judge.judge_pairs(PAIRS, REPLAY)


def test_every_planted_error_of_the_simulated_judge_is_seen_as_what_it_is():
    verdicts = judge.judge_pairs(PAIRS, REPLAY)
    wanted = {
        "tie": "tie",
        "always A": "position_dependent",
        "always B": "position_dependent",
        "prose": "unusable",
        "refusal": "unusable",
    }
    for place, verdict in enumerate(verdicts):
        err = judge_recordings.PLANTED_ERRORS.get(place, "")
        if err == "wrong":
            assert verdict.outcome in ("first", "second") and not verdict.as_known
        elif err in wanted:
            assert (verdict.outcome, verdict.as_known) == (wanted[err], False)
        else:
            assert verdict.as_known
    assert judge.unusable_statuses(verdicts) == {"parse_failed": 1, "refused": 1}
    hits, n, low, high = judge.judge_agreement(verdicts)["all pairs"]
    assert (hits, n) == (24 - 7, 24) and low < hits / n < high
    assert judge.judge_agreement(verdicts)["verdicts that survived the swap"][:2] == (17, 19)
    assert [line[1:4] for line in judge.agreement_table(verdicts)[0]] == [
        (17, 24, "0.71"),
        (17, 19, "0.89"),
    ]
    assert [sum(line[3:8]) for line in judge.pair_table(verdicts)[0]] == [4] * 6 + [24]


def test_of_the_unread_grades_one_is_repaired_and_one_stays_unread():
    graded = judge.grade_answers(judge.both_sides(PAIRS), REPLAY)
    assert Counter(g.status for g in graded) == {"ok": 47, "parse_failed": 1}
    assert [
        row["prompt_version"]
        for row in judge_recordings.simulated_recordings(PAIRS)
        if row["stage"] == "repair_judge_rubric"
    ] == [REPAIR.tag]
    lines = {
        line[0]: line
        for line in judge.rubric_table(PAIRS, graded, judge_calibration.DAMAGE_DIMENSIONS)[0]
    }
    assert [lines[kind][3] for kind in judge_calibration.DAMAGE_DIMENSIONS] == [0, 0, 1] and lines[
        "wrong_class"
    ][6] == "1.00"


# People


def people(tmp_path, *lines, head="item_id,text_hash,rater,kind,verdict"):
    path = tmp_path / "people.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_peoples_verdicts_are_read(tmp_path):
    path = people(tmp_path, "i1,h1,Dr. Amal,human,first", "i1,h1,Dr. Omar,Human,tie")
    assert judge_calibration.read_human_verdicts(path) == [
        judge_calibration.HumanVerdict("i1", "h1", "Dr. Amal", "first"),
        judge_calibration.HumanVerdict("i1", "h1", "Dr. Omar", "tie"),
    ]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("i,h,Amal,human,A", "line 3: verdict 'A' is not one of first, second, tie"),
        ("i,h,Amal,human,", "line 3: verdict ''"),
        ("i,h,gpt-4,human,first", "line 3: rater 'gpt-4', kind 'human': only people"),
        ("i,h,,human,first", "line 3: rater ''"),
        ("i,h,Amal,model,first", "line 3: rater 'Amal', kind 'model'"),
        (",h,Amal,human,first", "line 3: item_id and text_hash"),
        ("i,,Amal,human,first", "line 3: item_id and text_hash"),
        ("i0,h0,Amal,human,tie", "line 3: a second verdict of Amal on i0"),
        ("i,h,Amal,human,first,more", "line 3: more cells than columns"),
        ("i,h,Amal", "line 3: rater 'Amal', kind ''"),
    ],
)
def test_what_is_no_persons_verdict_is_refused(line, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        judge_calibration.read_human_verdicts(people(tmp_path, "i0,h0,Amal,human,first", line))


def test_other_columns_are_refused(tmp_path):
    with pytest.raises(
        InputError,
        match="columns expected item_id, text_hash, rater, kind, verdict; found item_id, verdict",
    ):
        judge_calibration.read_human_verdicts(people(tmp_path, "i,first", head="item_id,verdict"))
    with pytest.raises(InputError, match="found none"):
        judge_calibration.read_human_verdicts(people(tmp_path))


def test_people_and_judge_are_compared_on_the_same_texts_only(tmp_path):
    verdicts = judge.judge_pairs(PAIRS, REPLAY)
    said = [
        judge_calibration.HumanVerdict(v.pair.id, v.pair.text_hash, "Amal", v.pair.known)
        for v in verdicts
    ]
    other = [
        judge_calibration.HumanVerdict(PAIRS[0].id, "another text", "Amal", "first"),
        judge_calibration.HumanVerdict("nobody", "h", "Amal", "tie"),
    ]
    found = judge_calibration.agreement_with_people(said + other, verdicts)
    assert (found["n"], found["equal"], found["other_texts"]) == (24, 17, 2) and found[
        "low"
    ] < 17 / 24 < found["high"]
    assert 0 < found["kappa"] < 1
    nothing = judge_calibration.agreement_with_people(other, verdicts)
    assert (nothing["n"], nothing["kappa"], nothing["other_texts"]) == (0, None, 2)
