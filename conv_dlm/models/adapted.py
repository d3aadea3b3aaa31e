"""Diffusion LMs made of Transformers' autoregressive classes: the same weights, another attention mask.

A family is a config, `class XConfig(AdaptedConfig, Qwen2Config)`, that says what is seen and predicted, and a model,
`class XModel(SelfContained, AdaptedLM, Qwen2ForCausalLM, DiffusionGenerationMixin)`.
Shapes: B rows, L positions, Q queries, K keys, W kept positions, D width, V vocabulary.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast, MoeCausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils.generic import can_return_tuple

from conv_dlm.generation.attention import BIDIRECTIONAL, AttentionPattern, BlockCausal
from conv_dlm.generation.capabilities import scales_by_length
from conv_dlm.models.cache_argument import CACHE_FIELD, CACHE_NAMES, given_cache, returned_cache

PATTERNS = ("full", "block_causal", "causal")


class AdaptedConfig:
    """What decoding has to know of a model, beside the base model's own config.

    Attributes:
        attention_pattern (`str`): what a position sees: `"full"`, everything; `"block_causal"`, the blocks up to its
            own, all of its own; `"causal"`, itself and what is before.
        block_length (`int`, *optional*): positions of a block that the model was trained with, counted from the row's
            first token.
        shift_logits (`bool`): whether the logits at a position predict the token at its right.
        mask_token_id (`int`, *optional*): id of the mask; where the config doesn't say, `published_mask_token_id`, that
            of the published checkpoints, if the vocabulary is large enough.
        published_settings (`dict`): what the published sampler does, in settings of `generate`.

    Raises:
        `ValueError`: a pattern that doesn't exist, or blocks without a length.
    """

    attention_pattern = "full"
    block_length: int | None = None
    shift_logits = False
    mask_token_id: int | None = None
    published_mask_token_id: ClassVar[int | None] = None
    published_settings: ClassVar[dict[str, Any]] = {}
    is_causal: bool
    # TRL asks every config of a class from outside Transformers for an `auto_map`; a class attribute is not saved.
    auto_map: ClassVar[dict[str, str]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = CACHE_NAMES

    def __post_init__(self, **kwargs: Any) -> None:
        if self._auto_class is None:  # type: ignore[attr-defined]
            kwargs.pop("auto_map", None)  # points to code that `save_pretrained` would not write again
        super().__post_init__(**kwargs)  # type: ignore[misc]
        self.use_cache = False  # published for writing from left to right; here a forward keeps nothing unless asked to
        published = self.published_mask_token_id
        if self.mask_token_id is None and published is not None and published < self.vocab_size:  # type: ignore[attr-defined]
            self.mask_token_id = published
        self.validate_architecture()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it; `attn_implementation` is what the caller says, not a file (SDAR's names the one of
        its training). `rope_theta` and `rope_scaling` may be said as they stand in files."""
        config_dict = {key: value for key, value in config_dict.items() if key != "attn_implementation"}
        said = {key: kwargs.pop(key) for key in ("rope_theta", "rope_scaling") if key in kwargs}
        if said:
            rope = config_dict.pop("rope_parameters", None) or {}
            config_dict |= {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope} | said
        return super().from_dict(config_dict, **kwargs)  # type: ignore[misc]

    def validate_architecture(self) -> None:
        """Raise a `ValueError` if the pattern says nothing; its fields may have been set after the config was made."""
        super().validate_architecture()  # type: ignore[misc]
        if self.attention_pattern not in PATTERNS:
            raise ValueError(
                f"`attention_pattern={self.attention_pattern!r}` does not exist; choose one of {', '.join(PATTERNS)}."
            )
        if self.attention_pattern == "block_causal" and not (self.block_length and self.block_length > 0):
            raise ValueError(
                f"`attention_pattern='block_causal'` needs a positive `block_length`, not {self.block_length}; pass "
                "the one that the model was trained with."
            )
        self.is_causal = self.attention_pattern == "causal"  # Transformers makes masks for both directions by it

    def to_dict(self) -> dict[str, Any]:
        """As the published files have it: `rope_theta` and `rope_scaling` instead of `rope_parameters`."""
        fields: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        fields.pop("is_causal", None)
        rope = dict(fields.pop("rope_parameters", None) or {})
        for name in ("rope_theta", "partial_rotary_factor"):
            if name in rope:
                fields[name] = rope.pop(name)
        fields["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
        return fields


class AdaptedLM:
    """The forward of the models with logits; it comes before Transformers' class in the bases."""

    supports_window_logits = True
    supports_canvas_cache = True
    # It would take no mask of blocks, and take gaps between the positions of a partial forward for borders of packed
    # sequences. SDPA runs the same kernels where there is no mask.
    _supports_flash_attn = False
    _supports_context_parallel = False  # ring attention in Transformers is causal only
    _skip_keys_device_placement = CACHE_NAMES
    config: Any
    model: Any
    lm_head: nn.Module
    loss_function: Any

    def __init__(self, config: Any) -> None:
        config.validate_architecture()
        super().__init__(config)  # type: ignore[call-arg]
        for layer in self.model.layers:
            layer.self_attn.is_causal = config.is_causal  # read by SDPA where there is no mask
        self.shift_logits = bool(config.shift_logits)
        self.attention_pattern: AttentionPattern = (
            BlockCausal(config.block_length) if config.attention_pattern == "block_causal" else BIDIRECTIONAL
        )
        self.loss_type = "ForMaskedLM"
        if scales_by_length(config):
            self.model.rotary_emb.register_forward_pre_hook(_forget_length)

    @property
    def generation_defaults(self) -> dict[str, Any]:
        """Settings of the published sampler, as far as they go with the blocks, and the cache that is exact."""
        settings = dict(self.config.published_settings)
        if self.config.attention_pattern == "block_causal":
            if not scales_by_length(self.config):
                settings["cache_implementation"] = "block"
            if self.config.block_length % settings.get("block_length", 1):
                del settings["block_length"]
        return settings

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """Transformers looks into the file of the class, and the experts are in that of its own class."""
        theirs: Any = next(base for base in cls.__mro__ if base.__module__.startswith("transformers.models."))
        return bool(theirs._can_set_experts_implementation())

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Denoiser's logits: for the token at the same position, or at the next one with `config.shift_logits`.

        Args:
            input_ids (`LongTensor` [B, L]), or inputs_embeds (`Tensor` [B, L, D]):
                The canvas.
            attention_mask (`Tensor` [B, K], *optional*):
                1 for tokens, 0 for padding, on either side; of all keys where there is a cache. A ready mask
                [B or 1, 1, Q, K], boolean (true: seen) or added to the scores, is used as it is.
            position_ids (`LongTensor` [B, L] or [1, L], *optional*, defaults to 0 .. L-1):
                Positions of the tokens in `input_ids`.
            cache, or past_key_values (`Cache`, *optional*):
                Keys and values of other positions, seen in addition.
            labels (`LongTensor` [B, L], *optional*):
                Target of each position, -100 where there is none: gives `loss`, the cross-entropy of the logits that
                predict it, averaged over targets (or over `num_items_in_batch`). With `logits_to_keep`, over those that
                are kept. With shifted logits nothing predicts the first position.
            use_cache (`bool`, *optional*):
                Whether to return a cache; no, unless one is given or asked for here.
            logits_to_keep (`int` or `Tensor`, *optional*, defaults to `0`):
                Positions to project to the vocabulary: the last n (`int`, 0 for all), the same for all rows
                (`LongTensor` [W]), given for each row (`LongTensor` [B, W]), or any (`BoolTensor` [B, L]; logits are
                then [positions, V]).

        Returns:
            `CausalLMOutputWithPast` with `logits` [B, W, V] in the model's dtype; with `output_router_logits=True`, a
            `MoeCausalLMOutputWithPast` with the `router_logits` of each layer of experts.
        """
        cache = given_cache(self.model, cache, past_key_values)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        inputs = input_ids if inputs_embeds is None else inputs_embeds
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=self._ready_mask(inputs, attention_mask, position_ids, cache),
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=cache is not None,
            **returned_cache(cache),
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            if self.shift_logits:
                labels = nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
            labels = slice_logits_to_keep(labels[..., None], logits_to_keep)
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **kwargs)
        router = getattr(outputs, "router_logits", None)  # where the config, or the call, asks for it
        kind: Any = CausalLMOutputWithPast if router is None else MoeCausalLMOutputWithPast
        return kind(
            loss=loss,
            logits=logits,
            **returned_cache(getattr(outputs, CACHE_FIELD)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **({} if router is None else {"router_logits": router}),
        )

    def _ready_mask(
        self,
        inputs: torch.Tensor | None,
        attention_mask: Any,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
    ) -> Any:
        """The mask in the form that attention takes; None or [B, K] where Transformers makes the right one of it."""
        if isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 4:
            return self._as_attention_takes_it(attention_mask)
        pattern = self.attention_pattern
        if not isinstance(pattern, BlockCausal) or inputs is None or isinstance(attention_mask, dict):
            return attention_mask
        length = inputs.shape[1]
        count = length if cache is None else cache.get_mask_sizes(length, 0)[0]
        if attention_mask is not None:
            keys = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
        elif cache is None and position_ids is not None:
            keys = position_ids
        else:
            keys = torch.arange(count, device=inputs.device)[None]
        visible = pattern.visible(keys[:, -length:] if position_ids is None else position_ids, keys)
        if attention_mask is not None:
            visible = visible & attention_mask.bool()[:, None, None, :]
        return self._as_attention_takes_it(visible.expand(inputs.shape[0], 1, length, count))

    def _as_attention_takes_it(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask [B, 1, Q, K], true where a key is seen: as it is for SDPA; others would add 1 to the scores there."""
        if mask.dtype != torch.bool or self.config._attn_implementation == "sdpa":
            return mask
        dtype = self.lm_head.weight.dtype
        assert isinstance(dtype, torch.dtype)
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def _forget_length(rotary: Any, *_: Any) -> None:
    """Let a dynamic rotary embedding begin anew: Transformers' keeps the frequencies of the longest text that it has
    seen until a much shorter one comes."""
    rotary.register_buffer("inv_freq", rotary.original_inv_freq.to(rotary.inv_freq.device), persistent=False)
    rotary.max_seq_len_cached = rotary.original_max_seq_len
