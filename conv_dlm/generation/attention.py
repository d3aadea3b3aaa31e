"""What positions see of each other, as a model declares it by its `attention_pattern`.

Shapes: R rows, Q queries, K keys.
"""

from dataclasses import dataclass

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
