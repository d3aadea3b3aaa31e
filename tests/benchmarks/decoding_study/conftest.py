"""Running the study in this process, as a shell would."""

from collections.abc import Callable

import pytest

from benchmarks.decoding_study.__main__ import main
from tests.running import Outcome, runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`run("--data", ...)`: exit code, standard output and standard error."""
    return runner(main, capsys)
