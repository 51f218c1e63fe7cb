"""The model a plan is about: its numbers, its parameters by part, and the proof of both on the
`meta` device.

The closed forms below are what the memory model computes with. `prove` builds the real
configuration without storage, puts real PEFT adapters on it and compares: 46.7 billion parameters
take about two seconds and half a gigabyte.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import AuditError, InputError
from ...core.provenance import ROOT, resolve_path
from ..models import LORA_PARTS, TinySpec, add_adapters, group_of

if TYPE_CHECKING:
    from transformers import MixtralConfig

CONFIGS = ROOT / "data" / "models"
# Ids of one architecture: the instruction-tuned model has the configuration of its base.
KNOWN = {
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b.json",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b.json",
}


@dataclass(frozen=True)
class Shape:
    """The numbers of a Mixtral that decide its memory and its work; sizes in elements."""

    vocabulary: int
    hidden: int
    inner: int
    layers: int
    experts: int
    per_token: int  # experts that see a token
    heads: int
    kv_heads: int
    head_size: int
    tied: bool = False

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.kv_heads * self.head_size

    def matrices(self, part: str) -> list[tuple[int, int]]:
        """(outputs, inputs) of one layer's matrices of a part (`attention`, `router`, `experts`: of
        one expert).
        """
        h, f, q, k = self.hidden, self.inner, self.queries, self.keys
        return {
            "attention": [(q, h), (k, h), (k, h), (h, q)],
            "router": [(self.experts, h)],
            "experts": [(f, h), (h, f), (f, h)],
        }[part]

    def copies(self, part: str) -> int:
        """How often a part's matrices occur in one layer."""
        return self.experts if part == "experts" else 1

    def parameters(self) -> dict[str, int]:
        """Parameters of the base by part."""
        found = {
            p: self.layers * self.copies(p) * sum(a * b for a, b in self.matrices(p))
            for p in LORA_PARTS
        }
        found |= {
            "norms": (2 * self.layers + 1) * self.hidden,
            "embeddings": self.vocabulary * self.hidden,
        }
        return found if self.tied else {**found, "lm_head": self.vocabulary * self.hidden}

    def adapters(self, rank: int, parts: Iterable[str]) -> dict[str, int]:
        """Parameters of the LoRA adapters by part: rank x (inputs + outputs) for each adapted
        matrix.
        """
        return {
            p: self.layers * self.copies(p) * sum(rank * (a + b) for a, b in self.matrices(p))
            for p in parts
        }

    def adapter_tensors(self, rank: int, parts: Iterable[str]) -> Counter[int]:
        """{elements of an adapter tensor: how many there are}."""
        sizes: Counter[int] = Counter()
        for part in parts:
            for a, b in self.matrices(part):
                for width in (a, b):
                    sizes[rank * width] += self.layers * self.copies(part)
        return sizes


def shape_of(config: "MixtralConfig") -> Shape:
    """The numbers of a Mixtral configuration. Raises `InputError` for another architecture."""
    if config.model_type != "mixtral":
        raise InputError(
            f"a plan is made for Mixtral models; this configuration is {config.model_type!r}"
        )
    return Shape(
        vocabulary=config.vocab_size,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        layers=config.num_hidden_layers,
        experts=config.num_local_experts,
        per_token=config.num_experts_per_tok,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        tied=bool(config.tie_word_embeddings),
    )


def find_config(name: str) -> "MixtralConfig":
    """The configuration a MODEL parameter names: `tiny`, the paper's base, a folder or file, or a
    hub id already on this machine.

    Nothing is downloaded. Raises `InputError` when there is none.
    """
    from transformers import MixtralConfig

    if name == "tiny":
        spec = TinySpec()
        return MixtralConfig(
            vocab_size=spec.vocabulary,
            hidden_size=spec.hidden,
            intermediate_size=spec.inner,
            num_hidden_layers=spec.layers,
            num_local_experts=spec.experts,
            num_attention_heads=spec.heads,
            num_key_value_heads=max(1, spec.heads // 2),
        )
    values = json.loads(_config_file(name).read_text(encoding="utf-8"))
    if values.get("model_type") != "mixtral":
        raise InputError(
            f"a plan is made for Mixtral models; {name!r} is"
            f" {values.get('model_type', 'of no stated type')!r}"
        )
    values.pop("source", None)
    return MixtralConfig(**{k: v for k, v in values.items() if k != "quantization_config"})


def _config_file(name: str) -> Path:
    if name in KNOWN:
        return CONFIGS / KNOWN[name]
    here = resolve_path(name)
    found = [
        path for path in (here, here / "config.json", CONFIGS / f"{name}.json") if path.is_file()
    ]
    if not found and name.count("/") == 1:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json")
        found = [Path(cached)] if isinstance(cached, str) else []
    if not found:
        raise InputError(
            f"no configuration of {name!r} on this machine: give a folder with config.json, or put"
            " the published file into data/models"
        )
    return found[0]


@dataclass(frozen=True)
class Proof:
    """What the real model on the meta device holds: parameters, trainable ones and adapted modules,
    each by part.
    """

    parameters: dict[str, int]
    adapters: dict[str, int]
    targets: dict[str, int]

    @property
    def base(self) -> int:
        """Parameters of the base."""
        return sum(self.parameters.values())

    @property
    def learning(self) -> int:
        """Parameters that learn."""
        return sum(self.adapters.values())

    @property
    def share(self) -> float:
        """The learning share of all parameters, adapters included."""
        return self.learning / (self.base + self.learning)


def prove(config: "MixtralConfig", rank: int, parts: tuple[str, ...]) -> Proof:
    """Build the model and its adapters without storage and count them. Raises `AuditError` when the
    closed forms differ.
    """
    import torch
    from transformers import MixtralForCausalLM

    with torch.device("meta"):
        model: Any = add_adapters(MixtralForCausalLM(config), rank, 2 * rank, parts)
    parameters: Counter[str] = Counter()
    adapters: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    for name, value in model.named_parameters():
        (adapters if "lora_" in name else parameters)[group_of(name)] += value.numel()
        targets[group_of(name)] += name.endswith("lora_A.default.weight")
        if value.requires_grad != ("lora_" in name):
            raise AuditError(
                f"{name} is {'' if value.requires_grad else 'not '}trainable: only adapters may"
                " learn"
            )
    shape = shape_of(config)
    proof = Proof(dict(parameters), dict(adapters), {part: targets[part] for part in parts})
    wanted = Proof(
        shape.parameters(),
        shape.adapters(rank, parts),
        {part: shape.layers * shape.copies(part) * len(shape.matrices(part)) for part in parts},
    )
    if proof != wanted:
        raise AuditError(
            f"the model on the meta device holds {proof}, the plan computes with {wanted}"
        )
    return proof
