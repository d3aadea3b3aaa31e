"""What positions see of each other, as a model declares it by its `attention_pattern`.

Shapes: R rows, Q queries, K keys.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bidirectional:
    """Every position sees all others."""


@dataclass(frozen=True)
class BlockCausal:
    """A position sees the blocks up to its own, and all of its own (SDAR, Fast-dLLM v2, LLaDA2).

    What stands in later blocks changes nothing in earlier ones, so keys and values of complete text are exact for good.

    block_length (`int`): blocks lie on its multiples, counted from the row's first position that is no padding.
    """

    block_length: int

    def visible(self, queries: Tensor, keys: Tensor) -> Tensor:
        """BoolTensor [R, 1, Q, K] for the positions `queries` [R, Q] and `keys` [R, K]."""
        query_block, key_block = queries // self.block_length, keys // self.block_length
        return key_block[:, None, None, :] <= query_block[:, None, :, None]

    def end_of_block(self, position: Tensor) -> Tensor:
        """The position behind the block of a `position`, a LongTensor of any shape."""
        return (position // self.block_length + 1) * self.block_length


AttentionPattern = Bidirectional | BlockCausal
BIDIRECTIONAL = Bidirectional()


@torch.no_grad()
def sees_only_left(model: Any) -> bool:
    """Whether a model is for writing from left to right: no position sees what stands at its right.

    Its attention layers say so (`is_causal`, as Transformers has it). Of a model without such layers, or whose layers
    don't say, a forward of three short rows tells: a change at the left is seen at the right, and not the other way.
    """
    said = {getattr(module, "is_causal", None) for module in model.modules()} - {None}
    if said:
        return True in said
    was_training = model.training
    ids = torch.zeros(3, 8, dtype=torch.long, device=model.device)
    ids[1, 0] = ids[2, -1] = 1
    try:
        logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):  # `generate` says what is wrong
        return False
    finally:
        model.train(was_training)
    at_the_right, at_the_left = (logits[0, -1] - logits[1, -1]).abs().max(), (logits[0, 0] - logits[2, 0]).abs().max()
    return bool(at_the_right > 0) and bool(at_the_left <= 1e-3 * at_the_right)
