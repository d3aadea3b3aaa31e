"""Train Learn2PD's filter (arXiv 2509.25188) for `decode_type="learned_filter"`, on a model's own answers.

    python -m trainers.trajectories --config configs/distill/embedded_trajectories.yaml
    python -m trainers.learn_filter --config configs/unmasking/embedded_filter.yaml

The first command writes the answers, and goes on where it was interrupted. The second takes minutes: it follows an
oracle through them, trains the filter on what it saw, and writes `unmasking_filter.safetensors` into the model's
folder, where `generate` finds it. Of held-out answers it prints what the filter would unmask at its default threshold,
and what the rule `threshold` would at its own: which share of the masks, and how much of that is final.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl import TrlParser

import conv_dlm  # noqa: F401  registers the models
from conv_dlm.generation.heads import save_head
from conv_dlm.generation.parts.learned import filter_logits
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Head
from conv_dlm.utils.files import read_rows
from trainers.answering import load
from trainers.config_checks import check_least
from trainers.distill_data import COLUMNS
from trainers.recorded_runs import record
from trainers.running import run_script
from trainers.unmasking_filter import Examples, examples_of, filter_loss, judge, new_filter, oracle
from trainers.values import read_values


@dataclass
class FilterArguments:
    """Of which model, on which answers, and how.

    Args:
        model_name_or_path (`str`): the model.
        trajectories (`str`): its answers, the file that `python -m trainers.trajectories` wrote.
        output_dir (`str`, *optional*): where the filter goes; defaults to the model's folder.
        rows (`int`, *optional*): answers that are used; all by default.
        held_out_rows (`int`, *optional*, defaults to `32`): the last of them, which are not learnt.
        block_length (`int`, *optional*, defaults to `32`): positions of a block.
        hidden (`int`, *optional*, defaults to `32`): hidden units. arXiv 2509.25188.
        updates (`int`, *optional*, defaults to `2000`): steps of AdamW.
        learning_rate (`float`, *optional*, defaults to `3e-3`): arXiv 2509.25188.
        examples_per_update (`int`, *optional*, defaults to `1024`): blocks, drawn.
        batch_size (`int`, *optional*, defaults to `16`): answers at a time; the result doesn't depend on it.
        seed (`int`, *optional*, defaults to `0`): of weights and draws.
        dtype (`str`, *optional*, defaults to `"auto"`): of the model's weights.
        device (`str`, *optional*): a GPU if there is one.

    Raises:
        `ValueError`: a number out of range, or no folder to write to.
    """

    model_name_or_path: str = field(metadata={"help": "The model."})
    trajectories: str = field(metadata={"help": "Its answers, by `python -m trainers.trajectories`."})
    output_dir: str | None = field(default=None, metadata={"help": "Where the filter goes; the model's folder."})
    rows: int | None = field(default=None, metadata={"help": "Answers that are used; all by default."})
    held_out_rows: int = field(default=32, metadata={"help": "The last of them, which are not learnt."})
    block_length: int = field(default=32, metadata={"help": "Positions of a block."})
    hidden: int = field(default=32, metadata={"help": "Hidden units."})
    updates: int = field(default=2000, metadata={"help": "Steps of AdamW."})
    learning_rate: float = field(default=3e-3, metadata={"help": "Learning rate."})
    examples_per_update: int = field(default=1024, metadata={"help": "Blocks of an update."})
    batch_size: int = field(default=16, metadata={"help": "Answers at a time."})
    seed: int = field(default=0, metadata={"help": "Seed of weights and draws."})
    dtype: str = field(default="auto", metadata={"help": "Dtype of the model's weights."})
    device: str | None = field(default=None, metadata={"help": "Device; a GPU if there is one."})

    def __post_init__(self) -> None:
        read_values(self)
        check_least(
            self, held_out_rows=1, block_length=1, hidden=1, updates=1, examples_per_update=1, batch_size=1
        )
        if self.rows is not None and self.rows <= self.held_out_rows:
            raise ValueError(f"`rows={self.rows}` must be more than `held_out_rows={self.held_out_rows}`.")
        self.output_dir = folder_of(self.output_dir, self.model_name_or_path)


def folder_of(output_dir: str | None, model: str) -> str:
    """Where a head goes. Raises ValueError if nobody says, and the model lies in no folder."""
    if output_dir is None and not Path(model).is_dir():
        raise ValueError(f"`model_name_or_path={model}` is no folder to write to: name one as `output_dir`.")
    return output_dir or model


def read_answers(arguments: FilterArguments) -> list[dict[str, Any]]:
    """The rows of the file. Raises ValueError for one that is no trajectory, and for too few."""

    def check(row: dict[str, Any]) -> None:
        if missing := [name for name in COLUMNS if not row.get(name)]:
            raise ValueError(f"it has no {', '.join(missing)}; write it by `python -m trainers.trajectories`")

    rows = read_rows(arguments.trajectories, check=check)[0][: arguments.rows]
    if len(rows) <= arguments.held_out_rows:
        raise ValueError(f"`held_out_rows={arguments.held_out_rows}`: the file has only {len(rows)} answers.")
    return rows


def follow(model: Any, tokenizer: Any, rows: list[dict[str, Any]], arguments: FilterArguments) -> Iterator[Examples]:
    """What the oracle sees in each batch of answers."""
    ending, generator = tokenizer.eos_token_id, torch.Generator().manual_seed(arguments.seed)
    # any weights do: the oracle decides, and the rule only says what it has to be shown
    model.unmasking_heads = {"unmasking_filter": new_filter(arguments.block_length, arguments.hidden, generator)}
    for _, alike in itertools.groupby(rows, key=lambda row: row["canvas_length"]):
        while batch := list(itertools.islice(alike, arguments.batch_size)):
            length = batch[0]["canvas_length"]
            filled = [row["completion_ids"] + [ending] * (length - len(row["completion_ids"])) for row in batch]
            answer_BC: Tensor = torch.tensor(filled, device=model.device)
            prompts = [row["prompt_ids"] for row in batch]
            run = record(
                model, prompts, [0] * len(batch), tokenizer.pad_token_id or ending, oracle(answer_BC),
                decode_type="learned_filter", block_length=arguments.block_length, max_new_tokens=length,
            )  # fmt: skip
            yield examples_of(run.steps, answer_BC, arguments.block_length)


def train(examples: Examples, arguments: FilterArguments) -> Head:
    """Fit a filter to examples."""
    generator = torch.Generator().manual_seed(arguments.seed)
    head = new_filter(arguments.block_length, arguments.hidden, generator)
    for weight in head.values():
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(head.values(), lr=arguments.learning_rate)
    for _ in range(arguments.updates):
        drawn = torch.randint(len(examples), (min(arguments.examples_per_update, len(examples)),), generator=generator)
        loss = filter_loss(head, examples[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.detach() for name, weight in head.items()}


def report(head: Head, held_out: Examples) -> str:
    """What the filter is worth on answers that it wasn't trained on, beside a threshold of confidence."""
    settings = {name: UNMASKING_RULES[name].settings() for name in ("learned_filter", "threshold")}
    at = settings["learned_filter"]["filter_threshold"].default
    threshold = settings["threshold"]["threshold"].default
    its = judge(filter_logits(head, held_out.confidence_NW).sigmoid(), held_out, at)
    plain = judge(held_out.confidence_NW, held_out, threshold)
    lines = [f"{len(held_out)} held-out blocks, loss {float(filter_loss(head, held_out)):.4f} nats"]
    for name, value, (share, right) in (("filter", at, its), ("threshold", threshold, plain)):
        lines.append(f"{name} {value}: unmasks {share:.1%} of the masks, of which {right:.2%} are final")
    return "\n".join(lines)


def learn(arguments: FilterArguments) -> str:
    """Follow the oracle, train, and save; returns what there is to say."""
    rows = read_answers(arguments)
    model, tokenizer = load(arguments.model_name_or_path, arguments.dtype, arguments.device)
    held_out = Examples.join(list(follow(model, tokenizer, rows[-arguments.held_out_rows :], arguments)))
    head = train(
        Examples.join(list(follow(model, tokenizer, rows[: -arguments.held_out_rows], arguments))), arguments
    )
    path = save_head(head, "unmasking_filter", str(arguments.output_dir))
    weights = sum(weight.numel() for weight in head.values())
    return f"{report(head, held_out)}\n{weights:,} weights saved to {path}."


def make_parser() -> TrlParser:
    classes: Any = [FilterArguments]
    return TrlParser(classes, description=__doc__)


def run(argv: list[str] | None = None) -> int:
    """For a shell: returns the exit status; what is wrong is one sentence on standard error."""
    return run_script(
        "trainers.learn_filter", lambda: make_parser().parse_args_and_config(argv)[0], lambda said: print(learn(said))
    )


if __name__ == "__main__":
    sys.exit(run())
