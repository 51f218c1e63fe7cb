"""Which model answers, and a model that is still loading: the page is there at once."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import KitError
from ..core.parameters import PRECISIONS
from ..core.provenance import resolve_path, run_folder, shown_path, trained_base
from .conversation import ChatModel, Ending
from .local import POLL_SECONDS, StreamingModel
from .remote import StreamingEndpoint


def tuned_model(mode: str, run: str = "") -> tuple[Path | str, Path]:
    """(base, adapter) that notebook 06 left in a run. Raises `KitError` when it did not finish."""
    stage = run_folder(mode, run) / "06_finetune_qlora"
    if not (stage / "run.json").exists() or not (stage / "base.json").exists():
        raise KitError(
            f"there is no tuned model in {shown_path(stage.parent)}: `make run MODE={mode}` makes"
            " one, or name a model with MODEL="
        )
    return trained_base(stage)[1], stage / "adapter"


def adapter_base(adapter: Path) -> str | Path:
    """The base that an adapter's file names: a folder beside it or in the project, or a hub id.

    Raises `KitError` when it is not found.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    name = config.get("base_model_name_or_path") or ""
    for folder in (adapter.parent / name, resolve_path(name)):
        if name and folder.is_dir():
            return folder
    if name.count("/") == 1:
        return name
    raise KitError(
        f"the adapter {shown_path(adapter)} calls its base {name or 'nothing'!r}, which is not"
        " found here: name it with BASE="
    )


def load_chat_model(
    name: str, base: str = "", precision: str = "nf4", max_new_tokens: int = 512
) -> StreamingModel:
    """A whole model (folder or hub id) or an adapter's folder, ready to chat.

    `base`: the adapter's base, when its own file does not name it. `precision`: see `PRECISIONS`.
    Raises `KitError` when the model is not found, has no chat template or reads too little.
    """
    from ..training import models

    if precision not in PRECISIONS:
        raise KitError(f"precision {precision!r}: one of {', '.join(PRECISIONS)}")
    folder = resolve_path(name)
    if not folder.is_dir() and (Path(name).is_absolute() or name.count("/") != 1):
        raise KitError(f"{name!r} is neither a folder nor a hub id")
    whole, adapter = (folder if folder.is_dir() else name), None
    if (folder / "adapter_config.json").exists():
        adapter = folder
        given = resolve_path(base) if base and resolve_path(base).is_dir() else base
        whole = given or adapter_base(adapter)
    if precision == "nf4":
        model, tokenizer = models.load_scored(whole, adapter)
    else:
        model, tokenizer = models.load_plain(whole, adapter, precision)
    if not tokenizer.chat_template:
        raise KitError("the model has no chat template: it cannot take part in a chat")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if (room := model.config.max_position_embeddings) < max_new_tokens + 16:
        raise KitError(
            f"the model reads {room:,} tokens: an answer of {max_new_tokens:,} leaves no room for a"
            " question"
        )
    return StreamingModel(model, tokenizer, max_new_tokens)


@dataclass
class LoadingModel:
    """A model that `loader` makes on a thread; messages sent meanwhile are answered afterwards."""

    loader: Callable[[], ChatModel]
    model: ChatModel | None = None
    problem: str = ""  # why loading failed
    done: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> "LoadingModel":
        """Start loading; returns at once."""
        threading.Thread(target=self._load, name="chat-loading", daemon=True).start()
        return self

    def _load(self) -> None:
        try:
            self.model = self.loader()
        except KitError as error:
            self.problem = str(error)
        except BaseException as error:  # no error may leave the page waiting
            reason = (str(error).splitlines() or [""])[0][:200]
            self.problem = f"the model cannot be loaded ({type(error).__name__}: {reason})"
        finally:
            self.done.set()

    @property
    def state(self) -> str:
        """`loading`, `ready` or `failed`."""
        return "loading" if not self.done.is_set() else "failed" if self.problem else "ready"

    def stream(
        self, history: list[dict[str, str]], stop: threading.Event, ending: Ending
    ) -> Iterator[str]:
        """See `ChatModel`. Raises `KitError` when the model could not be loaded."""
        while not self.done.wait(POLL_SECONDS):
            ending.loading = True
            yield ""
            if stop.is_set():
                return
        if self.model is None:
            raise KitError(self.problem)
        yield from self.model.stream(history, stop, ending)


def open_model(
    name: str = "",
    url: str = "",
    *,
    url_model: str = "",
    base: str = "",
    tuned: tuple[str, str] = ("smoke", ""),
    precision: str = "nf4",
    max_new_tokens: int = 512,
    allow_remote: bool = False,
) -> ChatModel:
    """The endpoint at `url`, else the model `name`, else the tuned model of the run `tuned`.

    `base`: an adapter's base; `url_model`: the endpoint's model; `tuned`: (mode, run name). Raises
    `KitError`.
    """
    if url and name:
        raise KitError("MODEL and URL both name a model: give one of them")
    if url:
        return StreamingEndpoint(url, url_model, max_new_tokens, allow_remote)
    if not name:
        found, adapter = tuned_model(*tuned)
        name, base = str(adapter), str(found)
    return load_chat_model(name, base, precision, max_new_tokens)
