"""The chat in a notebook cell: ipywidgets, the answer word by word, stopped by a button; the kernel
stays free meanwhile.
"""

import threading
from typing import Any

from . import render
from .conversation import Conversation, Model


def box(model: Model) -> Any:
    """A text field, the buttons send, stop and clear, and the conversation, each message in its own
    direction.

    The answer is made on a thread, `box(...).worker`: a callback that waited for it would keep the
    stop button from being heard.
    """
    import ipywidgets

    talk = Conversation()
    field = ipywidgets.Textarea(
        placeholder="Type here · يمكن الكتابة هنا", rows=3, layout={"width": "100%"}
    )
    send = ipywidgets.Button(description="Send · إرسال", button_style="primary")
    stop = ipywidgets.Button(description="Stop · إيقاف", disabled=True)
    clear = ipywidgets.Button(description="Clear · مسح")
    conversation = ipywidgets.HTML()
    whole = ipywidgets.VBox(
        [
            ipywidgets.HTML(f"<style>{render.STYLE}</style>{render.notice()}"),
            conversation,
            field,
            ipywidgets.HBox([send, stop, clear]),
        ]
    )
    whole.worker = None

    def work(text: str) -> None:
        try:
            for shown in talk.say(model, text):
                conversation.value = render.page(shown)
        finally:
            send.disabled, stop.disabled = talk.busy, not talk.busy

    def on_send(_: Any) -> None:
        text = field.value
        if text.strip() and not talk.busy:
            field.value, send.disabled, stop.disabled = "", True, False
            whole.worker = threading.Thread(target=work, args=(text,), name="chat-box", daemon=True)
            whole.worker.start()

    def on_clear(_: Any) -> None:
        talk.clear()
        conversation.value = render.page([])
        send.disabled, stop.disabled = False, True

    send.on_click(on_send)
    stop.on_click(lambda _: talk.stop.set())
    clear.on_click(on_clear)
    on_clear(None)
    return whole
