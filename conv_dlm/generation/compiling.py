"""What is compiled beside the model: the draw and the rule, each a few kernels in place of dozens."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from transformers import CompileConfig

P = ParamSpec("P")
R = TypeVar("R")
# shapes that may be compiled, each to a graph of its own: the sizes of `plan.bucket`, and those of full forwards;
# dynamo's own limit of 8 guards against shapes that never come back
COMPILED_SHAPES = 64


def compiled(function: Callable[P, R], config: CompileConfig) -> Callable[P, R]:
    """`function`, compiled by the backend of `config`.

    Not as CUDA graphs, whose next replay would write over what a run still remembers of the last step. A rule may do
    what can't be compiled: then that part of it runs as it is, and so does everything beyond `COMPILED_SHAPES`.
    """
    call = _compiled(function, config.backend, config.dynamic)

    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch._dynamo.config.patch(recompile_limit=COMPILED_SHAPES):
            result: R = call(*args, **kwargs)
        return result

    return limited


@functools.cache
def _compiled(function: Callable[..., Any], backend: Any, dynamic: bool | None) -> Callable[..., Any]:
    return torch.compile(function, backend=backend, dynamic=dynamic)
