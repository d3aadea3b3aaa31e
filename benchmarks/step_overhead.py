"""What the loop itself costs, outside the model, against the textbook loops; and its memory.

    python -m benchmarks.step_overhead --results benchmarks/results/step_overhead_cpu.json

Two models with LLaDA-8B's vocabulary: a stub that looks its logits up in a table, and a real LLaDA with 2 layers of
width 512 and random weights. The time inside their forwards is taken off, so that the loop's own time remains; on the
real model both are shown, because our loop projects only its window to the vocabulary. Runs of the two sides alternate,
and medians are shown. On a CPU the clock is the process's CPU time (equal to wall time on one idle thread), so that
neighbours on the machine don't count. Memory is measured in a process of its own for each case: the peak of the
resident set over what was there before the run.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from conv_dlm.cost.baselines import conv_loop, llada_loop
from conv_dlm.cost.meters import PeakMemory, Stopwatch
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.models import LLaDAConfig, LLaDAModelLM
from conv_dlm.utils.environment import describe_run

VOCABULARY = 126464  # LLaDA-8B's
MASK_FROM_END = 128  # its mask is 126336
KERNEL, BLOCK = 128, 64
Loop = Callable[[Any, Tensor, argparse.Namespace], object]


class StubLM(PreTrainedModel, DiffusionGenerationMixin):  # type: ignore[misc]
    """A model whose logits come from a table, by position: fresh memory in each forward, next to no arithmetic."""

    config_class = LLaDAConfig
    supports_window_logits = True

    def __init__(self, config: LLaDAConfig, dtype: torch.dtype, rows: int = 64) -> None:
        super().__init__(config)
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(rows, config.vocab_size, generator=generator) * 3
        self.table = torch.nn.Parameter(table.to(dtype), requires_grad=False)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, logits_to_keep: int | Tensor = 0
    ) -> CausalLMOutput:
        """Logits [B, W, V] at the positions `logits_to_keep` [B, W]; at all of `input_ids` [B, L] for 0."""
        if isinstance(logits_to_keep, int):
            position = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        else:
            position = logits_to_keep
        return CausalLMOutput(logits=self.table[position % len(self.table)])


def _generate(**settings: Any) -> Loop:
    def loop(model: Any, prompt: Tensor, args: argparse.Namespace) -> object:
        generator = torch.Generator().manual_seed(0)
        mask = torch.ones_like(prompt)
        sizes = {"steps": args.steps, "max_new_tokens": args.new_tokens}
        return model.generate(prompt, attention_mask=mask, generator=generator, **sizes, **settings)

    return loop


def _textbook(function: Callable[..., Tensor], **settings: Any) -> Loop:
    @torch.no_grad()
    def loop(model: Any, prompt: Tensor, args: argparse.Namespace) -> object:
        torch.manual_seed(0)
        sizes = {"steps": args.steps, "new_tokens": args.new_tokens}
        mask = args.vocabulary - MASK_FROM_END
        return function(lambda ids: model(input_ids=ids).logits, prompt, mask, **sizes, **settings)

    return loop


# case -> (ours, the textbook's)
CASES: dict[str, tuple[Loop, Loop]] = {
    "conv": (
        _generate(decode_type="conv", kernel_size=KERNEL, top_k=1),
        _textbook(conv_loop, kernel_size=KERNEL, top_k=1),
    ),
    "llada": (
        _generate(decode_type="llada", block_length=BLOCK),
        _textbook(llada_loop, block_length=BLOCK),
    ),
    "llada, temperature 1": (
        _generate(decode_type="llada", block_length=BLOCK, temperature=1.0),
        _textbook(llada_loop, block_length=BLOCK, temperature=1.0),
    ),
}


def make_model(kind: str, args: argparse.Namespace) -> Any:
    """The stub, or the small LLaDA with random weights."""
    config = LLaDAConfig(
        d_model=args.width, n_layers=2, n_heads=8, n_kv_heads=8, mlp_hidden_size=3 * args.width,
        max_sequence_length=4096, vocab_size=args.vocabulary, embedding_size=args.vocabulary,
        mask_token_id=args.vocabulary - MASK_FROM_END, eos_token_id=None, pad_token_id=0, weight_tying=False,
    )  # fmt: skip
    dtype = getattr(torch, args.dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = StubLM(config, dtype) if kind == "stub" else LLaDAModelLM(config).to(dtype)
    return model.to(args.device).eval()


def make_prompt(batch: int, args: argparse.Namespace) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, args.vocabulary - MASK_FROM_END, (batch, args.prompt), generator=generator).to(args.device)


def measure_time(kind: str, batch: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """For each case the medians over `args.repeats` of both sides, run in turns after one short warm-up each."""
    model, prompt = make_model(kind, args), make_prompt(batch, args)
    watch = Stopwatch(model, torch.device(args.device))
    results = []
    for case in args.cases:
        sides = dict(zip(("ours", "textbook"), CASES[case], strict=True))
        short = argparse.Namespace(**vars(args) | {"steps": max(1, args.new_tokens // BLOCK)})
        for loop in sides.values():
            loop(model, prompt, short)
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(args.repeats):
            for side, loop in sides.items():
                runs[side].append(watch.run(lambda loop=loop: loop(model, prompt, args)))  # type: ignore[misc]
        row: dict[str, Any] = {"model": kind, "case": case, "batch": batch}
        for side, times in runs.items():
            middle = {name: median(run[name] for run in times) for name in times[0]}
            row[side] = middle | {"loop_ms_per_step": 1000 * middle["loop_s"] / args.steps}
        for name, part in (("loop_factor", "loop_s"), ("model_factor", "model_s"), ("total_factor", "total_s")):
            row[name] = row["textbook"][part] / row["ours"][part]
        print(_line(row), flush=True)
        results.append(row)
    return results


def measure_memory(case: str, side: int, batch: int, args: argparse.Namespace) -> float:
    """Peak memory in MB of a run on the small LLaDA above what weights and libraries take, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (case, side, batch, args))


def _peak_memory(case: str, side: int, batch: int, args: argparse.Namespace) -> float:
    torch.set_num_threads(args.threads)
    model, prompt = make_model("small", args), make_prompt(batch, args)
    with torch.no_grad():
        model(input_ids=prompt[:1, :2])  # what libraries take at their first call
    peak = PeakMemory(torch.device(args.device))
    CASES[case][side](model, prompt, args)
    return peak.in_mb()


def _line(row: dict[str, Any]) -> str:
    loop, whole = ([row[side][name] for side in ("ours", "textbook")] for name in ("loop_ms_per_step", "total_s"))
    return (
        f"{row['model']:>5} {row['case']:<20} batch {row['batch']}: "
        f"loop {loop[0]:.2f} ms a step, textbook {loop[1]:.2f} ({row['loop_factor']:.1f}x); "
        f"model {row['model_factor']:.1f}x; whole {whole[0]:.2f} s, {whole[1]:.2f} s ({row['total_factor']:.1f}x)"
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu")
    add("--dtype", default="float32", help="of weights and logits")
    add("--threads", type=int, default=1)
    add("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    add("--models", nargs="+", default=["stub", "small"], choices=["stub", "small"])
    add("--batch-sizes", nargs="+", type=int, default=[1, 4])
    add("--prompt", type=int, default=64)
    add("--new-tokens", type=int, default=192)
    add("--steps", type=int, default=12)
    add("--repeats", type=int, default=3)
    add("--vocabulary", type=int, default=VOCABULARY)
    add("--width", type=int, default=512, help="of the small LLaDA")
    add("--no-memory", action="store_true")
    add("--results", type=Path, default=Path("outputs/step_overhead.json"))
    return parser


def add_memory(row: dict[str, Any], args: argparse.Namespace) -> None:
    """Put the peaks of both sides into a row of `measure_time`."""
    for side, name in enumerate(("ours", "textbook")):
        row[name]["peak_mb"] = measure_memory(row["case"], side, row["batch"], args)
    row["memory_factor"] = row["textbook"]["peak_mb"] / row["ours"]["peak_mb"]
    peaks = f"{row['ours']['peak_mb']:.0f} MB, textbook {row['textbook']['peak_mb']:.0f} MB"
    print(f"{row['case']} batch {row['batch']}: peak {peaks} ({row['memory_factor']:.1f}x)", flush=True)


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    settings = {name: value for name, value in vars(args).items() if name != "results"}
    settings |= {
        "kernel_size": KERNEL,
        "block_length": BLOCK,
        "clock": "wall" if torch.device(args.device).type == "cuda" else "CPU time of the process",
    }
    run = describe_run("python -m benchmarks.step_overhead", args.device) | {"settings": settings}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    cases: list[dict[str, Any]] = []
    for batch in args.batch_sizes:
        for kind in args.models:
            rows = measure_time(kind, batch, args)
            if kind == "small" and not args.no_memory:
                for row in rows:
                    add_memory(row, args)
            cases += rows
            args.results.write_text(json.dumps(run | {"cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
