"""Running the study in this process, as a shell would."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from benchmarks.decoding_study.__main__ import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`run("--data", ...)`: exit code, standard output and standard error."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run
