"""Compact storage: matrices as 4-bit or 8-bit integers in the file, an ordinary dense model in memory.

A checkpoint that travels with a package should be small; how it computes is another matter. Here a matrix is stored as
integers and scales, `weight = integers * scale`, and is unpacked while `from_pretrained` reads it, into whatever dtype
was asked for. What `save_pretrained` writes afterwards is dense.

In the file, `NAME.weight` [rows, columns] is

- `NAME.weight`: int8 [rows, columns], or uint8 [rows, columns / 2] with two 4-bit integers a byte, the even column in
  the low half, each stored plus 8;
- `NAME.weight_scale`: float16 [rows, groups], one for each group of `columns / groups` columns.

Vectors are stored as they are. `config.json` says `"quantization_config": {"quant_method": "compact"}`.
"""

import copy
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps, revert_weight_conversion
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from transformers.quantizers.base import HfQuantizer
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "compact"


def quantize(weight: torch.Tensor, bits: int, group_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix to integers with one scale for each group of columns.

    Of a few clipping thresholds, each group gets the one with the least squared error.

    Args:
        weight (`Tensor` [rows, columns]): any floating dtype.
        bits (`int`): 4 or 8.
        group_size (`int`): columns that share a scale; divides `columns`.

    Returns:
        `int8` integers [rows, columns], from -2^(bits-1) to 2^(bits-1) - 1, and `float16` scales [rows, groups].
    """
    groups = weight.float().unflatten(1, (-1, group_size))
    top = 2 ** (bits - 1)
    best_error = torch.full_like(groups[..., :1], torch.inf)
    best_scale = torch.ones_like(best_error)
    largest = groups.abs().amax(-1, keepdim=True).clamp(min=1e-6)
    for clip in torch.linspace(0.7, 1.0, 13) if bits < 8 else (1.0,):
        scale = (largest * clip / (top - 0.5)).half().float()
        error = (_round(groups, scale, top) * scale - groups).square().sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    return _round(groups, best_scale, top).flatten(1).to(torch.int8), best_scale.squeeze(-1).half()


def _round(groups: torch.Tensor, scale: torch.Tensor, top: int) -> torch.Tensor:
    return (groups / scale).round().clamp(-top, top - 1)


def dequantize(stored: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The matrix [rows, columns] in float32 from the two tensors of the file."""
    if stored.dtype == torch.uint8:
        stored = torch.stack([stored & 15, stored >> 4], dim=-1).flatten(1).to(torch.int8) - 8
    return (stored.float().unflatten(1, (scale.shape[1], -1)) * scale.float()[..., None]).flatten(1)


def pack(integers: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers as they are stored: int8 for 8 bits, two in a uint8 for 4 bits."""
    if bits == 8:
        return integers
    even, odd = (integers + 8).to(torch.uint8).unflatten(1, (-1, 2)).unbind(-1)
    return even | odd << 4


def save_compact(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    bits: int = 4,
    group_size: int = 64,
    keep_8_bit: str = "embed_tokens|lm_head",
    rounded: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> None:
    """Write a dense model in compact storage, under the tensor names of the original checkpoints.

    Args:
        model ([`~transformers.PreTrainedModel`]): a dense model, on any device.
        folder (`str` or `Path`): gets `config.json`, `generation_config.json` and `model.safetensors`.
        bits (`int`, *optional*, defaults to `4`): 4 or 8.
        group_size (`int`, *optional*, defaults to `64`): columns that share a scale; must divide those of each matrix.
        keep_8_bit (`str`, *optional*, defaults to `"embed_tokens|lm_head"`):
            Matrices whose name matches this regular expression are stored in 8 bits, with one scale for each row.
        rounded (`dict`, *optional*):
            Integers and scales by parameter name, for matrices that a better rule than [`quantize`] has rounded.

    Raises:
        `ValueError`: `bits` is neither 4 nor 8, or `group_size` does not divide a matrix.
    """
    if bits not in (4, 8):
        raise ValueError(f"`bits={bits}` must be 4 or 8.")
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():  # tied weights come once
        weight = parameter.detach().cpu()
        if weight.ndim != 2:
            tensors[name] = weight.to(torch.bfloat16)
            continue
        row_bits, row_group = (8, weight.shape[1]) if re.search(keep_8_bit, name) else (bits, group_size)
        if weight.shape[1] % row_group:
            raise ValueError(f"`group_size={row_group}` does not divide the {weight.shape[1]} columns of `{name}`.")
        integers, scale = (rounded or {}).get(name) or quantize(weight, row_bits, row_group)
        tensors[name], tensors[f"{name}_scale"] = pack(integers, row_bits), scale
    tensors = revert_weight_conversion(model, tensors)

    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in tensors.items()}, Path(folder) / SAFE_WEIGHTS_NAME, {"format": "pt"})
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.quantization_config = CompactConfig()
    config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


class Unpack(ConversionOps):
    """Integers and scales of one matrix, or a vector, to the parameter in the model's dtype."""

    def __init__(self, hf_quantizer: HfQuantizer):
        self.hf_quantizer = hf_quantizer  # Transformers then leaves the stored dtypes alone

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        *,
        full_layer_name: str = "",
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        given = {name: tensor[0] if isinstance(tensor, list) else tensor for name, tensor in input_dict.items()}
        stored = given["weight"]
        if "weight_scale" in given:
            stored = dequantize(stored, given["weight_scale"])
        dtype = stored.dtype if model is None else model.get_parameter_or_buffer(full_layer_name).dtype
        return {full_layer_name: stored.to(dtype)}


class CompactConfig(QuantizationConfigMixin):
    """Marks a checkpoint in compact storage. The tensors themselves tell bits and groups."""

    def __init__(self, **kwargs: Any):
        self.quant_method = METHOD  # type: ignore[assignment]  # Transformers' enum knows its own methods only
        self.dequantize = True  # never computed with as it is stored; drops the mark from the loaded model

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": METHOD}


class CompactQuantizer(HfQuantizer):
    """Makes `from_pretrained` unpack compact storage, by Transformers' weight conversions."""

    serialized_names = {"weight": ["weight", "weight_scale"]}

    def get_load_operations(self) -> dict[str, type[ConversionOps]]:
        return {"dequantize": Unpack}

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        # The model is dense from here on: forget how it was read, so that saving does not reverse it.
        conversions: list[Any] = vars(model).get("_weight_conversions") or []
        kept = [c for c in conversions if not any(isinstance(o, Unpack) for o in getattr(c, "operations", ()))]
        vars(model)["_weight_conversions"] = kept
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


# Not by Transformers' decorators, which refuse a name that is taken: checkpoints on the Hub bring this file along, and
# several may be loaded side by side.
AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD] = CompactConfig
AUTO_QUANTIZER_MAPPING[METHOD] = CompactQuantizer
