"""Tokens a second and peak memory of a training step, against the textbook's, which projects and scores all positions.

    python -m benchmarks.train_step --results benchmarks/results/train_step_cpu.json
    python -m benchmarks.train_step --models proportioned --lengths 256 --results outputs/train_step_proportioned.json
    python -m benchmarks.train_step --device cuda --models llada_8b --results outputs/train_step_cuda.json

Both sides train the same LoRA adapters (rank width/64 on q, k, v; activation checkpointing; both as in the recipes) of
the same random LLaDA on the same rows and masks: forward, loss, backward, AdamW, at learning rate 0, so that losses and
gradients have to be equal, which is checked. Rows are a quarter prompt, a quarter response, and EOS; MDLM's bound
covers response and EOS, its noise levels are spread evenly over the steps; R2FT rejects repetitions of algorithm 1.

Models, all with LLaDA-8B's vocabulary: `small` has 2 layers of width 512, so that almost all is vocabulary;
`proportioned` is as narrow, but its body has 13.5 times the parameters of its head, as LLaDA-8B's; `llada_8b` is that.

The sides take turns, in changing order, and their times are summed. On a CPU the clock is the process's CPU time (equal
to wall time on one idle thread), so that neighbours on the machine count little. Memory is measured in a process of its
own for each side, in the step that needs most positions: the peak over weights and optimizer states.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from benchmarks.step_overhead import MASK_FROM_END, VOCABULARY
from benchmarks.textbook_training import llada_loss, mdlm_loss, r2ft_loss
from conv_dlm.cost.meters import PeakMemory, Stopwatch
from conv_dlm.models import LLaDAConfig, LLaDAModelLM
from conv_dlm.utils.checkpointing import checkpoint_activations
from conv_dlm.utils.environment import describe_run
from trainers import MDLMTrainer, MDLMTrainingConfig, R2FTConfig, R2FTTrainer
from trainers.masking import mask_rows
from trainers.noise import Rows
from trainers.r2ft_trainer import read_examples

EOS = 2
BODIES: dict[str, dict[str, Any]] = {
    "small": dict(d_model=512, n_layers=2, n_heads=8, n_kv_heads=8, mlp_hidden_size=1536),
    "proportioned": dict(d_model=256, n_layers=128, n_heads=4, n_kv_heads=4, mlp_hidden_size=4096),
    "llada_8b": {},
}
SIDES = {"mdlm": ("ours", "textbook", "cross_entropy"), "r2ft": ("ours", "textbook")}
EQUAL = {"float32": 1e-4, "bfloat16": 0.1}  # largest relative difference of losses and gradient norms


class Bench:
    """One model in training, and the steps of both sides on it."""

    def __init__(self, body: str, objective: str, batch: int, length: int, args: argparse.Namespace):
        self.mask_token_id = args.vocabulary - MASK_FROM_END
        self.batch_size, self.steps, self.objective = batch, args.pairs, objective
        self.trainer = make_trainer(body, objective, args)
        checkpoint_activations(self.trainer.model)
        self.model = self.trainer.accelerator.prepare_model(self.trainer.model).train()
        self.adapters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.adapters, lr=0.0)
        self.inputs = make_inputs(batch, length, objective, self.mask_token_id, torch.device(args.device))

    def rows(self, index: int) -> Rows:
        """The rows of a step, which draw their noise among those of all steps."""
        device = self.inputs["input_ids"].device
        index_B = torch.arange(self.batch_size, device=device) + index * self.batch_size
        return Rows(0, 0, index_B, self.steps * self.batch_size, torch.ones(self.batch_size, device=device))

    def step(self, loss: Callable[[], Tensor]) -> tuple[float, float]:
        """A whole training step: its loss and gradient norm."""
        self.optimizer.zero_grad()
        torch.manual_seed(0)  # of the adapters' dropout
        value = loss()
        self.trainer.accelerator.backward(value)
        norm = torch.nn.utils.clip_grad_norm_(self.adapters, 1.0)
        self.optimizer.step()
        return float(value.detach()), float(norm)

    def timed(self, side: str, index: int, watch: Stopwatch) -> tuple[float, float, float]:
        """A side's step: seconds, loss, gradient norm."""
        loss, outcome = self.loss(side, index), []
        seconds = watch.run(lambda: outcome.append(self.step(loss)))["total_s"]
        return seconds, *outcome[0]

    def warm_up(self) -> None:
        """A step on a few positions, for what libraries and the optimizer take at their first call."""
        whole, self.inputs = self.inputs, {name: value[:1, :4] for name, value in self.inputs.items()}
        self.step(lambda: self.forward(self.inputs["input_ids"]).float().mean())
        self.inputs = whole

    def noisy(self, index: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """What a step's noise makes: ids [B, L] as the model sees them, positions [B, L] that a loss needs, and more.

        The rest is, for MDLM, the masked positions [B, L] and the weights [B] of their rows, and, for R2FT, the
        repetition and where it stands, both [B, L].
        """
        rows, clean_BL, covered_BL = self.rows(index), self.inputs["input_ids"], self.inputs["labels"] != -100
        if self.objective == "r2ft":
            corrupted = self.trainer.corrupt(read_examples(self.inputs, EOS), rows)
            noisy_BL = clean_BL.masked_fill(corrupted.masked_BL, self.mask_token_id)
            return noisy_BL, corrupted.needed_BL, (corrupted.rejected_BL, corrupted.rejects_BL)
        drawn = mask_rows(rows, covered_BL, self.inputs["attention_mask"], self.trainer.args.min_noise)
        noisy_BL = clean_BL.masked_fill(drawn.hidden_BL, self.mask_token_id)
        return noisy_BL, drawn.masked_BL, (drawn.masked_BL, drawn.weight_B)

    def loss(self, side: str, index: int) -> Callable[[], Tensor]:
        """The loss of a side in a step, ready to be timed."""
        if side == "ours":
            rows, items = self.rows(index), self.trainer.count_items(self.inputs)
            return lambda: self.trainer.batch_loss(self.model, self.inputs, rows).total / items
        clean_BL, covered_BL = self.inputs["input_ids"], self.inputs["labels"] != -100
        noisy_BL, _, (first, second) = self.noisy(index)
        given = self.forward, clean_BL, noisy_BL, covered_BL
        if self.objective == "r2ft":
            return lambda: r2ft_loss(*given, first, second, self.mask_token_id, self.trainer.args.beta_a)
        textbook = mdlm_loss if side == "textbook" else llada_loss
        return lambda: textbook(*given, second, self.mask_token_id)

    def forward(self, ids_BL: Tensor) -> Tensor:
        logits_BLV: Tensor = self.model(
            input_ids=ids_BL, attention_mask=self.inputs["attention_mask"], use_cache=False
        ).logits
        return logits_BLV


def make_trainer(body: str, objective: str, args: argparse.Namespace) -> Any:
    """A trainer of new adapters on a model with random weights; its data are not used."""
    config = LLaDAConfig(
        vocab_size=args.vocabulary, embedding_size=args.vocabulary, eos_token_id=EOS, pad_token_id=EOS,
        mask_token_id=args.vocabulary - MASK_FROM_END, weight_tying=False, **BODIES[body],
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<eos>": EOS}, unk_token="<eos>")),
        eos_token="<eos>", pad_token="<eos>",
    )  # fmt: skip
    default, dtype = torch.get_default_dtype(), getattr(torch, args.dtype)
    torch.set_default_dtype(dtype)
    with torch.random.fork_rng(), torch.device(args.device):
        torch.manual_seed(0)
        model = LLaDAModelLM(config)
    torch.set_default_dtype(default)
    settings: dict[str, Any] = dict(
        output_dir=tempfile.mkdtemp(),
        use_cpu=torch.device(args.device).type == "cpu",
        bf16=dtype == torch.bfloat16,
        report_to="none",
        seed=0,
    )
    lora = LoraConfig(
        r=max(1, config.d_model // 64), lora_alpha=16, lora_dropout=0.1, target_modules=["q_proj", "k_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    disable_progress_bars()
    row = dict(input_ids=[5, 6, EOS], labels=[-100, 6, EOS])
    trainer: Any = MDLMTrainer if objective == "mdlm" else R2FTTrainer
    arguments = MDLMTrainingConfig(**settings) if objective == "mdlm" else R2FTConfig(canvas_length=8, **settings)
    return trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([row]),
        processing_class=tokenizer,
        peft_config=lora,
    )


def make_inputs(batch: int, length: int, objective: str, words: int, device: torch.device) -> dict[str, Tensor]:
    """Random rows: a quarter prompt, a quarter response, EOS up to `length`."""
    generator = torch.Generator().manual_seed(1)
    ids_BL = torch.randint(EOS + 1, words, (batch, length), generator=generator)
    ids_BL[:, length // 2 :] = EOS
    labels_BL = ids_BL.clone()
    labels_BL[:, : length // 4] = -100
    if objective == "r2ft":  # the response and its first EOS
        labels_BL[:, length // 2 + 1 :] = -100
    inputs = {"input_ids": ids_BL, "labels": labels_BL, "attention_mask": torch.ones_like(ids_BL)}
    return {name: value.to(device) for name, value in inputs.items()}


def measure_time(body: str, objective: str, batch: int, length: int, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of each side over all steps, and the seconds of each step."""
    bench, sides = Bench(body, objective, batch, length, args), SIDES[objective]
    bench.warm_up()
    watch = Stopwatch(bench.model, torch.device(args.device))
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    difference = 0.0
    for index in range(args.pairs):
        results = {}
        for side in sides if index % 2 == 0 else sides[::-1]:
            time, *results[side] = bench.timed(side, index, watch)
            seconds[side].append(time)
        pairs = zip(results["ours"], results["textbook"], strict=True)  # LLaDA's code lets the mask be predicted
        difference = max(difference, *(abs(a - b) / abs(b) for a, b in pairs))
    if not difference < EQUAL[args.dtype]:
        raise RuntimeError(f"The sides disagree: losses or gradient norms differ by {difference:.2g}.")
    tokens = batch * length * args.pairs
    row: dict[str, Any] = {"model": body, "objective": objective, "batch": batch, "length": length}
    row["largest_difference"] = difference
    row["needed_positions_by_step"] = [int(bench.noisy(index)[1].sum()) for index in range(args.pairs)]
    for side in sides:
        row[side] = {"tokens_per_second": tokens / sum(seconds[side]), "seconds_by_step": seconds[side]}
        if side != "ours":
            row[side]["speed_factor"] = sum(seconds[side]) / sum(seconds["ours"])
    return row


def measure_memory(row: dict[str, Any], side: str, args: argparse.Namespace) -> float:
    """Peak memory in MB of the step that needs most positions, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (row["model"], row["objective"], row["batch"], row["length"], side, args))


def _peak_memory(body: str, objective: str, batch: int, length: int, side: str, args: argparse.Namespace) -> float:
    torch.set_num_threads(args.threads)
    bench = Bench(body, objective, batch, length, args)
    bench.warm_up()
    hardest = max(range(args.pairs), key=lambda index: int(bench.noisy(index)[1].sum()))
    peak = PeakMemory(torch.device(args.device))
    bench.step(bench.loss(side, hardest))
    return peak.in_mb()


def add_memory(row: dict[str, Any], args: argparse.Namespace) -> None:
    """Put the peaks of all sides into a row of `measure_time`."""
    for side in SIDES[row["objective"]]:
        row[side]["peak_mb"] = measure_memory(row, side, args)
        if side != "ours":
            row[side]["memory_factor"] = row[side]["peak_mb"] / row["ours"]["peak_mb"]


def line(row: dict[str, Any]) -> str:
    """A row of the results as text."""
    parts = []
    for side in SIDES[row["objective"]]:
        part = f"{side} {row[side]['tokens_per_second']:.1f} tokens/s"
        part += f", {row[side]['peak_mb']:.0f} MB" if "peak_mb" in row[side] else ""
        factors = [f"{row[side][key]:.2f}x" for key in ("speed_factor", "memory_factor") if key in row[side]]
        parts.append(part + (f" ({', '.join(factors)})" if factors else ""))
    return f"{row['model']} {row['objective']} batch {row['batch']} x {row['length']}: {'; '.join(parts)}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu")
    add("--dtype", choices=["float32", "bfloat16"], help="of weights; float32 on a CPU, bfloat16 elsewhere by default")
    add("--threads", type=int, default=1)
    add("--models", nargs="+", default=["small"], choices=list(BODIES))
    add("--objectives", nargs="+", default=list(SIDES), choices=list(SIDES))
    add("--lengths", nargs="+", type=int, default=[256, 512, 1024])
    add("--batch-sizes", nargs="+", type=int, default=[1])
    add("--pairs", type=int, default=8, help="steps of each side")
    add("--vocabulary", type=int, default=VOCABULARY)
    add("--no-memory", action="store_true")
    add("--results", type=Path, default=Path("outputs/train_step.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    cpu = torch.device(args.device).type == "cpu"
    args.dtype = args.dtype or ("float32" if cpu else "bfloat16")
    torch.set_num_threads(args.threads)
    settings = {name: value for name, value in vars(args).items() if name != "results"}
    settings["clock"] = "CPU time of the process" if cpu else "wall"
    run = describe_run("python -m benchmarks.train_step", args.device) | {"settings": settings}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    cases: list[dict[str, Any]] = []
    for body in args.models:
        for objective in args.objectives:
            for length in args.lengths:
                for batch in args.batch_sizes:
                    row = measure_time(body, objective, batch, length, args)
                    if not args.no_memory:
                        add_memory(row, args)
                    print(line(row), flush=True)
                    cases.append(row)
                    args.results.write_text(json.dumps(run | {"cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
