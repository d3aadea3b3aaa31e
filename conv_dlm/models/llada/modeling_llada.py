"""LLaDA (arXiv 2502.09992): a bidirectional Llama that reads and writes the original checkpoints.

Llama's blocks, with three differences: no causal mask, rotary embedding applied in float32 (as the original does; it
matters in bfloat16), and tensor names of the original files (`WEIGHT_NAMES`). Every forward is written out here, since
Transformers renames the arguments of Llama's; norm and MLP are Llama's.
Shapes: B rows, L positions, W kept positions, D width, H head size, V logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, eager_attention_forward
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.cache_argument import CACHE_FIELD, CACHE_NAMES, given_cache, returned_cache
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.rotary import RotaryEmbedding, rotate
from conv_dlm.models.self_contained import SelfContained

# Original name -> name here, applied in order when loading and backwards when saving. `ff_out` names both the output
# head and the down projection of a block, so the rules of the whole model are anchored. No rule may match a name that
# is ours already: PEFT puts its adapters' names through them too.
WEIGHT_NAMES: list[WeightConverter | WeightRenaming] = [
    WeightRenaming(r"^model\.transformer\.wte\.", "^model.embed_tokens."),
    WeightRenaming(r"^model\.transformer\.ln_f\.", "^model.norm."),
    WeightRenaming(r"^model\.transformer\.ff_out\.", "^lm_head."),
    WeightRenaming(r"^model\.transformer\.blocks\.", "^model.layers."),
    *(WeightRenaming(rf"(?<!self_attn)\.{x}_proj\.", f".self_attn.{x}_proj.") for x in "qkv"),
    WeightRenaming(r"\.attn_out\.", ".self_attn.o_proj."),
    WeightRenaming(r"\.attn_norm\.", ".input_layernorm."),
    WeightRenaming(r"\.ff_norm\.", ".post_attention_layernorm."),
    WeightRenaming(r"\.ff_proj\.", ".mlp.gate_proj."),
    WeightRenaming(r"(?<!mlp)\.up_proj\.", ".mlp.up_proj."),
    WeightRenaming(r"\.ff_out\.", ".mlp.down_proj."),
]
register_checkpoint_conversion_mapping("llada", WEIGHT_NAMES, overwrite=True)


class LLaDAAttention(nn.Module):
    """Attention in both directions; queries and keys are rotated in float32 and rounded once."""

    is_causal = False  # read by SDPA and by flash attention when there is no mask

    def __init__(self, config: LLaDAConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        heads, kv_heads = config.n_heads, config.n_kv_heads or config.n_heads
        self.head_dim = config.head_dim
        self.num_key_value_groups = heads // kv_heads  # read by the attention backends, like `is_causal`
        self.q_proj = nn.Linear(config.d_model, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.d_model, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, config.d_model, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` [B, L, D] -> [B, L, D]; `position_embeddings` are cos and sin [B, L, H], float32."""
        heads_shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(heads_shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(heads_shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(heads_shape).transpose(1, 2)

        query, key = rotate(query, key, position_embeddings)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)

        attend: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attention_dropout if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.head_dim**-0.5, **kwargs
        )
        return self.o_proj(output.flatten(2)), weights


class LLaDADecoderLayer(GradientCheckpointingLayer):
    """Attention, then the gated MLP, each on the normed hidden states and added to them."""

    def __init__(self, config: LLaDAConfig, layer_idx: int):
        super().__init__()
        self.self_attn = LLaDAAttention(config, layer_idx)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.d_model, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.d_model, eps=config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """`hidden_states` [B, L, D] -> [B, L, D]; further arguments are those of [`LLaDAAttention.forward`]."""
        # nothing but the sum is held while the MLP runs
        hidden_states = hidden_states + self.self_attn(self.input_layernorm(hidden_states), **kwargs)[0]
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class LLaDAPreTrainedModel(PreTrainedModel):
    config: LLaDAConfig
    config_class = LLaDAConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LLaDADecoderLayer"]
    _skip_keys_device_placement = CACHE_NAMES
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _supports_context_parallel = False  # ring attention in Transformers is causal only
    _can_record_outputs = {"hidden_states": LLaDADecoderLayer, "attentions": LLaDAAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RotaryEmbedding):
            init.copy_(module.inv_freq, module.frequencies())


class LLaDAModel(LLaDAPreTrainedModel):
    """The blocks without the output head."""

    def __init__(self, config: LLaDAConfig):
        config.validate_architecture()  # keys may have been set after the config was made
        super().__init__(config)
        # No `padding_idx`: LLaDA pads with EOS, and it would freeze the gradient of the EOS embedding.
        self.embed_tokens = nn.Embedding(config.embedding_size or config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(LLaDADecoderLayer(config, i) for i in range(config.n_layers))
        self.norm = LlamaRMSNorm(config.d_model, eps=config.rms_norm_eps)
        scaled = None if config.rope_parameters["rope_type"] == "default" else config
        self.rotary_emb = RotaryEmbedding(config.head_dim, config.rope_theta, scaled=scaled)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """See [`LLaDAModelLM.forward`]; gives `last_hidden_state` [B, L, D]."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Pass exactly one of `input_ids` and `inputs_embeds`.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        cache = given_cache(self, cache, past_key_values)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            # Rotary embedding sees differences only, so counting across left padding gives the same logits.
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen)[None]

        mask = create_bidirectional_mask(self.config, inputs_embeds, attention_mask, None, cache)
        position_embeddings = self.rotary_emb(position_ids)

        hidden_states = inputs_embeds
        # `position_ids` stay here: flash attention would take gaps between them for borders of packed sequences.
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                cache=cache,
                position_embeddings=position_embeddings,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_states), **returned_cache(cache))


class LLaDAModelLM(CompleteWeights, SelfContained, LLaDAPreTrainedModel, DiffusionGenerationMixin):  # type: ignore[misc]
    """LLaDA with its output head: ids, some of them masked, to logits for every position."""

    supports_window_logits = True
    supports_canvas_cache = True
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: LLaDAConfig):
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.lm_head = nn.Linear(config.d_model, self.model.embed_tokens.num_embeddings, bias=False)
        self.loss_type = "ForMaskedLM"
        self.post_init()

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        self.config.embedding_size = self.config.vocab_size = embeddings.num_embeddings
        return embeddings

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
        """Denoiser's logits, for the token at the same position (not shifted).

        Args:
            input_ids (`LongTensor` [B, L]), or inputs_embeds (`Tensor` [B, L, D]):
                The canvas.
            attention_mask (`Tensor` [B, L], *optional*):
                1 for tokens, 0 for padding, on either side; a ready 4-D mask is used as it is.
            position_ids (`LongTensor` [B, L] or [1, L], *optional*, defaults to 0 .. L-1):
                Positions of the tokens in `input_ids`.
            cache, or past_key_values (`Cache`, *optional*):
                Keys and values of other positions, seen in addition; attention goes both ways, so they are only
                right as long as nothing that they depend on changes.
            labels (`LongTensor` [B, L], *optional*):
                Target of each position, -100 where there is none: gives `loss`, the cross-entropy at the same
                position, averaged over targets (or over `num_items_in_batch`). With `logits_to_keep`, over the
                targets at kept positions.
            logits_to_keep (`int` or `Tensor`, *optional*, defaults to `0`):
                Positions to project to the vocabulary: the last n (`int`, 0 for all), the same for all rows
                (`LongTensor` [W]), given for each row (`LongTensor` [B, W]), or any (`BoolTensor` [B, L]; logits are
                then [positions, V]).

        Returns:
            `CausalLMOutputWithPast` with `logits` [B, W, V] in the model's dtype.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            past_key_values=past_key_values,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            labels = slice_logits_to_keep(labels[..., None], logits_to_keep)
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **returned_cache(getattr(outputs, CACHE_FIELD)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
