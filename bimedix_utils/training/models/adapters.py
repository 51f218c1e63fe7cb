"""LoRA on attention, experts and router: put on, and saved under names that load elsewhere."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import KitError
from ...core.files import write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TARGETS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "experts": ("w1", "w2", "w3"),
    "router": ("gate",),
}


def targets(parts: Sequence[str]) -> list[str]:
    """The module names of the named parts. Raises `KitError` for an unknown or missing part."""
    unknown = set(parts) - set(TARGETS)
    if unknown or not parts:
        raise KitError(
            f"unknown LoRA parts {sorted(unknown)}; legal: {', '.join(TARGETS)}, at least one"
        )
    return [name for part in TARGETS if part in parts for name in TARGETS[part]]


def add_adapters(
    model: "PreTrainedModel", rank: int, alpha: int, parts: Sequence[str] = tuple(TARGETS)
) -> "PeftModel":
    """LoRA on the named parts (`attention`, `experts`, `router`), everything else frozen, the
    router's balancing loss switched on.

    Raises `KitError` when the model has no module of a wanted name: PEFT is content with any that
    it finds.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    wanted = targets(parts)
    present = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    missing = [name for name in wanted if name not in present]
    if missing:
        raise KitError(
            f"{type(model).__name__} has no linear modules {', '.join(missing)} (it has"
            f" {', '.join(sorted(present))}): the recipe needs a Mixtral with one module for each"
            " expert; upcycle a dense model, and keep transformers at the pinned version"
        )
    model.config.output_router_logits = True  # without it Mixtral computes no load-balancing loss
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=wanted, task_type="CAUSAL_LM")
    )


def base_name(name: str) -> str:
    """How a base may be called in a file that travels: a hub id as it is, a local folder by its own
    name, without its path.
    """
    return Path(name).resolve().name if Path(name).is_dir() or os.path.isabs(name) else name


def save_adapter(model: "PeftModel", folder: Path) -> None:
    """Save the adapter as PEFT does (`adapter_model.safetensors`, `adapter_config.json`), without a
    path of this machine in it.

    PEFT would name the base by its local path, also in a README.md that is otherwise an empty form;
    that file is not kept, `training` writes the card. Target modules are sorted: PEFT writes a set,
    in another order in each process. Each of the two files is replaced as a whole.
    """
    config = model.peft_config["default"]
    original = config.base_model_name_or_path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as scratch:
        try:
            config.base_model_name_or_path = base_name(original) if original else None
            # The embeddings are frozen; asked to guess, PEFT looks for the base's config, if need
            # be on the hub.
            model.save_pretrained(
                scratch, selected_adapters=["default"], save_embedding_layers=False
            )
        finally:
            config.base_model_name_or_path = original
        saved = json.loads((Path(scratch) / "adapter_config.json").read_text(encoding="utf-8"))
        write_json(
            Path(scratch) / "adapter_config.json",
            saved | {"target_modules": sorted(saved["target_modules"])},
        )
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            os.replace(Path(scratch) / name, folder / name)
