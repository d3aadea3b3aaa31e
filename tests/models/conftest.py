"""Golden checkpoints of both models: tiny, random, in the layout of the published ones, with reference logits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, PreTrainedModel

import conv_dlm.models  # registers both

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODELS = ("llada", "mdlm")
assert conv_dlm.models


@dataclass(frozen=True)
class Golden:
    """A golden checkpoint: its folder, cases and tensors."""

    folder: Path

    @property
    def cases(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "cases.safetensors")

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model.safetensors")

    @property
    def ids(self) -> torch.Tensor:
        return self.cases["input_ids"]

    def load(self, **kwargs: Any) -> PreTrainedModel:
        return AutoModelForMaskedLM.from_pretrained(self.folder, **kwargs)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def golden_of() -> Callable[[str], Golden]:
    return lambda name: Golden(FIXTURES / f"{name}_tiny")


@pytest.fixture(params=MODELS)
def golden(request: pytest.FixtureRequest) -> Golden:
    """Each golden checkpoint in turn."""
    return Golden(FIXTURES / f"{request.param}_tiny")


@pytest.fixture
def model(golden: Golden) -> PreTrainedModel:
    """The model of `golden`, fresh, fp32, in eval mode."""
    return golden.load()


@pytest.fixture
def batch_of_lengths(golden: Golden) -> Callable[[str], tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]]:
    """Three sequences of different lengths, as they are, and in a batch padded on the given side, with its mask."""
    rows = [golden.ids[0, :16], golden.ids[1, :13], golden.ids[2, :9]]

    def pad(side: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7, padding_side=side)
        ones = [torch.ones_like(row) for row in rows]
        return rows, padded, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)

    return pad
