"""LoRA adapters: which modules get one, and how they are saved so that they load elsewhere."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import KitError, ParameterError
from ...core.files import write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

LORA_PARTS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "experts": ("w1", "w2", "w3"),
    "router": ("gate",),
}


def resolve_targets(targets: str | Iterable[str]) -> dict[str, tuple[str, ...]]:
    """{part: its module names to adapt} for `LORA_TARGETS`: names of parts (`experts`), of modules
    (`q_proj`), or both; a text is split at spaces and commas.

    Parts and modules come in the order of `LORA_PARTS`, parts without a target are left out. Raises
    `ParameterError` for an unknown name and for none.
    """
    names = set(targets.replace(",", " ").split() if isinstance(targets, str) else targets)
    unknown = names - set(LORA_PARTS) - {name for part in LORA_PARTS.values() for name in part}
    if unknown or not names:
        legal = "; ".join(f"{part} ({', '.join(part_of)})" for part, part_of in LORA_PARTS.items())
        raise ParameterError(
            f"unknown LoRA targets {sorted(unknown)}; LORA_TARGETS names at least one of the parts"
            f" or modules {legal}"
        )
    chosen = {
        part: tuple(name for name in modules if part in names or name in names)
        for part, modules in LORA_PARTS.items()
    }
    return {part: modules for part, modules in chosen.items() if modules}


def add_adapters(
    model: "PreTrainedModel",
    rank: int,
    alpha: int,
    targets: str | Iterable[str] = tuple(LORA_PARTS),
) -> "PeftModel":
    """LoRA on the targets (see `resolve_targets`), everything else frozen, the router's balancing
    loss switched on.

    Raises `KitError` when the model lacks a target module: PEFT accepts any subset that it finds.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    modules = [name for names in resolve_targets(targets).values() for name in names]
    present = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    missing = [name for name in modules if name not in present]
    if missing:
        raise KitError(
            f"{type(model).__name__} has no linear modules {', '.join(missing)} (it has"
            f" {', '.join(sorted(present))}): the recipe needs a Mixtral with one module for each"
            " expert; upcycle a dense model, and keep transformers at the pinned version"
        )
    model.config.output_router_logits = True  # without it Mixtral computes no load-balancing loss
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def base_name(name: str) -> str:
    """A base's name in a published file: a hub id as it is, a local folder without its path."""
    return Path(name).resolve().name if Path(name).is_dir() or os.path.isabs(name) else name


def save_adapter(model: "PeftModel", folder: Path) -> None:
    """Save the adapter as PEFT does (`adapter_model.safetensors`, `adapter_config.json`), without a
    path of this machine in it; each file is replaced atomically.

    PEFT would write the base's local path, also into a README.md without content: that file is not
    kept. Target modules are sorted, because PEFT writes a set, in another order in each process.
    """
    config = model.peft_config["default"]
    original = config.base_model_name_or_path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        partial = Path(scratch)
        config.base_model_name_or_path = base_name(original) if original else None
        try:
            # The embeddings are frozen. Left to guess, PEFT asks the hub for the base's config.
            model.save_pretrained(
                partial, selected_adapters=["default"], save_embedding_layers=False
            )
        finally:
            config.base_model_name_or_path = original
        saved = json.loads((partial / "adapter_config.json").read_text(encoding="utf-8"))
        saved["target_modules"].sort()
        write_json(partial / "adapter_config.json", saved)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            os.replace(partial / name, folder / name)
