"""Memory of one process by part, at the moment of the training step that needs most.

The same formulas serve a GPU in bfloat16 and a CPU in float32; they are held against measured peaks
of small models in data/studies/memory.csv (`make bench-memory`). Bytes throughout.
"""

from dataclasses import dataclass

from .activations import (
    FLOAT,
    Batch,
    balancing,
    final_saved,
    head_backward,
    head_forward,
    input_saved,
    layer_saved,
    layer_transient,
    recomputed,
    shared_saved,
)
from .setup import Setup
from .shape import Shape

# Assumed, not measured: driver context, matrix-library workspaces, communication buffers and what
# the allocator cannot reuse.
GPU_CONTEXT = 1_500_000_000
# On a CPU, Python's objects count too. Both numbers come from the idle memory of small models
# (idle_mb in data/studies/memory.csv less weights, adapters and optimiser), not from their peaks:
# buffers of the libraries, and the dozen Python modules, tensor heads and optimiser entries of each
# adapted matrix.
CPU_BUFFERS, CPU_MATRIX = 5_000_000, 75_000
PARTS = (
    "weights, NF4",
    "weights, not quantised",
    "adapters",
    "adapters, 16-bit copies",
    "gradients",
    "gradient buckets",
    "optimiser",
    "activations",
    "loss head",
    "transients",
    "context",
)


@dataclass(frozen=True)
class Peak:
    """Bytes by part at the moment that needs most, and which moment it is."""

    moment: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def nf4(elements: int) -> tuple[int, int]:
    """(bytes of the 4-bit codes, bytes of the constants) of one matrix in NF4 with double
    quantisation.

    Constants (bitsandbytes 0.50, `QuantState`): one byte for each block of 64, float32 for each 256
    of those bytes, a float32 offset, and the two code books of 16 and 256 float32. Dettmers et al.
    2023 give 0.127 bits a parameter for them.
    """
    blocks = -(-elements // 64)
    return -(-elements // 2), blocks + FLOAT * (-(-blocks // 256) + 1 + 16 + 256)


def weights(shape: Shape, e: int) -> tuple[int, int, int]:
    """(4-bit codes, their constants, bytes of what is not quantised: router, norms, embeddings,
    head) of the base.
    """
    codes = constants = 0
    for part in ("attention", "experts"):
        for a, b in shape.matrices(part):
            one = nf4(a * b)
            codes += shape.layers * shape.copies(part) * one[0]
            constants += shape.layers * shape.copies(part) * one[1]
    plain = sum(n for part, n in shape.parameters().items() if part not in ("attention", "experts"))
    return codes, constants, e * plain


def optimiser(shape: Shape, setup: Setup) -> int:
    """Bytes of the optimiser's two states: float32, or one byte each with a float32 for each block
    of 256 (bitsandbytes).

    bitsandbytes keeps tensors under 4,096 elements in float32. Paged states may be moved to the
    host; they are counted as staying.
    """
    tensors = shape.adapter_tensors(setup.rank, setup.parts)
    if setup.optimiser == "adamw":
        return sum(count * (2 * FLOAT * n + FLOAT) for n, count in tensors.items())
    return sum(
        count * (2 * FLOAT * n if n < 4096 else 2 * n + 2 * FLOAT * -(-n // 256))
        for n, count in tensors.items()
    )


def step_transient(shape: Shape, setup: Setup) -> int:
    """Bytes the optimiser needs for itself: on a GPU PyTorch's AdamW works on all tensors at once,
    elsewhere on one at a time.
    """
    tensors = shape.adapter_tensors(setup.rank, setup.parts)
    if setup.optimiser == "adamw":
        return FLOAT * (
            sum(n * count for n, count in tensors.items()) if setup.gpu else max(tensors)
        )
    return 0


def peak(
    shape: Shape, setup: Setup, batch: Batch | None = None, head_tokens: int | None = None
) -> Peak:
    """The memory of one process in a steady training step.

    `batch` is the largest forward pass (default: MICRO_TOKENS in rows of MAX_TOKENS, padded).
    `head_tokens` is how many positions the loss head computes at once; the default, all of them, is
    an upper bound for a head that reads answers only, in chunks.
    """
    batch = batch or Batch(setup.pass_tokens, setup.row_tokens)
    e, layers, parts = setup.compute_bytes, shape.layers, setup.parts
    sharded = setup.gpus if setup.parallel == "fsdp" else 1
    learning = sum(shape.adapters(setup.rank, parts).values())
    codes, constants, plain = weights(shape, e)
    gradients = FLOAT * learning // sharded
    matrices = shape.layers * sum(shape.copies(part) * len(shape.matrices(part)) for part in parts)
    copies = e * learning if e != FLOAT else 0
    head = batch.tokens if head_tokens is None else min(head_tokens, batch.tokens)
    fixed = {
        "weights, NF4": (
            codes // sharded + constants
        ),  # FSDP shards parameters; the constants are none
        "weights, not quantised": plain // sharded,
        "adapters": FLOAT * learning // sharded,
        "gradient buckets": (
            gradients if setup.gpus > 1 and setup.parallel == "ddp" else 0
        ),  # DDP's default keeps its own copy
        "optimiser": optimiser(shape, setup) // sharded,
        "context": GPU_CONTEXT if setup.gpu else CPU_BUFFERS + CPU_MATRIX * matrices,
    }
    gathered = _gathered(shape, codes, plain, learning) if sharded > 1 else 0
    held = (
        gradients if setup.accumulation > 1 else 0
    )  # from the second forward pass on, all gradients exist
    kept = 0 if setup.checkpointing else copies  # a recomputed layer casts its adapters anew
    whole, last, first = _kept(shape, setup, batch)
    wide = layer_transient(shape, batch.tokens, e) + gathered
    moments = {
        "end of the forward pass": (
            held,
            copies,
            whole,
            head_forward(shape, head, e),
            balancing(shape, batch.tokens) + gathered,
        ),
        "backward through the loss": (held, kept, whole, head_backward(shape, head), gathered),
        "backward through the last layer": (held, kept or copies // layers, last, 0, wide),
        "backward through the first layer": (
            held or gradients - gradients // layers,
            copies // layers,
            first,
            0,
            wide,
        ),
        "optimiser step": (gradients, 0, 0, 0, step_transient(shape, setup) // sharded),
    }
    names = ("gradients", "adapters, 16-bit copies", "activations", "loss head", "transients")
    moment, most = max(moments.items(), key=lambda item: sum(item[1]))
    found = {**fixed, **dict(zip(names, most, strict=True))}
    return Peak(moment, {part: found[part] for part in PARTS})


def _kept(shape: Shape, setup: Setup, batch: Batch) -> tuple[int, int, int]:
    """Bytes kept from the forward pass when the backward pass begins, at the last layer's widest
    point and at the first layer's.
    """
    e, rank, parts = setup.compute_bytes, setup.rank, setup.parts
    shared, inner = shared_saved(shape, batch, e), shape.layers - 1
    if setup.checkpointing:
        one = input_saved(shape, batch.tokens, e)
        inputs = shape.layers * one
        last = inputs + recomputed(shape, rank, parts, batch, e, first=not inner)
        first = one + recomputed(shape, rank, parts, batch, e, first=True)
    else:
        first = layer_saved(shape, rank, parts, batch, e, first=True)
        inputs = last = first + inner * layer_saved(shape, rank, parts, batch, e)
    return shared + inputs + final_saved(shape, batch.tokens), shared + last, shared + first


def _gathered(shape: Shape, codes: int, plain: int, learning: int) -> int:
    """Bytes FSDP gathers: two layers, the one at work and the one fetched ahead, and what stands
    outside the layers.
    """
    return 2 * (codes + FLOAT * learning) // shape.layers + plain
