"""The one door of `generate`: from what a caller says to a run, with all checks on the way.

`generate` runs what comes out, `check_generate` doesn't; so both refuse the same.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from transformers import CompileConfig, GenerationConfig

from conv_dlm.generation.arguments import check_callables, vocabulary_of
from conv_dlm.generation.assistant import find_assistant
from conv_dlm.generation.attention import BIDIRECTIONAL, BlockCausal
from conv_dlm.generation.cache import CanvasCache
from conv_dlm.generation.candidates import MEASURES
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.compatibility import (
    check_arguments,
    check_canvas,
    check_config,
    check_constraint,
    check_past,
    check_speed,
)
from conv_dlm.generation.configuration import DiffusionGenerationConfig, did_you_mean
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.drawing import Draws
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.heads import find_head
from conv_dlm.generation.inputs import (
    TOKEN_IDS,
    check_followers,
    check_token_ids,
    constraints_of,
    criteria_of,
    first_ids,
    listed,
    new_tokens_of,
    padding_of,
)
from conv_dlm.generation.loop import Denoising
from conv_dlm.generation.model_blocks import blocks_of_model
from conv_dlm.generation.observing import Callback, Observer
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES
from conv_dlm.generation.parts.exits import EXIT_SCHEDULES
from conv_dlm.generation.parts.position_weights import POSITION_WEIGHTS
from conv_dlm.generation.parts.rules import UNMASKING_RULES, UnmaskingRule
from conv_dlm.generation.parts.statistics import STATISTICS
from conv_dlm.generation.past import Past
from conv_dlm.generation.processors import CanvasProcessors, build_processors
from conv_dlm.generation.resolve import OWN_OF_FORWARDS, resolve
from conv_dlm.generation.row_adapters import RowAdapters
from conv_dlm.generation.soft_prompts import check_no_soft_prompt

# keywords that others hand over by habit, and that change nothing
HARMLESS = frozenset({"token_type_ids", "trust_remote_code"})


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
    past: Past | None = None,
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
    check_arguments(kwargs)
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
    check_config(model, config, synced_gpus)

    vocabulary = vocabulary_of(model)
    check_token_ids(config, set(kwargs) if generation_config is None else {*kwargs, *TOKEN_IDS}, vocabulary)
    input_ids = first_ids(model, input_ids, config, vocabulary)
    device = input_ids.device
    padding = padding_of(input_ids, attention_mask, config)
    if config.num_return_sequences and config.num_return_sequences > 1:
        input_ids = input_ids.repeat_interleave(config.num_return_sequences, 0)
        padding = None if padding is None else padding.repeat_interleave(config.num_return_sequences, 0)
    check_followers(input_ids, streamer, generator)
    new_tokens = new_tokens_of(model, input_ids, config)
    eos_token_ids = None if config.eos_token_id is None else torch.tensor(listed(config.eos_token_id), device=device)
    pad_token_id = config.pad_token_id
    if pad_token_id is None and config.eos_token_id is not None:
        pad_token_id = listed(config.eos_token_id)[0]

    canvas = Canvas.from_prompt(input_ids, new_tokens, config.mask_token_id, padding)
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise SettingError("tokenizer", f"is a {type(tokenizer).__name__}", "pass the model's")
    constraints = constraints_of(constraint, canvas, tokenizer, config, eos_token_ids)
    pattern = getattr(model, "attention_pattern", BIDIRECTIONAL)
    decode_type = config.resolved_decode_type
    weights = POSITION_WEIGHTS[decode_type.weights].from_config(config)
    rule = UNMASKING_RULES[decode_type.rule].from_config(config)
    policy = CACHE_POLICIES[config.cache_implementation].from_config(config) if config.cache_implementation else None
    early_exit = EXIT_SCHEDULES[config.exit_schedule].from_config(config) if config.exit_schedule else None
    if isinstance(pattern, BlockCausal):
        weights = blocks_of_model(model, canvas, weights, rule, pattern, config)
    check_canvas(canvas, weights, rule, config)
    check_speed(model, canvas, weights, rule, policy, pattern, config)
    if constraints is not None:
        check_constraint(rule)
    if past is not None:
        check_past(past, model, canvas, policy, config)

    assistant = find_assistant(
        model, assistant_model, tokenizer, assistant_tokenizer, rule, canvas, config.decode_type or ""
    )

    head = find_head(model, rule, device)
    if head is not None:
        rule.check_head(head, weights.scope_length(canvas.ids.shape[1]))

    asked = {*rule.asks(), *(() if early_exit is None else early_exit.statistics)} - set(MEASURES)
    criteria = criteria_of(config, stopping_criteria, tokenizer)
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
    if rule.own_scores and changed:
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
        past=past,
        early_exit=early_exit,
        constraint=constraints,
        assistant=assistant,
        head=head,
        after_step=None if observer.idle else observer,
    )  # fmt: skip
    return Prepared(config, run, observer, input_ids, eos_token_ids, pad_token_id)


def _denoiser(model: Any, canvas: Canvas, padded: bool, pattern: Any, config: DiffusionGenerationConfig) -> Denoiser:
    """The model with what its forwards need in this run."""
    guidance = 1.0 if config.guidance_scale is None else config.guidance_scale
    cache = None
    if config.cache_implementation is not None:
        rows, length = canvas.ids.shape
        cache = CanvasCache(model, rows, length, 1 if guidance == 1 else 2)
    compile_config = (config.compile_config or CompileConfig()) if config.compile else None
    padding = canvas.padding if padded else None
    adapters = RowAdapters.of(model, canvas.ids.shape[0], config.num_return_sequences or 1)
    return Denoiser(model, padding, guidance, bool(config.shift_logits), cache, compile_config, pattern, adapters)
