"""MDLM's conditioning on the noise level, and computing it once when it is constant."""

import copy

import pytest
import torch
from torch.nn import functional as F

from conv_dlm.models import MDLM, MDLMConfig


@pytest.fixture
def golden(golden_of):
    return golden_of("mdlm")


@pytest.fixture
def timed(golden, model):
    """The golden model as if it had been trained with time conditioning."""
    config = copy.deepcopy(model.config)
    config.time_conditioning = True
    return MDLM.from_pretrained(golden.folder, config=config)


@pytest.fixture
def count(model):
    """Calls of the conditioning path and of the blocks."""
    calls = {"conditioning": 0, "blocks": 0}

    def counter(name):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    for block in model.backbone.blocks:
        block.adaLN_modulation.register_forward_hook(counter("conditioning"))
        block.register_forward_hook(counter("blocks"))
    model.backbone.sigma_map.register_forward_hook(counter("conditioning"))
    return calls


def test_level_0_is_what_a_model_without_time_conditioning_sees(golden, timed):
    logits = timed(golden.ids, timesteps=torch.zeros(3)).logits
    torch.testing.assert_close(logits, golden.cases["logits"], rtol=0, atol=1e-5)


def test_each_row_has_its_own_level(golden, timed):
    levels = torch.tensor([0.0, 0.7, 3.0])
    logits = timed(golden.ids, timesteps=levels).logits
    for row, level in enumerate(levels):
        alone = timed(golden.ids[row : row + 1], timesteps=level[None]).logits[0]
        torch.testing.assert_close(logits[row], alone, rtol=0, atol=1e-5)
    assert (logits - timed(golden.ids, timesteps=torch.zeros(3)).logits)[1:].abs().max() > 0.01


def test_levels_become_sinusoids_then_an_mlp(golden, timed):
    sigma, tensors = 0.7, golden.tensors
    angles = sigma * torch.tensor([10000.0 ** (-i / 128) for i in range(128)])
    x = torch.cat((angles.cos(), angles.sin()))
    for layer in (0, 2):
        name = f"backbone.sigma_map.mlp.{layer}"
        x = F.silu(F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"]))
    torch.testing.assert_close(timed.backbone.sigma_map(torch.tensor([sigma]))[0], x, rtol=1e-4, atol=1e-5)


def test_a_missing_level_and_a_misplaced_one_are_errors(golden, timed, model):
    with pytest.raises(ValueError, match="timesteps"):
        timed(golden.ids)
    with pytest.raises(ValueError, match="timesteps="):
        model(golden.ids, torch.zeros(3))  # the original's positional sigma


def test_constant_conditioning_is_computed_once(golden, model, count):
    expected = model(golden.ids).logits
    count.update(conditioning=0, blocks=0)
    with model.constant_conditioning():
        for _ in range(5):
            assert torch.equal(model(golden.ids).logits, expected)
    assert count == {"conditioning": 3, "blocks": 10}


def test_generation_computes_it_once(golden, model, count):
    model.generate(golden.ids[:1, :4], max_new_tokens=8, steps=4, decode_type="topk", pad_token_id=128)
    assert count["blocks"] > 4
    assert count["conditioning"] == 3


def test_time_conditioning_is_never_held(golden, timed):
    levels = torch.tensor([0.0, 0.7, 3.0])
    expected = timed(golden.ids, timesteps=levels).logits
    with timed.constant_conditioning():
        assert torch.equal(timed(golden.ids, timesteps=levels).logits, expected)


@pytest.mark.parametrize("change", ["edit", "load", "cast", "failure"])
def test_nothing_is_held_outside(golden, model, change):
    weight = model.backbone.blocks[0].adaLN_modulation.weight
    try:
        with torch.no_grad(), model.constant_conditioning():
            before = model(golden.ids).logits
            if change == "failure":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        change = "edit"
    if change == "edit":
        weight.data.mul_(0.5)
    elif change == "load":
        model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()})
    else:
        model.double()
    fresh = MDLM(model.config).to(model.dtype).eval()
    fresh.load_state_dict(model.state_dict())
    logits = model(golden.ids).logits
    assert torch.equal(logits, fresh(golden.ids).logits)
    assert (change == "cast") == bool((logits - before).abs().max() < 1e-4)


def test_compiled_forward_reads_what_is_held(golden, model, count):
    compiled, expected = torch.compile(model, fullgraph=True, backend="eager"), model(golden.ids).logits
    with torch.no_grad(), model.constant_conditioning():
        count.update(conditioning=0)
        for _ in range(2):
            assert torch.equal(compiled(golden.ids).logits, expected)
        assert count["conditioning"] == 0


def test_a_fresh_model_starts_flat():
    """adaLN-Zero: the first gradients of a new model come from the output head alone."""
    model = MDLM(MDLMConfig(vocab_size=20, hidden_dim=16, n_heads=2, n_blocks=1, cond_dim=4))
    assert model(torch.arange(6)[None]).logits.abs().max() == 0
    assert model.backbone.vocab_embed.weight.std() > 0.01
