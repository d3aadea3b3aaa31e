"""Weights that FSDP2 has spread over processes, for work in which each process makes as many forwards as it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.fsdp import FSDPModule


@contextmanager
def whole_weights(model: Any, reshard_after_forward: bool = True) -> Iterator[None]:
    """All weights of an FSDP2 model in every process, so that a forward waits for no other process; other models are as
    they are.

    Args:
        model (`torch.nn.Module`): the model, sharded or not.
        reshard_after_forward (`bool`, *optional*, defaults to `True`): whether its parts let go of gathered weights
            after a forward, when this is over.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(reshard_after_forward, recurse=False)
            part.reshard()
