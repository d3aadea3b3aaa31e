"""Commands in this process, as a shell would run them."""

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def runner(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`run("generate", "prompt", ...)`: exit code, standard output and standard error of `main`."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run
