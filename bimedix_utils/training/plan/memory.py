"""Memory of one process by part, at the moment of the training step that needs most.

Derived from the source of transformers 4.57, PEFT 0.21 and bitsandbytes 0.50. Autograd keeps a
tensor when some derivative needs it. A frozen matrix needs no input, so NF4 matrices keep nothing;
the LoRA beside them does. Each line below names the operation that keeps the tensor.

Results are bytes; `e` is the bytes of a number in the forward pass (2: bfloat16 under autocast,
4: float32), `tokens` counts padding. Norms and the router's softmax run in float32. The same
formulas serve a GPU and a CPU; they are compared with measured peaks of small models in
data/studies/memory.csv (`make bench-memory`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..models.adapters import resolve_targets
from .setup import TrainingSetup
from .shape import Shape

FLOAT32_BYTES, INT64_BYTES = 4, 8  # bytes of a float32 and of an index
# Assumed, not measured: driver context, matrix-library workspaces, communication buffers and what
# the allocator cannot reuse.
GPU_CONTEXT = 1_500_000_000
# On a CPU, Python's objects count too: buffers of the libraries, and the modules, tensor heads and
# optimiser entries of each adapted matrix. Both come from the idle memory of small models (idle_mb
# in data/studies/memory.csv less weights, adapters and optimiser), not from their peaks.
CPU_BUFFERS, CPU_MATRIX = 5_000_000, 75_000
MEMORY_PARTS = (
    *("weights, NF4", "weights, not quantised", "adapters", "adapters, 16-bit copies"),
    *("gradients", "gradient buckets", "optimiser", "activations", "loss head", "transients"),
    "context",
)


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass: `tokens` in rows of `length`; `masked`: some row is padded."""

    # Only padded rows make transformers build a mask tensor; sdpa then repeats keys and values for
    # every query head.

    tokens: int
    length: int
    masked: bool = True


@dataclass(frozen=True)
class PeakMemory:
    """Bytes by part at the moment that needs most, and which moment it is."""

    moment: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def attention_saved(
    shape: Shape, rank: int, adapted: Iterable[str], batch: ForwardPass, e: int, first: bool = False
) -> int:
    """Bytes that one layer's attention keeps, its norm included; `adapted`: modules with LoRA."""
    h, q, k = shape.hidden, shape.queries, shape.keys
    inputs = {"q_proj", "k_proj", "v_proj"} & set(adapted)
    # norm: its input, its inverse root mean square; the first needs none: embeddings are frozen
    token = 0 if first else FLOAT32_BYTES * (h + 1)
    token += e * h if inputs else 0  # LoRA A of q, k and v: one shared input
    token += e * rank * len({"o_proj", *inputs} & set(adapted))  # LoRA B: an input each
    token += e * q + FLOAT32_BYTES * shape.heads  # sdpa: query, log-sum-exp
    token += 2 * e * (q if batch.masked else k)  # sdpa: keys and values
    token += e * q  # sdpa: its output, which is also the input of LoRA A of o
    token += e * batch.length if batch.masked else 0  # sdpa: the mask as numbers, in each layer
    return batch.tokens * token


def experts_saved(shape: Shape, rank: int, adapted: Iterable[str], tokens: int, e: int) -> int:
    """Bytes that one layer's router and experts keep, their norm included."""
    h, f, n, k = shape.hidden, shape.inner, shape.experts, shape.per_token
    lora = set(adapted)
    token = FLOAT32_BYTES * (h + 1)  # norm
    token += e * (h + rank) if "gate" in lora else 0  # LoRA of the router: inputs of A and of B
    token += FLOAT32_BYTES * n + INT64_BYTES * k  # softmax, chosen experts
    token += FLOAT32_BYTES * (1 + k)  # the division of the chosen weights by their sum
    expert = e * rank * len({"w1", "w2", "w3"} & lora)  # LoRA B: an input each
    expert += e * h if {"w1", "w3"} & lora else 0  # LoRA A of w1 and w3: the gathered rows
    expert += e * f if "w2" in lora else 0  # LoRA A of w2: its input
    expert += 3 * e * f  # silu: its input; the multiplication: both factors
    expert += 2 * e * h  # the expert's output before and after its routing weight
    expert += 2 * INT64_BYTES + e  # indices of the gathered rows; their routing weights
    return tokens * (token + k * expert)


def layer_saved(
    shape: Shape, rank: int, targets: Iterable[str], batch: ForwardPass, e: int, first: bool = False
) -> int:
    """Bytes that one decoder layer keeps for its backward pass when it is not recomputed."""
    adapted = [name for names in resolve_targets(targets).values() for name in names]
    attention = attention_saved(shape, rank, adapted, batch, e, first)
    return attention + experts_saved(shape, rank, adapted, batch.tokens, e)


def shared_saved(shape: Shape, batch: ForwardPass, e: int) -> int:
    """Bytes that all layers share: the mask, one byte an element, and the rotary tables."""
    mask = batch.tokens * batch.length if batch.masked else 0
    return mask + 2 * e * batch.length * shape.head_size


def final_saved(shape: Shape, tokens: int) -> int:
    """Bytes of the final norm's input and root mean square, kept until the loss's backward pass."""
    return tokens * FLOAT32_BYTES * (shape.hidden + 1)


def _balancing(shape: Shape, tokens: int) -> int:
    """Bytes of the load-balancing loss: logits of all layers, softmax, choice, one-hot code."""
    n, k = shape.experts, shape.per_token
    token = 3 * FLOAT32_BYTES * n + INT64_BYTES * k + (INT64_BYTES + FLOAT32_BYTES) * k * n
    return shape.layers * tokens * token


def _layer_transient(shape: Shape, tokens: int, e: int) -> int:
    """Bytes a layer's backward pass needs at its widest point beyond what the forward pass kept."""
    # At w2 of the last expert: the gradient of the layer's output; for an even share of the rows
    # the gradient of the expert's output and two of its inner width (LoRA's and the base's), less
    # two released tensors of hidden width; one dequantised matrix with its float32 constants.
    h, f = shape.hidden, shape.inner
    rows = -(-tokens * shape.per_token // shape.experts)
    return e * (tokens * h + max(0, 2 * rows * f - rows * h) + f * h) + FLOAT32_BYTES * f * h // 64


def nf4_bytes(elements: int) -> tuple[int, int]:
    """(bytes of the 4-bit codes, bytes of the constants) of one NF4 matrix, doubly quantised.

    Constants (bitsandbytes 0.50, `QuantState`): one byte for each block of 64, float32 for each 256
    of those bytes, a float32 offset, and the two code books of 16 and 256 float32. Dettmers et al.
    2023 give 0.127 bits a parameter for them.
    """
    blocks = -(-elements // 64)
    return -(-elements // 2), blocks + FLOAT32_BYTES * (-(-blocks // 256) + 1 + 16 + 256)


def weight_bytes(shape: Shape, e: int) -> tuple[int, int, int]:
    """(4-bit codes, their constants, what is not quantised: router, norms, embeddings, head)."""
    codes = constants = small = 0
    for name, (a, b) in shape.matrices.items():
        copies, one = shape.copies(name) if name != "gate" else 0, nf4_bytes(a * b)
        codes, constants = codes + copies * one[0], constants + copies * one[1]
        small += copies * a * b
    return codes, constants, e * (shape.total - small)


def optimiser_bytes(shape: Shape, setup: TrainingSetup) -> int:
    """Bytes of the two states: float32, or a byte each with a float32 for each block of 256."""
    # bitsandbytes keeps tensors under 4,096 elements in float32. Paged states are counted as if
    # they stayed on the GPU.
    tensors = shape.adapter_tensors(setup.rank, setup.targets)
    if setup.recipe.optimiser == "adamw":
        return sum(count * (2 * FLOAT32_BYTES * n + FLOAT32_BYTES) for n, count in tensors.items())
    small = sum(count * 2 * FLOAT32_BYTES * n for n, count in tensors.items() if n < 4096)
    large = {n: count for n, count in tensors.items() if n >= 4096}
    return small + sum(k * 2 * (n + FLOAT32_BYTES * -(-n // 256)) for n, k in large.items())


def _step_transient(shape: Shape, setup: TrainingSetup) -> int:
    """Bytes of AdamW's own step: on a GPU all tensors at once, else one at a time."""
    if setup.recipe.optimiser != "adamw":
        return 0
    tensors = shape.adapter_tensors(setup.rank, setup.targets)
    together = sum(n * count for n, count in tensors.items())
    return FLOAT32_BYTES * (together if setup.gpu else max(tensors))


def peak_memory(shape: Shape, setup: TrainingSetup, batch: ForwardPass | None = None) -> PeakMemory:
    """Memory of one process in a step after the first; `batch`: its largest forward pass."""
    batch = batch or ForwardPass(setup.pass_tokens, setup.max_tokens)
    e, layers, tokens = setup.compute_bytes, shape.layers, batch.tokens
    shards = setup.gpus if setup.parallel == "fsdp" else 1
    trainable = sum(shape.adapters(setup.rank, setup.targets).values())
    codes, constants, plain = weight_bytes(shape, e)
    gradients = FLOAT32_BYTES * trainable // shards
    modules = [name for names in resolve_targets(setup.targets).values() for name in names]
    python = CPU_BUFFERS + CPU_MATRIX * sum(map(shape.copies, modules))
    head = tokens if setup.head_tokens is None else min(setup.head_tokens, tokens)
    fixed = {
        # FSDP shards parameters; the constants of NF4 are none.
        "weights, NF4": codes // shards + constants,
        "weights, not quantised": plain // shards,
        "adapters": FLOAT32_BYTES * trainable // shards,
        # DDP's default keeps a copy of its own.
        "gradient buckets": gradients if setup.gpus > 1 and setup.parallel == "ddp" else 0,
        "optimiser": optimiser_bytes(shape, setup) // shards,
        "context": GPU_CONTEXT if setup.gpu else python,
    }
    # FSDP gathers two layers, the one at work and the one fetched ahead, and what is outside them.
    gathered = 2 * (codes + FLOAT32_BYTES * trainable) // layers + plain if shards > 1 else 0
    held = gradients if setup.accumulation > 1 else 0  # all gradients exist from the second pass on
    copies = e * trainable if e != FLOAT32_BYTES else 0
    kept = 0 if setup.recipe.checkpointing else copies  # a recomputed layer casts its adapters anew
    whole, last, first = _activations(shape, setup, batch)
    # Logits, their float32 copy if they are not float32, log-softmax, and the head's input.
    numbers = shape.vocabulary * (e + FLOAT32_BYTES + (FLOAT32_BYTES if e != FLOAT32_BYTES else 0))
    logits = head * (numbers + e * shape.hidden)
    # Log-softmax, its gradient, that of the logits.
    loss = 3 * FLOAT32_BYTES * head * shape.vocabulary
    balancing = _balancing(shape, tokens) + gathered
    wide = _layer_transient(shape, tokens, e) + gathered
    one_layer = held or gradients - gradients // layers
    names = ("gradients", "adapters, 16-bit copies", "activations", "loss head", "transients")
    moments = {
        "end of the forward pass": (held, copies, whole, logits, balancing),
        "backward through the loss": (held, kept, whole, loss, gathered),
        "backward through the last layer": (held, kept or copies // layers, last, 0, wide),
        "backward through the first layer": (one_layer, copies // layers, first, 0, wide),
        "optimiser step": (gradients, 0, 0, 0, _step_transient(shape, setup) // shards),
    }
    moment, most = max(moments.items(), key=lambda item: sum(item[1]))
    found = {**fixed, **dict(zip(names, most, strict=True))}
    return PeakMemory(moment, {part: found[part] for part in MEMORY_PARTS})


def _activations(shape: Shape, setup: TrainingSetup, batch: ForwardPass) -> tuple[int, int, int]:
    """Bytes kept when the backward pass begins, in the last layer and in the first."""
    e, inner = setup.compute_bytes, shape.layers - 1
    settings = (shape, setup.rank, setup.targets, batch, e)
    shared, final = shared_saved(shape, batch, e), final_saved(shape, batch.tokens)
    first, other = layer_saved(*settings, first=True), layer_saved(*settings)
    if not setup.recipe.checkpointing:
        every = first + inner * other
        return shared + every + final, shared + every, shared + first
    # A checkpointed layer keeps its input only (non-reentrant, one decoder layer a segment). Once
    # it is recomputed in float32, the norm keeps that very tensor: it is not counted twice.
    one = batch.tokens * e * shape.hidden
    again = other - one if e == FLOAT32_BYTES else other
    inputs, last = shape.layers * one, again if inner else first
    return shared + inputs + final, shared + inputs + last, shared + one + first
