"""A model on this machine: the answer token by token, one answer at a time, stopped on demand."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from ..core.errors import KitError
from ..core.templates import checked_messages
from .conversation import Ending, turns_that_fit

POLL_SECONDS = 0.1  # between two looks at the stop button
# A model's own sampling settings would raise a warning.
GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def stream_tokens(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    stop: threading.Event,
    new_ids: list[int],
    **settings: Any,
) -> Iterator[str]:
    """The text of one generation as it grows; "" every `POLL_SECONDS` without new text.

    `prompt`: token ids; `settings`: arguments of `generate`. `stop` ends it after the next token.
    At the end `new_ids` holds the new token ids. A model's error is raised on the reader's thread.
    """
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

    class StopEvent(StoppingCriteria):
        """Stops every row once `stop` is set."""

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            rows = (input_ids.shape[0],)
            return torch.full(rows, stop.is_set(), device=input_ids.device, dtype=torch.bool)

    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=True, timeout=POLL_SECONDS, skip_special_tokens=True
    )
    ids = torch.tensor([prompt], device=model.device)
    settings |= {
        "attention_mask": torch.ones_like(ids),
        "pad_token_id": tokenizer.pad_token_id,
        "stopping_criteria": StoppingCriteriaList([StopEvent()]),
    }
    failure: list[BaseException] = []

    def generate() -> None:
        try:
            with torch.inference_mode():
                out = model.generate(input_ids=ids, streamer=streamer, **settings)
            new_ids.extend(out[0, ids.shape[1] :].tolist())
        except BaseException as error:
            failure.append(error)
            # `generate` did not end the stream: its reader would wait for ever.
            streamer.text_queue.put(streamer.stop_signal)

    thread = threading.Thread(target=generate, name="chat-generate", daemon=True)
    thread.start()
    try:
        while True:
            try:
                yield next(streamer)
            except Empty:
                yield ""
            except StopIteration:
                break
    finally:
        stop.set()  # a reader who leaves early stops the model
        thread.join()
    if failure:
        raise failure[0]


@dataclass
class StreamingModel:
    """A loaded causal model. It answers two users one after the other; the second one waits."""

    model: Any
    tokenizer: Any
    max_new_tokens: int
    lock: Any = field(default_factory=threading.Lock)

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `ChatModel`. Raises `InputError` for turns that do not alternate or do not fit."""
        room = self.model.config.max_position_embeddings - self.max_new_tokens
        turns = checked_messages(history)
        kept = turns_that_fit(turns, lambda part: len(self._encode(part)), room)
        ending.left_out = len(turns) - len(kept)
        while not self.lock.acquire(timeout=POLL_SECONDS):
            yield ""
            if stop.is_set():
                return
        # The generation has a stop event of its own: the conversation's is set by the user only.
        halt, new_ids = threading.Event(), []
        try:
            for piece in stream_tokens(
                self.model,
                self.tokenizer,
                self._encode(kept),
                halt,
                new_ids,
                max_new_tokens=self.max_new_tokens,
                **GREEDY,
            ):
                if stop.is_set():
                    halt.set()
                yield piece
        except (RuntimeError, ValueError, IndexError) as error:  # out of memory, say
            reason = str(error).splitlines()[0][:200]
            raise KitError(f"the model failed ({type(error).__name__}: {reason})") from error
        finally:
            self.lock.release()
        ending.cut = len(new_ids) >= self.max_new_tokens and not stop.is_set()

    def _encode(self, turns: list[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False).input_ids
