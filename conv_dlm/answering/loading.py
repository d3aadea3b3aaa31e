"""Loading a checkpoint by name: a folder, a name on the Hub, or the embedded one."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import find_adapter_config_file

from conv_dlm.answering.embedded import EMBEDDED_NAME, embedded_checkpoint
from conv_dlm.generation import DiffusionGenerationMixin

QUANTIZATIONS = ("8bit", "4bit")
DIGEST_VALUES = 4096  # of each tensor, or up to twice as many, at even distances


def load_model(
    name: str | None = None,
    *,
    tokenizer: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
    autoregressive: bool = False,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model ready to generate, and its tokenizer, which pads at the left.

    Args:
        name (`str`, *optional*): folder or name on the Hub, of a model or of a PEFT adapter, which brings its base
            model; the embedded checkpoint if `None`.
        tokenizer (`str`, *optional*): where the tokenizer is; with the model if `None`.
        device (`str` or `torch.device`, *optional*): "auto" spreads over all; the first accelerator, else the CPU, if
            `None`.
        dtype (`str`, *optional*): the checkpoint's if `None`; on a CPU float32, which is faster there.
        quantize (`str`, *optional*): "8bit" or "4bit", by bitsandbytes.
        autoregressive (`bool`, defaults to `False`): whether a model that predicts the next token is wanted.

    Raises:
        ValueError: there is no such model or device, it can't be loaded, or is not of the kind that is wanted.
    """
    path = embedded_checkpoint() if name is None else _locate(name)
    device = find_device(device)
    dtype = dtype or ("float32" if torch.device(device if device != "auto" else "meta").type == "cpu" else "auto")
    try:
        its_tokenizer = _load_tokenizer(tokenizer or path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map=device, **_quantization(quantize))
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).strip()}") from error
    denoises = isinstance(model, DiffusionGenerationMixin)
    if not (denoises or autoregressive) and "Diffcoder" in str(PretrainedConfig.get_config_dict(path)[0]):
        raise ValueError(
            f"{path} is Stable-DiffCoder, which Transformers takes for a causal Llama: its config says neither that it "
            "sees block by block, 4 positions each, nor its mask. In Python, `conv_dlm.models.A2DLlamaLMHeadModel"
            ".from_pretrained(..., attention_pattern='block_causal', block_length=4, mask_token_id=...)` loads it."
        )
    if denoises == autoregressive:
        raise ValueError(
            f"{path} is a {model.config.model_type!r} model, "
            + (
                "which denoises; give a causal language model."
                if denoises
                else "which does not denoise; give a masked diffusion model, or adapt it in Python with "
                "conv_dlm.enable_diffusion."
            )
        )
    if its_tokenizer.pad_token is None:
        its_tokenizer.pad_token = its_tokenizer.eos_token
    return model.eval(), its_tokenizer


def load_config(name: str | None = None) -> PretrainedConfig:
    """The config of a model alone; of a name on the Hub, config.json is all that is fetched.

    Args:
        name (`str`, *optional*): as for `load_model`; of an adapter, its base model's.

    Raises:
        ValueError: there is no such model, or it has no config that Transformers knows.
    """
    if name is None:
        config = AutoConfig.from_pretrained(embedded_checkpoint())
        vars(config).pop("quantization_config", None)  # how the file is packed; loading unpacks it
        return config
    path = _locate(name)
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        return load_config(_base_model(str(Path(path) / "adapter_config.json")))
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).strip()}") from error


def identity(name: str | None, model: Any) -> dict[str, Any]:
    """Which model this is, for a record of what was done with it; of a folder, only its own name.

    Returns:
        `dict`: `model`, and the `adapter` on it or `None`; `revision` on the Hub; `weights`, a digest of some of
        each tensor's values, which another training run changes.
    """
    names: dict[str, Any] = {"model": EMBEDDED_NAME if name is None else own_name(name), "adapter": None}
    if getattr(model, "peft_config", None):
        base = str(next(iter(model.peft_config.values())).base_model_name_or_path)
        names = {"model": own_name(base), "adapter": names["model"]}
    return names | {"revision": getattr(model.config, "_commit_hash", None), "weights": _digest(model)}


def own_name(name: str) -> str:
    """Of a folder, the last part of its path; a name on the Hub as it is."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def is_path(name: str) -> bool:
    """Whether a name can only be a folder's path, or is a folder, and none on the Hub."""
    return Path(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1


def _digest(model: Any) -> str:
    values = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values.update(f"{name} {tuple(tensor.shape)}".encode())
        if tensor.is_meta:  # `device="auto"` has put it on the disk
            continue
        some = tensor.detach().flatten()[:: max(1, tensor.numel() // DIGEST_VALUES)].cpu()
        values.update((some.double() if some.is_floating_point() else some).numpy().tobytes())
    return values.hexdigest()[:16]


def _locate(name: str) -> str:
    """A folder, or a name on the Hub, where a typing mistake can be told from it."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError(f"`model`={name!r} is a folder without a model: it has no config.json.")
        return str(folder)
    if is_path(name):
        raise ValueError(f"`model`={name!r}: there is no such folder.")
    return name


def _load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer; that of the base model for an adapter that came without one."""
    try:
        return AutoTokenizer.from_pretrained(path, padding_side="left")
    except (OSError, ValueError):
        adapter = find_adapter_config_file(path)
        if adapter is None:
            raise
    return AutoTokenizer.from_pretrained(_base_model(adapter), padding_side="left")


def _base_model(adapter_config: str) -> str:
    return str(json.loads(Path(adapter_config).read_text(encoding="utf-8"))["base_model_name_or_path"])


def _quantization(quantize: str | None) -> dict[str, Any]:
    if quantize is None:
        return {}
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"`quantize`={quantize!r} must be one of {QUANTIZATIONS}.")
    return {"quantization_config": BitsAndBytesConfig(**{f"load_in_{quantize}": True})}


def find_device(name: str | torch.device | None) -> str | torch.device:
    """The device of this name, or "auto"; the first accelerator, else the CPU, if `None`. Raises ValueError."""
    if name is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if accelerator is None else accelerator.type
    if name == "auto":
        return name
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device`={str(name)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return name
