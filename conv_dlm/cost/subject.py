"""The timed model, by name or as a shape with random weights, and its prompts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, BatchEncoding

from conv_dlm.answering.answers import encode
from conv_dlm.answering.loading import find_device, load_model
from conv_dlm.answering.prompting import Prompter
from conv_dlm.cost.shapes import shape_config

QUESTIONS = (  # the default prompts
    "A box holds 12 pencils. How many pencils do 3 boxes hold?",
    "Anna reads 10 pages a day. How many pages does she read in 2 weeks?",
    "A farmer has 15 cows and sells 6 of them. How many cows are left?",
    "Tickets cost 8 dollars each. How much do 7 tickets cost?",
)
RANDOM_PROMPT = 64  # tokens of a prompt for random weights


@dataclass(frozen=True)
class Subject:
    """Describes what to load; it can be sent to another process and loaded there.

    Attributes:
        model (`str`, *optional*): name or folder. Defaults to the embedded checkpoint if there is no `shape`.
        shape (`str`, *optional*): a name in `conv_dlm.cost.shapes.SHAPES`, for random weights.
        tokenizer, device, dtype, quantize: as for [`~conv_dlm.answering.loading.load_model`].
        prompts (tuple of `str`, *optional*): for a model by name. Defaults to `QUESTIONS`.
        system, raw: as for [`~conv_dlm.answering.prompting.Prompter`].
        prompt_tokens (`int`, *optional*): make each prompt as long, by repeating it. Defaults to what prompts have, and
            to 64 of random ones.
    """

    model: str | None = None
    shape: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    prompts: tuple[str, ...] | None = None
    system: str | None = None
    raw: bool = False
    prompt_tokens: int | None = None

    def load(self) -> "Loaded":
        """Load the model on its device."""
        if self.shape is not None:
            model = random_model(self.shape, self.device, self.dtype, self.quantize)
            return Loaded(model, None, prompt_tokens=self.prompt_tokens)
        model, tokenizer = load_model(
            self.model, tokenizer=self.tokenizer, device=self.device, dtype=self.dtype, quantize=self.quantize
        )
        prompter = Prompter(tokenizer, self.system, self.raw)
        texts = [prompter([{"role": "user", "content": prompt}]) for prompt in self.prompts or QUESTIONS]
        if self.prompts is None:
            return Loaded(model, tokenizer, texts, not prompter.templated, prompt_tokens=self.prompt_tokens)
        return Loaded(model, tokenizer, texts, not prompter.templated, True, self.prompt_tokens)


@dataclass(frozen=True)
class Loaded:
    """A model and its prompts.

    Attributes:
        model: in eval mode.
        tokenizer: `None` with random weights; their prompts are random tokens.
        texts (`list[str]`): prompts as the model reads them.
        add_special_tokens (`bool`): whether the tokenizer adds its BOS.
        all_of_them (`bool`): whether a run answers all texts, batch by batch, or only one batch.
        prompt_tokens (`int`, *optional*): length of each prompt; None for what they have.
    """

    model: Any
    tokenizer: Any
    texts: list[str] | None = None
    add_special_tokens: bool = False
    all_of_them: bool = False
    prompt_tokens: int | None = None

    def batches(self, size: int) -> list[BatchEncoding]:
        """The batches of a run, `input_ids` and `attention_mask` [size, P]; texts are repeated to fill a batch."""
        if self.texts is None:
            return [BatchEncoding(_random_prompts(self.model, size, self.prompt_tokens or RANDOM_PROMPT))]
        count = -(-len(self.texts) // size) if self.all_of_them else 1
        texts = [self.texts[index % len(self.texts)] for index in range(count * size)]
        parts = (texts[start : start + size] for start in range(0, len(texts), size))
        found = (encode(self.tokenizer, part, self.add_special_tokens) for part in parts)
        return [self._as_long(batch).to(self.model.device) for batch in found]

    def _as_long(self, batch: BatchEncoding) -> BatchEncoding:
        """The batch with each prompt repeated, or cut, to `prompt_tokens`."""
        if self.prompt_tokens is None:
            return batch
        rows = [
            ids[mask.bool()].repeat(-(-self.prompt_tokens // int(mask.sum())))[: self.prompt_tokens]
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        ids = torch.stack(rows)
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def make_room(self, new_tokens: int) -> str | None:
        """With random weights, extend the context for these batches if needed; returns a message if it did."""
        config, wanted = self.model.config, (self.prompt_tokens or RANDOM_PROMPT) + new_tokens
        if self.texts is not None or config.max_position_embeddings >= wanted:
            return None
        note = f"the shape's context of {config.max_position_embeddings} tokens is raised to {wanted}"
        config.max_position_embeddings = wanted
        return note


def random_model(shape: str, device: str | None, dtype: str | None, quantize: str | None) -> Any:
    """A model of this shape with random weights, always the same ones; no end token, which would come by chance.

    Args:
        dtype (`str`, *optional*): float32 on a CPU, else bfloat16, if `None` or "auto".
        quantize (`str`, *optional*): "8bit" or "4bit": what is quantised are random weights in `dtype`.

    Raises:
        ValueError: there is no such shape or device.
    """
    if device == "auto":
        raise ValueError("`device`='auto' spreads a checkpoint over devices; name one of them for random weights.")
    config, place = shape_config(shape), torch.device(find_device(device))
    default = "float32" if place.type == "cpu" else "bfloat16"
    number_type = getattr(torch, default if dtype in (None, "auto") else str(dtype))
    with torch.random.fork_rng(), place:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=number_type).eval()
    model.generation_config.eos_token_id = None
    model.requires_grad_(False)
    if quantize is not None:
        _quantize(model, quantize)
    return model


def _quantize(model: Any, quantize: str) -> None:
    """Replace the linear layers, but for the output head, as bitsandbytes does when it loads a checkpoint."""
    try:
        from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
    except ImportError as error:
        raise ImportError(f"`quantize`={quantize!r} needs bitsandbytes: `pip install conv-dlm[quant]`.") from error
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear or layer is head:
                continue
            sizes, bias = (layer.in_features, layer.out_features), layer.bias is not None
            new: nn.Module
            if quantize == "4bit":
                new = Linear4bit(*sizes, bias=bias, compute_dtype=model.dtype)
            else:
                new = Linear8bitLt(*sizes, bias=bias, has_fp16_weights=False)
            new.load_state_dict(layer.state_dict())
            setattr(parent, name, new.to(layer.weight.device).eval())


def _random_prompts(model: Any, rows: int, length: int) -> dict[str, torch.Tensor]:
    special = {getattr(model.config, f"{name}_token_id", None) for name in ("mask", "pad", "bos", "eos")}
    usual = torch.tensor([token for token in range(model.config.vocab_size) if token not in special])
    drawn = torch.randint(len(usual), (rows, length), generator=torch.Generator().manual_seed(0))
    ids = usual[drawn].to(model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
