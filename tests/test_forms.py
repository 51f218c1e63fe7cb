"""How items are asked, how written answers are read, how tasks are named: all without a model."""

import pytest
from support.tiny import mcqa

from bimedix_utils.core.errors import AuditError, InputError
from bimedix_utils.core.language import language_data
from bimedix_utils.core.templates import option_letters
from bimedix_utils.evaluation import harness, position_bias
from bimedix_utils.evaluation.extraction import extract_option
from bimedix_utils.evaluation.prompt_format import PromptFormat, render_prompt, task_version
from bimedix_utils.evaluation.scoring import Sample
from bimedix_utils.sources import benchmarks

pytestmark = pytest.mark.unit


class Template:
    """A tokenizer with a chat template of the two families: ChatML, and Mixtral's brackets."""

    bos_token = None

    def __init__(self, family):
        self.chat_template = self.family = family

    def apply_chat_template(self, turns, tokenize):
        forms = {
            "chatml": "<|{role}|>\n{content}<|end|>\n",
            "lossy": "{role}",
            "mixtral": "{content}",
        }
        if self.family == "mixtral":
            return "<s>" + "".join(
                f"[INST] {t['content']} [/INST]" if t["role"] == "user" else f" {t['content']}</s>"
                for t in turns
            )
        return "".join(forms[self.family].format(**turn) for turn in turns)


def test_the_reply_begins_where_training_puts_it():
    """A space after a ChatML header is a token that training never saw."""
    label, text = PromptFormat("label"), PromptFormat("option_text")
    chatml, mixtral = Template("chatml"), Template("mixtral")
    assert render_prompt(mcqa(), label, chatml).prompt.endswith(
        "<|assistant|>\nThe correct answer is"
    )
    assert render_prompt(mcqa(), label, mixtral).prompt.endswith("[/INST] The correct answer is")
    assert (
        render_prompt(mcqa(), text, mixtral).prompt.endswith("[/INST]")
        and render_prompt(mcqa(), text, mixtral).space == " "
    )
    assert (
        render_prompt(mcqa(), text, chatml).prompt.endswith("<|assistant|>")
        and render_prompt(mcqa(), text, chatml).space == "\n"
    )
    assert render_prompt(mcqa(), label, chatml).continuations == ("A", "B", "C", "D")
    assert render_prompt(mcqa(), PromptFormat("generation"), chatml).prompt.endswith(
        "<|assistant|>\n"
    )
    assert render_prompt(mcqa(), PromptFormat("generation"), mixtral).prompt.endswith("[/INST]")


def test_without_a_usable_chat_template_a_chat_format_is_refused():
    for tokenizer in (None, Template(None), Template("lossy")):
        with pytest.raises(AuditError, match="CHAT = no"):
            render_prompt(mcqa(), PromptFormat("label"), tokenizer)
    assert render_prompt(mcqa(), PromptFormat("label", chat=False)).prompt.endswith(
        "The correct answer is"
    )


@pytest.mark.parametrize(
    ("letters", "lang", "wanted"),
    [("own", "ar", "أبجد"), ("latin", "ar", "ABCD"), ("arabic", "en", "أبجد")],
)
def test_the_label_scheme_is_shown_and_scored(letters, lang, wanted):
    shown = render_prompt(mcqa(lang), PromptFormat("label", letters, chat=False))
    assert "".join(shown.continuations) == wanted and all(
        f"{letter}. " in shown.prompt for letter in wanted
    )


def test_few_shot_examples_stand_before_the_item_in_both_layouts():
    example = mcqa(id="x", question="Example?", answer_index=1)
    for protocol, wanted in (
        ("label", "The correct answer is B."),
        ("option_text", "statins"),
        ("generation", "The correct answer is B."),
    ):
        for form in (
            PromptFormat(protocol, chat=False, examples=(example,)),
            PromptFormat(protocol, examples=(example,)),
        ):
            prompt = render_prompt(mcqa(), form, Template("mixtral")).prompt
            assert (
                prompt.index("Example?") < prompt.index(wanted) < prompt.index("Class of aspirin?")
            )


def test_whatever_moves_a_score_changes_the_version():
    task = benchmarks.Task("medqa", "en", (mcqa(),))
    forms = [
        PromptFormat("label"),
        PromptFormat("option_text"),
        PromptFormat("generation"),
        PromptFormat("label", "arabic"),
        PromptFormat("label", chat=False),
    ]
    forms.append(PromptFormat("label", examples=(mcqa(id="x"),)))
    versions = [task_version(task, form) for form in forms] + [
        task_version(benchmarks.Task("medqa", "ar", (mcqa("ar"),)), forms[0])
    ]
    assert len(set(versions)) == len(versions) and versions[0] == task_version(
        benchmarks.Task("medqa", "en", ()), forms[0]
    )


def test_a_reworded_prompt_changes_the_version(monkeypatch):
    task = benchmarks.Task("medqa", "en", ())
    before = task_version(task, PromptFormat("label"))
    monkeypatch.setitem(language_data("en")["layout"], "options", "Choices")
    assert task_version(task, PromptFormat("label")) != before


SAID = [
    ("The correct answer is B.", 1),
    ("the correct answer is (c) because ...", 2),
    ("**Answer: D**", 3),
    ("B", 1),
    ("b) statins", 1),
    ("(A)", 0),
    ("الإجابة الصحيحة هي ج.", 2),
    ("الإجابة: (د)", 3),
    ("الجواب هو ب", 1),
    ("أ. الساليسيلات", 0),
    ("I would choose option C here", 2),
    ("The class is opioids.", 2),
    ("It belongs to the salicylates", 0),
    ("The correct answer is A.\nQuestion: next? The correct answer is C.", 0),
    ("The answer is a beta blocker", None),
    ("A patient with pain takes statins or opioids", None),
    ("Option A and option B are both wrong", None),
    ("The correct answer is H.", None),
    ("The correct answer is A or B.", None),
    ("The answer is A, B and C", None),
    ("الإجابة الصحيحة هي أ أو ب.", None),
    ("الإجابة هي أ وب", None),
    ("The correct answer is A and here is why", 0),
    ("The answer is A, I think", 0),
    ("الإجابة هي أ وهي الساليسيلات", 0),
    ("I do not know.", None),
    ("", None),
    ("لا أعرف", None),
]


@pytest.mark.parametrize(("text", "wanted"), SAID)
def test_written_answers_are_read_in_both_languages(text, wanted):
    assert extract_option(text, mcqa(), option_letters("ar" if "أ" in text else "en")) == wanted


def test_yes_no_maybe_and_options_within_options():
    answers = mcqa("ar", options=("نعم", "لا", "ربما"))
    assert [
        extract_option(text, answers, option_letters("ar"))
        for text in ("نَعَم، هذا صحيح", "لا", "ربما.", "نعم ولا")
    ] == [0, 1, 2, None]
    nested = mcqa(options=("vitamin B", "vitamin B12", "iron", "folate"))
    assert extract_option("Lack of vitamin B12.", nested, "ABCD") == 1
    assert extract_option("Vitamin B.", nested, "ABCD") == 0


def test_permuting_options_keeps_the_key_on_its_option():
    row = mcqa(answer_index=2)
    for by in range(4):
        shifted = position_bias.permuted(row, by)
        assert shifted.options[shifted.answer_index] == row.options[2] and shifted.id == row.id
    assert position_bias.permuted(row, 4) == row


def test_a_model_that_always_says_a_is_seen_through():
    def says_a(rows):
        return [
            Sample(
                r.id, "en", r.content_hash(), r.answer_index, (0.0, -1.0, -1.0, -1.0), (1, 1, 1, 1)
            )
            for r in rows
        ]

    rows = [mcqa(id=f"q{i}", answer_index=i % 4) for i in range(40)]
    assert position_bias.accuracy_by_position(says_a(rows)) == [
        (0, 10, 10, 40),
        (1, 10, 0, 0),
        (2, 10, 0, 0),
        (3, 10, 0, 0),
    ]
    found = position_bias.permutation_consistency(
        [says_a([position_bias.permuted(r, by) for r in rows]) for by in range(4)]
    )
    assert found == position_bias.Consistency(40, (10, 10, 10, 10), 0)


def test_a_model_that_knows_is_consistent():
    def knows(rows):
        liked = [tuple(float(option == "statins") for option in row.options) for row in rows]
        return [
            Sample(r.id, "en", r.content_hash(), r.answer_index, values, (1,) * 4)
            for r, values in zip(rows, liked, strict=True)
        ]

    rows = [mcqa(id=f"q{i}", answer_index=1) for i in range(5)]
    assert position_bias.permutation_consistency(
        [knows([position_bias.permuted(r, by) for r in rows]) for by in range(4)]
    ) == position_bias.Consistency(5, (5, 5, 5, 5), 5)
    with pytest.raises(ValueError, match="same items"):
        position_bias.permutation_consistency([knows(rows), knows(rows[1:])])


def test_the_harness_cannot_be_given_what_it_reads_by_other_rules(tmp_path):
    with pytest.raises(InputError, match="generation"):
        harness.write_harness_tasks(tmp_path, [], PromptFormat("generation"))
