"""Prompt formats: protocol, option letters, chat template or plain text, few-shot examples.

The kit's scorer, endpoints and the lm-evaluation-harness files share one rendering: a score belongs
to its prompt format.

* `label`: the question with lettered options; the option with the likeliest letter wins.
* `option_text`: only the question; the option with the likeliest text wins.
* `generation`: the question with lettered options; the model writes, and `extraction` parses the
  answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ..core.errors import AuditError, InputError
from ..core.records import Record
from ..core.templates import answer_lead, layout_words, option_letters, render_question
from ..core.text import digest
from ..sources.benchmarks import TASK_VERSION, Task

Protocol = Literal["label", "option_text", "generation"]
Letters = Literal["own", "latin", "arabic"]
_REPLY_MARK = "THE-REPLY-STANDS-HERE"


@dataclass(frozen=True)
class PromptFormat:
    """One way to ask. `letters` "own" are those of the item's language; `examples` are few-shot
    examples, shown with their answers before every item.
    """

    protocol: Protocol
    letters: Letters = "own"
    chat: bool = True
    examples: tuple[Record, ...] = ()

    @property
    def name(self) -> str:
        """As in a table: protocol, letters if any, chat or plain, few-shot examples."""
        letters = "" if self.protocol == "option_text" else f", {self.letters} letters"
        shots = f", {len(self.examples)} examples" if self.examples else ""
        return f"{self.protocol}{letters}, {'chat' if self.chat else 'plain'}{shots}"

    def labels(self, lang: str) -> str:
        """The option letters shown for a language."""
        return option_letters({"own": lang, "latin": "en", "arabic": "ar"}[self.letters])


def prompt_formats(protocols: str, letters: str, chat: bool) -> list[PromptFormat]:
    """The formats named by parameters. Raises `InputError` for an unknown protocol."""
    legal, names = get_args(Protocol), protocols.split()
    unknown = [name for name in names if name not in legal]
    if unknown or not names:
        named = ", ".join(unknown) or "nothing"
        raise InputError(f"PROTOCOLS names {named}; legal: {', '.join(legal)}")
    return [PromptFormat(protocol, letters, chat) for protocol in names]


def with_few_shot(
    fmt: PromptFormat, task: Task, records: Iterable[Record], shots: int, seed: int
) -> PromptFormat:
    """The format with `shots` examples: training rows of the task's source, then of others, in its
    language, drawn by a seeded hash. The same examples stand before every item.

    Raises `InputError` when there are too few.
    """
    if not shots:
        return fmt
    rows = [
        r
        for r in records
        if (r.kind, r.split, r.lang, r.status) == ("mcqa", "train", task.lang, "ok")
    ]
    rows.sort(key=lambda r: (r.source != task.name, digest(f"shots:{seed}:{r.id}")))
    if len(rows) < shots:
        raise InputError(
            f"{task.name}, {task.lang}: FEW_SHOT asks for {shots} examples, but there are only"
            f" {len(rows)} training rows; lower FEW_SHOT"
        )
    return replace(fmt, examples=tuple(rows[:shots]))


@dataclass(frozen=True)
class RenderedPrompt:
    """An item as text: `prompt`, then for each option `space` and its continuation; `generation`
    has no continuations.
    """

    prompt: str
    space: str
    continuations: tuple[str, ...]


def render_prompt(record: Record, fmt: PromptFormat, tokenizer: Any = None) -> RenderedPrompt:
    """The item in this format. `tokenizer` gives the chat template; `chat` formats need one.

    Raises `AuditError` when the tokenizer has no chat template, or one that loses the assistant's
    text.
    """
    examples = [(_user_text(example, fmt), _answer_text(example, fmt)) for example in fmt.examples]
    item = _user_text(record, fmt)
    lead = answer_lead(record.lang) if fmt.protocol == "label" else ""
    if fmt.chat:
        prompt = _chat_prompt([*examples, (item, _REPLY_MARK)], tokenizer)
    else:
        plain = [f"{shown}\n{answer}" for shown, answer in examples]
        prompt = "\n\n".join([*plain, f"{item}\n{lead or _answer_word(record.lang)}"])
    if fmt.protocol == "label":
        # The letter follows the lead words after one space, whatever the template puts before the
        # reply.
        letters = tuple(fmt.labels(record.lang)[: len(record.options)])
        return RenderedPrompt(prompt + lead if fmt.chat else prompt, " ", letters)
    if fmt.protocol == "generation":
        # A line break of the template stays; a space the model writes itself.
        return RenderedPrompt(prompt.rstrip(" "), "", ())
    # White space at the prompt's end belongs to the reply: tokenizers and the harness see it so.
    space = prompt[len(prompt.rstrip()) :] if fmt.chat else " "
    return RenderedPrompt(prompt.rstrip(), space, record.options)


def _answer_word(lang: str) -> str:
    return f"{layout_words(lang)['answer']}:"


def _user_text(record: Record, fmt: PromptFormat) -> str:
    if fmt.protocol != "option_text":
        return render_question(record, fmt.labels(record.lang))
    words = layout_words(record.lang)
    context = f"{words['context']}: {record.context}\n" if record.context else ""
    return f"{context}{'' if fmt.chat else words['question'] + ': '}{record.question}"


def _answer_text(record: Record, fmt: PromptFormat) -> str:
    if fmt.protocol == "option_text":
        text = record.options[record.answer_index]
        return text if fmt.chat else f"{_answer_word(record.lang)} {text}"
    answer = f"{answer_lead(record.lang)} {fmt.labels(record.lang)[record.answer_index]}."
    plain = not fmt.chat and fmt.protocol == "generation"
    return f"{_answer_word(record.lang)} {answer}" if plain else answer


def _chat_prompt(pairs: list[tuple[str, str]], tokenizer: Any) -> str:
    """The conversation up to where the last reply begins, exactly as training renders it."""
    if not getattr(tokenizer, "chat_template", None):
        raise AuditError("this tokenizer has no chat template: ask in plain text (CHAT = no)")
    turns = []
    for question, answer in pairs:
        turns.append({"role": "user", "content": question})
        turns.append({"role": "assistant", "content": answer})
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    before, found, _ = rendered.rpartition(_REPLY_MARK)
    if not found:
        raise AuditError(
            "the chat template changes the assistant's text: ask in plain text (CHAT = no)"
        )
    return before


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """The text's token ids. A special first token is added unless the text brings it."""
    special = not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))
    return tokenizer(text, add_special_tokens=special).input_ids


def split_tokens(tokenizer: Any, shown: RenderedPrompt) -> tuple[list[int], list[list[int]]]:
    """(prompt tokens, tokens of each continuation). Both are tokenised **together**:
    " A" and "A" are different tokens.

    Raises `AuditError` when a continuation changes the prompt's own tokens: the score would belong
    to another text.
    """
    before = prompt_tokens(tokenizer, shown.prompt)
    after = []
    for text in shown.continuations:
        full = prompt_tokens(tokenizer, shown.prompt + shown.space + text)
        if full[: len(before)] != before or len(full) == len(before):
            raise AuditError(
                f"the tokenizer merges the prompt's end with {shown.space + text!r}: use another"
                " prompt format"
            )
        after.append(full[len(before) :])
    return before, after


def task_version(task: Task, fmt: PromptFormat) -> str:
    """The task's version in this format. It changes with the prompt's wording, letters, layout,
    examples and split.
    """
    probe = Record(
        id="probe",
        kind="mcqa",
        lang=task.lang,
        source=task.name,
        licence="none",
        split="test",
        question="?",
        context="?",
        options=("1", "2"),
        answer_index=0,
    )
    shown = render_prompt(probe, replace(fmt, chat=False))
    parts = [fmt.name, task.split, shown.prompt, shown.space, shown.continuations]
    return f"{TASK_VERSION}.{digest(parts, 6)}"
