"""The chat as a page in the browser: Gradio on the loopback device, no other host involved.

Gradio's analytics are off before it is imported, fonts are the system's, and every reply carries a
policy by which the browser itself refuses any other host. A conversation lives in this process
under the id of its browser tab: a reload begins a new one.
"""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..core.errors import KitError
from ..core.language import language_data
from .conversation import ChatModel, Conversation
from .loading import LoadingModel
from .render import (
    INTERFACE,
    conversation_html,
    escape_text,
    message_attributes,
    notice_html,
    page_words,
    read_template,
)

MAX_CONVERSATIONS = 64  # the oldest is forgotten when another begins
MAX_CONCURRENT = 16  # messages under way; a local model answers them one after the other
REDRAW_SECONDS = 0.08  # between two updates of a growing answer
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_FONTS = "system-ui, Segoe UI, Noto Sans, Noto Sans Arabic, DejaVu Sans, Arial, sans-serif"


class ChatSessions:
    """The conversations of all open pages, by the id Gradio gives a browser tab."""

    def __init__(self, transcript: str = ""):
        self.transcript = transcript
        self._conversations: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    def of(self, session: str) -> Conversation:
        """The tab's conversation; a new one at the first call."""
        with self._lock:
            if session not in self._conversations:
                while len(self._conversations) >= MAX_CONVERSATIONS:
                    self._conversations.pop(next(iter(self._conversations))).clear()
                name = secrets.token_hex(4)
                self._conversations[session] = Conversation(self.transcript, name)
            return self._conversations[session]

    def forget(self, session: str) -> None:
        """The tab was closed or reloaded: stop its answer, keep nothing."""
        with self._lock:
            conversation = self._conversations.pop(session, None)
        if conversation:
            conversation.clear()


def status_html(model: ChatModel, transcript: str = "") -> str:
    """The lines under the notice: the model is loading or failed, a transcript is kept, or ""."""
    lines = []
    state = model.state if isinstance(model, LoadingModel) else "ready"
    for lang in INTERFACE:
        words = language_data(lang)["chat"]["page"]
        if state != "ready":
            reason = f" {model.problem}" if state == "failed" and lang == INTERFACE[0] else ""
            lines.append((lang, words[state] + reason))
        if transcript:
            lines.append((lang, words["kept"].format(file=os.path.basename(transcript))))
    body = "".join(f"<p {message_attributes(lang)}>{escape_text(line)}</p>" for lang, line in lines)
    return f'<div role="status">{body}</div>' if body else ""


def html_updates(conversation: Conversation, model: ChatModel, text: str) -> Iterator[str]:
    """The conversation as HTML while it grows: at most one update every `REDRAW_SECONDS`.

    The last state is always yielded.
    """
    drawn, waiting = 0.0, ""
    for shown in conversation.say(model, text):
        waiting = conversation_html(shown)
        if shown[-1].who != "model" or time.monotonic() - drawn >= REDRAW_SECONDS:
            yield waiting
            drawn, waiting = time.monotonic(), ""
    if waiting and conversation.shown:  # not after "clear"
        yield waiting


def chat_page(model: ChatModel, title: str, transcript: str = "") -> Any:
    """The page as a Gradio Blocks. Raises `KitError` without Gradio."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise KitError("the page needs Gradio: make setup EXTRAS=chat") from None

    sessions = ChatSessions(transcript)
    enabled, disabled = gradio.update(interactive=True), gradio.update(interactive=False)

    def say(text: str, request: gradio.Request) -> Iterator[tuple[Any, ...]]:
        conversation = sessions.of(request.session_hash)
        if conversation.busy or not (text or "").strip():
            yield (gradio.skip(),) * 4
            return
        for update in html_updates(conversation, model, text):
            yield update, "", disabled, enabled
        if not conversation.busy:  # the next message may run already, after "clear"
            yield gradio.skip(), gradio.skip(), enabled, disabled

    def stop(request: gradio.Request) -> None:
        sessions.of(request.session_hash).stop.set()

    def clear(request: gradio.Request) -> tuple[Any, ...]:
        sessions.of(request.session_hash).clear()
        return conversation_html([]), enabled, disabled

    def forget(request: gradio.Request) -> None:
        sessions.forget(request.session_hash)

    def tick() -> tuple[Any, Any]:
        lines = status_html(model, transcript)
        loading = isinstance(model, LoadingModel) and model.state == "loading"
        return gradio.update(value=lines, visible=bool(lines)), gradio.Timer(active=loading)

    on_load = read_template("page.js")
    placeholder = " · ".join(
        f"{words['placeholder']} {words['shortcut']}"
        for words in (language_data(lang)["chat"]["page"] for lang in INTERFACE)
    )
    with gradio.Blocks(title=title, analytics_enabled=False) as blocks:
        gradio.HTML(notice_html(), elem_id="bimedix-notice", js_on_load=None)
        lines = status_html(model, transcript)
        state = gradio.HTML(lines, visible=bool(lines), elem_id="bimedix-status", js_on_load=None)
        shown = gradio.HTML(
            conversation_html([]),
            elem_id="bimedix-talk",
            min_height="30vh",
            max_height="max(35vh, 100vh - 28rem)",
            js_on_load=None,
        )
        field = gradio.Textbox(
            show_label=False,
            lines=2,
            max_lines=8,
            elem_id="bimedix-field",
            autofocus=True,
            placeholder=placeholder,
        )
        with gradio.Row(elem_id="bimedix-buttons"):
            send = gradio.Button(page_words("send"), variant="primary", elem_id="bimedix-send")
            halt = gradio.Button(page_words("stop"), interactive=False, elem_id="bimedix-stop")
            wipe = gradio.Button(page_words("clear"), elem_id="bimedix-clear")
        own = {"api_visibility": "private", "show_progress": "hidden"}
        asked = {"inputs": [field], "outputs": [shown, field, send, halt]}
        for event in (send.click, field.submit):
            event(say, **asked, **own, concurrency_limit=MAX_CONCURRENT)
        halt.click(stop, queue=False, **own)
        wipe.click(clear, outputs=[shown, send, halt], queue=False, **own)
        clock = gradio.Timer(1.0)
        for event in (clock.tick, blocks.load):
            event(tick, outputs=[state, clock], queue=False, **own)
        blocks.load(None, js=on_load.replace("MESSAGE", page_words("message")))
        blocks.unload(forget)
    return blocks


class _Guard:
    """Adds `_HEADERS` to every reply. Refuses uploads and what another page sends."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent = dict(scope["headers"])
        # A browser names the page that sends a form ("null" for a file); our own page has the name
        # of the host it asks for.
        origin = sent.get(b"origin")
        foreign = origin is not None and origin.partition(b"://")[2] != sent.get(b"host")
        if foreign or scope["path"].rstrip("/").endswith("/upload"):
            from starlette.responses import PlainTextResponse

            return await PlainTextResponse("not here", 403)(scope, receive, send)

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *_HEADERS]}
            await send(message)

        await self.app(scope, receive, with_headers)


def chat_application(model: ChatModel, title: str, transcript: str = "") -> Any:
    """The page as an ASGI application that answers to this machine's own names only."""
    blocks = chat_page(model, title, transcript)
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard)
    # A page of another host that resolves to this machine would send its own name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    blocks.queue(max_size=64, api_open=False)
    theme = gradio.themes.Default(
        font=_FONTS.split(", "), font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"]
    )
    return gradio.mount_gradio_app(
        app,
        blocks,
        "",
        server_name="127.0.0.1",
        footer_links=[],
        ssr_mode=False,
        show_error=True,
        max_file_size="1kb",
        enable_monitoring=False,
        mcp_server=False,
        css=read_template("chat.css") + read_template("page.css"),
        theme=theme,
    )


def serve_chat(model: ChatModel, title: str, port: int, transcript: str = "") -> None:
    """Serve the page on 127.0.0.1 until interrupted; a `LoadingModel` begins to load now.

    Raises `KitError` when the port is taken or the transcript cannot be written.
    """
    import socket

    if transcript:
        try:
            open(transcript, "a", encoding="utf-8").close()
        except OSError as error:
            raise KitError(f"the transcript cannot be written: {error}") from None
    app = chat_application(model, title, transcript)
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # a browser may come as soon as the address is printed
    except OSError:
        raise KitError(f"port {port} is taken: make chat PORT=another") from None
    if isinstance(model, LoadingModel):
        # Not before: two threads that import the same libraries at once disturb each other.
        model.begin()
    config = uvicorn.Config(app, log_level="critical", access_log=False)
    config.timeout_graceful_shutdown = 2
    with listener:
        # Port 0 takes any free one: the printed port is the one that was given.
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        print(f"chat with {title} at {address}  (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
