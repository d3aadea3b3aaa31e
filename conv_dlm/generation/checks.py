"""What `generate` refuses at the door, each with the way out."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from conv_dlm.generation.cache_policies import CachePolicy
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.capabilities import check_canvas_cache
from conv_dlm.generation.configuration import DEPENDENT_FIELDS, DIFFUSION_DEFAULTS, DiffusionGenerationConfig
from conv_dlm.generation.decode_types import DECODE_TYPES
from conv_dlm.generation.position_weights import ConvolutionWeights, PositionWeights
from conv_dlm.generation.row_streamers import RowStreamers
from conv_dlm.generation.unmasking_rules import UnmaskingRule

# fields that every decode type reads; the others belong to some (`DecodeType.fields`), or to another field
COMMON_FIELDS = frozenset({
    "decode_type", "eos_fill", "eos_threshold", "exit_schedule", "horizon", "compile", "mask_token_id",
    "output_history",
})  # fmt: skip


def check_fields_matter(config: DiffusionGenerationConfig, given: set[str]) -> None:
    """Raise for a keyword of `generate`, one of those `given`, that has no effect with the others."""
    without_effect = given & set(DIFFUSION_DEFAULTS) - COMMON_FIELDS - set(DEPENDENT_FIELDS)
    for name in sorted(without_effect - config.resolved_decode_type.fields):
        users = [decode_type for decode_type, parts in DECODE_TYPES.items() if name in parts.fields]
        raise ValueError(
            f"`{name}`={getattr(config, name)!r} has no effect with `decode_type={config.decode_type!r}`; drop it, or "
            f"use one of {users}."
        )
    for name in sorted(given & set(DEPENDENT_FIELDS)):
        other, values = DEPENDENT_FIELDS[name]
        value = getattr(config, other)
        if value is None or (values is not None and value not in values):
            wanted = "" if values is None else f" to {' or '.join(map(repr, values))}"
            raise ValueError(
                f"`{name}`={getattr(config, name)!r} has no effect with `{other}={value!r}`; drop it, or set "
                f"`{other}`{wanted}."
            )
    draws = config.temperature > 0 or config.remasking == "random"
    if config.num_return_sequences > 1 and not draws:
        raise ValueError(
            f"`num_return_sequences`={config.num_return_sequences} would return the same text each time, since nothing "
            "is drawn at random; set `do_sample=True`."
        )


def left_padding(attention_mask: Tensor | None, input_ids: Tensor) -> Tensor | None:
    """BoolTensor [B, P] of the padding, None if there is none. Raises if it is not at the left."""
    if attention_mask is None:
        return None
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"`attention_mask` has shape {tuple(attention_mask.shape)}, but `input_ids` {tuple(input_ids.shape)}; they "
            "must agree."
        )
    text = attention_mask.to(input_ids.device).bool()
    if bool((text.int().diff(dim=1) < 0).any()):
        raise ValueError("`attention_mask` has zeros behind text: pad at the left (`tokenizer.padding_side = 'left'`).")
    return ~text


def check_inputs(
    model: PreTrainedModel,
    input_ids: Tensor,
    config: DiffusionGenerationConfig,
    synced_gpus: bool,
    streamer: Any,
    model_kwargs: dict[str, Any],
) -> None:
    """Raise for inputs that can't be denoised."""
    if config.mask_token_id is None:
        raise ValueError(
            "`mask_token_id` is not known: this model's config names no mask token. Pass `mask_token_id=`, or set "
            "it in `model.generation_config`."
        )
    for name in ("eos_fill", "confidence_eos_eot_inf", "eos_threshold"):
        value = getattr(config, name)
        if value not in (None, False) and config.eos_token_id is None:
            raise ValueError(f"`{name}={value}` needs to know the end token; pass `eos_token_id=`, or drop it.")
    if input_ids.shape[0] == 0:
        raise ValueError("`input_ids` is an empty batch; give at least one row.")
    if getattr(model.config, "time_conditioning", False):
        raise ValueError(
            "`time_conditioning=True` models are not supported by `generate`: their logits depend on the time too."
        )
    if streamer is not None and input_ids.shape[0] > 1 and not isinstance(streamer, RowStreamers):
        raise ValueError(
            f"`streamer` shows one text, but the batch has {input_ids.shape[0]} rows; generate them one by one, or "
            "give each its own by `conv_dlm.RowStreamers`."
        )
    if synced_gpus:
        raise ValueError(
            "`synced_gpus=True` (ZeRO-3, FSDP) needs the same number of forwards on every rank, and rows finish at "
            "their own time. Gather the weights first, or pass `synced_gpus=False` where they are not sharded."
        )
    # what Transformers' `generate` hands on, used elsewhere or of no meaning here
    prepared = {"attention_mask", "position_ids", "use_cache", "logits_to_keep", "tokenizer"}
    for name, value in model_kwargs.items():
        if value is not None and name not in prepared:
            raise ValueError(f"`{name}` is not supported by denoising; drop it.")


def check_canvas(
    canvas: Canvas, weights: PositionWeights, rule: UnmaskingRule, config: DiffusionGenerationConfig
) -> None:
    """Raise for a canvas that this decoder can't denoise."""
    blocks = int(weights.blocks(canvas).max())
    if rule.paced and blocks > config.steps:
        raise ValueError(
            f"`steps`={config.steps} is too few for {blocks} blocks, each of which needs one; raise `steps` or "
            "`block_length`."
        )
    if isinstance(weights, ConvolutionWeights) and not bool((canvas.known.any(1) | ~canvas.undecided.any(1)).all()):
        raise ValueError(
            f"`decode_type={config.decode_type!r}` decides near known text, but a row has none; begin it with a prompt "
            "or the BOS token, or use 'topk'."
        )


def check_speed_fields(
    model: PreTrainedModel,
    canvas: Canvas,
    weights: PositionWeights,
    rule: UnmaskingRule,
    policy: CachePolicy | None,
    config: DiffusionGenerationConfig,
) -> None:
    """Raise for caches, early ends and horizons that can't be right together, or with this decoder and model."""
    decode_type, cache = config.decode_type, config.cache_implementation
    if policy is not None:
        check_canvas_cache(model, cache)
        if policy.needs_blocks and config.resolved_decode_type.weights != "block":
            raise ValueError(
                f"`cache_implementation={cache!r}` keeps what is outside of a block, and "
                f"`decode_type={decode_type!r}` has no blocks; use 'window', or drop it."
            )
    if policy is not None and policy.frozen and rule.revocable:
        raise ValueError(
            f"`cache_implementation={cache!r}` keeps what stands outside of a block, where "
            f"`decode_type={decode_type!r}` masks tokens again; use 'window', or drop one of them."
        )
    if rule.revocable:
        for name, value in (("eos_threshold", config.eos_threshold), ("exit_schedule", config.exit_schedule)):
            if value is not None:
                raise ValueError(
                    f"`{name}`={value!r} decides for good, and `decode_type={decode_type!r}` masks decided tokens "
                    "again; drop one of them."
                )
    if config.exit_schedule is not None and config.exit_low > config.exit_high:
        raise ValueError(
            f"`exit_low`={config.exit_low} is above `exit_high`={config.exit_high}: the threshold falls; swap them."
        )
    if config.horizon is not None:
        _check_horizon(canvas, weights, config)
    uneven = (config.horizon is not None or config.eos_threshold is not None) and canvas.ids.shape[0] > 1
    if uneven and policy is not None and "flash" in str(model.config._attn_implementation):
        name = "horizon" if config.horizon is not None else "eos_threshold"
        raise ValueError(
            f"`{name}`={getattr(config, name)} lets rows end at different positions, which flash attention can't mask "
            f"in a partial forward; drop it or `cache_implementation={cache!r}`, generate row by row, or load the "
            "model with attn_implementation='sdpa'."
        )


def _check_horizon(canvas: Canvas, weights: PositionWeights, config: DiffusionGenerationConfig) -> None:
    horizon, reach = config.horizon or 0, weights.reach(canvas.ids.shape[1])
    if bool(canvas.given[:, -1].any()):
        raise ValueError(
            f"`horizon`={horizon} would cut off the text at the right of the masks; drop it, or append masks to "
            "that text by `max_new_tokens`."
        )
    if config.exit_schedule is not None:
        raise ValueError(
            f"`horizon`={horizon} hides masks that `exit_schedule={config.exit_schedule!r}` has to look at; "
            "drop one of them."
        )
    if reach > horizon:
        way_out = "lower `kernel_size`" if isinstance(weights, ConvolutionWeights) else "set a shorter `block_length`"
        raise ValueError(
            f"`horizon`={horizon} is nearer than the {reach} positions that `decode_type={config.decode_type!r}` may "
            f"decide in; raise it, drop it, or {way_out}."
        )
