"""The adapter's model card and the hash that names its tensors."""

import hashlib
import json
from pathlib import Path

from .recipe import Recipe


def adapter_hash(folder: Path) -> str:
    """SHA-256 of the saved adapter's tensors, in order of name: equal adapters have equal hashes whatever the file's metadata."""
    from safetensors import safe_open

    hasher = hashlib.sha256()
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        for name in sorted(tensors.keys()):
            hasher.update(name.encode())
            hasher.update(tensors.get_tensor(name).contiguous().numpy().tobytes())
    return hasher.hexdigest()[:16]


def model_card(base: str, recipe: Recipe, rank: int, rows: dict[str, int], share: float, folder: Path) -> None:
    """Write the adapter's README.md in the hub's format, from the run's own numbers."""
    settings = json.dumps(vars(recipe), indent=1)
    (folder / "README.md").write_text(
        f"""---
library_name: peft
language: [en, ar]
tags: [medical, research-only]
---

# Adapter of the BiMediX reproducibility kit

**For research only: not medical advice, not for clinical use. Answers may be wrong in either language.**

* base model: {base} in NF4 with double quantisation
* LoRA rank {rank} on attention, experts and router: {share:.2%} of all parameters
* rows: {", ".join(f"{lang} {n:,}" for lang, n in sorted(rows.items()))}

```json
{settings}
```
""",
        encoding="utf-8",
    )
