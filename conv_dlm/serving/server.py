"""uvicorn, told where to listen, how to begin and how to end."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from conv_dlm.serving.queue import Worker


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 takes any free one. Raises ValueError if it can't."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"`--host`={host} `--port`={port} can't be listened on: {error}; give others, or port 0 for any free one."
        ) from error


def address(listener: socket.socket) -> str:
    """Where a listener is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Any, worker: Worker, announce: Callable[[], None]) -> Any:
    """A uvicorn server of `app`; its `run(sockets=[listener])` serves until Ctrl-C or `should_exit`.

    Args:
        app: as `build_app` makes it.
        worker (`Worker`): stops as soon as the server is told to, so that nobody waits for a long generation.
        announce (callable): called when requests are taken.

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
    """Serve `app` in a thread, on any free port of this machine, at the address that this gives."""
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
