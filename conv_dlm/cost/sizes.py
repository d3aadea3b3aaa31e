"""The sizes that determine memory: a model's tensors, from its config, and its weights as stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Bytes a parameter in 4 bits: blocks of 64 with a float32 scale each, as bitsandbytes has them unless told otherwise;
# and with the scales in 8 bits too (`nested`), a float32 for 256 of those, as the QLoRA recipes have them.
FOUR_BIT = 0.5 + 4 / 64
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# storage -> bytes of what bitsandbytes quantises: (numbers, rows) -> bytes; 8 bits have a float32 scale for each row
QUANTISED: dict[str, Callable[[int, int], float]] = {
    "8bit": lambda numbers, rows: numbers + 4 * rows,
    "4bit": lambda numbers, rows: FOUR_BIT * numbers,
    "nf4": lambda numbers, rows: NF4 * numbers,
}
STORAGES = (*FLOAT_BYTES, *QUANTISED)
# Names of a size in configs: Transformers' own, which the configs here have as aliases, and those of remote code.
_NAMES = {
    "width": ("hidden_size", "d_model", "hidden_dim"),
    "layers": ("num_hidden_layers", "n_layers", "n_blocks"),
    "heads": ("num_attention_heads", "n_heads"),
    "key_value_heads": ("num_key_value_heads", "n_kv_heads"),
    "inner": ("intermediate_size", "mlp_hidden_size"),
    "vocabulary": ("embedding_size", "vocab_size"),
    "context": ("max_position_embeddings", "max_sequence_length", "model_length"),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer's tensors.

    Attributes:
        width, layers, inner, vocabulary (`int`): d, n, F and V: width of the hidden states, number of blocks, inner
            width of the MLP, width of the logits.
        head_size (`int`): width of a query, key or value of one head.
        query, key_value (`int`): widths of queries and of keys (or values) over all heads.
        gated (`bool`): whether the MLP has a gate, as in Llama, or is plain, as in a DiT.
        context (`int`, *optional*): positions that the model was trained for.
    """

    width: int
    layers: int
    inner: int
    vocabulary: int
    head_size: int
    query: int
    key_value: int
    gated: bool = True
    context: int | None = None

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Read the sizes from a config; without an inner width, the MLP is a DiT's: plain, four times as wide.

        Raises:
            ValueError: the config lacks a size, for instance because the model is not such a transformer.
        """
        size = {name: _first(config, names) for name, names in _NAMES.items()}
        missing = [name for name in ("width", "layers", "heads", "vocabulary") if not size[name]]
        if missing:
            names = " or ".join(f"`{name}`" for name in _NAMES[missing[0]])
            raise ValueError(f"The config of a {getattr(config, 'model_type', '')!r} model has no {names}.")
        width, heads = size["width"] or 0, size["heads"] or 1
        head_size = getattr(config, "head_dim", None) or width // heads
        return cls(
            width=width,
            layers=size["layers"] or 0,
            inner=size["inner"] or 4 * width,
            vocabulary=size["vocabulary"] or 0,
            head_size=head_size,
            query=heads * head_size,
            key_value=(size["key_value_heads"] or heads) * head_size,
            gated=size["inner"] is not None,
            context=size["context"],
        )


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if value is not None), None)


@dataclass(frozen=True)
class Parameters:
    """The number of a model's weights.

    Attributes:
        total (`int`): all weights; tied ones count once.
        quantised, rows (`int`): the weights that bitsandbytes quantises, and the rows of their matrices.
    """

    total: int
    quantised: int
    rows: int

    @classmethod
    def of(cls, model: Any) -> "Parameters":
        """Count the weights of a model (`nn.Module`), which may be on the meta device.

        bitsandbytes replaces layers that are exactly `nn.Linear`, and Transformers keeps it from the output head.
        """
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        linear = [part for part in model.modules() if type(part) is nn.Linear and part is not head]
        numbers = sum(part.in_features * part.out_features for part in linear)
        total = sum(parameter.numel() for parameter in model.parameters())
        return cls(total, numbers, sum(part.out_features for part in linear))

    def stored(self, storage: str) -> float:
        """Bytes of the weights.

        Args:
            storage (`str`): one of `STORAGES`; with "8bit", "4bit" and "nf4", what isn't quantised is in bfloat16.
        """
        if storage in FLOAT_BYTES:
            return self.total * FLOAT_BYTES[storage]
        return QUANTISED[storage](self.quantised, self.rows) + 2 * (self.total - self.quantised)


def number_bytes(storage: str) -> int:
    """Bytes per number in the activations of a model with this storage."""
    return FLOAT_BYTES.get(storage, 2)
