"""uvicorn, told how to begin and how to end."""

from collections.abc import Callable
from typing import Any

from conv_dlm.serving.queue import Worker


def make_server(app: Any, worker: Worker, host: str, port: int, announce: Callable[[str], None]) -> Any:
    """A uvicorn server of `app`; its `run()` serves until Ctrl-C or `should_exit`.

    Args:
        app: as `build_app` makes it.
        worker (`Worker`): stops as soon as the server is told to, so that nobody waits for a long generation.
        host (`str`), port (`int`): where to listen; port 0 takes any free one.
        announce (callable): called with the address when the server listens.

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
                listening = self.servers[0].sockets[0].getsockname()
                name = f"[{host}]" if ":" in host else host
                announce(f"http://{name}:{listening[1]}")

        def handle_exit(self, *args: Any) -> None:
            worker.close()
            super().handle_exit(*args)

    return Server(uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False))
