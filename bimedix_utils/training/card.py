"""The adapter's model card and the hash that names its tensors."""

import hashlib
import json
from pathlib import Path

from .loop import TrainingOutcome
from .recipe import Recipe


def adapter_hash(folder: Path) -> str:
    """SHA-256 of the saved adapter's tensors, in order of name: equal adapters have equal hashes
    whatever the file's metadata.
    """
    from safetensors import safe_open

    hasher = hashlib.sha256()
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        for name in sorted(tensors.keys()):
            hasher.update(name.encode())
            hasher.update(tensors.get_tensor(name).contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def model_card(
    base: str,
    recipe: Recipe,
    rank: int,
    parts: str,
    rows: dict[str, int],
    share: float,
    outcome: TrainingOutcome,
    folder: Path,
) -> None:
    """Write the adapter's README.md in the hub's format, from the run's own numbers. `rows` by
    language; `share` of all parameters.
    """
    losses = [entry["loss"] for entry in outcome.log if "loss" in entry]
    held = [(entry["step"], entry["eval_loss"]) for entry in outcome.log if "eval_loss" in entry]
    lines = [
        f"* base model: {base} in NF4 with double quantisation",
        f"* LoRA rank {rank} on {', '.join(parts.split())}: {share:.2%} of all parameters",
        f"* rows: {', '.join(f'{lang} {n:,}' for lang, n in sorted(rows.items()))}",
        (
            f"* {outcome.steps:,} optimiser steps; training loss {losses[0]:.3f} at the first,"
            f" {losses[-1]:.3f} at the last"
        ),
        *(f"* held-out loss {loss:.3f} after step {step}" for step, loss in held[-1:]),
        *(
            [
                f"* the adapter is the one of step {outcome.best_step}, where the held-out loss was"
                " lowest"
            ]
            if outcome.best_step
            else []
        ),
    ]
    (folder / "README.md").write_text(
        f"""---
library_name: peft
language: [{", ".join(sorted(rows))}]
tags: [medical, research-only]
---

# Adapter of the BiMediX reproducibility kit

**For research only: not medical advice, not for clinical use. Answers may be wrong in either language.**

{chr(10).join(lines)}

Loss: mean cross-entropy (natural log) of the answers' tokens; the training loss includes the router's balancing loss.

```json
{json.dumps(vars(recipe), indent=1)}
```
""",
        encoding="utf-8",
    )
