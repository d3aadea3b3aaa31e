"""Peak memory of fine-tuning LLaDA with LoRA: a formula, held against a count of all tensors and a measurement.

    python -m benchmarks.train_memory --results benchmarks/results/train_memory.json
    python -m benchmarks.train_memory --device cuda --results outputs/train_memory_cuda.json

The formula is `conv_dlm.cost.training`'s, which explains each part, and which `conv-dlm fit` uses too.

The count runs the training step on fake tensors, without numbers, and adds up what is alive, as on a CPU (m = 4); it is
exact but for what a GPU's allocator and kernels take on top. The measurement (a small model on a CPU, LLaDA-8B on a
GPU) has those too.
"""

import argparse
import json
import multiprocessing
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig

from benchmarks.live_memory import LiveMemory, fake_parameters
from conv_dlm.cost import training
from conv_dlm.cost.meters import PeakMemory
from conv_dlm.cost.sizes import Parameters, Shape
from conv_dlm.cost.training import DEFAULT_RANK, TrainingStep
from conv_dlm.models import LLaDAConfig
from conv_dlm.utils.environment import describe_run
from trainers.adapters import DEFAULT_TARGETS
from trainers.losses import token_log_probs


@dataclass(frozen=True)
class Case:
    """A training step.

    Attributes:
        width, layers, inner, vocabulary, rank: d, n, F, V and r; those of LLaDA-8B and the paper.
        length, rows: T is their product.
        projected: M, positions projected to the vocabulary.
        weights: how the base model is stored: "float32", "bfloat16", "nf4".
        checkpointing: activation checkpointing.
        mask_bytes: m.
    """

    width: int = 4096
    layers: int = 32
    inner: int = 12288
    vocabulary: int = 126464
    rank: int = DEFAULT_RANK
    length: int = 1024
    rows: int = 1
    projected: int = 1024
    weights: str = "bfloat16"
    checkpointing: bool = True
    mask_bytes: int = 1

    @property
    def config(self) -> LLaDAConfig:
        heads = self.width // 128
        return LLaDAConfig(
            d_model=self.width, n_layers=self.layers, n_heads=heads, n_kv_heads=heads, mlp_hidden_size=self.inner,
            vocab_size=self.vocabulary, embedding_size=self.vocabulary, mask_token_id=3, eos_token_id=2,
            pad_token_id=2, weight_tying=False,
        )  # fmt: skip

    @property
    def step(self) -> TrainingStep:
        return TrainingStep(
            rows=self.rows, length=self.length, projected=self.projected, rank=self.rank, storage=self.weights,
            checkpointing=self.checkpointing, mask_bytes=self.mask_bytes,
        )  # fmt: skip


def estimate(case: Case) -> dict[str, float]:
    """The formula: bytes by part, and their peak."""
    return training.estimate(Shape.of(case.config), Parameters.of(bare_model(case.config)), case.step)


def bare_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32, device: str = "meta") -> Any:
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def make_model(config: PretrainedConfig, step: TrainingStep, device: str) -> Any:
    """A model with adapters, as the recipes have them, in training."""
    model = bare_model(config, torch.float32 if step.storage == "float32" else torch.bfloat16, device)
    targets = DEFAULT_TARGETS[config.model_type]
    lora = LoraConfig(r=step.rank, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    if step.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def train_step(model: Any, optimizer: torch.optim.Optimizer, step: TrainingStep) -> None:
    """Forward, loss, backward and update, with the dtypes of mixed precision as Accelerate has them."""
    device = next(model.parameters()).device
    ids_BL = torch.zeros(step.rows, step.length, dtype=torch.long, device=device)
    kept_M = torch.arange(step.projected // step.rows, device=device)
    mixed = torch.autocast(device.type, torch.bfloat16) if step.storage != "float32" else nullcontext()
    with mixed:
        logits = model(input_ids=ids_BL, logits_to_keep=kept_M, use_cache=False).logits.flatten(0, 1)
    logits = logits.float()
    targets_M1 = torch.zeros(len(logits), 1, dtype=torch.long, device=device)
    loss = -token_log_probs(logits, targets_M1, 3).sum()
    del logits
    loss.backward()
    optimizer.step()


def adapters_of(model: Any) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def count(config: PretrainedConfig, step: TrainingStep) -> int:
    """Peak bytes of a step that adds to the gradients of one before it, counted on fake tensors of a CPU."""
    model, mode = make_model(config, step, "meta"), FakeTensorMode()
    fake_parameters(model, mode)
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    with mode, LiveMemory(model) as memory:
        train_step(model, optimizer, replace(step, rows=1, length=8, projected=1))
        memory.peak = memory.now
        train_step(model, optimizer, step)
        return memory.peak


def measure(config: PretrainedConfig, step: TrainingStep, device: str) -> float:
    """The same as `count`, measured, in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # glibc: a tensor's memory goes back when the tensor does
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (config, step, device))


def _measure(config: PretrainedConfig, step: TrainingStep, device: str) -> float:
    torch.set_num_threads(1)
    model = make_model(config, step, device)
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    train_step(model, optimizer, replace(step, rows=1, length=8, projected=1))
    taken = sum(parameter.nbytes for parameter in model.parameters())
    taken += sum(3 * parameter.nbytes for parameter in adapters_of(model))
    peak = PeakMemory(torch.device(device))
    train_step(model, optimizer, step)
    return taken + peak.in_mb() * 1e6


LLADA_8B = {
    "LoRA": Case(),
    "LoRA, half of the positions": Case(projected=512),
    "LoRA, no checkpointing": Case(checkpointing=False),
    "QLoRA": Case(weights="nf4"),
    "QLoRA, half of the positions": Case(weights="nf4", projected=512),
    "QLoRA, no checkpointing": Case(weights="nf4", checkpointing=False),
}
_NARROW = Case(width=512, layers=8, inner=1536, rank=8, length=2048, projected=64, weights="float32", mask_bytes=4)
SMALL = {
    "narrow, no checkpointing": replace(_NARROW, vocabulary=4096, checkpointing=False),
    "narrow, many logits": replace(_NARROW, projected=1024, length=1024),
}


def table(rows: list[dict[str, Any]]) -> str:
    """The estimates as a Markdown table, in GB."""
    parts = ["weights", "adapters", "checkpoints", "blocks", "logits", "peak"]
    lines = [f"| | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
    for row in rows:
        values = [f"{row['estimate'][part] / 1e9:.2f}" for part in parts]
        lines.append(f"| {row['name']} | {' | '.join(values)} |")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu", help="where to measure: on a GPU LLaDA-8B, on a CPU small models")
    add("--no-count", action="store_true")
    add("--no-measurement", action="store_true")
    add("--results", type=Path, default=Path("outputs/train_memory.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    gpu = torch.device(args.device).type != "cpu"
    rows: list[dict[str, Any]] = []
    for name, case in (LLADA_8B | SMALL).items():
        row: dict[str, Any] = {"name": name, "case": asdict(case), "estimate": estimate(case)}
        # bitsandbytes has no kernels for fake tensors
        if not args.no_count and case.weights != "nf4":
            on_cpu = replace(case, mask_bytes=4)
            row["count"] = count(on_cpu.config, on_cpu.step)
            row["estimate_over_count"] = estimate(on_cpu)["peak"] / row["count"]
        if not args.no_measurement and case.weights == ("bfloat16" if gpu else "float32"):
            row["measured"] = measure(case.config, case.step, args.device)
            row["estimate_over_measured"] = row["estimate"]["peak"] / row["measured"]
        print({key: row[key] for key in row if key not in ("case", "estimate")}, flush=True)
        rows.append(row)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    run = describe_run("python -m benchmarks.train_memory", args.device) | {"cases": rows}
    args.results.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    print(table([row for row in rows if row["name"] in LLADA_8B]))


if __name__ == "__main__":
    main()
