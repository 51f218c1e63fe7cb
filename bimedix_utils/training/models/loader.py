"""One loader for every model, from a folder or the hub: 4 bit (NF4 with double quantisation), or
plain.
"""

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import KitError
from ...core.provenance import shown_path
from .. import weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# The router decides between experts: it keeps full precision, as in the released AWQ model.
UNQUANTISED_MODULES = ["lm_head", "gate"]


def setup_torch(threads: int) -> Any:
    """Import torch with fixed threads and deterministic algorithms, and silence the libraries that
    would write into a notebook.
    """
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
    # Filling new memory helps to find bugs, and costs 3 % of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    for name in ("bitsandbytes", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    # Its own function: the library resets a level that was set before its first logger.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return torch


def load_base(
    name: str | Path, compute: "torch.dtype | None" = None, sharded: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A Mixtral in 4 bit (NF4 with double quantisation) and its tokenizer.

    A hub id is loaded at its locked commit. The compute dtype is float32 on a CPU and bfloat16 on a
    GPU, unless `compute` names another. A process of torchrun loads onto its own GPU. `sharded` is
    for FSDP, which joins tensors of one dtype: the 4-bit codes are stored in the compute dtype.
    Raises `KitError` when the model cannot be loaded.
    """
    import bitsandbytes as bnb
    import torch
    from transformers import BitsAndBytesConfig

    dtype = compute or (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if sharded else None,
        llm_int8_skip_modules=UNQUANTISED_MODULES,
    )
    model, tokenizer = _load(name, dtype, sharded, quantization_config=quantisation)
    for module in model.modules():
        # On AVX512_BF16 CPUs bitsandbytes repacks the weights in place at the first evaluation
        # without gradients; later training would silently lose the gradient through the base.
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    release_memory()
    return model, tokenizer


def _load(name: str | Path, dtype: "torch.dtype", sharded: bool = False, **settings: Any) -> tuple:
    """(model, tokenizer) of a causal model. Raises `KitError` with the loader's first line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    commit = "main" if isinstance(name, Path) else weights.locked_revision(name) or "main"
    settings |= {"revision": commit, "dtype": dtype, "device_map": _device_map(sharded)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit)
        return AutoModelForCausalLM.from_pretrained(name, **settings), tokenizer
    except (OSError, ValueError) as error:
        where = shown_path(name) if isinstance(name, Path) else name
        reason = str(error).splitlines()[0]
        raise KitError(f"the model {where!r} cannot be loaded: {reason}") from None


def _device_map(sharded: bool) -> Any:
    """All GPUs for a lone process, its own GPU for one of several; FSDP places what it shards."""
    import torch

    if not torch.cuda.is_available() or sharded:
        return None
    local = os.environ.get("LOCAL_RANK")
    return "auto" if local is None else {"": int(local)}


def release_memory() -> None:
    """Collect unreferenced objects and return freed pages to the system.

    glibc keeps them otherwise: after a model of 373M parameters was loaded in 4 bit, 2.1 GB of its
    float32 weights stayed with the process.
    """
    gc.collect()  # PEFT's models and the Trainer are reference cycles
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own; musl has none
        if trim:
            trim(0)


def load_scored(base: str | Path, adapter: Path | None) -> tuple[Any, "PreTrainedTokenizerFast"]:
    """A model ready to be scored: the 4-bit base alone, or with an adapter."""
    model, tokenizer = load_base(base)
    return _ready(model, adapter), tokenizer


def load_plain(
    name: str | Path, adapter: Path | None, dtype: str
) -> tuple[Any, "PreTrainedTokenizerFast"]:
    """Any causal model without quantisation, ready to be scored; `dtype` is float32 or bfloat16.

    Raises `KitError` when the model cannot be loaded.
    """
    import torch

    model, tokenizer = _load(name, getattr(torch, dtype))
    return _ready(model, adapter), tokenizer


def _ready(model: Any, adapter: Path | None) -> Any:
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return for_inference(model)


def prompt_logits(model: Any, prompts: Iterable[Sequence[int]]) -> list["torch.Tensor"]:
    """Logits of each tokenised prompt by itself, (positions, vocabulary) each, in float32 on the
    CPU.
    """
    import torch

    with torch.inference_mode():
        ids = [torch.tensor([[*tokens]], device=model.device) for tokens in prompts]
        return [model(input_ids=one, use_cache=False).logits[0].float().cpu() for one in ids]


def for_inference(model: Any) -> Any:
    """Evaluation mode without router logits: with them `generate` fails in transformers 4.57."""
    model.config.output_router_logits = False
    return model.eval()
