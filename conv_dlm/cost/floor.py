"""The floor: the least time of a forward pass on a device, from its necessary operations and bytes.

Everything is counted from the numbers of the model's config. A forward computes A positions of R rows, which attend to
C keys, and projects W positions of each row to the vocabulary. Floating-point operations are those of the matrix
products, a multiplication and an addition each; norms, activations and the softmax are left out, as usual. Bytes are

- the weights of blocks and head, once, whatever the batch, and the embeddings of the ids;
- the hidden states, written and read once a block; keys and values, the computed ones written and all of them read;
- the logits, written once.

What goes to memory and back inside a block is left out: it could stay on the chip. So the floor is below what any
implementation reaches: max(operations / peak rate, bytes / bandwidth), rate and bandwidth as measured by
[`~conv_dlm.cost.device_speed.measure_peaks`].

MDLM's conditioning is a constant in `generate`, which costs nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from conv_dlm.cost.sizes import FOUR_BIT, Shape

WEIGHT_BYTES = {"8bit": 1.0, "4bit": FOUR_BIT}  # a number in a block's matrices


class ForwardSize(NamedTuple):
    """The size of a forward pass.

    Attributes:
        rows (`int`): R, the batch.
        positions (`int`): A, the computed positions of each row.
        keys (`int`): C, the keys that each position attends to, computed or cached.
        projected (`float`): W, the positions of a row whose logits are needed, on average.
    """

    rows: int
    positions: int
    keys: int
    projected: float


def block_weights(shape: Shape) -> int:
    """Numbers in the matrices of a block: queries and output, keys and values, MLP."""
    mlp = (3 if shape.gated else 2) * shape.inner
    return shape.width * (2 * shape.query + 2 * shape.key_value + mlp)


def head_weights(shape: Shape) -> int:
    """Numbers in the projection to the vocabulary."""
    return shape.width * shape.vocabulary


def operations(shape: Shape, forward: ForwardSize) -> float:
    """Floating-point operations of a forward: 2 for each weight and position; for attention, 4 A C times the width of
    the queries."""
    rows, positions, keys, projected = forward
    attention = 4 * rows * positions * keys * shape.query
    blocks = shape.layers * (2 * rows * positions * block_weights(shape) + attention)
    return blocks + 2 * rows * projected * head_weights(shape)


def bytes_moved(shape: Shape, forward: ForwardSize, value_bytes: int, quantize: str | None = None) -> float:
    """The least bytes that a forward pass reads and writes.

    Args:
        value_bytes (`int`): of a number in the model's dtype.
        quantize (`str`, *optional*): "8bit" or "4bit": the matrices in blocks are smaller, nothing else.
    """
    rows, positions, keys, projected = forward
    weights = shape.layers * block_weights(shape) * (WEIGHT_BYTES[quantize] if quantize else value_bytes)
    weights += (head_weights(shape) if projected else 0) * value_bytes
    embedded = rows * positions * shape.width
    hidden = 2 * rows * positions * shape.width
    keys_and_values = 2 * rows * (positions + keys) * shape.key_value
    logits = rows * projected * shape.vocabulary
    return weights + (embedded + shape.layers * (hidden + keys_and_values) + logits) * value_bytes


@dataclass(frozen=True)
class Peaks:
    """The peak rates of a device.

    Attributes:
        operations (`float`): floating-point operations per second.
        bandwidth (`float`): bytes per second, from and to memory.
    """

    operations: float
    bandwidth: float


@dataclass(frozen=True)
class Floor:
    """The floor of several forward passes together.

    Attributes:
        seconds (`float`): the least time of any implementation.
        operations, bytes_moved (`float`): the necessary operations and bytes.
        by_operations (`float`): share of the seconds in passes that are bound by operations rather than bytes.
    """

    seconds: float
    operations: float
    bytes_moved: float
    by_operations: float


def floor_of(
    forwards: Iterable[ForwardSize], shape: Shape, peaks: Peaks, value_bytes: int, quantize: str | None = None
) -> Floor:
    """The floor of consecutive forward passes: each takes the time of its operations or of its bytes, if longer."""
    seconds = bound_by_operations = all_operations = all_bytes = 0.0
    for forward in forwards:
        its_operations = operations(shape, forward)
        its_bytes = bytes_moved(shape, forward, value_bytes, quantize)
        computing, moving = its_operations / peaks.operations, its_bytes / peaks.bandwidth
        seconds += max(computing, moving)
        bound_by_operations += computing if computing >= moving else 0.0
        all_operations += its_operations
        all_bytes += its_bytes
    return Floor(seconds, all_operations, all_bytes, bound_by_operations / seconds if seconds else 0.0)
