# /// script
# dependencies = ["conv-dlm[train]"]
# ///
"""Supervised fine-tuning of a masked diffusion LM.

Full training, here of the checkpoint that the package carries:

    accelerate launch train_sft.py --config configs/sft/embedded.yaml --output_dir outputs/embedded

LoRA, of LLaDA-8B on the Alpaca data as in arXiv 2509.15188:

    accelerate launch train_sft.py --config configs/sft/llada_8b_lora.yaml

QLoRA: the same on a base model in 4 bits, for a smaller GPU:

    accelerate launch train_sft.py --config configs/sft/llada_8b_qlora.yaml

On data of your own (JSON lines with the columns `prompt` and `completion`, strings or messages), without a file:

    accelerate launch train_sft.py --model_name_or_path GSAI-ML/LLaDA-8B-Instruct --dtype bfloat16 \\
        --dataset_name json --data_files my.jsonl \\
        --use_peft --lora_r 64 --lora_alpha 16 --lora_target_modules q_proj k_proj v_proj --output_dir outputs/lora

On several devices, with one of the files in configs/accelerate (`fsdp2`, `zero2`, `zero3`, and `cpu` as well):

    accelerate launch --config_file configs/accelerate/ddp.yaml train_sft.py --config configs/sft/llada_8b_lora.yaml

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
"""

from trl import TrlParser

from trainers import MDLMConfig, MDLMTrainer
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def main(arguments: Arguments) -> None:
    finetune(MDLMTrainer, arguments)


def make_parser() -> TrlParser:
    return make_parser_for(MDLMConfig, __doc__)


if __name__ == "__main__":
    main(Arguments(*make_parser().parse_args_and_config()))
