"""Run uvicorn: where it listens, how it starts and how it stops."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from conv_dlm.serving.calm import LOGGERS, Calm
from conv_dlm.serving.queue import Worker

GRACE = 30.0  # seconds that a stop leaves to what runs
LAST_WORDS = 2.0  # seconds that a second signal leaves to the answers that nothing comes any more


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens at the address; port 0 takes any free port. Raises ValueError if that fails."""
    if not host:  # which the system takes for all interfaces
        raise ValueError("`--host` is empty; give an address, 127.0.0.1 for this machine or 0.0.0.0 for all networks.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError, TypeError) as error:
        raise ValueError(
            f"`--host`={host} `--port`={port} can't be listened on: {error}; give others, or port 0 for any free one."
        ) from error


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def make_server(
    app: Any,
    worker: Worker,
    announce: Callable[[], None],
    max_connections: int | None = None,
    grace: float = GRACE,
) -> Any:
    """Make a uvicorn server; its `run(sockets=[listener])` serves until Ctrl-C or `should_exit`.

    The first signal lets what was accepted be finished, within `grace` seconds; the second stops after the step that
    runs. Clients that owe something are not waited for.

    Args:
        app: the application, from `build_app`.
        worker (`Worker`): stopped together with the server.
        announce (callable): called when the server accepts requests.
        max_connections (`int`, *optional*): the most connections at a time; the oldest that the server waits for make
            room. Defaults to 1000, and is lowered to what the system's limit of open files allows.
        grace (`float`, *optional*, defaults to 30): seconds.

    Raises:
        ImportError: the extra `serve` is not installed.
    """
    try:
        import uvicorn

        from conv_dlm.serving import connections
    except ImportError as error:
        raise ImportError("Serving needs FastAPI and uvicorn: `pip install conv-dlm[serve]`.") from error

    most = connections.affordable(max_connections or connections.MOST)
    protocol = type("BoundedConnection", (connections.Connection,), {"most": most})

    class Server(uvicorn.Server):
        async def startup(self, *args: Any, **kwargs: Any) -> None:
            self.loop = asyncio.get_running_loop()
            await super().startup(*args, **kwargs)
            if self.started:
                announce()

        async def on_tick(self, counter: int) -> bool:
            if counter % 10 == 0:  # once a second
                connections.drop_late(self.server_state.connections)
            return await super().on_tick(counter)

        def handle_exit(self, *args: Any) -> None:
            if not self.should_exit:
                worker.drain(grace)
                self.should_exit = True
            elif not worker.closed:
                worker.close()  # those who wait are told so, if they listen
                self.loop.call_soon_threadsafe(self.loop.call_later, LAST_WORDS, self.drop_all)
            else:
                self.drop_all()

        def drop_all(self) -> None:
            for one in list(self.server_state.connections):
                if isinstance(one, connections.Connection):
                    one.drop()

    config = uvicorn.Config(
        app, http=protocol, ws="none", backlog=connections.BACKLOG, timeout_graceful_shutdown=int(grace) + 5,
        log_level="warning", access_log=False,
    )  # fmt: skip
    calm = Calm()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for old in [one for one in logger.filters if isinstance(one, Calm)]:
            logger.removeFilter(old)
        logger.addFilter(calm)
    return Server(config)


@contextlib.contextmanager
def in_background(app: Any, worker: Worker, max_connections: int | None = None) -> Iterator[str]:
    """Serve `app` in a thread on any free local port; yields its URL."""
    started = threading.Event()
    server = make_server(app, worker, started.set, max_connections)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not started.wait(60):
                raise RuntimeError("The server did not start within a minute.")
            yield address(listener)
        finally:
            worker.close()
            server.should_exit = True
            thread.join(60)
            worker.join(60)
