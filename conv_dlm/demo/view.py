"""A job as HTML: the canvas, the plot of position against step, and the cost of each run."""

from collections.abc import Sequence
from html import escape

from conv_dlm.demo.colours import RAMP
from conv_dlm.demo.drawing import canvas
from conv_dlm.demo.job import Run
from conv_dlm.demo.plot import plot

INTRODUCTION = (
    "<h1>conv-dlm</h1><p>A masked diffusion language model doesn't write from left to right. All positions of its "
    "canvas are masked at first, and each step unmasks some of them, anywhere.</p>"
)
EMPTY = '<p class="hint">The canvas appears here.</p>'


def message(text: str, problem: bool = False) -> str:
    """A line for the visitor."""
    role, kind = ("alert", " problem") if problem else ("status", "")
    return f'<p class="message{kind}" role="{role}">{escape(text)}</p>' if text else ""


def view(runs: Sequence[Run], step: int | None = None, live: bool = False) -> str:
    """Draw all runs side by side, or a placeholder if there are none.

    Args:
        runs (sequence of `Run`): the runs.
        step (`int`, *optional*): the step to show; shorter runs show their last. Defaults to the latest step.
        live (`bool`, *optional*, defaults to `False`): whether the job is still running.
    """
    if not runs:
        return EMPTY
    steps = last_step(runs)
    panels = "".join(_panel(run, steps, run.steps if step is None else min(step, run.steps), live) for run in runs)
    kind = "runs alone" if len(runs) == 1 else "runs"
    return f'<div class="{kind}">{panels}</div>{_legend(steps)}'


def last_step(runs: Sequence[Run]) -> int:
    """The last step of the colour scale and axis, shared by all runs so that a step looks the same in each."""
    return max(1, *(max(run.planned or 0, run.steps) for run in runs))


def _panel(run: Run, steps: int, step: int, live: bool) -> str:
    name = f"<h3>{escape(run.decode_type)}</h3>"
    if run.recording is None or run.pieces is None or not run.recording.frames:
        waiting = "comes next" if live else "not begun"
        return f'<section class="run"><div class="head">{name}</div><div class="canvas hint">{waiting}</div></section>'
    frames = run.recording.frames
    text = canvas(frames[step], step, steps, run.pieces)
    return (
        f'<section class="run"><div class="head">{name}<p class="at">{_place(run, step, live)}</p></div>'
        f'<div class="canvas" role="group" aria-label="canvas of {escape(run.decode_type)}">{text}</div>'
        f"{plot(frames[run.steps], steps, step)}{_summary(run)}</section>"
    )


def _place(run: Run, step: int, live: bool) -> str:
    of = run.planned if live and run.planned else run.steps
    return f"after step {step}" + (f" of {of}" if of and not (live and not run.planned) else "")


def _summary(run: Run) -> str:
    """The cost of a run; empty for a stopped run, which has only steps."""
    if run.answer is None:
        return ""
    tokens, forwards, seconds = len(run.answer.ids), run.answer.forwards, run.answer.seconds
    figures = (
        (f"{tokens}", "tokens"),
        (f"{forwards}", "forwards"),
        (f"{tokens / max(forwards, 1):.2f}", "tokens per forward"),
        (f"{seconds:.1f}", "seconds"),
    )
    costs = "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for value, what in figures)
    return f"{_verdict(run)}<dl>{costs}</dl>"


def _verdict(run: Run) -> str:
    """For a generated problem: right or wrong, and whether each equation holds."""
    if run.problem is None or run.verdict is None:
        return ""
    kind = "right" if run.verdict.right else "wrong"
    marks = "".join(
        f'<li class="{"right" if one.right else "wrong"}">{escape(one.text)} {"✓" if one.right else "✗"}</li>'
        for one in run.verdict.equations
    )
    sentence = escape(run.verdict.in_words(run.problem.answer))
    return f'<p class="verdict {kind}">{sentence}</p>' + (f'<ul class="equations">{marks}</ul>' if marks else "")


def _legend(steps: int) -> str:
    gradient = f"background:linear-gradient(to right,{','.join(RAMP)})"
    return (
        f'<p class="legend"><span>unmasked in step 1<i style="{gradient}"></i>{steps}</span>'
        "<span>· masked: hover to see the guess</span><span>∎ end of the text, ○ after it</span>"
        "<span>↵ line break</span></p>"
    )
