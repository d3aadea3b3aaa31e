"""Position weights s_i: how willing a position is to be decided now.

Each kind is a `LogitsProcessor` that adds log s_i to the scores of a position, so that it can be used in a loop of
one's own; `generate` asks it for the weights alone. Suffixes: B rows, L canvas positions, V vocabulary.
"""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from transformers import LogitsProcessor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.schedule import Step

if TYPE_CHECKING:
    from conv_dlm.generation.configuration import DiffusionGenerationConfig


def count_known(known: Tensor, kernel_size: int) -> Tensor:
    """u_i: number of known positions within the kernel around each position, itself included.

    known: BoolTensor [B, L]. kernel_size: width in positions, even values grow by one; beyond the canvas's ends
    nothing is known. Returns LongTensor [B, L].
    """
    radius = kernel_size // 2
    total = torch.nn.functional.pad(known.cumsum(1), (1, 0))
    position = torch.arange(known.shape[1], device=known.device)
    return total[:, (position + radius + 1).clamp(max=known.shape[1])] - total[:, (position - radius).clamp(min=0)]


def convolution_weights(known: Tensor, kernel_size: int, conv_mult: float = 1.0) -> Tensor:
    """s_i = tanh(conv_mult * u_i), arXiv 2509.15188: FloatTensor [B, L] for `known` [B, L]."""
    return torch.tanh(conv_mult * count_known(known, kernel_size).float())


class PositionWeights(LogitsProcessor):
    """Base of all kinds. A kind defines `weights`; `fields` names the config's fields that it reads."""

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, mask_token_id: int) -> None:
        self.mask_token_id = mask_token_id

    @classmethod
    def from_config(cls, config: "DiffusionGenerationConfig") -> "PositionWeights":
        return cls(config.mask_token_id)

    def blocks(self, canvas: Canvas) -> Tensor:
        """LongTensor [B]: how many processes, one after the other, a row's canvas is denoised in."""
        return torch.ones_like(canvas.size)

    def current_block(self, canvas: Canvas) -> Tensor:
        """LongTensor [B]: the first block that is not decided."""
        return torch.zeros_like(canvas.size)

    def reach(self, length: int) -> int:
        """How far behind the last known position of a row a step may decide, at most; of `length` positions."""
        return length

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor:
        """BoolTensor [B, L]: positions of the process that the step belongs to."""
        return torch.ones_like(canvas.undecided)

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        """FloatTensor [B, L]: s_i in [0, 1]; positions with 0 are not decided in this step."""
        raise NotImplementedError

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Add log s_i to `scores` [B, L, V] at the masks of `input_ids` [B, L]; other positions stay as they are."""
        canvas = Canvas.from_prompt(input_ids, 0, self.mask_token_id)
        log_weights = self.weights(canvas, None).log()
        return scores + torch.where(canvas.undecided, log_weights, 0.0)[..., None].to(scores.dtype)


class UniformWeights(PositionWeights):
    """s_i = 1 everywhere: full diffusion."""

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return torch.ones_like(canvas.ids, dtype=torch.float32)


class ConvolutionWeights(PositionWeights):
    """s_i = tanh(conv_mult * u_i), u_i known positions in reach in both directions. arXiv 2509.15188."""

    fields = ("kernel_size", "conv_mult")

    def __init__(self, mask_token_id: int, kernel_size: int, conv_mult: float = 1.0) -> None:
        super().__init__(mask_token_id)
        self.kernel_size, self.conv_mult = kernel_size, conv_mult

    @classmethod
    def from_config(cls, config: "DiffusionGenerationConfig") -> "ConvolutionWeights":
        return cls(config.mask_token_id, config.kernel_size, config.conv_mult)

    def reach(self, length: int) -> int:
        return self.kernel_size // 2

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return convolution_weights(canvas.known, self.kernel_size, self.conv_mult)


class BlockWeights(PositionWeights):
    """s_i = 1 inside the current block of slots, 0 elsewhere. In a loop of one's own, the current block is the first
    with a mask, and slots are counted from position `start`."""

    fields = ("block_length",)

    def __init__(self, mask_token_id: int, block_length: int | None, start: int = 0) -> None:
        super().__init__(mask_token_id)
        self.block_length, self.start = block_length, start

    @classmethod
    def from_config(cls, config: "DiffusionGenerationConfig") -> "BlockWeights":
        return cls(config.mask_token_id, config.block_length)

    def blocks(self, canvas: Canvas) -> Tensor:
        if self.block_length is None:
            return torch.ones_like(canvas.size)
        return (-(-canvas.size // self.block_length)).clamp(min=1)

    def current_block(self, canvas: Canvas) -> Tensor:
        if self.block_length is None:
            return torch.zeros_like(canvas.size)
        first = torch.where(canvas.undecided, canvas.slot, canvas.size[:, None]).amin(1)
        return first // self.block_length

    def reach(self, length: int) -> int:
        return self.block_length or length

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor:
        if self.block_length is None:
            return torch.ones_like(canvas.undecided)
        if step is not None:
            return canvas.slot // self.block_length == step.block[:, None]
        block = (torch.arange(canvas.ids.shape[1], device=canvas.ids.device) - self.start) // self.block_length
        first = torch.where(canvas.undecided, block, block[-1] + 1).amin(1, keepdim=True)
        return block == first

    def weights(self, canvas: Canvas, step: Step | None) -> Tensor:
        return self.scope(canvas, step).float()


class SlideWeights(BlockWeights):
    """s_i = 1 inside a window of `block_length` slots that moves on by 1/S of the canvas in each step. In a loop of
    one's own, it starts at the first mask."""

    def blocks(self, canvas: Canvas) -> Tensor:
        return torch.ones_like(canvas.size)

    def scope(self, canvas: Canvas, step: Step | None) -> Tensor:
        if self.block_length is None:
            return torch.ones_like(canvas.undecided)
        if step is not None:
            first = (canvas.size * step.number // step.steps)[:, None]
            return (canvas.slot >= first) & (canvas.slot < first + self.block_length)
        position = torch.arange(canvas.ids.shape[1], device=canvas.ids.device).expand_as(canvas.ids)
        first = torch.where(canvas.undecided, position, canvas.ids.shape[1]).amin(1, keepdim=True)
        return (position >= first) & (position < first + self.block_length)


POSITION_WEIGHTS: dict[str, type[PositionWeights]] = {
    "uniform": UniformWeights,
    "convolution": ConvolutionWeights,
    "block": BlockWeights,
    "slide": SlideWeights,
}
