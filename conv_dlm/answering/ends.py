"""The ids that end an answer: one notion of it, for training, generation, stopping and serving."""

from collections.abc import Iterable
from typing import Any

from jinja2 import TemplateError

ANSWER = "answer"


def end_ids(tokenizer: Any, *configs: Any) -> list[int]:
    """The ids that end an answer, the one that fills a canvas behind it first.

    The tokenizer's EOS, those of the configs (a model's config, its generation config), and the special token that the
    chat template writes behind an assistant's message: `<|eot_id|>` of LLaDA-8B-Instruct, `<|im_end|>` of Qwen.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        configs: whatever has an `eos_token_id`, a list or an id.
    """
    found = [tokenizer.eos_token_id, *(token for config in configs for token in _listed(config)), turn_end(tokenizer)]
    size = len(tokenizer)
    kept = [token for token in found if token is not None and 0 <= token < size and token != tokenizer.mask_token_id]
    return list(dict.fromkeys(kept))


def turn_end(tokenizer: Any) -> int | None:
    """The special token that the chat template writes behind an assistant's message; None if there is none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (TemplateError, ValueError, TypeError, KeyError):
        return None
    behind = text.rpartition(ANSWER)[2]
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
    special = {*tokenizer.all_special_ids, *(n for n, t in tokenizer.added_tokens_decoder.items() if t.special)}
    return next((token for token in ids[:1] if token in special), None)


def _listed(config: Any) -> Iterable[int]:
    ids = getattr(config, "eos_token_id", None)
    return ids if isinstance(ids, list | tuple) else [ids] if isinstance(ids, int) else []
