"""What a training step keeps in memory besides weights, derived from the source of transformers
4.57, PEFT 0.21 and bitsandbytes 0.50.

Autograd keeps a tensor when some derivative needs it. A frozen matrix needs no input, so NF4
matrices keep nothing of theirs; the LoRA beside them does. Each line below names the operation that
keeps the tensor. All results are bytes; `e` is the bytes of a number in the forward pass (2:
bfloat16 under autocast, 4: float32), `tokens` counts padding. Norms and the router's softmax run in
float32.
"""

from collections.abc import Collection
from dataclasses import dataclass

from .shape import Shape

FLOAT, LONG = 4, 8  # bytes of a float32 and of an index


@dataclass(frozen=True)
class Batch:
    """One forward pass of one process: `tokens` in rows of `length`. `masked`: some row is padded
    (or no mask is given at all).

    Rows of one length with a mask of ones need no mask tensor; any other batch makes transformers
    build one, and sdpa then repeats keys and values for every query head.
    """

    tokens: int
    length: int
    masked: bool = True


def attention_saved(
    shape: Shape, rank: int, adapted: bool, batch: Batch, e: int, first: bool = False
) -> int:
    """Bytes one layer's attention keeps, its norm included. The first layer's norm needs no
    gradient: the embeddings are frozen.
    """
    h, q, k = shape.hidden, shape.queries, shape.keys
    token = (
        0 if first else FLOAT * h + FLOAT
    )  # norm: its input in float32, its inverse root mean square
    token += (
        e * (h + 4 * rank) if adapted else 0
    )  # LoRA A of q, k and v: one shared input; LoRA B of q, k, v and o: theirs
    token += e * q + FLOAT * shape.heads  # sdpa: query, log-sum-exp
    token += 2 * e * (q if batch.masked else k)  # sdpa: keys and values
    token += e * q  # sdpa: its output, which is also the input of LoRA A of o
    token += (
        e * batch.length if batch.masked else 0
    )  # sdpa: the mask, turned into numbers anew in each layer
    return batch.tokens * token


def experts_saved(shape: Shape, rank: int, parts: Collection[str], tokens: int, e: int) -> int:
    """Bytes one layer's router and experts keep, their norm included."""
    h, f, n, k = shape.hidden, shape.inner, shape.experts, shape.per_token
    token = FLOAT * h + FLOAT  # norm
    token += e * (h + rank) if "router" in parts else 0  # LoRA of the router: inputs of A and of B
    token += (
        FLOAT * n + LONG * k + FLOAT + FLOAT * k
    )  # softmax, chosen experts, the sum and the weights of the division
    expert = (
        e * (3 * rank + h) if "experts" in parts else 0
    )  # LoRA B of w1, w3 and w2; the gathered rows: LoRA A of w1 and w3
    expert += e * f if "experts" in parts else 0  # LoRA A of w2: its input
    expert += 3 * e * f  # silu: its input; the product: both factors
    expert += (
        2 * e * h
    )  # the product with the routing weight: the expert's output; index_add: the weighted output
    expert += 2 * LONG + e  # places of the gathered rows; their routing weights
    return tokens * (token + k * expert)


def layer_saved(
    shape: Shape, rank: int, parts: Collection[str], batch: Batch, e: int, first: bool = False
) -> int:
    """Bytes one decoder layer keeps for its backward pass when it is not recomputed."""
    return attention_saved(shape, rank, "attention" in parts, batch, e, first) + experts_saved(
        shape, rank, parts, batch.tokens, e
    )


def input_saved(shape: Shape, tokens: int, e: int) -> int:
    """Bytes of one layer's input, all that a checkpointed layer keeps (non-reentrant checkpointing,
    one decoder layer a segment).
    """
    return tokens * e * shape.hidden


def recomputed(
    shape: Shape, rank: int, parts: Collection[str], batch: Batch, e: int, first: bool = False
) -> int:
    """Bytes a checkpointed layer holds once it is recomputed, besides its input: in float32 the
    norm keeps that very tensor.
    """
    again = input_saved(shape, batch.tokens, e) if e == FLOAT and not first else 0
    return layer_saved(shape, rank, parts, batch, e, first) - again


def shared_saved(shape: Shape, batch: Batch, e: int) -> int:
    """Bytes that all layers share during the whole pass: the mask, one byte a place, and the rotary
    tables.
    """
    return (
        batch.tokens * batch.length if batch.masked else 0
    ) + 2 * e * batch.length * shape.head_size


def final_saved(shape: Shape, tokens: int) -> int:
    """Bytes of the final norm's input and root mean square, kept until the loss has been
    differentiated.
    """
    return tokens * (FLOAT * shape.hidden + FLOAT)


def balancing(shape: Shape, tokens: int) -> int:
    """Bytes of the load-balancing loss: logits of all layers joined, their softmax, the choice, and
    its one-hot code (int64, float).
    """
    n, k = shape.experts, shape.per_token
    return shape.layers * tokens * (3 * FLOAT * n + LONG * k + (LONG + FLOAT) * k * n)


def layer_transient(shape: Shape, tokens: int, e: int) -> int:
    """Bytes a layer's backward pass needs at its widest point beyond what the forward pass kept.

    That point is the first matrix it meets, w2 of the last expert, while all other experts' tensors
    are still kept: the gradient of the layer's output (tokens x hidden); for the expert's rows,
    taken as an even share, the gradient of its output and the two of its inner width, LoRA's and
    the base's, before they are added, less the two tensors of hidden width already released; one
    dequantised matrix with its float32 constants.
    """
    rows = -(-tokens * shape.per_token // shape.experts)
    matrix = shape.inner * shape.hidden
    return (
        e * (tokens * shape.hidden + max(0, 2 * rows * shape.inner - rows * shape.hidden) + matrix)
        + FLOAT * matrix // 64
    )


def head_forward(shape: Shape, tokens: int, e: int) -> int:
    """Bytes of the loss head at the end of the forward pass: logits, their float32 copy if they are
    not float32, log-softmax.
    """
    return tokens * (
        shape.vocabulary * (e + (FLOAT if e != FLOAT else 0) + FLOAT) + e * shape.hidden
    )


def head_backward(shape: Shape, tokens: int) -> int:
    """Bytes of the loss head in the backward pass: log-softmax, its gradient and that of the
    logits, all float32.
    """
    return 3 * FLOAT * tokens * shape.vocabulary
