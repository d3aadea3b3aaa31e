"""What a call brings beside settings, checked: ids, padding, the canvas's length, those who follow it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import MaxTimeCriteria, StoppingCriteriaList, StopStringCriteria

from conv_dlm.generation.arguments import check_ids, id_list, read_attention_mask, read_input_ids
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import longest_context
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.noise import check_generators
from conv_dlm.generation.placement import canvas_device
from conv_dlm.generation.row_streamers import RowStreamers

# ids of special tokens that `generate` reads -> what to do about a wrong one
TOKEN_IDS = {
    "eos_token_id": "pass None for no end, or the id that ends a response",
    "pad_token_id": "pass the tokenizer's",
    "bos_token_id": "pass the tokenizer's",
}


def first_ids(
    model: Any, input_ids: Tensor | None, config: DiffusionGenerationConfig, vocabulary: int | None
) -> Tensor:
    if input_ids is None:
        if config.bos_token_id is None:
            raise SettingError("input_ids", "is missing, and there is no `bos_token_id` to begin with", "pass it")
        return torch.tensor([listed(config.bos_token_id)[:1]], device=canvas_device(model))
    return read_input_ids(input_ids, vocabulary, canvas_device(model))


def check_token_ids(config: DiffusionGenerationConfig, said: set[str], vocabulary: int | None) -> None:
    """Ids of special tokens are ids of the model. Of what no call has `said`, an id that means nothing (-1, or one of a
    tokenizer with more tokens) is left out: it never turns up."""
    if config.mask_token_id is not None:
        check_ids("mask_token_id", [config.mask_token_id], vocabulary, "pass the mask's, or resize the embedding")
    for name, remedy in TOKEN_IDS.items():
        ids = id_list(name, getattr(config, name))
        if ids is None:
            continue
        if name in said:
            check_ids(name, ids, vocabulary, remedy)
            if name == "eos_token_id" and config.mask_token_id in ids:
                raise SettingError(name, "is the mask token", remedy, config.mask_token_id)
        never = {config.mask_token_id} if name == "eos_token_id" else set()
        kept = [one for one in ids if 0 <= one < (vocabulary or one + 1) and one not in never]
        if len(kept) < len(ids):
            setattr(config, name, kept or None)
    if "suppress_tokens" not in said and config.suppress_tokens is not None:
        ids = id_list("suppress_tokens", config.suppress_tokens) or []
        config.suppress_tokens = [one for one in ids if 0 <= one < (vocabulary or one + 1)] or None


def padding_of(input_ids: Tensor, attention_mask: Tensor | None, config: DiffusionGenerationConfig) -> Tensor | None:
    """BoolTensor [B, P] of the padding, a run of pad tokens at the left; None if there is none. Where nobody says and
    the pad id also means something else, a batch must."""
    if attention_mask is not None:
        text = read_attention_mask(attention_mask, input_ids)
        if bool((text.int().diff(dim=1) < 0).any()):
            raise SettingError(
                "attention_mask", "has zeros behind text", "pad at the left (`tokenizer.padding_side = 'left'`)"
            )
        return None if bool(text.all()) else ~text
    pad = config.pad_token_id
    if pad is None or input_ids.shape[1] == 0:
        return None
    leading = (input_ids != pad).cumsum(1) == 0
    if not bool(leading.any()):
        return None
    others = (config.eos_token_id, config.bos_token_id, config.mask_token_id)
    if pad not in {i for other in others if other is not None for i in listed(other)}:
        return leading
    if input_ids.shape[0] > 1:
        raise SettingError(
            "attention_mask",
            f"is missing, and the pad id {pad} is also an end, begin or mask token, so that padding can't be told from "
            "text", "pass the tokenizer's",
        )  # fmt: skip
    return None


def check_followers(input_ids: Tensor, streamer: Any, generator: Any) -> None:
    rows = input_ids.shape[0]
    if streamer is not None and not all(callable(getattr(streamer, name, None)) for name in ("put", "end")):
        raise SettingError("streamer", f"is a {type(streamer).__name__}", "pass one with the methods `put` and `end`")
    if streamer is not None and rows > 1 and not isinstance(streamer, RowStreamers):
        raise SettingError(
            "streamer", f"shows one text, but the batch has {rows} rows",
            "generate them one by one, or give each its own by `conv_dlm.RowStreamers`",
        )  # fmt: skip
    check_generators(generator, rows)


def new_tokens_of(model: Any, input_ids: Tensor, config: DiffusionGenerationConfig) -> int:
    """How many masks follow the prompt."""
    prompt = input_ids.shape[1]
    total = config.max_length if config.max_new_tokens is None else prompt + config.max_new_tokens
    if total < prompt:
        raise SettingError(
            "max_length", f"is shorter than the prompt ({prompt} tokens)", "raise it, or set `max_new_tokens`", total
        )
    limit = longest_context(model.config)
    if limit is not None and total > limit:
        raise SettingError(
            "max_new_tokens", f"and the prompt ({prompt} tokens) need a context of {total}, but the model's is {limit}",
            "shorten the prompt, lower it, or load the model for a longer one (docs/models.md)", total - prompt,
        )  # fmt: skip
    if total == 0:
        raise SettingError("input_ids", "is empty, and no new token is asked for", "pass a text, or ask for tokens")
    return total - prompt


def criteria_of(config: DiffusionGenerationConfig, own: Sequence[Any] | None, tokenizer: Any) -> StoppingCriteriaList:
    """Those that the generation config asks for, and the caller's own."""
    criteria = StoppingCriteriaList()
    if config.max_time is not None:
        criteria.append(MaxTimeCriteria(max_time=config.max_time))
    if config.stop_strings:
        strings = [config.stop_strings] if isinstance(config.stop_strings, str) else config.stop_strings
        if not isinstance(strings, list | tuple | set) or not all(isinstance(s, str) and s for s in strings):
            raise SettingError("stop_strings", "must be a text or a list of texts", value=config.stop_strings)
        if tokenizer is None:
            raise SettingError("stop_strings", "needs the tokenizer", "pass `tokenizer=`", config.stop_strings)
        criteria.append(StopStringCriteria(tokenizer, config.stop_strings))
    criteria.extend([] if own is None else own)
    return criteria


def constraints_of(
    constraint: Any, canvas: Canvas, tokenizer: Any, config: DiffusionGenerationConfig, eos_token_ids: Tensor | None
) -> Any:
    """The constraints of the rows, one for all or one for each; None without any."""
    asked = list(constraint) if isinstance(constraint, list | tuple) else [constraint]
    found = [one for one in asked if one is not None]
    if not found:
        return None
    for one in found:
        if not hasattr(one, "for_rows"):
            raise SettingError(
                "constraint", f"is a {type(one).__name__}",
                "pass a `conv_dlm.JSONSchema`, `Regex` or `Choice`, or a list with one or None for each row",
            )  # fmt: skip
    if tokenizer is None:
        raise SettingError("constraint", "needs the tokenizer, for the bytes of its tokens", "pass `tokenizer=`")
    rows = canvas.ids.shape[0]
    if not isinstance(constraint, list | tuple):
        asked = asked * rows
    elif len(asked) != rows:
        times = config.num_return_sequences or 1
        if len(asked) * times != rows:
            raise SettingError("constraint", f"has {len(asked)} entries for {rows} rows", "pass one for each row")
        asked = [one for one in asked for _ in range(times)]
    return found[0].for_rows(asked, tokenizer, canvas, eos_token_ids)


def listed(ids: int | list[int]) -> list[int]:
    return ids if isinstance(ids, list) else [ids]
