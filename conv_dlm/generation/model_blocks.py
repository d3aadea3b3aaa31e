"""Decode types on models that see block by block (`BlockCausal`): what they unmask lies inside of one block at a time.

Shapes: B rows, L canvas positions.
"""

from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.attention import BlockCausal
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.position_weights import BlockWeights, PositionWeights, WithinBlocks
from conv_dlm.generation.parts.rules import UnmaskingRule


def blocks_of_model(
    model: Any,
    canvas: Canvas,
    weights: PositionWeights,
    rule: UnmaskingRule,
    pattern: BlockCausal,
    config: DiffusionGenerationConfig,
) -> PositionWeights:
    """The weights inside of the blocks that the model was trained to denoise, one after the other, on which the
    canvas's blocks are laid; as they are for a rule that keeps to several of these blocks by itself."""
    decode_type, size, name = config.decode_type, pattern.block_length, type(model).__name__
    if weights.whole_canvas or rule.whole_canvas:
        raise SettingError(
            "decode_type", f"unmasks in parts of the canvas of its own, and {name} sees blocks of {size}, one after "
            "the other", "use 'threshold', 'llada' or 'conv'", decode_type,
        )  # fmt: skip
    if config.exit_schedule is not None:
        raise SettingError(
            "exit_schedule", f"looks at all masks at once, and {name} sees blocks of {size}, one after the other",
            "drop it", config.exit_schedule,
        )  # fmt: skip
    if rule.several_blocks:
        _check_several(size, name, config)
    elif not isinstance(weights, BlockWeights):
        weights = WithinBlocks(size, weights)
    length = weights.block_length if isinstance(weights, BlockWeights) else size
    assert length is not None
    if size % length:
        raise SettingError(
            "block_length", f"cuts across the blocks of {size} that {name} sees at once",
            "drop it, or divide them evenly", length,
        )  # fmt: skip
    first_mask = canvas.masked.int().argmax(1, keepdim=True)
    if config.align_blocks:
        canvas.before = (canvas.start - first_mask[:, 0]) % size
    text = torch.where(canvas.padding, -1, canvas.block_positions)
    index = text - text.gather(1, first_mask) // size * size
    alone = config.shift_logits and not rule.several_blocks  # several in flight don't wait for each other: D2F's Dream
    canvas.block_index = _first_alone(index, size, length) if alone else index
    return weights


def _check_several(size: int, name: str, config: DiffusionGenerationConfig) -> None:
    """Several blocks of a model in flight have to be its own."""
    if config.flight_length != size:
        raise SettingError(
            "flight_length", f"is not the length of the blocks that {name} sees, {size}", "drop it, or set it to that",
            config.flight_length,
        )  # fmt: skip


def _first_alone(index: Tensor, size: int, length: int) -> Tensor:
    """Positions [B, L] renumbered so that the first of each of the model's blocks is a block by itself: its token comes
    from the finished block before it, and is there before the others are unmasked (Fast-dLLM v2, arXiv 2509.26328).
    size: of the model's blocks; length: of those that are unmasked one after the other."""
    block, place = index // size, index % size
    return block * (size + length) + torch.where(place == 0, 0, place + length)
