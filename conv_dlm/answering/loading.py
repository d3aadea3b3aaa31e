"""Load a checkpoint by name: a folder, a name on the Hub, or the embedded one."""

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

from conv_dlm.answering.agreement import settle_mask
from conv_dlm.answering.embedded import EMBEDDED_NAME, embedded_checkpoint
from conv_dlm.answering.ends import end_ids
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.models import LLaDAConfig

QUANTIZATIONS = ("8bit", "4bit")
DIGEST_VALUES = 4096  # of each tensor, evenly spaced; up to twice as many


def load_model(
    name: str | None = None,
    *,
    tokenizer: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
    autoregressive: bool = False,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a model ready to generate, and its tokenizer.

    Args:
        name (`str`, *optional*):
            Folder or name on the Hub of a model, or of a PEFT adapter, which is loaded with its base model. Defaults to
            the embedded checkpoint.
        tokenizer (`str`, *optional*): folder or name of the tokenizer. Defaults to the model's.
        device (`str` or `torch.device`, *optional*):
            "auto" spreads the model over all devices. Defaults to the first accelerator, or to the CPU without one.
        dtype (`str`, *optional*): defaults to the checkpoint's; on a CPU to float32, which is faster there.
        quantize (`str`, *optional*): "8bit" or "4bit", with bitsandbytes.
        autoregressive (`bool`, *optional*, defaults to `False`): whether a next-token model is expected.

    Returns:
        the model, in eval mode, and its tokenizer, which pads at the left.

    Raises:
        ValueError: there is no such model or device, the model can't be loaded, or it is not of the expected kind.
    """
    path = embedded_checkpoint() if name is None else _locate(name)
    device = find_device(device)
    dtype = dtype or ("float32" if torch.device(device if device != "auto" else "meta").type == "cpu" else "auto")
    try:
        its_tokenizer = _load_tokenizer(tokenizer or path)
        how = _quantization(quantize) | _own_config(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map=device, **how)
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
    if denoises:
        settle_mask(model, its_tokenizer)
    if model.generation_config is not None:
        ends = end_ids(its_tokenizer, model.config, model.generation_config)
        model.generation_config.eos_token_id = (ends[0] if len(ends) == 1 else ends) if ends else None
    return model.eval(), its_tokenizer


def load_config(name: str | None = None) -> PretrainedConfig:
    """Load only the config of a model; from the Hub, only config.json is downloaded.

    Args:
        name (`str`, *optional*): as for `load_model`. For an adapter, the config of its base model is returned.

    Raises:
        ValueError: there is no such model, or Transformers does not know its config.
    """
    if name is None:
        return AutoConfig.from_pretrained(embedded_checkpoint())
    path = _locate(name)
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        return load_config(_base_model(str(Path(path) / "adapter_config.json")))
    try:
        return _own_config(path).get("config") or AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).strip()}") from error


def identity(name: str | None, model: Any) -> dict[str, Any]:
    """Identify a model for result files.

    Args:
        name (`str` or `None`): as for `load_model`. Of a folder's path only the last part is recorded.
        model: the loaded model.

    Returns:
        `dict`: `model`; `adapter`, or `None`; `revision` on the Hub; `weights`, a digest of some values of each tensor,
        which tells training runs apart.
    """
    names: dict[str, Any] = {"model": EMBEDDED_NAME if name is None else own_name(name), "adapter": None}
    if getattr(model, "peft_config", None):
        base = str(next(iter(model.peft_config.values())).base_model_name_or_path)
        names = {"model": own_name(base), "adapter": names["model"]}
    return names | {"revision": getattr(model.config, "_commit_hash", None), "weights": _digest(model)}


def own_name(name: str) -> str:
    """The last part of a folder's path; a name on the Hub is unchanged."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def is_path(name: str) -> bool:
    """Whether a name is a folder, or can only be the path of one and not a name on the Hub."""
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
    """Check a folder, or pass on a name on the Hub; tells a mistyped path from a name."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError(f"`model`={name!r} is a folder without a model: it has no config.json.")
        return str(folder)
    if is_path(name):
        raise ValueError(f"`model`={name!r}: there is no such folder.")
    return name


def _load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer; for an adapter without one, that of its base model."""
    try:
        return AutoTokenizer.from_pretrained(path, padding_side="left")
    except (OSError, ValueError):
        adapter = find_adapter_config_file(path)
        if adapter is None:
            raise
    return AutoTokenizer.from_pretrained(_base_model(adapter), padding_side="left")


def _base_model(adapter_config: str) -> str:
    return str(json.loads(Path(adapter_config).read_text(encoding="utf-8"))["base_model_name_or_path"])


def _own_config(path: str) -> dict[str, Any]:
    """The config of a checkpoint whose architecture says more than its model type, as a keyword: iLLaDA's."""
    try:
        told, _ = PretrainedConfig.get_config_dict(path)
    except OSError:  # an adapter, or nothing
        return {}
    layout = next((LLaDAConfig.other_layouts.get(name) for name in told.get("architectures") or ()), None)
    return {} if layout is None else {"config": layout.from_dict(told)}


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
