"""What `trainers.sft` and its siblings share: their arguments, and the way from these to a saved model."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import find_adapter_config_file
from trl import DatasetMixtureConfig, ModelConfig, TrlParser, get_peft_config, get_quantization_config
from trl.trainer.utils import create_model_from_path

from trainers.checkpoints import choose_checkpoint, finished_at, last_checkpoint, read_resume
from trainers.data import DataArguments, load_data
from trainers.denoiser_trainer import DenoiserTrainer
from trainers.grpo_config import DiffusionGRPOConfig
from trainers.mdlm_config import MDLMTrainingConfig
from trainers.running import cannot_be_loaded, loading
from trainers.values import read_values

logger = logging.getLogger(__name__)
TrainingConfig: TypeAlias = MDLMTrainingConfig | DiffusionGRPOConfig
T = TypeVar("T", bound=DenoiserTrainer)


@dataclass
class Arguments:
    """All that a script is told.

    Args:
        data ([`DataArguments`]): which data, and how it is read.
        training ([`MDLMTrainingConfig`] or another): configuration of the trainer.
        model ([`~trl.ModelConfig`]): checkpoint, dtype, adapters and quantisation.
        mixture ([`~trl.DatasetMixtureConfig`]): several datasets, in place of `data.dataset_name`.
    """

    data: DataArguments
    training: TrainingConfig
    model: ModelConfig
    mixture: DatasetMixtureConfig

    def __post_init__(self) -> None:
        read_values(self.model)
        read_values(self.mixture)


def make_parser(
    config_class: type[TrainingConfig], description: str | None, data_class: type[DataArguments] = DataArguments
) -> TrlParser:
    """Parser of a script's arguments: a YAML file after `--config` sets defaults, the command line overrides them."""
    classes: Any = (data_class, config_class, ModelConfig, DatasetMixtureConfig)
    return TrlParser(classes, description=description)


def finetune(trainer_class: Callable[..., DenoiserTrainer], arguments: Arguments, **more: Any) -> None:
    """Train, save into `output_dir`, and push if asked to; `more` is for the trainer."""
    training = arguments.training
    check_processes(training)
    resume = check_output_dir(training.output_dir, training.resume_from_checkpoint)
    if is_finished(training, resume):
        print(f"The run in {training.output_dir} is complete: nothing is changed.")
        return
    build = partial(build_trainer, trainer_class, arguments, **more)
    trainer = loading(build, str(arguments.model.model_name_or_path))
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model(training.output_dir)
    trainer.accelerator.print(f"Trained model saved to {training.output_dir}.")
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=arguments.data.dataset_name)
    trainer.end()


def is_finished(training: TrainingConfig, resume: str | bool | None) -> bool:
    """Whether the run to be resumed has taken all its steps and saved its model."""
    checkpoint = choose_checkpoint(resume, str(training.output_dir))
    if checkpoint is None or finished_at(checkpoint, training.max_steps, training.num_train_epochs) is None:
        return False
    return any(Path(str(training.output_dir), name).is_file() for name in ("config.json", "adapter_config.json"))


def check_processes(training_args: TrainingConfig) -> None:
    """Refuse what Accelerate would silently do differently on CPUs.

    Raises:
        `ValueError`: the launcher has started several processes, and each takes itself for the only one, which it does
            without `use_cpu` and GPUs; or it was told to shard, and `use_cpu` makes it replicate.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1 and training_args.world_size == 1:
        raise ValueError(
            f"{started} processes were started, but found no GPUs to share out: set `use_cpu: true` in the recipe to "
            "train on the CPU with all of them."
        )
    for name in ("FSDP", "DEEPSPEED"):
        if training_args.use_cpu and os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise ValueError(f"Accelerate has no {name} for `use_cpu: true`: launch by configs/accelerate/cpu.yaml.")


def check_output_dir(output_dir: str | None, resume: str | bool | None) -> str | bool | None:
    """Refuse to train over another run.

    Returns:
        What to resume from, in the terms of [`~transformers.Trainer.train`]; "true" of a command line is `True`.

    Raises:
        `ValueError`: the folder holds checkpoints or a model, and nobody asked to resume.
    """
    resume = read_resume(resume)
    folder = Path(str(output_dir))
    if resume or not folder.is_dir():
        return resume
    if checkpoint := last_checkpoint(folder):
        raise ValueError(
            f"`output_dir={output_dir}` holds another run, up to {Path(checkpoint).name}. To resume it set "
            "`resume_from_checkpoint: true`; to start anew name another `output_dir`."
        )
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(f"`output_dir={output_dir}` holds a model, and no checkpoint to go on from: name another one.")
    return resume


def build_trainer(trainer_class: Callable[..., T], arguments: Arguments, **more: Any) -> T:
    """Data, model and trainer, ready to train; `more` is for the trainer."""
    import conv_dlm  # noqa: F401  registers LLaDA and MDLM

    data, training, model = arguments.data, arguments.training, arguments.model
    check_model_name(model.model_name_or_path)
    given: Any = training.model_init_kwargs or {}
    options = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **given,
    }
    with training.main_process_first(desc="loading data"):  # the others find it in the cache
        train, test = load_data(
            data,
            arguments.mixture,
            evaluate=training.eval_strategy != "no",
            text_column=getattr(training, "dataset_text_field", "text"),
        )
    adapted = load_adapter(model, training, options)
    training.model_init_kwargs = None if adapted else options  # used, or for the trainer to use
    if adapted is None:
        where: Any = {"revision": model.model_revision, "trust_remote_code": training.trust_remote_code}
        name = str(model.model_name_or_path)
        loading(partial(AutoConfig.from_pretrained, name, **where), f"`model_name_or_path={name}`")
        check_lora(model)
    return trainer_class(
        model=adapted or str(model.model_name_or_path),
        args=training,
        train_dataset=train,
        eval_dataset=test,
        processing_class=load_tokenizer(data, model),
        quantization_config=None if adapted else get_quantization_config(model),
        peft_config=get_peft_config(model),
        **more,
    )


def check_lora(model: ModelConfig) -> None:
    """Warn of settings of an adapter where none is asked for."""
    said = [
        its.name
        for its in fields(model)
        if its.name.startswith("lora_") and getattr(model, its.name) != getattr(ModelConfig(), its.name)
    ]
    if said and not model.use_peft:
        logger.warning("`%s` has no effect without `use_peft: true`: all weights are trained.", "`, `".join(said))


def check_model_name(name: str | None) -> None:
    """Refuse a model that isn't there before the Hub is asked for it.

    Raises:
        `ValueError`: no name; or the folder of a run that hasn't been made, with the recipe that makes it.
    """
    if not name:
        raise ValueError("Name the model to start from: set `model_name_or_path`.")
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError(f"`model_name_or_path={name}` is a folder without a model: it has no config.json.")
        return
    if not (name.startswith((".", "/", "~", "outputs/")) or name.count("/") > 1):
        return
    recipes = sorted(Path("configs").rglob("*.y*ml"))
    line = re.compile(rf"^output_dir: *{re.escape(name)} *(#.*)?$", re.MULTILINE)
    made_by = [str(path) for path in recipes if line.search(path.read_text(encoding="utf-8"))]
    remedy = f"the recipe {made_by[0]} makes it, run that first" if made_by else "train it first, or mend the path"
    raise ValueError(f"`model_name_or_path={name}`: there is no such folder; {remedy}.")


def load_tokenizer(data_args: DataArguments, model_args: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that the arguments name, or the model's own."""
    options = {"add_bos_token": True} if data_args.add_bos_token else {}
    if data_args.tokenizer_name:
        name, revision, field = data_args.tokenizer_name, None, "tokenizer_name"
    else:
        name, revision, field = str(model_args.model_name_or_path), model_args.model_revision, "model_name_or_path"
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, **options)
    except (OSError, ValueError) as error:
        raise cannot_be_loaded(f"The tokenizer of `{field}={name}`", error) from error


def load_adapter(model_args: ModelConfig, training_args: TrainingConfig, options: dict[str, Any]) -> PeftModel | None:
    """The adapter, on its base model, where `model_name_or_path` is one: it goes on training (SFT, then R2FT).

    `options` are for the base model's `from_pretrained`, but the revision, which is the adapter's.

    Raises:
        `ValueError`: a new adapter is asked for on top of it.
    """
    name, options = str(model_args.model_name_or_path), dict(options)
    revision = options.pop("revision")
    if find_adapter_config_file(name, revision=revision) is None:
        return None
    if model_args.use_peft:
        raise ValueError(
            f"`model_name_or_path={name}` is an adapter already, which trains further: leave out `use_peft`; or "
            "merge it into its base model first, to begin a new one."
        )
    config = PeftConfig.from_pretrained(name, revision=revision)
    # As SFTTrainer does for a name: more than one process places models by itself, each on its own device.
    if training_args.distributed_state is not None and training_args.distributed_state.use_distributed:
        options["device_map"] = None
    if (quantization := get_quantization_config(model_args)) is not None:
        options["quantization_config"] = quantization
    base = create_model_from_path(str(config.base_model_name_or_path), revision=config.revision, **options)
    # ZeRO-3 gathers adapter and base into one buffer, which has one dtype.
    return PeftModel.from_pretrained(
        base, name, revision=revision, is_trainable=True, autocast_adapter_dtype=not is_deepspeed_zero3_enabled()
    )
