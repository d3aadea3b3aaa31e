"""PEFT adapters of denoisers: default target layers, misleading layer names, 4-bit base models."""

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
    """Complete a config: target layers by model type, and the task.

    Args:
        peft_config ([`~peft.PeftConfig`]): the config; not changed.
        model (`str` or a model): the base model.
        options: for [`~transformers.AutoConfig.from_pretrained`], if the model is a name.

    Raises:
        `ValueError`: a target is the output head, or a name that only the published files use.
    """
    config = AutoConfig.from_pretrained(model, **options) if isinstance(model, str) else model.config
    kind = config.model_type
    peft_config = copy.copy(peft_config)
    if peft_config.task_type is None:
        peft_config.task_type = TaskType.CAUSAL_LM  # so that it loads again as a model that generates
    targets = getattr(peft_config, "target_modules", None)
    if targets is not None:
        check_targets(targets, kind)
    elif isinstance(peft_config, LoraConfig) and not peft_config.target_parameters and kind in DEFAULT_TARGETS:
        peft_config.target_modules = copy.copy(DEFAULT_TARGETS[kind])
    return peft_config


def check_targets(targets: str | list[str] | set[str], kind: str) -> None:
    """Raise ValueError for target layers that this model type lacks, or that can't be adapted.

    A pattern (`str`) is left to PEFT.
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

    At evaluation, bitsandbytes 0.50 packs them for speed on CPUs with AVX512-BF16 and never unpacks them: after the
    first evaluation nothing would be learnt, without any message.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
