"""Rules with weights of their own: Learn2PD's filter and a policy of one layer."""

import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM

import conv_dlm
from conv_dlm.generation.heads import save_head
from conv_dlm.generation.parts.learned import block_places, policy_log_prob, policy_logits
from trainers.unmasking_filter import new_filter
from trainers.unmasking_policy import new_policy

MASK, PAD, WIDTH = 3, 0, 8
IDS = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 60, 70, 80, 90]])


def steep_filter(threshold):
    """What is final is what a threshold of confidence says."""
    return {
        "hidden.weight": torch.eye(WIDTH),
        "hidden.bias": torch.zeros(WIDTH),
        "final.weight": 1e4 * torch.eye(WIDTH),
        "final.bias": torch.full((WIDTH,), -1e4 * threshold),
    }


def steep_policy(threshold):
    return new_policy(16, threshold, 1e4, torch.Generator().manual_seed(0))


HEADS = {"learned_filter": steep_filter, "learned_policy": steep_policy}


@pytest.fixture
def model(tiny_llada):
    """A model without heads, before and after."""
    vars(tiny_llada).pop("unmasking_heads", None)
    yield tiny_llada
    vars(tiny_llada).pop("unmasking_heads", None)


def with_head(model, decode_type, head):
    model.unmasking_heads = {f"unmasking_{decode_type.removeprefix('learned_')}": head}


def run(model, ids=IDS, generator=None, **keywords):
    keywords = dict(max_new_tokens=20, block_length=WIDTH, eos_token_id=None, pad_token_id=PAD) | keywords
    return model.generate(
        ids, attention_mask=(ids != PAD).long(), return_dict_in_generate=True, generator=generator, **keywords
    )


@pytest.mark.parametrize("decode_type", HEADS)
def test_a_head_that_is_a_threshold_decodes_as_threshold(model, decode_type):
    """Blocks of 8, 8 and 4; a threshold that some candidates reach."""
    plain = run(model, decode_type="threshold", threshold=0.1)
    assert 3 < int(plain.forwards.max()) < 20
    with_head(model, decode_type, HEADS[decode_type](0.1))
    out = run(model, decode_type=decode_type)
    assert torch.equal(out.sequences, plain.sequences) and torch.equal(out.unmasked_at, plain.unmasked_at)


@pytest.mark.parametrize("decode_type", HEADS)
def test_rows_are_what_they_are_alone(model, decode_type):
    draws = torch.Generator().manual_seed(1)
    head = new_filter(WIDTH, 32, draws) if decode_type == "learned_filter" else new_policy(16, 0.1, 9.0, draws)
    if decode_type == "learned_policy":
        head["final.weight"] = torch.randn(16, generator=draws)
    with_head(model, decode_type, head)
    more = {"filter_threshold": 0.5} if decode_type == "learned_filter" else {}
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    both = run(model, generator=generators, decode_type=decode_type, **more)
    assert int(both.forwards.min()) > 1 and int(both.forwards.max()) < 20 and not (both.sequences == MASK).any()
    for row, start in ((0, 2), (1, 0)):
        alone = run(
            model, IDS[row : row + 1, start:], [torch.Generator().manual_seed((5, 6)[row])], decode_type=decode_type,
            **more,
        )  # fmt: skip
        assert torch.equal(alone.sequences[0], both.sequences[row, start:])
        assert int(alone.forwards[0]) == int(both.forwards[row])


def test_a_policys_temperature(model):
    """At 0 nothing is drawn; above it, other draws unmask otherwise."""
    with_head(model, "learned_policy", new_policy(16, 0.05, 30.0, torch.Generator().manual_seed(0)))

    def steps(seed, **more):
        generators = [torch.Generator().manual_seed(seed + row) for row in range(2)]
        return run(model, generator=generators, decode_type="learned_policy", **more).unmasked_at

    assert torch.equal(steps(0, policy_temperature=0.0), steps(7, policy_temperature=0.0))
    assert torch.equal(steps(0), steps(0)) and not torch.equal(steps(0), steps(7))


def test_probabilities_of_all_that_a_policy_may_commit_sum_to_one():
    logits = torch.tensor([[0.3, -1.2, 2.0, 0.7]])
    eligible = torch.tensor([[True, True, False, True]])
    total = 0.0
    for choice in itertools.product([False, True], repeat=3):
        if any(choice):
            commit = torch.tensor([[choice[0], choice[1], False, choice[2]]])
            total += float(policy_log_prob(logits, eligible, commit).exp())
    assert total == pytest.approx(1.0)
    nothing = torch.zeros_like(eligible)
    assert float(policy_log_prob(logits, nothing, nothing)) == 0.0


def test_a_policy_sees_its_block_and_nothing_else():
    """Other positions, and how many stand before the block, make no difference."""
    head = new_policy(16, 0.5, 1.0, torch.Generator().manual_seed(0))
    head["final.weight"] = torch.randn(16, generator=torch.Generator().manual_seed(1))
    confidence = torch.tensor([[0.9, 0.2, 0.4, 0.6, 0.1]])
    masked, seen = torch.tensor([[True, True, False, True, True]]), torch.tensor([[False, True, True, True, False]])
    its = policy_logits(head, confidence, masked, seen)[:, 1:4]
    alone = policy_logits(head, confidence[:, 1:4], masked[:, 1:4], seen[:, 1:4])
    torch.testing.assert_close(its, alone)
    confidence[0, 3] = 0.3
    other = policy_logits(head, confidence, masked, seen)[:, 1:4]
    assert not torch.allclose(its[:, 0], other[:, 0])  # a neighbour's confidence counts
    assert block_places(seen, 3).tolist() == [[3, 0, 1, 2, 3]]


def test_heads_lie_beside_the_model_and_are_loaded_with_it(model, tmp_path):
    """From the model's folder, from another one, and an error that says how to make one."""
    with pytest.raises(conv_dlm.SettingError, match=r"no unmasking_filter\.safetensors; train one by `python -m trai"):
        run(model, decode_type="learned_filter")
    model.save_pretrained(tmp_path / "model")
    save_head(steep_filter(0.1), "unmasking_filter", tmp_path / "model")
    save_head(steep_filter(0.0), "unmasking_filter", tmp_path / "other")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    plain = run(model, decode_type="threshold", threshold=0.1)
    assert torch.equal(run(loaded, decode_type="learned_filter").unmasked_at, plain.unmasked_at)
    other = run(loaded, decode_type="learned_filter", unmasking_head=str(tmp_path / "other"))
    assert other.forwards.tolist() == [3, 3]  # each block at once
    with pytest.raises(conv_dlm.SettingError, match=r"`block_length`=9 is too long: .* for blocks of 8"):
        run(loaded, decode_type="learned_filter", block_length=9)
    with pytest.raises(conv_dlm.SettingError, match="unmasking_policy"):
        run(loaded, decode_type="learned_policy", unmasking_head=str(tmp_path / "other"))
