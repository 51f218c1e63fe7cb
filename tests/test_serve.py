"""The local server: a tiny random Llama behind it, asked as the API is asked, and by the kit's own
client.
"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue

import pytest

from bimedix_utils import sources, synthesis
from bimedix_utils.chat import remote
from bimedix_utils.chat.conversation import Ending
from bimedix_utils.core.errors import KitError
from bimedix_utils.runner import serve
from bimedix_utils.runner.serve import CompletionRequest, PendingRequest, TextGenerator
from bimedix_utils.teacher import engine
from bimedix_utils.teacher.settings import Teacher
from bimedix_utils.teacher.store import Store
from bimedix_utils.training import weights

pytestmark = pytest.mark.unit
DATA = Path(__file__).resolve().parents[1] / "data"
ROOM = 4096  # tokens the tiny model reads
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SENTENCES = [
    "The patient has had a fever and a dry cough for three days.",
    "Which hormone lowers blood sugar? Insulin moves glucose into cells.",
    "Please see a doctor if the pain gets worse.",
    synthesis.CHAT_PROMPT.text,
]
PROMPTS = [
    "Fever.",
    "Which hormone lowers blood sugar?",
    SENTENCES[0] * 6,
    "Why?",
    SENTENCES[2] * 15,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random Llama of two layers with a tokenizer trained here and ChatML turns."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target = tmp_path_factory.mktemp("served") / "tiny"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(vocab_size=800, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(target)
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=len(tokenizer),
        max_position_embeddings=ROOM,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def generator(folder) -> TextGenerator:
    return TextGenerator.load(str(folder), 1)


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(*command: str):
    """A server process started with this command: (its port, the lines it prints, the process)."""
    port = free_port()
    # A shell that starts the tests in the background makes them, and whatever they start, deaf to
    # Ctrl-C.
    hearing = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *command, "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=hearing,
    )
    lines: Queue[str] = Queue()
    threading.Thread(
        target=lambda: [lines.put(line.rstrip("\n")) for line in process.stdout], daemon=True
    ).start()
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (
                    "the server did not start"
                )
                time.sleep(0.05)
        yield port, lines, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def started(folder):
    with running("-m", "bimedix_utils.runner.serve", "--model", str(folder), "--threads", "1") as (
        port,
        lines,
        _,
    ):
        yield port, lines.get(timeout=10)


@pytest.fixture(scope="module")
def port(started) -> int:
    return started[0]


def call(port: int, body, path: str = "chat/completions") -> tuple[int, dict]:
    """(status, JSON) of a request; bytes are sent as they are; None asks with GET."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/{path}", data, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
            return error.code, (
                json.loads(text) if text.startswith(b"{") else {"text": text.decode()}
            )


def body(text: str, **more) -> dict:
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 12,
        "temperature": 0,
        **more,
    }


def said(port: int, text: str, **more) -> str:
    status, value = call(port, body(text, **more))
    assert status == 200, value
    return value["choices"][0]["message"]["content"]


# The API


def test_it_lists_the_one_model(port):
    status, value = call(port, None, "models")
    assert status == 200 and value["object"] == "list"
    assert [(row["id"], row["object"]) for row in value["data"]] == [("tiny", "model")]


def test_it_says_what_it_serves_where_and_what_for(started):
    port, line = started
    assert (
        line
        == f"serving tiny at http://127.0.0.1:{port}/v1; research and teaching only, never medical"
        " advice"
    )


def test_an_answer_has_the_shape_of_a_chat_completion(port):
    before = int(time.time())
    status, value = call(port, body("Fever."))
    assert (
        status == 200
        and value["object"] == "chat.completion"
        and value["model"] == "tiny"
        and value["id"].startswith("chatcmpl-")
    )
    assert before <= value["created"] <= time.time()
    (choice,) = value["choices"]
    assert (
        choice["index"] == 0
        and choice["message"]["role"] == "assistant"
        and choice["message"]["content"].strip()
    )


@pytest.mark.parametrize("text", PROMPTS)
def test_usage_adds_up(text, port, generator):
    usage = call(port, body(text, max_tokens=7))[1]["usage"]
    assert usage["prompt_tokens"] == len(generator.encode(CompletionRequest(**body(text))))
    assert 1 <= usage["completion_tokens"] <= 7
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_cut_answer_says_so(port):
    value = call(port, body("Fever.", max_tokens=3))[1]
    assert (
        value["choices"][0]["finish_reason"] == "length"
        and value["usage"]["completion_tokens"] == 3
    )
    assert said(port, "Fever.").startswith(value["choices"][0]["message"]["content"])


def test_every_answer_has_an_id_of_its_own(port):
    assert len({call(port, body("Fever.", max_tokens=1))[1]["id"] for _ in range(3)}) == 3


def test_earlier_turns_and_the_system_turn_are_read(port):
    turns = [
        ("system", "Be short."),
        ("user", "Fever."),
        ("assistant", "Since when?"),
        ("user", "Three days."),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    whole = call(port, body("", messages=messages))[1]["usage"]["prompt_tokens"]
    assert whole > call(port, body("", messages=messages[1:]))[1]["usage"]["prompt_tokens"] > 20


def test_unknown_keys_of_the_api_are_ignored(port):
    assert said(
        port, "Fever.", user="me", presence_penalty=0, response_format={"type": "json_object"}
    ) == said(port, "Fever.")


# The same question, the same answer


def test_temperature_0_is_deterministic(port):
    assert said(port, PROMPTS[1]) == said(port, PROMPTS[1])


def test_temperature_1_is_not(port):
    assert len({said(port, PROMPTS[1], temperature=1.0, max_tokens=20) for _ in range(4)}) > 1


def test_prompts_asked_together_are_answered_as_if_alone(port):
    """Prompts of other lengths stand in one batch, padded at the left."""
    alone = [said(port, text) for text in PROMPTS]
    assert len(set(alone)) == len(PROMPTS)
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda text: said(port, text), PROMPTS * 4))
    assert together == alone * 4


def asked(generator: TextGenerator, *requests: dict) -> list[tuple[str, str, int]]:
    """What the generator makes of these request bodies in one batch."""
    wanted = [CompletionRequest(**request) for request in requests]
    return generator.generate(
        [PendingRequest(generator.encode(request), request, None) for request in wanted]
    )


def test_one_batch_gives_what_single_prompts_give(generator):
    single = [asked(generator, body(text))[0] for text in PROMPTS]
    assert asked(generator, *map(body, PROMPTS)) == single
    assert asked(generator, *map(body, PROMPTS[::-1])) == single[::-1]


def test_each_request_of_a_batch_keeps_its_own_limit(generator):
    short, long = asked(generator, body("Fever.", max_tokens=3), body("Why?", max_tokens=9))
    assert short[1:] == ("length", 3) and long[1:] == ("length", 9)
    assert short == asked(generator, body("Fever.", max_tokens=3))[0]


def test_a_long_prompt_does_not_cut_its_neighbours_answer(generator):
    """Near the model's limit the long prompt has room for few tokens; the short one beside it has
    plenty.
    """
    words = "fever " * 2000
    length = len(generator.encode(CompletionRequest(**body(words))))
    per_word = (length - len(generator.encode(CompletionRequest(**body("fever " * 1000))))) / 1000
    long = body("fever " * int(2000 + (ROOM - 6 - length) / per_word), max_tokens=20)
    short = body("Fever.", max_tokens=20)
    items = [
        PendingRequest(generator.encode(wanted), wanted, None)
        for wanted in (CompletionRequest(**short), CompletionRequest(**long))
    ]
    assert asked(generator, short)[0][1:] == ("length", 20) and asked(generator, long)[0][2] < 20
    assert generator.fits(items[:1]) and not generator.fits(items)


def test_a_request_that_does_not_fit_beside_others_is_generated_by_itself(watched):
    batches, statuses = watched(("a", {}), ("long", {}), ("b", {}))
    assert (batches, statuses) == (["a b", "long"], [200] * 3)


@pytest.fixture
def stopping(generator, monkeypatch) -> int:
    """The generator with one more end token, taken from the answer to "Fever.". Gives its place
    there, counted from 0.
    """
    import torch

    prompt = torch.tensor([generator.encode(CompletionRequest(**body("Fever.")))])
    out = generator.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=12,
        pad_token_id=0,
    )
    row = out[0, prompt.shape[1] :].tolist()
    place = next(i for i in range(4, 11) if row[i] not in row[:i])
    monkeypatch.setattr(
        generator.model.generation_config,
        "eos_token_id",
        [generator.tokenizer.eos_token_id, row[place]],
    )
    return place


def test_an_answer_ends_at_the_models_end_token(generator, stopping):
    whole, cut = (
        asked(generator, body("Fever.", max_tokens=stopping))[0],
        asked(generator, body("Fever."))[0],
    )
    assert cut == (
        whole[0],
        "stop",
        stopping + 1,
    )  # the end token was generated too, but it is no text


def test_one_answer_may_end_while_its_neighbour_goes_on(generator, stopping):
    alone = [asked(generator, body(text))[0] for text in ("Fever.", "Why?")]
    assert [finish for _, finish, _ in alone] == ["stop", "length"]
    assert asked(generator, body("Fever."), body("Why?")) == alone


# Streaming


def events(port: int, wanted: dict) -> list[dict]:
    """The events of a streamed answer, the mark at its end left out."""
    raw = json.dumps({**wanted, "stream": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", raw, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        lines = [
            line.removeprefix("data: ") for line in reply.read().decode().split("\n\n") if line
        ]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("text", PROMPTS[:3])
def test_a_streamed_answer_is_the_whole_answer_in_pieces(text, port):
    whole = call(port, body(text, max_tokens=40))[1]
    *parts, last = events(port, body(text, max_tokens=40))
    words = [part["choices"][0]["delta"].get("content", "") for part in parts]
    assert "".join(words).strip() == whole["choices"][0]["message"]["content"]
    assert sum(map(bool, words)) > 1 and {
        part["choices"][0]["finish_reason"] for part in parts
    } == {None}
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "finish_reason": whole["choices"][0]["finish_reason"],
    }
    assert (
        len({part["id"] for part in [*parts, last]}) == 1
        and last["object"] == "chat.completion.chunk"
    )


def test_a_streamed_answer_counts_its_tokens_when_asked(port):
    usage = call(port, body("Fever.", max_tokens=9))[1]["usage"]
    assert (
        events(port, body("Fever.", max_tokens=9, stream_options={"include_usage": True}))[-1][
            "usage"
        ]
        == usage
    )


def test_whole_and_streamed_requests_at_once_are_all_answered(port):
    alone = said(port, "Why?", max_tokens=30)

    def one(stream: bool) -> str:
        if not stream:
            return said(port, "Why?", max_tokens=30)
        return "".join(
            part["choices"][0]["delta"].get("content", "")
            for part in events(port, body("Why?", max_tokens=30))
        ).strip()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, [True, False] * 4)) == [alone] * 8


def test_a_streaming_client_that_goes_away_stops_the_model(port):
    """Two thousand tokens take this model longer than the test waits for the next answer."""
    begun = time.monotonic()
    assert said(port, "Why?", max_tokens=2000)
    whole = time.monotonic() - begun
    waits = []
    for _ in range(3):  # the quickest counts: the machine may be busy with something else
        connection, received = leave(port, body("Why?", max_tokens=2000, stream=True)), b""
        while b"data:" not in received:
            received += (part := connection.recv(100_000))
            assert part, "the server closed the connection"
        connection.close()
        begun = time.monotonic()
        said(port, "Fever.", max_tokens=1)
        waits.append(time.monotonic() - begun)
    assert min(waits) < whole / 2


def test_the_chats_client_reads_its_stream(port):
    model, ending = (
        remote.StreamingEndpoint(f"http://127.0.0.1:{port}/v1", max_new_tokens=12, instruction=""),
        Ending(),
    )
    words = [
        piece
        for piece in model.stream(
            [{"role": "user", "content": "Fever."}], threading.Event(), ending
        )
        if piece
    ]
    assert "".join(words).strip() == said(port, "Fever.") and len(words) > 1
    assert ending.cut == (call(port, body("Fever."))[1]["choices"][0]["finish_reason"] == "length")
    with pytest.raises(KitError, match="HTTP 400: the prompt has .* the model reads at most 4095"):
        list(
            model.stream(
                [{"role": "user", "content": "fever " * 20_000}], threading.Event(), Ending()
            )
        )


# What cannot be answered

WRONG = {
    "no messages": (body("", messages=[]), "messages"),
    "messages missing": ({"model": "tiny"}, "messages"),
    "another role": (body("", messages=[{"role": "doctor", "content": "Hi"}]), "role"),
    "no content": (body("", messages=[{"role": "user"}]), "content"),
    "content is no text": (body("", messages=[{"role": "user", "content": 5}]), "content"),
    "negative temperature": (body("Hi", temperature=-1), "temperature"),
    "no tokens": (body("Hi", max_tokens=0), "max_tokens"),
    "top-p 0": (body("Hi", top_p=0), "top_p"),
    "several answers": (body("Hi", n=2), "one answer"),
    "no answer": (body("Hi", n=0), "one answer"),
    "a stop word": (body("Hi", stop="x"), "no stop words"),
    "stop words": (body("Hi", stop=["x", "y"]), "no stop words"),
    "nested without end": (b"[" * 200_000, "recursion"),
    "not JSON": (b"{half", "Expecting"),
    "not UTF-8": (b'{"messages": "\xff"}', "decode"),
    "a list": (b"[1]", "mapping"),
    "nothing": (b"", "Expecting"),
    "too long": (body("fever " * 20_000), "the model reads at most 4095"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_answered_is_400_with_the_reason(name, port):
    wrong, reason = WRONG[name]
    status, value = call(port, wrong)
    assert status == 400, value
    assert value["error"]["type"] == "invalid_request_error" and reason in value["error"]["message"]


def test_an_unknown_charset_is_400(port):
    """It was a traceback of the server's and status 500, which clients try again."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        b"{}",
        {"Content-Type": "application/json; charset=foo"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as error:
        assert error.code == 400 and b"unknown encoding" in error.read()


def test_null_stands_for_the_default(port):
    """Clients send every field of the API; null was refused."""
    wanted = body("Fever.", top_p=None, stream=None, n=None, stop=None)
    assert call(port, wanted)[1]["choices"][0]["message"]["content"] == said(port, "Fever.")
    assert (
        CompletionRequest(**{**wanted, "max_tokens": None, "temperature": None}).max_tokens
        == CompletionRequest(messages=wanted["messages"]).max_tokens
    )


def test_turns_the_models_template_refuses_are_refused_with_its_words(generator, monkeypatch):
    monkeypatch.setattr(
        generator.tokenizer, "chat_template", "{{ raise_exception('no system role here') }}"
    )
    with pytest.raises(
        ValueError, match="the chat template refuses these messages: no system role here"
    ):
        generator.encode(CompletionRequest(**body("Hi")))


def test_another_path_is_404(port):
    assert call(port, body("Hi"), "completions")[0] == 404


def test_a_bad_request_does_not_spoil_the_good_ones_beside_it(port):
    alone = said(port, "Why?")
    with ThreadPoolExecutor(8) as pool:
        results = list(
            pool.map(
                lambda wanted: call(port, wanted),
                [body("Why?"), b"{half", body("Hi", n=2), body("Why?")] * 2,
            )
        )
    assert [status for status, _ in results] == [200, 400, 400, 200] * 2
    assert {
        value["choices"][0]["message"]["content"] for status, value in results if status == 200
    } == {alone}


@pytest.mark.parametrize("temperature", [1e-9, 1e-3, 2.0])
def test_every_legal_temperature_is_answered(temperature, port):
    assert said(port, "Fever.", temperature=temperature)


# The process


def test_it_listens_on_the_loopback_device_only(port):
    """A server bound to every address would answer at 127.0.0.2 as well."""
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), 2)
    socket.create_connection(("127.0.0.1", port), 2).close()


def leave(port: int, wanted: dict) -> socket.socket:
    """A request whose answer nobody waits for: the caller closes the connection when it likes."""
    raw = json.dumps(wanted).encode()
    connection = socket.create_connection(("127.0.0.1", port), 5)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type:"
        f" application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    connection.sendall(head.encode() + raw)
    return connection


def test_clients_that_go_away_do_not_stop_the_server(port):
    alone = said(port, "Why?")
    for half in (True, False):
        for _ in range(4):
            connection = leave(port, body("Fever.", max_tokens=30))
            if half:
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )  # reset, not closed
            connection.close()
        assert said(port, "Why?") == alone


# Which requests are generated together: a generator that only writes down what it is given

FAKE = """
import os, sys, time
from bimedix_utils.runner import serve

class Fake:
    def encode(self, request):
        print("got", request.messages[-1].content, flush=True)
        return request.messages

    def fits(self, items):
        return all(item.prompt[-1].content != "long" for item in items)

    def generate(self, batch):
        texts = [item.prompt[-1].content for item in batch]
        print("batch", *texts, flush=True)
        while "hold" in texts and not os.path.exists(os.path.join(sys.argv[2], "release")):
            time.sleep(0.01)
        if "boom" in texts:
            raise RuntimeError("boom")
        return [(text, "stop", 1) for text in texts]

serve.TextGenerator.load = classmethod(lambda cls, folder, threads: Fake())
sys.exit(serve.main())
"""


@pytest.fixture
def watched(tmp_path):
    """A server that generates nothing: `ask(*(text, settings))` sends all while the server is busy,
    and gives (batches, statuses).
    """
    release = tmp_path / "release"
    with (
        running("-c", FAKE, "--model", str(tmp_path)) as (port, lines, _),
        ThreadPoolExecutor(30) as pool,
    ):

        def until(line: str) -> None:
            while lines.get(timeout=20) != line:
                pass

        def ask(
            *wanted: tuple[str, dict], gone: tuple[str, ...] = ()
        ) -> tuple[list[str], list[int]]:
            first = pool.submit(call, port, body("hold"))
            until("batch hold")
            calls = []
            for text, settings in wanted:
                if text in gone:
                    connection = leave(port, body(text, **settings))
                else:
                    calls.append(pool.submit(call, port, body(text, **settings)))
                until(f"got {text}")  # in the queue, in this order
                if text in gone:
                    connection.close()
            time.sleep(0.2)  # a closed connection needs a moment to be noticed
            release.touch()
            statuses = [one.result()[0] for one in calls]
            assert first.result()[0] == 200
            assert call(port, body("end"))[0] == 200
            batches = []
            while (line := lines.get(timeout=20)) != "batch end":
                batches += [line.removeprefix("batch ")] if line.startswith("batch ") else []
            return batches, statuses

        yield ask


def test_requests_that_wait_are_generated_eight_at_a_time(watched):
    assert watched(*((f"r{i}", {}) for i in range(19))) == (
        [" ".join(f"r{i}" for i in part) for part in (range(8), range(8, 16), range(16, 19))],
        [200] * 19,
    )


def test_only_requests_of_one_temperature_and_top_p_share_a_batch(watched):
    warm, narrow = {"temperature": 0.7}, {"temperature": 0.7, "top_p": 0.5}
    batches, statuses = watched(
        ("a", {}), ("b", warm), ("c", {}), ("d", narrow), ("e", warm), ("f", {"max_tokens": 99})
    )
    assert (batches, statuses) == (["a c f", "b e", "d"], [200] * 6)


def test_a_model_that_fails_costs_its_own_batch_only(watched):
    batches, statuses = watched(("boom", {}), ("a", {}), ("b", {"temperature": 0.5}))
    assert (batches, statuses) == (["boom a", "b"], [500, 500, 200])


def test_nothing_is_generated_for_a_client_that_went_away(watched):
    """A client that gave up asks again: generating for the dead would keep a slow machine busy for
    ever.
    """
    batches, statuses = watched(("a", {}), ("dead", {}), ("b", {}), gone=("dead",))
    assert (batches, statuses) == (["a b"], [200, 200])


def test_an_interrupt_ends_the_server_in_order(tmp_path):
    with running("-c", FAKE, "--model", str(tmp_path)) as (port, _, process):
        assert call(port, body("Hi"))[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


# What cannot be served


def main(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bimedix_utils.runner.serve", *arguments])
    return serve.main()


def test_without_weights_it_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setattr(weights, "fetched_model", lambda: None)
    assert main(monkeypatch) == 1
    assert "make weights" in capsys.readouterr().err


def test_a_missing_folder_is_named_with_the_way_to_get_weights(monkeypatch, capsys, tmp_path):
    assert main(monkeypatch, "--model", str(tmp_path / "nothing")) == 1
    shown = capsys.readouterr().err
    assert "nothing" in shown and "make weights" in shown


@pytest.mark.parametrize(
    "left", [(), ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja")]
)
def test_a_folder_without_a_model_is_an_error_and_no_traceback(
    left, folder, monkeypatch, capsys, tmp_path
):
    half = tmp_path / "half"
    half.mkdir()
    for name in left:
        (half / name).write_bytes((folder / name).read_bytes())
    assert main(monkeypatch, "--model", str(half)) == 1
    assert "half" in capsys.readouterr().err


def test_a_model_without_a_chat_template_is_refused(folder, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(KitError, match="no chat template"):
        TextGenerator.load(str(tmp_path), 1)


def test_a_port_in_use_is_an_error_and_no_traceback(folder, port):
    done = subprocess.run(
        [sys.executable, "-c", FAKE, "--model", str(folder), "--port", str(port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr and str(port) in done.stderr


# The kit's own client


def test_the_kits_client_gets_one_outcome_for_each_request_and_asks_once(port, tmp_path):
    records = [
        r for path in sources.find_files(DATA / "sample") for r in sources.read_file(path, kit=True)
    ]
    questions = synthesis.seed_questions(records, 6, 42)
    teacher = Teacher(
        backend="http",
        model="tiny",
        url=f"http://127.0.0.1:{port}/v1",
        answers=tmp_path / "answers.sqlite",
        concurrency=6,
        max_tokens=24,
    )
    requests = synthesis.chat_requests(questions, teacher, 2, 6, 42)
    outcomes = engine.ask_structured(teacher, requests, lambda _: synthesis.Chat)
    assert len(outcomes) == 6 and {status for status, _, _ in outcomes} <= {
        "truncated",
        "parse_failed",
    }  # a random model writes no chat
    chats, statuses = synthesis.collect_chats(questions, outcomes, 2, 6)
    assert chats == [] and list(statuses) == [question.id for question in questions]

    sent = teacher.ledger.stage(synthesis.CHAT_STAGE)
    assert (sent.requests, sent.bought, sent.failed) == (6, 6, 0)
    with closing(Store(teacher.answers)) as store:
        stored = store.get([request.id for request in requests])
        assert len(stored) == 6
    assert sent.completion_tokens == sum(
        answer.usage["completion_tokens"] for answer in stored.values()
    )

    # Nobody listens there: a request that were sent again would be an error.
    again = teacher.model_copy(update={"url": f"http://127.0.0.1:{free_port()}/v1"})
    assert engine.ask_structured(again, requests, lambda _: synthesis.Chat) == outcomes
