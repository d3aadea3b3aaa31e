"""What a model, a decode type and the settings can't do together: each with its reason and the way out."""

import warnings
from typing import Any

from transformers import PreTrainedModel

from conv_dlm.generation.attention import BlockCausal
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import check_canvas_cache, scales_by_length, supports_canvas_cache
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.errors import SettingError
from conv_dlm.generation.parts.cache_policies import CachePolicy
from conv_dlm.generation.parts.position_weights import ConvolutionWeights, PositionWeights, SlideWeights, WithinBlocks
from conv_dlm.generation.parts.rules import FixedStepsRule, UnmaskingRule
from conv_dlm.generation.past import Past
from conv_dlm.generation.resolve import ONE
from conv_dlm.generation.row_adapters import RowAdapters

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
    "past_key_values": (
        "is a cache of text from left to right", "pass `past=conv_dlm.Past()` to a model that sees block by block",
    ),
    "inputs_embeds": ("is not supported: a canvas is made of ids", "pass `input_ids`"),
}  # fmt: skip


def check_arguments(kwargs: dict[str, Any]) -> None:
    for name, (problem, remedy) in UNSUPPORTED.items():
        if kwargs.pop(name, None) is not None:
            raise SettingError(name, problem, remedy)


def check_config(model: Any, config: DiffusionGenerationConfig, synced_gpus: bool | None) -> None:
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


def check_canvas(
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


def check_constraint(rule: UnmaskingRule) -> None:
    """Languages are of rows whose positions are what they are from the start."""
    if rule.moves:
        raise SettingError(
            "constraint", "needs tokens that stay where they are, and this decode type inserts and deletes",
            "drop one of them",
        )  # fmt: skip
    if type(rule).first_end is not UnmaskingRule.first_end:
        raise SettingError(
            "constraint", "needs rows of a fixed length, and this decode type chooses its own", "drop one of them"
        )


def check_speed(
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
        _check_cache(model, rule, policy, pattern, config)
    if type(rule).extra is not UnmaskingRule.extra:
        _check_extra(model, policy, config)
    if config.align_blocks and not isinstance(pattern, BlockCausal):
        raise SettingError(
            "align_blocks", f"is for models that see block by block, and {type(model).__name__} doesn't", "drop it",
            True,
        )  # fmt: skip
    if scales_by_length(model.config):
        for name in ("cache_implementation", "lookahead"):
            if (value := getattr(config, name)) is not None:
                raise SettingError(
                    name, "makes forwards of parts of the text, and this model's `rope_scaling` goes by the length of "
                    "what it sees", "drop it, or scale by `rope_theta` (docs/models.md)", value,
                )  # fmt: skip
    if rule.greedy and config.is_random:
        raise SettingError(
            "do_sample", f"has no use: `decode_type={decode_type!r}` says the tokens by itself", "drop it, or use "
            "another type", config.do_sample,
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
            rule.own_scores,
            ("eos_threshold", "exit_schedule", "lookahead", *(() if rule.fills_ends else ("eos_fill",))),
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


def _check_cache(
    model: PreTrainedModel, rule: UnmaskingRule, policy: CachePolicy, pattern: Any, config: DiffusionGenerationConfig
) -> None:
    decode_type, cache = config.decode_type, config.cache_implementation
    check_canvas_cache(model, cache)
    if policy.block_causal and not isinstance(pattern, BlockCausal):
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


def _check_extra(model: PreTrainedModel, policy: CachePolicy | None, config: DiffusionGenerationConfig) -> None:
    """Positions beside the canvas, which not every model computes."""
    decode_type, cache = config.decode_type, config.cache_implementation
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


def check_past(
    past: Any, model: Any, canvas: Canvas, policy: CachePolicy | None, config: DiffusionGenerationConfig
) -> None:
    """Keys and values of other calls have to be right in this one, and those of this one in others."""
    if not isinstance(past, Past):
        raise SettingError("past", f"is a {type(past).__name__}", "pass a `conv_dlm.Past()`, at first an empty one")
    if policy is None or not policy.exact:
        raise SettingError(
            "past", "is right for models that see block by block, with `cache_implementation='block'`",
            "set that, or drop it", config.cache_implementation,
        )  # fmt: skip
    if config.guidance_scale not in (None, 1):
        raise SettingError(
            "past", "is of the text with its prompt alone, and guidance compares with a masked prompt",
            "drop one of them", config.guidance_scale,
        )  # fmt: skip
    if RowAdapters.of(model, canvas.ids.shape[0], config.num_return_sequences or 1) is not None:
        raise SettingError("past", "can't tell the adapters of each row apart", "drop `adapter_names`, or it")
    past.check(model, canvas.ids.shape[0])
