"""Checkpoints with a checksum manifest: written last, verified before use."""

import json
import re
from pathlib import Path

from ..core.errors import KitError
from ..core.files import write_json
from ..core.provenance import hash_path

MANIFEST = "manifest.json"


class CheckpointError(KitError):
    """A checkpoint that is incomplete or differs from what was written."""


def write_manifest(checkpoint: Path) -> None:
    """Write the hash of every file, last: a checkpoint without a manifest is incomplete."""
    files = [path for path in sorted(checkpoint.iterdir()) if path.name != MANIFEST]
    write_json(checkpoint / MANIFEST, {path.name: hash_path(path) for path in files})


def verify_checkpoint(checkpoint: Path) -> None:
    """Raises `CheckpointError` naming the checkpoint and a file that is missing, new or changed."""
    try:
        hashes = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        reason = f"{checkpoint.name} was not finished: it has no readable {MANIFEST}"
        raise CheckpointError(reason) from None
    for name in sorted(hashes.keys() | {path.name for path in checkpoint.iterdir()} - {MANIFEST}):
        path = checkpoint / name
        if name not in hashes or not path.exists() or hash_path(path) != hashes[name]:
            raise CheckpointError(f"{checkpoint.name} is damaged: {name} is not what was saved")


def latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """(the newest verified checkpoint, or None; why each newer one was refused)."""
    refused = []
    found = list(folder.glob("checkpoint-*"))
    found.sort(key=lambda path: int(re.sub(r"\D", "", path.name) or 0), reverse=True)
    for checkpoint in found:
        try:
            verify_checkpoint(checkpoint)
            return checkpoint, refused
        except CheckpointError as error:
            refused.append(str(error))
    return None, refused
