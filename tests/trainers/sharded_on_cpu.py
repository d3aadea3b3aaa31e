"""Runs a training module on CPUs under FSDP2 or DeepSpeed, for tests: `python sharded_on_cpu.py trainers.sft ...`.

Accelerate takes FSDP and DeepSpeed into account on accelerators only, and silently does plain DDP for `use_cpu: true`.
PyTorch and DeepSpeed themselves don't mind. So Accelerate is told here that the processes, on the CPU with gloo, are of
the kind that it shards; ACCELERATE_TORCH_DEVICE=cpu, which it reads itself, keeps tensors there.
"""

import importlib
import os
import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
    importlib.import_module("deepspeed.comm.torch")

    # It would compile an operator for shared memory, which takes a minute or waits for ever.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None


def gloo(*_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


PartialState._prepare_backend = gloo

if __name__ == "__main__":
    importlib.import_module(sys.argv.pop(1)).main()
    print("ran as", PartialState().distributed_type.value)
