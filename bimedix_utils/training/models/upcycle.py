"""Sparse upcycling: a dense Llama checkpoint becomes a Mixtral whose experts all start as copies of
its MLP.

Method: Komatsuzaki et al. 2022, "Sparse Upcycling: Training Mixture-of-Experts from Dense
Checkpoints" (arXiv 2212.05055). Attention, norms and embeddings are copied, each expert gets the
dense MLP, the router starts small and random. Mixtral's routing weights sum to one, so equal
experts compute what the dense model computes, whatever the router chooses.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError, KitError
from ...core.files import atomic_directory, write_json
from ...core.provenance import hash_path, shown_path
from ...core.text import digest

if TYPE_CHECKING:
    import torch
    from transformers import MixtralConfig

_TOP_K = 2  # experts a token, as in Mixtral
_ROUTER_STD = 0.02  # Mixtral's own initialisation
_AUX_LOSS = 0.02  # the released BiMediX configuration
_SHARD_BYTES = 2 * 10**9  # one output file, and the most that is held in memory
_LAYOUT = 1  # raise it when the same source and settings must give other files
# Copied byte for byte: a loader could change an id or the chat template.
_TOKENIZER_FILES = """
    tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json added_tokens.json
    vocab.json merges.txt chat_template.jinja chat_template.json
""".split()
_MLP = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
_COPIED_SETTINGS = """
    vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim hidden_act max_position_embeddings initializer_range rms_norm_eps
    use_cache attention_dropout tie_word_embeddings bos_token_id eos_token_id pad_token_id
""".split()


@dataclass(frozen=True)
class _Tensor:
    """One tensor to write: its name, and the file and name its values come from (no file: a new
    router).
    """

    name: str
    file: Path | None
    origin: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it: F32, F16, BF16

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _dtypes()[self.dtype].itemsize


def upcycle_model(source: Path, experts: int, noise: float, seed: int, cache: Path) -> Path:
    """The folder of a `MixtralForCausalLM` made from the Llama checkpoint in `source`, taken from
    `cache` when it was made before.

    `experts` is the number of experts (two are active for each token). `noise` is Gaussian, in
    units of each expert matrix's own standard deviation; 0.0 keeps the dense model's function
    exactly. Router and noise depend on `seed` and the tensor's name only. The checkpoint's dtype is
    kept; at most one output file (`_SHARD_BYTES`) is held in memory. The cache key is the hash of
    the source's files and the settings; the folder appears complete or not at all. Raises
    `InputError` for an incomplete source and `KitError` for what a Mixtral cannot represent.
    """
    if experts < _TOP_K or noise < 0:
        raise KitError(
            f"experts = {experts}, noise = {noise}: at least {_TOP_K} experts and no negative"
            " noise, please"
        )
    raw = _read_config(source)
    files = _weight_files(source)
    tokenizers = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if not any((source / name).exists() for name in tokenizers):
        raise InputError(
            f"{shown_path(source)} has no tokenizer: save the model's tokenizer into this folder"
        )
    content = hash_path(source)
    folder = cache / f"upcycled-{experts}x-{digest([_LAYOUT, content, experts, noise, seed])}"
    with atomic_directory(folder) as partial:
        if partial:
            config = _mixtral_config(raw, experts)
            tensors = list(_tensors(config, files))
            _check(source, config, tensors)
            _write(tensors, noise, seed, partial)
            embeddings = next(t for t in tensors if t.name == "model.embed_tokens.weight")
            config.dtype = _dtypes()[embeddings.dtype]
            config.save_pretrained(partial)
            _copy_tokenizer(source, partial)
            if (source / "generation_config.json").exists():
                shutil.copy(source / "generation_config.json", partial)
            write_json(partial / "origin.json", _origin(source, content, experts, noise, seed))
    return folder


def _dtypes() -> dict[str, "torch.dtype"]:
    import torch

    return {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def _read_config(source: Path) -> dict[str, Any]:
    """The source's config.json. Raises `KitError` for a setting that a Mixtral does not have."""
    where = shown_path(source)
    try:
        raw = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{where} holds no config.json: give the folder of a saved model"
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{shown_path(source / 'config.json')} is not JSON: {error}") from None
    if raw.get("model_type") != "llama":
        raise KitError(
            f"{where} holds a {raw.get('model_type')!r} model: only the Llama architecture"
            " (model_type 'llama') can be upcycled"
        )
    architectures = raw.get("architectures") or ["LlamaForCausalLM"]
    rope, activation = _rope(raw), raw.get("hidden_act", "silu")
    wrong = {
        f"architectures is {architectures}": "LlamaForCausalLM" not in architectures,
        "attention_bias is true": raw.get("attention_bias"),
        "mlp_bias is true": raw.get("mlp_bias"),
        f"rope_scaling is {rope}": rope.get("rope_type", rope.get("type", "default")) != "default",
        # Mixtral's configuration accepts others, but every fused expert kernel computes SiLU.
        f"hidden_act is {activation!r}": activation not in ("silu", "swish"),
        "quantization_config is set": raw.get("quantization_config"),
    }
    found = [text for text, is_wrong in wrong.items() if is_wrong]
    if found:
        raise KitError(f"{where} cannot become a Mixtral: {'; '.join(found)}")
    return raw


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings; transformers 5 writes `rope_parameters` where 4.57 writes `rope_theta` and
    `rope_scaling`.
    """
    return raw.get("rope_parameters") or raw.get("rope_scaling") or {}


def _mixtral_config(raw: dict[str, Any], experts: int) -> "MixtralConfig":
    from transformers import LlamaConfig, MixtralConfig

    theta = _rope(raw).get("rope_theta", raw.get("rope_theta"))
    settings = {k: v for k, v in raw.items() if k not in ("rope_parameters", "rope_scaling")}
    if theta is not None:
        settings["rope_theta"] = float(theta)
    # LlamaConfig first: a field that the file omits gets Llama's default, not Mixtral's.
    dense = LlamaConfig.from_dict(settings)
    return MixtralConfig(
        **{field: getattr(dense, field) for field in _COPIED_SETTINGS},
        rope_theta=dense.rope_theta,
        sliding_window=None,  # Llama attends to everything
        num_local_experts=experts,
        num_experts_per_tok=_TOP_K,
        router_aux_loss_coef=_AUX_LOSS,
        # `add_adapters` switches it on; with it `generate` fails in transformers 4.57
        output_router_logits=False,
        architectures=["MixtralForCausalLM"],
    )


def _weight_files(source: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the single one, or those that its index names."""
    index = source / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (source / name).exists()]
    if missing:
        raise InputError(
            f"{shown_path(source)} lacks {', '.join(missing)}: fetch all files, or save the model"
            " again with safetensors"
        )
    return [source / name for name in names]


def _tensors(config: "MixtralConfig", files: list[Path]) -> Iterator[_Tensor]:
    """Every tensor of the Mixtral, in the order of the source's files, without its values."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in sorted(tensors.keys()):
                # Tied weights are stored once; old Llama files also hold rotary frequencies, which
                # the model computes itself.
                tied = config.tie_word_embeddings and name == "lm_head.weight"
                if tied or name.endswith("rotary_emb.inv_freq"):
                    continue
                view = tensors.get_slice(name)
                shape, dtype = tuple(view.get_shape()), view.get_dtype()
                layer, inside, part = name.partition(".mlp.")
                if not inside:
                    yield _Tensor(name, file, name, shape, dtype)
                    continue
                dense, _, end = part.partition(".")
                moe = f"{layer}.block_sparse_moe"
                for i in range(config.num_local_experts):
                    expert = f"{moe}.experts.{i}.{_MLP.get(dense, dense)}.{end}"
                    yield _Tensor(expert, file, name, shape, dtype)
                if dense == "gate_proj":
                    size = config.num_local_experts, config.hidden_size
                    yield _Tensor(f"{moe}.gate.weight", None, "", size, dtype)


def _check(source: Path, config: "MixtralConfig", tensors: list[_Tensor]) -> None:
    """Compare names, shapes and dtypes with an empty Mixtral. Raises `KitError` for a tensor that
    is missing, superfluous or of another size.
    """
    import torch
    from transformers import MixtralForCausalLM

    with torch.device("meta"):
        state = MixtralForCausalLM(config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    found = {tensor.name: tensor.shape for tensor in tensors}
    both = expected.keys() & found.keys()
    for word, names in (
        ("lacks", expected.keys() - found.keys()),
        ("holds besides", found.keys() - expected.keys()),
        ("has another size of", {name for name in both if expected[name] != found[name]}),
    ):
        if names:
            raise KitError(
                f"{shown_path(source)} {word} {len(names)} tensors of the architecture in its"
                f" config.json, first {min(names)}"
            )
    other = [tensor for tensor in tensors if tensor.dtype not in _dtypes()]
    if other:
        raise KitError(
            f"{shown_path(source)} stores {other[0].origin} as {other[0].dtype}: give a checkpoint"
            " in float32, bfloat16 or float16"
        )


def _write(tensors: list[_Tensor], noise: float, seed: int, target: Path) -> None:
    """Write files of at most `_SHARD_BYTES`, one file in memory at a time, and an index when there
    are several.
    """
    from safetensors.torch import save_file

    shards: list[list[_Tensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(t.bytes for t in shards[-1]) + tensor.bytes > _SHARD_BYTES:
            shards.append([])
        shards[-1].append(tensor)
    n = len(shards)
    names = [f"model-{i + 1:05d}-of-{n:05d}.safetensors" for i in range(n)]
    if n == 1:
        names = ["model.safetensors"]
    else:
        by_file = zip(names, shards, strict=True)
        where = {tensor.name: name for name, shard in by_file for tensor in shard}
        total = {"total_size": sum(tensor.bytes for tensor in tensors)}
        index = {"metadata": total, "weight_map": where}
        write_json(target / "model.safetensors.index.json", index)
    for name, shard in zip(names, shards, strict=True):
        values = {tensor.name: _values(tensor, noise, seed) for tensor in shard}
        save_file(values, target / name, metadata={"format": "pt"})


def _values(tensor: _Tensor, noise: float, seed: int) -> "torch.Tensor":
    """The values of one tensor, in its dtype."""
    import torch
    from safetensors import safe_open

    # Seeded by name: the same values in whatever order and files the tensors are written.
    generator = torch.Generator().manual_seed(int(digest([seed, tensor.name], 15), 16))
    if tensor.file is None:
        router = torch.randn(tensor.shape, generator=generator) * _ROUTER_STD
        return router.to(_dtypes()[tensor.dtype])
    with safe_open(tensor.file, "pt") as tensors:
        values = tensors.get_tensor(tensor.origin)
    if noise and ".experts." in tensor.name:
        spread = noise * values.float().std()
        noisy = values.float() + spread * torch.randn(tensor.shape, generator=generator)
        return noisy.to(values.dtype)
    return values.clone()  # safetensors refuses experts that share memory


def _copy_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer's files, unchanged except that it must not return token_type_ids, which Mixtral
    refuses.
    """
    from transformers import AutoTokenizer

    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if "token_type_ids" in AutoTokenizer.from_pretrained(target).model_input_names:
        path = target / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_json(path, settings | {"model_input_names": ["input_ids", "attention_mask"]})


def _origin(source: Path, content: str, experts: int, noise: float, seed: int) -> dict[str, Any]:
    """The content of origin.json: a name to show, the source and its licence (see `weights`)."""
    path = source / "origin.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {key: before.get(key, "not found") for key in ("source", "revision", "licence")}
    licence, name = known.pop("licence"), before.get("name", source.name)
    suffix = f" with noise {noise:g}" if noise else ""
    return {
        "name": f"{name}, upcycled to {experts} experts{suffix}",
        "made_from": {"name": name, **known},
        "source_sha256": content,
        "licence": licence,
        "method": "sparse upcycling (Komatsuzaki et al. 2022)",
        "settings": {"experts": experts, "experts_per_token": _TOP_K, "noise": noise, "seed": seed},
    }
