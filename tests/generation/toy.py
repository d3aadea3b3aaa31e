"""The rebuildable toy denoiser of the golden runs, as a Transformers model."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from conv_dlm import DiffusionGenerationMixin

GOLDEN = Path(__file__).parents[1] / "fixtures" / "decoding"


def load_golden(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    return json.loads((GOLDEN / f"{name}.json").read_text()), load_file(GOLDEN / f"{name}.safetensors")


class ToyConfig(PreTrainedConfig):
    model_type = "toy"


class ToyModel(PreTrainedModel, DiffusionGenerationMixin):
    """logits[b, i] = W[i] + E[x[b, i-1]] + E2[x[b, i+1]] + G[number of unmasked positions of row b]."""

    config_class = ToyConfig
    supports_window_logits = True

    def __init__(self, tensors: dict[str, torch.Tensor], mask_token_id: int) -> None:
        super().__init__(ToyConfig(mask_token_id=mask_token_id))
        for name in ("W", "E", "E2", "G"):
            self.register_buffer(name, tensors[f"toy.{name}"])
        self.mask = mask_token_id
        self.forwards = 0
        self.post_init()

    @property
    def device(self) -> torch.device:
        return self.W.device

    def forward(self, input_ids, attention_mask=None, logits_to_keep=0):
        self.forwards += 1
        logits = self.W[: input_ids.shape[1]].repeat(input_ids.shape[0], 1, 1)
        logits[:, 1:] += self.E[input_ids[:, :-1]]
        logits[:, :-1] += self.E2[input_ids[:, 1:]]
        logits += self.G[(input_ids != self.mask).sum(1)][:, None]
        if isinstance(logits_to_keep, torch.Tensor):
            logits = torch.take_along_dim(logits, logits_to_keep[..., None], dim=1)
        return MaskedLMOutput(logits=logits)
