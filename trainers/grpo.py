"""Reinforcement learning (GRPO) of a masked diffusion LM on prompts with answers that a program can check.

Full training, here of the small model of `configs/embedded/`, on generated word problems:

    accelerate launch -m trainers.grpo --config configs/grpo/embedded.yaml

LoRA, of LLaDA-8B-Instruct on GSM8K:

    accelerate launch -m trainers.grpo --config configs/grpo/llada_8b_lora.yaml

On data of your own (JSON lines with a `prompt`, string or messages, and the columns that your reward reads), judged by
a function of your own:

    accelerate launch -m trainers.grpo --model_name_or_path GSAI-ML/LLaDA-8B-Instruct --dtype bfloat16 \\
        --dataset_name json --data_files my.jsonl --reward_funcs my_module.my_reward \\
        --rollout_kwargs '{"decode_type": "llada", "block_length": 32, "steps": 128}' --max_completion_length 256 \\
        --use_peft --output_dir outputs/grpo

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
In a clone, `train_grpo.py` is the same: `accelerate launch train_grpo.py ...`.
"""

import sys
from collections.abc import Sequence
from typing import cast

from trl import TrlParser

from trainers import DiffusionGRPOConfig, DiffusionGRPOTrainer
from trainers.prompts import RewardArguments
from trainers.rewards import find_reward
from trainers.running import run_script
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def make_parser() -> TrlParser:
    return make_parser_for(DiffusionGRPOConfig, __doc__, RewardArguments)


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the arguments say, which are those of the command line if `None`. Raises what is wrong."""
    train(Arguments(*make_parser().parse_args_and_config(argv)))


def train(arguments: Arguments) -> None:
    rewards = [find_reward(name) for name in cast(RewardArguments, arguments.data).reward_funcs]
    finetune(DiffusionGRPOTrainer, arguments, reward_funcs=rewards)


def run(argv: Sequence[str] | None = None) -> int:
    """As `main`, for a shell: returns the exit status, and what is wrong is one sentence on standard error."""
    return run_script("trainers.grpo", lambda: Arguments(*make_parser().parse_args_and_config(argv)), train)


if __name__ == "__main__":
    sys.exit(run())
