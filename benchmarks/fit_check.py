"""What `conv-dlm fit` counts, held against measured peaks.

    python -m benchmarks.fit_check --results benchmarks/results/fit_check_cpu.json
    python -m benchmarks.fit_check --device cuda --results outputs/fit_check_cuda.json

Of `generate` with decode type topk, whose first step projects every new position: the most that a step can take. The
count is `conv_dlm.cost.counting`'s. The measurement is the peak of a real run, in a process of its own, over what was
there before it: of the resident set on a CPU, which has what its libraries take as well, of PyTorch's allocator on a
GPU. Both are without the weights, whose size is known; `weights` says whether what is loaded has it. Weights are random
but for their shape, which memory doesn't depend on.
"""

import argparse
import multiprocessing
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from conv_dlm.cost.counting import GenerationMemory, GenerationStep
from conv_dlm.cost.meters import PeakMemory
from conv_dlm.cost.shapes import SHAPES, shape_config
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json

LENGTHS, BATCH_SIZES, PROMPT = (192, 512), (1, 4), 64
# what is measured where, and in which dtype: that in which it would be used there
ON_CPU = {"mdlm-small": "float32"}
ON_GPU = {"embedded": "bfloat16", "mdlm-small": "bfloat16", "llada-8b": "bfloat16"}


def make_model(config: PretrainedConfig, dtype: str, device: str) -> Any:
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def measure(config: PretrainedConfig, asked: GenerationStep, storage: str) -> dict[str, float]:
    """Bytes that the weights take, and the peak of a run over them, in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # glibc: a tensor's memory goes back when the tensor does
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (config, asked, storage))


def _measure(config: PretrainedConfig, asked: GenerationStep, storage: str) -> dict[str, float]:
    torch.set_num_threads(1)
    device = torch.device(asked.device_type)
    model = make_model(config, storage, asked.device_type)
    generate(model, replace(asked, rows=1, prompt_tokens=2, new_tokens=2))  # what libraries take at their first call
    weights = sum(parameter.nbytes for parameter in model.parameters())
    peak = PeakMemory(device)
    generate(model, asked)
    return {"weights": weights, "peak": peak.in_mb() * 1e6}


def generate(model: Any, asked: GenerationStep) -> None:
    """Two steps that draw from the 4 best tokens of all new positions."""
    text = [id for id in range(8) if id not in (model.config.mask_token_id, model.config.pad_token_id)]
    prompt = torch.full((asked.rows, asked.prompt_tokens), text[0], device=asked.device_type)
    mask = torch.ones_like(prompt)
    mask[1:, 0] = 0  # a batch is padded
    options: dict[str, Any] = {"guidance_scale": 1.5} if asked.guided else {}
    model.generate(
        prompt, attention_mask=mask, decode_type="topk", steps=2, top_k=4, max_new_tokens=asked.new_tokens,
        eos_token_id=None, generator=torch.Generator().manual_seed(0), **options,
    )  # fmt: skip


def check(config: PretrainedConfig, asked: GenerationStep, storage: str) -> dict[str, Any]:
    """Count and measurement side by side."""
    memory = GenerationMemory(make_model(config, storage, "meta"), storage)
    measured = measure(config, asked, storage)
    counted = memory.activations(asked)
    return {
        "storage": storage,
        "asked": asdict(asked),
        "weights": {"count": memory.weights, "measured": measured["weights"]},
        "activations": {"count": counted, "measured": measured["peak"]},
        "count_over_measured": counted / measured["peak"],
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu", help="where to measure")
    add("--shapes", nargs="+", choices=list(SHAPES), help="default: mdlm-small; all of them on a GPU")
    add("--dtype", help="of weights and activations; default: float32 on a CPU, else bfloat16")
    add("--lengths", nargs="+", type=int, default=list(LENGTHS), help="new tokens")
    add("--batch-sizes", nargs="+", type=int, default=list(BATCH_SIZES))
    add("--prompt", type=int, default=PROMPT)
    add("--results", type=Path, default=Path("outputs/fit_check.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    device_type = torch.device(args.device).type
    dtypes = ON_CPU if device_type == "cpu" else ON_GPU
    run = describe_run("python -m benchmarks.fit_check", args.device)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in args.shapes or dtypes:
        for new_tokens in args.lengths:
            for batch in args.batch_sizes:
                asked = GenerationStep(batch, args.prompt, new_tokens, device_type=device_type)
                storage = args.dtype or dtypes.get(name, "float32")
                row: dict[str, Any] = {"shape": name} | check(shape_config(name), asked, storage)
                sizes = " ".join(f"{part} {size / 1e6:.1f} MB" for part, size in row["activations"].items())
                ratio = row["count_over_measured"]
                print(f"{name} {storage} L {new_tokens} batch {batch}: {sizes}, {ratio:.3f}", flush=True)
                rows.append(row)
                write_json(args.results, run | {"cases": rows})


if __name__ == "__main__":
    main()
