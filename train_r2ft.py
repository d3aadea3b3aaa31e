# /// script
# dependencies = ["conv-dlm[train]"]
# ///
"""Rejecting rule-based fine-tuning (R2FT, arXiv 2509.15188) of a masked diffusion LM, after its SFT.

Full training, here after `train_sft.py --config configs/sft/embedded_first_eos.yaml`:

    accelerate launch train_r2ft.py --config configs/r2ft/embedded.yaml

LoRA: the adapter that `train_sft.py --config configs/sft/llada_8b_lora.yaml` has left goes on training:

    accelerate launch train_r2ft.py --config configs/r2ft/llada_8b_lora.yaml

QLoRA: the same on a base model in 4 bits, after configs/sft/llada_8b_qlora.yaml:

    accelerate launch train_r2ft.py --config configs/r2ft/llada_8b_qlora.yaml

On data of your own, with your own SFT model (trained with `loss_cover: response`), without a file; `canvas_length` is
the `max_new_tokens` that you generate with:

    accelerate launch train_r2ft.py --model_name_or_path outputs/lora --dtype bfloat16 --canvas_length 512 \\
        --dataset_name json --data_files my.jsonl --max_steps 300 --learning_rate 5e-6 --output_dir outputs/lora-r2ft

On several devices, with one of the files in configs/accelerate (`fsdp2`, `zero2`, `zero3`, and `cpu` as well):

    accelerate launch --config_file configs/accelerate/ddp.yaml train_r2ft.py --config configs/r2ft/llada_8b_lora.yaml

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
"""

from trl import TrlParser

from trainers import R2FTConfig, R2FTTrainer
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def main(arguments: Arguments) -> None:
    finetune(R2FTTrainer, arguments)


def make_parser() -> TrlParser:
    return make_parser_for(R2FTConfig, __doc__)


if __name__ == "__main__":
    main(Arguments(*make_parser().parse_args_and_config()))
