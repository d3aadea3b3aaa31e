"""What each visitor sees of their job: waiting, running, stopped or done."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import NamedTuple

from conv_dlm.demo.job import Job, JobQueue, Run
from conv_dlm.demo.order import Order

PAUSE = 0.15  # seconds between two looks at a job


class Look(NamedTuple):
    """The state of a job at one moment.

    runs: its runs so far; after the end, only those with something to show. `None` for a rejected order, so that the
        page keeps what it showed before.
    note: a message for the visitor, or empty.
    problem: whether the note is an error.
    live: whether the job is still running.
    """

    runs: list[Run] | None
    note: str = ""
    problem: bool = False
    live: bool = False


class Visits:
    """The jobs of all current visitors, one each.

    Args:
        queue (`JobQueue`): does the jobs.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._jobs: dict[str, tuple[Job, Future[None]]] = {}

    def stop(self, visitor: str) -> None:
        """Stop a visitor's job, if there is one."""
        if visitor in self._jobs:
            job, future = self._jobs[visitor]
            job.stop()
            future.cancel()  # only affects a waiting job

    async def watch(self, visitor: str, order: Order) -> AsyncGenerator[Look, None]:
        """Run an order; yields its state regularly, and once more at the end. Closing the iterator stops the job."""
        if visitor in self._jobs:
            yield Look(None, "A run of yours is not done yet. Stop it first.", problem=True)
            return
        job = Job(order)
        try:
            future = self._queue.begin(job)
        except ValueError as error:
            yield Look(None, str(error), problem=True)
            return
        self._jobs[visitor] = job, future
        try:
            while not future.done():
                yield Look(job.runs, _progress(job), live=True)
                await asyncio.sleep(PAUSE)
        finally:
            self.stop(visitor)
            del self._jobs[visitor]
        yield _last(job, future)


def _progress(job: Job) -> str:
    if not job.begun:
        return "Another run is at work. Yours comes after it."
    return "" if job.runs[0].recording is not None else "Loading the model …"


def _last(job: Job, future: Future[None]) -> Look:
    if future.cancelled():
        return Look([], "Stopped before it began.")
    future.result()  # raises bugs
    if job.problem is not None:
        return Look([run for run in job.runs if run.steps], job.problem, problem=True)
    unfinished = [run for run in job.runs if run.answer is None]
    return Look(
        job.runs, f"Stopped after {unfinished[0].steps} steps of {unfinished[0].decode_type}." if unfinished else ""
    )
