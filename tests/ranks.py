"""Several ranks of a distributed run, in forks of the test: they import nothing again, which takes most of a launch.

How a launcher starts processes has tests of its own, with the scripts (tests/trainers/launching.py).
"""

import os
import runpy
import socket
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.forks import context
from tests.trainers.launching import SECONDS, launched


def in_ranks(config: str, processes: int, function: Callable[..., None], *args: Any, **environment: str) -> None:
    """Call a function in each rank, with the environment that `accelerate launch` gives it; all must succeed.

    Args:
        config: the name of a file in configs/accelerate.
        processes: how many.
        function: of a module. Where autograd does not survive a fork it is called in a new process.
        args: what it is called with.
        environment: more variables.
    """
    environment = prepare_multi_gpu_env(launched(config, "--num_processes", str(processes))) | environment
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = []
    try:
        for rank in range(processes):
            named = shared | {"RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": ""}
            with mock.patch.dict(os.environ, environment | {name: str(value) for name, value in named.items()}):
                ranks.append(context().Process(target=_as_rank, args=(function, args)))
                ranks[-1].start()
        for process in ranks:
            process.join(SECONDS)
        assert [process.exitcode for process in ranks] == [0] * processes  # None: not done in time
    finally:
        for process in ranks:
            process.kill()


def run_program(module: str, words: list[str]) -> None:
    """For [`in_ranks`]: what `python -m` does in a rank, whose exit status is the program's."""
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _as_rank(function: Callable[..., None], args: tuple[Any, ...]) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # that of the test
    function(*args)
