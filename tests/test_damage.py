"""Damaged rows of translated benchmarks, endpoints that fail, and two models on the same items."""

import json

import pytest
from support.stub_server import Stub
from support.tiny import mcqa

from bimedix_utils import sources
from bimedix_utils.core.errors import InputError, TeacherError
from bimedix_utils.core.language import load_language
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.evaluation import compare, damage, evaluate
from bimedix_utils.evaluation.endpoint_scoring import score_endpoint
from bimedix_utils.evaluation.evaluated import EvaluatedEndpoint, EvaluatedLocal, evaluated_model
from bimedix_utils.evaluation.prompt_format import PromptFormat
from bimedix_utils.evaluation.scoring import Sample
from bimedix_utils.sources import benchmarks
from bimedix_utils.teacher import engine
from bimedix_utils.teacher.settings import Teacher

pytestmark = pytest.mark.unit
ARABIC = load_language("ar", ROOT / "data" / "knowledge")


def test_the_damaged_published_rows_are_found(raw_dir):
    """45 Arabic MMLU rows ask about IP spoofing, a leaked example of the translator's prompt, under
    a medical key.
    """
    found = spoofed = 0
    for subject in ("college_medicine", "medical_genetics"):
        english, arabic = (
            sources.read_file(raw_dir / "mmlu" / f"{subject}_test.{lang}.csv")
            for lang in ("en", "ar")
        )
        task = benchmarks.group_tasks([*english, *arabic])[f"mmlu_{subject}", "ar"]
        result = damage.find_damage(task, {record.id: record for record in english}, ARABIC)
        leaked = [
            r.id
            for r in task.records
            if "IP" in r.question or any("TCP" in option for option in r.options)
        ]
        assert result.unchecked == 0 and set(leaked) <= set(result.rows)
        found, spoofed = found + len(result.rows), spoofed + len(leaked)
        assert len(result.rows) < 0.3 * len(task.records)
    assert spoofed == 27 and found >= spoofed


def test_the_kits_own_rows_are_sound_and_orphans_are_counted():
    folder = ROOT / "data" / "sample"
    english, arabic = (
        sources.read_file(folder / f"medqa_test.{lang}.jsonl", kit=True) for lang in ("en", "ar")
    )
    task = benchmarks.group_tasks([*english, *arabic])["medqa", "ar"]
    assert damage.find_damage(task, {r.id: r for r in english}, ARABIC) == damage.Damage({}, 0)
    assert damage.find_damage(task, {}, ARABIC).unchecked == len(task.records)


def test_a_wrong_number_is_damage_and_stops_when_told_to():
    english = mcqa(
        id="q:en",
        question="A man of 54 years takes 500 mg of aspirin. What is its class?",
        source="medqa",
        split="test",
    )
    arabic = mcqa(
        "ar",
        id="q:ar",
        parent_id="q:en",
        question="رجل عمره 54 عاما يتناول 50 ملغ من الأسبرين. ما فئته؟",
        source="medqa",
        split="test",
        options=("الساليسيلات", "الستاتينات", "الأفيونات", "النترات"),
    )
    task = benchmarks.group_tasks([english, arabic])["medqa", "ar"]
    result = damage.find_damage(task, {english.id: english}, ARABIC)
    assert list(result.rows) == ["q:ar"] and damage.undamaged_task(task, result).records == ()
    with pytest.raises(InputError, match="q:ar"):
        damage.stop_on_damage({("medqa", "ar"): result})
    damage.stop_on_damage({("medqa", "ar"): damage.Damage()})
    sample = Sample("q:ar", "ar", "h", 0)
    assert damage.undamaged_samples([sample], result) == [] and damage.undamaged_samples(
        [sample], damage.Damage()
    ) == [sample]


def rows(n=20, lang="en"):
    return [mcqa(lang, id=f"q{i}", question=f"Question {i}?", answer_index=i % 4) for i in range(n)]


def right(text):
    """Answers every question of `rows` rightly, from its number."""
    return f"The correct answer is {'ABCD'[int(text.split('Question ')[1].split('?')[0]) % 4]}."


def teacher(stub, tmp_path, **more):
    return Teacher(
        backend="http", url=stub.url, model="stub", answers=tmp_path / "answers.db", **more
    )


def test_an_endpoint_that_fails_every_tenth_call_is_asked_again(tmp_path):
    calls = []

    def sometimes(body):
        calls.append(body)
        return 500 if len(calls) % 10 == 0 else "ok"

    with Stub(answer=right, default=sometimes) as stub:
        samples = EvaluatedEndpoint(teacher(stub, tmp_path)).score(
            rows(), PromptFormat("generation")
        )
        assert (
            len(calls) > 20
            and all(s.correct for s in samples)
            and not any(s.unanswered for s in samples)
        )
        before = len(calls)
        assert (
            EvaluatedEndpoint(teacher(stub, tmp_path)).score(rows(), PromptFormat("generation"))
            == samples
            and len(calls) == before
        )


def test_an_item_an_endpoint_never_answers_is_wrong_and_says_why(tmp_path):
    with Stub(
        answer=right, default=lambda body: 400 if "Question 3?" in str(body) else "ok"
    ) as stub:
        samples = score_endpoint(teacher(stub, tmp_path), rows(), PromptFormat("generation"))
    assert [s.id for s in samples if not s.correct] == ["q3"]
    (silent,) = [s for s in samples if s.unanswered]
    assert silent.id == "q3" and "400" in silent.text


def test_what_an_endpoint_failed_to_say_is_neither_kept_nor_counted_as_said(tmp_path):
    """A server that died half-way left its failures in the files for good: the next run must ask
    for them, and only for them.
    """
    down = [True]
    turns = [[{"role": "user", "content": f"Question {i}?"}] for i in range(4)]
    with Stub(
        answer=right, default=lambda body: 400 if down[0] and "Question 3?" in str(body) else "ok"
    ) as stub:
        found = []
        for _ in range(2):
            candidate = EvaluatedEndpoint(teacher(stub, tmp_path, max_tokens=50))
            respond = evaluate.cached_responder(tmp_path, "m", candidate, 50)
            found.append(
                (
                    [s.correct for s in candidate.score(rows(4), PromptFormat("generation"))],
                    respond(turns),
                    candidate.teacher.missing,
                )
            )
            down[0] = False
    assert found[0] == ([True] * 3 + [False], [right(f"Question {i}?") for i in range(3)] + [""], 2)
    assert found[1] == ([True] * 4, [right(f"Question {i}?") for i in range(4)], 0)


def test_a_recording_that_is_not_there_stays_away():
    replaying = Teacher(
        backend="replay", model="recorded", recordings=ROOT / "data" / "recordings" / "judge"
    )
    engine.ask(replaying, [replaying.request("judge", "r", "v1", "Which?")])
    assert replaying.ledger.missing == 1 and replaying.missing == 0


def test_wrong_language_and_empty_words_get_the_score_they_earn(tmp_path):
    with Stub(answer=lambda text: "الإجابة الصحيحة هي أ.") as stub:
        samples = score_endpoint(teacher(stub, tmp_path), rows(8), PromptFormat("generation"))
        assert [s.prediction for s in samples] == [0] * 8 and sum(s.correct for s in samples) == 2
    with Stub(answer=lambda text: "I cannot say.") as stub:
        samples = score_endpoint(teacher(stub, tmp_path / "b"), rows(8), PromptFormat("generation"))
        assert [s.prediction for s in samples] == [None] * 8 and not any(s.correct for s in samples)


def logprobs(entries):
    def answer(body):
        assert body["logprobs"] is True and body["max_tokens"] == 1
        top = [{"token": token, "logprob": value} for token, value in entries]
        content = [{"token": entries[0][0], "logprob": entries[0][1], "top_logprobs": top}]
        return {
            "choices": [
                {
                    "message": {"content": "B"},
                    "finish_reason": "length",
                    "logprobs": {"content": content},
                }
            ]
        }

    return answer


def test_letters_are_ranked_where_the_server_gives_log_probabilities(tmp_path):
    with Stub(default=logprobs([("B", -0.5), (" b", -2.0), ("A", -1.5), ("The", -3.0)])) as stub:
        (sample,) = score_endpoint(teacher(stub, tmp_path), rows(1), PromptFormat("label"))
    assert sample.choice == 1 and sample.loglikelihoods[2] == sample.loglikelihoods[3] < -3.0
    assert 0.9 < sample.mass < 1.0
    with Stub(default=logprobs([("The", -0.5), ("It", -2.0)])) as stub:
        (sample,) = score_endpoint(teacher(stub, tmp_path / "a"), rows(1), PromptFormat("label"))
    assert sample.choice is None and not sample.correct and not sample.unanswered, (
        "no letter was ranked: none is the likeliest"
    )
    with Stub(answer=right) as stub, pytest.raises(TeacherError, match="no log-probabilities"):
        score_endpoint(teacher(stub, tmp_path / "b"), rows(1), PromptFormat("label"))
    with Stub(answer=right) as stub, pytest.raises(TeacherError, match="generation"):
        score_endpoint(teacher(stub, tmp_path / "c"), rows(1), PromptFormat("option_text"))


def test_a_name_decides_what_is_evaluated(tmp_path):
    judge = Teacher(
        backend="replay",
        model="j",
        recordings=tmp_path,
        concurrency=3,
        max_cost_usd=1.5,
        max_tokens=9,
        requests_per_minute=7,
    )
    asked = evaluated_model("http://127.0.0.1:1/v1", "", "nf4", judge, "m")
    assert isinstance(asked, EvaluatedEndpoint) and (asked.teacher.model, asked.teacher.url) == (
        "m",
        "http://127.0.0.1:1/v1",
    )
    assert (
        asked.teacher.spending is judge.spending
        and asked.teacher.pace is judge.pace
        and asked.teacher.ledger is not judge.ledger
    )
    assert (
        asked.teacher.concurrency,
        asked.teacher.max_cost_usd,
        asked.teacher.requests_per_minute,
    ) == (3, 1.5, 7)
    assert asked.identity() == {"endpoint": "http://127.0.0.1:1/v1", "name": "m", "max_tokens": 9}
    local = evaluated_model(str(tmp_path), "", "float32", judge, "")
    assert isinstance(local, EvaluatedLocal) and local.base == tmp_path
    (tmp_path / "weights.bin").write_text("a")
    before = local.identity()
    (tmp_path / "weights.bin").write_text("b")
    assert local.identity() == before and json.dumps(
        before
    )  # read once: of a large model that takes minutes
    assert evaluated_model(str(tmp_path), "", "float32", judge, "").identity() != before


def test_two_models_are_compared_on_the_same_items_with_correction():
    def samples(right, n=60):
        return [
            Sample(f"q{i}", "en", f"h{i}", 0, (0.0, -1.0) if i < right else (-1.0, 0.0), (1, 1))
            for i in range(n)
        ]

    first = {
        ("medqa", "en"): samples(20),
        ("medqa", "ar"): samples(30),
        ("anatomy", "en"): samples(30),
    }
    second = {
        ("medqa", "en"): samples(50),
        ("medqa", "ar"): samples(30),
        ("anatomy", "en"): samples(36),
    }
    table = {(p.task, p.lang): p for p in compare.compare_paired(first, second, 1)}
    assert table["medqa", "en"].difference == 0.5 and table["medqa", "en"].p_holm == pytest.approx(
        3 * table["medqa", "en"].p
    )
    assert (
        table["medqa", "ar"].p_holm == 1.0
        and table["anatomy", "en"].p < 0.05 < table["anatomy", "en"].p_holm * 2
    )
    with pytest.raises(ValueError, match="other items"):
        compare.compare_paired(first, {("medqa", "en"): samples(20, 59)}, 1)
