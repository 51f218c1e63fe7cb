"""Which model answers, and a model that is still loading: the page is there at once and answers
when the model is.
"""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import KitError
from ..core.provenance import resolve_path, run_folder, shown_path, trained_base
from .conversation import Ending, Model
from .endpoint import EndpointModel
from .local import WAIT, LocalModel

PRECISIONS = ("4bit", "full")


def tuned(mode: str, run: str = "") -> tuple[Path | str, Path]:
    """(base, adapter) that notebook 06 left in a run. Raises `KitError` when it did not finish."""
    stage = run_folder(mode, run) / "06_finetune_qlora"
    if not (stage / "run.json").exists() or not (stage / "base.json").exists():
        raise KitError(
            f"there is no tuned model in {shown_path(stage.parent)}: `make run MODE={mode}` makes one,"
            " or name a model with MODEL="
        )
    return trained_base(stage)[1], stage / "adapter"


def adapter_base(adapter: Path) -> str | Path:
    """What an adapter's own file calls its base, as a folder beside it or in the project, or a hub
    id. Raises `KitError`.
    """
    named = (
        json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get(
            "base_model_name_or_path"
        )
        or ""
    )
    for folder in (adapter.parent / named, resolve_path(named)):
        if named and folder.is_dir():
            return folder
    if named.count("/") == 1:
        return named
    raise KitError(
        f"the adapter {shown_path(adapter)} calls its base {named or 'nothing'!r}, which is not found"
        " here: name it with BASE="
    )


def load(
    name: str, base: str = "", precision: str = "4bit", max_new_tokens: int = 512
) -> LocalModel:
    """A model of a folder or the hub, ready to chat: a whole one, or an adapter's folder (on
    `base`, or what its own file names).

    `precision`: `4bit` (NF4, as the kit trains) or `full`, without quantisation. Raises `KitError`
    when it cannot be had or has no chat template.
    """
    from ..training import models

    if precision not in PRECISIONS:
        raise KitError(f"precision {precision!r}: one of {', '.join(PRECISIONS)}")
    folder = resolve_path(name)
    if not folder.is_dir() and (Path(name).is_absolute() or name.count("/") != 1):
        raise KitError(f"{name!r} is neither a folder nor a hub id")
    adapter = folder if (folder / "adapter_config.json").exists() else None
    whole: str | Path = folder if folder.is_dir() else name
    if adapter is not None:
        whole = (
            (resolve_path(base) if resolve_path(base).is_dir() else base)
            if base
            else adapter_base(adapter)
        )
    if precision == "4bit":
        model, tokenizer = models.load_scored(whole, adapter)
    else:
        import torch

        model, tokenizer = models.load_plain(
            whole, adapter, "bfloat16" if torch.cuda.is_available() else "float32"
        )
    return ready(model, tokenizer, max_new_tokens)


def ready(model: Any, tokenizer: Any, max_new_tokens: int) -> LocalModel:
    """A loaded model as one that chats. Raises `KitError` without a chat template, or when no room
    is left for a question.
    """
    if not tokenizer.chat_template:
        raise KitError("the model has no chat template: it cannot take part in a chat")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if (room := model.config.max_position_embeddings) < max_new_tokens + 16:
        raise KitError(
            f"the model reads {room:,} tokens: an answer of {max_new_tokens:,} leaves no room for a"
            " question"
        )
    return LocalModel(model, tokenizer, max_new_tokens)


@dataclass
class Opening:
    """A model that `loader` makes on a thread of its own; whoever asks meanwhile is answered when
    it is there.
    """

    loader: Callable[[], Model]
    model: Model | None = None
    problem: str = ""  # why there will be none
    done: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> "Opening":
        """Start loading; returns itself at once."""
        threading.Thread(target=self._load, name="chat-loading", daemon=True).start()
        return self

    def _load(self) -> None:
        try:
            self.model = self.loader()
        except KitError as error:
            self.problem = str(error)
        except BaseException as error:  # whatever it is, the page must not wait for ever
            self.problem = (
                f"the model cannot be loaded ({type(error).__name__}:"
                f" {str(error).splitlines()[0][:200] if str(error) else ''})"
            )
        finally:
            self.done.set()

    @property
    def state(self) -> str:
        """`loading`, `ready` or `failed`."""
        return "loading" if not self.done.is_set() else "failed" if self.problem else "ready"

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `conversation.Model`. Raises `KitError` when the model could not be loaded."""
        while not self.done.wait(WAIT):
            ending.loading = True
            yield ""
            if stop.is_set():
                return
        if self.model is None:
            raise KitError(self.problem)
        yield from self.model.stream(history, stop, ending)


def open_model(
    name: str = "", url: str = "", *, url_model: str = "", base: str = "", mode: str = "smoke", run: str = "", precision: str = "4bit",
    max_new_tokens: int = 512, allow_remote: bool = False,
) -> Model:  # fmt: skip
    """Whatever can answer: the endpoint at `url`, else the folder or hub id `name`, else what
    notebook 06 left in a run.

    `base`: what an adapter's folder `name` stands on; `url_model`: the endpoint's model. Raises
    `KitError`.
    """
    if url and name:
        raise KitError(
            "two models are named, one by its address and one by its name: give MODEL or URL, not"
            " both"
        )
    if url:
        return EndpointModel(url, url_model, max_new_tokens, allow_remote)
    if name:
        return load(name, base, precision, max_new_tokens)
    found, adapter = tuned(mode, run)
    return load(str(adapter), str(found), precision, max_new_tokens)
