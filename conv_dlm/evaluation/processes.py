"""The processes of `accelerate launch` or `torchrun`, which share only a folder here.

Each takes its share of the prompts, and the first waits until all samples exist. There is no process group: it would
only add a timeout that long shares exceed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Which process this is.

    Attributes:
        rank (`int`): the number of this process.
        count (`int`): how many processes there are.
        local_rank (`int`): the number of this process on its machine.
        use_cpu (`bool`): whether the launcher was told not to use accelerators.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    use_cpu: bool = False

    @classmethod
    def from_environment(cls) -> "Processes":
        """Read the launcher's environment variables; without them, this is the only process."""
        use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")  # `use_cpu: true`
        if "WORLD_SIZE" not in os.environ:
            return cls(use_cpu=use_cpu)
        rank, count, local_rank = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(rank, count, local_rank, use_cpu)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, work: Sequence[T]) -> list[T]:
        """This process's share: every `count`-th piece, starting with number `rank`."""
        return list(work[self.rank :: self.count])

    def device(self) -> str | None:
        """The accelerator of this process if each has its own; `None` for the usual choice.

        Raises:
            ValueError: there are more processes than accelerators.
        """
        if self.use_cpu:
            return "cpu"
        if self.count == 1 or not torch.accelerator.is_available():
            return None
        if self.local_rank >= torch.accelerator.device_count():
            raise ValueError(
                f"Process {self.local_rank} of this machine has no accelerator: there are "
                f"{torch.accelerator.device_count()}. Start no more processes, or say `--device cpu`."
            )
        return f"{torch.accelerator.current_accelerator()}:{self.local_rank}"
