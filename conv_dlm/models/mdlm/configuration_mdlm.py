"""Configuration of MDLM (arXiv 2406.07524): the keys of the published checkpoints."""

from typing import Any, ClassVar

from transformers import PreTrainedConfig


class MDLMConfig(PreTrainedConfig):
    """Configuration of an [`MDLM`]; defaults are those of `kuleshov-group/mdlm-owt`.

    Args:
        vocab_size (`int`, *optional*, defaults to `50258`):
            Rows of the embedding and width of the logits, mask token included.
        model_length (`int`, *optional*, defaults to `1024`):
            Context that the checkpoint was trained for.
        hidden_dim, n_blocks, n_heads (`int`, *optional*, default to `768`, `12`, `12`):
            Width, number of blocks, number of attention heads.
        cond_dim (`int`, *optional*, defaults to `128`):
            Width of the conditioning vector.
        dropout (`float`, *optional*, defaults to `0.1`):
            Dropout of both branches of a block.
        time_conditioning (`bool`, *optional*, defaults to `False`):
            Whether the noise level reaches the model. When not, every forward is conditioned on level 0.
        mask_token_id (`int`, *optional*, defaults to `vocab_size - 1`):
            MDLM appends the mask to its tokenizer's vocabulary.
        pad_token_id, bos_token_id, eos_token_id (`int`, *optional*):
            None is guessed. In the original pipeline the `[PAD]` token has the mask's id.

    Raises:
        `ValueError`: `hidden_dim` is not an even multiple of `n_heads`.
    """

    model_type = "mdlm"
    # TRL asks every config of a class from outside Transformers for an `auto_map`; a class attribute is not saved.
    auto_map: ClassVar[dict[str, str]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "hidden_dim",
        "num_hidden_layers": "n_blocks",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "model_length",
    }

    vocab_size: int = 50258
    model_length: int = 1024
    hidden_dim: int = 768
    cond_dim: int = 128
    n_blocks: int = 12
    n_heads: int = 12
    dropout: float = 0.1
    time_conditioning: bool = False
    use_cache: bool = False
    mask_token_id: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self._auto_class is None:  # else this class came with the checkpoint, and needs the map
            kwargs.pop("auto_map", None)  # points to code that `save_pretrained` would not write again
        if self.mask_token_id is None:
            self.mask_token_id = self.vocab_size - 1
        super().__post_init__(**kwargs)
        # The published files say `"return_dict": false`: it makes their own code return a bare tensor, and would
        # make Transformers return tuples. `to_dict` writes it again for the former.
        self.return_dict = True
        self.validate_architecture()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it; `attn_implementation` is what the caller says, not a file."""
        config_dict = {key: value for key, value in config_dict.items() if key != "attn_implementation"}
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"return_dict": False}

    def validate_architecture(self) -> None:
        if self.hidden_dim % (2 * self.n_heads):
            raise ValueError(f"`hidden_dim={self.hidden_dim}` must be an even multiple of `n_heads={self.n_heads}`.")
