"""The settings in force, of all that is said: keywords, generation configs, defaults; and what was said in vain."""

import copy
from typing import Any

from transformers import GenerationConfig

from conv_dlm.generation.arguments import as_list, as_whole
from conv_dlm.generation.attention import BIDIRECTIONAL, BlockCausal
from conv_dlm.generation.configuration import (
    DEFAULT_MAX_NEW_TOKENS,
    EXCLUSIVE_FIELDS,
    FOR_DRAWS,
    WITHOUT_MEANING,
    DiffusionGenerationConfig,
    all_settings,
    known_fields,
    users_of,
)
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.position_weights import POSITION_WEIGHTS
from conv_dlm.generation.processors import LEFT_TO_RIGHT

# keywords of a model's forward, that every forward of a run has of its own
OWN_OF_FORWARDS = ("position_ids", "logits_to_keep")
# fields of `GenerationConfig` of other ways to generate -> the value that asks for nothing
NEUTRAL = {"top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "top_h": None, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
ONE = {"num_beams": 1, "num_beam_groups": 1}


def resolve(
    model: Any, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
) -> tuple[DiffusionGenerationConfig, dict[str, Any], list[SettingError]]:
    """The settings in force: keywords before `generation_config`, before the model's own, before the defaults.

    Returns:
        The settings; keywords that are none; and what was said in vain, which is no error by itself.

    Raises:
        SettingError: a value that can't be, or a contradiction.
    """
    kwargs = {name: as_list(value) if name in known_fields() else value for name, value in kwargs.items()}
    if isinstance(kwargs.get("watermarking_config"), dict):  # which Transformers would make an object of
        raise SettingError("watermarking_config", "marks a text from left to right", "drop it")
    config = copy.deepcopy(DiffusionGenerationConfig.from_any(generation_config or DiffusionGenerationConfig()))
    vars(config).update({name: as_list(value) for name, value in vars(config).items()})
    _know_all_settings(config)
    others = {name: value for name, value in kwargs.items() if name not in known_fields()}
    config.update(**{name: value for name, value in kwargs.items() if name in known_fields()})
    inherited = model.generation_config.to_dict()
    for together in EXCLUSIVE_FIELDS:
        if any(getattr(config, name) is not None for name in together):
            inherited |= dict.fromkeys(together)
    inherited |= dict.fromkeys(kwargs)  # `eos_token_id=None` in a call means none, whatever the checkpoint says
    pattern = getattr(model, "attention_pattern", BIDIRECTIONAL)
    of_blocks: dict[str, Any] = {"flight_length": pattern.block_length} if isinstance(pattern, BlockCausal) else {}
    for values in (inherited, of_blocks, DiffusionGenerationConfig._get_default_generation_params()):
        for name, value in values.items():
            if getattr(config, name, None) is None:
                setattr(config, name, value)
    if config.max_new_tokens is None and config.max_length is None:
        config.max_new_tokens = DEFAULT_MAX_NEW_TOKENS
    if config.shift_logits is None:
        config.shift_logits = bool(getattr(model, "shift_logits", False))
    anchored = POSITION_WEIGHTS[config.resolved_decode_type.weights].anchored
    if isinstance(pattern, BlockCausal) and anchored and config.block_length is None:
        config.block_length = pattern.block_length
    _without_left_to_right(config, {*kwargs, *(() if generation_config is None else generation_config.to_diff_dict())})
    config.resolve()
    config.validate()
    given = {name for name, value in kwargs.items() if value is not None} - set(others)
    return config, others, _in_vain(config, given, kwargs)


def _without_left_to_right(config: DiffusionGenerationConfig, said: set[str]) -> None:
    """Drop what a checkpoint's config has for writing from left to right; asked for in a call, it is refused."""
    for name, nothing in {**LEFT_TO_RIGHT, **{name: (None, one) for name, one in ONE.items()}}.items():
        if name not in said and getattr(config, name, None) not in nothing:
            setattr(config, name, None)
    for name in ("num_return_sequences", "stop_strings"):  # for a call to say, with its prompts and its tokenizer
        if name not in said:
            setattr(config, name, None)
    if "bad_words_ids" not in said and config.bad_words_ids is not None:
        config.bad_words_ids = [ids for ids in config.bad_words_ids if len(ids) == 1] or None


def _know_all_settings(config: DiffusionGenerationConfig) -> None:
    """A config that is older than a part which was registered knows nothing of its settings."""
    for name in all_settings():
        if not hasattr(config, name):
            setattr(config, name, None)


def _in_vain(
    config: DiffusionGenerationConfig, given: set[str], kwargs: dict[str, Any]
) -> list[SettingError]:
    """Of the keywords `given`, those that have no effect with the others. `kwargs`: as they were said."""
    found = [
        SettingError(name, "has no effect: each forward of a run has its own", "drop it")
        for name in OWN_OF_FORWARDS
        if kwargs.get(name) is not None
    ]
    if "temperature" in given and config.do_sample is False and as_whole(kwargs["temperature"]) != 0:
        found.append(
            SettingError(
                "temperature", "has no effect with `do_sample=False`", "drop one of them", kwargs["temperature"]
            )
        )
    elif config.do_sample and config.top_k == 1 and not config.is_random:
        why = f"has no effect with `top_k=1` and `decode_type={config.decode_type!r}`: there is one candidate"
        said = [name for name in ("temperature", "do_sample") if name in given]
        found += [SettingError(name, why, "raise `top_k`, or drop it", kwargs[name]) for name in said[:1]]
    found += [
        SettingError(name, f"has no effect: {reason}", "drop it", getattr(config, name))
        for name, reason in WITHOUT_MEANING.items()
        if name in given and getattr(config, name)
    ]
    found += [
        SettingError(name, "has no effect where nothing is drawn at random", "drop it, or set `do_sample=True`",
                     getattr(config, name))
        for name in FOR_DRAWS
        if name in given and not config.do_sample and getattr(config, name) not in (None, NEUTRAL[name])
    ]  # fmt: skip
    for name in sorted(given & set(all_settings()) - config.active_settings):
        selector, values = next(iter(users_of(name).items()))
        now = getattr(config, selector)
        if selector == "decode_type":
            problem, remedy = f"has no effect with `decode_type={now!r}`", f"drop it, or use one of {values}"
        else:
            problem = f"has no effect with `{selector}={now!r}`"
            remedy = f"drop it, or set `{selector}` to {' or '.join(map(repr, values))}"
        found.append(SettingError(name, problem, remedy, getattr(config, name)))
    if "compile_config" in given and not config.compile:
        found.append(
            SettingError("compile_config", "has no effect with `compile=False`", "drop it, or set `compile=True`")
        )
    return found
