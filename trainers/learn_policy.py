"""Train an unmasking policy by rewards (after arXiv 2512.09106) for `decode_type="learned_policy"`.

    python -m trainers.learn_policy --config configs/unmasking/embedded_policy.yaml

The model is not changed: a policy of one transformer layer learns when to commit its candidates. It is written into the
model's folder as `unmasking_policy.safetensors`, where `generate` finds it. Each update is a line of
`unmasking_policy.jsonl` beside it, with the means of its answers: `reward`, `judged` (what the judge says), `forwards`.
An interrupted run goes on where it last saved, by the same command; other arguments for the same folder are an error.
"""

import itertools
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from trl import TrlParser

from conv_dlm.answering.batching import row_generator
from conv_dlm.generation.heads import save_head
from conv_dlm.generation.parts.rules import Head
from conv_dlm.utils.files import replacing, write_atomically
from trainers.answering import judged, load, prompt_ids
from trainers.config_checks import check_least
from trainers.data import load_data
from trainers.learn_filter import folder_of
from trainers.prompts import PromptArguments
from trainers.recorded_runs import RecordedRun, record
from trainers.rewards import Reward, find_reward
from trainers.running import run_script
from trainers.unmasking_policy import group_advantages, new_policy, speed_rewards, step_loss
from trainers.values import read_values

NAME = "unmasking_policy"


@dataclass
class PolicyArguments:
    """Of which model, judged by what, and how.

    Args:
        model_name_or_path (`str`): the model.
        judge (`str`): a reward of [`trainers.rewards`], or the dotted path of one.
        output_dir (`str`, *optional*): where the policy goes; defaults to the model's folder.
        generate_kwargs (`dict`, *optional*): keywords of `generate`: `block_length`, `max_new_tokens`, ...
        width (`int`, *optional*, defaults to `64`): D, a multiple of 8.
        middle, slope (`float`, *optional*, default to `0.9` and `20.0`): of the soft threshold that it is at first.
        speed_weight (`float`, *optional*, defaults to `1.0`): how much fewer forwards count; 0: nothing.
        updates (`int`, *optional*, defaults to `200`): steps of AdamW.
        prompts_per_update (`int`, *optional*, defaults to `8`): prompts of an update, all different.
        num_generations (`int`, *optional*, defaults to `8`): answers to each, which are compared.
        learning_rate (`float`, *optional*, defaults to `1e-3`): learning rate.
        save_steps (`int`, *optional*, defaults to `10`): updates from one save to the next.
        seed (`int`, *optional*, defaults to `0`): of weights and draws.
        dtype (`str`, *optional*, defaults to `"auto"`): of the model's weights.
        device (`str`, *optional*): a GPU if there is one.

    Raises:
        `ValueError`: a number out of range, keywords that are no JSON object or that a policy has for itself, or no
            folder to write to.
    """

    model_name_or_path: str = field(metadata={"help": "The model."})
    judge: str = field(metadata={"help": "A reward, by name or path."})
    output_dir: str | None = field(default=None, metadata={"help": "Where the policy goes; the model's folder."})
    generate_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of `generate`, as JSON."}
    )
    width: int = field(default=64, metadata={"help": "Width of the policy, a multiple of 8."})
    middle: float = field(default=0.9, metadata={"help": "Confidence at which the policy tosses a coin at first."})
    slope: float = field(default=20.0, metadata={"help": "How sharply it tells confidences apart at first."})
    speed_weight: float = field(default=1.0, metadata={"help": "How much fewer forwards count."})
    updates: int = field(default=200, metadata={"help": "Steps of AdamW."})
    prompts_per_update: int = field(default=8, metadata={"help": "Prompts of an update."})
    num_generations: int = field(default=8, metadata={"help": "Answers to each prompt."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate."})
    save_steps: int = field(default=10, metadata={"help": "Updates from one save to the next."})
    seed: int = field(default=0, metadata={"help": "Seed of weights and draws."})
    dtype: str = field(default="auto", metadata={"help": "Dtype of the model's weights."})
    device: str | None = field(default=None, metadata={"help": "Device; a GPU if there is one."})

    def __post_init__(self) -> None:
        read_values(self)
        self.generate_kwargs = self.generate_kwargs or {}
        for name in ("decode_type", "unmasking_head"):
            if name in self.generate_kwargs:
                raise ValueError(f"`generate_kwargs` has {name!r}, which the policy is: leave it out.")
        check_least(self, updates=1, prompts_per_update=1, num_generations=2, save_steps=1, speed_weight=0)
        if self.width < 8 or self.width % 8:
            raise ValueError(f"`width={self.width}` must be a multiple of 8.")
        self.output_dir = folder_of(self.output_dir, self.model_name_or_path)


class PolicyTrainer:
    """The policy, its optimizer, and what it is trained with.

    Args:
        arguments ([`PolicyArguments`]): how.
        data ([`PromptArguments`]): which prompts.
    """

    def __init__(self, arguments: PolicyArguments, data: PromptArguments) -> None:
        self.arguments, self.data = arguments, data
        self.judge: Reward = find_reward(arguments.judge)
        self.model, self.tokenizer = load(arguments.model_name_or_path, arguments.dtype, arguments.device)
        generator = torch.Generator().manual_seed(arguments.seed)
        first = new_policy(arguments.width, arguments.middle, arguments.slope, generator)
        self.head: Head = {name: weight.to(self.model.device).requires_grad_() for name, weight in first.items()}
        self.optimizer = torch.optim.AdamW(self.head.values(), lr=arguments.learning_rate, weight_decay=0.0)
        assert isinstance(arguments.generate_kwargs, dict)
        self.options = {"decode_type": "learned_policy", **arguments.generate_kwargs}
        self.model.unmasking_heads = {NAME: self.head}
        self.log: list[dict[str, float]] = []

    @property
    def folder(self) -> Path:
        return Path(str(self.arguments.output_dir))

    @property
    def settings(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one before."""
        told = {**asdict(self.arguments), **asdict(self.data)}
        told = {name: value for name, value in told.items() if name not in ("updates", "save_steps", "device")}
        settings: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return settings

    def train(self) -> Path:
        """Make the updates that are left, and save; returns the file."""
        self.resume()
        prompts, _ = load_data(self.data)
        count, arguments = self.arguments.prompts_per_update, self.arguments
        rows = itertools.islice(prompts, len(self.log) * count, None)
        for number in range(len(self.log), arguments.updates):
            batch = list(itertools.islice(rows, count))
            if len(batch) < count:
                raise ValueError(f"`updates={arguments.updates}`: the data have prompts for {number} only.")
            self.log.append({"update": number + 1, **self.update(batch, number)})
            print(json.dumps(self.log[-1]), flush=True)
            if (number + 1) % arguments.save_steps == 0 or number + 1 == arguments.updates:
                self.save()
        return self.folder / f"{NAME}.safetensors"

    def update(self, batch: list[dict[str, Any]], number: int) -> dict[str, float]:
        """One step of the optimizer on answers to the prompts of a batch."""
        group = self.arguments.num_generations
        rows = [row for row in batch for _ in range(group)]
        run, judged = self.answer(rows, number)
        rewards_B = speed_rewards(judged, run.forwards, run.steps[0].masked_BC.shape[1], self.arguments.speed_weight)
        advantages_B = group_advantages(rewards_B, group).to(self.model.device)
        self.optimizer.zero_grad()
        for step in run.steps:  # one graph at a time
            (step_loss(self.head, step, advantages_B) / (len(rows) * len(run.steps))).backward()
        self.optimizer.step()
        known = [float(value) for value in judged if value is not None]
        return {
            "reward": float(rewards_B.mean()),
            "judged": fmean(known) if known else 0.0,
            "forwards": fmean(run.forwards),
        }

    def answer(self, rows: list[dict[str, Any]], number: int) -> tuple[RecordedRun, list[float | None]]:
        """Answers to the prompts of `rows`, and what the judge says; draws are of seed, update and row."""
        seeds = [row_generator(self.arguments.seed, number, n).initial_seed() for n in range(len(rows))]
        padding = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
        run = record(self.model, prompt_ids(self.tokenizer, rows), seeds, padding, **self.options)
        return run, judged(self.judge, self.tokenizer, rows, run.completion_ids)

    def resume(self) -> None:
        """Take over what a run before has saved.

        Raises:
            `ValueError`: it had other arguments.
        """
        path = self.folder / f"{NAME}.state.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        before, told = state["settings"], self.settings
        others = sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name))
        if others:
            raise ValueError(
                f"`output_dir={self.folder}` has a run with other values of {', '.join(others)}: give those, or delete "
                f"{path.name}."
            )
        with torch.no_grad():
            for name, weight in self.head.items():
                weight.copy_(state["head"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log = state["log"]

    def save(self) -> None:
        """Write the policy, the log, and what a run needs to go on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_head(self.head, NAME, self.folder)
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        write_atomically(self.folder / f"{NAME}.jsonl", lines)
        head = {name: weight.detach() for name, weight in self.head.items()}
        state = {"settings": self.settings, "head": head, "optimizer": self.optimizer.state_dict(), "log": self.log}
        with replacing(self.folder / f"{NAME}.state.pt") as file:
            torch.save(state, file)


def make_parser() -> TrlParser:
    classes: Any = [PolicyArguments, PromptArguments]
    return TrlParser(classes, description=__doc__)


def run(argv: list[str] | None = None) -> int:
    """For a shell: returns the exit status; what is wrong is one sentence on standard error."""
    return run_script(
        "trainers.learn_policy",
        lambda: make_parser().parse_args_and_config(argv),
        lambda said: print(f"The policy is in {PolicyTrainer(*said).train()}."),
    )


if __name__ == "__main__":
    sys.exit(run())
