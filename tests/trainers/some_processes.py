"""Trains a little in one process and in several, for tests.

FOLDER holds a checkpoint (`model`) and prompt-completion rows (`rows.json`). Each process writes what it has seen as
`1-mdlm-0.pt`: number of processes, trainer, rank.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

import conv_dlm  # noqa: F401  registers the models
from trainers import MDLMTrainer, MDLMTrainingConfig, R2FTConfig, R2FTTrainer, noise

GLOBAL_BATCH, EVALUATED = 8, 7
TRAINERS = {"mdlm": (MDLMTrainer, MDLMTrainingConfig), "r2ft": (R2FTTrainer, R2FTConfig)}


def build(name: str, folder: Path, processes: int) -> MDLMTrainer:
    """A trainer whose steps have 8 rows, whatever the number of processes; its evaluation set can't be divided."""
    trainer_class, config = TRAINERS[name]
    rows = Dataset.from_list(json.loads((folder / "rows.json").read_text()))
    args = config(
        output_dir=str(folder / f"{processes}-{name}"),
        per_device_train_batch_size=GLOBAL_BATCH // processes // 2,
        gradient_accumulation_steps=2,
        per_device_eval_batch_size=2,
        canvas_length=40,
        max_steps=3,
        eval_strategy="steps",
        eval_steps=3,
        eval_samples=2,
        eval_sample_kwargs={"steps": 4},
        save_strategy="steps",
        save_steps=2,
        logging_steps=1,
        learning_rate=1e-2,
        optim="sgd",
        max_grad_norm=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
    )
    model, evaluated = str(folder / "model"), rows.select(range(EVALUATED))
    return trainer_class(model=model, args=args, train_dataset=rows, eval_dataset=evaluated)


def seen_rows(trainer: MDLMTrainer) -> list[tuple[int, int, list[int], torch.Tensor]]:
    """Collects, forward by forward of training: step, rows of the global batch, and the first draws for their masks."""
    seen: list[Any] = []
    batch_loss = trainer.batch_loss

    def spy(model: torch.nn.Module, inputs: dict[str, torch.Tensor], rows: Any) -> Any:
        if trainer.model.training:
            seen.append((rows.step, rows.index_B.tolist(), rows.uniform(noise.MASK, 4)))
        return batch_loss(model, inputs, rows)

    trainer.batch_loss = spy  # type: ignore[method-assign]
    return seen


def weights(trainer: MDLMTrainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def gloo_threads() -> list[str]:
    """The threads of process groups; Linux only."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def run(name: str, folder: Path, processes: int, rank: int) -> MDLMTrainer:
    trainer = build(name, folder, processes)
    seen = seen_rows(trainer)
    trainer.train()
    result = {"log": trainer.state.log_history, "weights": weights(trainer), "seen": seen}
    if processes > 1:
        resumed = build(name, folder, processes)
        resumed.train(resume_from_checkpoint=str(folder / f"{processes}-{name}" / "checkpoint-2"))
        result["resumed"] = weights(resumed)
    torch.save(result, folder / f"{processes}-{name}-{rank}.pt")
    return trainer


def train_all(folder: Path, processes: int = 1, rank: int = 0) -> None:
    for name in TRAINERS:
        trainer = run(name, folder, processes, rank)
    threads = {"before": gloo_threads()}
    trainer.end()
    threads["after"] = gloo_threads()
    (folder / f"{processes}-threads-{rank}.json").write_text(json.dumps(threads))


def train_as_rank(folder: Path, processes: int) -> None:
    train_all(folder, processes, int(os.environ["RANK"]))
