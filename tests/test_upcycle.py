"""Sparse upcycling: a Mixtral that computes what the dense Llama computes, and refuses what it
cannot represent.
"""

import json
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.training import models, weights
from bimedix_utils.training.models import upcycle

pytestmark = pytest.mark.unit
TEXTS = [
    "The drug aspirin belongs to the class of salicylates.",
    "ينتمي دواء أسبرين إلى فئة الساليسيلات.",
] * 20


def llama(folder: Path, dtype: str = "float32", **changes) -> Path:
    """A random Llama of two layers with settings that are neither Llama's nor Mixtral's defaults,
    and a tokenizer.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = models.build_tokenizer(TEXTS, 400)
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_theta": 5000.0,
        "rms_norm_eps": 3e-4,
        "max_position_embeddings": 96,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": [2, 4],
        "pad_token_id": 3,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**{**fields, **changes})).to(getattr(torch, dtype))
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=[2, 4], pad_token_id=3, max_new_tokens=7
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    models.setup_torch(1)
    return llama(tmp_path_factory.mktemp("dense") / "little-llama")


def logits(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=torch.arange(5, 65)[None]).logits.float()


def apart(first: Path, second: Path) -> float:
    """The largest difference of two models' logits."""
    return (logits(first) - logits(second)).abs().max().item()


def edited(folder: Path, copy: Path, **changes) -> Path:
    """A copy of a model's folder with other fields in config.json; None removes a field."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value is not None})
    )
    return copy


@pytest.mark.parametrize("tied", [False, True])
def test_equal_experts_compute_what_the_dense_model_computes(tmp_path, tied):
    source = llama(tmp_path / "source", tie_word_embeddings=tied)
    made = models.upcycle_model(source, 4, 0.0, 1, tmp_path / "cache")
    assert logits(source).abs().max() > 1  # a model of zeros would equal anything
    assert apart(source, made) < 1e-4
    assert apart(source, models.upcycle_model(source, 4, 0.1, 1, tmp_path / "cache")) > 1e-2


def test_tied_embeddings_stay_one_matrix(tmp_path):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    made = models.upcycle_model(
        llama(tmp_path / "source", tie_word_embeddings=True), 2, 0.0, 1, tmp_path
    )
    model = AutoModelForCausalLM.from_pretrained(made)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with safe_open(made / "model.safetensors", "pt") as tensors:
        assert "lm_head.weight" not in tensors.keys()


def test_what_old_files_store_besides_is_left_out(tmp_path):
    """Some tied checkpoints hold a second copy of the embeddings, and early Llama files the rotary
    frequencies.
    """
    import torch
    from safetensors.torch import load_file, save_file

    source = llama(tmp_path / "source", tie_word_embeddings=True)
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    made = load_file(models.upcycle_model(source, 2, 0.0, 1, tmp_path) / "model.safetensors")
    assert "model.embed_tokens.weight" in made and not [
        name for name in made if "lm_head" in name or "rotary" in name
    ]


def test_the_configuration_says_what_the_weights_need(dense, tmp_path):
    made = models.upcycle_model(dense, 4, 0.0, 1, tmp_path)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (dense, made))
    same = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_key_value_heads",
        "head_dim",
        "rope_theta",
        "rms_norm_eps",
    )
    same += (
        "max_position_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "dtype",
    )
    assert {key: new[key] for key in same} == {key: old[key] for key in same}
    assert (
        new["model_type"],
        new["num_local_experts"],
        new["num_experts_per_tok"],
        new["sliding_window"],
    ) == ("mixtral", 4, 2, None)
    assert new["router_aux_loss_coef"] > 0
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (made / name).read_bytes() == (dense / name).read_bytes()


def test_experts_are_copies_and_routers_are_small_and_unlike(dense, tmp_path):
    import torch
    from safetensors.torch import load_file

    old = load_file(dense / "model.safetensors")
    plain, noisy = (
        load_file(models.upcycle_model(dense, 3, noise, 1, tmp_path) / "model.safetensors")
        for noise in (0.0, 0.05)
    )
    for part, other in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
        source = old[f"model.layers.1.mlp.{other}.weight"]
        experts = [f"model.layers.1.block_sparse_moe.experts.{i}.{part}.weight" for i in range(3)]
        assert all(torch.equal(plain[name], source) for name in experts)
        shift = torch.stack([(noisy[name] - source) / source.std() for name in experts])
        assert math.isclose(
            shift.std().item(), 0.05, rel_tol=0.05
        )  # 11,520 draws: standard error 0.7 %
        assert not torch.equal(shift[0], shift[1])
    routers = [plain[f"model.layers.{i}.block_sparse_moe.gate.weight"] for i in range(2)]
    assert (
        routers[0].shape == (3, 48)
        and 0.015 < routers[0].std() < 0.025
        and not torch.equal(*routers)
    )


def test_bfloat16_stays_bfloat16(tmp_path):
    import torch
    from safetensors.torch import load_file

    made = models.upcycle_model(llama(tmp_path / "source", "bfloat16"), 2, 0.1, 1, tmp_path)
    assert {tensor.dtype for tensor in load_file(made / "model.safetensors").values()} == {
        torch.bfloat16
    }
    assert json.loads((made / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_second_call_reads_the_cache_and_other_settings_do_not(dense, tmp_path, monkeypatch):
    first = models.upcycle_model(dense, 2, 0.0, 1, tmp_path)
    others = {
        models.upcycle_model(dense, *settings, tmp_path)
        for settings in ((3, 0.0, 1), (2, 0.1, 1), (2, 0.0, 2))
    }
    changed = edited(dense, tmp_path / "changed", rope_theta=6000.0)
    assert len(others | {first, models.upcycle_model(changed, 2, 0.0, 1, tmp_path)}) == 5
    monkeypatch.setattr(upcycle, "_write", forbidden)
    assert models.upcycle_model(dense, 2, 0.0, 1, tmp_path) == first


def forbidden(*arguments, **named):
    raise AssertionError("the cached folder was built again")


def test_same_seed_gives_the_same_bytes(dense, tmp_path):
    made = [
        models.upcycle_model(dense, 2, 0.1, 5, tmp_path / str(i)) / "model.safetensors"
        for i in range(2)
    ]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_a_killed_build_leaves_nothing_that_looks_like_a_model(dense, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(upcycle, "_copy_tokenizer", forbidden)
        with pytest.raises(AssertionError):
            models.upcycle_model(dense, 2, 0.0, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    # A killed process cannot tidy up: the next one clears its half folder.
    made = models.upcycle_model(dense, 2, 0.0, 1, tmp_path)
    left = made.rename(made.with_name(made.name + ".partial"))
    (left / "rubbish").write_text("")
    assert (
        not (models.upcycle_model(dense, 2, 0.0, 1, tmp_path) / "rubbish").exists()
        and not left.exists()
    )


def test_two_that_want_the_same_folder_build_it_once(dense, tmp_path, monkeypatch):
    builds, write = [], upcycle._write
    monkeypatch.setattr(
        upcycle, "_write", lambda *arguments: (builds.append(1), time.sleep(0.3), write(*arguments))
    )
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: models.upcycle_model(dense, 2, 0.0, 1, tmp_path), range(2)))
    assert made[0] == made[1] and len(builds) == 1


def test_large_models_are_written_and_read_in_several_files(dense, tmp_path, monkeypatch):
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(upcycle, "_SHARD_BYTES", 100_000)
    split = tmp_path / "split"
    shutil.copytree(dense, split, ignore=shutil.ignore_patterns("*.safetensors"))
    LlamaForCausalLM.from_pretrained(dense).save_pretrained(split, max_shard_size="100KB")
    made = models.upcycle_model(split, 3, 0.0, 1, tmp_path)
    files = sorted(made.glob("*.safetensors"))
    assert len(files) > 2 and all(file.stat().st_size < 110_000 for file in files)
    assert apart(dense, made) < 1e-4
    index = json.loads((made / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert index["metadata"]["total_size"] == 4 * sum(
        tensor.numel() for file in files for tensor in load_file(file).values()
    )


def test_it_loads_in_four_bit_trains_and_generates(dense, tmp_path):
    import torch

    model, tokenizer = models.load_base(models.upcycle_model(dense, 4, 0.1, 1, tmp_path))
    adapted = models.add_adapters(model, 4, 8)
    assert {row.dtype for row in models.audit_model(adapted) if row.part == "experts"} == {"nf4"}
    ids = torch.tensor([tokenizer("The drug aspirin belongs").input_ids])
    adapted(input_ids=ids, labels=ids).loss.backward()
    reached = {
        models.group_of(n)
        for n, p in adapted.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == {"attention", "experts", "router"}
    assert (
        models.for_inference(adapted)
        .generate(input_ids=ids, max_new_tokens=3, do_sample=False)
        .shape[1]
        > ids.shape[1]
    )


def test_the_folder_says_what_it_was_made_from(dense, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(dense, source)
    origin = {
        "name": "Little Llama (test)",
        "source": "made here",
        "revision": "r1",
        "licence": "CC0",
    }
    (source / "origin.json").write_text(json.dumps(origin))
    made = models.upcycle_model(source, 4, 0.01, 7, tmp_path / "cache")
    found = json.loads((made / "origin.json").read_text())
    assert (
        weights.model_name(made)
        == found["name"]
        == "Little Llama (test), upcycled to 4 experts with noise 0.01"
    )
    assert (
        found["made_from"]
        == {"name": "Little Llama (test)", "source": "made here", "revision": "r1"}
        and found["licence"] == "CC0"
    )
    assert found["settings"] == {"experts": 4, "experts_per_token": 2, "noise": 0.01, "seed": 7}
    unknown = json.loads(
        (models.upcycle_model(dense, 2, 0.0, 1, tmp_path) / "origin.json").read_text()
    )
    assert unknown["made_from"]["name"] == "little-llama" and unknown["licence"] == "not found"
    assert not [path for path in made.iterdir() if str(tmp_path).encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling is .*linear"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "rope_scaling is .*llama3",
        ),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config is set"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"model_type": "gpt2"}, "'gpt2' model: only the Llama architecture"),
        ({"num_hidden_layers": 1}, "holds besides 19 tensors .* model.layers.1"),
        ({"num_hidden_layers": 3}, "lacks .* model.layers.2"),
        ({"vocab_size": 300}, "has another size of 2 tensors .* lm_head.weight"),
        ({"num_key_value_heads": 4}, "has another size of .* model.layers.0.self_attn.k_proj"),
    ],
)
def test_what_a_mixtral_cannot_represent_is_refused_by_name(dense, tmp_path, changes, message):
    with pytest.raises(KitError, match=message):
        models.upcycle_model(
            edited(dense, tmp_path / "copy", **changes), 4, 0.0, 1, tmp_path / "cache"
        )
    assert not list((tmp_path / "cache").glob("upcycled-*"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(dense, tmp_path, name):
    source = tmp_path / "source"
    shutil.copytree(dense, source, ignore=shutil.ignore_patterns(name))
    with pytest.raises(InputError, match="tokenizer" if "tok" in name else name):
        models.upcycle_model(source, 4, 0.0, 1, tmp_path)


def test_too_few_experts_are_refused(dense, tmp_path):
    with pytest.raises(KitError, match="at least 2 experts"):
        models.upcycle_model(dense, 1, 0.0, 1, tmp_path)


def test_rotary_settings_written_by_transformers_5_are_read(dense, tmp_path):
    """It writes rope_parameters and no rope_theta: 4.57 would take its default, 10,000, without a
    word.
    """
    newer = {
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    }
    made = models.upcycle_model(edited(dense, tmp_path / "copy", **newer), 2, 0.0, 1, tmp_path)
    assert apart(dense, made) < 1e-4


def test_a_tokenizer_with_token_types_no_longer_returns_them(dense, tmp_path):
    """Mixtral refuses token_type_ids, which the general fast tokenizer returns unless told
    otherwise.
    """
    from transformers import AutoTokenizer

    source = tmp_path / "source"
    shutil.copytree(dense, source)
    settings = json.loads((source / "tokenizer_config.json").read_text())
    del settings["model_input_names"]
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "token_type_ids" in AutoTokenizer.from_pretrained(source)("aspirin")
    tokenizer = AutoTokenizer.from_pretrained(models.upcycle_model(source, 2, 0.0, 1, tmp_path))
    assert (
        sorted(tokenizer("aspirin")) == ["attention_mask", "input_ids"] and tokenizer.chat_template
    )


def test_the_real_small_model_keeps_its_function(tmp_path):
    source = weights.fetched_model()
    if source is None:
        pytest.skip(
            "the small real model is not here: python -m bimedix_utils.training.weights fetches it"
        )
    made = models.upcycle_model(source, 4, 0.0, 1, tmp_path)
    assert (
        apart(source, made) < 1e-3
    )  # logits reach some tens; the sum of two halves is rounded differently
    assert weights.model_name(made) == f"{weights.model_name(source)}, upcycled to 4 experts"
