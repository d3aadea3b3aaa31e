"""The causal model that reads drafts (`assistant_model`), and whether it can.

Shapes: B rows, L canvas positions, K positions of a row, V vocabulary.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from conv_dlm.generation.arguments import vocabulary_of
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import cache_argument, supports_window_logits
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.rules import UnmaskingRule


class Assistant:
    """Next-token scores of a causal model, within the denoiser's vocabulary. What stands before the first mask of
    every row stays, and is read once where the model has a cache.

    model: maps ids to logits of the tokens that follow.
    padding: BoolTensor [B, L].
    mask_token_id, vocabulary: of the denoiser; what it has not is never predicted.
    """

    def __init__(self, model: Any, padding: Tensor, mask_token_id: int, vocabulary: int | None) -> None:
        self.model, self.padding, self.mask_token_id, self.vocabulary = model, padding, mask_token_id, vocabulary
        takes = inspect.signature(model.forward).parameters
        self.places_positions = "position_ids" in takes
        self.cache_argument = cache_argument(model)
        self.cache = _cache_of(model) if self.cache_argument in takes else None
        self.device = next((p.device for p in model.parameters()), padding.device)

    def __call__(self, ids: Tensor, places: Tensor) -> Tensor:
        """Scores [B, K, V] of the tokens at the positions `places` [B, K] of `ids` [B, L], by what stands before;
        nothing sensible at L, which stands for none."""
        there, length = places < ids.shape[1], ids.shape[1]
        before = torch.where(there, places - 1, 0).clamp(min=0)
        first = torch.where(there, before, length - 1).amin()
        start, last = torch.stack([first, before.amax()]).tolist()
        start = 0 if self.cache is None else min(start, last, self.cache.get_seq_length())
        end, before = last + 1, (before - start).clamp(min=0)
        text = ~self.padding[:, :end]
        inputs = {"input_ids": ids[:, start:end], "attention_mask": text.long()}
        if self.places_positions:
            inputs["position_ids"] = (text.cumsum(1) - 1).clamp(min=0)[:, start:]
        if window := supports_window_logits(self.model):
            inputs["logits_to_keep"] = before
        kept: dict[str, Any] = {}
        if self.cache is not None:
            if start < self.cache.get_seq_length():
                self.cache.crop(start - self.cache.get_seq_length())
            kept = {self.cache_argument: self.cache, "use_cache": True}
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        logits = self.model(**inputs, **kept).logits.to(ids.device)
        if not window:
            logits = logits.gather(1, before[..., None].expand(-1, -1, logits.shape[-1]))
        logits = logits[..., : self.vocabulary]
        if self.mask_token_id < logits.shape[-1]:
            logits[..., self.mask_token_id] = -torch.inf
        return logits


def _cache_of(model: Any) -> DynamicCache | None:
    """A cache that can be cut off anywhere; None for a model with a state, or attention, that can't go back."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    goes_back = kinds == {"full_attention"} and not getattr(model, "_is_stateful", False)
    return DynamicCache() if goes_back and not model.training else None


def find_assistant(
    model: Any, assistant: Any, tokenizer: Any, assistant_tokenizer: Any, rule: UnmaskingRule, canvas: Canvas, name: str
) -> Assistant | None:
    """The assistant of a run of the decode type `name`, None for a rule that has none.

    Raises:
        SettingError: one is missing or of no use, or can't read what the model writes.
    """
    if not rule.assisted:
        if assistant is not None or assistant_tokenizer is not None:
            given = "assistant_model" if assistant is not None else "assistant_tokenizer"
            raise SettingError(
                given, f"has no use with `decode_type={name!r}`", "drop it, or use 'guided' or 'speculative'"
            )
        return None
    if assistant is None:
        raise SettingError(
            "assistant_model", f"is missing: `decode_type={name!r}` has a causal model read its drafts",
            "pass a causal LM of the same tokenizer",
        )  # fmt: skip
    if not callable(getattr(assistant, "forward", None)) or hasattr(assistant, "check_generate"):
        raise SettingError(
            "assistant_model", f"is a {type(assistant).__name__}", "pass a causal LM, which predicts the next token"
        )
    _check_tokenizers(model, assistant, tokenizer, assistant_tokenizer)
    first = torch.where(canvas.masked, canvas.positions, canvas.ids.shape[1]).amin(1)
    if bool((canvas.masked.any(1) & (canvas.padding.sum(1) == first)).any()):
        raise SettingError(
            "assistant_model", "reads from left to right, but a row begins with a mask", "begin it with text"
        )
    return Assistant(assistant, canvas.padding, canvas.mask_token_id, vocabulary_of(model))


def _check_tokenizers(model: Any, assistant: Any, tokenizer: Any, assistant_tokenizer: Any) -> None:
    """An id has to mean the same to both."""
    if tokenizer is not None and assistant_tokenizer is not None:
        ours, theirs = tokenizer.get_vocab(), assistant_tokenizer.get_vocab()
        wrong = next((token for token, its in theirs.items() if ours.get(token, its) != its), None)
        if wrong is None and len(ours.keys() & theirs.keys()) >= min(len(ours), len(theirs)) - 64:  # special tokens
            return
        raise SettingError(
            "assistant_model", "has another tokenizer" + (f": {wrong!r} has another id" if wrong else ""),
            "use one that was trained with this model's",
        )  # fmt: skip
    ours, theirs = vocabulary_of(model), vocabulary_of(assistant)
    if ours != theirs:
        raise SettingError(
            "assistant_model", f"has {theirs} ids and this model {ours}, so its tokenizer may be another one",
            "pass `tokenizer` and `assistant_tokenizer`, to be compared",
        )  # fmt: skip
