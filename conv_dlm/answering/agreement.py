"""Whether a tokenizer and a model mean the same by the mask; what the model doesn't say, the tokenizer may."""

import warnings
from typing import Any

from transformers import PreTrainedTokenizerBase

# how published tokenizers call a mask that they don't declare as one: LLaDA, Dream, A2D and LLaDA2, SDAR, Fast-dLLM v2
MASK_NAMES = ("<|mdm_mask|>", "<|mask|>", "<|MASK|>", "<MASK>", "|<MASK>|", "<[MASK]>")


def mask_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the tokenizer's mask, declared or by its name; None without one."""
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    by_name = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    return next((by_name[name] for name in MASK_NAMES if name in by_name), None)


def settle_mask(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Take the tokenizer's mask for a model whose config has none; warn, in one sentence, where they disagree."""
    config = model.generation_config
    ours, theirs = config.mask_token_id, mask_of(tokenizer)
    if ours is None:
        config.mask_token_id = theirs
    elif theirs is not None and theirs != ours:
        warnings.warn(
            f"The mask is {ours} for the model and {theirs} ({tokenizer.convert_ids_to_tokens(theirs)!r}) for the "
            "tokenizer; the model's is used: if answers are noise, one of the two belongs to another checkpoint.",
            stacklevel=3,
        )
    elif 0 <= ours < len(tokenizer) and ours not in {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}:
        warnings.warn(
            f"The model's mask {ours} is an ordinary token of the tokenizer "
            f"({tokenizer.convert_ids_to_tokens(ours)!r}): set the right one, `mask_token_id`, in the model's config.",
            stacklevel=3,
        )
