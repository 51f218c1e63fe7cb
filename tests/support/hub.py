"""A stand-in for the hub on this machine: just the endpoints that huggingface_hub and datasets call
for a small data set.

`HubStub({"owner/name": {"train.jsonl": b"..."}})` serves each repository at one commit; `commits`
and `gated` may be changed while it runs.
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class HubStub:
    """Serves while used as a context; `url` goes into HF_ENDPOINT, `seen` lists the requests."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]):
        self.repositories = repositories
        self.commits = {name: hashlib.sha1(name.encode()).hexdigest() for name in repositories}
        self.gated: set[str] = set()
        self.seen: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_HEAD(self) -> None:
                stub.answer(self, body=False)

            def do_GET(self) -> None:
                stub.answer(self)

            def do_POST(self) -> None:
                stub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubStub":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bool = True) -> None:
        given = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.split("?")[0]
        self.seen.append(f"{request.command} {path}")
        api = re.fullmatch(
            r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path
        )
        file = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        name = found[1] if found else ""
        if name not in self.repositories:
            return self.send(
                request, 404, b"{}", {"X-Error-Code": "RepoNotFound"} if found else {}, body
            )
        if name in self.gated and file:  # the hub shows what a gated set is, and keeps its files
            return self.send(request, 403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        files, commit = self.repositories[name], self.commits[name]
        revision = (api[3] if api else file[2]) or commit
        if revision not in (commit, "main"):
            return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
        if file:
            if file[3] not in files:
                return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            content = files[file[3]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if span := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or ""):
                begin, end = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
                headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
                return self.send(request, 206, content[begin : end + 1], headers, body)
            return self.send(request, 200, content, headers, body)
        if api[2] in ("tree", "paths-info"):
            below = (api[4] or "").strip("/")
            wanted = None
            if api[2] == "paths-info":
                wanted = (
                    json.loads(given)["paths"]
                    if given[:1] == b"{"
                    else re.findall(r"paths=([^&]*)", given.decode())
                )
            listing = [
                {
                    "type": "file",
                    "oid": hashlib.sha1(content).hexdigest(),
                    "size": len(content),
                    "path": own,
                }
                for own, content in files.items()
                if own.startswith(below) and (wanted is None or own in wanted)
            ]
            return self.send(request, 200, json.dumps(listing).encode(), {}, body)
        info = {
            "id": name,
            "sha": commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": own} for own in files],
        }
        return self.send(request, 200, json.dumps(info).encode(), {}, body)

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str],
        body: bool,
    ) -> None:
        request.send_response(status)
        for key, value in {
            "Content-Length": str(len(content)),
            "Connection": "close",
            **headers,
        }.items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(content)
