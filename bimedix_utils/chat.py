"""Talk to a model in either language, with the framing medicine needs: research only, and emergencies first."""

import re
from collections.abc import Callable
from typing import Any

from .display import NOTICE
from .templates import checked
from .text import is_arabic, match_key

# Words of emergencies, matched on folded text. The list errs towards warning: a needless warning costs little.
_RED_FLAGS = {
    "en": (
        r"chest (?:pain|pressure|tightness)|kill myself|suicid|end my life|overdose|took too many|face (?:is )?droop|slurred speech|"
        r"can(?: ?t|not| not) breathe|bleeding (?:heavily|a lot)|severe bleeding|vomit\w* blood|unconscious|one side of (?:my|his|her) body"
    ),
    "ar": (
        r"الم (?:\w+ )?(?:في )?(?:ال)?صدر|ضغط في الصدر|انتحار|اقتل نفسي|انهي حياتي|جرعه زايده|تناولت حبوبا كثيره|تدلي الوجه|"
        r"ثقل في الكلام|لا (?:استطيع|يستطيع|تستطيع) التنفس|نزيف شديد|نزف شديد|تقيو دم|فقد الوعي|فاقد الوعي|شلل في جانب"
    ),
}
EMERGENCY = {
    "en": "This may be an emergency. Call your local emergency number or go to the nearest emergency department now.",
    "ar": "قد تكون هذه حالة طارئة. يجب الاتصال برقم الطوارئ المحلي أو التوجه إلى أقرب قسم طوارئ الآن.",
}


def language(text: str) -> str:
    """`ar` when most letters are Arabic, else `en`: the answer follows the user's language."""
    return "ar" if is_arabic(text) else "en"


def red_flag(text: str) -> str | None:
    """The emergency message in the user's language when the text names an emergency, else None."""
    folded = match_key(text)
    if any(re.search(pattern, folded) for pattern in _RED_FLAGS.values()):
        return EMERGENCY[language(text)]
    return None


def reply(model: Any, tokenizer: Any, history: list[dict[str, str]], max_new_tokens: int) -> str:
    """The model's greedy answer to a conversation that ends with the user. Raises `InputError` when turns do not alternate."""
    import torch

    text = tokenizer.apply_chat_template(checked(history), tokenize=False, add_generation_prompt=True)
    coded = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    room = model.config.max_position_embeddings - max_new_tokens
    ids, mask = coded.input_ids[:, -room:], coded.attention_mask[:, -room:]
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()


def answer(ask: Callable[[list[dict[str, str]]], str], history: list[dict[str, str]], text: str) -> list[tuple[str, str]]:
    """What to show for one user message, in order: (emergency, ...) where it applies, (model, ...), (notice, ...).

    `ask` turns a history into the model's words. The history grows by the user's message and the model's answer.
    """
    shown = [("emergency", warning)] if (warning := red_flag(text)) else []
    history.append({"role": "user", "content": text})
    said = ask(history)
    history.append({"role": "assistant", "content": said})
    return [*shown, ("model", said), ("notice", NOTICE[language(text)])]


def box(ask: Callable[[list[dict[str, str]]], str]) -> Any:
    """An ipywidgets chat: a text field, a send button, a clear button and the conversation, each message in its own direction."""
    import ipywidgets

    from .display import notice, span

    history: list[dict[str, str]] = []
    shown: list[tuple[str, str]] = []
    field = ipywidgets.Textarea(placeholder="Type here · يمكن الكتابة هنا", layout={"width": "100%"})
    send, clear = ipywidgets.Button(description="Send · إرسال"), ipywidgets.Button(description="Clear · مسح")
    page = ipywidgets.HTML()

    def draw() -> None:
        page.value = notice()._repr_html_() + "".join(f"<p><b>{who}</b></p>{span(text, 'p')}" for who, text in shown)

    def on_send(_: Any) -> None:
        text, field.value = field.value.strip(), ""
        if text:
            send.disabled = True
            shown.append(("user", text))
            draw()
            shown.extend(answer(ask, history, text))
            draw()
            send.disabled = False

    def on_clear(_: Any) -> None:
        history.clear()
        shown.clear()
        draw()

    send.on_click(on_send)
    clear.on_click(on_clear)
    draw()
    return ipywidgets.VBox([page, field, ipywidgets.HBox([send, clear])])
