"""The adapter's model card and the hash that names its tensors."""

import hashlib
import json
from pathlib import Path

from ..core.cards import render_card
from ..core.files import write_text
from .loop import TrainingOutcome
from .recipe import Recipe


def adapter_hash(folder: Path) -> str:
    """SHA-256 of the saved adapter's tensors, in order of name, whatever the file's metadata."""
    from safetensors import safe_open

    hasher = hashlib.sha256()
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        for name in sorted(tensors.keys()):
            hasher.update(name.encode())
            hasher.update(tensors.get_tensor(name).contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def write_adapter_card(
    base: str,
    recipe: Recipe,
    rank: int,
    parts: str,
    rows: dict[str, int],
    share: float,
    outcome: TrainingOutcome,
    folder: Path,
) -> None:
    """Write the adapter's README.md from the run's own numbers; see `adapter_card.md.j2`.

    `rows` by language; `share` of all parameters, base and adapter together.
    """
    from huggingface_hub import ModelCardData

    facts = {
        "base": base,
        "rank": rank,
        "parts": parts.split(),
        "share": share,
        "rows": sorted(rows.items()),
        "steps": outcome.steps,
        "losses": [entry["loss"] for entry in outcome.log if "loss" in entry],
        "held_out": [entry for entry in outcome.log if "eval_loss" in entry],
        "best_step": outcome.best_step,
        "recipe": json.dumps(vars(recipe), indent=1),
    }
    data = ModelCardData(
        library_name="peft", language=sorted(rows), tags=["medical", "research-only"]
    )
    template = Path(__file__).with_name("adapter_card.md.j2")
    write_text(folder / "README.md", [render_card(template, data, **facts)])
