"""The rebuildable toy denoisers of the golden runs of the field's rules, as a Transformers model."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from conv_dlm import DiffusionGenerationMixin

GOLDEN = Path(__file__).parents[1] / "fixtures" / "rules"
MASK, EOS, BEYOND = 36, 2, 255


def golden_runs() -> list[dict]:
    """Rule, toy, settings, prompt, forwards, and the canvas before every forward, the result last."""
    canvases = load_file(GOLDEN / "runs.safetensors")
    return [
        run | {"canvas": [[token for token in row if token != BEYOND] for row in canvases[run["id"]].tolist()]}
        for run in json.loads((GOLDEN / "runs.json").read_text())
    ]


class RuleToyConfig(PreTrainedConfig):
    model_type = "rule_toy"


class RuleToy(PreTrainedModel, DiffusionGenerationMixin):
    """A query sees what its mask allows: logits[q] = W[pos_q] + sum over visible keys k of E[x_k] where k stands at its
    left, E2[x_k] at its right, S[x_k] at its own position, T[x_k] at position 0; + G[visible keys that are no mask].

    `shifted`: the same logits one position earlier, W[pos_q + 1] and so on."""

    config_class = RuleToyConfig
    supports_window_logits = True
    supports_canvas_cache = True  # as far as positions and masks go, which is what extra positions need
    _supports_sdpa = True

    def __init__(self, name: str, shifted: bool = False) -> None:
        self.shift_logits = shifted
        config = RuleToyConfig(mask_token_id=MASK)
        config.num_hidden_layers, config.vocab_size = 0, 37
        super().__init__(config)
        tensors = load_file(GOLDEN / "toys.safetensors")
        for part in ("W", "E", "E2", "S", "T", "G"):
            self.register_buffer(part, tensors[f"{name}.{part}"])
        self.post_init()

    @property
    def device(self) -> torch.device:
        return self.W.device

    def forward(self, input_ids, attention_mask=None, position_ids=None, logits_to_keep=0, past_key_values=None):
        rows, length = input_ids.shape
        if position_ids is None:
            position_ids = torch.arange(length).expand(rows, -1)
        if attention_mask is None:
            attention_mask = torch.ones(rows, 1, 1, length, dtype=torch.bool)
        if attention_mask.dim() == 2:
            attention_mask = attention_mask[:, None, None].bool()
        visible = attention_mask.expand(-1, 1, length, -1)[:, 0]
        target = position_ids + self.shift_logits
        distance = position_ids[:, None] - target[..., None]
        logits = self.W[target] + self.G[(visible & (input_ids != MASK)[:, None]).sum(-1)]
        first = (position_ids == 0)[:, None].expand_as(visible)
        seen = ((self.E, distance == -1), (self.E2, distance == 1), (self.S, distance == 0), (self.T, first))
        for table, where in seen:
            logits = logits + (visible & where).to(table.dtype) @ table[input_ids]
        if isinstance(logits_to_keep, torch.Tensor):
            logits = torch.take_along_dim(logits, logits_to_keep[..., None], dim=1)
        return MaskedLMOutput(logits=logits)


class RuleVerifier(PreTrainedModel):
    """A causal toy: logits[i] = A[x_i] + A2[x_{i-1}], without the second term at i = 0."""

    config_class = RuleToyConfig

    def __init__(self, name: str) -> None:
        config = RuleToyConfig()
        config.vocab_size = 37
        super().__init__(config)
        tensors = load_file(GOLDEN / "toys.safetensors")
        self.A, self.A2 = tensors[f"{name}.A"], tensors[f"{name}.A2"]
        self.post_init()

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        second = self.A2[input_ids.roll(1, 1)].masked_fill((position_ids == 0)[..., None], 0.0)
        return MaskedLMOutput(logits=self.A[input_ids] + second)
