"""The tiny Mixtral in 4 bit: what is quantised, what is trainable, and the known traps."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import FORM, SPEC, TEXTS

from bimedix_utils.core.errors import AuditError, KitError
from bimedix_utils.training import models

pytestmark = pytest.mark.unit


@pytest.fixture
def loaded(base):
    return models.load_base(base)


def test_the_base_is_cached_by_content(base):
    stamp = (base / "model.safetensors").stat().st_mtime_ns
    again, _ = models.tiny_base(TEXTS + FORM, [], SPEC, base.parent)
    assert again == base and (base / "model.safetensors").stat().st_mtime_ns == stamp
    other, _ = models.tiny_base([*TEXTS, *FORM, "one more"], [], SPEC, base.parent)
    assert other != base


def test_same_seed_gives_the_same_base(base, tmp_path):
    again, _ = models.tiny_base(TEXTS + FORM, [], SPEC, tmp_path)
    assert (again / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_the_libraries_do_not_write_into_a_notebook():
    """Their level was set before transformers was imported, which set it back: its advice appeared
    in the middle of a merge.
    """
    code = (
        "from bimedix_utils.training import models; models.setup_torch(1); import transformers;"
        " print(transformers.logging.get_verbosity())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == logging.ERROR


def test_too_little_text_is_refused(tmp_path):
    with pytest.raises(KitError, match="sequences of 32 tokens"):
        models.tiny_base(["short"], [], SPEC, tmp_path)


def test_experts_are_four_bit_and_only_adapters_are_trainable(loaded):
    model, _ = loaded
    adapted = models.add_adapters(model, 4, 8)
    rows = {(row.part, row.dtype): row for row in models.audit_model(adapted)}
    assert {dtype for part, dtype in rows if part == "experts"} == {"nf4"}
    assert rows["experts", "nf4"].parameters == 2 * 3 * 3 * 64 * 64
    assert rows["experts", "nf4"].bytes * 2 == rows["experts", "nf4"].parameters
    assert rows["router", "float32"].trainable == rows["embeddings", "float32"].trainable == 0
    lora = {part: row.trainable for (part, _), row in rows.items() if part.startswith("LoRA")}
    # rank 4: r * (in + out) for each adapted matrix
    assert lora == {
        "LoRA router": 2 * 4 * (64 + 3),
        "LoRA experts": 2 * 3 * 3 * 4 * 128,
        "LoRA attention": 2 * 4 * (2 * 128 + 2 * 96),
    }
    assert models.trainable_share(adapted)[0] == sum(lora.values())


def test_the_names_peft_saves_are_those_that_load_elsewhere(loaded, tmp_path):
    """Adapters saved with transformers 4.57 load into the current line through PEFT's own
    conversion, as long as the names stay.
    """
    from safetensors import safe_open

    models.save_adapter(models.add_adapters(loaded[0], 4, 8), tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
    modules = [f"self_attn.{part}_proj" for part in "qkvo"] + ["block_sparse_moe.gate"]
    modules += [
        f"block_sparse_moe.experts.{expert}.w{part}" for expert in range(3) for part in (1, 2, 3)
    ]
    layers = [
        f"base_model.model.model.layers.{layer}.{module}.lora_"
        for layer in range(2)
        for module in modules
    ]
    assert names == {layer + factor + ".weight" for layer in layers for factor in "AB"}


def test_the_audit_stops_a_recipe_without_the_router(loaded):
    with pytest.raises(AuditError, match="0 adapters on router"):
        models.audit_model(models.add_adapters(loaded[0], 4, 8, ["attention", "experts"]))


def test_parts_are_counted_with_their_share_of_the_trainable_parameters(loaded):
    adapted = models.add_adapters(loaded[0], 4, 8)
    sizes = {
        "attention": 2 * 4 * (2 * 128 + 2 * 96),
        "experts": 2 * 3 * 3 * 4 * 128,
        "router": 2 * 4 * (64 + 3),
    }
    total = sum(sizes.values())
    assert models.adapters_by_part(adapted) == [
        ("attention", 8, 8, sizes["attention"], sizes["attention"] / total),
        ("experts", 18, 18, sizes["experts"], sizes["experts"] / total),
        ("router", 2, 2, sizes["router"], sizes["router"] / total),
    ]
    assert [row.expected for row in models.adapters_by_part(adapted, ["router"])] == [0, 0, 2]


def test_an_arm_with_fewer_parts_is_audited_for_these(loaded):
    adapted = models.add_adapters(loaded[0], 4, 8, ["attention"])
    assert {row.part for row in models.audit_model(adapted, ["attention"]) if row.trainable} == {
        "LoRA attention"
    }
    assert [row[1:3] for row in models.adapters_by_part(adapted, ["attention"])] == [
        (8, 8),
        (0, 0),
        (0, 0),
    ]
    with pytest.raises(
        AuditError,
        match="8 adapters on attention .*; expected 0; also on model.layers.0.self_attn.k_proj, .*",
    ):
        models.audit_model(adapted, ["experts"])
    with pytest.raises(
        KitError, match="unknown LoRA targets .'experst'.; .*attention .*experts .*router"
    ):
        models.audit_model(adapted, ["experst"])


def by_hand(model, names):
    """Adapters without the kit's own checks."""
    from peft import LoraConfig, get_peft_model

    model.config.output_router_logits = True
    return get_peft_model(model, LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"))


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (
            "layers.1.block_sparse_moe.experts.2.w3",
            "17 adapters on experts .*; expected 18; none on model.{}$",
        ),
        ("layers.0.self_attn.v_proj", "7 adapters on attention .*; expected 8; none on model.{}$"),
        (
            "layers.1.block_sparse_moe.gate",
            "1 adapters on router .*; expected 2; none on model.{}$",
        ),
    ],
)
def test_one_forgotten_module_is_named(loaded, left_out, message):
    every = [
        name
        for name, _ in loaded[0].named_modules()
        if name.rsplit(".", 1)[-1] in sum(models.LORA_PARTS.values(), ())
    ]
    with pytest.raises(AuditError, match=message.format(left_out)):
        models.audit_model(
            by_hand(loaded[0], [name for name in every if not name.endswith(left_out)])
        )


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_adapters_on_the_embeddings_or_the_head_are_refused(loaded, name):
    with pytest.raises(AuditError, match=f"{name} carries an adapter"):
        models.audit_model(by_hand(loaded[0], [*sum(models.LORA_PARTS.values(), ()), name]))


def test_a_model_without_the_target_modules_is_refused(loaded):
    """PEFT puts adapters where it can and says nothing of the rest: a dense model would be tuned on
    its attention alone.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=40,
    )
    dense = LlamaForCausalLM(tiny)
    with pytest.raises(KitError, match="no linear modules w1, w2, w3, gate .*gate_proj.*upcycle"):
        models.add_adapters(dense, 4, 8)
    with pytest.raises(AuditError, match="'llama' model has no experts"):
        models.audit_model(models.add_adapters(dense, 4, 8, ["attention"]), ["attention"])
    assert models.group_of("model.layers.0.mlp.gate_proj.weight") == "other"
    with pytest.raises(KitError, match="at least one"):
        models.add_adapters(loaded[0], 4, 8, [])


def test_a_balancing_loss_of_weight_zero_is_refused(base):
    """The flag alone computes the loss and then adds nothing of it."""
    adapted = models.add_adapters(models.load_base(base)[0], 4, 8)
    adapted.get_base_model().router_aux_loss_coef = 0.0
    with pytest.raises(AuditError, match="weight 0"):
        models.audit_model(adapted)


def test_attention_in_sixteen_bit_is_refused(base, monkeypatch):
    monkeypatch.setattr(
        "bimedix_utils.training.models.loader.UNQUANTISED_MODULES", ["lm_head", "gate", "v_proj"]
    )
    with pytest.raises(AuditError, match="v_proj.* not 4 bit"):
        models.audit_model(models.add_adapters(models.load_base(base)[0], 4, 8))


def test_an_adapter_loaded_for_inference_is_not_trained(base, loaded, tmp_path):
    models.save_adapter(models.add_adapters(loaded[0], 4, 8), tmp_path)
    tuned, _ = models.load_scored(base, tmp_path)
    tuned.config.output_router_logits = True
    with pytest.raises(AuditError, match="is frozen"):
        models.audit_model(tuned)


def test_a_saved_adapter_names_no_folder_of_this_machine(base, loaded, tmp_path):
    """PEFT writes the base's local path into two files; whoever fetches the adapter would be told
    of a path that is not theirs.
    """
    adapted = models.add_adapters(loaded[0], 4, 8)
    (tmp_path / "README.md").write_text("the card")
    models.save_adapter(adapted, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.name and config["target_modules"] == sorted(
        sum(models.LORA_PARTS.values(), ())
    )
    assert (tmp_path / "README.md").read_text() == "the card"
    assert adapted.peft_config["default"].base_model_name_or_path == str(
        base
    )  # the model in memory is as before
    adapted.peft_config["default"].base_model_name_or_path = "someone/Some-Mixtral"
    models.save_adapter(adapted, tmp_path)
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "someone/Some-Mixtral"
    )


def test_the_audit_stops_experts_in_sixteen_bit(base):
    """bitsandbytes skips fused experts without a word; a full-precision model stands for that
    failure.
    """
    from transformers import MixtralForCausalLM

    plain = MixtralForCausalLM.from_pretrained(base)
    with pytest.raises(AuditError, match="not 4 bit"):
        models.audit_model(models.add_adapters(plain, 4, 8))


def test_the_audit_stops_a_trainable_base_and_a_silent_router_loss(loaded):
    adapted = models.add_adapters(loaded[0], 4, 8)
    adapted.config.output_router_logits = False
    with pytest.raises(AuditError, match="load-balancing"):
        models.audit_model(adapted)
    adapted.config.output_router_logits = True
    adapted.get_base_model().lm_head.weight.requires_grad_(True)
    with pytest.raises(AuditError, match="lm_head.*would be trained"):
        models.audit_model(adapted)


def test_unknown_parts_and_models_are_named(loaded):
    assert models.AuditError is AuditError  # notebook 06 catches it under this name
    with pytest.raises(KitError, match="unknown LoRA targets"):
        models.add_adapters(loaded[0], 4, 8, ["experst"])
    with pytest.raises(KitError, match="cannot be loaded"):
        models.load_base(Path("no/such/folder"))


def test_evaluating_before_tuning_changes_nothing(base):
    """On AVX512_BF16 CPUs bitsandbytes repacks weights at the first evaluation; training
    afterwards lost its gradient.
    """
    import torch

    ids = torch.arange(5, 25)[None]
    gradients = []
    for evaluate_first in (False, True):
        model, _ = models.load_base(base)
        torch.manual_seed(0)
        adapted = models.add_adapters(model, 4, 8)
        if evaluate_first:
            with torch.inference_mode():
                adapted.eval()(input_ids=ids)
        adapted.train()(input_ids=ids, labels=ids).loss.backward()
        gradients.append(
            {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
