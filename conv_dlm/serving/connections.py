"""Connections of strangers: how many there may be, and how long each may let the server wait.

uvicorn (0.54) bounds neither what a client owes it (the rest of a request, the reading of an answer) nor the number of
connections before the system's limit, at which nobody is answered any more.
"""

import math
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 30.0  # that a client may take for a request, between two, and for reading what was sent
MOST = 1000  # connections; those that the server waits for make room for new ones
BACKLOG = 128  # connections that are accepted in one go
RESERVE = 64  # descriptors of everything else: files, the standard streams, libraries


class Connection(H11Protocol):
    """A connection that ends when its client owes something for too long, or when others need its place."""

    most = MOST
    seconds = SECONDS
    since = 0.0  # when the server began to wait for the client
    unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = time.monotonic()
        if len(self.connections) > self.most:
            waiting = [one for one in self.connections if isinstance(one, Connection) and one.is_waited_for]
            min(waiting, key=lambda one: one.since).drop()  # this one is among them

    @property
    def is_waited_for(self) -> bool:
        """Whether the client has to act: send a request or the rest of one."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def is_late(self, now: float) -> bool:
        """Whether the client has let the server wait for too long."""
        late = now - self.seconds
        return (self.is_waited_for and self.since < late) or (self.unread_since or math.inf) < late

    def drop(self) -> None:
        """End the connection at once, whatever is unsent."""
        self.connections.discard(self)
        self.transport.abort()

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self.unread_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.unread_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """A stop doesn't wait for clients that owe something."""
        if self.is_waited_for:
            self.drop()
        else:
            super().shutdown()


def drop_late(connections: set[Any]) -> None:
    """End the connections whose clients are late."""
    now = time.monotonic()
    for one in [one for one in connections if isinstance(one, Connection) and one.is_late(now)]:
        one.drop()


def affordable(most: int) -> int:
    """How many of `most` connections the system's limit of open files leaves room for; raises that if it may."""
    try:
        import resource
    except ImportError:  # Windows
        return most
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + BACKLOG + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(most, soft - BACKLOG - RESERVE)) if soft != resource.RLIM_INFINITY else most
