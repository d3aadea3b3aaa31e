# /// script
# dependencies = ["conv-dlm[train]"]
# ///
"""Supervised fine-tuning of a masked diffusion LM.

Full training, here of the checkpoint that the package carries:

    accelerate launch train_sft.py --config configs/sft/embedded.yaml --output_dir outputs/embedded

LoRA, on data of your own (JSONL with the columns `prompt` and `completion`, strings or messages):

    accelerate launch train_sft.py --model_name_or_path GSAI-ML/LLaDA-8B-Instruct --dtype bfloat16 \\
        --dataset_name json --data_files my.jsonl \\
        --use_peft --lora_r 64 --lora_alpha 16 --lora_target_modules q_proj k_proj v_proj --output_dir outputs/lora

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any

from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, TrlParser

from trainers import MDLMConfig


@dataclass
class DataArguments(ScriptArguments):
    """What TRL's script arguments say about the data, and how its columns become prompts and responses.

    Args:
        data_files (`str`, *optional*):
            Local file or pattern, read with the loader that `dataset_name` then names: `json`, `csv`, `parquet`.
        prompt_column, completion_column (`str`, *optional*):
            Columns of strings that are put into the chat template as the user's and the assistant's turn, for data
            that has not TRL's columns `prompt` and `completion`. Set both or neither.
        held_out_rows (`int`, *optional*, defaults to `0`):
            Take the last rows of the training split out of it, as evaluation set in place of `dataset_test_split`.
        max_eval_rows (`int`, *optional*):
            Evaluate on no more than the last so many rows of the evaluation set; all of them when unset.
    """

    data_files: str | None = field(default=None, metadata={"help": "Local data, for `dataset_name` json, csv, ..."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with what the user says."})
    completion_column: str | None = field(default=None, metadata={"help": "Column with what the assistant answers."})
    held_out_rows: int = field(default=0, metadata={"help": "Last rows of the training split, kept for evaluation."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "Evaluate on the last so many rows at most."})

    def __post_init__(self) -> None:
        if (self.prompt_column is None) != (self.completion_column is None):
            raise ValueError("Set both `prompt_column` and `completion_column`, or neither.")
        if self.held_out_rows < 0:
            raise ValueError(f"`held_out_rows={self.held_out_rows}` must be 0 or more.")
        if self.max_eval_rows is not None and self.max_eval_rows < 1:
            raise ValueError(f"`max_eval_rows={self.max_eval_rows}` must be 1 or more; leave it unset for all rows.")


def load_data(data_args: DataArguments, mixture_args: DatasetMixtureConfig, evaluate: bool) -> tuple[Any, Any]:
    """Training and evaluation set (`None` if not asked for) as the arguments describe them."""
    from datasets import load_dataset
    from trl import get_dataset

    if mixture_args.datasets:
        splits = get_dataset(mixture_args)
    elif data_args.dataset_name:
        splits = load_dataset(data_args.dataset_name, data_args.dataset_config, data_files=data_args.data_files)
    else:
        raise ValueError("Name the data: set `datasets` or `dataset_name`.")
    train, test = splits[data_args.dataset_train_split], None
    if data_args.held_out_rows:
        kept = len(train) - data_args.held_out_rows
        if kept < 1:
            raise ValueError(f"`held_out_rows={data_args.held_out_rows}` leaves nothing of {len(train)} training rows.")
        train, test = train.select(range(kept)), train.select(range(kept, len(train)))
    elif evaluate:
        test = splits[data_args.dataset_test_split]
    if not evaluate:
        test = None
    elif data_args.max_eval_rows is not None:
        test = test.select(range(max(0, len(test) - data_args.max_eval_rows), len(test)))
    if data_args.prompt_column is not None:
        columns = data_args.prompt_column, data_args.completion_column
        train, test = to_turns(train, *columns), to_turns(test, *columns) if evaluate else None
    return train, test


def to_turns(dataset: Any, prompt_column: str, completion_column: str) -> Any:
    """Two columns of strings as one turn of a user and one of an assistant, in TRL's prompt-completion format."""
    for column in (prompt_column, completion_column):
        if column not in dataset.column_names:
            raise ValueError(f"The data has no column `{column}`; its columns are {', '.join(dataset.column_names)}.")
    return dataset.map(
        lambda row: {
            "prompt": [{"role": "user", "content": row[prompt_column]}],
            "completion": [{"role": "assistant", "content": row[completion_column]}],
        },
        remove_columns=dataset.column_names,
    )


def main(
    data_args: DataArguments, training_args: MDLMConfig, model_args: ModelConfig, mixture_args: DatasetMixtureConfig
) -> None:
    from trl import get_peft_config, get_quantization_config

    import conv_dlm  # noqa: F401  registers LLaDA and MDLM
    from trainers import MDLMTrainer

    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
    } | (training_args.model_init_kwargs or {})
    train, test = load_data(data_args, mixture_args, evaluate=training_args.eval_strategy != "no")
    trainer = MDLMTrainer(
        model=model_args.model_name_or_path,
        args=training_args,
        train_dataset=train,
        eval_dataset=test,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model(training_args.output_dir)
    trainer.accelerator.print(f"Trained model saved to {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=data_args.dataset_name)
    trainer.end()


def make_parser() -> argparse.ArgumentParser:
    return TrlParser((DataArguments, MDLMConfig, ModelConfig, DatasetMixtureConfig), description=__doc__)


if __name__ == "__main__":
    main(*make_parser().parse_args_and_config())
