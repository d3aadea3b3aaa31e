"""The page, in Gradio: its inputs and events."""

import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

from conv_dlm.demo.job import JobQueue, Run
from conv_dlm.demo.order import NO_SECOND, Order
from conv_dlm.demo.view import EMPTY, INTRODUCTION, last_step, message, view
from conv_dlm.demo.visits import Look, Visits
from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES
from conv_dlm.word_problems import Problem, problem

try:
    import gradio as gr
    from gradio.components import Component
except ImportError as error:
    raise ImportError("The page needs Gradio: `pip install conv-dlm[demo]`.") from error

PROMPTS = {
    "Anna's pages": "Anna reads 10 pages a day. How many pages does she read in 2 weeks?",
    "Tom's pencils": "Tom has 3 boxes with 12 pencils each. He gives away 6 pencils. How many are left?",
    "shirts and a hat": "A shirt costs $20 and a hat costs half as much. How much do 2 shirts and a hat cost?",
}
LEVELS = (1, 3)  # of new problems
KEPT = 3600  # seconds for which a visitor's last run can be replayed
# Nothing from other hosts, no history of prompts in the browser, no API pages; runs of the last 100 visitors are kept.
LAUNCH: dict[str, Any] = {
    "share": False,
    "css_paths": Path(__file__).with_name("style.css"),
    "footer_links": ["gradio"],
    "run_history": False,
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "state_session_capacity": 100,
}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def serve(models: Sequence[str], host: str | None = None, port: int | None = None) -> None:
    """Serve the page until Ctrl-C.

    Args:
        models (sequence of `str`): names to choose from; the first is preselected.
        host (`str`), port (`int`) (*optional*): where to listen. Default to Gradio's environment variables.

    Raises:
        ValueError: the address can't be used.
    """
    if host is not None and port is not None:
        port = usable(host, port)
    jobs = JobQueue(models)
    try:
        build(jobs).launch(server_name=host, server_port=port, theme=theme(), **LAUNCH)
    except OSError as error:
        raise ValueError(f"`--host`={host} and `--port`={port} can't be used: {error}") from error
    finally:
        jobs.close()


def usable(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ValueError if nothing can listen there."""
    if not host:  # which the system takes for all interfaces
        raise ValueError("`--host` is empty; give an address, 127.0.0.1 for this machine or 0.0.0.0 for all networks.")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            return int(listener.getsockname()[1])
    except (OSError, OverflowError, UnicodeError, TypeError) as error:
        raise ValueError(f"`--host`={host} and `--port`={port} can't be used: {error}") from error


def theme() -> gr.themes.Base:
    """Gradio's plain theme, in a font that Gradio serves itself."""
    # In the weights whose files have all letters: the one of 600 has no Latin ones in Gradio 6.31.
    font: list[gr.themes.Font | str] = [gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "sans-serif"]
    plain = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=font)
    # darker than the theme's own, so that they are legible on white and white is legible on them
    return plain.set(
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
    )


class Outcome(NamedTuple):
    """The parts of the page that a run changes."""

    note: gr.HTML
    begin: gr.Button
    stop: gr.Button
    slider: gr.Slider
    shown: gr.HTML
    kept: gr.State


def build(jobs: JobQueue) -> gr.Blocks:
    """Build the page for the models of a queue."""
    visits = Visits(jobs)
    with gr.Blocks(title="conv-dlm", analytics_enabled=False) as page:
        gr.HTML(INTRODUCTION, elem_id="introduction", apply_default_css=False)
        examples = list(PROMPTS.values())
        prompt = gr.Textbox(examples[0], label="Prompt", lines=2, max_lines=8, elem_id="prompt")
        gr.Examples([[text] for text in examples], prompt, label="Examples", example_labels=list(PROMPTS))
        settings = _settings(jobs.names)
        form = gr.Textbox(
            label="Form: a JSON schema or a regular expression that the answer has to have; empty for any text",
            lines=1, max_lines=8, elem_id="form",
        )  # fmt: skip
        number = gr.State(None)  # of the generated problem that the prompt was taken from
        with gr.Row(elem_id="buttons"):
            begin = gr.Button("Denoise", variant="primary", min_width=140, elem_id="begin")
            stop = gr.Button("Stop", interactive=False, min_width=140, elem_id="stop")
            new = gr.Button("New problem", min_width=140, elem_id="new")
        outcome = Outcome(
            note=gr.HTML(elem_id="note", apply_default_css=False),
            begin=begin,
            stop=stop,
            slider=gr.Slider(
                0, 1, step=1, precision=0, label="Replay: after step", visible=False, buttons=[], elem_id="replay"
            ),
            shown=gr.HTML(EMPTY, elem_id="shown", apply_default_css=False),
            kept=gr.State([], time_to_live=KEPT),
        )

        async def denoise(request: gr.Request, *values: Any) -> AsyncIterator[dict[Any, Any]]:
            try:
                order = _order(*values)
            except ValueError as error:
                yield _changes(outcome, Look(None, str(error), problem=True))
                return
            async with aclosing(visits.watch(str(request.session_hash), order)) as looks:  # of who leaves, too
                async for look in looks:
                    yield _changes(outcome, look)

        def leave(request: gr.Request) -> None:
            visits.stop(str(request.session_hash))

        gr.on(
            [begin.click, prompt.submit],
            denoise,
            [number, form, prompt, *settings],
            list(outcome),
            concurrency_limit=None,  # they wait in the queue of jobs
            show_progress="hidden",
            api_visibility="private",
        )
        stop.click(leave, None, None, **QUICK)
        new.click(new_problem, None, [number, prompt], **QUICK)
        outcome.slider.input(replay, [outcome.kept, outcome.slider], outcome.shown, **QUICK, trigger_mode="always_last")
    return page


def _settings(models: Sequence[str]) -> list[Component]:
    """The inputs: model, both decode types, steps, size, length and seed."""
    with gr.Row(elem_id="settings"):
        model = gr.Dropdown(list(models), value=models[0], label="Model", visible=len(models) > 1)
        types = [name for name, kind in DECODE_TYPES.items() if UNMASKING_RULES[kind.rule].is_alone()]
        first = gr.Dropdown(types, value="conv", label="Decode type", min_width=150)
        second = gr.Dropdown([NO_SECOND, *types], value=NO_SECOND, label="Beside it", min_width=150)
        steps, size, length, seed = (
            gr.Number(value, label=label, min_width=90, elem_id=label.lower())
            for label, value in (("Steps", 40), ("Kernel", 32), ("Canvas", 64), ("Seed", 0))
        )
    gr.on([first.change, second.change], what_matters, [first, second], [steps, size], **QUICK)
    return [model, first, second, steps, size, length, seed]


def new_problem() -> tuple[int, str]:
    """A random test problem of the generator: its number and its question."""
    number = secrets.randbelow(10**6)
    return number, _problem(number).question


def _problem(number: int) -> Problem:
    return problem(0, number, split="test", levels=LEVELS)


def _order(
    number: int | None, form: str | None, prompt: str | None, model: str, first: str, second: str, *numbers: Any
) -> Order:
    form, prompt = form or "", prompt or ""  # an emptied field may be None
    asked = None if number is None else _problem(number)
    if asked is not None and asked.question != str(prompt).strip():  # another was typed since
        asked = None
    steps, size, length, seed = numbers
    types = (first,) if second == NO_SECOND else (first, second)
    return Order(prompt, model, types, steps, size, length, seed, asked, form)


def _changes(outcome: Outcome, look: Look) -> dict[Any, Any]:
    """The changes to the page for a look at a job."""
    changes: dict[Any, Any] = {
        outcome.note: message(look.note, look.problem),
        outcome.begin: gr.update(interactive=not look.live),
        outcome.stop: gr.update(interactive=look.live),
    }
    if look.runs is None:
        return changes
    last = max((run.steps for run in look.runs), default=0)
    most = last_step(look.runs) if look.live else max(last, 1)
    changes[outcome.shown] = view(look.runs, live=look.live)
    changes[outcome.slider] = gr.update(maximum=most, value=last, visible=bool(look.runs), interactive=not look.live)
    if not look.live:
        changes[outcome.kept] = look.runs
    return changes


def replay(runs: list[Run], step: int) -> str:
    """Draw a visitor's last runs after a given step."""
    return view(runs, step)


def what_matters(first: str, second: str) -> tuple[Any, Any]:
    """Enable steps and size if one of the decode types has them."""
    fields = frozenset().union(*(DECODE_TYPES.find(name).fields for name in (first, second) if name != NO_SECOND))
    names = [label for label, field in (("Kernel", "kernel_size"), ("Block", "block_length")) if field in fields]
    size = gr.update(label=" and ".join(names) or "Kernel", interactive=bool(names))
    return gr.update(interactive="steps" in fields), size
