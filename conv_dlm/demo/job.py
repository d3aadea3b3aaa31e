"""An order at work: one run for each of its decode types, and the one worker that makes them."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from torch import OutOfMemoryError

from conv_dlm.answering.answers import Answer, answer, row_generator, text_of
from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.answering.loading import load_model
from conv_dlm.answering.prompting import Prompter
from conv_dlm.demo.order import Order
from conv_dlm.demo.pieces import Pieces
from conv_dlm.demo.recording import Recording
from conv_dlm.generation import StepEnd
from conv_dlm.word_problems import Problem, Verdict, check


class Respondent:
    """A loaded model with what belongs to it.

    Args:
        name (`str`): as for `load_model`; `EMBEDDED_NAME` is the embedded one.
    """

    def __init__(self, name: str) -> None:
        self.model, tokenizer = load_model(None if name == EMBEDDED_NAME else name)
        self.tokenizer, self.pieces, self.prompter = tokenizer, Pieces(tokenizer), Prompter(tokenizer)


class Run:
    """One decode type's answer: `recording` and `pieces` from its begin, `answer` from its end.

    Of a generated problem it has `problem`, and at the end a `verdict`.
    """

    def __init__(self, decode_type: str, planned: int | None, problem: Problem | None = None) -> None:
        self.decode_type, self.planned, self.problem = decode_type, planned, problem
        self.recording: Recording | None = None
        self.pieces: Pieces | None = None
        self.answer: Answer | None = None
        self.verdict: Verdict | None = None

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self.recording.steps if self.recording is not None else 0


class Job:
    """An order and what has become of it so far: read by the page while the worker's thread works.

    Args:
        order (`Order`): what to do.

    Attributes:
        runs (`list[Run]`): in the order of the decode types.
        begun (`bool`): whether the worker has come to it.
        problem (`str`, *optional*): why it could not be done.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.runs = [Run(name, order.options(name).get("steps"), order.problem) for name in order.decode_types]
        self.begun = False
        self.problem: str | None = None
        self._stop = Event()

    def stop(self) -> None:
        """Leave what is not done yet, at the next step."""
        self._stop.set()

    def work(self, respondents: dict[str, Respondent]) -> None:
        """Do all that was ordered, by one of the `respondents`, where it is kept once it is loaded."""
        self.begun = True
        try:
            name = self.order.model
            if name not in respondents:
                respondents[name] = Respondent(name)
            for run in self.runs:
                if not self._stop.is_set():
                    self._answer(run, respondents[name])
        except (ValueError, OSError, OutOfMemoryError) as error:
            self.problem = str(error).strip()

    def _answer(self, run: Run, respondent: Respondent) -> None:
        model, prompter = respondent.model, respondent.prompter
        options = self.order.options(run.decode_type)
        run.pieces = respondent.pieces
        run.recording = Recording(self.order.length, model.generation_config.mask_token_id)
        stopped = False

        def stop(_: StepEnd) -> bool:
            nonlocal stopped
            stopped = self._stop.is_set()
            return stopped

        [given] = answer(
            model,
            respondent.tokenizer,
            [prompter([{"role": "user", "content": self.order.prompt}])],
            [row_generator(self.order.seed, 0)],  # as `conv-dlm generate --seed` draws
            add_special_tokens=not prompter.templated,
            streamer=run.recording,
            callback_on_step_end=stop,
            **options,
        )
        if stopped:
            return
        if run.problem is not None:
            text = text_of(respondent.tokenizer, given.ids)
            run.verdict = check(run.problem.question, text, run.problem.answer)
        run.answer = given


class Worker:
    """Does one job at a time, for all visitors, in the order in which they came. It loads a model when first asked for.

    Args:
        names (sequence of `str`): of the models that may be asked for.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._respondents: dict[str, Respondent] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="denoising")
        self._jobs: list[Job] = []

    def begin(self, job: Job) -> Future[None]:
        """Queue a job. Raises ValueError for a model that isn't offered."""
        if job.order.model not in self.names:
            raise ValueError(f"Model: {job.order.model!r} is not offered here. Choose one of {', '.join(self.names)}.")
        future = self._thread.submit(job.work, self._respondents)
        self._jobs.append(job)
        future.add_done_callback(lambda _: self._jobs.remove(job))
        return future

    def close(self) -> None:
        """Stop the job at work, and forget those that wait."""
        for job in list(self._jobs):
            job.stop()
        self._thread.shutdown(cancel_futures=True)
