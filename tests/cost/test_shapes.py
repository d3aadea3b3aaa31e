"""Shapes by name are the published models': as many parameters, and nothing left of how a file is packed."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from conv_dlm.cost.shapes import SHAPES, shape_config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llada-8b", 8_015_581_184),
        ("mdlm-small", 169_627_218),
        ("llada-110m", 111_037_248),
        ("embedded", 5_639_424),
    ],
)
def test_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_can_generate_and_be_built_dense(name: str) -> None:
    config = shape_config(name)
    assert config.mask_token_id is not None
    assert getattr(config, "quantization_config", None) is None


def test_each_call_gives_a_config_of_its_own() -> None:
    shape_config("llada-8b").n_layers = 1
    assert shape_config("llada-8b").n_layers == 32


def test_an_unknown_shape_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="`shape`='llada' is not known; use one of llada-8b, mdlm-small, llada-110m"):
        shape_config("llada")
