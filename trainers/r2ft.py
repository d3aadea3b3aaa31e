"""Rejecting rule-based fine-tuning (R2FT, arXiv 2509.15188) of a masked diffusion LM, after its SFT.

Full training, here after `trainers.sft --config configs/embedded/first_eos.yaml`:

    accelerate launch -m trainers.r2ft --config configs/embedded/r2ft.yaml

LoRA: the adapter that `trainers.sft --config configs/sft/llada_8b_lora.yaml` has left goes on training:

    accelerate launch -m trainers.r2ft --config configs/r2ft/llada_8b_lora.yaml

QLoRA: the same on a base model in 4 bits, after configs/sft/llada_8b_qlora.yaml:

    accelerate launch -m trainers.r2ft --config configs/r2ft/llada_8b_qlora.yaml

On data of your own, with your own SFT model (trained with `loss_cover: response`), without a file; `canvas_length` is
the `max_new_tokens` that you generate with:

    accelerate launch -m trainers.r2ft --model_name_or_path outputs/lora --dtype bfloat16 --canvas_length 512 \\
        --dataset_name json --data_files my.jsonl --max_steps 300 --learning_rate 5e-6 --output_dir outputs/lora-r2ft

On several devices, with one of the files in configs/accelerate (`fsdp2`, `zero2`, `zero3`, and `cpu` as well):

    accelerate launch --config_file configs/accelerate/ddp.yaml -m trainers.r2ft \\
        --config configs/r2ft/llada_8b_lora.yaml

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
In a clone, `train_r2ft.py` is the same: `accelerate launch train_r2ft.py ...`.
"""

import sys
from collections.abc import Sequence
from functools import partial

from trl import TrlParser

from trainers import R2FTConfig, R2FTTrainer
from trainers.running import run_script
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def make_parser() -> TrlParser:
    return make_parser_for(R2FTConfig, __doc__)


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the arguments say, which are those of the command line if `None`. Raises what is wrong."""
    finetune(R2FTTrainer, Arguments(*make_parser().parse_args_and_config(argv)))


def run(argv: Sequence[str] | None = None) -> int:
    """As `main`, for a shell: returns the exit status, and what is wrong is one sentence on standard error."""
    return run_script(
        "trainers.r2ft", lambda: Arguments(*make_parser().parse_args_and_config(argv)), partial(finetune, R2FTTrainer)
    )


if __name__ == "__main__":
    sys.exit(run())
