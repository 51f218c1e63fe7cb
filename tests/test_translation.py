"""Rounds of translating, checking, scoring, refining: toy teachers, then every recorded fault."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from bimedix_utils import sources, synthesis, translation
from bimedix_utils.core.language import load_language
from bimedix_utils.core.records import Record, Turn
from bimedix_utils.teacher import batch, engine
from bimedix_utils.teacher.engine import ask_structured
from bimedix_utils.teacher.requests import REPAIR
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.translation import Flag, Version, rounds

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
ARABIC = load_language("ar", DATA / "knowledge")
THRESHOLD, ROUNDS = 85, 2

QUESTION = Record(
    id="toy:1",
    kind="qa",
    lang="en",
    source="toy",
    licence="CC-BY-4.0",
    split="train",
    question="How many lobes does the right lung have?",
    answer="The right lung has 3 lobes.",
)
GOOD = {"question": "كم عدد فصوص الرئة اليمنى؟", "answer": "للرئة اليمنى 3 فصوص."}
WRONG = {"question": "كم عدد فصوص الرئة اليمنى؟", "answer": "للرئة اليمنى 2 فصوص."}
STIFF = {"question": "ما هو عدد فصوص الرئة اليمنى؟", "answer": "تملك الرئة اليمنى عدد 3 فصوص."}


def score(points, *errors):
    return {"errors": list(errors), "score": points}


ERROR = {
    "category": "number_unit",
    "severity": "critical",
    "source": "3 lobes",
    "target": "2 فصوص",
    "explanation": "number changed",
}


@pytest.fixture
def teach(tmp_path):
    """A maker of replay teachers for row toy:1: {(stage, round): answer}, an answer being JSON, raw
    text or (text, finish reason).
    """

    def make(answers, row_id="toy:1"):
        lines = []
        for (stage, number), answer in answers.items():
            text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
            version = translation.TRANSLATION_PROMPTS.get(stage, REPAIR).tag
            lines.append(
                {
                    "stage": stage,
                    "row_id": row_id,
                    "round": number,
                    "sample": 0,
                    "prompt_version": version,
                    "finish_reason": reason,
                    "text": text if isinstance(text, str) else json.dumps(text, ensure_ascii=False),
                }
            )
        (tmp_path / "toy.jsonl").write_text(
            "\n".join(json.dumps(row, ensure_ascii=False) for row in lines), encoding="utf-8"
        )
        return Teacher(backend="replay", model="recorded", recordings=tmp_path)

    return make


def run(teacher, record=QUESTION, rounds=ROUNDS):
    (state,) = translation.run_rounds([record], teacher, THRESHOLD, rounds, ARABIC)
    return state


def history(state):
    return [(version.round, version.score) for version in state.versions]


# Toy teachers


def test_accepted_at_once(teach):
    state = run(teach({("translate", 0): GOOD, ("score", 0): score(96)}))
    assert (state.state, state.note, history(state), state.best.values) == (
        "accept",
        "",
        [(0, 96)],
        GOOD,
    )


def test_the_threshold_itself_is_enough(teach):
    answers = {("translate", 0): GOOD, ("refine", 1): GOOD, ("refine", 2): GOOD}
    assert run(teach({**answers, ("score", 0): score(85)})).state == "accept"
    assert run(teach({**answers, **{("score", i): score(84) for i in range(3)}})).state == "human"


def test_refined_then_accepted(teach):
    answers = {
        ("translate", 0): STIFF,
        ("score", 0): score(70),
        ("refine", 1): GOOD,
        ("score", 1): score(95),
    }
    state = run(teach(answers))
    assert (state.state, history(state), state.best.round, state.best.values) == (
        "accept",
        [(0, 70), (1, 95)],
        1,
        GOOD,
    )


def test_a_high_score_does_not_outweigh_a_rule(teach):
    answers = {
        ("translate", 0): WRONG,
        ("score", 0): score(100),
        ("refine", 1): GOOD,
        ("score", 1): score(86),
    }
    state = run(teach(answers))
    assert (state.state, history(state), state.best.round) == ("accept", [(0, 100), (1, 86)], 1)
    assert [flag.check for flag in state.versions[0].flags] == ["numbers"]


def test_the_best_version_is_kept_when_refinement_is_worse(teach):
    answers = {
        ("translate", 0): GOOD,
        ("score", 0): score(80),
        ("refine", 1): STIFF,
        ("score", 1): score(55),
    }
    state = run(teach({**answers, ("refine", 2): WRONG, ("score", 2): score(84)}))
    assert (state.state, state.note) == ("human", "score 80 is below 85")
    assert (state.best.round, state.best.values, history(state)) == (
        0,
        GOOD,
        [(0, 80), (1, 55), (2, 84)],
    )


def test_human_after_the_last_round_with_the_reason(teach):
    answers = {
        ("translate", 0): WRONG,
        ("refine", 1): WRONG,
        ("refine", 2): WRONG,
        **{("score", i): score(99) for i in range(3)},
    }
    state = run(teach(answers))
    assert (state.state, state.best.round, len(state.versions)) == ("human", 0, 3)
    assert state.note == "numbers: answer: lost 3, new 2"


def test_no_rounds_of_refinement(teach):
    state = run(
        teach(
            {
                ("translate", 0): STIFF,
                ("score", 0): score(70),
                ("refine", 1): GOOD,
                ("score", 1): score(95),
            }
        ),
        rounds=0,
    )
    assert (state.state, history(state)) == ("human", [(0, 70)])


FIRST = {
    "held": None,
    "truncated": ('{"question": "كم عدد', "length"),
    "refused": "I'm sorry, but I can't help with medical content.",
    "parse_failed": "The translation follows tomorrow.",
}


@pytest.mark.parametrize("status", FIRST)
def test_a_failed_first_answer_ends_in_its_status(status, teach):
    answers = {
        ("score", 0): score(96),
        **({("translate", 0): FIRST[status]} if FIRST[status] else {}),
    }
    state = run(teach(answers))
    assert (state.state, state.versions, state.best) == (status, [], None) and state.note


@pytest.mark.parametrize(
    "answer",
    [
        {"question": "كم؟"},
        {**GOOD, "note": "x"},
        {**GOOD, "answer": ["3"]},
        {**GOOD, "id": "toy:1"},
    ],
)
def test_other_keys_or_types_are_parse_failed(answer, teach):
    assert run(teach({("translate", 0): answer})).state == "parse_failed"


@pytest.mark.parametrize("status", FIRST)
def test_a_failed_refinement_leaves_the_first_version_to_a_human(status, teach):
    answers = {
        ("translate", 0): STIFF,
        ("score", 0): score(70),
        **({("refine", 1): FIRST[status]} if FIRST[status] else {}),
    }
    state = run(teach(answers))
    assert (state.state, state.note, history(state), state.best.values) == (
        "human",
        f"refinement {status}",
        [(0, 70)],
        STIFF,
    )


@pytest.mark.parametrize(
    "answer, status",
    [
        (None, "held"),
        ("I would give it 90.", "parse_failed"),
        (score(101), "parse_failed"),
        (score(-1), "parse_failed"),
        ({"score": 90}, "parse_failed"),
        (score(90, {**ERROR, "category": "style"}), "parse_failed"),
        (score(90, {**ERROR, "severity": "huge"}), "parse_failed"),
    ],
)
def test_a_score_that_cannot_be_read_leaves_the_row_to_a_human(answer, status, teach):
    """A score is never guessed, however good the text is."""
    state = run(teach({("translate", 0): GOOD, **({("score", 0): answer} if answer else {})}))
    assert state.state == "human" and state.note.startswith(f"score {status}: ")
    assert (state.best.values, state.best.score) == (GOOD, None)


def test_rows_keep_their_order_and_do_not_touch_each_other(teach):
    rows = [QUESTION.replace(id=f"toy:{i}", question=f"Question {i}?") for i in (3, 1, 2)]
    answers = {("translate", 0): {**GOOD, "question": "السؤال 1؟"}, ("score", 0): score(96)}
    states = translation.run_rounds(rows, teach(answers), THRESHOLD, ROUNDS, ARABIC)
    assert [(s.record.id, s.state) for s in states] == [
        ("toy:3", "held"),
        ("toy:1", "accept"),
        ("toy:2", "held"),
    ]
    assert (
        translation.run_rounds([], teach({("translate", 0): GOOD}), THRESHOLD, ROUNDS, ARABIC) == []
    )


def test_refinement_is_told_the_errors_of_the_scorer_and_of_the_rules():
    state = translation.RowState(
        QUESTION,
        "refine",
        versions=[
            Version(
                0,
                WRONG,
                [Flag("numbers", "reject", "part 2: lost 3, new 2")],
                40,
                [translation.ErrorSpan(**ERROR)],
            )
        ],
    )
    teacher = Teacher(backend="replay", model="recorded")
    text = rounds._request(state, "refine", 1, teacher, ARABIC).messages[0][1]
    for part in (
        "number changed",
        "lost 3, new 2",
        WRONG["answer"],
        QUESTION.answer,
        "English to Modern Standard Arabic",
    ):
        assert part in text


def test_quality_puts_rules_before_score_and_the_earlier_of_equals_first():
    reject, human = Flag("numbers", "reject", ""), Flag("drug", "human", "")
    order = [
        Version(0, {}, [], 60),
        Version(1, {}, [], 60),
        Version(2, {}, [], None),
        Version(0, {}, [human], 99),
        Version(0, {}, [human, reject], 100),
    ]
    assert sorted(order[::-1], key=Version.quality, reverse=True) == order


# Repairs: an answer that cannot be read is asked for once more, with the reason


def test_a_score_that_is_not_json_is_repaired(teach):
    state = run(
        teach(
            {
                ("translate", 0): GOOD,
                ("score", 0): "I would give it 90.",
                ("repair_score", 0): score(90),
            }
        )
    )
    assert (state.state, state.note, history(state)) == ("accept", "", [(0, 90)])


def test_a_repaired_score_may_still_be_too_low(teach):
    answers = {
        ("translate", 0): STIFF,
        ("score", 0): "Rather stiff.",
        ("repair_score", 0): score(70),
        ("refine", 1): GOOD,
    }
    state = run(teach({**answers, ("score", 1): "Fine now.", ("repair_score", 1): score(95)}))
    assert (state.state, history(state)) == ("accept", [(0, 70), (1, 95)])


def test_a_score_is_repaired_once_only(teach):
    state = run(
        teach(
            {
                ("translate", 0): GOOD,
                ("score", 0): "90",
                ("repair_score", 0): "I said 90.",
                ("repair_repair_score", 0): score(90),
            }
        )
    )
    assert (state.state, state.note) == (
        "human",
        "score parse_failed: no JSON object; repair parse_failed",
    )


@pytest.mark.parametrize(
    "stage, expected",
    [("translate", ("accept", [(0, 96)])), ("refine", ("accept", [(0, 70), (1, 96)]))],
)
def test_a_translation_that_is_not_json_is_repaired(stage, expected, teach):
    answers = {
        ("translate", 0): STIFF,
        ("score", 0): score(70),
        ("refine", 1): GOOD,
        ("score", 1): score(96),
    }
    if stage == "translate":
        answers[("score", 0)] = score(96)
    number = 0 if stage == "translate" else 1
    broken = {
        (stage, number): "The translation follows tomorrow.",
        (f"repair_{stage}", number): answers[stage, number],
    }
    state = run(teach({**answers, **broken}))
    assert (state.state, history(state)) == expected


def asked_in(run_it) -> list:
    """Every request `run_it` makes, in order, and the answers replay has for them."""
    made = []

    def watch(teacher, requests):
        made.extend(requests)
        return engine.ask(teacher, requests)

    run_it(watch)
    return made


def test_a_repair_shows_the_answer_and_what_is_wrong_with_it(teach):
    teacher = teach(
        {("translate", 0): GOOD, ("score", 0): score(101), ("repair_score", 0): score(90)}
    )
    made = asked_in(
        lambda watch: translation.run_rounds(
            [QUESTION], teacher, THRESHOLD, ROUNDS, ARABIC, ask=watch
        )
    )
    assert [request.recording_key for request in made] == [
        (stage, "toy:1", 0, 0) for stage in ("translate", "score", "repair_score")
    ]
    asked, repair = made[1:]
    assert repair.messages[:-1] == (*asked.messages, ("assistant", json.dumps(score(101))))
    assert "score: Input should be less than or equal to 100" in repair.messages[-1][1]


@pytest.mark.parametrize("status", ["held", "truncated", "refused"])
def test_what_is_not_a_matter_of_structure_is_not_repaired(status, teach):
    teacher = teach(
        {("score", 0): score(96), **({("translate", 0): FIRST[status]} if FIRST[status] else {})}
    )
    made = asked_in(
        lambda watch: translation.run_rounds(
            [QUESTION], teacher, THRESHOLD, ROUNDS, ARABIC, ask=watch
        )
    )
    assert [request.stage for request in made] == ["translate"]


# What is translated


def train(number: int, **more) -> Record:
    return QUESTION.replace(id=f"toy:{number}", **more)


def test_usable_english_training_rows_are_wanted_in_their_order():
    rows = [train(3), train(1), CHAT.replace(id="chat:1"), train(2)]
    others = [
        train(4, split="test"),
        train(5, split="validation"),
        train(6, lang="ar"),
        train(7, status="rejected"),
        train(8, status="held"),
    ]
    assert (
        translation.rows_to_translate([others[0], rows[0], others[1], *rows[1:], *others[2:]])
        == rows
    )


def test_a_count_draws_that_many_and_keeps_their_order():
    rows = [train(i) for i in range(50)]
    drawn = translation.rows_to_translate(rows, 12, 42)
    assert (
        len(drawn) == 12 and drawn == [row for row in rows if row in drawn] and drawn != rows[:12]
    )
    assert (
        translation.rows_to_translate(rows, 500, 42)
        == translation.rows_to_translate(rows, 0, 42)
        == rows
    )


def test_a_draw_depends_on_seed_and_ids_alone():
    rows = [train(i) for i in range(50)]
    ids = {row.id for row in translation.rows_to_translate(rows, 12, 42)}
    assert {row.id for row in translation.rows_to_translate(rows[::-1], 12, 42)} == ids
    assert {
        row.id for row in translation.rows_to_translate(rows, 20, 42)
    } > ids  # a larger draw keeps what was paid for
    assert {row.id for row in translation.rows_to_translate(rows, 12, 43)} != ids


def test_rows_that_are_not_wanted_take_no_place_in_a_draw():
    rows = [train(i, split="test" if i % 2 else "train") for i in range(50)]
    drawn = translation.rows_to_translate(rows, 12, 42)
    assert len(drawn) == 12 and {row.split for row in drawn} == {"train"}


def test_the_first_requests_are_those_of_round_0(teach):
    rows = [train(1), train(2, question="How many ribs are there?"), CHAT.replace(id="toy:3")]
    teacher = teach({("translate", 0): GOOD, ("score", 0): score(96)})
    first = translation.first_requests(rows, teacher, ARABIC)
    assert [request.recording_key for request in first] == [
        ("translate", row.id, 0, 0) for row in rows
    ]
    made = asked_in(
        lambda watch: translation.run_rounds(rows, teacher, THRESHOLD, ROUNDS, ARABIC, ask=watch)
    )
    assert made[: len(rows)] == first  # what is estimated is what is sent
    assert engine.estimate_requests(teacher, first).to_send == len(rows)


# Fields and records

MCQ = QUESTION.replace(
    kind="mcqa", options=("One", "Two", "Three", "Four"), answer_index=2, context="A short text."
)
CHAT = QUESTION.replace(
    kind="chat",
    turns=(
        Turn(role="patient", text="I feel ill."),
        Turn(role="doctor", text="Rest well, please."),
    ),
)


def test_fields_are_what_a_reader_sees_and_nothing_else():
    assert list(translation.text_fields(MCQ)) == ["context", "question", "options", "answer"]
    assert list(translation.text_fields(MCQ.replace(answer="", context=""))) == [
        "question",
        "options",
    ]
    assert translation.text_fields(CHAT) == {
        "turns": [
            {"role": "patient", "text": "I feel ill."},
            {"role": "doctor", "text": "Rest well, please."},
        ]
    }
    assert translation.flat_texts(translation.text_fields(MCQ)) == [
        "A short text.",
        MCQ.question,
        "One",
        "Two",
        "Three",
        "Four",
        MCQ.answer,
    ]
    assert translation.flat_texts(translation.text_fields(CHAT)) == [
        "I feel ill.",
        "Rest well, please.",
    ]


def test_apply_keeps_key_split_and_origin_and_names_the_parent():
    values = {"context": "نص قصير.", **GOOD, "options": ["واحد", "اثنان", " ثلاثة ", "أربعة"]}
    made = translation.translated_record(MCQ, values, "ar", note="n")
    assert (made.id, made.parent_id, made.lang, made.answer_index, made.split, made.note) == (
        "toy:1:ar",
        "toy:1",
        "ar",
        2,
        "train",
        "n",
    )
    assert (
        made.options == ("واحد", "اثنان", "ثلاثة", "أربعة")
        and made.context == "نص قصير."
        and made.licence == MCQ.licence
    )
    made = translation.translated_record(
        CHAT,
        {
            "turns": [
                {"role": "patient", "text": "أشعر بالمرض."},
                {"role": "doctor", "text": "استرح."},
            ]
        },
        "ar",
    )
    assert [(turn.role, turn.text) for turn in made.turns] == [
        ("patient", "أشعر بالمرض."),
        ("doctor", "استرح."),
    ]


def test_text_hash_follows_the_text():
    assert (
        translation.text_hash(GOOD)
        == translation.text_hash(dict(reversed(GOOD.items())))
        != translation.text_hash(WRONG)
    )


def test_swapped_speakers_are_not_accepted(teach):
    swapped = {
        "turns": [
            {"role": "doctor", "text": "أشعر بأنني مريض."},
            {"role": "patient", "text": "استرح جيدًا من فضلك."},
        ]
    }
    state = run(teach({("translate", 0): swapped, ("score", 0): score(95)}), CHAT)
    assert state.state != "accept"


# The recordings: where every fault ends. Of several faults of one row, the first in this table
# decides.

ENDS = {
    "score_100_bad": "human",
    "score_40_good": "human",
    "refinement_worse": "human",
    "lost_negation": "human",
    "not_json": "human",
    "truncated": "truncated",
    "refusal": "refused",
    "untranslated": "refined",
    "dropped_option": "refined",
    "swapped_options": "refined",
    "wrong_number": "refined",
    "wrong_drug": "refined",
    "code_fence": "accept",
    "trailing_comma": "accept",
    "preamble": "accept",
}
STAGES = ("translate", "score", "refine")


def recorded() -> tuple[dict[str, str], set[str], set[str]]:
    """({row id: deciding fault}, ids of the rows with recordings, ids of those with a repair)."""
    faults, rows, repaired = defaultdict(set), set(), set()
    for path in sorted((DATA / "recordings").glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(text)
            if row["stage"] in STAGES and not row["row_id"].startswith("calibration:"):
                rows.add(row["row_id"])
                faults[row["row_id"]].add(row["fault"])
            elif row["stage"] in {f"repair_{stage}" for stage in STAGES}:
                repaired.add(row["row_id"])
    deciding = {
        row_id: [f for f in [*ENDS, *sorted(found - set(ENDS))] if f in found and f]
        for row_id, found in faults.items()
    }
    return {row_id: found[0] for row_id, found in deciding.items() if found}, rows, repaired


FAULTY, RECORDED, REPAIRED = recorded()


@pytest.fixture(scope="module")
def states():
    """The whole sample through synthesis and translation, as notebooks 01 to 03 do it."""
    teacher = Teacher(backend="replay", model="recorded", recordings=DATA / "recordings")
    records = [
        r for path in sources.find_files(DATA / "sample") for r in sources.read_file(path, kit=True)
    ]
    questions = synthesis.seed_questions(records, 1000, seed=42)
    asked = synthesis.chat_requests(questions, teacher, 2, 6, seed=42)
    chats, _ = synthesis.collect_chats(
        questions, ask_structured(teacher, asked, lambda _: synthesis.Chat), 2, 6
    )
    expected = translation.rows_to_translate(records + chats)
    table = translation.run_rounds(
        expected + translation.select_test_items(records), teacher, THRESHOLD, ROUNDS, ARABIC
    )
    persian = translation.run_rounds(
        [r for r in expected if f"{r.id}:fa" in RECORDED],
        teacher,
        THRESHOLD,
        ROUNDS,
        load_language("fa"),
    )
    return {state.record.id: state for state in table} | {
        f"{state.record.id}:fa": state for state in persian
    }


def test_every_fault_name_is_recorded_and_known():
    assert set(FAULTY.values()) == set(ENDS)


@pytest.mark.parametrize("row_id, fault", FAULTY.items())
def test_recorded_fault_ends_where_it_should(row_id, fault, states):
    state = states[row_id]
    scores, flagged = (
        [v.score for v in state.versions],
        [{flag.check for flag in v.flags} for v in state.versions],
    )
    if row_id in REPAIRED:
        assert (
            fault == "not_json"
            and (state.state, state.note) == ("accept", "")
            and scores[0] >= THRESHOLD
        )
        return
    if ENDS[fault] == "refined":
        assert (state.state, state.best.round) == ("accept", len(state.versions) - 1) and len(
            state.versions
        ) >= 2
        assert not state.best.flags and state.best.score >= THRESHOLD
        assert flagged[0] or scores[0] < THRESHOLD
    else:
        assert state.state == ENDS[fault], state.note
    if ENDS[fault] == "accept":
        assert len(state.versions) == 1 and not state.best.flags and state.best.score >= THRESHOLD
    rules = {
        "untranslated": "untranslated",
        "dropped_option": "part_count",
        "wrong_number": "numbers",
        "wrong_drug": "drug",
    }
    if fault in rules:
        assert rules[fault] in flagged[0]
    match fault:
        case "wrong_drug":
            assert scores[0] >= THRESHOLD  # the scorer missed it; only the rule caught it
        case "score_100_bad":
            assert (
                scores == [100, 100, 100]
                and all("numbers" in names for names in flagged)
                and "numbers" in state.note
            )
        case "score_40_good":
            assert (
                scores == [40, 40, 40] and not any(flagged) and state.note == "score 40 is below 85"
            )
        case "lost_negation":
            assert len(scores) == 3 and max(scores) < THRESHOLD
        case "refinement_worse":
            assert len(scores) == 3 and state.best.round == 0 and state.best.score == max(scores)
        case "not_json":
            assert scores == [None] and state.note.startswith("score parse_failed")
        case "truncated" | "refusal":
            assert state.best is None and state.note


def test_of_the_unreadable_scores_one_has_a_repair_and_one_has_none():
    unreadable = {row_id for row_id, fault in FAULTY.items() if fault == "not_json"}
    assert len(unreadable) == 2 and len(unreadable & REPAIRED) == 1 and REPAIRED < unreadable


def test_the_card_counts_how_the_translations_end(states):
    states = {
        row_id: state
        for row_id, state in states.items()
        if state.record.split == "train" and not row_id.endswith(":fa")
    }
    card = " ".join((DATA / "recordings" / "README.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"Of (\d+) records to translate .*?, (\d+) are accepted \((\d+) in round 0, (\d+) in round"
        r" 1\), (\d+) go to a person, "
        r"(\d+) are truncated, (\d+) refused and (\d+) held",
        card,
    )
    ends = Counter(state.state for state in states.values())
    rounds = Counter(state.best.round for state in states.values() if state.state == "accept")
    counted = [
        len(states),
        ends["accept"],
        rounds[0],
        rounds[1],
        ends["human"],
        ends["truncated"],
        ends["refused"],
        ends["held"],
    ]
    assert [int(number) for number in found.groups()] == counted and ends.total() == len(
        states
    ) == sum(counted[1:2] + counted[4:])


def test_rows_without_fault_pass_at_once_and_unrecorded_rows_wait(states):
    for row_id, state in states.items():
        if row_id not in FAULTY:
            expected = ("accept", 1) if row_id in RECORDED else ("held", 0)
            assert (state.state, len(state.versions)) == expected, (
                row_id,
                state.note,
                state.versions,
            )
    assert RECORDED <= set(states)


def test_the_rules_catch_every_recorded_lost_negation(states):
    lost = [states[row_id] for row_id, fault in FAULTY.items() if fault == "lost_negation"]
    assert len(lost) >= 4
    assert not [
        s.record.id
        for s in lost
        for version in s.versions
        if not {"negation", "exception"} & {flag.check for flag in version.flags}
    ]


def test_what_waits_for_a_batch_waits_and_is_no_reviewers_work(teach, monkeypatch):
    """After the first results of a batch came in, every row whose score was still under way went to
    the reviewers.
    """
    teacher = teach({("translate", 0): GOOD})

    def asked(teacher, requests):
        found = engine.ask(teacher, requests)
        return {
            i: a if a.text is not None else replace(a, error=batch.WAITING_FOR_BATCH)
            for i, a in found.items()
        }

    (state,) = translation.run_rounds([QUESTION], teacher, THRESHOLD, ROUNDS, ARABIC, ask=asked)
    assert (state.state, state.note, len(state.versions)) == ("held", batch.WAITING_FOR_BATCH, 1)
