"""Configs of models by the name of their shape, available offline, for work that needs no weights."""

from collections.abc import Callable

from transformers import PretrainedConfig

from conv_dlm.answering.loading import load_config
from conv_dlm.models import LLaDAConfig, MDLMConfig


def _llada_8b() -> PretrainedConfig:
    """As in GSAI-ML/LLaDA-8B-Base and -Instruct: 8,015,581,184 parameters."""
    return LLaDAConfig(mask_token_id=126336, bos_token_id=126080, eos_token_id=126081, pad_token_id=126081)


def _mdlm_small() -> PretrainedConfig:
    """As in kuleshov-group/mdlm-owt: 169,627,218 parameters."""
    return MDLMConfig(mask_token_id=50257, bos_token_id=50256, eos_token_id=50256, pad_token_id=50257)


def _llada_110m() -> PretrainedConfig:
    """A small LLaDA, of 111,037,248 parameters, whose forwards take a CPU long enough to be timed."""
    return LLaDAConfig(
        d_model=576,
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        mlp_hidden_size=1536,
        vocab_size=8392,
        embedding_size=8392,
        weight_tying=True,
        max_sequence_length=1024,
        rope_theta=100000.0,
        mask_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def _embedded() -> PretrainedConfig:
    """The embedded model."""
    return load_config()


SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "llada-8b": _llada_8b,
    "mdlm-small": _mdlm_small,
    "llada-110m": _llada_110m,
    "embedded": _embedded,
}


def shape_config(name: str) -> PretrainedConfig:
    """The config of a named shape, a new one at each call.

    Args:
        name (`str`): one of `SHAPES`.

    Raises:
        ValueError: there is no such shape.
    """
    if name not in SHAPES:
        raise ValueError(f"`shape`={name!r} is not known; use one of {', '.join(SHAPES)}.")
    return SHAPES[name]()
