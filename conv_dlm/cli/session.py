"""A loaded model with its tokenizer, for the commands."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

from conv_dlm.answering.answers import encode
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.answering.loading import identity, load_model, own_name
from conv_dlm.answering.prompting import Message, Prompter
from conv_dlm.cli.keyboard import silent_keyboard
from conv_dlm.constraints.languages import Constraint
from conv_dlm.cost.out_of_memory import explain_out_of_memory
from conv_dlm.generation.parts.cache_policies import CACHE_POLICIES
from conv_dlm.generation.past import Past
from conv_dlm.generation.placement import canvas_device
from conv_dlm.generation.streaming import TextDiffusionStreamer


@dataclass(frozen=True)
class Completion:
    """The response to a prompt as text, and what it cost.

    Attributes:
        text (`str`): the response without special tokens; for a prompt with masks, the whole text.
        forwards (`int`): forward passes (NFE).
        tokens (`int`): generated tokens before the end of text.
        seconds (`float`): the row's share of its batch's time.
    """

    text: str
    forwards: int
    tokens: int
    seconds: float


class Session:
    """Loads the model that `args` name and answers prompts with it.

    Args:
        args (`argparse.Namespace`): the options of `add_model_options`.
        options (`dict`): keyword arguments of `generate`.
        constraint (`Constraint`, *optional*): the language that answers must be in.

    Raises:
        ValueError: the model does not denoise, or the options don't go together.
        OSError: there is no such model.
    """

    def __init__(
        self, args: argparse.Namespace, options: dict[str, Any], constraint: Constraint | None = None
    ) -> None:
        self.constraint = constraint
        self.name = args.model or EMBEDDED_NAME
        self.tokenizer_name, self.quantize, self.seed = args.tokenizer, args.quantize, args.seed
        self.model, self.tokenizer = load(args)
        self.prompter = Prompter(self.tokenizer, args.system, args.raw)
        self.configure(options)

    def configure(self, options: dict[str, Any]) -> None:
        """Generate with `options` from now on. Raises ValueError if they don't go together."""
        self.options, self._config = options, self.model.resolve_settings(**options)

    def settings(self, names: Iterable[str]) -> dict[str, Any]:
        """Everything that the text depends on, as JSON: the model, and the values in effect of the fields `names`."""
        settings: dict[str, Any] = {"model": self.name, "dtype": str(self.model.dtype).removeprefix("torch.")}
        settings |= {"tokenizer": self.tokenizer_name, "quantize": self.quantize, "seed": self.seed}
        settings |= {"system": self.prompter.system, "raw": self.prompter.raw}
        settings |= {name: getattr(self._config, name) for name in names}
        if self.constraint is not None:
            settings["constraint"] = self.constraint.expression
        return dict(json.loads(json.dumps(settings)))

    def prompt(self, text: str, history: Sequence[Message] = ()) -> str:
        """The prompt for a user's `text` after earlier messages. The mask's name is text in it, unless nothing but
        masks is to be filled (`max_new_tokens=0`), or there is no template."""
        if not self.prompter.templated:
            return text
        masks = self.options.get("max_new_tokens") == 0
        return self.prompter([*history, {"role": "user", "content": text}], masks)

    def streamer(self) -> TextDiffusionStreamer:
        """Shows an answer on standard output."""
        return TextDiffusionStreamer(self.tokenizer, skip_prompt=True, mask_token_id=self._config.mask_token_id)

    @property
    def takes_past(self) -> bool:
        """Whether what an answer has computed is right for the next one."""
        cache = self._config.cache_implementation
        return cache is not None and CACHE_POLICIES[cache].exact and self._config.guidance_scale in (None, 1)

    def answer(
        self,
        prompts: Sequence[str],
        indices: Sequence[int],
        streamer: TextDiffusionStreamer | None = None,
        past: Past | None = None,
    ) -> list[Completion]:
        """Denoise a batch.

        Args:
            prompts (sequence of `str`): as `prompt` returns them.
            indices (sequence of `int`): number of each prompt in the run. With `--seed` it determines the row's seed,
                so a text depends neither on the batch size nor on where a run was resumed.
            streamer (`TextDiffusionStreamer`, *optional*): shows the answer to a single prompt.
            past (`Past`, *optional*): what earlier answers have computed, used where `takes_past`.
        """
        inputs = self._encode(prompts)
        generators = [row_generator(self.seed, index) for index in indices]
        started = time.perf_counter()
        rows, width = inputs["input_ids"].shape
        with silent_keyboard(), explain_out_of_memory(self.model, rows, width, self.options):
            try:
                output = self.model.generate(
                    **inputs, **self.options, generator=generators, streamer=streamer, tokenizer=self.tokenizer,
                    constraint=self.constraint, past=past if self.takes_past else None, return_dict_in_generate=True,
                )  # fmt: skip
            except BaseException:
                if streamer is not None:
                    streamer.abort()
                raise
        sequences = output.sequences.cpu()  # an accelerator has finished only now
        seconds = (time.perf_counter() - started) / len(prompts)
        tokens = (output.tokens_per_forward * output.forwards).round().long().tolist()
        texts = self._texts(inputs.to("cpu"), sequences)
        return [Completion(*row, seconds) for row in zip(texts, output.forwards.tolist(), tokens, strict=True)]

    def _encode(self, prompts: Sequence[str]) -> BatchEncoding:
        return encode(self.tokenizer, prompts, not self.prompter.templated).to(canvas_device(self.model))

    def _texts(self, inputs: BatchEncoding, sequences: torch.Tensor) -> list[str]:
        length = inputs["input_ids"].shape[1]
        filled = (inputs["input_ids"] == self._config.mask_token_id) & inputs["attention_mask"].bool()
        rows = [row if any_mask else row[length:] for row, any_mask in zip(sequences, filled.any(1), strict=True)]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def summary(answers: Sequence[Completion]) -> str:
    """Tokens per second, forwards and tokens per forward, in one line."""
    tokens, forwards = sum(answer.tokens for answer in answers), sum(answer.forwards for answer in answers)
    seconds = sum(answer.seconds for answer in answers)
    return (
        f"{tokens} tokens in {seconds:.1f} s ({tokens / max(seconds, 1e-9):.1f} tokens/s), "
        f"{forwards} forwards, {tokens / max(forwards, 1):.2f} tokens per forward"
    )


def model_settings(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """The settings in `add_model_options` that an answer depends on, except the seed, as JSON."""
    return identity(args.model, model) | {
        "tokenizer": args.tokenizer and own_name(args.tokenizer),
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantize": args.quantize,
        "device": model.device.type,
        "system": args.system,
        "raw": args.raw,
    }


def load(args: argparse.Namespace, autoregressive: bool = False) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load the model and tokenizer that the options of `add_model_options` name."""
    quiet_loading(args.model)
    return load_model(
        args.model,
        tokenizer=args.tokenizer,
        device=args.device,
        dtype=args.dtype,
        quantize=args.quantize,
        autoregressive=autoregressive,
    )


def quiet_loading(model: str | None) -> None:
    """Silence warnings while this model loads; progress bars stay for models that take long."""
    logging.set_verbosity_error()
    if model is None or not sys.stderr.isatty():
        logging.disable_progress_bar()
