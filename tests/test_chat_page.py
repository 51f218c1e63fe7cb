"""The chat page in a real headless Chromium. Any request to a host that is not this machine fails
the test that made it.

Needs `make setup EXTRAS=chat,browser` and Debian's chromium; without them the tests skip with the
reason, and fail where CI is "true".
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support import chromium, streaming

from bimedix_utils.chat.conversation import LONGEST_MESSAGE, chat_sentence
from bimedix_utils.core.language import language_data, research_notice

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
chromium.skip_without("gradio")
WAIT = 10_000  # milliseconds for whatever should be there soon
FIELD, SEND, STOP, CLEAR = (
    f"#bimedix-{name}" for name in ("field textarea", "send", "stop", "clear")
)
# A page whose model, a real tiny one, is loaded once a file is there; everything said is kept.
LOADING = """
import os, sys, time
from bimedix_utils.chat import loading, page

def load():
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.05)
    return loading.load_chat_model(sys.argv[1], max_new_tokens=20)

page.serve_chat(loading.LoadingModel(load), "a tiny model", 0, sys.argv[3])
"""


@contextmanager
def page_of(*command: str):
    """A page server started with this command; its address."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    try:
        line = process.stdout.readline()
        assert (found := re.search(r"http://127\.0\.0\.1:\d+/", line)), (
            f"the page did not start: {line!r}"
        )
        yield found.group()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with chromium.opened("gradio") as opened:
        yield opened


@pytest.fixture(scope="module")
def stub():
    with streaming.running(0.02) as server:
        yield server


@pytest.fixture(scope="module")
def address(stub, browser):
    with page_of("-m", "bimedix_utils.chat", "--url", stub.url, "--port", "0") as url:
        yield url


@pytest.fixture
def visit(browser):
    """Opens an address in a browser profile of its own; afterwards every request was to this
    machine and nothing was reported.
    """
    contexts, asked, faults = [], [], []

    def go(url: str, width: int = 1280, height: int = 900):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("websocket", lambda one: asked.append(one.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda one: faults.append(one.text) if "Content Security Policy" in one.text else None,
        )
        page.on(
            "dialog",
            lambda dialog: (faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()),
        )
        page.goto(url)
        ready(page)
        return page

    yield go
    for context in contexts:
        context.close()
    outside = [
        url
        for url in asked
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
    ]
    assert asked and not outside and not faults


def ready(page) -> None:
    """Buttons are there before anybody listens to them; the page's own script runs when all is."""
    page.wait_for_function("field => document.querySelector(field)?.dir === 'auto'", arg=FIELD)


def send(page, text: str) -> None:
    page.fill(FIELD, text)
    page.click(SEND)


def done(page, turns: int = 1) -> None:
    """Wait until this many answers have come to their end."""
    page.wait_for_function(
        "n => document.querySelectorAll('.bimedix-user').length >= n &&"
        " !document.querySelector('#bimedix-send').disabled",
        arg=turns,
    )


def turns(page) -> list[tuple[str, str, str]]:
    """(who, direction, text) of everything shown."""
    return [
        tuple(one)
        for one in page.eval_on_selector_all(
            ".bimedix-turn",
            "all => all.map(e => [e.className.split('bimedix-').pop(), e.dir,"
            " e.querySelector('p').textContent])",
        )
    ]


def in_view(page, selector: str) -> bool:
    return page.eval_on_selector(
        selector,
        "e => { const r = e.getBoundingClientRect(); const at = document.elementFromPoint(r.x + 20,"
        " r.y + r.height / 2); return r.top >= 0 && r.bottom <= innerHeight && e.contains(at); }",
    )


def test_a_message_is_answered_and_both_notices_are_there(visit, address):
    page = visit(address)
    assert in_view(page, ".bimedix-fixed") and all(
        research_notice(lang) in page.inner_text(".bimedix-fixed") for lang in ("en", "ar")
    )
    send(page, "What is insulin?")
    done(page)
    assert turns(page) == [
        ("user", "ltr", "What is insulin?"),
        ("model", "ltr", streaming.ENGLISH),
        ("notice", "ltr", research_notice("en")),
    ]
    assert page.input_value(FIELD) == ""


def test_the_answer_grows_word_by_word_and_is_followed(visit, address):
    page = visit(address)
    send(page, "slow 15")
    page.wait_for_selector(f"{STOP}:enabled")  # before it, nobody is writing yet
    lengths = set()
    while page.is_enabled(STOP):
        lengths.add(sum(len(text) for who, _, text in turns(page) if who == "model"))
        page.wait_for_timeout(50)
    done(page)
    assert len(lengths - {0}) >= 5 and "word14" in turns(page)[1][2]
    for n in range(2, 6):
        send(page, "What is insulin?")
        done(page, n)
    assert in_view(page, ".bimedix-turn:last-child"), "the end of the conversation is out of sight"
    assert in_view(page, ".bimedix-fixed"), "the notice is out of sight"


def test_the_language_changes_from_message_to_message(visit, address):
    page = visit(address)
    for n, text in enumerate(("What is insulin?", "ما الأنسولين؟ الجرعة (500 mg)", "And now?"), 1):
        send(page, text)
        done(page, n)
    shown = turns(page)
    assert [way for who, way, _ in shown if who == "user"] == ["ltr", "rtl", "ltr"]
    assert [way for who, way, _ in shown if who == "model"] == ["ltr", "rtl", "ltr"]
    assert [text for who, _, text in shown if who == "notice"] == [
        research_notice("en"),
        research_notice("ar"),
        research_notice("en"),
    ]
    page.fill(FIELD, "ما السكري؟")
    assert page.eval_on_selector(FIELD, "e => getComputedStyle(e).direction") == "rtl"
    page.fill(FIELD, "what")
    assert page.eval_on_selector(FIELD, "e => getComputedStyle(e).direction") == "ltr"
    page.press(FIELD, "Shift+Enter")
    done(page, 4)
    assert turns(page)[-3] == ("user", "ltr", "what")


@pytest.mark.parametrize(
    ("text", "lang"), [("I have chest pain", "en"), ("لا أستطيع التنفس", "ar")]
)
def test_an_emergency_is_shown_before_any_model_text(visit, address, text, lang):
    """The model says nothing for a minute; the warning does not wait for it."""
    page = visit(address)
    send(page, f"silent {text}")
    page.wait_for_selector(".bimedix-emergency")
    assert [(who, way) for who, way, _ in turns(page)][1:] == [
        ("emergency", "rtl" if lang == "ar" else "ltr")
    ]
    assert turns(page)[1][2] == language_data(lang)["red_flags"]["emergency"] and in_view(
        page, ".bimedix-emergency"
    )
    page.click(STOP)
    done(page)
    assert [who for who, _, _ in turns(page)] == ["user", "emergency", "note"]


def test_an_emergency_stays_in_view_while_a_long_answer_grows_on_a_phone(visit, address):
    page = visit(address, 400, 700)
    send(page, "say " + "chest pain " * 60)
    done(page)
    assert [who for who, _, _ in turns(page)] == ["user", "emergency", "model", "notice"]
    assert (
        in_view(page, ".bimedix-notice")
        and in_view(page, ".bimedix-emergency")
        and in_view(page, ".bimedix-fixed")
    )


def test_the_notice_stays_in_view_when_a_small_window_is_scrolled(visit, address):
    page = visit(address, 400, 480)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(200)
    assert page.evaluate("window.scrollY") > 0 and in_view(page, ".bimedix-fixed")


def test_stop_really_stops(visit, address, stub):
    page, left = visit(address), stub.seen()["left"]
    send(page, "slow 100")
    page.wait_for_selector(".bimedix-model")
    page.click(STOP)
    done(page)
    shown = turns(page)
    assert [who for who, _, _ in shown] == ["user", "model", "note", "notice"] and shown[2][
        2
    ] == chat_sentence("stopped", "en")
    page.wait_for_timeout(500)
    assert turns(page) == shown and stub.seen()["left"] == left + 1, "the server went on"
    send(page, "What is insulin?")
    done(page, 2)
    assert turns(page)[-2][2] == streaming.ENGLISH


def test_a_reload_forgets_stops_and_works(visit, address, stub):
    page, left = visit(address), stub.seen()["left"]
    send(page, "slow 100")
    page.wait_for_selector(".bimedix-model")
    page.reload()
    ready(page)
    assert turns(page) == []
    deadline = time.monotonic() + 10
    while stub.seen()["left"] == left and time.monotonic() < deadline:
        time.sleep(0.1)
    assert stub.seen()["left"] == left + 1, "the closed page's answer went on"
    send(page, "What is insulin?")
    done(page)
    assert len(stub.seen()["bodies"][-1]["messages"]) == 1, (
        "the model was told the old conversation"
    )


def test_clear_forgets_even_in_mid_answer(visit, address, stub):
    page = visit(address)
    send(page, "slow 100")
    page.wait_for_selector(".bimedix-model")
    page.click(CLEAR)
    page.wait_for_function("() => !document.querySelector('.bimedix-turn')")
    page.wait_for_timeout(500)
    assert turns(page) == []
    send(page, "What is insulin?")
    done(page)
    assert len(turns(page)) == 3 and len(stub.seen()["bodies"][-1]["messages"]) == 1


def test_a_long_arabic_text_fits_a_phone_and_20000_characters_are_refused_with_a_sentence(
    visit, address, stub
):
    page, asked = visit(address, 400, 800), stub.seen()["asked"]
    text = ("الأنسولين هرمون تفرزه خلايا بيتا في البنكرياس " * 200)[:7_500].strip()
    send(page, text)
    done(page)
    assert turns(page)[0] == ("user", "rtl", text) and turns(page)[1][:2] == ("model", "rtl")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "the page is wider than the phone"
    )
    send(page, "x" * 20_000)
    done(page, 2)
    who, _, words = turns(page)[-1]
    assert who == "problem" and words == chat_sentence(
        "too_long", "en", n=20_000, most=LONGEST_MESSAGE
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert stub.seen()["asked"] == asked + 1
    send(page, "What is insulin?")
    done(page, 3)
    assert turns(page)[-2][2] == streaming.ENGLISH


HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b>",
    "![x](http://192.0.2.1/x.png) [link](http://192.0.2.1/) `code` ${1+1} {{value}} <%= 1 %>",
    "</p></div><style>*{display:none}</style><a href='javascript:alert(1)'>a</a>",
)


def test_html_markdown_and_templates_are_shown_as_text_from_both_sides(visit, address):
    page = visit(address)
    for n, text in enumerate(HOSTILE, 1):
        send(page, f"say {text}")
        done(page, n)
        shown = [(who, re.sub("[\u2066\u2069]", "", words)) for who, _, words in turns(page)]
        assert shown[3 * n - 3 : 3 * n - 1] == [("user", f"say {text}"), ("model", text)]
    made = page.eval_on_selector_all(
        ".bimedix-turn",
        "all => all.flatMap(e => [...e.querySelectorAll('*')].map(one => one.tagName))",
    )
    assert set(made) == {"B", "P"} and made.count("B") == 6, (
        "only a name and a text in each turn; a notice has no name"
    )
    assert page.is_visible(FIELD)


def test_two_users_at_once_have_conversations_of_their_own(visit, address):
    first, second = visit(address), visit(address)
    send(first, "slow 20")
    send(second, "ما الأنسولين؟")
    done(second)
    assert first.is_enabled(STOP), "the second was answered only after the first"
    done(first)
    assert [text for who, _, text in turns(second) if who == "model"] == [streaming.ARABIC]
    assert "word19" in turns(first)[1][2] and len(turns(first)) == len(turns(second)) == 3


def test_a_killed_server_is_a_sentence_and_the_chat_goes_on_when_it_is_back(visit, address, stub):
    page = visit(address)
    send(page, "slow 100")
    page.wait_for_selector(".bimedix-model")
    stub.kill()
    try:
        done(page)
        assert [who for who, _, _ in turns(page)] == ["user", "model", "problem"]
        send(page, "Are you there?")
        done(page, 2)
        assert (
            turns(page)[-1][0] == "problem"
            and "When it is back, send the message again" in turns(page)[-1][2]
        )
    finally:
        stub.start()
    send(page, "What is insulin?")
    done(page, 3)
    assert turns(page)[-2][2] == streaming.ENGLISH


def test_a_message_to_a_model_that_is_still_loading_is_answered_when_it_is_ready(
    visit, base, tmp_path
):
    gate, kept = tmp_path / "gate", tmp_path / "kept.jsonl"
    with page_of("-c", LOADING, str(base), str(gate), str(kept)) as url:
        page = visit(url)
        page.wait_for_function(
            "() => document.querySelector('#bimedix-status')?.innerText.includes('is loading')"
        )
        assert "kept in kept.jsonl" in page.inner_text("#bimedix-status")
        send(page, "What is aspirin?")
        page.wait_for_selector(".bimedix-note")
        assert turns(page)[-1][2] == chat_sentence("loading", "en")
        gate.touch()
        page.wait_for_selector(".bimedix-notice", timeout=60_000)
        done(page)
        assert [who for who, _, _ in turns(page)][:2] == ["user", "model"]
        page.wait_for_function(
            "() => !document.querySelector('#bimedix-status')?.innerText.includes('is loading')"
        )
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert [line["who"] for line in lines][:2] == ["user", "model"]


def test_the_page_listens_on_the_loopback_device_and_to_its_own_names_only(address):
    port = urlsplit(address).port
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), 2)

    def ask(
        host: str, method: str = "GET", path: str = "/", **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers={"Host": host, **headers})
        reply = connection.getresponse()
        reply.body = reply.read()
        connection.close()
        return reply

    good = ask(f"127.0.0.1:{port}")
    assert good.status == 200 and "connect-src 'self'" in good.headers["Content-Security-Policy"]
    assert ask("evil.example").status == 400, "a page of another host could talk to it"
    for other in ("https://evil.example", "null"):
        assert ask(f"127.0.0.1:{port}", Origin=other).status == 403, (
            "a form of another page could be sent to it"
        )
    assert ask(f"127.0.0.1:{port}", Origin=f"http://127.0.0.1:{port}").status == 200
    assert ask(f"127.0.0.1:{port}", "POST", "/gradio_api/upload").status == 403, (
        "files could be left in the temporary folder"
    )
    assert not re.findall(rb"<(?:script|link|img)[^>]+https?://(?!127\.)", good.body)
