"""Other LoRA targets are one parameter of notebook 06: `LORA_TARGETS` names parts or modules."""

import json

import pytest

from bimedix_utils.core.errors import ParameterError
from bimedix_utils.training import models

pytestmark = pytest.mark.unit
QV = "q_proj,v_proj"


@pytest.mark.parametrize(
    ("targets", "modules"),
    [
        (QV, {"attention": ("q_proj", "v_proj")}),
        ("v_proj q_proj", {"attention": ("q_proj", "v_proj")}),
        (["router", "w2"], {"experts": ("w2",), "router": ("gate",)}),
        ("attention q_proj", {"attention": ("q_proj", "k_proj", "v_proj", "o_proj")}),
    ],
)
def test_parts_and_modules_are_resolved_in_one_order(targets, modules):
    assert models.resolve_targets(targets) == modules


@pytest.mark.parametrize("targets", ["", "attention head", ["qproj"]])
def test_an_unknown_target_and_none_are_refused(targets):
    with pytest.raises(ParameterError, match=r"LORA_TARGETS .*attention \(q_proj"):
        models.resolve_targets(targets)


def test_modules_are_adapted_audited_counted_and_saved(base, tmp_path):
    """The tiny Mixtral: 2 layers, width 64, 2 query heads and 1 key head of 32."""
    adapted = models.add_adapters(models.load_base(base)[0], 4, 8, QV)
    size = 2 * 4 * ((64 + 64) + (64 + 32))
    rows = models.audit_model(adapted, QV)
    assert {row.part: row.trainable for row in rows if row.trainable} == {"LoRA attention": size}
    assert models.trainable_share(adapted)[0] == size
    assert models.adapters_by_part(adapted, QV) == [
        ("attention", 4, 4, size, 1.0),
        ("experts", 0, 0, 0, 0.0),
        ("router", 0, 0, 0, 0.0),
    ]
    with pytest.raises(models.AuditError, match=r"expected 8; none on model.layers.0.*k_proj"):
        models.audit_model(adapted, "attention")
    models.save_adapter(adapted, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert models.audit_model(
        models.add_adapters(models.load_base(base)[0], 4, 8, "w1 gate"), "w1 gate"
    )
