"""Scores are what they say: equal to a plain forward pass, in any batch, in memory that does not
grow with the rows.
"""

import gc
import math
import tracemalloc

import pytest
from support.tiny import mcqa

from bimedix_utils.core.errors import AuditError
from bimedix_utils.evaluation import loglikelihood, scoring
from bimedix_utils.evaluation.prompt_format import PromptFormat, render_prompt, split_tokens
from bimedix_utils.training import models

pytestmark = pytest.mark.unit
LONGER = {
    "id": "q2",
    "question": "A longer question about aspirin and its class, is it not?",
    "answer_index": 2,
}


@pytest.fixture(scope="module")
def loaded(base):
    model, tokenizer = models.load_base(base)
    return models.for_inference(model), tokenizer


def plain(model, tokenizer, row, form):
    """One forward pass for each option, nothing shared, nothing batched."""
    import torch

    shown = render_prompt(row, form, tokenizer)
    before, after = split_tokens(tokenizer, shown)
    for tokens in after:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([before + tokens])).logits[0].log_softmax(-1)
        yield sum(logits[len(before) - 1 + i, token].item() for i, token in enumerate(tokens))


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("protocol", ["label", "option_text"])
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_scores_equal_one_plain_forward_pass_for_each_option(loaded, protocol, lang, chat):
    form, rows = PromptFormat(protocol, chat=chat), [mcqa(lang), mcqa(lang, **LONGER)]
    assert scoring.Scorer(*loaded).strategy(rows[0], form).shared
    for sample, row in zip(
        scoring.Scorer(*loaded, budget=200).score(rows, form), rows, strict=True
    ):
        assert (
            sample.id == row.id
            and sample.key == row.answer_index
            and sample.hash == row.content_hash()
        )
        assert sample.loglikelihoods == pytest.approx(list(plain(*loaded, row, form)), abs=1e-4)
        assert sample.mass == pytest.approx(sum(map(math.exp, sample.loglikelihoods)))


def test_the_rounding_of_long_options_does_not_add_up(base):
    """Against double precision. The harness is 1e-3 off on the longest published options, which is
    why the two differ by as much there.
    """
    import torch

    model, tokenizer = models.load_plain(base, None, "float32")
    row = mcqa(
        options=tuple(" ".join([word] * 24) for word in ("statins", "opioids", "nitrates")),
        answer_index=0,
    )
    form = PromptFormat("option_text", chat=False)
    assert min(map(len, split_tokens(tokenizer, render_prompt(row, form, tokenizer))[1])) >= 100
    (sample,) = scoring.Scorer(model, tokenizer).score([row], form)
    assert not sample.truncated and min(sample.loglikelihoods) < -100
    exact = list(plain(model.to(torch.float64), tokenizer, row, form))
    assert sample.loglikelihoods == pytest.approx(exact, abs=3e-4)


def test_the_batch_does_not_move_a_score(loaded):
    rows = [
        mcqa(id=f"q{i}", question=f"Class of aspirin{' and so on' * (i % 5)}?") for i in range(20)
    ]
    few, many = (
        scoring.Scorer(*loaded, budget).score(rows, PromptFormat("option_text"))
        for budget in (1, 4096)
    )
    for one, other in zip(few, many, strict=True):
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-4)


def test_a_model_that_takes_no_block_mask_is_scored_plainly_and_says_why(loaded):
    """The block mask is tried, not believed: a model that ignores it, or refuses it, would give
    other numbers without a word.
    """
    model, tokenizer = loaded
    stock, rows, form = model.model.forward, [mcqa(), mcqa(**LONGER)], PromptFormat("option_text")
    wanted = [s.loglikelihoods for s in scoring.Scorer(model, tokenizer).score(rows, form)]
    try:
        model.model.forward = lambda *args, attention_mask=None, **more: stock(
            *args,
            attention_mask=(
                None if attention_mask is not None and attention_mask.dim() == 4 else attention_mask
            ),
            **more,
        )
        strategy = scoring.Scorer(model, tokenizer).strategy(rows[0], form)
        assert not strategy.shared and "differ by" in strategy.reason
        assert [s.loglikelihoods for s in scoring.Scorer(model, tokenizer).score(rows, form)] == [
            pytest.approx(w, abs=1e-4) for w in wanted
        ]
        model.model.forward = lambda *args, attention_mask=None, **more: stock(
            *args, attention_mask=attention_mask.long(), **more
        )
        assert "no block mask" in scoring.Scorer(model, tokenizer).strategy(rows[0], form).reason
    finally:
        del model.model.forward


def test_how_a_model_is_asked_is_tried_once_and_apart_where_a_block_mask_is_needed(
    loaded, monkeypatch
):
    """Single tokens say nothing about the mask; and a question asked twice for every window would
    cost more than the sharing gains.
    """
    tried = []
    monkeypatch.setattr(
        scoring,
        "choose_strategy",
        lambda model, probe: (
            tried.append(probe.masked) or loglikelihood.choose_strategy(model, probe)
        ),
    )
    scorer, rows = scoring.Scorer(*loaded), [mcqa(), mcqa(**LONGER)]
    for form in (
        PromptFormat("label"),
        PromptFormat("option_text"),
        PromptFormat("label"),
        PromptFormat("option_text", chat=False),
    ):
        assert len(list(scorer.score(rows, form))) == 2
    assert tried == [False, True]


def test_a_sliding_window_is_not_looked_past():
    strategy = loglikelihood.ScoringStrategy(
        type("Core", (), {"config": type("C", (), {"max_position_embeddings": 99})})(),
        True,
        "",
        window=4,
    )
    seen = []
    item = loglikelihood.TokenizedItem((1, 2, 3, 4), ((5, 6), (7,)))
    plainly, shared = loglikelihood._plain, loglikelihood._shared
    try:
        loglikelihood._plain = lambda strategy, items, budget: (
            seen.append("plain") or iter([[[0.0]]] * len(items))
        )
        loglikelihood._shared = lambda core, batch: seen.append("shared") or [[[0.0]]] * len(batch)
        loglikelihood.loglikelihoods(strategy, [item], 100)
        loglikelihood.loglikelihoods(
            strategy, [loglikelihood.TokenizedItem((1, 2), ((5, 6), (7,)))], 100
        )
    finally:
        loglikelihood._plain, loglikelihood._shared = plainly, shared
    assert seen[0] == "plain" and "shared" in seen[1:]


@pytest.mark.parametrize("protocol", ["label", "option_text", "generation"])
def test_a_row_too_long_for_the_model_loses_its_beginning_and_says_so(loaded, protocol):
    (sample,) = scoring.Scorer(*loaded).score(
        [mcqa(question="word " * 400)], PromptFormat(protocol), max_new_tokens=3
    )
    assert sample.truncated > 0 and len(sample.loglikelihoods) == (
        0 if protocol == "generation" else 4
    )


def test_written_answers_do_not_depend_on_their_neighbours(loaded):
    model, tokenizer = loaded
    rows = [mcqa(id=str(i), question="Class of aspirin" + "?" * (1 + i * 3)) for i in range(5)]
    prompts = [render_prompt(row, PromptFormat("generation"), tokenizer).prompt for row in rows]
    alone, together = (
        scoring.generate_greedy(model, tokenizer, prompts, 8, budget) for budget in (1, 10_000)
    )
    assert alone == together and any(text for text, _ in alone)
    with pytest.raises(ValueError, match="no position"):
        scoring.generate_greedy(model, tokenizer, prompts, 10_000, 100)


def test_memory_does_not_grow_with_the_rows(loaded):
    """Windows are scored and let go: what is held at a time does not depend on how many rows
    follow.
    """
    peaks = []
    for n in (128, 128, 512):
        rows = (mcqa(id=f"q{i}", question=f"Class of aspirin, number {i}?") for i in range(n))
        tracemalloc.start()
        for number, _ in enumerate(
            scoring.Scorer(*loaded).score(rows, PromptFormat("label")), start=1
        ):
            if number % 128 == 0:
                # torch's functions hold themselves in circles: rubbish that waits is not memory
                # that is held
                gc.collect()
        assert number == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 384 * 800, (
        peaks
    )  # bytes: a row with its tokens and samples has several thousand


def test_a_label_that_changes_the_prompts_tokens_is_refused():
    class Merging:
        bos_token = None

        def __call__(self, text, add_special_tokens):
            return type("Coded", (), {"input_ids": [len(text)]})

    with pytest.raises(AuditError, match="merges"):
        split_tokens(Merging(), render_prompt(mcqa(), PromptFormat("label", chat=False)))


def test_labels_of_two_tokens_are_scored_whole(loaded):
    """Arabic letters are often several tokens: the label's likelihood is that of all of them."""
    model, tokenizer = loaded

    class Splitting:
        """The tiny tokenizer, except that every letter at a text's end is two tokens."""

        bos_token, chat_template = tokenizer.bos_token, tokenizer.chat_template
        apply_chat_template = staticmethod(tokenizer.apply_chat_template)

        def __call__(self, text, add_special_tokens):
            ids = tokenizer(text, add_special_tokens=add_special_tokens).input_ids
            return type(
                "Coded", (), {"input_ids": [*ids[:-1], 7, ids[-1]] if text[-2:-1] == " " else ids}
            )

    row, form = mcqa(), PromptFormat("label")
    before, after = split_tokens(Splitting(), render_prompt(row, form, Splitting()))
    assert [len(tokens) for tokens in after] == [2, 2, 2, 2]
    (sample,) = scoring.Scorer(model, Splitting()).score([row], form)
    assert sample.loglikelihoods == pytest.approx(
        list(plain(model, Splitting(), row, form)), abs=1e-4
    )
