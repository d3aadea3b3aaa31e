"""A loaded model with its tokenizer, as the commands use it."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BatchEncoding,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from conv_dlm.cli.keyboard import silent_keyboard
from conv_dlm.embedded import EMBEDDED_NAME, embedded_checkpoint
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.generation.streaming import TextDiffusionStreamer

Message = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a prompt became.

    Attributes:
        text (`str`): the response without special tokens; of a prompt with masks the whole text.
        forwards (`int`): calls of the model.
        tokens (`int`): decided tokens before the end of text.
        seconds (`float`): the row's share of the time that its batch took.
    """

    text: str
    forwards: int
    tokens: int
    seconds: float


class Session:
    """Loads what `args` name and answers prompts with it.

    Args:
        args (`argparse.Namespace`): the options of `add_model_options`.
        options (`dict`): keywords of `generate`.

    Raises:
        ValueError: the model does not denoise, or the options don't go together.
        OSError: there is no such model.
    """

    def __init__(self, args: argparse.Namespace, options: dict[str, Any]) -> None:
        self.name = args.model or EMBEDDED_NAME
        self.system, self.raw = args.system, args.raw
        self.tokenizer_name, self.quantize, self.seed = args.tokenizer, args.quantize, args.seed
        self.model, self.tokenizer = _load(args)
        self.templated = not self.raw and self.tokenizer.chat_template is not None
        if self.system is not None and not self.templated:
            reason = "`--raw` was given" if self.raw else f"the tokenizer of {self.name} has none"
            raise ValueError(f"`--system` needs a chat template, but {reason}; put the text into the prompt.")
        self.configure(options)

    def configure(self, options: dict[str, Any]) -> None:
        """Generate with `options` from now on. Raises ValueError if they don't go together."""
        config, _ = self.model._prepare_generation_config(None, **options)
        self.options, self._config = options, config

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """What the text depends on, in JSON's types: the model, and the values of `names` in effect."""
        settings: dict[str, Any] = {"model": self.name, "dtype": str(self.model.dtype).removeprefix("torch.")}
        settings |= {"tokenizer": self.tokenizer_name, "quantize": self.quantize, "seed": self.seed}
        settings |= {"system": self.system, "raw": self.raw}
        settings |= {name: getattr(self._config, name) for name in names}
        return dict(json.loads(json.dumps(settings)))

    def prompt(self, text: str, history: Sequence[Message] = ()) -> str:
        """The text that the model reads for a user's `text` after earlier messages."""
        if not self.templated:
            return text
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        messages = [*system, *history, {"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def streamer(self) -> TextDiffusionStreamer:
        """Shows an answer on standard output."""
        return TextDiffusionStreamer(self.tokenizer, skip_prompt=True, mask_token_id=self._config.mask_token_id)

    def answer(
        self, prompts: Sequence[str], indices: Sequence[int], streamer: TextDiffusionStreamer | None = None
    ) -> list[Answer]:
        """Denoise a batch.

        Args:
            prompts (sequence of `str`): as `prompt` returns them.
            indices (sequence of `int`): number of each prompt in the run; with `--seed` it makes the row's seed, so
                that a text depends neither on the batch size nor on where a run was taken up again.
            streamer (`TextDiffusionStreamer`, *optional*): shows a single prompt's answer.
        """
        inputs = self._encode(prompts)
        generators = [_generator(self.seed, index) for index in indices]
        started = time.perf_counter()
        with silent_keyboard():
            try:
                output = self.model.generate(
                    **inputs, **self.options, generator=generators, streamer=streamer, return_dict_in_generate=True
                )
            except BaseException:
                if streamer is not None:
                    streamer.abort()
                raise
        sequences = output.sequences.cpu()  # an accelerator has finished only now
        seconds = (time.perf_counter() - started) / len(prompts)
        tokens = (output.tokens_per_forward * output.forwards).round().long().tolist()
        texts = self._texts(inputs.to("cpu"), sequences)
        return [Answer(*row, seconds) for row in zip(texts, output.forwards.tolist(), tokens, strict=True)]

    def _encode(self, prompts: Sequence[str]) -> BatchEncoding:
        encoded = self.tokenizer(
            list(prompts), padding=len(prompts) > 1, add_special_tokens=not self.templated, return_token_type_ids=False
        )
        if not all(any(mask) for mask in encoded["attention_mask"]):
            raise ValueError("A prompt is empty; without a chat template give at least one token.")
        return encoded.convert_to_tensors("pt").to(self.model.device)

    def _texts(self, inputs: BatchEncoding, sequences: torch.Tensor) -> list[str]:
        length = inputs["input_ids"].shape[1]
        filled = (inputs["input_ids"] == self._config.mask_token_id) & inputs["attention_mask"].bool()
        rows = [row if any_mask else row[length:] for row, any_mask in zip(sequences, filled.any(1), strict=True)]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def summary(answers: Sequence[Answer]) -> str:
    """Tokens per second, forwards and tokens per forward, in one line."""
    tokens, forwards = sum(answer.tokens for answer in answers), sum(answer.forwards for answer in answers)
    seconds = sum(answer.seconds for answer in answers)
    return (
        f"{tokens} tokens in {seconds:.1f} s ({tokens / max(seconds, 1e-9):.1f} tokens/s), "
        f"{forwards} forwards, {tokens / max(forwards, 1):.2f} tokens per forward"
    )


def _generator(seed: int, index: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def _load(args: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase]:
    """Model and tokenizer, ready to generate."""
    path = embedded_checkpoint() if args.model is None else _locate(args.model)
    logging.set_verbosity_error()
    if args.model is None or not sys.stderr.isatty():  # progress bars are for models that take long
        logging.disable_progress_bar()
    device = _device(args.device)
    dtype = args.dtype or ("float32" if device == "cpu" else "auto")
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer or path, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map=device, **_quantization(args))
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).strip()}") from error
    model = model.eval()
    if not isinstance(model, DiffusionGenerationMixin):
        raise ValueError(
            f"{path} is a {model.config.model_type!r} model, which does not denoise; give a masked diffusion model, "
            "or adapt it in Python with conv_dlm.enable_diffusion."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _locate(name: str) -> str:
    """A folder, or a name on the Hub, where a typing mistake can be told from it."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError(f"`--model {name}` is a folder without a model: it has no config.json.")
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ValueError(f"`--model {name}`: there is no such folder.")
    return name


def _quantization(args: argparse.Namespace) -> dict[str, Any]:
    if args.quantize is None:
        return {}
    return {"quantization_config": BitsAndBytesConfig(**{f"load_in_{args.quantize}": True})}


def _device(name: str | None) -> str:
    if name is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cpu" if accelerator is None else accelerator.type
    if name == "auto":
        return name
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`--device {name}` cannot be used here: {str(error).splitlines()[0]}") from error
    return name
