"""The chat in a notebook cell, by ipywidgets: the answer grows, a button stops it."""

import threading
from typing import Any

from .conversation import ChatModel, Conversation
from .render import conversation_html, notice_html, page_words, read_template


def chat_box(model: ChatModel) -> Any:
    """A text field, the buttons send, stop and clear, and the conversation.

    The answer is made on a thread, `chat_box(...).worker`: a callback that waited for it would
    block the stop button.
    """
    import ipywidgets

    conversation = Conversation()
    field = ipywidgets.Textarea(
        placeholder=page_words("placeholder"), rows=3, layout={"width": "100%"}
    )
    send = ipywidgets.Button(description=page_words("send"), button_style="primary")
    stop = ipywidgets.Button(description=page_words("stop"), disabled=True)
    clear = ipywidgets.Button(description=page_words("clear"))
    messages = ipywidgets.HTML()
    notice = ipywidgets.HTML(f"<style>{read_template('chat.css')}</style>{notice_html()}")
    box = ipywidgets.VBox([notice, messages, field, ipywidgets.HBox([send, stop, clear])])
    box.worker = None

    def answer(text: str) -> None:
        try:
            for shown in conversation.say(model, text):
                messages.value = conversation_html(shown)
        finally:
            send.disabled, stop.disabled = conversation.busy, not conversation.busy

    def on_send(_: Any) -> None:
        text = field.value
        if text.strip() and not conversation.busy:
            field.value, send.disabled, stop.disabled = "", True, False
            box.worker = threading.Thread(target=answer, args=(text,), name="chat-box", daemon=True)
            box.worker.start()

    def on_clear(_: Any) -> None:
        conversation.clear()
        messages.value = conversation_html([])
        send.disabled, stop.disabled = False, True

    send.on_click(on_send)
    stop.on_click(lambda _: conversation.stop.set())
    clear.on_click(on_clear)
    on_clear(None)
    return box
