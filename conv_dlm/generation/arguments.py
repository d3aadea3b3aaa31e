"""What a caller hands to `generate`: numbers, ids, masks and objects, read as Transformers' users mean them or refused.

Nothing here needs a forward. A value of another type than a setting's is taken where it says the same (16.0, a NumPy
number, a tensor of one element), and otherwise refused with its name.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.errors import SettingError

WHOLE_NUMBERS_BELOW = 2**31  # what counts steps, positions and tokens; far beyond all of them


def plain(value: Any) -> Any:
    """A number of NumPy or PyTorch as Python's own; anything else as it is."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if (isinstance(value, Tensor) or type(value).__module__ == "numpy") and getattr(value, "size", None) is not None:
        count = value.numel() if isinstance(value, Tensor) else value.size
        return value.item() if count == 1 and value.ndim == 0 else value
    return value


def as_list(value: Any) -> Any:
    """An array or a tensor of several values as a list; anything else as it is."""
    if isinstance(value, Tensor) or type(value).__module__ == "numpy":
        return value.tolist() if getattr(value, "ndim", 0) else value
    return value


def as_whole(value: Any) -> Any:
    """16.0 as 16; anything that is no whole number as it is."""
    value = plain(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_flag(value: Any) -> Any:
    """1 and 0 as True and False; anything else as it is."""
    value = plain(value)
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def vocabulary_of(model: Any) -> int | None:
    """How many ids the model embeds, None where nobody knows."""
    try:
        embeddings = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embeddings = None
    count = getattr(embeddings, "num_embeddings", None)
    if count is None and isinstance(weight := getattr(embeddings, "weight", None), Tensor) and weight.dim() == 2:
        count = weight.shape[0]
    return count or getattr(getattr(model, "config", None), "vocab_size", None)


def id_list(name: str, value: Any) -> list[int] | None:
    """Token ids, one or several, as a list; None for none. Raises SettingError for anything else."""
    if value is None:
        return None
    listed = value.tolist() if isinstance(value, Tensor) or type(value).__module__ == "numpy" else value
    found = [as_whole(one) for one in (listed if isinstance(listed, list | tuple | set) else [listed])]
    if any(isinstance(one, bool) or not isinstance(one, numbers.Integral) for one in found):
        raise SettingError(name, "must be a token id, or a list of them", value=value)
    return found


def check_ids(name: str, ids: Iterable[int], vocabulary: int | None, remedy: str) -> None:
    """Raise SettingError for ids that the model has not."""
    wrong = next((one for one in ids if not 0 <= one < (math.inf if vocabulary is None else vocabulary)), None)
    if wrong is not None:
        raise SettingError(name, _outside(wrong, vocabulary), remedy, wrong)


def _outside(wrong: int, vocabulary: int | None) -> str:
    return "is no token id" if vocabulary is None else f"is none of the {vocabulary} ids that the model has"


def read_input_ids(value: Any, vocabulary: int | None, device: torch.device) -> Tensor:
    """LongTensor [B, P] of whole numbers, lists among them. Raises SettingError for anything else."""
    ids = _tensor("input_ids", value)
    if ids.dim() != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise SettingError("input_ids", f"is a {ids.dtype} tensor of shape {tuple(ids.shape)}", "pass ids [B, P]")
    if ids.shape[0] == 0:
        raise SettingError("input_ids", "is an empty batch", "give at least one row")
    if ids.layout != torch.strided or (ids.is_meta and torch.device(device).type != "meta"):
        kind = "meta tensor, which has no values" if ids.is_meta else f"{ids.layout} tensor"
        raise SettingError("input_ids", f"is a {kind}", "pass ids [B, P] in memory")
    ids = ids.to(device).long()
    if ids.numel() and not ids.is_meta:
        low, high = ids.aminmax()
        for wrong in (int(low), int(high)):
            if not 0 <= wrong < (math.inf if vocabulary is None else vocabulary):
                raise SettingError(
                    "input_ids", f"holds {wrong}, which {_outside(wrong, vocabulary)}",
                    "use the model's own tokenizer, or resize its embedding (`model.resize_token_embeddings`)",
                )  # fmt: skip
    return ids


def read_attention_mask(value: Any, input_ids: Tensor) -> Tensor:
    """BoolTensor of the ids' shape, from ones and zeros of any type. Raises SettingError for anything else."""
    mask = _tensor("attention_mask", value)
    if mask.shape != input_ids.shape:
        raise SettingError(
            "attention_mask", f"has shape {tuple(mask.shape)}, but `input_ids` {tuple(input_ids.shape)}",
            "they must agree",
        )  # fmt: skip
    mask = mask.to(input_ids.device)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise SettingError("attention_mask", "holds other values than 0 and 1", "pass 0 for padding, 1 for text")
    return mask.bool()


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "keys"):
        raise SettingError(name, f"is a {type(value).__name__}", "unpack it: `model.generate(**inputs)`")
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = "rows of different lengths, or no numbers" if isinstance(value, list) else f"a {type(value).__name__}"
        remedy = "pass what the tokenizer gives with `return_tensors='pt'`"
        raise SettingError(name, f"is {what}", remedy) from error


def check_callables(name: str, values: Any) -> None:
    """Raise SettingError unless `values` is a list of functions."""
    if isinstance(values, str | Tensor) or not isinstance(values, Iterable):
        raise SettingError(name, f"is a {type(values).__name__}", "pass a list")
    for value in values:
        if not callable(value):
            raise SettingError(name, f"holds a {type(value).__name__}, which can't be called", "pass functions")
