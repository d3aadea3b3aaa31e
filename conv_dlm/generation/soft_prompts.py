"""Adapters of PEFT that put vectors before the text (prompt, prefix and p-tuning), which a canvas has no place for.

Such a `PeftModel` hands `generate` to its base model, and its vectors to a method that only writing from left to right
calls; so nothing but the base model's own text would come out.
"""

from typing import Any

from conv_dlm.generation.errors import SettingError


def check_no_soft_prompt(model: Any) -> None:
    """Raise SettingError if `generate` was called by a `PeftModel` whose active adapter is one."""
    caller = getattr(vars(model).get("prepare_inputs_for_generation"), "__self__", None)
    adapter: Any = getattr(caller, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        kind = getattr(adapter.peft_type, "value", adapter.peft_type)
        raise SettingError(
            "adapter", f"of the type {kind} puts vectors before the text, which denoising doesn't see",
            "train a LoRA, or call `generate` inside `with model.disable_adapter():`",
        )  # fmt: skip
