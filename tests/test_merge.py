"""The exact merge: one ordinary checkpoint that computes what the 4-bit base with its adapter
computes.
"""

import json
import shutil
from pathlib import Path

import pytest

from bimedix_utils.core.errors import AuditError, InputError, KitError
from bimedix_utils.training import models, weights
from bimedix_utils.training.models import merge

pytestmark = pytest.mark.unit
PROMPTS = ["The drug aspirin belongs to the class of", "ينتمي دواء أسبرين إلى فئة"]
TEXTS = [PROMPTS[0] + " salicylates.", PROMPTS[1] + " الساليسيلات."] * 20


def mixtral(folder: Path, tied: bool = False) -> Path:
    """A random Mixtral of two layers with logits of ordinary size, and its tokenizer."""
    import torch
    from transformers import GenerationConfig, MixtralConfig, MixtralForCausalLM

    models.setup_torch(1)
    tokenizer = models.build_tokenizer(TEXTS, 400)
    torch.manual_seed(3)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_local_experts=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=tied,
        output_router_logits=True,
    )
    model = MixtralForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=2, max_new_tokens=5
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter_for(base: Path, folder: Path) -> Path:
    """A saved adapter that changes the model as much as a training would: both factors random."""
    import torch

    torch.manual_seed(4)
    adapted = models.add_adapters(models.load_base(base)[0], 4, 8)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.05)
    models.save_adapter(adapted, folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return mixtral(tmp_path_factory.mktemp("base") / "little-mixtral")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    return adapter_for(base, tmp_path_factory.mktemp("tuned") / "adapter")


@pytest.fixture(scope="module")
def merged(base, adapter, tmp_path_factory) -> tuple[Path, dict]:
    target = tmp_path_factory.mktemp("merged") / "model"
    return target, models.merge_adapter(base, adapter, target, PROMPTS)


def logits(model, tokenizer):
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokenizer(PROMPTS[0]).input_ids])).logits[0].float()


def apart(found, reference) -> float:
    return ((found - reference).abs().max() / reference.abs().max()).item()


def test_the_merged_folder_is_an_ordinary_model_that_computes_what_was_trained(
    base, adapter, merged
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target, facts = merged
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(target),
        AutoTokenizer.from_pretrained(target),
    )
    reference = logits(*models.load_scored(base, adapter))
    assert apart(logits(model, tokenizer), reference) < 1e-5
    assert max(facts["difference"], facts["difference_as_saved"]) < 1e-5
    plain, _ = models.load_scored(base, None)
    assert (
        apart(logits(plain, tokenizer), reference) > 0.05
    )  # the adapter changes the model: leaving it out would be seen
    assert not [name for name, _ in model.named_parameters() if "lora" in name]


def test_other_merges_are_not_what_was_trained(base, adapter):
    """PEFT's merge into 4 bit quantises the sum again; the full-precision base lacks the
    quantisation error training lived with.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned, tokenizer = models.load_scored(base, adapter)
    reference = logits(tuned, tokenizer)
    with pytest.warns(UserWarning, match="rounding errors"):
        again = tuned.merge_and_unload()
    assert apart(logits(again, tokenizer), reference) > 1e-2
    onto_full = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), adapter
    ).merge_and_unload()
    assert apart(logits(onto_full, tokenizer), reference) > 1e-2


def test_the_folder_holds_all_and_only_what_a_reader_needs(base, merged, tmp_path_factory):
    target, facts = merged
    config = json.loads((target / "config.json").read_text())
    assert (
        "quantization_config" not in config
        and config["dtype"] == "float32"
        and not config.get("output_router_logits")
    )
    assert json.loads((target / "generation_config.json").read_text())["max_new_tokens"] == 5
    assert (target / "chat_template.jinja").read_text() == models.tiny.CHAT_TEMPLATE
    assert json.loads((target / "origin.json").read_text()) == facts
    assert weights.model_name(target) == facts["name"] == "little-mixtral + adapter, merged"
    assert (
        facts["parameters"] * 4 < facts["bytes"] < facts["parameters"] * 4.2
        and facts["prompts"] == 2
    )
    root = str(tmp_path_factory.getbasetemp()).encode()
    assert not [path.name for path in target.iterdir() if root in path.read_bytes()]


def test_a_merged_model_generates(merged):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(merged[0])
    assert model.generate(torch.tensor([[1, 9, 8]]), do_sample=False).shape[1] > 3


def test_tied_embeddings_and_several_files(tmp_path):
    from transformers import AutoModelForCausalLM

    base = mixtral(tmp_path / "base", tied=True)
    facts = models.merge_adapter(
        base,
        adapter_for(base, tmp_path / "adapter"),
        tmp_path / "merged",
        PROMPTS,
        max_shard_size="200KB",
    )
    assert (
        len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 2
        and facts["difference_as_saved"] < 1e-5
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_bfloat16_is_rounded_and_says_by_how_much(base, adapter, tmp_path):
    from safetensors.torch import load_file

    facts = models.merge_adapter(base, adapter, tmp_path / "merged", PROMPTS, dtype="bfloat16")
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {"torch.bfloat16"}
    assert facts["difference"] < 1e-5 < 1e-3 < facts["difference_as_saved"] < 0.2
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_merge_that_is_not_exact_stops_and_leaves_nothing(base, adapter, tmp_path, monkeypatch):
    def naive(tuned, adapter):
        with pytest.warns(UserWarning, match="rounding errors"):
            return tuned.merge_and_unload()

    monkeypatch.setattr(merge, "_merged", naive)
    with pytest.raises(AuditError, match="differs from 4-bit base"):
        models.merge_adapter(base, adapter, tmp_path / "merged", PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_what_was_merged_stops_and_leaves_nothing(
    base, adapter, tmp_path, monkeypatch
):
    """What counts is the folder on disk, so it is loaded again."""
    from transformers import AutoModelForCausalLM

    load = AutoModelForCausalLM.from_pretrained

    def damaged(folder, **named):
        model = load(folder, **named)
        if "quantization_config" not in named:
            model.model.norm.weight.data *= 1.1
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", damaged)
    with pytest.raises(AuditError, match="as saved differs"):
        models.merge_adapter(base, adapter, tmp_path / "merged", PROMPTS)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_an_earlier_merge_is_replaced_and_nothing_else(base, adapter, tmp_path):
    target = tmp_path / "merged"
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(KitError, match="in the way"):
        models.merge_adapter(base, adapter, target, PROMPTS)
    assert (target / "thesis.txt").read_text() == "mine"
    shutil.rmtree(target)
    models.merge_adapter(base, adapter, target, PROMPTS)
    (target / "old.txt").write_text("of the first merge")
    models.merge_adapter(base, adapter, target, PROMPTS)
    assert (target / "config.json").exists() and not (target / "old.txt").exists()


def test_an_adapter_of_another_model_is_refused(base, adapter, tmp_path):
    """PEFT only warns when names do not meet, and goes on with an adapter that does nothing."""
    from safetensors.torch import load_file, save_file

    other = tmp_path / "renamed"
    shutil.copytree(adapter, other)
    file = other / "adapter_model.safetensors"
    save_file(
        {
            name.replace("layers.1.", "layers.7."): tensor
            for name, tensor in load_file(file).items()
        },
        file,
    )
    with (
        pytest.warns(UserWarning),
        pytest.raises(AuditError, match="tensors without a counterpart"),
    ):
        models.merge_adapter(base, other, tmp_path / "merged", PROMPTS)
    larger = tmp_path / "larger"
    shutil.copytree(adapter, larger)
    file = larger / "adapter_model.safetensors"
    grown = {
        name: tensor.repeat(1, 2) if "q_proj.lora_A" in name else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(grown, file)
    with pytest.raises(AuditError, match="does not fit the base: .*size mismatch"):
        models.merge_adapter(base, larger, tmp_path / "merged", PROMPTS)


def test_an_adapter_with_nan_is_refused(base, adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    file = broken / "adapter_model.safetensors"
    save_file(
        {
            name: tensor * float("nan") if "q_proj.lora_B" in name else tensor
            for name, tensor in load_file(file).items()
        },
        file,
    )
    with pytest.raises(AuditError, match="NaN or infinite"):
        models.merge_adapter(base, broken, tmp_path / "merged", PROMPTS)


def test_wrong_arguments_are_named(base, adapter, tmp_path):
    with pytest.raises(KitError, match="legal: float32, bfloat16"):
        models.merge_adapter(base, adapter, tmp_path / "m", PROMPTS, dtype="int8")
    with pytest.raises(KitError, match="no prompts"):
        models.merge_adapter(base, adapter, tmp_path / "m", [])
    with pytest.raises(InputError, match="holds no adapter"):
        models.merge_adapter(base, tmp_path / "nothing", tmp_path / "m", PROMPTS)
