"""A log that no client can make long."""

import logging
import threading
import time

LINES_A_MINUTE = 30
# a filter holds for what is written to the logger itself
LOGGERS = ("asyncio", "uvicorn.error", "conv_dlm.serving", "conv_dlm.serving.queue")


class Calm(logging.Filter):
    """Lets through so many lines of a log in a minute, and says of the others how many there were."""

    def __init__(self, most: int = LINES_A_MINUTE) -> None:
        super().__init__()
        self.most, self._minute, self._count = most, 0, 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        with self._lock:
            minute = int(time.monotonic() // 60)
            left_out = max(0, self._count - self.most)
            if minute != self._minute:
                self._minute, self._count = minute, 0
                if left_out:
                    record.msg, record.args = f"{record.getMessage()} ({left_out} lines before were left out)", None
            self._count += 1
            return self._count <= self.most
