"""Train a tiny model in a process of its own, so that it can be killed: trainee.py BASE FOLDER
KILL_AT

KILL_AT: a step after whose log entry the process kills itself, `manifest` (between a
checkpoint's files and its checksum manifest), or `never`. Prints the adapter's hash.
"""

import os
import signal
import sys
from pathlib import Path

from bimedix_utils import training
from bimedix_utils.training import checkpoints, models

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.tiny import RECIPE, adapted, examples


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    base, folder, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    models.setup_torch(1)
    model, tokenizer = adapted(base)
    rows = examples(tokenizer)
    if when == "manifest":
        real = checkpoints.write_manifest
        checkpoints.write_manifest = lambda path: (
            kill() if path.name == "checkpoint-4" else real(path)
        )
    at = int(when) if when.isdigit() else -1
    outcome = training.train(
        model,
        tokenizer,
        rows,
        rows[:4],
        RECIPE,
        folder,
        lambda log: log[-1]["step"] == at and kill(),
    )
    model.save_pretrained(folder / "adapter")
    print(training.adapter_hash(folder / "adapter"), outcome.resumed_at, len(outcome.log))


if __name__ == "__main__":
    main()
