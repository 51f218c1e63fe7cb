"""The chat as a page in the browser: Gradio on the loopback device, nothing loaded from and nothing
sent to anywhere else.

What keeps it so: Gradio's analytics are off before it is imported, fonts are the system's, and
every answer carries a policy by which the browser itself refuses any other host. A conversation
lives in this process under the id its browser tab was given: a reload begins anew.
"""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..core.errors import KitError
from . import render
from .conversation import Conversation, Model
from .opening import Opening

MOST_CONVERSATIONS = 64  # the oldest is forgotten when another begins
AT_ONCE = 16  # messages under way; a local model answers them one after the other
REDRAW = 0.08  # seconds between two pictures of a growing answer
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
STATES = {
    "loading": {"en": "The model is loading …", "ar": "النموذج قيد التحميل …"},
    "failed": {"en": "The model could not be loaded.", "ar": "تعذر تحميل النموذج."},
}
KEPT = {"en": "Everything said here is kept in {file}.", "ar": "كل ما يُكتب هنا يُحفظ في {file}."}
# The notice stays at the top whatever is scrolled; margins are narrow on a phone.
STYLE = (
    render.STYLE
    + """
#bimedix-notice{position:sticky;top:0;z-index:10}
#bimedix-status p{margin:0;font-size:.85em}
.gradio-container{max-width:60rem!important;margin:auto!important;overflow:visible!important}
#bimedix-talk .html-container{scrollbar-gutter:stable}
@media (max-width:600px){.gradio-container,.gradio-container>main{padding:.4rem!important}#bimedix-buttons button{min-width:5rem!important}}
"""
)
# Every field takes the direction of what is typed; a growing answer is followed unless the reader
# has scrolled up.
ON_LOAD = """() => {
  document.documentElement.lang = 'en';
  document.querySelectorAll('textarea').forEach(field => { field.dir = 'auto'; field.setAttribute('aria-label', 'message · رسالة'); });
  let atEnd = true;
  const box = () => document.querySelector('#bimedix-talk .html-container');
  document.addEventListener('scroll', event => {
    if (event.target === box()) atEnd = box().scrollHeight - box().scrollTop - box().clientHeight < 60;
  }, true);
  document.addEventListener('click', event => { if (event.target.closest('#bimedix-send')) atEnd = true; });
  new MutationObserver(() => { if (atEnd && box()) box().scrollTop = box().scrollHeight; })
    .observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


class Talks:
    """The conversations of all open pages, by the id Gradio gives a browser tab."""

    def __init__(self, transcript: str = ""):
        self.transcript = transcript
        self._talks: dict[str, Conversation] = {}
        self._lock = threading.Lock()

    def of(self, session: str) -> Conversation:
        """The tab's conversation; begun when it is first asked for."""
        with self._lock:
            if session not in self._talks:
                while len(self._talks) >= MOST_CONVERSATIONS:
                    self._talks.pop(next(iter(self._talks))).clear()
                self._talks[session] = Conversation(self.transcript, secrets.token_hex(4))
            return self._talks[session]

    def forget(self, session: str) -> None:
        """The tab was closed or reloaded: stop its answer, keep nothing."""
        with self._lock:
            talk = self._talks.pop(session, None)
        if talk:
            talk.clear()


def status(model: Model, transcript: str = "") -> str:
    """What stands under the notice: whether the model is still loading, and whether a transcript is
    kept. Empty when neither.
    """
    lines = []
    if isinstance(model, Opening) and model.state in STATES:
        lines.append(
            STATES[model.state]
            | (
                {"en": f"{STATES['failed']['en']} {model.problem}"}
                if model.state == "failed"
                else {}
            )
        )
    if transcript:
        lines.append(
            {lang: text.format(file=os.path.basename(transcript)) for lang, text in KEPT.items()}
        )
    body = "".join(
        f"<p {render.direction(lang)}>{render.escape(line[lang])}</p>"
        for line in lines
        for lang in ("en", "ar")
    )
    return f'<div role="status">{body}</div>' if body else ""


def pictures(talk: Conversation, model: Model, text: str) -> Iterator[str]:
    """The conversation as HTML while it grows, a picture every `REDRAW` seconds at most; the last
    one always.
    """
    drawn, waiting = 0.0, ""
    for shown in talk.say(model, text):
        waiting = render.page(shown)
        if shown[-1].who != "model" or time.monotonic() - drawn >= REDRAW:
            yield waiting
            drawn, waiting = time.monotonic(), ""
    if waiting and talk.shown:  # not after "clear"
        yield waiting


def build(model: Model, title: str, transcript: str = "") -> Any:
    """The page as a Gradio Blocks. Raises `KitError` without Gradio."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise KitError("the page needs Gradio: make setup EXTRAS=chat") from None

    talks = Talks(transcript)

    def say(text: str, request: gradio.Request) -> Iterator[tuple[Any, ...]]:
        talk = talks.of(request.session_hash)
        if talk.busy or not (text or "").strip():
            yield gradio.skip(), gradio.skip(), gradio.skip(), gradio.skip()
            return
        for picture in pictures(talk, model, text):
            yield picture, "", gradio.update(interactive=False), gradio.update(interactive=True)
        if not talk.busy:  # not the next message already, after "clear"
            yield (
                gradio.skip(),
                gradio.skip(),
                gradio.update(interactive=True),
                gradio.update(interactive=False),
            )

    def stop(request: gradio.Request) -> None:
        talks.of(request.session_hash).stop.set()

    def clear(request: gradio.Request) -> tuple[Any, ...]:
        talks.of(request.session_hash).clear()
        return render.page([]), gradio.update(interactive=True), gradio.update(interactive=False)

    def forget(request: gradio.Request) -> None:
        talks.forget(request.session_hash)

    def tick() -> tuple[Any, Any]:
        words = status(model, transcript)
        loading = isinstance(model, Opening) and model.state == "loading"
        return gradio.update(value=words, visible=bool(words)), gradio.Timer(active=loading)

    with gradio.Blocks(title=title, analytics_enabled=False) as blocks:
        gradio.HTML(render.notice(), elem_id="bimedix-notice", js_on_load=None)
        words = status(model, transcript)
        state = gradio.HTML(words, visible=bool(words), elem_id="bimedix-status", js_on_load=None)
        shown = gradio.HTML(
            render.page([]),
            elem_id="bimedix-talk",
            min_height="30vh",
            max_height="max(35vh, 100vh - 28rem)",
            js_on_load=None,
        )
        field = gradio.Textbox(
            show_label=False, lines=2, max_lines=8, elem_id="bimedix-field", autofocus=True,
            placeholder="Type here (Shift+Enter sends) · يمكن الكتابة هنا (للإرسال Shift+Enter)",
        )  # fmt: skip
        with gradio.Row(elem_id="bimedix-buttons"):
            send = gradio.Button("Send · إرسال", variant="primary", elem_id="bimedix-send")
            halt = gradio.Button("Stop · إيقاف", interactive=False, elem_id="bimedix-stop")
            wipe = gradio.Button("Clear · مسح", elem_id="bimedix-clear")
        said = {
            "inputs": [field],
            "outputs": [shown, field, send, halt],
            "concurrency_limit": AT_ONCE,
            "show_progress": "hidden",
        }
        quick = {"queue": False, "show_progress": "hidden"}
        send.click(say, api_visibility="private", **said)
        field.submit(say, api_visibility="private", **said)
        halt.click(stop, api_visibility="private", **quick)
        wipe.click(clear, outputs=[shown, send, halt], api_visibility="private", **quick)
        clock = gradio.Timer(1.0)
        clock.tick(tick, outputs=[state, clock], api_visibility="private", **quick)
        blocks.load(tick, outputs=[state, clock], api_visibility="private", **quick)
        blocks.load(None, js=ON_LOAD)
        blocks.unload(forget)
    return blocks


class _Headed:
    """Adds `HEADERS` to every answer, without holding a streamed one back. Refuses what another
    page sends, and uploads: there are none.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            told = dict(scope["headers"])
            # A browser names the page that sends a form ("null" for a file); our own page's name is
            # the one it asks for.
            foreign = b"origin" in told and told[b"origin"].partition(b"://")[2] != told.get(
                b"host"
            )
            if foreign or scope["path"].rstrip("/").endswith("/upload"):
                from starlette.responses import PlainTextResponse

                return await PlainTextResponse("not here", 403)(scope, receive, send)

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self.app(scope, receive, headed if scope["type"] == "http" else send)


def application(model: Model, title: str, transcript: str = "") -> Any:
    """The page as an ASGI application that answers to this machine's own names only, each answer
    under `POLICY`.
    """
    blocks = build(model, title, transcript)
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(_Headed)
    # A page of another host that resolves to this machine would send its own name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    system = [
        "system-ui",
        "Segoe UI",
        "Noto Sans",
        "Noto Sans Arabic",
        "DejaVu Sans",
        "Arial",
        "sans-serif",
    ]
    blocks.queue(max_size=64, api_open=False)
    return gradio.mount_gradio_app(
        app, blocks, "", server_name="127.0.0.1", footer_links=[], ssr_mode=False, show_error=True, max_file_size="1kb",
        enable_monitoring=False, mcp_server=False, css=STYLE,
        theme=gradio.themes.Default(font=system, font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"]),
    )  # fmt: skip


def serve(model: Model, title: str, port: int, transcript: str = "") -> None:
    """Serve the page on 127.0.0.1 until interrupted; an `Opening` begins to load now.

    Raises `KitError` when the port is taken or the transcript cannot be written.
    """
    import socket

    if transcript:
        try:
            open(transcript, "a", encoding="utf-8").close()
        except OSError as error:
            raise KitError(f"the transcript cannot be written: {error}") from None
    app = application(model, title, transcript)
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # whoever reads the address below may come at once
    except OSError:
        raise KitError(f"port {port} is taken: make chat PORT=another") from None
    if isinstance(model, Opening):
        # not before: two threads that import the same libraries at once get in each other's way
        model.begin()
    with listener:
        # The printed port is the one that was given out: 0 takes any free one.
        print(
            f"chat with {title} at http://127.0.0.1:{listener.getsockname()[1]}/  (Ctrl-C ends it)",
            flush=True,
        )
        uvicorn.Server(
            uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=2)
        ).run(sockets=[listener])
