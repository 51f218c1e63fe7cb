"""The local stand-in for a batch service: every request file gets its result file, once, and only
from this machine.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from bimedix_utils.core.errors import TeacherError
from bimedix_utils.teacher import answer_files, batch
from bimedix_utils.teacher.requests import Request

pytestmark = pytest.mark.unit


@pytest.fixture
def endpoint():
    """An endpoint that answers with the question, refuses the word `refuse`, and counts."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1][
                "content"
            ]
            seen.append(text)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": f"to {text}"},
                "finish_reason": "stop",
            }
            content = json.dumps(
                {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
            ).encode()
            self.send_response(400 if text == "refuse" else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", seen
    server.shutdown()
    server.server_close()


def requests(*texts: str) -> list[Request]:
    return [
        Request("demo", f"row-{text}", 0, 0, "v1", "model", (("user", text),), ()) for text in texts
    ]


def test_files_written_answered_and_imported(tmp_path, endpoint):
    url, seen = endpoint
    asked, got = requests("سؤال", "two", "refuse"), {}
    assert "3 requests written" in batch.exchange_batch_files(
        asked, tmp_path, lambda part: got.update({r.row_id: a.text for r, a in part})
    )
    assert answer_files.answer_batch_folder(tmp_path, url) == 3 and sorted(seen) == sorted(
        ["سؤال", "two", "refuse"]
    )
    batch.exchange_batch_files(
        asked, tmp_path, lambda part: got.update({r.row_id: a.text for r, a in part})
    )
    assert got == {"row-سؤال": "to سؤال", "row-two": "to two"}, "a refusal is no answer"


def test_a_second_time_asks_only_what_is_missing(tmp_path, endpoint):
    url, seen = endpoint
    batch.exchange_batch_files(requests("one", "two"), tmp_path, lambda part: None)
    answer_files.answer_batch_folder(tmp_path, url)
    result = next((tmp_path / "results").glob("*.jsonl"))
    result.write_text(
        result.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8"
    )
    assert answer_files.answer_batch_folder(tmp_path, url) == 1 and len(seen) == 3


def test_only_this_machine_is_asked_and_a_silent_one_is_named(tmp_path):
    batch.exchange_batch_files(requests("one"), tmp_path, lambda part: None)
    with pytest.raises(TeacherError, match="upload the request files"):
        answer_files.answer_batch_folder(tmp_path, "https://host.example/v1")
    with pytest.raises(TeacherError, match="make serve"):
        answer_files.answer_batch_folder(tmp_path, "http://127.0.0.1:9/v1")
    assert answer_files.main(["--folder", str(tmp_path / "none")]) == 1
