"""How an item is asked: protocol, letters, chat template or plain text, worked examples.

One rendering for the kit's scorer, for endpoints and for the lm-evaluation-harness files: a score
belongs to its form.

* `label`: the question with lettered options; the option whose letter is likeliest after the lead
  words wins.
* `option_text`: only the question; the option whose own words are likeliest wins.
* `generation`: the question with lettered options; the model writes, and its answer is read from
  the text (`extract`).
"""

from dataclasses import dataclass
from typing import Any, Literal

from ..core.errors import AuditError
from ..core.records import Record
from ..core.templates import answer_lead, layout_words, option_letters, render_question
from ..core.text import digest
from ..sources.benchmarks import TASK_VERSION, Task

Protocol = Literal["label", "option_text", "generation"]
Letters = Literal["own", "latin", "arabic"]
_MARK = "THE-REPLY-STANDS-HERE"


@dataclass(frozen=True)
class Form:
    """One way of asking. `letters` "own" are those of the item's language; `examples` are shown,
    answered, before every item.
    """

    protocol: Protocol
    letters: Letters = "own"
    chat: bool = True
    examples: tuple[Record, ...] = ()

    @property
    def name(self) -> str:
        """As in a table: protocol, letters where there are any, chat or plain, worked examples."""
        letters = "" if self.protocol == "option_text" else f", {self.letters} letters"
        shots = f", {len(self.examples)} examples" if self.examples else ""
        return f"{self.protocol}{letters}, {'chat' if self.chat else 'plain'}{shots}"

    def labels(self, lang: str) -> str:
        """The option letters shown for a language."""
        return {
            "own": option_letters(lang),
            "latin": option_letters("en"),
            "arabic": option_letters("ar"),
        }[self.letters]


@dataclass(frozen=True)
class Asked:
    """An item as text: `prompt`, then for each option `space` and its `continuation`; none for
    `generation`.
    """

    prompt: str
    space: str
    continuations: tuple[str, ...]


def asked(record: Record, form: Form, tokenizer: Any = None) -> Asked:
    """The item in this form. `tokenizer` gives the chat template; `chat` forms need one.

    Raises `AuditError` when the tokenizer has no chat template, or one that loses the assistant's
    words.
    """
    letters = form.labels(record.lang)
    blocks = [(_shown(example, form), _answered(example, form)) for example in form.examples]
    start = answer_lead(record.lang) if form.protocol == "label" else ""
    if form.chat:
        prompt = _header([*blocks, (_shown(record, form), _MARK)], tokenizer)
    else:
        plain = [f"{shown}\n{answered}" for shown, answered in blocks]
        prompt = "\n\n".join(
            [*plain, f"{_shown(record, form)}\n{start or _answer_word(record.lang)}"]
        )
    if form.protocol == "label":
        # The letter follows the lead words, and so does its space, whatever the template puts
        # before the reply.
        return Asked(
            prompt + start if form.chat else prompt, " ", tuple(letters[: len(record.options)])
        )
    if (
        form.protocol == "generation"
    ):  # what is written follows the header's line break; a space it writes itself
        return Asked(prompt.rstrip(" "), "", ())
    # White space at the prompt's end belongs to the reply, as tokenizers see it and as the harness
    # counts it.
    space = prompt[len(prompt.rstrip()) :] if form.chat else " "
    return Asked(prompt.rstrip(), space, record.options)


def _answer_word(lang: str) -> str:
    return f"{layout_words(lang)['answer']}:"


def _shown(record: Record, form: Form) -> str:
    if form.protocol != "option_text":
        return render_question(record, form.labels(record.lang))
    fixed = layout_words(record.lang)
    context = f"{fixed['context']}: {record.context}\n" if record.context else ""
    return (
        f"{context}{record.question}"
        if form.chat
        else f"{context}{fixed['question']}: {record.question}"
    )


def _answered(record: Record, form: Form) -> str:
    if form.protocol == "option_text":
        text = record.options[record.answer_index]
        return text if form.chat else f"{_answer_word(record.lang)} {text}"
    answer = f"{answer_lead(record.lang)} {form.labels(record.lang)[record.answer_index]}."
    return (
        answer if form.chat or form.protocol == "label" else f"{_answer_word(record.lang)} {answer}"
    )


def _header(pairs: list[tuple[str, str]], tokenizer: Any) -> str:
    """The conversation up to where the last reply begins, exactly as training renders it."""
    if not getattr(tokenizer, "chat_template", None):
        raise AuditError("this tokenizer has no chat template: ask in plain text (CHAT = no)")
    roles = ("user", "assistant")
    turns = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(roles, pair, strict=True)
    ]
    before, found, _ = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(_MARK)
    if not found:
        raise AuditError(
            "the chat template does not show the assistant's words as they are: ask in plain text"
            " (CHAT = no)"
        )
    return before


def encode(tokenizer: Any, text: str) -> list[int]:
    """The text's tokens. A tokenizer that begins texts with a special token does so here, unless
    the text brings it.
    """
    special = not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))
    return tokenizer(text, add_special_tokens=special).input_ids


def split_tokens(tokenizer: Any, asked: Asked) -> tuple[list[int], list[list[int]]]:
    """(prompt tokens, tokens of each continuation), each tokenised **together** with the prompt: "
    A" and "A" are different tokens.

    Raises `AuditError` when a
    continuation changes the prompt's own tokens: the score would belong to another text.
    """
    before = encode(tokenizer, asked.prompt)
    after = []
    for text in asked.continuations:
        whole = encode(tokenizer, asked.prompt + asked.space + text)
        if whole[: len(before)] != before or len(whole) == len(before):
            raise AuditError(
                f"the tokenizer merges the prompt's end with {asked.space + text!r}: score another"
                " form of the label"
            )
        after.append(whole[len(before) :])
    return before, after


def version(task: Task, form: Form) -> str:
    """The task's version in this form: it changes with the prompt's wording, letters, layout,
    examples, split or draw.
    """
    probe = Record(
        id="probe", kind="mcqa", lang=task.lang, source=task.name, licence="none", split="test",
        question="?", context="?", options=("1", "2"), answer_index=0,
    )  # fmt: skip
    plain = Form(form.protocol, form.letters, False, form.examples)
    shown = asked(probe, plain)
    return f"{TASK_VERSION}.{digest([form.name, task.split, shown.prompt, shown.space, shown.continuations], 6)}"
