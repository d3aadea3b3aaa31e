"""The memory of a step of `generate` and of a training step, counted by running the step on tensors without values.

What the count adds up is alive in the step itself: hidden states, attention, logits, gradients, whatever the model is.
Its blocks are alike, so three of them stand for all: outside training a block leaves nothing behind, and in training
each further block adds what the third keeps for its backward. Attention is SDPA's, which makes no matrix of L x L.

Not counted, because they happen inside an operation or a kernel: what `logsumexp` makes (`SCORE_COPIES` has it), the
buffers of libraries, and what a GPU's allocator holds in reserve.
"""

import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import once_differentiable

from conv_dlm.cost.fake_model import blocks_of, fake_parameters, store, with_blocks
from conv_dlm.cost.live_memory import LiveMemory
from conv_dlm.cost.sizes import Parameters, Shape, number_bytes
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.drawing import SCORES_AT_ONCE, SCORES_AT_ONCE_ELSEWHERE
from conv_dlm.utils.checkpointing import checkpoint_activations, old_names

SCORE_COPIES = 3  # of the scores of some positions in float32: the loop's, and two that `logsumexp` makes inside
LOSS_AT_ONCE = 2**22  # logits that the trainers' loss puts through its softmax at a time
COUNTED_BLOCKS = 3  # of a model: the first differs from the others, for its input needs no gradient
DEFAULT_RANK = 64  # as the recipes and arXiv 2509.15188 have it


@dataclass(frozen=True)
class GenerationStep:
    """A step of `generate` that may unmask every new token: the step that takes the most memory.

    Attributes:
        rows (`int`): the batch size, including return sequences.
        prompt_tokens, new_tokens (`int`): positions of prompt and response.
        guided (`bool`): whether guidance doubles the rows.
        cached (`bool`): whether keys and values are cached.
        device_type (`str`): "cpu", "cuda", ...
    """

    rows: int = 1
    prompt_tokens: int = 128
    new_tokens: int = 128
    guided: bool = False
    cached: bool = False
    device_type: str = "cuda"

    @property
    def canvas(self) -> int:
        return self.prompt_tokens + self.new_tokens


@dataclass(frozen=True)
class TrainingStep:
    """A step that trains adapters (LoRA).

    Attributes:
        rows, length (`int`): the shape of the batch. Models that see block by block get each row twice, a noisy copy
            and a clean one (BD3LM).
        projected (`int`): positions of all rows that are projected to the vocabulary.
        checkpointing (`bool`): whether activation checkpointing is on.
        device_type (`str`): "cpu", "cuda", ...
    """

    rows: int = 1
    length: int = 1024
    projected: int = 1024
    checkpointing: bool = True
    device_type: str = "cuda"


@dataclass(frozen=True, eq=False)
class GenerationMemory:
    """The memory of `generate` in bytes, for a model with a given storage.

    Args:
        model: the model on the meta device, in any dtype.
        storage (`str`): one of `conv_dlm.cost.sizes.STORAGES`.
    """

    model: Any
    storage: str

    @cached_property
    def _fake(self) -> tuple[Any, FakeTensorMode]:
        model, mode = store(with_blocks(self.model, COUNTED_BLOCKS), self.storage).eval(), FakeTensorMode()
        fake_parameters(model, mode)
        return model, mode

    @lru_cache  # noqa: B019  # lives as long as its report
    def activations(self, step: GenerationStep) -> int:
        """The activations at the peak of a step."""
        model, mode = self._fake
        mask = getattr(model.config, "mask_token_id", None) or 0
        with mode, torch.no_grad(), LiveMemory(model) as memory:
            before = memory.now
            prompt = torch.zeros(step.rows, step.prompt_tokens, dtype=torch.long)
            padding = torch.zeros_like(prompt, dtype=torch.bool) if step.rows > 1 else None
            canvas = Canvas.from_prompt(prompt, step.new_tokens, mask, padding)
            denoiser = Denoiser(
                model, None if padding is None else canvas.padding, 1.5 if step.guided else 1.0, shift_logits=False
            )
            window = torch.arange(step.prompt_tokens, step.canvas).expand(step.rows, -1)
            logits = denoiser(canvas, None, window).flatten(0, 1)
            at_once = SCORES_AT_ONCE.get(step.device_type, SCORES_AT_ONCE_ELSEWHERE)
            size = (max(1, min(at_once // logits.shape[1], len(logits))), logits.shape[1])
            _scores = [torch.empty(size) for _ in range(SCORE_COPIES)]
            return memory.peak - before

    def cache(self, step: GenerationStep) -> int:
        """Keys and values of the whole sequence, if they are cached."""
        if not step.cached:
            return 0
        shape = Shape.of(self.model.config)
        tokens = step.rows * (2 if step.guided else 1) * step.canvas
        return 2 * shape.layers * shape.key_value * tokens * number_bytes(self.storage)

    @cached_property
    def weights(self) -> float:
        return Parameters.of(self.model).stored(self.storage)

    def total(self, step: GenerationStep) -> float:
        return self.weights + self.activations(step) + self.cache(step)


@dataclass(frozen=True, eq=False)
class TrainingMemory:
    """The memory of a training step with adapters in bytes. Needs PEFT.

    Args:
        model: the base model on the meta device, in any dtype.
        storage (`str`): its storage: "float32", "bfloat16" or "nf4".
        rank (`int`, *optional*, defaults to `64`): rank of the adapters.
        targets (tuple of `str` or `str`, *optional*): names of the adapted modules, or a pattern. Defaults to every
            linear layer of the blocks.
    """

    model: Any
    storage: str
    rank: int = DEFAULT_RANK
    targets: tuple[str, ...] | str | None = None

    @cached_property
    def weights(self) -> float:
        return Parameters.of(self.model).stored(self.storage)

    @cached_property
    def adapters(self) -> float:
        """Their weights, gradients and AdamW's two states."""
        model = self._adapted(TrainingStep.checkpointing, TrainingStep.device_type)  # these are the same in each
        in_blocks = sum(adapter.nbytes for adapter in _trained(blocks_of(model)))
        elsewhere = sum(adapter.nbytes for adapter in _trained(model)) - in_blocks
        return 4 * (elsewhere + in_blocks / len(blocks_of(model)) * len(blocks_of(self.model)))

    @lru_cache  # noqa: B019  # lives as long as its report
    def activations(self, step: TrainingStep) -> int:
        """The activations at the peak, without weights and adapters."""
        peak, kept = self._count(step)
        return peak + max(0, len(blocks_of(self.model)) - COUNTED_BLOCKS) * kept

    def total(self, step: TrainingStep) -> float:
        return self.weights + self.adapters + self.activations(step)

    @lru_cache  # noqa: B019
    def _adapted(self, checkpointing: bool, device_type: str) -> Any:
        """The model in training mode, with the recipes' adapters and fake weights."""
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(
            r=self.rank, lora_dropout=0.1, task_type="CAUSAL_LM",
            target_modules=list(self.targets) if isinstance(self.targets, tuple) else self.targets or "all-linear",
        )  # fmt: skip
        with old_names():
            model = get_peft_model(store(with_blocks(self.model, COUNTED_BLOCKS), self.storage), lora).train()
        if self.storage == "nf4":  # TRL keeps adapters on quantised weights in bfloat16
            for adapter in _trained(model):
                adapter.data = adapter.data.to(torch.bfloat16)
        if device_type != "cpu":
            for part in list(model.modules()):
                for name, child in part.named_children():
                    if isinstance(child, nn.Dropout):
                        setattr(part, name, _ByteMaskDropout(child.p))
        if checkpointing:
            model.enable_input_require_grads()
            checkpoint_activations(model)
        fake_parameters(model, self._mode)
        return model

    @cached_property
    def _mode(self) -> FakeTensorMode:
        return FakeTensorMode()

    def _count(self, step: TrainingStep) -> tuple[int, int]:
        """Bytes beside weights and adapters, in a step that adds to the gradients of one before it.

        Returns:
            The peak with the first `COUNTED_BLOCKS` blocks, and what each further one would keep for its backward.
        """
        model, after = self._adapted(step.checkpointing, step.device_type), []

        def read(*_: Any) -> None:
            torch.clear_autocast_cache()  # of adapters in bfloat16, which the backward doesn't find there either
            after.append(memory.now)

        with self._mode, LiveMemory(model) as memory, ExitStack() as hooks:
            for block in blocks_of(model):
                hooks.callback(block.register_forward_hook(read).remove)
            for adapter in _trained(model):
                adapter.grad = torch.zeros_like(adapter)
            before = memory.now
            ids_BL = torch.zeros(step.rows, step.length, dtype=torch.long)
            seen: dict[str, Tensor] = {}
            if getattr(model.config, "attention_pattern", None) == "block_causal":  # a noisy copy, and a clean one
                ids_BL = ids_BL.repeat(1, 2)
                length = ids_BL.shape[1]
                seen["attention_mask"] = torch.ones(step.rows, 1, length, length, dtype=torch.bool)
            kept_M = torch.arange(max(1, step.projected // step.rows))
            # the dtypes of mixed precision, as Accelerate has them
            with torch.autocast("cpu", torch.bfloat16, enabled=self.storage != "float32"):
                logits = model(input_ids=ids_BL, logits_to_keep=kept_M, use_cache=False, **seen).logits.flatten(0, 1)
            loss = _Loss.apply(logits.float())
            del logits
            loss.backward()
            kept = [late - early for early, late in itertools.pairwise(after[: len(blocks_of(model))])]
            return memory.peak - before, kept[-1] if kept else 0


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class _Loss(torch.autograd.Function):
    """The tensors of the trainers' loss: a gradient the size of the float32 logits, and some rows at a time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        _Loss._chunk(logits)
        return logits.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        result = torch.empty_like(logits)
        _Loss._chunk(logits)
        return result

    @staticmethod
    def _chunk(logits: Tensor) -> Tensor:
        rows = max(1, LOSS_AT_ONCE // logits.shape[-1])  # the next ones are there before the last ones go
        return logits.new_empty(min(2 * rows, len(logits)), logits.shape[-1])


class _ByteMaskDropout(nn.Module):
    """Dropout as a GPU has it, whose mask takes a byte for each number; a CPU's is as wide as the numbers."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.native_dropout(x, self.p, True)[0]
