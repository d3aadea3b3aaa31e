"""The loop asks the device once a step, whatever it does in it."""

import copy

import pytest
import torch

ASKING = ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "nonzero", "cpu", "numpy")


@pytest.mark.parametrize(
    "settings",
    [
        dict(decode_type="conv", steps=16),
        dict(decode_type="llada", block_length=8, steps=16),
        dict(decode_type="conv_threshold"),
        dict(decode_type="conv", steps=16, cache_implementation="window", cache_refresh_interval=4),
        dict(decode_type="threshold", block_length=8, cache_implementation="dual", eos_threshold=0.9),
        dict(decode_type="conv", steps=16, exit_schedule="linear"),
        dict(decode_type="conv", kernel_size=8, steps=16, lookahead=16),
    ],
    ids=str,
)
def test_one_question_a_step(tiny_llada, settings, monkeypatch):
    """By counting the methods of tensors that wait for a device."""
    model, asked, forwards = copy.deepcopy(tiny_llada), [], []
    prompt = torch.tensor([[1, 40, 50, 60]])
    common = dict(attention_mask=torch.ones_like(prompt), max_new_tokens=24, eos_token_id=2, pad_token_id=0)
    model.register_forward_pre_hook(lambda *_: forwards.append(len(asked)))

    def counting(name):
        method = getattr(torch.Tensor, name)
        return lambda self, *args, **kwargs: (asked.append(name), method(self, *args, **kwargs))[1]

    for name in ASKING:
        monkeypatch.setattr(torch.Tensor, name, counting(name))
    model.generate(prompt, **common, **settings)
    monkeypatch.undo()
    assert len(forwards) > 3
    # a step without a forward asks too, so there may be several between two forwards; none asks anything else
    loop = asked[forwards[0] : forwards[-1]]
    assert set(loop) == {"tolist"} and len(loop) <= 24
