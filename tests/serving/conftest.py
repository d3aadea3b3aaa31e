"""A server of the tiny model, its clients, and a model that goes on when it is told to."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

Serve = Callable[..., Any]

# A connection for each request, as `httpx.get` has, but for the certificates, which nothing here needs: to read them
# takes longer than most answers.
web = httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


def client_of(address: str, key: str = "none") -> openai.OpenAI:
    """The client of `openai`, which tries once."""
    http_client = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60, http_client=http_client)


class Gate:
    """Stands before a model's forward, records the batch sizes, and lets as many through as it is told."""

    def __init__(self, model: Any) -> None:
        self.batches: list[int] = []
        self.arrived = threading.Semaphore(0)
        self._open = threading.Semaphore(0)
        self.error: Exception | None = None
        model.register_forward_pre_hook(self._pass, with_kwargs=True)

    def _pass(self, _: Any, args: Any, kwargs: Any) -> None:
        self.batches.append(len(kwargs.get("input_ids", args[0] if args else ())))
        self.arrived.release()
        assert self._open.acquire(timeout=60)
        error, self.error = self.error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Until a forward is about to begin."""
        assert self.arrived.acquire(timeout=60)

    def let(self, forwards: int) -> None:
        self._open.release(forwards)


@pytest.fixture(scope="module")
def address(serve: Serve, tiny_llada: Any, tiny_tokenizer: Any) -> Iterator[str]:
    """A server that most tests share; it has no options of its own."""
    with serve(copy.deepcopy(tiny_llada), tiny_tokenizer) as address:
        yield address


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return client_of(address)
