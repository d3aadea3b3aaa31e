"""Position weights s_i: how willing a position is to be unmasked now.

Shapes: B rows, L canvas positions, V vocabulary.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from transformers import LogitsProcessor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.schedule import Step
from conv_dlm.generation.settings import Part, Registry, Setting, setting


def count_known(known: Tensor, kernel_size: int) -> Tensor:
    """u_i: number of known positions within the kernel around each position, itself included.

    known: BoolTensor [B, L]. kernel_size: width in positions, even values grow by one; beyond the canvas's ends
    nothing is known. Returns LongTensor [B, L].
    """
    length, radius = known.shape[1], kernel_size // 2
    if radius >= length - 1:  # reaches everything from everywhere
        return known.sum(1, keepdim=True).expand(known.shape)
    total = torch.nn.functional.pad(known.cumsum(1), (radius + 1, radius))
    total[:, length + radius + 1 :] = total[:, length + radius, None]
    return total[:, 2 * radius + 1 :] - total[:, :length]


def convolution_weights(known: Tensor, kernel_size: int, conv_mult: float = 1.0) -> Tensor:
    """s_i = tanh(conv_mult * u_i), arXiv 2509.15188: FloatTensor [B, L] for `known` [B, L]."""
    count = count_known(known, kernel_size).float()
    return torch.tanh(count if conv_mult == 1 else conv_mult * count)


@dataclass(frozen=True)
class PositionWeights(Part):
    """Base of all kinds; a kind defines `weights`.

    anchored: whether its blocks can be those of a block-causal model, which lie on multiples of their length from
        position 0.
    whole_canvas: whether it means nothing inside of one such block.
    """

    anchored: ClassVar[bool] = False
    whole_canvas: ClassVar[bool] = False

    def blocks(self, canvas: Canvas) -> Tensor:
        """LongTensor [B]: how many blocks, one after the other, a row's canvas is denoised in."""
        return torch.ones_like(canvas.size)

    def current_block(self, canvas: Canvas) -> Tensor:
        """LongTensor [B]: the first block that has a mask."""
        return torch.zeros_like(canvas.size)

    def reach(self, length: int) -> int:
        """How far behind the last known position of a row a step may unmask, at most; of `length` positions."""
        return length

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor | None:
        """BoolTensor [B, L]: positions of the block that the step belongs to; None for all."""
        return None

    def scope_length(self, length: int) -> int:
        """Masks that a block has at most; of `length` positions."""
        return length

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        """FloatTensor [B, L]: s_i in [0, 1]; positions with 0 are not unmasked in this step."""
        raise NotImplementedError


POSITION_WEIGHTS: Registry[type[PositionWeights]] = Registry("position weights")


@POSITION_WEIGHTS.register("uniform")
@dataclass(frozen=True)
class UniformWeights(PositionWeights):
    """s_i = 1 everywhere: full diffusion."""

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return canvas.ones


@POSITION_WEIGHTS.register("convolution")
@dataclass(frozen=True)
class ConvolutionWeights(PositionWeights):
    """s_i = tanh(conv_mult * u_i), u_i known positions in reach in both directions. arXiv 2509.15188."""

    kernel_size: int = setting(
        128, "width of the convolution in positions; even values grow by one", low=2, source="arXiv 2509.15188"
    )
    conv_mult: float = setting(
        1.0, "factor on the number of known neighbours in the convolution", low=0, inside=True,
        source="its released code",
    )  # fmt: skip

    def reach(self, length: int) -> int:
        return self.kernel_size // 2

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return convolution_weights(canvas.known, self.kernel_size, self.conv_mult)


@POSITION_WEIGHTS.register("block")
@dataclass(frozen=True)
class BlockWeights(PositionWeights):
    """s_i = 1 inside the current block, 0 elsewhere. Blocks are counted over the row's masks, from the first on; in a
    model whose attention is block-causal over its text, from the block that has the first mask on."""

    block_length: int | None = setting(
        None, "positions of a block, or of the window of `slide`; without it one block", low=1,
        source="arXiv 2502.09992",
    )  # fmt: skip
    anchored = True

    def blocks(self, canvas: Canvas) -> Tensor:
        if self.block_length is None:
            return torch.ones_like(canvas.size)
        last = torch.where(canvas.masked, self._blocks_of(canvas), 0).amax(1)
        return last + 1

    def current_block(self, canvas: Canvas) -> Tensor:
        if self.block_length is None:
            return torch.zeros_like(canvas.size)
        return torch.where(canvas.masked, self._blocks_of(canvas), canvas.ids.shape[1]).amin(1)

    def _blocks_of(self, canvas: Canvas) -> Tensor:
        index = canvas.mask_index if canvas.block_index is None else canvas.block_index
        return canvas.constant(self, lambda: index // (self.block_length or 1))

    def reach(self, length: int) -> int:
        return self.block_length or length

    def scope_length(self, length: int) -> int:
        return min(self.block_length or length, length)

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor | None:
        if self.block_length is None:
            return None
        block = self.current_block(canvas) if step is None else step.block
        return self._blocks_of(canvas) == block[:, None]

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        scope = self.scope(canvas, step)
        return canvas.ones if scope is None else scope.float()


@dataclass(frozen=True)
class WithinBlocks(BlockWeights):
    """s_i of other weights inside of the current block of a block-causal model, 0 elsewhere.

    inside (`PositionWeights`): those weights, without blocks of their own.
    """

    inside: PositionWeights = field(default_factory=UniformWeights)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        return BlockWeights.settings()

    def reach(self, length: int) -> int:
        return min(super().reach(length), self.inside.reach(length))

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return super().weights(canvas, step) * self.inside.weights(canvas, step)


@POSITION_WEIGHTS.register("slide")
@dataclass(frozen=True)
class SlideWeights(BlockWeights):
    """s_i = 1 inside a window over `block_length` of the row's first masks, which moves on by 1/S of them a step."""

    anchored = False
    whole_canvas = True

    def blocks(self, canvas: Canvas) -> Tensor:
        return torch.ones_like(canvas.size)

    def current_block(self, canvas: Canvas) -> Tensor:
        return torch.zeros_like(canvas.size)

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor | None:
        if self.block_length is None:
            return None
        if step is not None:
            assert step.steps is not None
            first = canvas.size * step.number // step.steps
        else:
            first = torch.where(canvas.masked, canvas.mask_index, canvas.size[:, None]).amin(1)
        return (canvas.mask_index >= first[:, None]) & (canvas.mask_index < first[:, None] + self.block_length)


class PositionWeightsProcessor(LogitsProcessor):
    """Position weights in a loop of one's own: adds log s_i to the scores of the masks.

    Args:
        weights (`PositionWeights`): of any kind; a block is the first that has a mask, the window of `slide` begins at
            the first mask.
        mask_token_id (`int`): the mask.
        start (`int`, defaults to `0`): position that blocks are counted from.
    """

    def __init__(self, weights: PositionWeights, mask_token_id: int, start: int = 0) -> None:
        self.weights, self.mask_token_id, self.start = weights, mask_token_id, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` [B, L, V] plus log s_i at the masks of `input_ids` [B, L]; other positions stay as they are."""
        canvas = Canvas.from_prompt(input_ids, 0, self.mask_token_id)
        canvas.mask_index = (canvas.positions - self.start).expand_as(input_ids)
        log_weights = self.weights.weights(canvas, None).log()
        return scores + torch.where(canvas.masked, log_weights, 0.0)[..., None].to(scores.dtype)
