"""Running commands in this process, on the tiny random model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conv_dlm.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("generate", "prompt", ...)`: exit code, standard output and standard error."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def generate(run: Run, tiny_checkpoint: Path) -> Run:
    """`run`, with the tiny model and few steps."""

    def generate(*words: object) -> Outcome:
        return run("generate", "--model", tiny_checkpoint, "--steps", 4, "--max-new-tokens", 12, *words)

    return generate


@pytest.fixture(scope="session")
def causal_checkpoint(tiny_llama: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny_llama`, which denoises nothing, and `tiny_tokenizer`."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where an evaluation goes, which isn't there yet."""
    return tmp_path / "runs" / "out"
