"""A model that answers prompts outside of a trainer: loaded, asked in its own template, judged by a reward."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.data_utils import is_conversational

from trainers.running import loading


def load(name: str, dtype: str, device: str | None) -> tuple[Any, Any]:
    """The model, ready to generate, and its tokenizer.

    Args:
        name (`str`): name on the Hub, or folder.
        dtype (`str`): of the weights; `"auto"` for the checkpoint's.
        device (`str`, *optional*): a GPU if there is one.

    Raises:
        `ValueError`: files that are not there, or don't fit.
    """
    model: Any = loading(lambda: AutoModelForCausalLM.from_pretrained(name, dtype=dtype), name)
    tokenizer = loading(lambda: AutoTokenizer.from_pretrained(name), name)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


def prompt_ids(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The token ids of the rows' prompts, texts or conversations."""
    prompts = [row["prompt"] for row in rows]
    if is_conversational({"prompt": prompts[0]}):
        tokens = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_dict=True)
    else:
        tokens = tokenizer(text=prompts)
    ids: list[list[int]] = tokens["input_ids"]
    return ids


def judged(
    judge: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], completion_ids: Sequence[Sequence[int]]
) -> list[float | None]:
    """What a reward says of completions to the rows' prompts; it gets the rows' other columns too."""
    prompts = [row["prompt"] for row in rows]
    texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    chats = is_conversational({"prompt": prompts[0]})
    completions = [[{"role": "assistant", "content": text}] for text in texts] if chats else texts
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("prompt", "completion")}
    values: list[float | None] = judge(prompts=prompts, completions=completions, **columns)
    return values
