"""`conv-dlm serve`, as a person starts and ends it."""

import contextlib
import os
import re
import signal
import socket
import sys
from pathlib import Path

import openai
import pytest

from conv_dlm.cli import main
from tests.forks import context
from tests.waiting import until


def serve(words: list[str], said: Path) -> None:
    with said.open("w", buffering=1) as file, contextlib.redirect_stderr(file):
        sys.exit(main(["serve", *words]))


def refuses(address: str) -> bool:
    """Whether a server takes no connections any more."""
    host, port = address.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=60).close()
    except OSError:
        return True
    return False


def test_from_the_first_line_to_ctrl_c(tiny_checkpoint, tmp_path, monkeypatch):
    """In a process of its own: it says where it is, answers, and ends in good order while a request is running."""
    monkeypatch.setenv("CONV_DLM_API_KEY", "secret")
    words = ["--model", str(tiny_checkpoint), "--port", "0"]
    words += ["--steps", "8", "--max-new-tokens", "12", "--max-new-tokens-limit", "100", "--steps-limit", "100000"]
    said = tmp_path / "said"
    server = context().Process(target=serve, args=(words, said))
    server.start()
    try:
        until(lambda: said.exists() and "\n" in said.read_text())
        address = re.search(
            rf"^{tiny_checkpoint.name} on (http://127\.0\.0\.1:\d+)/v1; ask it: curl", said.read_text()
        )[1]
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0, timeout=240)
        reply = client.chat.completions.create(model=tiny_checkpoint.name, messages=[{"role": "user", "content": "x"}])
        assert reply.usage.completion_tokens <= 12 and reply.usage.forwards <= 8
        with pytest.raises(openai.BadRequestError, match="more than this server allows, 100"):
            client.completions.create(model=tiny_checkpoint.name, prompt="x", max_tokens=101)
        long = {"decode_type": "remdm", "steps": 100_000, "eta": 0.1, "t_on": 0.9, "alpha_on": 0.5}
        stream = client.completions.create(model=tiny_checkpoint.name, prompt="x", stream=True, extra_body=long)
        os.kill(server.pid, signal.SIGINT)  # what runs would be finished
        until(lambda: refuses(address))
        assert server.is_alive()
        os.kill(server.pid, signal.SIGINT)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        server.join(60)
        assert server.exitcode == 0 and "Traceback" not in said.read_text()
    finally:
        server.kill()
        server.join()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "'70000' is no port: give a number from 1 to 65535"),
        (["--host", "192.0.2.1", "--port", "0"], "can't be listened on"),
        (["--host", "", "--port", "0"], "`--host` is empty"),
        (["--api-key", "", "--port", "0"], "`--api-key` is empty"),
        (["--api-key", " ", "--port", "0"], "`--api-key` is empty"),
        (["--max-queue", "0"], "`--max-queue`=0 must be at least 1"),
        (["--port", "0", "--max-new-tokens", "20", "--max-new-tokens-limit", "9"], "at most its limit, 9"),
        (["--port", "0", "--decode-type", "llada", "--kernel-size", "8"], "has no effect"),
        (["--port", "0", "--model", "/nowhere"], "no such folder"),
    ],
    ids=str,
)
def test_mistakes(run, tiny_checkpoint, words, message):
    model = [] if "--model" in words else ["--model", tiny_checkpoint]
    outcome = run("serve", *model, *words)
    assert outcome.code == 2 and message in outcome.err and len(outcome.err.splitlines()) == 1


def test_an_empty_variable_is_no_open_door(run, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("CONV_DLM_API_KEY", "")
    outcome = run("serve", "--model", tiny_checkpoint, "--port", 0)
    assert outcome.code == 2 and "The variable CONV_DLM_API_KEY is empty" in outcome.err


def test_a_port_that_is_taken(run, tiny_checkpoint):
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = run("serve", "--model", tiny_checkpoint, "--port", other.getsockname()[1])
    assert outcome.code == 2 and "Address already in use" in outcome.err


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra(run, tiny_checkpoint, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = run("serve", "--model", tiny_checkpoint, "--port", 0)
    assert outcome.code == 2 and "pip install conv-dlm[serve]" in outcome.err


def test_in_this_process(run, tiny_checkpoint, monkeypatch):
    """It ends by the signal that Ctrl-C sends, and leaves the signal as it was."""
    heard = []

    def end(line):
        heard.append(line)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("conv_dlm.cli.serve.note", end)
    before = signal.getsignal(signal.SIGINT)
    assert run("serve", "--model", tiny_checkpoint, "--port", 0).code == 0
    assert len(heard) == 1 and signal.getsignal(signal.SIGINT) is before
