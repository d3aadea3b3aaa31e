"""The model card that the trainers write: what the model is, how to generate with it, how it was made."""

import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import has_length

import conv_dlm
from conv_dlm.answering.loading import is_path
from conv_dlm.models.self_contained import SelfContained, add_code
from conv_dlm.utils.environment import device_name

# Settings of the config that a card tells, where the config has them.
SETTINGS = (
    "learning_rate",
    "lr_scheduler_type",
    "weight_decay",
    "objective",
    "complementary_masks",
    "loss_cover",
    "loss_norm",
    "canvas_length",
    "max_length",
    "corruption",
    "beta_w",
    "beta_l",
    "beta_a",
    "gamma",
    "log_prob_estimate",
    "max_completion_length",
    "num_generations",
    "num_iterations",
    "beta",
    "epsilon",
    "temperature",
    "rollout_kwargs",
    "mask_order",
    "complementary",
    "block_lengths",
    "mask_ratios",
    "certainty_weight",
    "certainty_temperature",
    "bf16",
    "seed",
)
PACKAGES = ("trl", "transformers", "peft", "torch", "datasets")
MAX_NEW_TOKENS = 128  # in the example, where no canvas says otherwise


def hub_link(name: str | None, kind: str = "") -> str | None:
    """A link to what has a name on the Hub; of a local path only the last part, since the rest is private."""
    if not name:
        return None
    if is_path(name):
        return f"`{Path(name).name}`"
    return f"[{name}](https://huggingface.co/{kind}{name})"


def settings(trainer: Trainer) -> dict[str, Any]:
    """What a reader needs to repeat the run, as rows of a table."""
    args, state = trainer.args, trainer.state
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    values = {name: getattr(args, name) for name in SETTINGS if getattr(args, name, None) is not None}
    # An enum's value.
    told = {f"`{name}`": getattr(value, "value", value) for name, value in values.items()}
    return {"steps": state.global_step, "rows a step": batch, "tokens seen": state.num_input_tokens_seen} | told


def last_evaluation(trainer: Trainer) -> dict[str, Any] | None:
    """Step and measures of the last evaluation in the log, `None` if there is none."""
    entry = next((e for e in reversed(trainer.state.log_history) if any(key.startswith("eval_") for key in e)), None)
    if entry is None:
        return None
    timings = ("_runtime", "_per_second")
    told = (key for key in entry if key.startswith("eval_") and not key.endswith(timings))
    measures = {key: entry[key] for key in told if entry[key] is not None}  # a deviation of one number, say
    return {"step": entry["step"], "measures": measures}


def hardware(args: TrainingArguments) -> str:
    """Processes, and the device of each."""
    processes = "1 process" if args.world_size == 1 else f"{args.world_size} processes"
    return f"{processes} on {device_name(args.device)}"


def versions() -> str:
    """Names and versions of the packages that matter."""
    found = {"conv-dlm": conv_dlm.__version__} | {name: metadata.version(name) for name in PACKAGES}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def render(trainer: "ModelCards", *, model_name: str | None, dataset_name: str | None, tags: Iterable[str]) -> str:
    """The card of a trainer's model as Markdown.

    Args:
        model_name (`str`, *optional*): heading; the output folder's name when unset.
        dataset_name (`str`, *optional*): of the training data, on the Hub.
    """
    model, args = trainer.model, trainer.args
    adapter = model.active_peft_config.peft_type if isinstance(model, PeftModel) else None
    base = getattr(getattr(model, "config", None), "_name_or_path", None)
    base_link, data_link = hub_link(base), hub_link(dataset_name, "datasets/")
    name = model_name or Path(str(args.output_dir)).name
    metadata = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=base if "](" in str(base_link) else None,
        datasets=[dataset_name] if dataset_name and "](" in str(data_link) else None,
        tags=sorted(tags),
    )
    canvas, longest = getattr(args, "canvas_length", None), getattr(args, "max_length", None)
    if canvas is not None and longest is not None and canvas >= longest:
        canvas = None  # prompts are a part of it, so that it is not what one generates on
    canvas = getattr(args, "max_completion_length", canvas)
    new_tokens = canvas or MAX_NEW_TOKENS
    return fill_in(
        metadata=metadata.to_yaml(),
        name=name,
        trainer=type(trainer).__name__,
        adapter=getattr(adapter, "value", adapter),
        auto_class="AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM",
        base_link=base_link or "a model without a name",
        repository=trainer.hub_model_id or name,
        denoises="masked-diffusion" in trainer._tag_names,
        chats=trainer.chats,
        question="What is diffusion?",
        canvas=canvas,
        new_tokens=new_tokens,
        steps=min(new_tokens, 128),
        method=trainer._paper["method"],
        paper=trainer._paper["id"],
        data_link=data_link,
        rows=len(trainer.train_dataset) if has_length(trainer.train_dataset) else "streamed",
        settings=settings(trainer),
        evaluation=last_evaluation(trainer),
        hardware=hardware(args),
        versions=versions(),
        sections={},
        citation=trainer._paper["citation"],
    )


def fill_in(**values: Any) -> str:
    """The one template of all model cards, filled with the values that it names; optional ones may be missing."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("model_card.jinja").render(**values)


class ModelCards(Trainer):
    """A trainer that writes a card of its own, as `README.md` in `output_dir`, with checkpoints and with the model.

    There and on the Hub a model has its code beside it, so that it loads without conv-dlm too.

    Subclasses say in `_paper` which method they train by: `id`, `title`, `method`, `citation`.
    """

    _name: str | None
    _paper: dict[str, str]
    _tag_names: list[str]
    chats = False  # whether the training data are chats, so that prompts are made by the tokenizer's template

    def create_model_card(  # type: ignore[override]  # TRL's signature
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write the card, and the code of the model if it is there; see [`~transformers.Trainer`] for the arguments."""
        if not self.is_world_process_zero():
            return
        more = [tags] if isinstance(tags, str) else tags or []
        card = render(self, model_name=model_name, dataset_name=dataset_name, tags={*self._tag_names, *more})
        folder = Path(str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(card, encoding="utf-8")
        self._add_code(folder)

    def _add_code(self, folder: Path) -> list[str]:
        """Let a full model that is saved there load without conv-dlm; the names of the code files."""
        model_class = type(self.accelerator.unwrap_model(self.model))
        native = issubclass(model_class, SelfContained) and model_class._auto_class is None
        return add_code(folder, model_class) if native and (folder / "config.json").is_file() else []

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As Trainer, which copies weights and config from the checkpoint to `output_dir` and uploads that."""
        if self.is_world_process_zero():
            for name in self._add_code(Path(checkpoint_folder)):
                shutil.copy(Path(checkpoint_folder, name), str(self.args.output_dir))
        super()._push_from_checkpoint(checkpoint_folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and its card if that is where it belongs."""
        super().save_model(output_dir, _internal_call)
        if not _internal_call and output_dir in (None, self.args.output_dir):
            self.create_model_card()  # PEFT has written one of its own there


R2FT_PAPER = {
    "id": "2509.15188",
    "title": "Fast and Fluent Diffusion Language Models via Convolutional Decoding and Rejective Fine-tuning",
    "method": "rejecting rule-based fine-tuning (R2FT)",
    "citation": """\
@inproceedings{seo2025fast,
  title     = {Fast and Fluent Diffusion Language Models via Convolutional Decoding and Rejective Fine-tuning},
  author    = {Yeongbin Seo and Dongha Lee and Jaehyung Kim and Jinyoung Yeo},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025},
  note      = {arXiv:2509.15188},
}""",
}
DPARALLEL_PAPER = {
    "id": "2509.26488",
    "title": "dParallel: Learnable Parallel Decoding for dLLMs",
    "method": "distillation for parallel decoding",
    "citation": """\
@article{chen2025dparallel,
  title  = {dParallel: Learnable Parallel Decoding for dLLMs},
  author = {Zigeng Chen and Gongfan Fang and Xinyin Ma and Ruonan Yu and Xinchao Wang},
  year   = {2025},
  note   = {arXiv:2509.26488},
}""",
}
BD3LM_PAPER = {
    "id": "2503.09573",
    "title": "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models",
    "method": "supervised fine-tuning with the objective of block diffusion",
    "citation": """\
@inproceedings{arriola2025block,
  title     = {Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models},
  author    = {Marianne Arriola and Aaron Gokaslan and Justin T Chiu and Zhihan Yang and Zhixuan Qi and Jiaqi Han and
               Subham Sekhar Sahoo and Volodymyr Kuleshov},
  booktitle = {International Conference on Learning Representations},
  year      = {2025},
  note      = {arXiv:2503.09573},
}""",
}
GRPO_PAPER = {
    "id": "2402.03300",
    "title": "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
    "method": "reinforcement learning with GRPO, on completions that were denoised",
    "citation": """\
@article{shao2024deepseekmath,
  title  = {DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models},
  author = {Zhihong Shao and Peiyi Wang and Qihao Zhu and Runxin Xu and Junxiao Song and Mingchuan Zhang and Y. K. Li
            and Y. Wu and Daya Guo},
  year   = {2024},
  note   = {arXiv:2402.03300},
}""",
}
MDLM_PAPER = {
    "id": "2406.07524",
    "title": "Simple and Effective Masked Diffusion Language Models",
    "method": "supervised fine-tuning with the objective of masked diffusion",
    "citation": """\
@inproceedings{sahoo2024simple,
  title     = {Simple and Effective Masked Diffusion Language Models},
  author    = {Subham Sekhar Sahoo and Marianne Arriola and Yair Schiff and Aaron Gokaslan and Edgar Marroquin and
               Justin T Chiu and Alexander Rush and Volodymyr Kuleshov},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv:2406.07524},
}

"""
    + R2FT_PAPER["citation"],
}
