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
from .loader import for_inference, load_base, release_memory

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

MERGE_DTYPES = ("float32", "bfloat16")
# of the largest logit; exact merges measured 6e-7 (tiny) and 1.2e-4 (373M parameters, 30 layers),
# 4-bit merges 0.2
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

    Computed in float32; the peak measured for 373M parameters was 4.1 GB, nearly three times the
    float32 weights. `dtype` is the type stored, float32 or bfloat16. `target` appears whole or not
    at all; an earlier merge there is replaced, anything else refused. Returns what origin.json then
    holds, among it

    * `difference`: largest logit difference of merged model and 4-bit base + adapter over all
      positions of the prompts, relative to the largest logit; float32 in memory.
    * `difference_as_saved`: the same for the folder as it loads from disk. In bfloat16 it is the
      rounding, reported and not judged.

    Raises `AuditError` when a difference that should be none exceeds `TOLERANCE`, or the adapter
    does not fit the base; `InputError` when the adapter is not there; `KitError` for an unknown
    `dtype`, no prompts, or a `target` that something else occupies.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if dtype not in MERGE_DTYPES:
        raise KitError(f"dtype = {dtype!r}; legal: {', '.join(MERGE_DTYPES)}")
    if target.exists() and "merged_from" not in _read(target / "origin.json"):
        raise KitError(
            f"{shown_path(target)} is in the way and no earlier merge: name another folder"
        )
    tuned, tokenizer = _tuned(base, adapter)
    ids = (
        [torch.tensor([tokens]) for tokens in tokenizer(list(prompts)).input_ids if tokens]
        if prompts
        else []
    )
    if not ids:
        raise KitError(
            "no prompts: without them nobody knows whether the merged model computes what was"
            " trained"
        )
    wanted = _logits(tuned, ids)
    if not all(logits.isfinite().all() for logits in wanted):
        raise AuditError(
            f"4-bit base + {shown_path(adapter)} gives logits that are not numbers: the training went"
            " wrong before the merge"
        )
    merged = _merged(tuned, adapter)
    difference = _difference(_logits(merged, ids), wanted)
    if not difference <= _TOLERANCE:  # also when it is not a number
        raise AuditError(
            f"the merged model differs from 4-bit base + adapter by {difference:.1e} of the largest"
            f" logit, over {_TOLERANCE:g}"
        )
    with atomic_directory(target, renew=True) as partial:
        for_inference(merged).to(getattr(torch, dtype)).save_pretrained(
            partial, max_shard_size=max_shard_size
        )
        tokenizer.save_pretrained(partial)
        parameters = sum(parameter.numel() for parameter in merged.parameters())
        del tuned, merged
        release_memory()  # room for the model as others will load it
        saved = AutoModelForCausalLM.from_pretrained(partial, dtype=getattr(torch, dtype)).eval()
        as_saved = _difference(_logits(saved, ids), wanted)
        if dtype == "float32" and not as_saved <= _TOLERANCE:
            raise AuditError(
                f"the merged model as saved differs by {as_saved:.1e} of the largest logit, over"
                f" {_TOLERANCE:g}"
            )
        facts = {
            "name": f"{_shown_name(base)} + {adapter.name}, merged",
            "merged_from": {
                "base": base_name(str(base)),
                "adapter_sha256": hash_path(adapter / "adapter_model.safetensors"),
            },
            "licence": (_read(Path(base) / "origin.json")).get("licence", "not found"),
            "dtype": dtype,
            "parameters": parameters,
            "bytes": sum(file.stat().st_size for file in partial.glob("*.safetensors")),
            "prompts": len(ids),
            "positions": sum(tokens.shape[1] for tokens in ids),
            "difference": difference,
            "difference_as_saved": as_saved,
        }
        write_json(partial / "origin.json", facts)
    return facts


def _tuned(base: str | Path, adapter: Path) -> tuple["PeftModel", Any]:
    """The 4-bit base in float32 compute with the adapter on it, after proving that each saved
    tensor found its place.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    weights = adapter / "adapter_model.safetensors"
    if not weights.exists() or not (adapter / "adapter_config.json").exists():
        raise InputError(
            f"{shown_path(adapter)} holds no adapter: adapter_config.json and adapter_model.safetensors"
            " are needed"
        )
    model, tokenizer = load_base(base, torch.float32)
    try:
        tuned = PeftModel.from_pretrained(model, adapter)
    except (
        RuntimeError,
        ValueError,
    ) as error:  # tensors of another size, modules the base does not have
        raise AuditError(
            f"{shown_path(adapter)} does not fit the base: {' '.join(str(error).split())[:200]}"
        ) from None
    with safe_open(weights, "pt") as tensors:
        stored = set(tensors.keys())
    # PEFT only warns about names that do not meet and goes on with an adapter that does nothing
    # there.
    unmet = stored ^ set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    if unmet:
        raise AuditError(
            f"{shown_path(adapter)} does not fit the base: {len(unmet)} tensors without a counterpart,"
            f" first {min(unmet)}"
        )
    return for_inference(tuned), tokenizer


def _merged(tuned: "PeftModel", adapter: Path) -> Any:
    """The dequantised base with the adapter added to its weights; `tuned` is taken apart."""
    from peft import PeftModel

    dense = tuned.unload().dequantize()
    return PeftModel.from_pretrained(dense, adapter).merge_and_unload(safe_merge=True).eval()


def _logits(model: Any, ids: Sequence["torch.Tensor"]) -> list["torch.Tensor"]:
    """Logits of each prompt by itself, [positions, vocabulary] each, in float32 on the CPU."""
    import torch

    with torch.inference_mode():
        return [
            model(input_ids=tokens.to(model.device), use_cache=False).logits[0].float().cpu()
            for tokens in ids
        ]


def _difference(found: Sequence["torch.Tensor"], wanted: Sequence["torch.Tensor"]) -> float:
    """Largest absolute difference over the largest absolute value of `wanted`; not a number when
    one of them is none.
    """
    import torch

    # Not Python's max, which may pass over a value that is not a number.
    apart = torch.stack([(a - b).abs().max() for a, b in zip(found, wanted, strict=True)]).max()
    return (apart / torch.stack([logits.abs().max() for logits in wanted]).max()).item()


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, empty when the file is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _shown_name(base: str | Path) -> str:
    """The base's own name (see `weights`), else its folder's name or hub id."""
    return _read(Path(base) / "origin.json").get("name", base_name(str(base)))
