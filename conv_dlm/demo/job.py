"""A job: an order with one run per decode type, and the queue that works through all jobs."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from torch import OutOfMemoryError

from conv_dlm.answering.answers import Answer, answer, text_of
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.answering.loading import load_model
from conv_dlm.answering.prompting import Prompter
from conv_dlm.demo.order import Order
from conv_dlm.demo.pieces import Pieces
from conv_dlm.demo.recording import Recording
from conv_dlm.generation import StepEnd
from conv_dlm.word_problems import Problem, Verdict, check


class LoadedModel:
    """A loaded model with its tokenizer and prompt format.

    Args:
        name (`str`): as for `load_model`; `EMBEDDED_NAME` is the embedded model.
    """

    def __init__(self, name: str) -> None:
        self.model, tokenizer = load_model(None if name == EMBEDDED_NAME else name)
        self.tokenizer, self.pieces, self.prompter = tokenizer, Pieces(tokenizer), Prompter(tokenizer)


class Run:
    """One decode type's answer: `recording` and `pieces` are set when it starts, `answer` when it ends.

    A run on a generated word problem has a `problem`, and a `verdict` when it ends.
    """

    def __init__(self, decode_type: str, planned: int | None, problem: Problem | None = None) -> None:
        self.decode_type, self.planned, self.problem = decode_type, planned, problem
        self.recording: Recording | None = None
        self.pieces: Pieces | None = None
        self.answer: Answer | None = None
        self.verdict: Verdict | None = None

    @property
    def steps(self) -> int:
        """The number of steps so far."""
        return self.recording.steps if self.recording is not None else 0


class Job:
    """An order and its results so far. The page reads it while the queue's thread works on it.

    Args:
        order (`Order`): what the visitor asked for.

    Attributes:
        runs (`list[Run]`): in the order of the decode types.
        begun (`bool`): whether work on it has started.
        problem (`str`, *optional*): why it failed.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.runs = [Run(name, order.options(name).get("steps"), order.problem) for name in order.decode_types]
        self.begun = False
        self.problem: str | None = None
        self._stop = Event()

    def stop(self) -> None:
        """Stop at the next step."""
        self._stop.set()

    def work(self, loaded: dict[str, LoadedModel]) -> None:
        """Do all runs of the order. `loaded` holds the models by name; the order's model is added if it is missing."""
        self.begun = True
        try:
            name = self.order.model
            if name not in loaded:
                loaded[name] = LoadedModel(name)
            for run in self.runs:
                if not self._stop.is_set():
                    self._answer(run, loaded[name])
        except (ValueError, OSError, OutOfMemoryError) as error:
            self.problem = str(error).strip()

    def _answer(self, run: Run, loaded: LoadedModel) -> None:
        model, prompter = loaded.model, loaded.prompter
        options = self.order.options(run.decode_type)
        run.pieces = loaded.pieces
        run.recording = Recording(self.order.length, model.generation_config.mask_token_id)
        stopped = False

        def stop(_: StepEnd) -> bool:
            nonlocal stopped
            stopped = self._stop.is_set()
            return stopped

        [given] = answer(
            model,
            loaded.tokenizer,
            [prompter([{"role": "user", "content": self.order.prompt}])],
            [row_generator(self.order.seed, 0)],  # as `conv-dlm generate --seed` draws
            add_special_tokens=not prompter.templated,
            streamer=run.recording,
            callback_on_step_end=stop,
            constraint=self.order.constraint,
            **options,
        )
        if stopped:
            return
        if run.problem is not None:
            text = text_of(loaded.tokenizer, given.ids)
            run.verdict = check(run.problem.question, text, run.problem.answer)
        run.answer = given


class JobQueue:
    """Does one job at a time, for all visitors, first come, first served. A model is loaded when it is first used.

    Args:
        names (sequence of `str`): the models on offer.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._loaded: dict[str, LoadedModel] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="denoising")
        self._jobs: list[Job] = []

    def begin(self, job: Job) -> Future[None]:
        """Queue a job. Raises ValueError for a model that is not on offer."""
        if job.order.model not in self.names:
            raise ValueError(f"Model: {job.order.model!r} is not offered here. Choose one of {', '.join(self.names)}.")
        future = self._thread.submit(job.work, self._loaded)
        self._jobs.append(job)
        future.add_done_callback(lambda _: self._jobs.remove(job))
        return future

    def close(self) -> None:
        """Stop the current job and drop the waiting ones."""
        for job in list(self._jobs):
            job.stop()
        self._thread.shutdown(cancel_futures=True)
