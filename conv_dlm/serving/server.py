"""Run uvicorn: where it listens, how it starts and how it stops."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from conv_dlm.serving.queue import Worker


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens at the address; port 0 takes any free port. Raises ValueError if that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"`--host`={host} `--port`={port} can't be listened on: {error}; give others, or port 0 for any free one."
        ) from error


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Any, worker: Worker, announce: Callable[[], None]) -> Any:
    """Make a uvicorn server; its `run(sockets=[listener])` serves until Ctrl-C or `should_exit`.

    Args:
        app: the application, from `build_app`.
        worker (`Worker`): stopped together with the server, so that a long generation does not delay the exit.
        announce (callable): called when the server accepts requests.

    Raises:
        ImportError: the extra `serve` is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError("Serving needs FastAPI and uvicorn: `pip install conv-dlm[serve]`.") from error

    class Server(uvicorn.Server):
        async def startup(self, *args: Any, **kwargs: Any) -> None:
            await super().startup(*args, **kwargs)
            if self.started:
                announce()

        def handle_exit(self, *args: Any) -> None:
            worker.close()
            super().handle_exit(*args)

    return Server(uvicorn.Config(app, log_level="warning", access_log=False))


@contextlib.contextmanager
def in_background(app: Any, worker: Worker) -> Iterator[str]:
    """Serve `app` in a thread on any free local port; yields its URL."""
    started = threading.Event()
    server = make_server(app, worker, started.set)
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
