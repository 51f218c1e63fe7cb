"""Checkpoints one can trust: sealed with the hash of every file when complete, checked before use."""

import json
import re
from pathlib import Path

from ..core.errors import KitError
from ..core.files import write_json
from ..core.provenance import hash_path

MANIFEST = "manifest.json"


class CheckpointError(KitError):
    """A checkpoint that is not what was written."""


def write_manifest(checkpoint: Path) -> None:
    """Write the seal, last: a checkpoint without one was not finished."""
    write_json(
        checkpoint / MANIFEST,
        {
            path.name: hash_path(path)
            for path in sorted(checkpoint.iterdir())
            if path.name != MANIFEST
        },
    )


def verify_checkpoint(checkpoint: Path) -> None:
    """Raises `CheckpointError` naming the checkpoint and the file that is missing, new or changed."""
    try:
        sealed = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(
            f"{checkpoint.name} was not finished: it has no readable {MANIFEST}"
        ) from None
    for name in sorted(sealed.keys() | {path.name for path in checkpoint.iterdir()} - {MANIFEST}):
        path = checkpoint / name
        if name not in sealed or not path.exists() or hash_path(path) != sealed[name]:
            raise CheckpointError(f"{checkpoint.name} is damaged: {name} is not what was saved")


def latest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """(the newest checkpoint that is whole, or None; why each newer one was refused)."""
    refused = []
    for checkpoint in sorted(
        folder.glob("checkpoint-*"), key=lambda path: -int(re.sub(r"\D", "", path.name) or 0)
    ):
        try:
            verify_checkpoint(checkpoint)
            return checkpoint, refused
        except CheckpointError as error:
            refused.append(str(error))
    return None, refused
