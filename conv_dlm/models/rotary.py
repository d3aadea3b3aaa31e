"""Rotary position embedding (RoFormer, arXiv 2104.09864) in float32, for a model of any dtype.

Shapes: B rows, L positions, A heads, H head size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from conv_dlm.generation.capabilities import scales_by_length


def ntk_rope_theta(rope_theta: float, factor: float, head_dim: int) -> float:
    """The base of NTK-aware scaling: a context `factor` times as long, by slower rotation alone.

    `factor^(H / (H - 2)) * rope_theta`: the slowest frequency becomes `factor` times as slow, the fastest stays
    (LongLLaDA, arXiv 2506.14429). It is the same at every length, so caches and batches may be used.

    Args:
        rope_theta (`float`): the checkpoint's base.
        factor (`float`): how much longer the context becomes.
        head_dim (`int`): head size H, or how much of it is rotated.

    Returns:
        `float`: to be passed as `rope_theta`.
    """
    return float(rope_theta * factor ** (head_dim / (head_dim - 2)))


class RotaryEmbedding(nn.Module):
    """Cosines and sines of the positions' angles.

    Unlike Transformers' module it survives `model.bfloat16()`, which would round the frequencies; at a few hundred
    positions the angles would then be off by radians.

    Args:
        head_dim (`int`):
            Head size H.
        theta (`float`):
            Base of the frequencies.
        persistent (`bool`, *optional*, defaults to `False`):
            Whether the checkpoint holds `inv_freq`, as MDLM's does.
        scaled (`PreTrainedConfig`, *optional*):
            A config whose `rope_parameters` name one of Transformers' ways to lengthen the context.
    """

    inv_freq: torch.Tensor  # [H / 2] float32

    def __init__(self, head_dim: int, theta: float, persistent: bool = False, scaled: Any = None):
        super().__init__()
        self.head_dim, self.theta, self.scaled = head_dim, theta, scaled
        self.by_length = scaled is not None and scales_by_length(scaled)
        self.attention_scaling = 1.0
        self.register_buffer("inv_freq", self.frequencies(), persistent=persistent)

    def frequencies(self, device: torch.device | None = None) -> torch.Tensor:
        """`theta^(-2i / H)`, [H / 2] float32; or as they are scaled."""
        if self.scaled is not None:
            return self._scaled_frequencies(device)
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        return 1.0 / self.theta**exponents

    def _scaled_frequencies(self, device: torch.device | None, length: int | None = None) -> torch.Tensor:
        of_type: Any = ROPE_INIT_FUNCTIONS[self.scaled.rope_parameters["rope_type"]]
        frequencies, self.attention_scaling = of_type(self.scaled, device, seq_len=length)
        return frequencies.float()

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> "RotaryEmbedding":
        super()._apply(fn, recurse)  # follows the model to its device ...
        self.inv_freq = self.frequencies(self.inv_freq.device)  # ... but not into its dtype
        return self

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`position_ids` [B, L] -> cos, sin [B, L, H] float32."""
        frequencies = self.inv_freq
        if self.by_length:
            frequencies = self._scaled_frequencies(position_ids.device, int(position_ids.max()) + 1)
        angles = position_ids[..., None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling


def rotate(
    query: torch.Tensor, key: torch.Tensor, position_embeddings: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate `query` and `key` [B, A, L, H] in float32 and round once, to their own dtype."""
    rotated_query, rotated_key = apply_rotary_pos_emb(query.float(), key.float(), *position_embeddings)
    return rotated_query.to(query.dtype), rotated_key.to(key.dtype)
