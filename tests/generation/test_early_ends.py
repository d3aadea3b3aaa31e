"""Rows that end early: at a clear end token, or when everything left of them is clear."""

import math

import pytest
import torch

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.exits import EXIT_SCHEDULES, mean_margin

MASK, EOS, PAD = 3, 2, 0


def run(model, prompt, **keywords):
    prompt = torch.tensor(prompt)
    keywords = dict(return_dict_in_generate=True, output_history=True) | keywords
    generators = [torch.Generator().manual_seed(row) for row in range(len(prompt))]
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), generator=generators, **keywords)


def test_schedules():
    progress = torch.tensor([0.0, 0.25, 0.5, 1.0])

    def taus(schedule, low=2.5, **decay):
        return EXIT_SCHEDULES[schedule](exit_high=7.5, exit_low=low, **decay).required_margin(progress).tolist()

    assert taus("linear") == pytest.approx([7.5, 6.25, 5.0, 2.5])
    assert taus("cosine") == pytest.approx([7.5, 2.5 + 2.5 * (1 + math.sqrt(0.5)), 5.0, 2.5])
    expected = [7.5 * math.exp(-2 * p) for p in (0, 0.25, 0.5, 1)]
    assert taus("exponential", low=0.0, exit_decay=2.0) == pytest.approx(expected)
    progress = torch.tensor([0.0, 0.32, 0.33, 0.66, 0.67, 1.0])
    assert taus("staged") == [7.5, 7.5, 5.0, 5.0, 2.5, 2.5]


def test_the_mean_is_over_the_masks_of_a_row():
    margin = torch.tensor([[1.0, 5.0, 9.0], [4.0, 4.0, 4.0]])
    undecided = torch.tensor([[True, False, True], [False, False, False]])
    assert mean_margin(margin, undecided).tolist() == [5.0, 0.0]


@torch.no_grad()
def first_margins(model, prompt, new_tokens):
    """Best tokens and their mean margin on the first canvas, by a plain forward."""
    ids = torch.nn.functional.pad(torch.tensor(prompt), (0, new_tokens), value=MASK)
    logits = model(input_ids=ids).logits[:, -new_tokens:].float()
    logits[..., MASK] = -torch.inf
    top = logits.topk(2, dim=-1)
    return top.indices[..., 0], (top.values[..., 0] - top.values[..., 1]).mean(1)


@pytest.mark.parametrize("decode_type", ["llada", "conv", "threshold", "topk"])
def test_a_clear_row_takes_its_best_tokens_and_leaves(tiny_llada, decode_type):
    """The threshold lies between the margins of two rows: the clearer one is finished after one forward."""
    prompts = [[1, 40, 50, 60], [1, 44, 80, 90]]
    best, margins = first_margins(tiny_llada, prompts, 16)
    clear, other = margins.argmax().item(), margins.argmin().item()
    between = float(margins.mean())
    steps = {} if decode_type == "threshold" else dict(steps=16)
    out = run(
        tiny_llada, prompts, decode_type=decode_type, max_new_tokens=16, exit_schedule="linear", exit_high=between,
        exit_low=between, eos_token_id=None, **steps,
    )  # fmt: skip
    assert int(out.forwards[clear]) == 1 and int(out.forwards[other]) > 1
    assert torch.equal(out.sequences[clear, 4:], best[clear])
    assert (out.unmasked_at[clear, 4:] == 0).all()


def test_patience_waits_for_the_same_tokens_twice(tiny_llada):
    settings = dict(decode_type="llada", steps=16, max_new_tokens=16, exit_schedule="linear", eos_token_id=None)
    impatient = run(tiny_llada, [[1, 40, 50, 60]], **settings, exit_high=0.0, exit_low=0.0)
    patient = run(tiny_llada, [[1, 40, 50, 60]], **settings, exit_high=0.0, exit_low=0.0, exit_patience=True)
    assert int(impatient.forwards) == 1 < int(patient.forwards) < 16
    last = int(patient.unmasked_at.max())
    assert last >= 1 and int((patient.unmasked_at == last).sum()) > 1


def test_the_threshold_falls_with_the_share_unmasked_at_ones_own_pace(tiny_llada):
    """One token a step, until the mean margin of the rest is above what the share decided asks for."""
    settings = dict(decode_type="threshold", threshold=1.0, max_new_tokens=20, eos_token_id=None)
    high = 1.0
    out = run(tiny_llada, [[1, 40, 50, 60]], **settings, exit_schedule="linear", exit_high=high, exit_low=0.0)
    exit_step = int(out.unmasked_at.max())
    assert 0 < exit_step < 19 and int((out.unmasked_at == exit_step).sum()) == 20 - exit_step
    for step in range(exit_step + 1):
        canvas = out.history[step]
        with torch.no_grad():
            logits = tiny_llada(input_ids=canvas).logits.float()
        logits[..., MASK] = -torch.inf
        top = logits.topk(2, dim=-1).values
        mean = float(mean_margin(top[..., 0] - top[..., 1], canvas == MASK))
        assert (mean >= high * (1 - step / 20)) == (step == exit_step)


def test_a_cut_keeps_the_masks_before_the_end():
    canvas = Canvas.from_prompt(torch.tensor([[1, 9, 9], [1, 9, 9]]), 5, MASK)
    where = torch.zeros(2, 8, dtype=torch.bool)
    where[0, [5, 6]] = True
    canvas.cut_after(where, torch.tensor([EOS]), 4)
    assert canvas.ids[0].tolist() == [1, 9, 9, MASK, MASK, MASK, EOS, EOS]
    assert canvas.end.tolist() == [6, 8] and canvas.unmasked_at[0].tolist() == [-1] * 6 + [4, 4]
    assert canvas.ids[1].tolist() == [1, 9, 9] + [MASK] * 5


def test_no_cut_before_text_at_the_right():
    canvas = Canvas.from_prompt(torch.tensor([[1, MASK, MASK, 9]]), 2, MASK)
    where = torch.zeros(1, 6, dtype=torch.bool)
    where[0, 1] = True
    canvas.cut_after(where, torch.tensor([EOS]), 0)
    assert canvas.end.tolist() == [6] and canvas.masked.sum() == 4


def test_a_clear_end_shortens_what_the_model_sees(tiny_llada):
    """Every token is an end token: the first position of the window that is clear cuts all others off."""
    seen = []
    handle = tiny_llada.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    settings = dict(decode_type="conv", kernel_size=8, steps=20, max_new_tokens=40, eos_token_id=list(range(4, 260)))
    try:
        run(tiny_llada, [[1, 40, 50]], **settings, pad_token_id=PAD)
        whole = list(seen)
        seen.clear()
        cut = run(tiny_llada, [[1, 40, 50]], **settings, pad_token_id=PAD, eos_threshold=0.0)
    finally:
        handle.remove()
    assert set(whole) == {43} and seen[0] == 43 and set(seen[1:]) == {4}
    assert int(cut.forwards) == len(seen)
    assert int((cut.sequences[0] != PAD).sum()) == 4  # the prompt and its end


def test_ends_that_are_not_clear_are_left_alone(tiny_llada):
    settings = dict(decode_type="conv", kernel_size=8, steps=20, max_new_tokens=40, pad_token_id=PAD)
    plain = run(tiny_llada, [[1, 40, 50]], **settings)
    out = run(tiny_llada, [[1, 40, 50]], **settings, eos_threshold=1.0)
    assert torch.equal(plain.sequences, out.sequences) and torch.equal(plain.unmasked_at, out.unmasked_at)


def test_rows_retire_with_their_first_end_and_the_output_says_after_how_many_forwards(tiny_llada):
    prompts = [[1, 40, 50], [1, 44, 60], [1, 70, 80]]
    settings = dict(decode_type="threshold", threshold=1.0, block_length=4, max_new_tokens=24, pad_token_id=PAD)
    out = run(tiny_llada, prompts, **settings, eos_token_id=list(range(160, 260)))
    for row in range(3):
        masks = (out.history[:, row] == MASK).sum(1)
        assert int(out.forwards[row]) == int((masks > 0).sum())
    assert len(set(out.forwards.tolist())) > 1
