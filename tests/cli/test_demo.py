"""`conv-dlm demo`: what it serves, and what it refuses before it does."""

import sys
from typing import Any

import pytest

from conv_dlm.answering.embedded import EMBEDDED_NAME

Run = Any


def test_what_is_served(run: Run, tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = pytest.importorskip("conv_dlm.demo.page")
    served: list[Any] = []
    monkeypatch.setattr(page, "serve", lambda models, host, port: served.append((models, host, port)))
    assert run("demo").code == 0
    assert run("demo", "--model", EMBEDDED_NAME, tiny_checkpoint, "--host", "0.0.0.0", "--port", 80).code == 0
    assert served == [
        ([EMBEDDED_NAME], "127.0.0.1", 7860),
        ([EMBEDDED_NAME, str(tiny_checkpoint)], "0.0.0.0", 80),
    ]


def test_a_model_that_is_not_there(run: Run) -> None:
    pytest.importorskip("gradio")
    outcome = run("demo", "--model", "./nowhere")
    assert outcome.code == 2 and "there is no such folder" in outcome.err


def test_a_port_that_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = run("demo", "--port", port)
    assert outcome.code == 2 and f"`--port`={port} can't be used" in outcome.err


def test_without_gradio(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "conv_dlm.demo.page", raising=False)
    outcome = run("demo")
    assert outcome.code == 2 and "pip install conv-dlm[demo]" in outcome.err
