"""Configuration of LLaDA (arXiv 2502.09992): the keys of the published checkpoints, readable by Llama's modules.

The fields carry the names of the original `config.json` and are saved under them; Transformers' own names
(`hidden_size`, `num_hidden_layers`, ...) are aliases. Defaults are those of LLaDA-8B.
"""

from typing import Any, ClassVar

from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# Keys that change what is computed, with the one value that this implementation computes. Every published
# checkpoint has it; the original code could do more.
_ONLY: dict[str, Any] = {
    "block_type": "llama",
    "block_group_size": 1,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "attention_layer_norm": False,
    "input_emb_norm": False,
    "bias_for_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "rope": True,
    "rope_full_precision": True,
    "alibi": False,
    "scale_logits": False,
    "embedding_dropout": 0.0,
    "residual_dropout": 0.0,
}
_ACTIVATIONS = ("silu", "gelu", "relu")


class LLaDAConfig(PreTrainedConfig):
    """Configuration of a [`LLaDAModelLM`].

    Args:
        vocab_size (`int`, *optional*, defaults to `126464`):
            Number of tokens.
        embedding_size (`int`, *optional*):
            Rows of the embedding and of the output head, so the width of the logits; `vocab_size` when unset.
        d_model, n_layers, n_heads (`int`, *optional*, default to `4096`, `32`, `32`):
            Width, number of blocks, number of attention heads.
        n_kv_heads (`int`, *optional*):
            Key and value heads (grouped-query attention); when unset `n_heads`, or 1 with `multi_query_attention`.
        mlp_hidden_size (`int`, *optional*, defaults to `12288`):
            Inner width of the gated MLP; `mlp_ratio * d_model` when `None`.
        activation_type (`str`, *optional*, defaults to `"silu"`):
            Activation of the gate: `silu`, `gelu` or `relu`.
        max_sequence_length (`int`, *optional*, defaults to `4096`):
            Context that the checkpoint was trained for.
        rope_theta (`float`, *optional*, defaults to `500000.0`):
            Base of the rotary embedding.
        rope_scaling (`dict`, *optional*):
            How the context is lengthened, as Transformers has it: `{"rope_type": "dynamic", "factor": 4.0}`.
        weight_tying (`bool`, *optional*, defaults to `False`):
            Whether the output head is the embedding.
        mask_token_id, eos_token_id, pad_token_id, bos_token_id (`int`, *optional*):
            Ids as in the checkpoint. None is guessed; LLaDA pads with its EOS.

    The other fields are kept for the original code. Those that would change the result accept only the value that
    published checkpoints have.

    Raises:
        `ValueError`: a value that this implementation does not compute.
    """

    model_type = "llada"
    # TRL asks every config of a class from outside Transformers for an `auto_map`; a class attribute is not saved.
    auto_map: ClassVar[dict[str, str]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "intermediate_size": "mlp_hidden_size",
        "hidden_act": "activation_type",
        "max_position_embeddings": "max_sequence_length",
        "initializer_range": "init_std",
        "tie_word_embeddings": "weight_tying",
        "attention_bias": "include_qkv_bias",
        "mlp_bias": "include_bias",
    }
    base_model_tp_plan: ClassVar[dict[str, Any] | None] = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }

    # Configs of the same model type for files of another layout, by a key that only those have, or their architecture.
    other_layouts: ClassVar[dict[str, type[PreTrainedConfig]]] = {}

    vocab_size: int = 126464
    embedding_size: int | None = None
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    multi_query_attention: bool | None = None
    mlp_hidden_size: int | None = 12288
    mlp_ratio: int = 4
    activation_type: str = "silu"
    max_sequence_length: int = 4096
    rope_theta: float = 500000.0
    rope_scaling: dict[str, Any] | None = None
    rms_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    weight_tying: bool = False
    use_cache: bool = False
    mask_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    block_type: str = "llama"
    block_group_size: int = 1
    layer_norm_type: str = "rms"
    layer_norm_with_affine: bool = True
    attention_layer_norm: bool = False
    attention_layer_norm_with_affine: bool = True
    input_emb_norm: bool = False
    bias_for_layer_norm: bool | None = False
    include_bias: bool = False
    include_qkv_bias: bool | None = False
    rope: bool = True
    rope_full_precision: bool = True
    alibi: bool = False
    alibi_bias_max: float = 8.0
    scale_logits: bool = False
    embedding_dropout: float = 0.0
    residual_dropout: float = 0.0
    flash_attention: bool = False
    init_device: str | None = None
    init_fn: str = "mitchell"
    init_std: float = 0.02
    init_cutoff_factor: float | None = None
    precision: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self._auto_class is None:  # else this class came with the checkpoint, and needs the map
            kwargs.pop("auto_map", None)  # points to code that `save_pretrained` would not write again
        if self.embedding_size is None:
            self.embedding_size = self.vocab_size
        if self.mlp_hidden_size is None:
            self.mlp_hidden_size = self.mlp_ratio * self.d_model
        if self.n_kv_heads is None:
            self.n_kv_heads = 1 if self.multi_query_attention else self.n_heads
        for name in ("output_attentions", "output_hidden_states"):  # of a call; a checkpoint's default means nothing
            kwargs.pop(name, None)
        super().__post_init__(**kwargs)
        self.return_dict = True  # a tuple would have no logits by name
        self.validate_architecture()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it; a config of another layout (LLaDA-MoE, iLLaDA) becomes one of its class."""
        for key, layout in cls.other_layouts.items():
            if key in config_dict or key in (config_dict.get("architectures") or ()):
                return layout.from_dict(config_dict, **kwargs)
        # the attention of a training is the caller's to choose
        config_dict = {key: value for key, value in config_dict.items() if key != "attn_implementation"}
        return super().from_dict(config_dict, **kwargs)

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """The rotary embedding as Transformers describes it; `rope_theta` and `rope_scaling` are what is stored."""
        scaling = dict(self.rope_scaling or {})
        kind = scaling.pop("type", None)  # as older files call it
        return {"rope_type": kind or "default", "rope_theta": self.rope_theta} | scaling

    def convert_rope_params_to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What is said as `rope_parameters` becomes `rope_theta` and `rope_scaling`."""
        said = dict(kwargs.pop("rope_parameters", None) or {})
        self.rope_theta = said.pop("rope_theta", self.rope_theta)
        if said.get("rope_type", "default") != "default":
            self.rope_scaling = said
        return kwargs

    def standardize_rope_params(self) -> None:
        """`rope_parameters` follows from the fields."""

    def validate_architecture(self) -> None:
        """Raise a `ValueError` if the original code would compute something else than this implementation."""
        for key, supported in _ONLY.items():
            value = getattr(self, key)
            if value != supported and (value or supported):  # None means "off" in the original
                raise ValueError(
                    f"`{key}={value!r}` is not supported: published LLaDA checkpoints have {supported!r}. Set it to "
                    "that, or load the checkpoint with its own code (`trust_remote_code=True` without conv_dlm)."
                )
        kind = self.rope_parameters["rope_type"]
        if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            raise ValueError(
                f"`rope_scaling` has the `rope_type` {kind!r}; Transformers knows {', '.join(ROPE_INIT_FUNCTIONS)}."
            )
        if self.activation_type not in _ACTIVATIONS:
            raise ValueError(f"`activation_type={self.activation_type!r}` must be one of {', '.join(_ACTIVATIONS)}.")
        if self.d_model % self.n_heads or self.head_dim % 2:
            raise ValueError(f"`d_model={self.d_model}` must be an even multiple of `n_heads={self.n_heads}`.")
        kv_heads = self.n_kv_heads or self.n_heads
        allowed = {None: kv_heads, True: 1, False: self.n_heads}[self.multi_query_attention]
        if kv_heads != allowed or self.n_heads % kv_heads:
            raise ValueError(
                f"`n_kv_heads={kv_heads}` must divide `n_heads={self.n_heads}` and agree with "
                f"`multi_query_attention={self.multi_query_attention}`; leave the latter unset for grouped queries."
            )
