"""Sparse upcycling: a dense Llama checkpoint becomes a Mixtral whose experts all start as copies of
its MLP.

Method: Komatsuzaki et al. 2022, "Sparse Upcycling: Training Mixture-of-Experts from Dense
Checkpoints" (arXiv 2212.05055). Attention, norms and embeddings are copied, each expert gets the
dense MLP, the router starts small and random. Mixtral's routing weights sum to one, so equal
experts compute what the dense model computes, whatever the router says.
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

UPCYCLE_TOP_K = 2  # experts a token, as in Mixtral
_ROUTER_STD = 0.02  # Mixtral's own initialisation
_AUX_LOSS = 0.02  # the released BiMediX configuration
_SHARD_BYTES = 2 * 10**9  # one output file, and the most that is held in memory
_LAYOUT = 1  # raise it when the same source and settings must give other files
# What a tokenizer may be saved as; copied as they are, so that no loader's opinion changes an id or
# the chat template.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_MLP = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
_COPIED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "attention_dropout",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the checkpoint to be written: its name, and where its values come from (no
    file: a new router).
    """

    name: str
    file: Path | None
    origin: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors writes it: F32, F16, BF16


def upcycle_model(source: Path, experts: int, noise: float, seed: int, cache: Path) -> Path:
    """The folder of a `MixtralForCausalLM` made from the Llama checkpoint in `source`, taken from
    `cache` when it was made before.

    `experts` is the number of experts (two are active a token). `noise` is relative: Gaussian, in
    units of each expert matrix's own standard deviation; 0.0 keeps the dense model's function
    exactly. Router and noise depend on `seed` and the tensor's name only. The checkpoint's type is
    kept; at most one output file (`SHARD_BYTES`) is held in memory. The cache key is the hash of
    the source's files and the settings; the folder appears whole or not at all. Raises `InputError`
    for an incomplete folder and `KitError` for what a Mixtral cannot represent.
    """
    if experts < UPCYCLE_TOP_K or noise < 0:
        raise KitError(
            f"experts = {experts}, noise = {noise}: at least {UPCYCLE_TOP_K} experts and no negative noise,"
            " please"
        )
    raw = _config(source)
    files = _weight_files(source)
    if not any(
        (source / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise InputError(
            f"{shown_path(source)} has no tokenizer: save the model's tokenizer into the same folder"
        )
    content = hash_path(source)
    folder = cache / f"upcycled-{experts}x-{digest([_LAYOUT, content, experts, noise, seed])}"
    with atomic_directory(folder) as partial:
        if partial:
            config = _mixtral_config(source, raw, experts)
            plan = list(_plan(config, files))
            _check(source, config, plan)
            _write(plan, noise, seed, partial)
            config.dtype = _dtypes()[
                next(t.dtype for t in plan if t.name == "model.embed_tokens.weight")
            ]
            config.save_pretrained(partial)
            _copy_tokenizer(source, partial)
            if (source / "generation_config.json").exists():
                shutil.copyfile(
                    source / "generation_config.json", partial / "generation_config.json"
                )
            write_json(partial / "origin.json", _origin(source, content, experts, noise, seed))
    return folder


def _dtypes() -> dict[str, "torch.dtype"]:
    import torch

    return {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def _config(source: Path) -> dict[str, Any]:
    """The source's config.json, after refusing by name whatever a Mixtral has no place for."""
    try:
        raw = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{shown_path(source)} holds no config.json: give the folder of a saved model"
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(f"{shown_path(source / 'config.json')} is not JSON: {error}") from None
    kind = raw.get("model_type")
    if kind != "llama":
        raise KitError(
            f"{shown_path(source)} holds a {kind!r} model: only the Llama architecture (model_type"
            " 'llama') can be upcycled"
        )
    architectures = raw.get("architectures") or ["LlamaForCausalLM"]
    rope = _rope(raw)
    wrong = [f"architectures is {architectures}"] if "LlamaForCausalLM" not in architectures else []
    wrong += [f"{name} is true" for name in ("attention_bias", "mlp_bias") if raw.get(name)]
    wrong += (
        [f"rope_scaling is {rope}"]
        if rope.get("rope_type", rope.get("type", "default")) != "default"
        else []
    )
    # Mixtral's configuration would carry another activation, but every fused expert kernel computes
    # SiLU.
    wrong += (
        [f"hidden_act is {raw['hidden_act']!r}"]
        if raw.get("hidden_act", "silu") not in ("silu", "swish")
        else []
    )
    wrong += ["quantization_config is set"] if raw.get("quantization_config") else []
    if wrong:
        raise KitError(f"{shown_path(source)} cannot become a Mixtral: {'; '.join(wrong)}")
    return raw


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings; transformers 5 writes `rope_parameters` where 4.57 writes `rope_theta` and
    `rope_scaling`.
    """
    return raw.get("rope_parameters") or raw.get("rope_scaling") or {}


def _mixtral_config(source: Path, raw: dict[str, Any], experts: int) -> "MixtralConfig":
    from transformers import LlamaConfig, MixtralConfig

    theta = _rope(raw).get("rope_theta", raw.get("rope_theta"))
    rope = {"rope_theta": float(theta)} if theta is not None else {}
    # Through LlamaConfig, so that a field the file leaves out gets Llama's default, never
    # Mixtral's.
    dense = LlamaConfig.from_dict(
        {key: value for key, value in raw.items() if key not in ("rope_parameters", "rope_scaling")}
        | rope
    )
    return MixtralConfig(
        **{field: getattr(dense, field) for field in _COPIED},
        rope_theta=dense.rope_theta,
        sliding_window=None,  # Llama attends to everything
        num_local_experts=experts,
        num_experts_per_tok=UPCYCLE_TOP_K,
        router_aux_loss_coef=_AUX_LOSS,
        # `add_adapters` switches it on; with it `generate` fails in transformers 4.57
        output_router_logits=False,
        architectures=["MixtralForCausalLM"],
    )


def _weight_files(source: Path) -> list[Path]:
    """The safetensors files of a checkpoint, the single one or those its index names."""
    index = source / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (source / name).exists()]
    if missing:
        raise InputError(
            f"{shown_path(source)} lacks {', '.join(missing)}: fetch all files, or save the model again"
            " with safetensors"
        )
    return [source / name for name in names]


def _plan(config: "MixtralConfig", files: list[Path]) -> Iterator[_Tensor]:
    """Every tensor of the Mixtral, in the order of the source's files; the values are not read yet."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in sorted(tensors.keys()):
                # Tied weights are stored once; old Llama files also hold frequencies that the model
                # computes itself.
                if name.endswith("rotary_emb.inv_freq") or (
                    config.tie_word_embeddings and name == "lm_head.weight"
                ):
                    continue
                view = tensors.get_slice(name)
                shape, dtype = tuple(view.get_shape()), view.get_dtype()
                layer, inside, part = name.partition(".mlp.")
                if not inside:
                    yield _Tensor(name, file, name, shape, dtype)
                    continue
                dense, _, end = part.partition(".")
                for expert in range(config.num_local_experts):
                    sparse = (
                        f"{layer}.block_sparse_moe.experts.{expert}.{_MLP.get(dense, dense)}.{end}"
                    )
                    yield _Tensor(sparse, file, name, shape, dtype)
                if dense == "gate_proj":
                    router = f"{layer}.block_sparse_moe.gate.weight"
                    yield _Tensor(
                        router, None, router, (config.num_local_experts, config.hidden_size), dtype
                    )


def _check(source: Path, config: "MixtralConfig", plan: list[_Tensor]) -> None:
    """Compare names, shapes and types with an empty Mixtral: nothing may be missing, left over or
    of another size.
    """
    import torch
    from transformers import MixtralForCausalLM

    with torch.device("meta"):
        wanted = {
            name: tuple(tensor.shape)
            for name, tensor in MixtralForCausalLM(config).state_dict().items()
        }
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)
    found = {tensor.name: tensor.shape for tensor in plan}
    for word, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("holds besides", found.keys() - wanted.keys()),
        (
            "has another size of",
            {name for name in wanted.keys() & found.keys() if wanted[name] != found[name]},
        ),
    ):
        if names:
            raise KitError(
                f"{shown_path(source)} {word} {len(names)} tensors of the architecture its config.json"
                f" says, first {min(names)}"
            )
    other = [tensor for tensor in plan if tensor.dtype not in _dtypes()]
    if other:
        raise KitError(
            f"{shown_path(source)} stores {other[0].origin} as {other[0].dtype}: give a checkpoint in"
            " float32, bfloat16 or float16"
        )


def _write(plan: list[_Tensor], noise: float, seed: int, target: Path) -> None:
    """Write the planned tensors in files of at most `SHARD_BYTES`, one file in memory at a time,
    and an index when there are several.
    """
    from safetensors.torch import save_file

    shards: list[list[_Tensor]] = [[]]
    room = _SHARD_BYTES
    for tensor in plan:
        size = _bytes(tensor)
        if shards[-1] and size > room:
            shards.append([])
            room = _SHARD_BYTES
        shards[-1].append(tensor)
        room -= size
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        where = {
            tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
        }
        total = sum(_bytes(tensor) for tensor in plan)
        write_json(
            target / "model.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": where},
        )
    for name, shard in zip(names, shards, strict=True):
        save_file(
            {tensor.name: _values(tensor, noise, seed) for tensor in shard},
            target / name,
            metadata={"format": "pt"},
        )


def _bytes(tensor: _Tensor) -> int:
    return math.prod(tensor.shape) * _dtypes()[tensor.dtype].itemsize


def _values(tensor: _Tensor, noise: float, seed: int) -> "torch.Tensor":
    """The values of one planned tensor, in its type."""
    import torch
    from safetensors import safe_open

    # Seeded by name: the same values in whatever order and files the tensors are written.
    generator = torch.Generator().manual_seed(int(digest([seed, tensor.name], 15), 16))
    if tensor.file is None:
        return (torch.randn(tensor.shape, generator=generator) * _ROUTER_STD).to(
            _dtypes()[tensor.dtype]
        )
    with safe_open(tensor.file, "pt") as tensors:
        values = tensors.get_tensor(tensor.origin)
    if noise and ".experts." in tensor.name:
        spread = noise * values.float().std()
        return (values.float() + spread * torch.randn(tensor.shape, generator=generator)).to(
            values.dtype
        )
    return values.clone()  # safetensors refuses experts that share memory


def _copy_tokenizer(source: Path, target: Path) -> None:
    """The tokenizer's files as they are, except that it must not return token_type_ids, which
    Mixtral refuses.
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
    """What the folder was made from, in the form of `weights`: a name to show, the source, its
    licence.
    """
    path = source / "origin.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    name = before.get("name", source.name)
    return {
        "name": (
            f"{name}, upcycled to {experts} experts" + (f" with noise {noise:g}" if noise else "")
        ),
        "made_from": {
            "name": name,
            "source": before.get("source", "not found"),
            "revision": before.get("revision", "not found"),
        },
        "source_sha256": content,
        "licence": before.get("licence", "not found"),
        "method": "sparse upcycling (Komatsuzaki et al. 2022)",
        "settings": {
            "experts": experts,
            "experts_per_token": UPCYCLE_TOP_K,
            "noise": noise,
            "seed": seed,
        },
    }
