"""MDLM (arXiv 2406.07524): a diffusion transformer (DiT, arXiv 2212.09748) on Transformers' attention backends.

Modules carry the names of the published checkpoints, so that their files load as they are. A conditioning vector,
made from the noise level sigma, shifts, scales and gates both branches of every block.
Shapes: B rows, L positions, W kept positions, D width, C conditioning width, A heads, H head size, V logits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, slice_logits_to_keep
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.models.cache_argument import CACHE_NAMES, given_cache, returned_cache
from conv_dlm.models.complete_weights import CompleteWeights
from conv_dlm.models.mdlm.configuration_mdlm import MDLMConfig
from conv_dlm.models.rotary import RotaryEmbedding, rotate
from conv_dlm.models.self_contained import SelfContained

FREQUENCIES = 256  # features of sigma that `sigma_map` sees
ROPE_THETA = 10000.0  # fixed in the original, like the period of the features

# The original embedding is a bare parameter; as a module it can be resized, tied and adapted.
WEIGHT_NAMES: list[WeightConverter | WeightRenaming] = [
    WeightRenaming(r"\.vocab_embed\.embedding", ".vocab_embed.weight"),
]
register_checkpoint_conversion_mapping("mdlm", WEIGHT_NAMES, overwrite=True)


class ConditioningLinear(nn.Linear):
    """A layer on the conditioning path.

    A class of its own keeps bitsandbytes away, which replaces exact `nn.Linear`s: these layers are few and small,
    act on all positions at once, and are not worth the error.
    """


class Modulation(ConditioningLinear):
    """Conditioning [B, C] -> shift, scale (and gate) of a block or of the output layer, next to each other.

    Zero at first (adaLN-Zero in DiT): a new block is the identity.
    """


class NoiseLevelEmbedding(nn.Module):
    """Sigma [B] -> conditioning [B, C], as in DiT: sinusoidal features, then an MLP."""

    def __init__(self, cond_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            ConditioningLinear(FREQUENCIES, cond_dim), nn.SiLU(), ConditioningLinear(cond_dim, cond_dim)
        )

    def forward(self, sigma_B: torch.Tensor) -> torch.Tensor:
        half = FREQUENCIES // 2
        exponents = torch.arange(half, device=sigma_B.device, dtype=torch.float32) / half
        angles = sigma_B.float()[:, None] * torch.exp(-math.log(10000.0) * exponents)
        features = torch.cat((angles.cos(), angles.sin()), dim=-1)
        dtype = next(self.mlp.parameters()).dtype
        return F.silu(self.mlp(features.to(dtype)))


class MDLMLayerNorm(nn.LayerNorm):
    """Layer norm without bias, modulated: `norm(x) (1 + scale) + shift` in float32, then `x`'s dtype again."""

    def __init__(self, width: int):
        super().__init__(width, eps=1e-5, bias=False)

    def forward(self, x_BLD: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        normed = F.layer_norm(x_BLD.float(), self.normalized_shape, self.weight.float(), None, self.eps)
        return (normed * (1 + scale) + shift).to(x_BLD.dtype)


class MDLMBlock(GradientCheckpointingLayer):
    """Attention and MLP, each modulated before and gated after."""

    num_key_value_groups = 1  # read by the attention backends, like `is_causal`
    is_causal = False

    def __init__(self, config: MDLMConfig, layer_idx: int):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        width = config.hidden_dim
        self.head_dim = width // config.n_heads
        self.norm1 = MDLMLayerNorm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = MDLMLayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.adaLN_modulation = Modulation(config.cond_dim, 6 * width)
        self.dropout = nn.Dropout(config.dropout)

    def attend(
        self,
        x_BLD: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention in both directions: [B, L, D], and weights [B, A, L, keys] from the eager backend."""
        qkv = self.attn_qkv(x_BLD).unflatten(-1, (3, -1, self.head_dim))  # [B, L, 3, A, H]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, key, position_embeddings)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        backend: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = backend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.head_dim**-0.5, **kwargs
        )
        return self.attn_out(output.flatten(2)), weights

    def forward(
        self, hidden_states: torch.Tensor, conditioning: torch.Tensor, modulation: torch.Tensor | None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` [B, L, D], `conditioning` [B or 1, C] -> hidden states, attention weights.

        `modulation` [1, 6 D] is given when it is known already.
        """
        if modulation is None:
            modulation = self.adaLN_modulation(conditioning)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation[:, None].chunk(6, dim=-1)
        attended, weights = self.attend(self.norm1(hidden_states, shift, scale), **kwargs)
        hidden_states = hidden_states + gate * self.dropout(attended)
        mlp_output = self.mlp(self.norm2(hidden_states, mlp_shift, mlp_scale))
        return hidden_states + mlp_gate * self.dropout(mlp_output), weights


class MDLMOutputLayer(nn.Module):
    """The output head: modulated norm, then the vocabulary."""

    def __init__(self, config: MDLMConfig):
        super().__init__()
        self.norm_final = MDLMLayerNorm(config.hidden_dim)
        self.linear = nn.Linear(config.hidden_dim, config.vocab_size)
        self.adaLN_modulation = Modulation(config.cond_dim, 2 * config.hidden_dim)

    def forward(
        self,
        hidden_states: torch.Tensor,
        conditioning: torch.Tensor,
        modulation: torch.Tensor | None,
        logits_to_keep: int | torch.Tensor,
    ) -> torch.Tensor:
        """`hidden_states` [B, L, D], `conditioning` [B or 1, C] -> logits [B, W, V]; see `MDLM.forward`."""
        if modulation is None:
            modulation = self.adaLN_modulation(conditioning)
        shift, scale = modulation[:, None].chunk(2, dim=-1)
        hidden_states = self.norm_final(hidden_states, shift, scale)
        return self.linear(slice_logits_to_keep(hidden_states, logits_to_keep))


class MDLMBackbone(nn.Module):
    """What the published checkpoints call `backbone`: everything that has weights."""

    def __init__(self, config: MDLMConfig):
        super().__init__()
        self.vocab_embed = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.sigma_map = NoiseLevelEmbedding(config.cond_dim)
        self.rotary_emb = RotaryEmbedding(config.hidden_dim // config.n_heads, ROPE_THETA, persistent=True)
        self.blocks = nn.ModuleList(MDLMBlock(config, i) for i in range(config.n_blocks))
        self.output_layer = MDLMOutputLayer(config)


class MDLM(CompleteWeights, SelfContained, PreTrainedModel, DiffusionGenerationMixin):  # type: ignore[misc]
    """The denoiser of MDLM: ids, some of them masked, to logits for every position."""

    config: MDLMConfig
    config_class = MDLMConfig
    base_model_prefix = "backbone"
    supports_window_logits = True
    supports_canvas_cache = True
    supports_gradient_checkpointing = True
    _no_split_modules = ["MDLMBlock"]
    _keys_to_ignore_on_load_missing = [r"rotary_emb\.inv_freq"]  # follows from the config
    _skip_keys_device_placement = CACHE_NAMES
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _supports_context_parallel = False  # ring attention in Transformers is causal only
    _can_record_outputs = {
        "hidden_states": OutputRecorder(MDLMBlock, index=0),
        "attentions": OutputRecorder(MDLMBlock, index=1),
    }

    def __init__(self, config: MDLMConfig):
        config.validate_architecture()  # keys may have been set after the config was made
        super().__init__(config)
        self.backbone = MDLMBackbone(config)
        self.gradient_checkpointing = False
        self.loss_type = "ForMaskedLM"
        # Conditioning and modulations of blocks and output layer, inside `constant_conditioning`.
        self._constants: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RotaryEmbedding):
            init.copy_(module.inv_freq, module.frequencies())
        elif isinstance(module, Modulation) or module is self.get_output_embeddings():
            init.zeros_(module.weight)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.backbone.vocab_embed

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.vocab_embed = value  # type: ignore[assignment]

    def get_output_embeddings(self) -> nn.Linear:
        return self.backbone.output_layer.linear

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.backbone.output_layer.linear = value

    @contextmanager
    def constant_conditioning(self) -> Iterator[None]:
        """Compute conditioning and modulation once for all forwards inside, if the model has no time conditioning.

        `generate` enters it by itself; a loop of your own may. Inside, the weights must not change, and those of the
        conditioning path get no gradient. Outside nothing is kept, so nothing can go stale.
        """
        layers: list[Any] = [part.adaLN_modulation for part in (*self.backbone.blocks, self.backbone.output_layer)]
        # Sharded (FSDP, ZeRO-3) and offloaded weights are only there during the forward that they belong to.
        at_hand = all(
            not layer.weight.is_meta
            and not hasattr(layer.weight, "placements")
            and layer.weight.shape == (layer.out_features, layer.in_features)
            for layer in layers
        )
        if at_hand and not self.config.time_conditioning:
            with torch.no_grad():
                conditioning = self._conditioning(None, self.device)
                self._constants = conditioning, [layer(conditioning) for layer in layers]
        try:
            yield
        finally:
            self._constants = None

    def _conditioning(self, timesteps: torch.Tensor | None, device: torch.device) -> torch.Tensor:
        """Conditioning vector [B, C]; [1, C] for all rows without time conditioning, where sigma is 0 by definition."""
        if not self.config.time_conditioning:
            timesteps = torch.zeros(1, device=device)
        elif timesteps is None:
            raise ValueError(
                "`timesteps` is missing: this checkpoint has `time_conditioning=True` and needs sigma [B], the noise "
                "level of each row (-log of the share of tokens that are not masked)."
            )
        return self.backbone.sigma_map(timesteps)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """See [`~conv_dlm.generation.DiffusionGenerationMixin.generate`]."""
        with self.constant_conditioning():
            return super().generate(*args, **kwargs)

    @merge_with_config_defaults
    @capture_outputs
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
        timesteps: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Denoiser's logits, raw (the mask token is not suppressed), for the token at the same position.

        Args:
            input_ids (`LongTensor` [B, L]), or inputs_embeds (`Tensor` [B, L, D]):
                The canvas.
            attention_mask (`Tensor` [B, L], *optional*):
                1 for tokens, 0 for padding, on either side; a ready 4-D mask is used as it is. The original has
                none. Note that its `[PAD]` is its mask token: a mask made from `ids != pad` hides the canvas.
            position_ids (`LongTensor` [B, L] or [1, L], *optional*, defaults to 0 .. L-1):
                Positions of the tokens in `input_ids`.
            cache, or past_key_values (`Cache`, *optional*):
                Keys and values of other positions, seen in addition.
            labels (`LongTensor` [B, L], *optional*):
                Target of each position, -100 where there is none: gives `loss`, the cross-entropy at the same
                position, averaged over targets (or over `num_items_in_batch`). With `logits_to_keep`, over the
                targets at kept positions.
            logits_to_keep (`int` or `Tensor`, *optional*, defaults to `0`):
                Positions to project to the vocabulary: the last n (`int`, 0 for all), the same for all rows
                (`LongTensor` [W]), given for each row (`LongTensor` [B, W]), or any (`BoolTensor` [B, L]; logits are
                then [positions, V]).
            timesteps (`Tensor` [B], *optional*):
                Sigma, the noise level of each row. Required with `time_conditioning`, without effect otherwise.

        Returns:
            `CausalLMOutputWithPast` with `logits` [B, W, V] in the model's dtype.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Pass exactly one of `input_ids` and `inputs_embeds`.")
        if attention_mask is not None and attention_mask.ndim not in (2, 4):
            raise ValueError(
                f"`attention_mask` of shape {tuple(attention_mask.shape)} must be [B, L] or 4-D; the noise level of "
                "the original's second argument goes into `timesteps=`."
            )
        backbone = self.backbone
        if inputs_embeds is None:
            inputs_embeds = backbone.vocab_embed(input_ids)
        cache = given_cache(self, cache, past_key_values)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            # Rotary embedding sees differences only, so counting across left padding gives the same logits.
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen)[None]
        mask = create_bidirectional_mask(self.config, inputs_embeds, attention_mask, None, cache)
        position_embeddings = backbone.rotary_emb(position_ids)
        modulations: Sequence[torch.Tensor | None]
        if self._constants is not None:
            conditioning, modulations = self._constants
        else:
            conditioning = self._conditioning(timesteps, inputs_embeds.device)
            modulations = [None] * (self.config.n_blocks + 1)

        hidden_states = inputs_embeds
        # `position_ids` stay here: flash attention would take gaps between them for borders of packed sequences.
        for block, modulation in zip(backbone.blocks, modulations, strict=False):
            hidden_states, _ = block(
                hidden_states,
                conditioning,
                modulation,
                position_embeddings=position_embeddings,
                attention_mask=mask,
                cache=cache,
                **kwargs,
            )
        logits = backbone.output_layer(hidden_states, conditioning, modulations[-1], logits_to_keep)
        loss = None
        if labels is not None:
            labels = slice_logits_to_keep(labels[..., None], logits_to_keep)
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **returned_cache(cache))
