"""Rows of a batch: padding at the left, and random numbers that belong to the row."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def row_generator(*numbers: int) -> Generator:
    """The random numbers of a row, the same in any batch and any process.

    Args:
        numbers (`int`): what tells the row from others: the run's seed, the prompt's number, the turn.

    Returns:
        `torch.Generator`: on the CPU.
    """
    digest = hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def pad_left(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Pad token ids at the left to the longest row, as `generate` needs them.

    Args:
        rows (sequence of sequences of `int`): B rows of token ids; at least one.
        pad_token_id (`int`): the id to pad with.

    Returns:
        `LongTensor` [B, L], the ids; `LongTensor` [B, L], the attention mask: 0 at padding, 1 elsewhere.
    """
    length = max(map(len, rows))
    ids_BL = torch.tensor([[pad_token_id] * (length - len(row)) + list(row) for row in rows])
    mask_BL = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids_BL, mask_BL
