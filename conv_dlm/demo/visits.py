"""What each visitor sees: of jobs that wait, are at work, are stopped or done."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import NamedTuple

from conv_dlm.demo.job import Job, Run, Worker
from conv_dlm.demo.order import Order

PAUSE = 0.15  # seconds between two looks at a job


class Look(NamedTuple):
    """A job at a moment.

    runs: its runs so far, those with something to see once it is over; `None` for an order that was refused at the
        door, so that what the visitor saw before may stay.
    note: what to tell the visitor, if anything.
    problem: whether that is why there is no result.
    live: whether there is more to come.
    """

    runs: list[Run] | None
    note: str = ""
    problem: bool = False
    live: bool = False


class Visits:
    """The jobs of all visitors who are there, one each.

    Args:
        worker (`Worker`): does the jobs.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._jobs: dict[str, tuple[Job, Future[None]]] = {}

    def stop(self, visitor: str) -> None:
        """End a visitor's job, if there is one, wherever it is."""
        if visitor in self._jobs:
            job, future = self._jobs[visitor]
            job.stop()
            future.cancel()  # has an effect on one that waits

    async def watch(self, visitor: str, order: Order) -> AsyncGenerator[Look, None]:
        """Do what was ordered, with a look at it every now and then, and a last one.

        Closing the iterator ends the job.
        """
        if visitor in self._jobs:
            yield Look(None, "A run of yours is not done yet. Stop it first.", problem=True)
            return
        job = Job(order)
        try:
            future = self._worker.begin(job)
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
    future.result()  # raises what is nobody's mistake but ours
    if job.problem is not None:
        return Look([run for run in job.runs if run.steps], job.problem, problem=True)
    unfinished = [run for run in job.runs if run.answer is None]
    return Look(
        job.runs, f"Stopped after {unfinished[0].steps} steps of {unfinished[0].decode_type}." if unfinished else ""
    )
