"""Longer contexts by the rotary embedding, against its closed forms."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from conv_dlm.generation import SettingError
from conv_dlm.models.rotary import ntk_rope_theta
from tests.models.families import FIXTURES

# and the key that says how many positions were trained
FAMILIES = {"llada_tiny": "max_sequence_length"} | dict.fromkeys(
    ("dream_tiny", "sdar_tiny", "llada2_tiny"), "max_position_embeddings"
)
IDS = torch.arange(3, 43).reshape(1, 40)


def load(family, **kwargs):
    return AutoModelForCausalLM.from_pretrained(FIXTURES / family, **kwargs)


def geometry(model):
    """Base and number of rotated positions of a head."""
    rope = model.config.rope_parameters
    head = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    return rope["rope_theta"], int(head * rope.get("partial_rotary_factor", 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_dynamic_scaling_is_a_base_that_follows_the_length(family):
    """theta (f L / M - (f - 1))^(d / (d - 2)) for L positions of which M were trained."""
    theta, rotated = geometry(load(family))
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    model = load(family, rope_scaling=scaling, **{FAMILIES[family]: 16})
    base = theta * (4 * 40 / 16 - 3) ** (rotated / (rotated - 2))
    expected = load(family, rope_theta=base)(IDS).logits
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert (expected - load(family)(IDS).logits).abs().max() > 0.05
    short = IDS[:, :16]  # where nothing is scaled
    torch.testing.assert_close(model(short).logits, load(family)(short).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_scaling_is_of_positions_and_is_saved(family, tmp_path):
    model = load(family, rope_scaling={"rope_type": "linear", "factor": 2.0})
    positions = torch.arange(40)[None] * 2
    expected = load(family)(IDS).logits
    if family in ("llada_tiny", "dream_tiny"):  # the others count their blocks by positions
        torch.testing.assert_close(model(IDS, position_ids=positions).logits, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(IDS).logits, expected, atol=1e-2)
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(IDS).logits, model(IDS).logits)


def test_ntk_aware_scaling_keeps_the_fastest_frequency_and_slows_the_slowest():
    base = ntk_rope_theta(500_000.0, 8.0, 128)
    before, after = (1.0 / b ** (torch.arange(0, 128, 2, dtype=torch.float64) / 128) for b in (500_000.0, base))
    assert after[0] == before[0] and float(before[-1] / after[-1]) == pytest.approx(8.0)


@pytest.mark.parametrize("family", ["llada_tiny", "sdar_tiny"])
def test_what_generate_makes_of_it(family):
    """A longer context is there; parts of a text have no length of their own, so that caches are refused."""
    model = load(family, rope_scaling={"rope_type": "dynamic", "factor": 4.0}, **{FAMILIES[family]: 16})
    run = dict(max_new_tokens=20, decode_type="threshold", mask_token_id=130, eos_token_id=None, pad_token_id=0)
    assert model.generate(IDS[:, :10], **run).shape == (1, 30)
    with pytest.raises(SettingError, match="need a context of 70, but the model's is 64"):
        model.generate(IDS[:, :10], **run | {"max_new_tokens": 60})
    with pytest.raises(SettingError, match="`rope_scaling` goes by the length"):
        model.generate(IDS[:, :10], **run, cache_implementation="window")
    with pytest.raises(ValueError, match="has the `rope_type` 'ntk'"):
        load("llada_tiny", rope_scaling={"rope_type": "ntk", "factor": 4.0}).config.validate_architecture()
