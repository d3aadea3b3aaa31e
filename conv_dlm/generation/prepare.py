"""The one door of `generate`: from what a caller says to a run, with all checks on the way.

`generate` runs what comes out, `check_generate` doesn't; so both refuse the same.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from transformers import (
    CompileConfig,
    GenerationConfig,
    MaxTimeCriteria,
    PreTrainedModel,
    StoppingCriteriaList,
    StopStringCriteria,
)

from conv_dlm.generation.arguments import (
    as_list,
    as_whole,
    check_callables,
    check_ids,
    id_list,
    read_attention_mask,
    read_input_ids,
    vocabulary_of,
)
from conv_dlm.generation.assistant import find_assistant
from conv_dlm.generation.attention import BIDIRECTIONAL, BlockCausal
from conv_dlm.generation.cache import CanvasCache
from conv_dlm.generation.candidates import MEASURES
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import check_canvas_cache, supports_canvas_cache
from conv_dlm.generation.configuration import (
    DEFAULT_MAX_NEW_TOKENS,
    EXCLUSIVE_FIELDS,
    FOR_DRAWS,
    WITHOUT_MEANING,
    DiffusionGenerationConfig,
    all_settings,
    did_you_mean,
    known_fields,
    users_of,
)
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.heads import find_head
from conv_dlm.generation.loop import Denoising, Draws
from conv_dlm.generation.model_blocks import blocks_of_model
from conv_dlm.generation.noise import check_generators
from conv_dlm.generation.observing import Callback, Observer
from conv_dlm.generation.parts.assisted import SpeculativeRule
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES, CachePolicy
from conv_dlm.generation.parts.exits import EXIT_SCHEDULES
from conv_dlm.generation.parts.lossless import LosslessRule
from conv_dlm.generation.parts.position_weights import (
    POSITION_WEIGHTS,
    ConvolutionWeights,
    PositionWeights,
    SlideWeights,
    WithinBlocks,
)
from conv_dlm.generation.parts.rules import UNMASKING_RULES, FixedStepsRule, UnmaskingRule
from conv_dlm.generation.parts.statistics import STATISTICS
from conv_dlm.generation.placement import canvas_device
from conv_dlm.generation.processors import LEFT_TO_RIGHT, CanvasProcessors, build_processors
from conv_dlm.generation.row_adapters import RowAdapters
from conv_dlm.generation.row_streamers import RowStreamers
from conv_dlm.generation.soft_prompts import check_no_soft_prompt

CONTEXT_LENGTH_NAMES = ("max_position_embeddings", "max_sequence_length", "model_length")
# keywords of Transformers' `generate` that can't have a meaning here -> why, and the way out
UNSUPPORTED = {
    "prefix_allowed_tokens_fn": ("needs the tokens before a position, which denoising unmasks in any order", "drop it"),
    "negative_prompt_ids": (
        "is not supported: guidance compares with the masked prompt", "drop it, and set `guidance_scale` alone",
    ),
    "negative_prompt_attention_mask": ("is not supported: guidance compares with the masked prompt", "drop it"),
    "custom_generate": ("is for models without a `generate` of their own; this one denoises by itself", "drop it"),
    "adapter_names": (
        "is PEFT's, and needs its layers to be told", "load the adapters by `PeftModel`, and call its `generate`",
    ),
    "inputs_embeds": ("is not supported: a canvas is made of ids", "pass `input_ids`"),
}  # fmt: skip
# keywords that others hand over by habit, and that change nothing
HARMLESS = frozenset({"token_type_ids", "trust_remote_code"})
# keywords of a model's forward, that every forward of a run has of its own
OWN_OF_FORWARDS = ("position_ids", "logits_to_keep", "past_key_values")
# ids of special tokens that `generate` reads -> what to do about a wrong one
TOKEN_IDS = {
    "eos_token_id": "pass None for no end, or the id that ends a response",
    "pad_token_id": "pass the tokenizer's",
    "bos_token_id": "pass the tokenizer's",
}
# fields of `GenerationConfig` of other ways to generate -> the value that asks for nothing
NEUTRAL = {"top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "top_h": None, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
ONE = {"num_beams": 1, "num_beam_groups": 1}


@dataclass
class Prepared:
    """A run before its first step.

    Attributes:
        config: the settings in force.
        run: what denoises.
        observer: who follows it.
        input_ids: LongTensor [B, P], one for each return sequence.
        eos_token_ids: LongTensor [E], None for none.
        pad_token_id: what follows a row's end, None where nobody knows.
    """

    config: DiffusionGenerationConfig
    run: Denoising
    observer: Observer
    input_ids: Tensor
    eos_token_ids: Tensor | None
    pad_token_id: int | None


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
    for values in (inherited, DiffusionGenerationConfig._get_default_generation_params()):
        for name, value in values.items():
            if getattr(config, name, None) is None:
                setattr(config, name, value)
    if config.max_new_tokens is None and config.max_length is None:
        config.max_new_tokens = DEFAULT_MAX_NEW_TOKENS
    if config.shift_logits is None:
        config.shift_logits = bool(getattr(model, "shift_logits", False))
    pattern = getattr(model, "attention_pattern", BIDIRECTIONAL)
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


def prepare(
    model: Any,
    inputs: Tensor | None = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: Sequence[Any] | None = None,
    stopping_criteria: Sequence[Any] | None = None,
    *,
    attention_mask: Tensor | None = None,
    streamer: Any = None,
    generator: Generator | Sequence[Generator] | None = None,
    callback_on_step_end: Callback | None = None,
    tokenizer: Any = None,
    constraint: Any = None,
    assistant_model: Any = None,
    assistant_tokenizer: Any = None,
    synced_gpus: bool | None = None,
    strict: bool = False,
    **kwargs: Any,
) -> Prepared:
    """A run, ready to start; the arguments are those of `DiffusionGenerationMixin.generate`.

    Args:
        strict (`bool`, defaults to `False`): whether what is said in vain is an error, too; else it is a warning.

    Raises:
        SettingError: something can't be.
    """
    input_ids = kwargs.pop("input_ids", None) if inputs is None else inputs
    _check_arguments(kwargs)
    check_no_soft_prompt(model)
    if not isinstance(generation_config, GenerationConfig | None):
        raise SettingError(
            "generation_config", f"is a {type(generation_config).__name__}",
            "pass a `DiffusionGenerationConfig`, or settings as keywords",
        )  # fmt: skip
    check_callables("stopping_criteria", () if stopping_criteria is None else stopping_criteria)
    check_callables("logits_processor", () if logits_processor is None else logits_processor)
    check_callables("callback_on_step_end", [callback_on_step_end] if callback_on_step_end is not None else [])
    config, others, in_vain = resolve(model, generation_config, kwargs)
    for error in in_vain:
        if strict:
            raise error
        warnings.warn(str(error), stacklevel=4)
    for name, value in others.items():
        if value is not None and name not in HARMLESS and name not in OWN_OF_FORWARDS:
            raise SettingError(name, "is not known to `generate`", did_you_mean(name))
    _check_config(model, config, synced_gpus)

    vocabulary = vocabulary_of(model)
    _check_token_ids(config, set(kwargs) if generation_config is None else {*kwargs, *TOKEN_IDS}, vocabulary)
    input_ids = _input_ids(model, input_ids, config, vocabulary)
    device = input_ids.device
    padding = _padding(input_ids, attention_mask, config)
    if config.num_return_sequences and config.num_return_sequences > 1:
        input_ids = input_ids.repeat_interleave(config.num_return_sequences, 0)
        padding = None if padding is None else padding.repeat_interleave(config.num_return_sequences, 0)
    _check_followers(input_ids, streamer, generator)
    new_tokens = _new_tokens(model, input_ids, config)
    eos_token_ids = None if config.eos_token_id is None else torch.tensor(_listed(config.eos_token_id), device=device)
    pad_token_id = config.pad_token_id
    if pad_token_id is None and config.eos_token_id is not None:
        pad_token_id = _listed(config.eos_token_id)[0]

    canvas = Canvas.from_prompt(input_ids, new_tokens, config.mask_token_id, padding)
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise SettingError("tokenizer", f"is a {type(tokenizer).__name__}", "pass the model's")
    constraints = _constraints(constraint, canvas, tokenizer, config, eos_token_ids)
    pattern = getattr(model, "attention_pattern", BIDIRECTIONAL)
    decode_type = config.resolved_decode_type
    weights = POSITION_WEIGHTS[decode_type.weights].from_config(config)
    rule = UNMASKING_RULES[decode_type.rule].from_config(config)
    policy = CACHE_POLICIES[config.cache_implementation].from_config(config) if config.cache_implementation else None
    early_exit = EXIT_SCHEDULES[config.exit_schedule].from_config(config) if config.exit_schedule else None
    if isinstance(pattern, BlockCausal):
        weights = blocks_of_model(model, canvas, weights, rule, pattern, config)
    _check_canvas(canvas, weights, rule, config)
    _check_speed(model, canvas, weights, rule, policy, pattern, config)

    assistant = find_assistant(
        model, assistant_model, tokenizer, assistant_tokenizer, rule, canvas, config.decode_type or ""
    )

    head = find_head(model, rule, device)
    if head is not None:
        rule.check_head(head, weights.scope_length(canvas.ids.shape[1]))

    asked = {*rule.asks(), *(() if early_exit is None else early_exit.statistics)} - set(MEASURES)
    criteria = _criteria(config, stopping_criteria, tokenizer)
    observer = Observer(
        canvas, input_ids.shape[1], criteria, streamer, callback_on_step_end, bool(config.output_history),
        eos_token_ids,
    )  # fmt: skip
    varies = type(rule).first_end is not UnmaskingRule.first_end
    if pad_token_id is None and (varies or observer.criteria or observer.rows_may_end or observer.callback):
        raise SettingError("pad_token_id", "is not known, and something must follow where a row ends early", "pass it")
    own = [] if logits_processor is None else list(logits_processor)
    processors = [*rule.processors(), *build_processors(config, own, eos_token_ids, device, vocabulary)]
    confidence_of_ends = getattr(rule, "confidence_eos_eot_inf", False)
    changed = processors or constraints is not None or confidence_of_ends
    if isinstance(rule, LosslessRule | SpeculativeRule) and changed:
        raise SettingError(
            "decode_type", "verifies drafts by a model's own scores, which nothing may change", "drop processors, "
            "penalties, constraints and `confidence_eos_eot_inf`, or use the rule without drafts", config.decode_type,
        )  # fmt: skip
    run = Denoising(
        canvas=canvas,
        denoiser=_denoiser(model, canvas, padding is not None, pattern, config),
        weights=weights,
        rule=rule,
        draws=Draws(
            config.top_k, config.temperature, int(getattr(rule, "reference_normalizer", False)),
            eos_token_ids if confidence_of_ends else None,
        ),
        processors=CanvasProcessors(processors),
        statistics=[STATISTICS[name].from_config(config) for name in sorted(asked)],
        eos_token_ids=eos_token_ids,
        eos_fill=bool(config.eos_fill),
        eos_threshold=config.eos_threshold,
        lookahead=config.lookahead,
        policy=policy,
        early_exit=early_exit,
        constraint=constraints,
        assistant=assistant,
        head=head,
        after_step=None if observer.idle else observer,
    )  # fmt: skip
    return Prepared(config, run, observer, input_ids, eos_token_ids, pad_token_id)


def _listed(ids: int | list[int]) -> list[int]:
    return ids if isinstance(ids, list) else [ids]


def _check_arguments(kwargs: dict[str, Any]) -> None:
    for name, (problem, remedy) in UNSUPPORTED.items():
        if kwargs.pop(name, None) is not None:
            raise SettingError(name, problem, remedy)


def _check_config(model: Any, config: DiffusionGenerationConfig, synced_gpus: bool | None) -> None:
    """What needs no prompt."""
    for name, one in ONE.items():
        value = getattr(config, name, None)
        if value not in (None, one):
            raise SettingError(name, "is a search from left to right, and denoising has none", "drop it", value)
    if (config.num_return_sequences or 1) > 1 and not config.is_random:
        raise SettingError(
            "num_return_sequences", "would return the same text each time, since nothing is drawn at random",
            "set `do_sample=True`", config.num_return_sequences,
        )  # fmt: skip
    if config.mask_token_id is None:
        raise SettingError(
            "mask_token_id", "is not known: this model's config names no mask token",
            "pass it, or set it in `model.generation_config`",
        )  # fmt: skip
    ends = {"eos_fill": config.eos_fill, "eos_threshold": config.eos_threshold}
    if "confidence_eos_eot_inf" in config.active_settings:
        ends["confidence_eos_eot_inf"] = config.confidence_eos_eot_inf
    for name, value in ends.items():
        if value not in (None, False) and config.eos_token_id is None:
            raise SettingError(name, "needs to know the end token", "pass `eos_token_id`, or drop it", value)
    if getattr(model.config, "attention_pattern", None) == "causal":
        warnings.warn(
            f"{type(model).__name__} has `attention_pattern='causal'`: it sees no text at the right, which denoising "
            "counts on.", stacklevel=5,
        )  # fmt: skip
    if getattr(model.config, "time_conditioning", False):
        raise ValueError(
            "`time_conditioning=True` models are not supported by `generate`: their logits depend on the time too."
        )
    if synced_gpus:
        raise SettingError(
            "synced_gpus", "(ZeRO-3, FSDP) needs the same number of forwards on every rank, and rows finish at their "
            "own time", "gather the weights first, or pass False where they are not sharded", True,
        )  # fmt: skip


def _input_ids(
    model: Any, input_ids: Tensor | None, config: DiffusionGenerationConfig, vocabulary: int | None
) -> Tensor:
    if input_ids is None:
        if config.bos_token_id is None:
            raise SettingError("input_ids", "is missing, and there is no `bos_token_id` to begin with", "pass it")
        return torch.tensor([_listed(config.bos_token_id)[:1]], device=canvas_device(model))
    return read_input_ids(input_ids, vocabulary, canvas_device(model))


def _check_token_ids(config: DiffusionGenerationConfig, said: set[str], vocabulary: int | None) -> None:
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


def _padding(input_ids: Tensor, attention_mask: Tensor | None, config: DiffusionGenerationConfig) -> Tensor | None:
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
    if pad not in {i for other in others if other is not None for i in _listed(other)}:
        return leading
    if input_ids.shape[0] > 1:
        raise SettingError(
            "attention_mask",
            f"is missing, and the pad id {pad} is also an end, begin or mask token, so that padding can't be told from "
            "text", "pass the tokenizer's",
        )  # fmt: skip
    return None


def _check_followers(input_ids: Tensor, streamer: Any, generator: Any) -> None:
    rows = input_ids.shape[0]
    if streamer is not None and not all(callable(getattr(streamer, name, None)) for name in ("put", "end")):
        raise SettingError("streamer", f"is a {type(streamer).__name__}", "pass one with the methods `put` and `end`")
    if streamer is not None and rows > 1 and not isinstance(streamer, RowStreamers):
        raise SettingError(
            "streamer", f"shows one text, but the batch has {rows} rows",
            "generate them one by one, or give each its own by `conv_dlm.RowStreamers`",
        )  # fmt: skip
    check_generators(generator, rows)


def _new_tokens(model: Any, input_ids: Tensor, config: DiffusionGenerationConfig) -> int:
    """How many masks follow the prompt."""
    prompt = input_ids.shape[1]
    total = config.max_length if config.max_new_tokens is None else prompt + config.max_new_tokens
    if total < prompt:
        raise SettingError(
            "max_length", f"is shorter than the prompt ({prompt} tokens)", "raise it, or set `max_new_tokens`", total
        )
    limits = [getattr(model.config, name, None) for name in CONTEXT_LENGTH_NAMES]
    limit = next((limit for limit in limits if limit is not None), None)
    if limit is not None and total > limit:
        raise SettingError(
            "max_new_tokens", f"and the prompt ({prompt} tokens) need a context of {total}, but the model's is {limit}",
            "shorten the prompt, or lower it", total - prompt,
        )  # fmt: skip
    if total == 0:
        raise SettingError("input_ids", "is empty, and no new token is asked for", "pass a text, or ask for tokens")
    return total - prompt


def _check_canvas(
    canvas: Canvas, weights: PositionWeights, rule: UnmaskingRule, config: DiffusionGenerationConfig
) -> None:
    """A canvas that this decoder can't denoise."""
    if rule.reads_end and config.eos_token_id is None:
        raise SettingError(
            "eos_token_id", f"is not known, by which `decode_type={config.decode_type!r}` finds the text's length",
            "pass it, or use another type",
        )  # fmt: skip
    if isinstance(rule, FixedStepsRule):
        blocks = int(weights.blocks(canvas).max())
        if blocks > rule.steps:
            raise SettingError(
                "steps", f"is too few for {blocks} blocks, each of which needs one",
                "raise it" if isinstance(weights, WithinBlocks) else "raise it, or `block_length`", rule.steps,
            )  # fmt: skip
    inside = weights.inside if isinstance(weights, WithinBlocks) else weights
    if isinstance(inside, ConvolutionWeights) and not bool((canvas.known.any(1) | ~canvas.masked.any(1)).all()):
        raise SettingError(
            "decode_type", "unmasks near known text, but a row has none",
            "begin it with a prompt or the BOS token, or use 'topk'", config.decode_type,
        )  # fmt: skip


def _check_speed(
    model: PreTrainedModel,
    canvas: Canvas,
    weights: PositionWeights,
    rule: UnmaskingRule,
    policy: CachePolicy | None,
    pattern: Any,
    config: DiffusionGenerationConfig,
) -> None:
    """Caches, early ends and lookaheads that can't be right together, or with this decoder and model."""
    decode_type, cache = config.decode_type, config.cache_implementation
    if policy is not None:
        check_canvas_cache(model, cache)
        if policy.exact and not isinstance(pattern, BlockCausal):
            raise SettingError(
                "cache_implementation", f"is for models whose attention is block-causal, and {type(model).__name__} "
                "declares no such `attention_pattern`", "use 'window', or drop it", cache,
            )  # fmt: skip
        if policy.needs_blocks and config.resolved_decode_type.weights != "block":
            raise SettingError(
                "cache_implementation", f"keeps what is outside of a block, and `decode_type={decode_type!r}` has no "
                "blocks", "use 'window', or drop it", cache,
            )  # fmt: skip
        if policy.frozen and rule.remasks and not rule.within_block:
            raise SettingError(
                "cache_implementation", f"keeps what stands outside of a block, where `decode_type={decode_type!r}` "
                "masks tokens again", "use 'window', or drop one of them", cache,
            )  # fmt: skip
    if rule.greedy and config.is_random:
        raise SettingError(
            "do_sample", f"has no use: `decode_type={decode_type!r}` says the tokens by itself", "drop it, or use "
            "another type", config.do_sample,
        )  # fmt: skip
    if type(rule).extra is not UnmaskingRule.extra:
        if isinstance(pattern, BlockCausal) or config.shift_logits:
            raise SettingError(
                "decode_type", "computes positions beside the canvas, which is for models whose attention goes both "
                "ways and whose logits are of their own position", "use another type", decode_type,
            )  # fmt: skip
        if policy is not None:
            raise SettingError(
                "cache_implementation", f"keeps the canvas alone, and `decode_type={decode_type!r}` computes positions "
                "beside it", "drop it", cache,
            )  # fmt: skip
        if not supports_canvas_cache(model) or model.config._attn_implementation not in ("sdpa", "eager"):
            raise SettingError(
                "decode_type", "computes positions beside the canvas, for which a model has to take `position_ids` and "
                "a mask for each query", "load the model with attn_implementation='sdpa', or use another type",
                decode_type,
            )  # fmt: skip
    looks_around = type(rule).sight is not UnmaskingRule.sight
    this = f"`decode_type={decode_type!r}`"
    refused = (
        (rule.remasks, ("eos_threshold", "exit_schedule"), f"unmasks for good, and {this} masks tokens again"),
        (
            type(rule).first_end is not UnmaskingRule.first_end or looks_around,
            ("eos_threshold", "exit_schedule", "lookahead"),
            f"says where to look and to end, which {this} does by itself",
        ),
        (
            isinstance(rule, LosslessRule | SpeculativeRule),
            ("eos_fill", "eos_threshold", "exit_schedule", "lookahead"),
            f"looks at every step, of which {this} takes several at once",
        ),
    )
    for applies, names, reason in refused:
        for name in names if applies else ():
            value = getattr(config, name)
            if value is not None and value is not False:
                raise SettingError(name, reason, "drop one of them", value)
    if config.lookahead is not None:
        _check_lookahead(canvas, weights, config)
    uneven = config.lookahead is not None or config.eos_threshold is not None or looks_around
    flash = "flash" in str(model.config._attn_implementation)
    if uneven and canvas.ids.shape[0] > 1 and policy is not None and flash:
        name = next((n for n in ("lookahead", "eos_threshold") if getattr(config, n) is not None), "decode_type")
        raise SettingError(
            name, "lets rows end at different positions, which flash attention can't mask in a partial forward",
            f"drop it or `cache_implementation={cache!r}`, generate row by row, or load the model with "
            "attn_implementation='sdpa'", getattr(config, name),
        )  # fmt: skip


def _check_lookahead(canvas: Canvas, weights: PositionWeights, config: DiffusionGenerationConfig) -> None:
    lookahead, reach = config.lookahead or 0, weights.reach(canvas.ids.shape[1])
    if bool(canvas.given[:, -1].any()):
        raise SettingError(
            "lookahead", "would cut off the text at the right of the masks",
            "drop it, or append masks to that text by `max_new_tokens`", lookahead,
        )  # fmt: skip
    if config.exit_schedule is not None:
        raise SettingError(
            "lookahead", f"hides masks that `exit_schedule={config.exit_schedule!r}` has to look at",
            "drop one of them", lookahead,
        )  # fmt: skip
    stride = -(-int(canvas.size.max()) // (config.steps or 1))
    if isinstance(weights, SlideWeights) and stride > reach:  # it leaves masks behind, and moves on all the same
        reach += stride
    if reach > lookahead:
        way_out = "lower `kernel_size`" if isinstance(weights, ConvolutionWeights) else "set a shorter `block_length`"
        raise SettingError(
            "lookahead", f"is nearer than the {reach} positions that `decode_type={config.decode_type!r}` may unmask "
            "in", f"raise it, drop it, or {way_out}", lookahead,
        )  # fmt: skip


def _criteria(config: DiffusionGenerationConfig, own: Sequence[Any] | None, tokenizer: Any) -> StoppingCriteriaList:
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


def _constraints(
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


def _denoiser(model: Any, canvas: Canvas, padded: bool, pattern: Any, config: DiffusionGenerationConfig) -> Denoiser:
    """The model with what its forwards need in this run."""
    guidance = 1.0 if config.guidance_scale is None else config.guidance_scale
    cache = None
    if config.cache_implementation is not None:
        rows, length = canvas.ids.shape
        cache = CanvasCache(model, rows, length, 1 if guidance == 1 else 2)
    compile_config = (config.compile_config or CompileConfig()) if config.compile else None
    padding = canvas.padding if padded else None
    adapters = RowAdapters.of(model, canvas.ids.shape[0])
    return Denoiser(model, padding, guidance, bool(config.shift_logits), cache, compile_config, pattern, adapters)
