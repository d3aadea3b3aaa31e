"""Running commands in this process, on the tiny random model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conv_dlm.cli import main
from tests.running import Outcome, runner

Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("generate", "prompt", ...)`: exit code, standard output and standard error."""
    return runner(main, capsys)


@pytest.fixture
def generate(run: Run, tiny_checkpoint: Path) -> Run:
    """`run`, with the tiny model and few steps."""

    def generate(*words: object) -> Outcome:
        return run("generate", "--model", tiny_checkpoint, "--steps", 4, "--max-new-tokens", 12, *words)

    return generate


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where an evaluation goes, which isn't there yet."""
    return tmp_path / "runs" / "out"
