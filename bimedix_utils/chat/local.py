"""A model on this machine: its answer word by word, one answer at a time, stopped when asked."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import KitError
from ..core.templates import checked_messages
from .conversation import Ending, turns_that_fit

WAIT = 0.1  # seconds between two looks at the stop button


def pieces(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    stop: threading.Event,
    counted: list[int],
    **settings: Any,
) -> Iterator[str]:
    """The words of one generation as they are made; "" each `WAIT` seconds without a new one.
    `stop` ends it after the next token.

    `prompt`: token ids; `settings`: further arguments of `generate`. When it ends, `counted` holds
    the new token ids. An error of the model is raised here, on the reader's thread.
    """
    from queue import Empty

    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

    class Asked(StoppingCriteria):
        """Stops all rows once the button is pressed."""

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full(
                (input_ids.shape[0],), stop.is_set(), device=input_ids.device, dtype=torch.bool
            )

    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=True, timeout=WAIT, skip_special_tokens=True
    )
    ids = torch.tensor([prompt], device=model.device)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            with torch.inference_mode():
                out = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), streamer=streamer, pad_token_id=tokenizer.pad_token_id,
                    stopping_criteria=StoppingCriteriaList([Asked()]), **settings,
                )  # fmt: skip
            counted.extend(out[0, ids.shape[1] :].tolist())
        except BaseException as error:
            failure.append(error)
            streamer.text_queue.put(
                streamer.stop_signal
            )  # generate did not: its reader would wait for ever

    thread = threading.Thread(target=work, name="chat-generate", daemon=True)
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
class LocalModel:
    """A loaded causal model. Two users are answered one after the other; the second sees that the
    first is still at it.
    """

    model: Any
    tokenizer: Any
    max_new_tokens: int
    lock: Any = field(default_factory=threading.Lock)

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `conversation.Model`. Raises `InputError` for turns that do not alternate or a
        message that does not fit.
        """
        room = self.model.config.max_position_embeddings - self.max_new_tokens
        kept = turns_that_fit(checked_messages(history), lambda turns: len(self._ids(turns)), room)
        ending.left_out = len(checked_messages(history)) - len(kept)
        prompt, counted = self._ids(kept), []
        while not self.lock.acquire(timeout=WAIT):
            yield ""
            if stop.is_set():
                return
        # A stop of its own for the generation: the conversation's is set by its user only, and
        # asked about afterwards.
        halt = threading.Event()
        try:
            for piece in pieces(
                self.model,
                self.tokenizer,
                prompt,
                halt,
                counted,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                **_GREEDY,
            ):
                if stop.is_set():
                    halt.set()
                yield piece
        except (RuntimeError, ValueError, IndexError) as error:  # out of memory, say
            raise KitError(
                f"the model failed ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
            ) from error
        finally:
            self.lock.release()
        ending.cut = len(counted) >= self.max_new_tokens and not stop.is_set()

    def _ids(self, turns: list[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False).input_ids


_GREEDY = {
    "temperature": None,
    "top_p": None,
    "top_k": None,
}  # a model's own sampling settings would be warned about
