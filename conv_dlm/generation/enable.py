"""`enable_diffusion`: `generate` by denoising for a model that is already loaded."""

import warnings
from typing import Any

from transformers import PreTrainedModel

from conv_dlm.generation.arguments import as_whole, vocabulary_of
from conv_dlm.generation.attention import BIDIRECTIONAL, AttentionPattern, BlockCausal, sees_only_left
from conv_dlm.generation.capabilities import supports_canvas_cache
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.utils.zero_weights import refuse_zero_embeddings


def enable_diffusion(
    model: Any,
    mask_token_id: int | None = None,
    shift_logits: bool = False,
    attention_pattern: str | None = None,
    block_length: int | None = None,
) -> Any:
    """Give `generate` by denoising to a model that is already loaded, and return it.

    For remote code and for autoregressive models adapted to masked diffusion; `forward` must map ids to logits, with
    bidirectional attention unless `attention_pattern` says another. The instance's class changes, its weights and its
    saved `architectures` don't. Of a generation config for writing from left to right only the special tokens are kept.
    Where `forward` is a checkpoint's own code and can project a part of the positions or read a cache as Transformers'
    models do, say so to have it used: `model.supports_window_logits = True`, `model.supports_canvas_cache = True`
    (`conv_dlm.generation.capabilities`).

    model (`PreTrainedModel`): the model.
    mask_token_id (`int`, *optional*): id of the mask token; read from the config where it has one.
    shift_logits (`bool`, defaults to `False`): whether the logits at a position predict the token at its right, as in
        Dream and other models adapted from autoregressive ones.
    attention_pattern (`str`, *optional*): what positions of a causal class of Transformers see of each other from now
        on: `"full"`, everything, or `"block_causal"`, the blocks up to their own. Unset, `forward` stays as it is.
    block_length (`int`, *optional*): positions of a block that the model was trained with, for `"block_causal"`.

    A model that sees no text at the right is a warning: it has to be adapted first.

    Raises SettingError if no mask token is known, or if its id is outside the vocabulary; or if the model can't be told
    what is seen. Raises ValueError if its embeddings are zero.
    """
    if not isinstance(model, PreTrainedModel):
        raise SettingError("model", f"is a {type(model).__name__}", "load it first, by `from_pretrained`")
    mask_token_id = mask_token_id if mask_token_id is not None else getattr(model.config, "mask_token_id", None)
    mask_token_id, vocabulary = as_whole(mask_token_id), vocabulary_of(model)
    if vocabulary is None:
        raise SettingError(
            "model", f"({type(model).__name__}) doesn't say what it embeds", "give its class `get_input_embeddings`"
        )
    if isinstance(mask_token_id, bool) or not isinstance(mask_token_id, int) or not 0 <= mask_token_id < vocabulary:
        raise SettingError(
            "mask_token_id", f"is not an id of this model's {vocabulary} tokens", "pass the mask's, or add one first "
            "(`tokenizer.add_special_tokens`, `model.resize_token_embeddings`)", mask_token_id,
        )  # fmt: skip
    refuse_zero_embeddings(model)
    pattern = _pattern_of(model, attention_pattern, block_length)
    if pattern is not None:
        model.config.is_causal = False
        for module in model.modules():
            if hasattr(module, "is_causal"):
                vars(module)["is_causal"] = False
    elif sees_only_left(model):
        warnings.warn(
            f"{type(model).__name__} is causal: it sees no text at the right, and has to be adapted to masked "
            "diffusion before it can denoise (`python -m trainers.causal_to_diffusion`). If it has been, say what it "
            "sees by `attention_pattern`.", stacklevel=2,
        )  # fmt: skip
    cls: Any = type(model)
    if not issubclass(cls, DiffusionGenerationMixin):
        namespace = {"__module__": cls.__module__, "can_generate": classmethod(lambda _: True)}
        model.__class__ = type(cls.__name__, (DiffusionGenerationMixin, cls), namespace)
    config = vars(model).pop("generation_config", None) or getattr(model, "generation_config", None)
    if not isinstance(config, DiffusionGenerationConfig):
        given = {} if config is None else {name: value for name, value in config.to_dict().items() if value is not None}
        config = DiffusionGenerationConfig.from_model_config(model.config.to_dict() | given)
    config.mask_token_id, config.shift_logits = mask_token_id, shift_logits or None
    model.generation_config = config
    if pattern is not None:
        vars(model)["attention_pattern"] = pattern
    return model


def _pattern_of(model: Any, name: str | None, block_length: int | None) -> AttentionPattern | None:
    """What `attention_pattern` and `block_length` say. Raises SettingError where that can't be."""
    if name is None and block_length is None:
        return None
    if name not in ("full", "block_causal"):
        raise SettingError("attention_pattern", "must be 'full' or 'block_causal'", "say what the model sees", name)
    if not supports_canvas_cache(model):
        raise SettingError(
            "attention_pattern", f"can be said of Transformers' own classes, and {type(model).__name__} decides by "
            "itself what is seen", "drop it", name,
        )  # fmt: skip
    if name == "full":
        if block_length is not None:
            raise SettingError("block_length", "has no use with `attention_pattern='full'`", "drop it", block_length)
        return BIDIRECTIONAL
    length = as_whole(block_length)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise SettingError(
            "block_length", "must be a positive number with `attention_pattern='block_causal'`",
            "pass the one that the model was trained with", block_length,
        )  # fmt: skip
    if model.config._attn_implementation not in ("sdpa", "eager"):
        raise SettingError(
            "attention_pattern", f"needs a mask for each query, which {model.config._attn_implementation!r} doesn't "
            "take", "load the model with attn_implementation='sdpa'", name,
        )  # fmt: skip
    return BlockCausal(length)
