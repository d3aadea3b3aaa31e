"""Runs a training script on CPUs under FSDP2 or DeepSpeed, for tests: `python sharded_on_cpu.py FILE ...`.

Accelerate takes FSDP and DeepSpeed into account on accelerators only, and silently does plain DDP for `use_cpu: true`.
PyTorch and DeepSpeed themselves don't mind. So Accelerate is told here that the processes, on the CPU with gloo, are of
the kind that it shards; ACCELERATE_TORCH_DEVICE=cpu, which it reads itself, keeps tensors there.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType


def gloo(*_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def train_sharded(words: list[str], told: Path, script: str = "trainers.sft") -> None:
    """The script in this rank; `told` is how Accelerate says that it ran."""
    PartialState._prepare_backend = gloo  # type: ignore[method-assign]
    importlib.import_module(script).main(words)
    told.write_text(PartialState().distributed_type.value)


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        # It would compile an operator for shared memory, which takes a minute or waits for ever.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    train_sharded(sys.argv[2:], Path(sys.argv[1]))
