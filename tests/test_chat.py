"""The chat without a browser: emergency words, one conversation and its failures, local and
endpoint models, the notebook's box.
"""

import csv
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from support import streaming
from support.tiny import adapted

from bimedix_utils import chat
from bimedix_utils.chat import __main__ as command
from bimedix_utils.chat import conversation, loading, local, page, remote, render
from bimedix_utils.chat.conversation import Conversation, Ending, Message
from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.core.language import language_codes, language_data, language_of
from bimedix_utils.sources import knowledge
from bimedix_utils.teacher.permission import require_local_or_allowed
from bimedix_utils.training import models

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
with open(DATA / "red_flags" / "messages.csv", encoding="utf-8") as handle:
    MESSAGES = list(csv.DictReader(handle))
WORDINGS = yaml.safe_load(
    (Path(__file__).parent / "support" / "wordings.yaml").read_text(encoding="utf-8")
)


def warned(part: str, label: str) -> tuple[int, int]:
    """(warned, all) of the labelled messages."""
    texts = [row["text"] for row in MESSAGES if (row["part"], row["label"]) == (part, label)]
    return sum(chat.red_flag(text) is not None for text in texts), len(texts)


# Emergencies


def test_the_labelled_messages_are_what_their_card_says():
    card = (DATA / "red_flags" / "README.md").read_text(encoding="utf-8")
    parts = {
        value: sum(value in (row["part"], row["lang"]) for row in MESSAGES)
        for value in ("dev", "held_out", "en", "ar")
    }
    assert f"{len(MESSAGES)} short messages, {parts['en']} English and {parts['ar']} Arabic" in card
    assert (
        f"`dev`, {parts['dev']} messages" in card
        and f"`held_out`, {parts['held_out']} messages" in card
    )
    assert len({row["text"] for row in MESSAGES}) == len(MESSAGES)
    assert {language_of(row["text"]) == row["lang"] for row in MESSAGES} == {True}


@pytest.mark.parametrize(
    "row", [row for row in MESSAGES if row["part"] == "dev"], ids=lambda row: row["text"][:30]
)
def test_the_messages_the_patterns_were_developed_on_come_out_as_labelled(row):
    """But for a negation, which is warned about on purpose."""
    found = chat.red_flag_kinds(row["text"])
    if row["label"] == "emergency":
        assert row["kind"] in found
    else:
        assert bool(found) == (row["kind"] == "negated")


def test_messages_the_lists_have_not_seen():
    """Measured when the lists were written: 46 of 47 found, 5 of 31 false alarms. A change of the
    lists must not do worse.
    """
    found, emergencies = warned("held_out", "emergency")
    alarms, benign = warned("held_out", "benign")
    assert (emergencies, benign) == (47, 31) and found >= 46 and alarms <= 5


@pytest.mark.parametrize("text", WORDINGS["spellings"])
def test_other_spellings_vowel_marks_and_hidden_signs(text):
    assert chat.red_flag(text)


@pytest.mark.parametrize("text", WORDINGS["second_reader"])
def test_what_a_second_reader_found_missing(text):
    assert chat.red_flag(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind, texts in WORDINGS["third_reader"].items() for text in texts],
)
def test_what_a_third_reader_found_missing(kind, text):
    assert kind in chat.red_flag_kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "taking a battery of tests",
        "What treats an asthma attack?",
        "ما علاج الربو؟",
        "How many vertebrae are there?",
    ],
)
def test_their_neighbours_are_not_warned_about(text):
    assert not chat.red_flag(text)


@pytest.mark.parametrize(("text", "lang"), [("I feel suicidal", "en"), ("أريد الانتحار", "ar")])
def test_the_warning_speaks_the_users_language_and_suicide_gets_a_word_more(text, lang):
    section = language_data(lang)["red_flags"]
    assert chat.red_flag(text) == f"{section['emergency']} {section['support']}"
    assert language_of(chat.red_flag(text)) == lang


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind, texts in WORDINGS["persian"].items() for text in texts],
)
def test_another_language_with_a_file_is_warned_in_its_own_words(kind, text):
    assert kind in chat.red_flag_kinds(text) and language_of(text) == "fa"
    assert language_data("fa")["red_flags"]["emergency"] in chat.red_flag(text)


@pytest.mark.parametrize("text", ["انسولین چیست؟", "درمان آسم چیست؟", "بیهوشی عمومی چه خطری دارد؟"])
def test_ordinary_questions_in_it_are_not(text):
    assert not chat.red_flag(text)


def test_every_language_with_a_file_has_all_the_chats_words():
    for lang in language_codes():
        conversation_ = Conversation()
        text = {"en": "What is insulin?", "ar": "ما الأنسولين؟", "fa": "انسولین چیست؟"}[lang]
        *_, shown = conversation_.say(Says(KitError("x")), text)
        assert shown[-1].text == conversation.chat_sentence("failed", lang, why="x")
        html = render.message_html(Message("note", conversation.chat_sentence("stopped", lang)))
        assert f'dir="{language_data(lang)["direction"]}" lang="{lang}"' in html


def test_the_kits_own_study_questions_are_rarely_warned_about():
    relations = knowledge.load_relations(DATA / "knowledge")
    kinds = [(kind, lang) for kind in ("qa", "mcqa") for lang in ("en", "ar")]
    questions = {
        row.question
        for kind, lang in kinds
        for row in knowledge.knowledge_rows(relations, kind, lang)
    }
    alarms = [text for text in questions if chat.red_flag(text)]
    assert len(questions) > 1000 and len(alarms) <= len(questions) / 100, alarms[:5]


@pytest.mark.parametrize("text", ["لا استطيع ", "can not ", "have ", "الم ", "(", "a" * 50 + " "])
def test_a_long_message_is_searched_at_once(text):
    begun = time.monotonic()
    chat.red_flag_kinds((text * 20_000)[:20_000])
    assert time.monotonic() - begun < 2


# One conversation


class Says:
    """A model that says these pieces; an error among them is raised."""

    def __init__(self, *pieces, **ending):
        self.pieces, self.ending, self.asked = pieces, ending, []

    def stream(self, history, stop, ending):
        self.asked.append(history)
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        for name, value in self.ending.items():
            setattr(ending, name, value)


def said(talk, model, text):
    """The kinds of what the last picture shows."""
    *_, last = talk.say(model, text)
    return [one.who for one in last]


@pytest.mark.parametrize("text", ["I have chest pain", "ألم في الصدر"])
def test_the_emergency_is_shown_before_the_model_is_asked(text):
    model = Says("model words")
    pictures = Conversation().say(model, text)
    assert [one.who for one in next(pictures)] == ["user", "emergency"] and model.asked == []
    *_, last = pictures
    assert [one.who for one in last if one.who != "note"] == [
        "user",
        "emergency",
        "model",
        "notice",
    ]
    assert language_of(last[1].text) == language_of(text) == language_of(last[-1].text)


def test_the_answer_grows_and_ends_with_the_notice_in_the_users_language():
    talk = Conversation()
    pictures = list(talk.say(Says("Ins", "ulin ", "", "is a hormone"), "What is insulin?"))
    assert [p[-1].text for p in pictures[1:-1]] == ["Ins", "Insulin", "Insulin is a hormone"]
    assert pictures[-1][-1] == Message("notice", conversation.research_notice("en"))
    assert talk.history == [
        {"role": "user", "content": "What is insulin?"},
        {"role": "assistant", "content": "Insulin is a hormone"},
    ]
    *_, last = talk.say(model := Says("هرمون"), "وما الجلوكاجون؟")
    assert (
        last[-1] == Message("notice", conversation.research_notice("ar"))
        and len(model.asked[0]) == 3
    )


def test_a_message_of_20000_characters_is_refused_with_a_sentence_and_still_warned_about():
    talk, model = Conversation(), Says("x")
    *_, last = talk.say(model, "word " * 4000 + "I have chest pain")
    assert (
        [one.who for one in last] == ["user", "emergency", "problem"]
        and model.asked == []
        and talk.history == []
    )
    assert (
        "20,017 characters" in last[-1].text
        and "8,000" in last[-1].text
        and len(last[0].text) < 8_010
    )
    assert said(talk, model, "short")[-2:] == ["model", "notice"]
    *_, last = talk.say(model, "كلمة " * 4000)
    assert language_of(last[-1].text) == "ar"


def test_a_failure_is_a_sentence_and_the_next_message_is_answered():
    talk = Conversation()
    assert said(talk, Says("half an ", KitError("the server died")), "one") == [
        "user",
        "model",
        "problem",
    ]
    assert talk.history == [] and talk.shown[-1].text == "No answer: the server died"
    assert (
        said(talk, Says("whole"), "two")[3:] == ["user", "model", "notice"]
        and len(talk.history) == 2
    )


def test_stop_keeps_what_was_said_and_the_conversation_goes_on():
    talk = Conversation()
    model = Says(*(f"word{i} " for i in range(100)))
    for shown in talk.say(model, "go"):
        if shown[-1].text.endswith("word3"):
            talk.stop.set()
    assert [one.who for one in talk.shown] == ["user", "model", "note", "notice"]
    assert (
        talk.history[-1]["content"] == "word0 word1 word2 word3"
        and talk.shown[2].text == "Stopped."
    )
    assert said(talk, Says("more"), "again")[-2:] == ["model", "notice"]


def test_clear_forgets_and_what_still_arrives_is_lost():
    talk = Conversation()
    pictures = talk.say(Says("a ", "b ", "c "), "go")
    next(pictures), next(pictures)
    talk.clear()
    assert list(pictures) == [] and talk.shown == [] and talk.history == [] and not talk.busy
    assert said(talk, Says("x"), "new") == ["user", "model", "notice"]


def test_a_second_message_while_one_is_answered_is_left_alone():
    talk = Conversation()
    pictures = talk.say(Says("a ", "b "), "one")
    next(pictures)
    assert list(talk.say(Says("x"), "two")) == [] and list(talk.say(Says("x"), "  ")) == []
    list(pictures)
    assert len(talk.history) == 2


@pytest.mark.parametrize(
    ("model", "note"),
    [
        (Says("words", cut=True), "cut at its longest length"),
        (Says("words", left_out=4), "oldest 4 turns"),
        (Says("", "  "), "empty answer"),
        (Says("الأنسولين هرمون يخفض السكر"), "another language"),
    ],
)
def test_what_a_reader_should_know_is_noted(model, note):
    talk = Conversation()
    *_, last = talk.say(model, "What is insulin?")
    assert [one.text for one in last if one.who == "note" and note in one.text]


def test_a_letter_that_was_cut_in_two_is_not_shown():
    talk = Conversation()
    list(talk.say(Says("أسبرين\ufffd", cut=True), "ما الدواء؟"))
    assert talk.shown[1] == Message("model", "أسبرين") and talk.history[-1]["content"] == "أسبرين"


def test_a_drug_name_in_latin_letters_is_no_other_language():
    assert said(
        Conversation(), Says("propranolol ينتمي إلى حاصرات بيتا"), "ما فئة بروبرانولول؟"
    ) == ["user", "model", "notice"]
    assert said(Conversation(), Says("beta blockers"), "ما فئة بروبرانولول؟") == [
        "user",
        "model",
        "note",
        "notice",
    ]


def test_nothing_is_kept_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(Conversation().say(Says("x"), "secret"))
    assert list(tmp_path.iterdir()) == []
    list(Conversation(transcript="kept.jsonl", name="a").say(Says("هرمون"), "I have chest pain"))
    lines = [
        json.loads(line)
        for line in (tmp_path / "kept.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["who"] for line in lines][:3] == ["user", "emergency", "model"] and {
        line["conversation"] for line in lines
    } == {"a"}
    assert "هرمون" in (tmp_path / "kept.jsonl").read_text(encoding="utf-8")


def test_the_oldest_turns_are_left_out_in_pairs():
    turns = [{"role": ("user", "assistant")[i % 2], "content": "x" * 10} for i in range(7)]

    def length(part):
        return sum(len(turn["content"]) for turn in part)

    assert len(conversation.turns_that_fit(turns, length, 70)) == 7
    assert (
        conversation.turns_that_fit(turns, length, 69) == turns[2:]
        and conversation.turns_that_fit(turns, length, 10) == turns[6:]
    )
    with pytest.raises(InputError, match="10 tokens, the model reads at most 9"):
        conversation.turns_that_fit(turns, length, 9)


def test_turns_beyond_the_most_are_left_out_and_the_chat_says_so(monkeypatch):
    monkeypatch.setattr(conversation, "MAX_EXCHANGES", 2)
    talk, model = Conversation(), Says("an answer")
    for text in ("one", "two"):
        assert said(talk, model, text)[-2:] == ["model", "notice"]
    list(talk.say(model, "three"))
    *_, shown = talk.say(model, "four")
    assert [one.text for one in shown if one.who == "note"] == [
        conversation.chat_sentence("forgotten", "en", n=2)
    ]


def test_a_transcript_that_cannot_be_written_is_a_sentence_and_the_answer_stays():
    talk = Conversation(transcript="/dev/full")
    *_, shown = talk.say(Says("an answer"), "What is insulin?")
    assert [one.who for one in shown] == [
        "user",
        "model",
        "notice",
        "problem",
    ] and "No space left" in shown[-1].text
    assert not talk.busy


def test_an_error_nobody_foresaw_is_a_sentence_and_the_next_message_is_answered(capsys):
    talk = Conversation()
    assert (
        said(talk, Says(7), "What is insulin?") == ["user", "problem"]
        and talk.shown[-1].text.endswith("TypeError")
        and not talk.busy
    )
    assert "Traceback" in capsys.readouterr().err
    assert said(talk, Says("an answer"), "What is insulin?")[-2:] == ["model", "notice"]


# As HTML


def test_messages_are_escaped_and_have_their_own_direction():
    page = render.conversation_html(
        [
            Message("user", "<script>alert(1)</script>"),
            Message("model", "الجرعة المعتادة للبالغين (500 mg) ![x](//h/x.png)"),
            Message("emergency", "Now"),
        ]
    )
    assert "<script>" not in page and "&lt;script&gt;" in page and "<img" not in page
    assert (
        'bimedix-user" dir="ltr" lang="en"' in page
        and 'bimedix-model" dir="rtl" lang="ar"' in page
        and 'role="alert"' in page
    )
    assert "\u2066500 mg\u2069" in page
    assert (
        render.conversation_text([Message("user", "a"), Message("model", "b")])
        == "[user] a\n[model] b"
    )


# A model on this machine


@pytest.fixture(scope="module")
def loaded(base):
    model, tokenizer = models.load_base(base)
    return models.for_inference(model), tokenizer


ASK = [{"role": "user", "content": "What is aspirin?"}]


def streamed(model, history=ASK, stop=None, ending=None):
    return [
        piece
        for piece in model.stream(history, stop or threading.Event(), ending or Ending())
        if piece
    ]


def reply(model, tokenizer, history, tokens):
    return "".join(streamed(local.StreamingModel(model, tokenizer, tokens), history)).strip()


def plain_greedy(model, tokenizer, tokens):
    import torch

    text = tokenizer.apply_chat_template(ASK, tokenize=False, add_generation_prompt=True)
    coded = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(
            **coded, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    return tokenizer.decode(out[0, coded.input_ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_streamed_answer_is_the_greedy_answer_in_pieces(loaded):
    ending = Ending()
    words = streamed(local.StreamingModel(*loaded, 150), ending=ending)
    assert len(words) > 2 and "".join(words).strip() == reply(*loaded, ASK, 150) == plain_greedy(
        *loaded, 150
    )
    assert ending.left_out == 0


def test_turns_that_do_not_alternate_and_messages_that_do_not_fit_are_refused(loaded):
    with pytest.raises(InputError, match="alternate"):
        reply(*loaded, ASK * 2, 3)
    with pytest.raises(InputError, match="the model reads at most 226"):
        reply(*loaded, [{"role": "user", "content": "word " * 1000}], 30)
    ending, history = (
        Ending(),
        [*(ASK + [{"role": "assistant", "content": "word " * 40}]) * 3, *ASK],
    )
    assert streamed(
        local.StreamingModel(*loaded, 8), history, ending=ending
    ) and ending.left_out in (2, 4, 6)


class Counting:
    """A model that counts its steps."""

    def __init__(self, model):
        self.model, self.steps, self.config, self.device = model, 0, model.config, model.device

    def generate(self, stopping_criteria, **settings):
        from transformers import StoppingCriteria

        class Counter(StoppingCriteria):
            def __call__(inner, input_ids, scores, **_):
                self.steps += 1
                time.sleep(0.01)
                return input_ids.new_zeros(input_ids.shape[0], dtype=bool)

        return self.model.generate(
            stopping_criteria=[*stopping_criteria, Counter()], eos_token_id=None, **settings
        )


def test_stop_ends_the_generation_itself(loaded):
    model, tokenizer = loaded
    counting, stop = Counting(model), threading.Event()
    begun = []
    for piece in local.StreamingModel(counting, tokenizer, 200).stream(ASK, stop, Ending()):
        begun += [piece] if piece else []
        if begun:
            stop.set()
    made = counting.steps
    assert 0 < made < 100
    time.sleep(0.2)
    assert counting.steps == made, "it went on behind the user's back"


def test_a_reader_who_leaves_stops_the_generation(loaded):
    model, tokenizer = loaded
    counting = Counting(model)
    reading = local.StreamingModel(counting, tokenizer, 200).stream(
        ASK, threading.Event(), Ending()
    )
    next(piece for piece in reading if piece)
    reading.close()
    made = counting.steps
    time.sleep(0.2)
    assert made == counting.steps < 100


def test_two_users_at_once_both_get_their_answer(loaded):
    model = local.StreamingModel(*loaded, 20)
    alone = {
        text: reply(*loaded, [{"role": "user", "content": text}], 20)
        for text in ("What is aspirin?", "ما الأسبرين؟")
    }
    found = {}

    def ask(text):
        found[text] = "".join(
            model.stream([{"role": "user", "content": text}], threading.Event(), Ending())
        ).strip()

    threads = [threading.Thread(target=ask, args=(text,)) for text in alone]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert found == alone


def test_a_model_that_fails_is_a_sentence_and_lets_the_next_one_in(loaded):
    model, tokenizer = loaded
    broken = local.StreamingModel(model, tokenizer, 5)
    generate, model.generate = (
        model.generate,
        lambda **_: (_ for _ in ()).throw(RuntimeError("out of memory\nlong trace")),
    )
    try:
        with pytest.raises(KitError, match=r"the model failed \(RuntimeError: out of memory\)"):
            streamed(broken)
    finally:
        model.generate = generate
    assert streamed(broken)


# Which model


def test_a_whole_model_an_adapter_and_full_precision_can_be_opened(base, tmp_path):
    model, _ = adapted(base)
    models.save_adapter(model, tmp_path / "adapter")
    text = reply(
        loading.load_chat_model(str(base), max_new_tokens=5).model,
        loading.load_chat_model(str(base), max_new_tokens=5).tokenizer,
        ASK,
        5,
    )
    assert (
        "".join(
            streamed(
                loading.load_chat_model(str(tmp_path / "adapter"), str(base), max_new_tokens=5)
            )
        ).strip()
        == text
    )
    full = loading.load_chat_model(str(base), precision="float32", max_new_tokens=5)
    assert streamed(full) and "4bit" not in str(type(full.model.model.layers[0].self_attn.q_proj))
    with pytest.raises(KitError, match="name it with BASE="):
        loading.load_chat_model(str(tmp_path / "adapter"))
    os.symlink(base, tmp_path / base.name)
    assert loading.adapter_base(tmp_path / "adapter") == tmp_path / base.name
    with pytest.raises(KitError, match="leaves no room"):
        loading.load_chat_model(str(base), max_new_tokens=250)


def test_what_cannot_be_opened_says_what_to_do(runs_dir):
    for arguments, message in (
        ({"name": "/nowhere/at/all"}, "neither a folder nor a hub id"),
        ({}, "make run MODE=smoke"),
        ({"name": "x/y", "url": "http://x"}, "give one of them"),
        ({"name": str(DATA), "precision": "3bit"}, "one of nf4, float32, bfloat16"),
        ({"url": "nowhere"}, "give the base URL"),
        ({"url": "http://example.org/v1"}, "example.org is another machine: set ALLOW_REMOTE"),
    ):
        with pytest.raises(KitError, match=message):
            chat.open_model(**arguments)


def test_the_tuned_model_of_a_run_is_found(runs_dir, base):
    stage = runs_dir / "smoke-r1" / "06_finetune_qlora"
    model, _ = adapted(base)
    models.save_adapter(model, stage / "adapter")
    (stage / "base.json").write_text(json.dumps({"model": "tiny", "folder": str(base)}))
    (stage / "run.json").write_text("{}")
    assert streamed(chat.open_model(tuned=("smoke", "r1"), max_new_tokens=5))


def test_a_message_to_a_loading_model_is_answered_when_it_is_ready():
    ready = threading.Event()
    model = loading.LoadingModel(lambda: ready.wait(10) and Says("here")).begin()
    assert model.state == "loading"
    pictures = Conversation().say(model, "What is insulin?")
    next(pictures)
    assert next(pictures)[-1] == Message("note", conversation.chat_sentence("loading", "en"))
    ready.set()
    *_, last = pictures
    assert [one.who for one in last] == ["user", "model", "notice"] and model.state == "ready"


@pytest.mark.parametrize("error", [KitError("no such model"), MemoryError("little")])
def test_a_model_that_cannot_be_loaded_is_a_sentence(error):
    def load():
        raise error

    model = loading.LoadingModel(load).begin()
    model.done.wait(5)
    assert (
        said(Conversation(), model, "Hello") == ["user", "problem"]
        and model.state == "failed"
        and str(error) in model.problem
    )


# A model behind an address


@pytest.fixture(scope="module")
def stub():
    with streaming.running(0.01) as server:
        yield server


def asked(stub, text, **settings):
    model = remote.StreamingEndpoint(stub.url, **settings)
    ending = Ending()
    words = streamed(model, [{"role": "user", "content": text}], ending=ending)
    return "".join(words).strip(), ending, words


def test_an_endpoints_answer_arrives_word_by_word(stub):
    text, ending, words = asked(stub, "What is insulin?")
    assert text == streaming.ENGLISH and len(words) > 5 and not ending.cut
    assert asked(stub, "ما الأنسولين؟")[0] == streaming.ARABIC
    assert asked(stub, "long")[1].cut and asked(stub, "whole")[0] == streaming.ENGLISH


def test_what_is_sent_alternates_and_asks_for_the_users_language(stub):
    asked(stub, "What is insulin?", model="mine", max_new_tokens=7)
    body = stub.seen()["bodies"][-1]
    assert [turn["role"] for turn in body["messages"]] == ["user"] and body["messages"][0][
        "content"
    ].startswith(remote.answer_instruction())
    assert (body["model"], body["max_tokens"], body["stream"]) == ("mine", 7, True)
    asked(stub, "What is insulin?", instruction="")
    assert stub.seen()["bodies"][-1]["messages"] == [
        {"role": "user", "content": "What is insulin?"}
    ]
    assert stub.seen()["bodies"][-1]["model"] == "stub-model"


def test_a_wrong_key_is_told_before_a_model_is_missed(stub, monkeypatch):
    monkeypatch.setenv("TEACHER_API_KEY", "wrong")
    with pytest.raises(KitError, match="does not accept the key"):
        asked(stub, "What is insulin?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status 401", "set the variable TEACHER_API_KEY"),
        ("status 400", "HTTP 400: the reason"),
        ("status 500", "HTTP 500$"),
        ("status 503", "is busy"),
        ("redirect", "HTTP 307"),
        ("cut", "does not answer|broke off"),
        ("end", "broke off in the middle"),
        ("junk", "no chat completion"),
        ("error", "failed in the middle"),
        ("silent", "silent for too long"),
    ],
)
def test_every_failure_of_an_endpoint_is_a_sentence(stub, text, message):
    with pytest.raises(KitError, match=message):
        asked(stub, text, patience=0.5)


def test_stop_closes_the_connection(stub):
    before, stop = stub.seen()["left"], threading.Event()
    model = remote.StreamingEndpoint(stub.url)
    for piece in model.stream([{"role": "user", "content": "slow 100"}], stop, Ending()):
        if piece:
            stop.set()
    deadline = time.monotonic() + 5
    while (seen := stub.seen())["left"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert seen["left"] == before + 1


def test_the_key_is_sent_and_stands_in_no_message(stub, monkeypatch):
    monkeypatch.setenv("TEACHER_API_KEY", "k-secret-123")
    asked(stub, "What is insulin?")
    assert stub.seen()["keys"][-1] == "Bearer k-secret-123"
    with pytest.raises(KitError, match="unencrypted"):
        require_local_or_allowed("http://example.org/v1", allow_remote=True)
    require_local_or_allowed("https://example.org/v1", allow_remote=True)
    for text in ("status 400", "status 500", "cut"):
        with pytest.raises(KitError) as caught:
            asked(stub, text)
        assert "k-secret" not in str(caught.value)


def test_a_killed_server_is_a_sentence_and_the_chat_goes_on_when_it_is_back():
    with streaming.running() as server:
        talk, model = Conversation(), remote.StreamingEndpoint(server.url)
        pictures = talk.say(model, "slow 50")
        next(shown for shown in pictures if shown[-1].who == "model")
        server.kill()
        *_, last = pictures
        assert [one.who for one in last] == [
            "user",
            "model",
            "problem",
        ] and "When it is back" in last[-1].text
        assert said(talk, model, "hello")[-1] == "problem" and talk.history == []
        server.start()
        assert said(talk, model, "What is insulin?")[-2:] == ["model", "notice"]


# The page, as far as it goes without Gradio


def test_pages_have_conversations_of_their_own_and_closed_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr(page, "MAX_CONVERSATIONS", 3)
    talks = page.ChatSessions()
    first = talks.of("a")
    assert (
        talks.of("a") is first and talks.of("b") is not first and first.name != talks.of("b").name
    )
    list(first.say(Says("x"), "secret"))
    answering = first.stop = threading.Event()
    talks.forget("a")
    assert talks.of("a").shown == [] and first.shown == [] and answering.is_set()
    for session in "cde":
        talks.of(session)
    assert list(talks._conversations) == ["c", "d", "e"]


def test_the_last_picture_is_always_drawn_and_none_after_clear():
    talk = Conversation()
    assert (
        "word9" in list(page.html_updates(talk, Says(*(f"word{i} " for i in range(10))), "go"))[-1]
    )
    drawing = page.html_updates(talk, Says("a ", "b ", "c "), "go")
    next(drawing), next(drawing)
    talk.clear()
    assert list(drawing) == []


def test_the_page_says_what_the_model_does_and_what_is_kept():
    waiting = loading.LoadingModel(lambda: Says())
    assert page.status_html(Says()) == ""
    assert 'dir="rtl"' in page.status_html(waiting) and render.language_data("en")["chat"]["page"][
        "loading"
    ] in page.status_html(waiting)
    waiting.problem = "no <such> model"
    waiting.done.set()
    assert "no &lt;such&gt; model" in page.status_html(waiting)
    assert "kept in said.jsonl" in page.status_html(
        Says(), "/somewhere/said.jsonl"
    ) and "/somewhere" not in page.status_html(Says(), "/somewhere/said.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "https://example.org/v1"], "another machine: set ALLOW_REMOTE"),
        (["--url", "ftp://127.0.0.1"], "give the base URL"),
        (["--url", "http://127.0.0.1:9/v1"], "make setup EXTRAS=chat"),
        (
            ["--url", "http://127.0.0.1:9/v1", "--transcript", "/nowhere/at/all"],
            "the transcript cannot be written",
        ),
    ],
)
def test_the_command_ends_with_a_sentence(monkeypatch, capsys, arguments, message):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["chat", *arguments])
    assert command.main() == 1 and message in capsys.readouterr().err


# In a notebook


def test_the_box_streams_stops_and_clears(stub):
    box = chat.chat_box(remote.StreamingEndpoint(stub.url))
    fixed, conversation_, field, buttons = box.children
    send, stop, clear = buttons.children
    assert conversation.research_notice("ar") in fixed.value and stop.disabled
    values = []
    conversation_.observe(lambda change: values.append(change["new"]), "value")
    field.value = "slow 60"
    send.click()
    assert field.value == "" and send.disabled and not stop.disabled
    deadline = time.monotonic() + 10
    while not any("word2" in value for value in values) and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.click()
    box.worker.join(10)
    assert (
        not box.worker.is_alive()
        and "Stopped." in conversation_.value
        and "word59" not in conversation_.value
    )
    assert len(values) > 3 and not send.disabled and stop.disabled
    clear.click()
    assert "word0" not in conversation_.value
    field.value = "<b>ما الأنسولين؟</b>"
    send.click()
    box.worker.join(10)
    assert (
        "<b>ما" not in conversation_.value
        and "&lt;" in conversation_.value
        and 'bimedix-model" dir="rtl"' in conversation_.value
    )
