"""Requests at the same time: batches, neighbours, and clients that go away."""

import contextlib
import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

from conv_dlm.serving.queue import Worker
from tests.waiting import until

from .conftest import Gate, client_of, web

REQUESTS = [dict(prompt="x" * (3 * i + 1), seed=i, stop=[None, "q", None, "zz"][i % 4]) for i in range(6)]


@pytest.fixture
def gated(serve, make_llada, tiny_tokenizer):
    """A server whose forwards wait, and their gate."""
    model = make_llada()
    gate = Gate(model)
    with serve(model, tiny_tokenizer, max_batch_size=4, max_queue=6) as address:
        yield address, gate
        gate.let(10_000)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(12) as pool:
        yield pool


def waiting(address):
    return web.get(f"{address}/health").json()["waiting"]


def ask(address, **request):
    settings = dict(model="tiny", prompt="hello", max_tokens=16)
    return client_of(address).completions.create(**(settings | request))


def test_answers_do_not_depend_on_the_batch(address, gated, pool):
    alone = [ask(address, **request) for request in REQUESTS]
    address, gate = gated
    first = pool.submit(ask, address, prompt="first")
    gate.wait()  # while it is denoised the others gather
    together = [pool.submit(ask, address, **request) for request in REQUESTS]
    until(lambda: waiting(address) == len(REQUESTS))
    gate.let(10_000)
    for one, other in zip(alone, together, strict=True):
        other = other.result()
        assert (other.choices, other.usage) == (one.choices, one.usage)
    assert first.result() and max(gate.batches) == 4  # the largest that is allowed


def test_only_the_same_settings_share_a_batch(gated, pool):
    address, gate = gated
    settings = [{}, {"steps": 3}, {"kernel_size": 128}, {"steps": 3}, {}]  # 128 is the default, said or not
    first = pool.submit(ask, address)
    gate.wait()
    others = [pool.submit(ask, address, extra_body=each) for each in settings]
    until(lambda: waiting(address) == len(settings))
    gate.let(10_000)
    assert [other.result().usage.forwards <= 3 for other in others] == [each == {"steps": 3} for each in settings]
    assert first.result() and sorted({max(gate.batches), min(gate.batches)}) == [1, 3]


def test_a_full_queue(gated, pool):
    address, gate = gated
    replies = [pool.submit(ask, address)]
    gate.wait()
    replies.append(pool.submit(ask, address, n=5))
    until(lambda: waiting(address) == 5)
    with pytest.raises(openai.RateLimitError, match="5 of at most 6 answers") as refused:
        ask(address, n=2)
    assert refused.value.code == "queue_full"
    replies.append(pool.submit(ask, address))  # room for one more
    until(lambda: waiting(address) == 6)
    with pytest.raises(openai.BadRequestError, match="asks for 7 answers; at most 6"):
        ask(address, n=7)
    gate.let(10_000)
    assert all(reply.result() for reply in replies)


@contextlib.contextmanager
def leaving(address, **request):
    """Ask, and close the connection at the end, without having heard the answer."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    body = json.dumps({"prompt": "hello", "max_tokens": 16} | request)
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    yield
    connection.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_it_is_denoised(gated, monkeypatch, stream):
    address, gate = gated
    rows, submit = [], Worker.submit
    monkeypatch.setattr(Worker, "submit", lambda worker, new: (rows.extend(new), submit(worker, new)))
    with leaving(address, stream=stream, max_tokens=64):
        gate.wait()
    until(lambda: not rows[0].wanted())  # the server has heard of it
    gate.let(1)
    gate.let(10_000)
    assert ask(address, max_tokens=2).usage.completion_tokens <= 2
    assert len(gate.batches) <= 1 + 2  # of 64


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_it_waits(gated, pool, stream):
    address, gate = gated
    first = pool.submit(ask, address)
    gate.wait()
    with leaving(address, stream=stream, steps=3):
        until(lambda: waiting(address) == 1)
    until(lambda: waiting(address) == 0)
    gate.let(10_000)
    forwards = first.result().usage.forwards
    assert ask(address, max_tokens=2) and len(gate.batches) <= forwards + 2


@pytest.mark.parametrize("stream", [False, True])
def test_neighbours_of_a_client_that_goes_away(address, gated, pool, stream):
    alone = ask(address, prompt="neighbour", seed=3)
    address, gate = gated
    first = pool.submit(ask, address)
    gate.wait()
    with leaving(address, stream=stream):
        until(lambda: waiting(address) == 1)
        neighbour = pool.submit(ask, address, prompt="neighbour", seed=3)
        until(lambda: waiting(address) == 2)
        gate.let(16 + 2)  # enough for the first, not for the batch after it
        assert first.result()
        until(lambda: 2 in gate.batches)
    gate.let(10_000)
    assert (neighbour.result().choices, neighbour.result().usage) == (alone.choices, alone.usage)


def test_failures_are_told_and_survived(gated, pool, caplog):
    address, gate = gated
    errors = {
        "the server's log has the reason": RuntimeError("a secret of the house"),
        "Out of memory": torch.OutOfMemoryError("CUDA out of memory"),
    }
    for message, error in errors.items():
        reply = pool.submit(ask, address)
        gate.wait()
        gate.error = error
        gate.let(1)
        with pytest.raises(openai.InternalServerError, match=message) as failure:
            reply.result()
        assert "secret" not in str(failure.value) and failure.value.type == "server_error"
    assert "a secret of the house" in caplog.text
    gate.let(10_000)
    assert ask(address).choices


def test_the_end_of_the_server(serve, make_llada, tiny_tokenizer, monkeypatch, pool):
    model = make_llada()
    gate = Gate(model)
    close = Worker.close
    monkeypatch.setattr(Worker, "close", lambda worker: (close(worker), gate.let(1)))  # what runs ends after the stop
    with serve(model, tiny_tokenizer) as address:
        replies = [pool.submit(ask, address)]
        gate.wait()
        replies.append(pool.submit(ask, address, extra_body={"steps": 3}))
        until(lambda: waiting(address) == 1)
    for reply in replies:
        with pytest.raises(openai.InternalServerError, match="shutting down"):
            reply.result()
    assert len(gate.batches) == 1  # nobody waited for the generation
