"""Adapters (PEFT) of denoisers: which layers they go to unless told, names that would mislead, 4-bit bases."""

import copy
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, TaskType
from transformers import AutoConfig, PreTrainedModel

from conv_dlm.models.adapter_targets import DEFAULT_TARGETS

HEADS = {"llada": "lm_head", "mdlm": "output_layer.linear"}
# Layers whose names in the published files are not those of the model here.
ORIGINAL_NAMES = {"llada": {"attn_out": "o_proj", "ff_proj": "gate_proj", "ff_out": "down_proj"}}


def complete(peft_config: PeftConfig, model: str | PreTrainedModel | PeftModel, **options: Any) -> PeftConfig:
    """The config with what it leaves open: target layers by the kind of the model, and the task.

    Args:
        peft_config ([`~peft.PeftConfig`]): stays as it is.
        model (`str` or a model): what the adapter will be put on.
        options: for [`~transformers.AutoConfig.from_pretrained`], where the model is a name.

    Raises:
        `ValueError`: a target that is the output head, or a name that only the published files use.
    """
    config = AutoConfig.from_pretrained(model, **options) if isinstance(model, str) else model.config
    kind = config.model_type
    peft_config = copy.copy(peft_config)
    if peft_config.task_type is None:
        peft_config.task_type = TaskType.CAUSAL_LM  # what loads it again as a model that generates
    targets = getattr(peft_config, "target_modules", None)
    if targets is not None:
        check_targets(targets, kind)
    elif isinstance(peft_config, LoraConfig) and not peft_config.target_parameters and kind in DEFAULT_TARGETS:
        peft_config.target_modules = copy.copy(DEFAULT_TARGETS[kind])
    return peft_config


def check_targets(targets: str | list[str] | set[str], kind: str) -> None:
    """Raise ValueError for target layers that a model of this kind has not, or that can't be adapted.

    A pattern (`str`) is PEFT's to judge.
    """
    if isinstance(targets, str):
        return
    for target in sorted(targets):
        last = target.split(".")[-1]
        if renamed := ORIGINAL_NAMES.get(kind, {}).get(last):
            also = f" `{last}` is also how they call the output head, which stays as it is." if last == "ff_out" else ""
            raise ValueError(
                f"`target_modules` holds {target!r}, a name of the published files; the layer is called {renamed!r} "
                f"here.{also}"
            )
        head = HEADS.get(kind, "lm_head")
        if head == target or head.endswith(f".{target}") or target.endswith(f".{head}"):
            raise ValueError(
                f"`target_modules` holds {target!r}, the output head, which adapters don't go to: leave it out, or "
                "train it whole with `modules_to_save`."
            )


def keep_trainable(model: torch.nn.Module) -> None:
    """Keep 4-bit weights on a CPU in the form that gradients pass through.

    At evaluation, bitsandbytes 0.50 packs those of CPUs with AVX512-BF16 for speed, and never back: from the first
    evaluation on, nothing would be learnt, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
