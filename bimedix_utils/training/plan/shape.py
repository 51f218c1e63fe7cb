"""The sizes of a decoder, its parameters by part, and a check of both on the `meta` device.

The memory model, the plan and the speed measurement compute with these closed forms.
`count_on_meta` builds the real configuration without storage, puts real PEFT adapters on it and
compares: 46.7 billion parameters take about two seconds and half a gigabyte.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import AuditError, InputError
from ...core.provenance import ROOT, resolve_path
from ..models.adapters import LORA_PARTS, add_adapters, resolve_targets
from ..models.audit import group_of
from ..models.tiny import TinySpec

if TYPE_CHECKING:
    from transformers import MixtralConfig

_CONFIGS = ROOT / "data" / "models"
# Ids of one architecture: the instruction-tuned model has the configuration of its base.
_PUBLISHED = {
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b.json",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b.json",
}
# Size of a `Shape` -> name in a configuration of `transformers`.
_NAMES = {
    **{"hidden": "hidden_size", "inner": "intermediate_size", "layers": "num_hidden_layers"},
    **{"heads": "num_attention_heads", "kv_heads": "num_key_value_heads"},
    **{"vocabulary": "vocab_size", "experts": "num_local_experts"},
    **{"per_token": "num_experts_per_tok"},
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: Mixtral, or with 0 experts Mistral or Llama; `InputError`: impossible."""

    hidden: int
    inner: int  # width of one expert, or of a dense layer's MLP
    layers: int
    heads: int
    experts: int = 0
    vocabulary: int = 4000
    kv_heads: int = 0  # 0: half of the heads
    per_token: int = 2  # experts that see a token
    head_size: int = 0  # 0: the hidden width divided by the heads
    tied: bool = False  # the head is the embedding matrix

    def __post_init__(self) -> None:
        kv_heads = self.kv_heads or max(1, self.heads // 2)
        if self.heads % kv_heads or not self.head_size and self.hidden % self.heads:
            sizes = f"hidden {self.hidden} must divide by {self.heads} heads"
            raise InputError(f"{sizes}, and these by {kv_heads} key heads")
        # Filled in here, so that equal shapes compare equal however they were given.
        object.__setattr__(self, "kv_heads", kv_heads)
        object.__setattr__(self, "head_size", self.head_size or self.hidden // self.heads)

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """The sizes in a Mixtral, Mistral or Llama configuration of `transformers`."""
        names = {**_NAMES, "head_size": "head_dim", "tied": "tie_word_embeddings"}
        found = {own: getattr(config, name, None) for own, name in names.items()}
        return cls(**{name: value for name, value in found.items() if value is not None})

    def config_values(self) -> dict[str, int]:
        """The sizes as arguments of a configuration of `transformers`."""
        return {name: getattr(self, own) for own, name in _NAMES.items()}

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.kv_heads * self.head_size

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """{module name: (outputs, inputs)} of one layer; `w1`, `w2` and `w3` are of one expert."""
        h, f, q, k = self.hidden, self.inner, self.queries, self.keys
        attention = {"q_proj": (q, h), "k_proj": (k, h), "v_proj": (k, h), "o_proj": (h, q)}
        router = {"gate": (self.experts, h)} if self.experts else {}
        return {**attention, **router, "w1": (f, h), "w2": (h, f), "w3": (f, h)}

    def copies(self, module: str) -> int:
        """How often a module occurs in the model."""
        return self.layers * (max(1, self.experts) if module in LORA_PARTS["experts"] else 1)

    def parameters(self) -> dict[str, int]:
        """Parameters of the whole model by part."""
        words = self.vocabulary * self.hidden
        sizes = {name: self.copies(name) * a * b for name, (a, b) in self.matrices.items()}
        return {
            **{part: sum(sizes.get(n, 0) for n in names) for part, names in LORA_PARTS.items()},
            "norms": (2 * self.layers + 1) * self.hidden,
            "embeddings": words,
            **({} if self.tied else {"lm_head": words}),
        }

    @property
    def expert(self) -> int:
        """Parameters of one expert of one layer, or of a dense layer's MLP."""
        return 3 * self.hidden * self.inner

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.parameters().values())

    @property
    def active(self) -> int:
        """Parameters that one token uses: of the experts only `per_token`."""
        idle = self.experts - self.per_token if self.experts else 0
        return self.total - self.layers * idle * self.expert

    def adapters(self, rank: int, targets: str | Iterable[str]) -> dict[str, int]:
        """LoRA parameters by part: rank x (inputs + outputs) for each adapted matrix."""
        sizes = {name: rank * (a + b) for name, (a, b) in self.matrices.items()}
        return {
            part: sum(self.copies(name) * sizes[name] for name in modules)
            for part, modules in resolve_targets(targets).items()
        }

    def adapter_tensors(self, rank: int, targets: str | Iterable[str]) -> Counter[int]:
        """{elements of an adapter tensor: how many there are}."""
        found: Counter[int] = Counter()
        for name in sum(resolve_targets(targets).values(), ()):
            for width in self.matrices[name]:
                found[rank * width] += self.copies(name)
        return found


def find_config(name: str) -> "MixtralConfig":
    """The configuration of `tiny`, the paper's base, a folder, a file or a cached hub id.

    Nothing is downloaded. Raises `InputError` when there is none, or it is no Mixtral.
    """
    from transformers import MixtralConfig

    if name == "tiny":
        spec = TinySpec()
        sizes = (spec.hidden, spec.inner, spec.layers, spec.heads, spec.experts, spec.vocabulary)
        return MixtralConfig(**Shape(*sizes).config_values())
    values = json.loads(_config_file(name).read_text(encoding="utf-8"))
    family = values.get("model_type", "of no stated type")
    if family != "mixtral":
        raise InputError(f"a plan is made for Mixtral models; {name!r} is {family!r}")
    kept = {k: v for k, v in values.items() if k not in ("source", "quantization_config")}
    return MixtralConfig(**kept)


def _config_file(name: str) -> Path:
    if name in _PUBLISHED:
        return _CONFIGS / _PUBLISHED[name]
    here = resolve_path(name)
    for path in (here, here / "config.json", _CONFIGS / f"{name}.json"):
        if path.is_file():
            return path
    if name.count("/") == 1:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return Path(cached)
    fix = "give a folder with config.json, or put the published file into data/models"
    raise InputError(f"no configuration of {name!r} on this machine: {fix}")


@dataclass(frozen=True)
class ParameterCount:
    """Parameters, trainable parameters and adapted modules of a real model, each by part."""

    parameters: dict[str, int]
    adapters: dict[str, int]
    modules: dict[str, int]

    @property
    def base(self) -> int:
        """Parameters of the base."""
        return sum(self.parameters.values())

    @property
    def trainable(self) -> int:
        """Trainable parameters: those of the adapters."""
        return sum(self.adapters.values())

    @property
    def share(self) -> float:
        """The trainable share of all parameters, adapters included."""
        return self.trainable / (self.base + self.trainable)


def count_on_meta(
    config: "MixtralConfig", rank: int, targets: str | Iterable[str]
) -> ParameterCount:
    """Count the model and its adapters, built without storage; `AuditError`: `Shape` differs."""
    import torch
    from transformers import MixtralForCausalLM

    with torch.device("meta"):
        model: Any = add_adapters(MixtralForCausalLM(config), rank, 2 * rank, targets)
    parameters, adapters, modules = Counter[str](), Counter[str](), Counter[str]()
    for name, value in model.named_parameters():
        adapter, part = "lora_" in name, group_of(name)
        (adapters if adapter else parameters)[part] += value.numel()
        modules[part] += name.endswith("lora_A.default.weight")
        if value.requires_grad != adapter:
            state = "trainable" if value.requires_grad else "not trainable"
            raise AuditError(f"{name} is {state}: only adapters may be trained")
    shape, chosen = Shape.of(config), resolve_targets(targets)
    counted = {part: modules[part] for part in chosen}
    found = ParameterCount(dict(parameters), dict(adapters), counted)
    copies = {part: sum(map(shape.copies, names)) for part, names in chosen.items()}
    wanted = ParameterCount(shape.parameters(), shape.adapters(rank, targets), copies)
    if found != wanted:
        raise AuditError(f"the meta device's model holds {found}, the plan computes with {wanted}")
    return found
