"""Rotary position embedding (RoFormer, arXiv 2104.09864) in float32, for a model of any dtype.

Shapes: B rows, L positions, A heads, H head size.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


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
    """

    inv_freq: torch.Tensor  # [H / 2] float32

    def __init__(self, head_dim: int, theta: float, persistent: bool = False):
        super().__init__()
        self.head_dim, self.theta = head_dim, theta
        self.register_buffer("inv_freq", self.frequencies(), persistent=persistent)

    def frequencies(self, device: torch.device | None = None) -> torch.Tensor:
        """`theta^(-2i / H)`, [H / 2] float32."""
        exponents = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32) / self.head_dim
        return 1.0 / self.theta**exponents

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> "RotaryEmbedding":
        super()._apply(fn, recurse)  # follows the model to its device ...
        self.inv_freq = self.frequencies(self.inv_freq.device)  # ... but not into its dtype
        return self

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`position_ids` [B, L] -> cos, sin [B, L, H] float32."""
        angles = position_ids[..., None].float() * self.inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def rotate(
    query: torch.Tensor, key: torch.Tensor, position_embeddings: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate `query` and `key` [B, A, L, H] in float32 and round once, to their own dtype."""
    rotated_query, rotated_key = apply_rotary_pos_emb(query.float(), key.float(), *position_embeddings)
    return rotated_query.to(query.dtype), rotated_key.to(key.dtype)
