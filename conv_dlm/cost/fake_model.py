"""A model without values, to count the memory of its steps: a few of its blocks, with the requested storage.

The weights are fake tensors, which have a shape and a dtype and take no memory. bitsandbytes has no kernels for them,
so its layers have stand-ins that allocate what it does: see `FourBit` and `EightBit`.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import once_differentiable

from conv_dlm.cost.sizes import FLOAT_BYTES


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The blocks of a transformer: its longest list of modules. Raises ValueError if there is none."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of blocks, so its steps cannot be counted.")
    return max(lists, key=len)


def with_blocks(model: Any, count: int) -> Any:
    """A copy of a model on the meta device with its first `count` blocks."""
    left_out: dict[int, Any] = {id(block): None for block in blocks_of(model)[count:]}
    kept = copy.deepcopy(model, left_out)  # each as None, without a copy
    del blocks_of(kept)[count:]
    for parent in list(kept.modules()):
        for name, part in list(parent.named_children()):
            if getattr(getattr(part, "gate_up_proj", None), "ndim", 0) == 3:
                setattr(parent, name, AllExperts(part))
    return kept


def store(model: Any, storage: str) -> Any:
    """Convert the weights of a model on the meta device, in place, to one of `STORAGES`. Returns the model.

    As Transformers does, the output head stays as it is, and what bitsandbytes leaves alone is in bfloat16.
    """
    if storage in FLOAT_BYTES:
        return model.to(getattr(torch, storage))
    model.to(torch.bfloat16)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head:
                setattr(parent, name, (EightBit if storage == "8bit" else FourBit)(layer))
    return model


def fake_parameters(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace the parameters and buffers of a module on the meta device with fake CPU tensors.

    Tied parameters stay tied.
    """
    fakes: dict[Tensor, nn.Parameter] = {}  # by identity
    with mode:
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is None:
                    continue
                if parameter not in fakes:
                    fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                    fakes[parameter] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
                part._parameters[name] = fakes[parameter]
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class AllExperts(nn.Module):
    """Experts in one tensor, for tokens without values, which can't be routed: each token is computed once for each of
    its experts, as `grouped_mm` does. T tokens, K experts of each, D width."""

    def __init__(self, experts: Any) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj, self.act_fn = experts.gate_up_proj, experts.down_proj, experts.act_fn

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """[T, D], [T, K], [T, K] -> [T, D]."""
        each = hidden_states[:, None].expand(*top_k_index.shape, -1).flatten(0, 1).contiguous()
        gate, up = F.linear(each, self.gate_up_proj[0]).chunk(2, dim=-1)
        result = F.linear(self.act_fn(gate) * up, self.down_proj[0])
        weighted = result * top_k_weights.reshape(-1, 1)
        weighted = weighted[torch.arange(len(weighted), device=weighted.device)]  # back from the experts' order
        return weighted.view(*top_k_index.shape, -1).sum(1).to(hidden_states.dtype)


class _Quantised(nn.Linear):
    """A linear layer (so PEFT adapts it) whose weight is as large as bitsandbytes keeps it."""

    def __init__(self, layer: nn.Linear, bytes_of_weight: int) -> None:
        super().__init__(1, 1, bias=False, device="meta")
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = nn.Parameter(torch.empty(bytes_of_weight, dtype=torch.uint8, device="meta"), requires_grad=False)
        self.bias = layer.bias


class FourBit(_Quantised):
    """A matrix in 4 bits: a product unpacks all of it to the dtype of the inputs, and so does its backward pass."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer, layer.weight.numel() // 2)

    def forward(self, input: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        result: Tensor = _Unpacked.apply(input.to(dtype), self.out_features)
        return result if self.bias is None else result + self.bias


class _Unpacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, out_features: int) -> Tensor:
        ctx.out_features, ctx.in_features = out_features, input.shape[-1]
        return F.linear(input, input.new_empty(out_features, ctx.in_features))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ gradient.new_empty(ctx.out_features, ctx.in_features), None


class EightBit(_Quantised):
    """A matrix in 8 bits (LLM.int8): a product has its inputs in 8 bits too, and its result in 32 before 16 bits."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer, layer.weight.numel())

    def forward(self, input: Tensor) -> Tensor:
        shape = (*input.shape[:-1], self.out_features)
        in_8_bits = input.new_empty(input.shape, dtype=torch.int8)
        in_32_bits = input.new_empty(shape, dtype=torch.int32)
        result = input.new_empty(shape)
        del in_8_bits, in_32_bits
        return result if self.bias is None else result + self.bias
