"""Fields of a recipe: each of its type, and what is handed on to other libraries is tried before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, ModelConfig, SFTConfig

from trainers import (
    ARR2FTTrainer,
    DiffusionGRPOConfig,
    DiffusionGRPOTrainer,
    DistillTrainer,
    MDLMTrainer,
    MDLMTrainingConfig,
    R2FTTrainer,
)
from trainers.data import DataArguments
from trainers.values import read_values

OF_SFT = ("eval_sample_kwargs", "dataset_kwargs", "activation_offloading")
HERE = dict(use_cpu=True, bf16=False)
KWARGS = "gradient_checkpointing_kwargs"  # which newer releases call after activations


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr_scheduler_kwargs": {"nonsense": 3}}, "does not fit `lr_scheduler_type='linear'`: .*'nonsense'"),
        (dict(lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": "x"}), "does not fit .*'cosine'"),
        (dict(lr_scheduler_type="cosine_with_min_lr"), "One of min_lr or min_lr_rate should be set"),
        (dict(lr_scheduler_type="constant", lr_scheduler_kwargs={"min_lr": 1e-6}), "has no effect"),
        ({"lr_scheduler_kwargs": [1]}, r"`lr_scheduler_kwargs=\[1\]` must be a mapping"),
        ({"lr_scheduler_kwargs": "{'"}, "is no JSON"),
        ({"lr_scheduler_type": "sinus"}, "`lr_scheduler_type='sinus'` is unknown; choose one of 'linear', 'cosine'"),
        ({KWARGS: {"nonsense": 3}}, "_checkpointing_kwargs` has the unknown key 'nonsense'; it may have context_fn"),
        ({KWARGS: {"determinism_check": 3}}, "_checkpointing_kwargs=.*can't be"),
        ({KWARGS: {"every_n_layers": 0}}, "`every_n_layers=0`; it must be a whole number of at least 1"),
        ({KWARGS: {"use_reentrant": "no"}}, "`use_reentrant='no'`; it must be true or false"),
        ({KWARGS: {"offload": "cpu"}}, "`offload='cpu'`; it must be true or false"),
        ({"activation_offloading": True}, "needs an accelerator"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"nonsense": 3}}}, "can't be: .*'nonsense'"),
        ({"accelerator_config": {"split_batches": "x"}}, "must be true or false"),
        ({"parallelism_config": {"a": 1}}, "must be a ParallelismConfig, which no recipe can hold"),
        ({"adam_beta1": 1.5}, "must be below 1"),
        ({"report_to": ["tensorboard", "neptune"]}, "`report_to` names .*, which is not installed"),
        ({"accelerator_config": {"nonsense": 3}}, "has the unknown key 'nonsense'; it may have dispatch_batches"),
        ({"accelerator_config": "nowhere.json"}, "there is no such file"),
        ({"fsdp_config": {"nonsense": 3}}, "has the unknown key 'nonsense'; it may have activation_checkpointing"),
        ({"fsdp_config": {"version": 2}}, "has no effect without `fsdp: true`"),
        ({"dataset_kwargs": {"nonsense": 3}}, "has the unknown key"),
        ({"eval_sample_kwargs": 5}, "must be a mapping"),
        ({"model_init_kwargs": [1]}, "must be a mapping"),
        ({"optim_args": "nonsense"}, "must be names and values"),
        ({"optim_args": "rank=64"}, "has rank=64, which `optim='adamw_torch"),
        ({"optim": "rmsprop", "optim_args": "momentum=0.9, momentun=0.9"}, "has momentun=0.9, which `optim='rmsprop'"),
        ({"optim": "nonsense"}, "`optim='nonsense'` is unknown; choose one of 'adamw_torch'"),
        ({"liger_kernel_config": {"rope": True}}, "does not apply to masked diffusion"),
        ({"gradient_checkpointing": 2}, "must be true or false"),
        ({"bf16": "no"}, "must be true or false"),
        ({"train_sampling_strategy": "nonsense"}, "is unknown; choose one of 'random', 'sequential'"),
        ({"label_names": 5}, "must be a list"),
        ({"run_name": [1]}, "must be text; put it in quotes"),
    ],
    ids=str,
)
def test_what_can_t_be(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MDLMTrainingConfig(str(tmp_path), **HERE | fields)
    fields = {name: value for name, value in fields.items() if name not in OF_SFT}
    if fields:
        with pytest.raises(ValueError, match=message):
            DiffusionGRPOConfig(str(tmp_path), per_device_train_batch_size=8, **HERE | fields)


def test_what_is_meant(tmp_path: Path) -> None:
    """As YAML and shells write it."""
    config = MDLMTrainingConfig(
        tmp_path, use_cpu=1, bf16=False, eval_strategy=False, run_name=5, lr_scheduler_kwargs='{"num_cycles": 0.4}',
        lr_scheduler_type="cosine", gradient_checkpointing_kwargs={"use_reentrant": True, "every_n_layers": 2},
        accelerator_config={"split_batches": True}, optim="rmsprop", optim_args="momentum=0.9, centered=true",
        report_to="none", label_names=("x",),
    )  # fmt: skip
    assert (config.output_dir, config.use_cpu) == (str(tmp_path), True)
    assert (config.eval_strategy, config.run_name) == ("no", "5")
    assert config.lr_scheduler_kwargs == {"num_cycles": 0.4} and config.label_names == ["x"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lora_r": 1.5}, "`lora_r=1.5` must be a whole number"),
        ({"lora_alpha": 0}, "must be at least 1"),
        ({"lora_dropout": -1}, "must be at least 0"),
        ({"lora_target_modules": 5}, "must be a list"),
        ({"bnb_4bit_quant_type": "x"}, "is unknown; choose one of 'fp4', 'nf4'"),
        ({"dtype": "float7"}, "is unknown; choose one of 'auto'"),
    ],
    ids=str,
)
def test_the_models_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_values(ModelConfig(**fields))


def test_the_datas_fields() -> None:
    with pytest.raises(ValueError, match=r"`held_out_rows=2\.5` must be a whole number"):
        DataArguments(held_out_rows=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`problem_levels\[1\]='x'` must be a whole number"):
        DataArguments(problem_levels=[1, "x"])  # type: ignore[list-item]
    assert DataArguments(data_files={"train": "a.jsonl"}).data_files == {"train": "a.jsonl"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trainer", "args", "told"),
    [
        (MDLMTrainer, SFTConfig, "`args` is a SFTConfig, and MDLMTrainer takes a MDLMTrainingConfig"),
        (R2FTTrainer, MDLMTrainingConfig, "`args` is a MDLMTrainingConfig, and R2FTTrainer takes a R2FTConfig"),
        (ARR2FTTrainer, SFTConfig, "ARR2FTTrainer takes a R2FTConfig"),
        (DistillTrainer, MDLMTrainingConfig, "DistillTrainer takes a DistillConfig"),
        (DiffusionGRPOTrainer, GRPOConfig, "DiffusionGRPOTrainer takes a DiffusionGRPOConfig"),
    ],
)
def test_the_config_of_another_trainer(tmp_path: Path, trainer: Any, args: Any, told: str) -> None:
    more = {"per_device_train_batch_size": 8} if args is GRPOConfig else {}
    given = (None, "r") if trainer is DiffusionGRPOTrainer else (None,)
    with pytest.raises(ValueError, match=told):
        trainer(*given, args=args(str(tmp_path), use_cpu=True, bf16=False, **more))
