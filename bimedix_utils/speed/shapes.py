"""The size of a decoder and its parameters by part, as closed forms."""

from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import InputError


@dataclass(frozen=True)
class Shape:
    """A decoder's size, in elements. `experts` 0 makes it dense; a sparse one sends each token to
    `per_token` of its experts.

    `kv_heads` 0 means half as many as there are heads.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    experts: int = 0
    vocabulary: int = 4000
    kv_heads: int = 0
    per_token: int = 2

    def __post_init__(self) -> None:
        """Raise `InputError` for sizes no attention can be built with."""
        if self.hidden % self.heads or self.heads % self.key_heads:
            raise InputError(
                f"hidden {self.hidden} must divide by {self.heads} heads, and these by"
                f" {self.key_heads} key heads"
            )

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """The shape in a Mixtral, Mistral or Llama configuration of `transformers`."""
        return cls(
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            experts=getattr(config, "num_local_experts", 0),
            vocabulary=config.vocab_size,
            kv_heads=config.num_key_value_heads,
            per_token=getattr(config, "num_experts_per_tok", 2),
        )

    @property
    def key_heads(self) -> int:
        """Heads of keys, and of values."""
        return self.kv_heads or max(1, self.heads // 2)

    @property
    def keys(self) -> int:
        """Width of all key heads together; values have the same."""
        return self.key_heads * (self.hidden // self.heads)

    @property
    def expert(self) -> int:
        """Parameters of one expert of one layer, or of a dense layer's MLP: gate, up and down."""
        return 3 * self.hidden * self.inner

    def weights(self) -> dict[str, int]:
        """Parameters of the whole model by part; the embeddings are not tied to the head."""
        return {
            "attention": (
                self.layers * (2 * self.hidden * self.hidden + 2 * self.hidden * self.keys)
            ),
            "experts": self.layers * max(self.experts, 1) * self.expert,
            "router": self.layers * self.experts * self.hidden,
            "head": self.vocabulary * self.hidden,
            "embeddings": self.vocabulary * self.hidden,
            "norms": (2 * self.layers + 1) * self.hidden,
        }

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(self.weights().values())

    @property
    def used(self) -> int:
        """Parameters that one token uses: of the experts only `per_token`."""
        return self.total - (
            self.layers * (self.experts - self.per_token) * self.expert if self.experts else 0
        )


def equal_total(sparse: Shape) -> Shape:
    """The dense shape with the same total parameters: one MLP as wide as all experts together (the
    router aside).
    """
    return replace(sparse, inner=sparse.inner * sparse.experts, experts=0)


def equal_active(sparse: Shape) -> Shape:
    """The dense shape that uses as many parameters for a token: one MLP as wide as the chosen
    experts together (the router aside).
    """
    return replace(sparse, inner=sparse.inner * sparse.per_token, experts=0)
