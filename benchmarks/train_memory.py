"""Peak memory of fine-tuning LLaDA with LoRA: a formula, held against a count of all tensors and a measurement.

    python -m benchmarks.train_memory --results benchmarks/results/train_memory.json
    python -m benchmarks.train_memory --device cuda --results outputs/train_memory_cuda.json

With n blocks of width d and inner width F, vocabulary V, T = rows x length tokens, M projected positions, s bytes a
number in activations (2 in bfloat16), a = 3 n 2 d r adapter parameters (rank r on q, k, v), in bytes:

    weights         as stored: 4 or 2 a parameter; in nf4 0.516 for the blocks' matrices, and 2 for the rest
    adapters        4 a x (1 weight + 1 gradient + 2 AdamW), or 2 a x 4 on nf4, where TRL keeps adapters in bfloat16
    checkpoints     n T d s          inputs of blocks, with activation checkpointing
    block           T (d (8 + 7 s + 3 m) + 3 F s) kept in a block for its backward (of all n blocks without
                    checkpointing), and 3 T F s (and the largest matrix out of nf4) while it runs;
                    m = 1, the bytes of a dropout mask on a GPU; 4 on a CPU
    logits          8 M V            float32 logits and their gradient; the loss makes no other tensor of that size,
                    + 34 MB          but two for some rows at a time

    peak            weights + adapters + checkpoints + the larger of block and logits
                    (without checkpointing: + what all blocks keep + the larger of logits and 3 T F s)

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

from benchmarks.live_memory import LiveMemory, fake_parameters
from benchmarks.step_overhead import PeakMemory
from conv_dlm.evaluation.environment import describe_run
from conv_dlm.models import LLaDAConfig, LLaDAModelLM
from trainers.losses import token_log_probs

CHUNK = 2**22  # logits that the loss puts through its softmax at a time
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a parameter: 4 bits; a byte for 64 of them; a float32 for 256 of those


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
    rank: int = 64
    length: int = 1024
    rows: int = 1
    projected: int = 1024
    weights: str = "bfloat16"
    checkpointing: bool = True
    mask_bytes: int = 1

    @property
    def adapters(self) -> int:
        return 3 * 2 * self.width * self.rank * self.layers

    @property
    def number_bytes(self) -> int:
        return 4 if self.weights == "float32" else 2


def estimate(case: Case) -> dict[str, float]:
    """The formula above: bytes by part, and their peak."""
    d, n, f, s = case.width, case.layers, case.inner, case.number_bytes
    tokens, matrices = case.rows * case.length, n * (4 * d * d + 3 * d * f)
    rest = 2 * case.vocabulary * d + (2 * n + 1) * d
    weights = matrices * (NF4 if case.weights == "nf4" else s) + rest * s
    kept = tokens * (d * (8 + 7 * s + 3 * case.mask_bytes) + 3 * f * s)
    passing = 3 * tokens * f * s + (d * f * s if case.weights == "nf4" else 0)
    parts = {
        "weights": weights,
        "adapters": 4 * case.adapters * (2 if case.weights == "nf4" else 4),
        "checkpoints": n * tokens * d * s if case.checkpointing else 0,
        "blocks": kept + passing if case.checkpointing else n * kept + passing,
        "logits": 8 * (case.projected * case.vocabulary + min(case.projected * case.vocabulary, CHUNK)),
    }
    fixed = parts["weights"] + parts["adapters"] + parts["checkpoints"]
    if case.checkpointing:
        return parts | {"peak": fixed + max(parts["blocks"], parts["logits"])}
    return parts | {"peak": fixed + n * kept + max(passing, parts["logits"])}


def make_model(case: Case, device: torch.device | str) -> Any:
    """LLaDA with adapters, as the recipes have them, in training."""
    config = LLaDAConfig(
        d_model=case.width, n_layers=case.layers, n_heads=case.width // 128, n_kv_heads=case.width // 128,
        mlp_hidden_size=case.inner, vocab_size=case.vocabulary, embedding_size=case.vocabulary, mask_token_id=3,
        eos_token_id=2, pad_token_id=2, weight_tying=False,
    )  # fmt: skip
    dtype = torch.float32 if case.weights == "float32" else torch.bfloat16
    with torch.device(device):
        model = LLaDAModelLM._from_config(config, dtype=dtype)
    targets = ["q_proj", "k_proj", "v_proj"]
    lora = LoraConfig(r=case.rank, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    if case.checkpointing:
        model.enable_input_require_grads()
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def train_step(model: Any, optimizer: torch.optim.Optimizer, case: Case) -> None:
    """Forward, loss, backward and update, with the dtypes of mixed precision as Accelerate has them."""
    device = next(model.parameters()).device
    ids_BL = torch.zeros(case.rows, case.length, dtype=torch.long, device=device)
    kept_M = torch.arange(case.projected // case.rows, device=device)
    mixed = torch.autocast(device.type, torch.bfloat16) if case.weights != "float32" else nullcontext()
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


def count(case: Case) -> int:
    """Peak bytes of a step that adds to the gradients of one before it, counted on fake tensors of a CPU."""
    model, mode = make_model(case, "meta"), FakeTensorMode()
    fake_parameters(model, mode)
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    with mode, LiveMemory(model) as memory:
        train_step(model, optimizer, replace(case, rows=1, length=8, projected=1))
        memory.peak = memory.now
        train_step(model, optimizer, case)
        return memory.peak


def measure(case: Case, device: str) -> float:
    """The same as `count`, measured, in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # glibc: a tensor's memory goes back when the tensor does
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (case, device))


def _measure(case: Case, device: str) -> float:
    torch.set_num_threads(1)
    model = make_model(case, device)
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    train_step(model, optimizer, replace(case, rows=1, length=8, projected=1))
    taken = sum(parameter.nbytes for parameter in model.parameters())
    taken += sum(3 * parameter.nbytes for parameter in adapters_of(model))
    peak = PeakMemory(torch.device(device))
    train_step(model, optimizer, case)
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
            row["count"] = count(on_cpu)
            row["estimate_over_count"] = estimate(on_cpu)["peak"] / row["count"]
        if not args.no_measurement and case.weights == ("bfloat16" if gpu else "float32"):
            row["measured"] = measure(case, args.device)
            row["estimate_over_measured"] = row["estimate"]["peak"] / row["measured"]
        print({key: row[key] for key in row if key not in ("case", "estimate")}, flush=True)
        rows.append(row)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    run = describe_run("python -m benchmarks.train_memory", args.device) | {"cases": rows}
    args.results.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    print(table([row for row in rows if row["name"] in LLADA_8B]))


if __name__ == "__main__":
    main()
