"""Work beside the event loop, which all clients share."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], room: asyncio.Semaphore) -> T:
    """The result of `work()`, done in a thread while there is `room`, that holds up no end of the process."""
    loop = asyncio.get_running_loop()
    async with room:
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=run, name="preparing", daemon=True).start()
        return await future
