"""What a step costs against the length of the canvas, at a fixed window: without a cache, with one, with a lookahead.

    python -m benchmarks.cost_by_length --results benchmarks/results/cost_by_length.json

A model of 111 M parameters with random weights denoises canvases of different length in blocks, most confident first,
one token a step. Every setting predicts the block alone; without a cache it computes the whole canvas for that, with
the window cache the block and its surroundings, and what its queries still see grows with the canvas unless a lookahead
ends it. Steps are timed from forward to forward, over one cycle of the cache from one full forward to the next, after a
first one that doesn't count: the median is what most steps cost, the mean has the full forward in it. Nothing is
decided behind the first block, so that a point takes seconds, or a minute at the longest.

Beside the results come the same as a plot, of the same name with .png.
"""

import argparse
import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.plot_style import (
    FONT_SIZE,
    add_legend,
    finish,
    log2_axis,
    new_panels,
    plain_log_axis,
    save,
    style,
)
from conv_dlm.cost.meters import ForwardLog
from conv_dlm.cost.shapes import SHAPES
from conv_dlm.cost.subject import random_model
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = ("no cache", "window", "window, lookahead")


class EnoughError(Exception):
    """All steps that were wanted have been made."""


class StepClock:
    """The time at which each forward of a model begins, and an end after so many."""

    def __init__(self, model: Any, forwards: int) -> None:
        self.device, self.forwards, self.times = model.device, forwards, list[float]()
        self._hook = model.register_forward_pre_hook(self._begin)

    def remove(self) -> None:
        self._hook.remove()

    def _begin(self, *_: Any) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.times.append(time.perf_counter())
        if len(self.times) == self.forwards:
            raise EnoughError


def options_of(setting: str, length: int, args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `generate`. With as many steps as tokens, the first block lasts for `args.block` steps."""
    options: dict[str, Any] = {"decode_type": "llada", "block_length": args.block, "steps": length}
    if setting != "no cache":
        options |= {"cache_implementation": "window", "cache_refresh_interval": args.interval}
    if setting == "window, lookahead":
        options["lookahead"] = args.lookahead
    return options | {"max_new_tokens": length}


def measure(model: Any, setting: str, length: int, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the steps of one cycle, and what its forwards computed."""
    prompt = torch.full((1, args.prompt), model.config.vocab_size // 2, device=model.device)
    cycle = args.interval if setting != "no cache" else args.steps
    log, clock = ForwardLog(model), StepClock(model, cycle + 2)
    try:
        with contextlib.suppress(EnoughError):
            model.generate(prompt, attention_mask=torch.ones_like(prompt), **options_of(setting, length, args))
    finally:
        log.remove()
        clock.remove()
    seconds = [after - before for before, after in itertools.pairwise(clock.times)][1:]
    forwards = log.forwards[1 : cycle + 1]
    row: dict[str, Any] = {
        "setting": setting,
        "length": length,
        "median_s": median(seconds),
        "mean_s": mean(seconds),
        "seconds_by_step": seconds,
        "positions": median(forward.positions for forward in forwards),
        "keys": median(forward.keys for forward in forwards),
        "most_positions": max(forward.positions for forward in forwards),
    }
    print(
        f"{setting:<16} L {length:>5}: {1000 * row['median_s']:.0f} ms a step, {1000 * row['mean_s']:.0f} with full "
        f"forwards; {row['positions']:.0f} of {row['keys']:.0f} positions computed",
        flush=True,
    )
    return row


def draw(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Seconds a step against the length: most steps, and the mean with full forwards."""
    figure, panels = new_panels(2, 3.6, 3.0, sharex=True, sharey=True)
    titles = {"median_s": "most steps (median)", "mean_s": "with full forwards (mean)"}
    for axes, (field, title) in zip(panels, titles.items(), strict=True):
        log2_axis(axes, sorted({row["length"] for row in rows}))
        for place, setting in enumerate(SETTINGS):
            line = [row for row in rows if row["setting"] == setting]
            if not line:
                continue
            axes.plot([row["length"] for row in line], [row[field] for row in line], label=setting, **style(place))
        axes.set_title(title, fontsize=FONT_SIZE)
    plain_log_axis(panels[0], "y")
    figure.supxlabel("length of the response, tokens", fontsize=FONT_SIZE)
    figure.supylabel("seconds a step", fontsize=FONT_SIZE)
    add_legend(figure, columns=3)
    return finish(figure)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    add("--shape", default="llada-110m", choices=list(SHAPES))
    add("--device", default="cpu")
    add("--dtype", default="auto", help="of the weights; float32 on a CPU, bfloat16 elsewhere by default")
    add("--lengths", nargs="+", type=int, default=[256, 512, 1024, 2048, 4096])
    add("--prompt", type=int, default=64)
    add("--block", type=int, default=32, help="positions of a block, more than --interval")
    add("--interval", type=int, default=16, help="of full forwards with the cache")
    add("--lookahead", type=int, default=128)
    add("--steps", type=int, default=5, help="that are timed without a cache")
    add("--results", type=Path, default=Path("outputs/cost_by_length.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.block < max(args.interval, args.steps) + 2:
        parser.error(f"--block {args.block} must be at least 2 more than --interval and --steps: one block is timed")
    model = random_model(args.shape, args.device, args.dtype, None)
    model.config.max_position_embeddings = max(args.lengths) + args.prompt
    settings = {name: value for name, value in vars(args).items() if name != "results"} | {"clock": "wall"}
    settings["dtype"] = str(model.dtype).removeprefix("torch.")
    run = describe_run("python -m benchmarks.cost_by_length", args.device) | {"settings": settings}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for length in args.lengths:
        for setting in args.settings:
            rows.append(measure(model, setting, length, args))
            write_json(args.results, run | {"rows": rows})
    save(draw(rows), args.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
