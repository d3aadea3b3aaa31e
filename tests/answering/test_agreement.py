"""Tokenizers and models that mean the same by the mask, and those that don't."""

import copy
import json
import warnings
from pathlib import Path

import pytest

from conv_dlm.answering.loading import load_model
from tests.models.families import tiny

MASK = 3


@pytest.fixture
def checkpoint(tiny_tokenizer, tmp_path):
    """`checkpoint(mask, change)`: a folder whose config has that mask, and whose tokenizer is changed."""

    def make(mask, change=lambda tokenizer: None):
        tiny("A2DQwen2LMHeadModel").save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"mask_token_id": mask}))
        (tmp_path / "generation_config.json").unlink()
        tokenizer = copy.deepcopy(tiny_tokenizer)
        change(tokenizer)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return make


def undeclare(tokenizer):
    tokenizer.mask_token = None


@pytest.mark.parametrize("change", [lambda tokenizer: None, undeclare])
def test_the_mask_of_a_config_without_one_is_the_tokenizers(checkpoint, change):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model, _ = load_model(checkpoint(None, change), device="cpu")
    assert model.generation_config.mask_token_id == MASK


def test_a_disagreement_is_one_sentence(checkpoint):
    with pytest.warns(UserWarning, match=r"The mask is 9 for the model and 3 \('<\|mask\|>'\) for the tokenizer"):
        model, _ = load_model(checkpoint(9), device="cpu")
    assert model.generation_config.mask_token_id == 9


def test_a_mask_that_is_an_ordinary_token_is_one_sentence(checkpoint):
    folder = checkpoint(99)
    for file in Path(folder).glob("tokenizer*.json"):  # nothing there is called a mask
        text = file.read_text().replace("<|mask|>", "<|other|>").replace('"mask_token"', '"other_token"')
        file.write_text(text)
    with pytest.warns(UserWarning, match="The model's mask 99 is an ordinary token of the tokenizer"):
        load_model(folder, device="cpu")
