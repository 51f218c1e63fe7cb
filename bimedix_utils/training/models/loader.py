"""One loader for every model: 4 bit (NF4 with double quantisation), from a local folder or the hub."""

import ctypes
import gc
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import KitError
from ...core.provenance import shown_path
from .. import weights

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

UNQUANTISED_MODULES = [
    "lm_head",
    "gate",
]  # the router decides between experts: it stays in full precision, as in the released AWQ model


def setup_torch(threads: int) -> Any:
    """Import torch with fixed threads and deterministic algorithms; quiet the libraries that would
    write into a notebook.
    """
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # a help in finding bugs, at 3 % of the time
    )
    for name in ("bitsandbytes", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    # By its own function: the library sets its level when it is first asked for a logger, which
    # undoes a level set before.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return torch


def load_base(
    name: str | Path, compute: "torch.dtype | None" = None, sharded: bool = False
) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A Mixtral in 4 bit (NF4 with double quantisation) and its tokenizer, from a local folder or a
    hub id.

    A hub id is loaded at its locked commit (`weights.revision`). Compute runs in float32 on a CPU
    and in bfloat16 on a GPU, unless `compute` names a type. A process started by torchrun loads
    onto its own GPU. `sharded` is for FSDP: the 4-bit codes are stored in the compute type, because
    FSDP joins a layer's tensors into one of a single type. Raises `KitError` when the model cannot
    be found.
    """
    import bitsandbytes as bnb
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    gpu = torch.cuda.is_available()
    dtype = compute or (torch.bfloat16 if gpu else torch.float32)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if sharded else None,
        llm_int8_skip_modules=UNQUANTISED_MODULES,
    )
    commit = "main" if isinstance(name, Path) else weights.locked_revision(name) or "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit)
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=commit,
            quantization_config=quantisation,
            dtype=dtype,
            device_map=_placement(gpu, sharded),
        )
    except (OSError, ValueError) as error:
        raise _not_found(name, error) from None
    for module in model.modules():
        # On AVX512_BF16 processors bitsandbytes repacks the weights in place at the first
        # evaluation without gradients; training afterwards would silently lose the gradient through
        # the base.
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    release_memory()
    return model, tokenizer


def _not_found(name: str | Path, error: Exception) -> KitError:
    where = shown_path(name) if isinstance(name, Path) else name
    return KitError(f"the model {where!r} cannot be loaded: {str(error).splitlines()[0]}")


def release_memory() -> None:
    """Collect what nothing refers to any more, and give freed pages back to the system.

    glibc keeps them otherwise: after a model of 373M parameters was loaded in 4 bit, 2.1 GB of its
    float32 weights stayed with the process.
    """
    gc.collect()  # PEFT's models and the Trainer hold themselves in circles
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own; musl has none
        if trim:
            trim(0)


def _placement(gpu: bool, sharded: bool) -> Any:
    """Where the weights go: all GPUs of a lone process, the one GPU of a process among many; FSDP
    places what it shards.
    """
    if not gpu or sharded:
        return None
    local = os.environ.get("LOCAL_RANK")
    return "auto" if local is None else {"": int(local)}


def load_tuned(base: str | Path, adapter: Path) -> tuple["PeftModel", "PreTrainedTokenizerFast"]:
    """The 4-bit base with a saved adapter on it, ready for inference."""
    from peft import PeftModel

    model, tokenizer = load_base(base)
    return for_inference(PeftModel.from_pretrained(model, adapter)), tokenizer


def load_scored(base: str | Path, adapter: Path | None) -> tuple[Any, "PreTrainedTokenizerFast"]:
    """A model ready to be scored: the 4-bit base alone, or with an adapter."""
    if adapter is not None:
        return load_tuned(base, adapter)
    model, tokenizer = load_base(base)
    return for_inference(model), tokenizer


def load_plain(
    name: str | Path, adapter: Path | None, dtype: str
) -> tuple[Any, "PreTrainedTokenizerFast"]:
    """Any causal model without quantisation, ready to be scored; `dtype` is float32 or bfloat16.

    Raises `KitError` when the model cannot be found.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    commit = "main" if isinstance(name, Path) else weights.locked_revision(name) or "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit)
        placement = _placement(torch.cuda.is_available(), False)
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=commit, dtype=getattr(torch, dtype), device_map=placement
        )
    except (OSError, ValueError) as error:
        raise KitError(
            f"the model {shown_path(name) if isinstance(name, Path) else name!r} cannot be loaded:"
            f" {str(error).splitlines()[0]}"
        ) from None
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return for_inference(model), tokenizer


def for_inference(model: Any) -> Any:
    """Evaluation mode without router logits: with them `generate` fails in transformers 4.57."""
    model.config.output_router_logits = False
    return model.eval()
