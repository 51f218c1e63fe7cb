"""The tiny Mixtral in 4 bit: what is quantised, what learns, what the traps would do."""

from pathlib import Path

import pytest
from support.tiny import FORM, SPEC, TEXTS

from bimedix_utils import models
from bimedix_utils.errors import AuditError, KitError

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


def test_too_little_text_is_refused(tmp_path):
    with pytest.raises(KitError, match="sequences of 32 tokens"):
        models.tiny_base(["short"], [], SPEC, tmp_path)


def test_experts_are_four_bit_and_only_adapters_learn(loaded):
    model, _ = loaded
    adapted = models.add_adapters(model, 4, 8)
    rows = {(row.part, row.dtype): row for row in models.audit(adapted)}
    assert {dtype for part, dtype in rows if part == "experts"} == {"nf4"}
    assert rows["experts", "nf4"].parameters == 2 * 3 * 3 * 64 * 64
    assert rows["experts", "nf4"].bytes * 2 == rows["experts", "nf4"].parameters
    assert rows["router", "float32"].trainable == rows["embeddings", "float32"].trainable == 0
    lora = {part: row.trainable for (part, _), row in rows.items() if part.startswith("LoRA")}
    # rank 4: r * (in + out) for each adapted matrix
    assert lora == {"LoRA router": 2 * 4 * (64 + 3), "LoRA experts": 2 * 3 * 3 * 4 * 128, "LoRA attention": 2 * 4 * (2 * 128 + 2 * 96)}
    assert models.trainable_share(adapted)[0] == sum(lora.values())


def test_the_names_peft_saves_are_those_that_load_elsewhere(loaded, tmp_path):
    """Adapters saved with transformers 4.57 load into the current line through PEFT's own conversion, as long as the names stay."""
    from safetensors import safe_open

    models.add_adapters(loaded[0], 4, 8).save_pretrained(tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
    layer = "base_model.model.model.layers.0."
    assert layer + "block_sparse_moe.experts.0.w1.lora_A.weight" in names
    assert layer + "block_sparse_moe.gate.lora_B.weight" in names
    assert layer + "self_attn.q_proj.lora_A.weight" in names
    assert len(names) == 2 * 2 * (4 + 3 * 3 + 1)


def test_the_audit_stops_a_recipe_without_the_router(loaded):
    with pytest.raises(AuditError, match="0 adapters on router"):
        models.audit(models.add_adapters(loaded[0], 4, 8, ["attention", "experts"]))


def test_the_audit_stops_experts_in_sixteen_bit(base):
    """bitsandbytes skips fused experts without a word; a full-precision model stands for that failure."""
    from transformers import MixtralForCausalLM

    plain = MixtralForCausalLM.from_pretrained(base)
    with pytest.raises(AuditError, match="not 4 bit"):
        models.audit(models.add_adapters(plain, 4, 8))


def test_the_audit_stops_a_base_that_would_learn_and_a_silent_router_loss(loaded):
    adapted = models.add_adapters(loaded[0], 4, 8)
    adapted.config.output_router_logits = False
    with pytest.raises(AuditError, match="load-balancing"):
        models.audit(adapted)
    adapted.config.output_router_logits = True
    adapted.get_base_model().lm_head.weight.requires_grad_(True)
    with pytest.raises(AuditError, match="lm_head.*would be trained"):
        models.audit(adapted)


def test_unknown_parts_and_models_are_named(loaded):
    with pytest.raises(KitError, match="unknown LoRA parts"):
        models.add_adapters(loaded[0], 4, 8, ["experst"])
    with pytest.raises(KitError, match="cannot be loaded"):
        models.load_base(Path("no/such/folder"))


def test_evaluating_before_tuning_changes_nothing(base):
    """On AVX512_BF16 processors bitsandbytes repacks weights at the first evaluation; training afterwards lost its gradient."""
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
        gradients.append({n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
