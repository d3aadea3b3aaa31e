"""Peak memory of fine-tuning with LoRA: what `conv-dlm fit` counts, held against a count of the real loss and measured.

    python -m benchmarks.train_memory --results benchmarks/results/train_memory.json
    python -m benchmarks.train_memory --device cuda --results outputs/train_memory_cuda.json

The count is `conv_dlm.cost.counting`'s, in which a stand-in takes the memory of the trainers' loss. `with_the_loss`
counts the loss itself, in all blocks and with AdamW's update. The measurement (a small model on a CPU, LLaDA-8B on a
GPU) has what libraries and allocators take as well.
"""

import argparse
import multiprocessing
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig

from conv_dlm.cost.counting import DEFAULT_RANK, TrainingMemory, TrainingStep
from conv_dlm.cost.fake_model import fake_parameters
from conv_dlm.cost.live_memory import LiveMemory
from conv_dlm.cost.meters import PeakMemory
from conv_dlm.cost.shapes import shape_config
from conv_dlm.models import LLaDAConfig
from conv_dlm.models.adapter_targets import DEFAULT_TARGETS
from conv_dlm.utils.checkpointing import checkpoint_activations, old_names
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json
from trainers.losses import token_log_probs


@dataclass(frozen=True)
class Case:
    """A training step of a model.

    Attributes:
        config: of the model; LLaDA-8B's if `None`.
        storage: how the base model is stored: "float32", "bfloat16", "nf4".
        rank: of the adapters; the paper's unless told otherwise.
        step: its sizes.
    """

    config: PretrainedConfig | None = None
    storage: str = "bfloat16"
    rank: int = DEFAULT_RANK
    step: TrainingStep = field(default_factory=TrainingStep)

    @property
    def model_config(self) -> PretrainedConfig:
        return self.config or shape_config("llada-8b")


def memory_of(case: Case) -> TrainingMemory:
    targets = DEFAULT_TARGETS[case.model_config.model_type]
    model = bare_model(case.model_config)
    return TrainingMemory(model, case.storage, case.rank, tuple(targets) if isinstance(targets, list) else targets)


def count(case: Case) -> dict[str, float]:
    """Bytes by part, and their sum."""
    memory = memory_of(case)
    parts = {"weights": memory.weights, "adapters": memory.adapters, "activations": memory.activations(case.step)}
    return parts | {"peak": sum(parts.values())}


def bare_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32, device: str = "meta") -> Any:
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def make_model(case: Case, device: str) -> Any:
    """A model with adapters, as the recipes have them, in training."""
    dtype = torch.float32 if case.storage == "float32" else torch.bfloat16
    targets = DEFAULT_TARGETS[case.model_config.model_type]
    lora = LoraConfig(r=case.rank, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    with old_names():
        model = get_peft_model(bare_model(case.model_config, dtype, device), lora).train()
    if case.step.checkpointing:
        model.enable_input_require_grads()
        checkpoint_activations(model)
    return model


def train_step(model: Any, optimizer: torch.optim.Optimizer, step: TrainingStep, mixed: bool) -> None:
    """Forward, loss, backward and update, with the dtypes of mixed precision as Accelerate has them."""
    device = next(model.parameters()).device
    ids_BL = torch.zeros(step.rows, step.length, dtype=torch.long, device=device)
    kept_M = torch.arange(step.projected // step.rows, device=device)
    with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
        logits = model(input_ids=ids_BL, logits_to_keep=kept_M, use_cache=False).logits.flatten(0, 1)
    logits = logits.float()
    targets_M1 = torch.zeros(len(logits), 1, dtype=torch.long, device=device)
    loss = -token_log_probs(logits, targets_M1, 3).sum()
    del logits
    loss.backward()
    optimizer.step()


def adapters_of(model: Any) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def count_with_the_loss(case: Case) -> int:
    """Peak bytes of a step that adds to the gradients of one before it, counted on fake tensors of a CPU."""
    model, mode = make_model(case, "meta"), FakeTensorMode()
    fake_parameters(model, mode)
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    with mode, LiveMemory(model) as memory:
        train_step(model, optimizer, replace(case.step, rows=1, length=8, projected=1), case.storage != "float32")
        memory.peak = memory.now
        train_step(model, optimizer, case.step, case.storage != "float32")
        return memory.peak


def measure(case: Case, device: str) -> float:
    """The same, measured, in a process of its own."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # glibc: a tensor's memory goes back when the tensor does
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (case, device))


def _measure(case: Case, device: str) -> float:
    torch.set_num_threads(1)
    model, mixed = make_model(case, device), case.storage != "float32"
    optimizer = torch.optim.AdamW(adapters_of(model), foreach=False)
    train_step(model, optimizer, replace(case.step, rows=1, length=8, projected=1), mixed)
    taken = sum(parameter.nbytes for parameter in model.parameters())
    taken += sum(3 * parameter.nbytes for parameter in adapters_of(model))
    peak = PeakMemory(torch.device(device))
    train_step(model, optimizer, case.step, mixed)
    return taken + peak.in_mb() * 1e6


HALF, KEPT = TrainingStep(projected=512), TrainingStep(checkpointing=False)
LLADA_8B = {
    "LoRA": Case(),
    "LoRA, half of the positions": Case(step=HALF),
    "LoRA, no checkpointing": Case(step=KEPT),
    "QLoRA": Case(storage="nf4"),
    "QLoRA, half of the positions": Case(storage="nf4", step=HALF),
    "QLoRA, no checkpointing": Case(storage="nf4", step=KEPT),
}


def narrow(vocabulary: int) -> LLaDAConfig:
    return LLaDAConfig(
        d_model=512, n_layers=8, n_heads=4, n_kv_heads=4, mlp_hidden_size=1536, vocab_size=vocabulary,
        embedding_size=vocabulary, mask_token_id=3, eos_token_id=2, pad_token_id=2, weight_tying=False,
    )  # fmt: skip


_LONG = TrainingStep(length=2048, projected=64, checkpointing=False, device_type="cpu")
SMALL = {
    "narrow, no checkpointing": Case(narrow(4096), "float32", 8, _LONG),
    "narrow, many logits": Case(narrow(126464), "float32", 8, TrainingStep(device_type="cpu")),
}


def table(rows: list[dict[str, Any]]) -> str:
    """The counts as a Markdown table, in GB."""
    parts = ["weights", "adapters", "activations", "peak"]
    lines = [f"| | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
    for row in rows:
        values = [f"{row['count'][part] / 1e9:.2f}" for part in parts]
        lines.append(f"| {row['name']} | {' | '.join(values)} |")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu", help="where to measure: on a GPU LLaDA-8B, on a CPU small models")
    add("--no-measurement", action="store_true")
    add("--results", type=Path, default=Path("outputs/train_memory.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    gpu = torch.device(args.device).type != "cpu"
    rows: list[dict[str, Any]] = []
    for name, case in (LLADA_8B | SMALL).items():
        row: dict[str, Any] = {"name": name, "case": asdict(replace(case, config=None)), "count": count(case)}
        if case.storage != "nf4":  # bitsandbytes has no kernels for fake tensors
            on_cpu = replace(case, step=replace(case.step, device_type="cpu"))
            row["with_the_loss"] = count_with_the_loss(on_cpu)
            row["count_over_with_the_loss"] = count(on_cpu)["peak"] / row["with_the_loss"]
        if not args.no_measurement and case.storage == ("bfloat16" if gpu else "float32"):
            row["measured"] = measure(case, args.device)
            row["count_over_measured"] = row["count"]["peak"] / row["measured"]
        print({key: row[key] for key in row if key not in ("case", "count")}, flush=True)
        rows.append(row)
        args.results.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.results, describe_run("python -m benchmarks.train_memory", args.device) | {"cases": rows})
    print(table([row for row in rows if row["name"] in LLADA_8B]))


if __name__ == "__main__":
    main()
