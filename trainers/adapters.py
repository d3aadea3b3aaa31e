"""PEFT adapters of denoisers: default target layers, misleading layer names, 4-bit base models."""

import copy
import difflib
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
        `ValueError`: a target is the output head, or a name that only the published files use; or the
            adapter's type puts vectors before the text.
    """
    check_kind(peft_config)
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


def check_kind(peft_config: PeftConfig) -> None:
    """Raise ValueError for an adapter that puts vectors before the text: a canvas has no place for them."""
    if peft_config.is_prompt_learning:
        kind = getattr(peft_config.peft_type, "value", peft_config.peft_type)
        raise ValueError(
            f"`peft_config` is of the type {kind}, which puts vectors before the text; denoising doesn't see them: "
            "train a LoRA, say `LoraConfig()`."
        )


def check_adapters(model: torch.nn.Module) -> None:
    """Raise ValueError if a name in the adapter's config matches no layer, which PEFT passes over in silence."""
    if not isinstance(model, PeftModel):
        return
    modules = [name for name, _ in model.get_base_model().named_modules()]
    for config in model.peft_config.values():
        check_kind(config)
        for field in ("target_modules", "modules_to_save", "target_parameters"):
            names = getattr(config, field, None)
            if not isinstance(names, list | tuple | set):  # a pattern that fits nothing is PEFT's own error
                continue
            last = [name.rsplit(".", 1)[0] if field == "target_parameters" else name for name in names]
            wrong = sorted(
                name for name, end in zip(names, last, strict=True) if not any(leads_to(end, one) for one in modules)
            )
            if wrong:
                layers = sorted({one.rsplit(".", 1)[-1] for one in modules if one} - set(map(str, range(10_000))))
                near = difflib.get_close_matches(wrong[0].split(".")[-1], layers, 1)
                remedy = f"did you mean {near[0]!r}?" if near else "drop it, or see `model.named_modules()`."
                raise ValueError(f"`{field}` holds {wrong[0]!r}, and the model has no such layer; {remedy}")


def leads_to(name: str, module: str) -> bool:
    """Whether PEFT would match this module by that name; PEFT's own wrappers count as part of it."""
    inside = [part for part in module.split(".") if part not in ("base_layer", "original_module", "modules_to_save")]
    wanted = name.split(".")
    return inside[-len(wanted) :] == wanted


def keep_trainable(model: torch.nn.Module) -> None:
    """Keep 4-bit weights on a CPU in the form that gradients pass through.

    At evaluation, bitsandbytes 0.50 packs them for speed on CPUs with AVX512-BF16 and never unpacks them: after the
    first evaluation nothing would be learnt, without any message.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
