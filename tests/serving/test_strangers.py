"""A server among strangers: clients that owe something, that are many, that ask for too much; and its end."""

import contextlib
import json
import logging
import socket
import threading
import time

import pytest

from conv_dlm.answering.prompting import Prompter
from conv_dlm.serving import served as served_module
from conv_dlm.serving.app import build_app
from conv_dlm.serving.calm import Calm
from conv_dlm.serving.connections import Connection
from conv_dlm.serving.queue import Worker
from conv_dlm.serving.served import Limits, ServedModel
from conv_dlm.serving.server import GRACE, in_background
from tests.waiting import until

from .conftest import Gate, web
from .test_queue import ask
from .test_refusals import PROMPT, error, post

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HALF_A_REQUEST = (
    b"",
    b"POST /v1/comp",
    HEAD + b"Content-Length: 99\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
)


@contextlib.contextmanager
def strict(model, tokenizer, max_connections=None, **options):
    served = ServedModel("tiny", model, tokenizer, Prompter(tokenizer), {}, Limits(128, 256))
    worker = Worker(model, 8, 6)
    app = build_app(served, worker, 1 << 16, **options)
    with in_background(app, worker, max_connections) as address:
        yield address, worker


def connect(address, data=b""):
    host, _, port = address.removeprefix("http://").rpartition(":")
    one = socket.create_connection((host, int(port)), timeout=30)
    one.sendall(data)
    return one


def is_closed(one):
    one.settimeout(0.01)
    with contextlib.suppress(TimeoutError):
        try:
            return one.recv(1) == b""
        except OSError:
            return True
    return False


def test_clients_that_owe_something_are_dropped(make_llada, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(Connection, "seconds", 0.5)
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        slow = [connect(address, data) for data in HALF_A_REQUEST]
        until(lambda: all(map(is_closed, slow)))
        monkeypatch.undo()  # an honest client may be slow on a slow machine
        assert post(address, PROMPT | {"max_tokens": 4}).status_code == 200


def test_a_client_that_does_not_read_is_dropped(make_llada, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(Connection, "seconds", 0.5)
    usual = Connection.connection_made

    def made(connection, transport):  # a few answers fill what lies between the two; otherwise it takes thousands
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.set_write_buffer_limits(high=4096)
        usual(connection, transport)

    monkeypatch.setattr(Connection, "connection_made", made)
    head = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        one = connect(address)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(0.2)
        with contextlib.suppress(OSError):  # it asks, and asks, and never reads
            for _ in range(20_000):
                one.sendall(head * 50)

        def dropped():
            try:
                return one.send(head) == 0
            except TimeoutError:
                return False
            except OSError:
                return True

        until(dropped)


def test_many_connections_leave_room_for_honest_clients(make_llada, tiny_tokenizer):
    model = make_llada()
    gate = Gate(model)
    with strict(model, tiny_tokenizer, max_connections=8) as (address, _):
        answers = []
        honest = threading.Thread(target=lambda: answers.append(ask(address)))
        honest.start()
        gate.wait()  # it is being answered
        idle = [connect(address, HALF_A_REQUEST[number % 4]) for number in range(40)]
        until(lambda: sum(map(is_closed, idle)) >= 32)
        assert web.get(f"{address}/health").json()["status"] == "ok"
        gate.let(10_000)
        honest.join(60)
        assert answers and answers[0].choices


def test_a_stop_does_not_wait_for_those_who_owe(make_llada, tiny_tokenizer, monkeypatch):
    made, heard = [], []
    connection_made, data_received = Connection.connection_made, Connection.data_received
    monkeypatch.setattr(Connection, "connection_made", lambda *given: made.append(connection_made(*given)))
    monkeypatch.setattr(Connection, "data_received", lambda *given: heard.append(data_received(*given)))
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        slow = [connect(address, data) for data in HALF_A_REQUEST]
        until(lambda: len(made) == len(slow) and len(heard) >= sum(map(bool, HALF_A_REQUEST)))
        stopped = time.monotonic()
    assert time.monotonic() - stopped < GRACE  # which it would give them
    assert all(map(is_closed, slow))


def test_a_stop_finishes_what_was_accepted(make_llada, tiny_tokenizer):
    model = make_llada()
    gate = Gate(model)
    with strict(model, tiny_tokenizer) as (address, worker):
        answers = []
        threads = [
            threading.Thread(target=lambda steps=steps: answers.append(ask(address, extra_body={"steps": steps})))
            for steps in (3, 4)
        ]
        threads[0].start()
        gate.wait()
        threads[1].start()
        until(lambda: worker.waiting == 1)
        worker.drain(30)
        assert error(post(address, PROMPT), 503)["message"] == "The server is shutting down."
        assert web.get(f"{address}/health").status_code == 503
        gate.let(10_000)
        for thread in threads:
            thread.join(60)
        assert len(answers) == 2 and all(answer.choices for answer in answers)
        worker.join(60)
        assert not worker._thread.is_alive()


def test_limits_come_before_the_work(make_llada, tiny_tokenizer, monkeypatch):
    """However many answers are asked for, nothing is tokenized."""
    called = []
    monkeypatch.setattr(served_module, "encode", lambda *_: called.append(1))
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        for body in ({"prompt": "a", "n": 2**31 - 1}, {"prompt": ["a"] * 5000}, {"prompt": "a", "best_of": 10**6},
                     {"prompt": ["a"] * 4, "n": 2}):  # fmt: skip
            assert "at most 6 can wait" in error(post(address, body), 400)["message"]
    assert not called


def test_a_long_prompt_holds_up_nobody(make_llada, tiny_tokenizer, monkeypatch):
    begun, done = threading.Event(), threading.Event()
    encode = served_module.encode

    def slow(tokenizer, texts, special):
        if texts[0].startswith("slow"):
            begun.set()
            assert done.wait(60)
        return encode(tokenizer, texts, special)

    monkeypatch.setattr(served_module, "encode", slow)
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        answers = []
        other = threading.Thread(target=lambda: answers.append(post(address, {"prompt": "slow", "max_tokens": 4})))
        other.start()
        assert begun.wait(60)
        assert post(address, PROMPT | {"max_tokens": 4}).status_code == 200  # meanwhile
        done.set()
        other.join(60)
        assert answers[0].status_code == 200


def test_a_log_that_stays_short():
    calm = Calm(3)
    records = [logging.LogRecord("x", logging.ERROR, "", 0, "line %d", (number,), None) for number in range(100)]
    assert sum(map(calm.filter, records)) == 3
    calm._minute -= 1
    last = logging.LogRecord("x", logging.ERROR, "", 0, "a %s line", ("last",), None)
    assert calm.filter(last) and last.getMessage() == "a last line (97 lines before were left out)"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"])
def test_a_stranger_s_name(make_llada, tiny_tokenizer, host):
    with strict(make_llada(), tiny_tokenizer, only_here=True) as (address, _):
        assert "for this machine alone" in error(post(address, PROMPT, Host=host), 403)["message"]
        for good in ("127.0.0.1:8000", "localhost", "[::1]:80", "app.localhost:80"):
            assert post(address, PROMPT | {"max_tokens": 2}, Host=good).status_code == 200
    with strict(make_llada(), tiny_tokenizer, only_here=True, api_key="key") as (address, _):
        for scheme in ("Bearer", "bearer", "BEARER "):
            authorized = {"Host": host, "Authorization": f"{scheme} key"}
            assert post(address, PROMPT | {"max_tokens": 2}, **authorized).status_code == 200
        assert error(post(address, PROMPT, Authorization="Basic key"), 401)


def test_an_empty_key_is_no_key(make_llada, tiny_tokenizer):
    for key in ("", " "):
        with pytest.raises(ValueError, match="empty"):
            build_app(None, None, 1, api_key=key)


def test_bodies_of_every_kind(make_llada, tiny_tokenizer, caplog):
    """A refusal in OpenAI's shape each, and nothing in the log."""
    bodies = [
        b"", b"null", b"1", b'"a"', b"{}", b'{"prompt": "a"', b"\x00" * 100, b"\xff\xfe", b"[" * 30_000,
        b'{"a":' * 9_000, b'{"prompt": "a", "temperature": NaN}',
        json.dumps({"prompt": {"a": [[[]]]}}).encode(), b'{"prompt": "a", "n": 1e999}', b'{"prompt": "a", "stop": {}}',
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", b'{"prompt": "a", "' + b"k" * 60_000 + b'": 1, "n": 0}',
        b'{"messages": ' + b'[{"role": "user", "content": ' * 900 + b"1" + b"}]" * 900 + b"}",
    ]  # fmt: skip
    with strict(make_llada(), tiny_tokenizer) as (address, _):
        for body in bodies:
            reply = web.post(f"{address}/v1/completions", content=body, headers={"Content-Type": "application/json"})
            assert error(reply, 400)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
