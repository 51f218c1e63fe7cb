"""A stand-in for the hub's upload side on this machine: the few endpoints HfApi.create_repo and
HfApi.upload_folder call.
"""

import base64
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from huggingface_hub import (
    constants,  # a commit's address is read by its host, which HfApi takes from here
)


class UploadStub:
    """Takes files while used as a context: `files` {repository: {path: content}}, `created` the
    bodies that made repositories.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.refuse = False
        self.public: set[str] = set()  # repositories that were there before, for all to see
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, value = stub.answer(self.path, given)
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "UploadStub":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, given: bytes) -> tuple[int, dict]:
        if self.refuse:
            return 403, {"error": "no permission"}
        if path == "/api/repos/create":
            self.created.append(json.loads(given))
            return 200, {"url": f"{constants.ENDPOINT}/me/x"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if found := re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)", path):
            return 200, {"id": found[1], "private": found[1] not in self.public}
        found = re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit)/main(?:\?.*)?", path
        )
        if not found:
            return 404, {}
        if found[3] == "preupload":
            names = [file["path"] for file in json.loads(given)["files"]]
            return 200, {
                "files": [
                    {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
                ]
            }
        kept = self.files.setdefault(found[2], {})
        for line in given.decode().splitlines():
            value = json.loads(line)
            if value["key"] == "file":
                kept[value["value"]["path"]] = base64.b64decode(value["value"]["content"])
        return 200, {
            "commitUrl": f"{constants.ENDPOINT}/{found[2]}/commit/1",
            "commitOid": "1",
            "success": True,
        }
