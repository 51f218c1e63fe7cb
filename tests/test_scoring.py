"""Scores are what they say: equal to a plain forward pass, labels in context."""

import math

import pytest
from support.tiny import mcqa

from bimedix_utils import models
from bimedix_utils.errors import AuditError
from bimedix_utils.evaluation import scoring

pytestmark = pytest.mark.unit


@pytest.fixture
def loaded(base):
    return models.load_base(base)


@pytest.mark.parametrize("protocol", ["label", "option_text"])
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_scores_equal_one_plain_forward_pass_for_each_option(loaded, protocol, lang):
    import torch

    model, tokenizer = loaded
    models.for_inference(model)
    rows = [mcqa(lang), mcqa(lang, id="q2", question="A longer question about aspirin and its class, is it not?", answer_index=2)]
    for sample, row in zip(scoring.score(model, tokenizer, rows, protocol, budget=100), rows, strict=True):
        assert sample.id == row.id and sample.key == row.answer_index
        for option, found in zip(scoring.continuations(row, protocol), sample.loglikelihoods, strict=True):
            before, after = scoring.split_tokens(tokenizer, scoring.prompt_text(row, protocol, tokenizer), option)
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
            plain = sum(logits[len(before) - 1 + i, token].item() for i, token in enumerate(after))
            assert math.isclose(found, plain, abs_tol=1e-4)


def test_a_row_too_long_for_the_model_loses_its_beginning_and_says_so(loaded):
    model, tokenizer = loaded
    models.for_inference(model)
    (sample,) = scoring.score(model, tokenizer, [mcqa(question="word " * 400)], "label")
    assert sample.cut > 0 and len(sample.loglikelihoods) == 4


def test_a_label_that_changes_the_prompts_tokens_is_refused():
    class Merging:
        def __call__(self, text, add_special_tokens):
            return type("Coded", (), {"input_ids": [len(text)]})

    with pytest.raises(AuditError, match="merges"):
        scoring.split_tokens(Merging(), "the answer is", " A")
