"""An exact merge: base and adapter become one ordinary checkpoint that computes what was trained.

The adapter was trained on the dequantised 4-bit weights, so it is added to these. PEFT's own merge
into a 4-bit model quantises the sum again (huggingface/peft#2321), and a merge onto the 16-bit base
adds the quantisation error that training had compensated.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import AuditError, InputError, KitError
from ...core.files import atomic_directory, write_json
from ...core.provenance import hash_path, shown_path
from .adapters import base_name
from .loader import for_inference, load_base, prompt_logits, release_memory

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

MERGE_DTYPES = ("float32", "bfloat16")
# Of the largest logit. Exact merges measured 6e-7 (tiny) and 1.2e-4 (373M parameters, 30 layers),
# merges into 4 bit 0.2.
_TOLERANCE = 1e-3


def merge_adapter(
    base: str | Path,
    adapter: Path,
    target: Path,
    prompts: Sequence[str],
    dtype: str = "float32",
    max_shard_size: str = "5GB",
) -> dict[str, Any]:
    """Write base + adapter as one checkpoint in `target` (safetensors, tokenizer, chat template,
    generation settings) and check it.

    Computed in float32; the peak memory for 373M parameters was 4.1 GB, nearly three times the
    float32 weights. `dtype` is stored, float32 or bfloat16. `target` appears complete or not at
    all; it replaces an earlier merge and nothing else. Returns the content of origin.json, with

    * `difference`: largest logit difference of merged model and 4-bit base + adapter over all
      positions of the prompts, relative to the largest logit, in float32.
    * `difference_as_saved`: the same for the folder as it loads from disk. In bfloat16 it shows the
      rounding and has no limit.

    Raises `AuditError` when a difference exceeds `_TOLERANCE` or the adapter does not fit the base;
    `InputError` when the adapter is absent; `KitError` for an unknown `dtype`, no prompts, or a
    `target` that holds something else.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if dtype not in MERGE_DTYPES:
        raise KitError(f"dtype = {dtype!r}; legal: {', '.join(MERGE_DTYPES)}")
    if target.exists() and "merged_from" not in _origin_of(target):
        raise KitError(
            f"{shown_path(target)} is in the way and no earlier merge: name another folder"
        )
    tuned, tokenizer = _tuned(base, adapter)
    encoded = tokenizer(list(prompts)).input_ids if prompts else []
    ids = [tokens for tokens in encoded if tokens]
    if not ids:
        raise KitError("no prompts: the merged model can be checked on prompts only")
    reference = prompt_logits(tuned, ids)
    if not all(logits.isfinite().all() for logits in reference):
        raise AuditError(
            f"4-bit base + {shown_path(adapter)} gives logits that are NaN or infinite: the"
            " training failed before the merge"
        )
    dense = _merged(tuned, adapter)
    difference = _difference(prompt_logits(dense, ids), reference)
    _check_difference(difference, "the merged model differs from 4-bit base + adapter")
    with atomic_directory(target, renew=True) as partial:
        stored = getattr(torch, dtype)
        for_inference(dense).to(stored).save_pretrained(partial, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(partial)
        parameters = sum(parameter.numel() for parameter in dense.parameters())
        del tuned, dense
        release_memory()  # room for the model as others will load it
        saved = AutoModelForCausalLM.from_pretrained(partial, dtype=stored).eval()
        as_saved = _difference(prompt_logits(saved, ids), reference)
        if dtype == "float32":
            _check_difference(as_saved, "the merged model as saved differs")
        origin = _origin_of(Path(base))
        adapter_sha256 = hash_path(adapter / "adapter_model.safetensors")
        facts = {
            "name": f"{origin.get('name', base_name(str(base)))} + {adapter.name}, merged",
            "merged_from": {"base": base_name(str(base)), "adapter_sha256": adapter_sha256},
            "licence": origin.get("licence", "not found"),
            "dtype": dtype,
            "parameters": parameters,
            "bytes": sum(file.stat().st_size for file in partial.glob("*.safetensors")),
            "prompts": len(ids),
            "positions": sum(map(len, ids)),
            "difference": difference,
            "difference_as_saved": as_saved,
        }
        write_json(partial / "origin.json", facts)
    return facts


def _check_difference(difference: float, sentence: str) -> None:
    if not difference <= _TOLERANCE:  # also when it is NaN
        raise AuditError(
            f"{sentence} by {difference:.1e} of the largest logit, over {_TOLERANCE:g}"
        )


def _tuned(base: str | Path, adapter: Path) -> tuple["PeftModel", Any]:
    """The 4-bit base with the adapter, computing in float32, after proving that each saved tensor
    has its counterpart in the model.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    weights = adapter / "adapter_model.safetensors"
    if not weights.exists() or not (adapter / "adapter_config.json").exists():
        raise InputError(
            f"{shown_path(adapter)} holds no adapter: adapter_config.json and"
            " adapter_model.safetensors are needed"
        )
    model, tokenizer = load_base(base, torch.float32)
    try:
        tuned = PeftModel.from_pretrained(model, adapter)
    except (RuntimeError, ValueError) as error:  # other sizes, or modules that the base lacks
        reason = " ".join(str(error).split())[:200]
        raise AuditError(f"{shown_path(adapter)} does not fit the base: {reason}") from None
    with safe_open(weights, "pt") as tensors:
        stored = set(tensors.keys())
    # PEFT only warns about names without a counterpart, and continues.
    unmatched = stored ^ set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    if unmatched:
        raise AuditError(
            f"{shown_path(adapter)} does not fit the base: {len(unmatched)} tensors without a"
            f" counterpart, first {min(unmatched)}"
        )
    return for_inference(tuned), tokenizer


def _merged(tuned: "PeftModel", adapter: Path) -> Any:
    """The dequantised base with the adapter added to its weights; `tuned` is taken apart."""
    from peft import PeftModel

    dense = tuned.unload().dequantize()
    return PeftModel.from_pretrained(dense, adapter).merge_and_unload(safe_merge=True).eval()


def _difference(found: Sequence["torch.Tensor"], reference: Sequence["torch.Tensor"]) -> float:
    """Largest absolute difference over the largest absolute value of `reference`; NaN if any
    difference is NaN, which Python's `max` may skip.
    """
    import torch

    pairs = zip(found, reference, strict=True)
    differences = torch.stack([(a - b).abs().max() for a, b in pairs])
    return (differences.max() / max(logits.abs().max() for logits in reference)).item()


def _origin_of(folder: Path) -> dict[str, Any]:
    """A folder's origin.json, empty when there is none."""
    path = folder / "origin.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
