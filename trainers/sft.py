"""Supervised fine-tuning of a masked diffusion LM.

Full training, here of the checkpoint that the package carries:

    accelerate launch -m trainers.sft --config configs/embedded/diffusion.yaml --output_dir outputs/run

LoRA, of LLaDA-8B on the Alpaca data as in arXiv 2509.15188:

    accelerate launch -m trainers.sft --config configs/sft/llada_8b_lora.yaml

QLoRA: the same on a base model in 4 bits, for a smaller GPU:

    accelerate launch -m trainers.sft --config configs/sft/llada_8b_qlora.yaml

On data of your own (JSON lines with the columns `prompt` and `completion`, strings or messages), without a file:

    accelerate launch -m trainers.sft --model_name_or_path GSAI-ML/LLaDA-8B-Instruct --dtype bfloat16 \\
        --dataset_name json --data_files my.jsonl \\
        --use_peft --lora_r 64 --lora_alpha 16 --lora_target_modules q_proj k_proj v_proj --output_dir outputs/lora

On several devices, with one of the files in configs/accelerate (`fsdp2`, `zero2`, `zero3`, and `cpu` as well):

    accelerate launch --config_file configs/accelerate/ddp.yaml -m trainers.sft --config configs/sft/llada_8b_lora.yaml

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
In a clone, `train_sft.py` is the same: `accelerate launch train_sft.py ...`.
"""

import sys
from collections.abc import Sequence

from trl import TrlParser

from trainers import BD3LMTrainer, MDLMTrainer, MDLMTrainingConfig
from trainers.running import run_script
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def make_parser() -> TrlParser:
    return make_parser_for(MDLMTrainingConfig, __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the arguments say, which are those of the command line if `None`. Raises what is wrong."""
    train(Arguments(*make_parser().parse_args_and_config(argv)))


def train(arguments: Arguments) -> None:
    """By the trainer of the objective."""
    by_block = getattr(arguments.training, "objective", None) == "bd3lm"
    finetune(BD3LMTrainer if by_block else MDLMTrainer, arguments)


def run(argv: Sequence[str] | None = None) -> int:
    """As `main`, for a shell: returns the exit status, and what is wrong is one sentence on standard error."""
    return run_script("trainers.sft", lambda: Arguments(*make_parser().parse_args_and_config(argv)), train)


if __name__ == "__main__":
    sys.exit(run())
