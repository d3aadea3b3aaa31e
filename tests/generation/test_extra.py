"""Positions beside the canvas: shadow positions, by WINO, and drafts, by a rule from a file outside of the package."""

import copy

import pytest
import torch
from transformers import CompileConfig

from conv_dlm import SettingError
from tests.generation.test_own_parts import own_parts as own_parts

MASK, PAD, NEW = 3, 0, 24
PROMPTS = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 44, 60, 81, 82], [1, 5, 6, 7, 8]])
VERIFIED = dict(decode_type="wino", block_length=8, wino_threshold=0.02, verify_threshold=0.015)
DRAFTED = dict(decode_type="drafted", block_length=8)


def run(model, prompts=PROMPTS, **keywords):
    return model.generate(
        prompts, attention_mask=(prompts != PAD).long(), max_new_tokens=NEW, eos_token_id=None, pad_token_id=PAD,
        return_dict_in_generate=True, output_history=True, **keywords,
    )  # fmt: skip


def wino_by_hand(model, prompt, new_tokens, block_length, accept, believe):
    """The canvases of one row, by forwards over canvas and shadows whose mask is written out position by position."""
    ids = torch.cat([prompt, torch.full((new_tokens,), MASK)])
    length, history, masked_again = len(ids), [ids], 0
    for start in range(len(prompt), length, block_length):
        block, accepted = list(range(start, min(start + block_length, length))), 30
        while any(int(ids[i]) == MASK for i in block):
            total = length + len(block)
            visible = torch.zeros(total, total, dtype=torch.bool)
            visible[:length, :length] = True
            for j, position in enumerate(block):
                visible[length + j] = True
                visible[length + j, position] = False
            with torch.no_grad():
                logits = model(
                    input_ids=torch.cat([ids, torch.full((len(block),), MASK)])[None],
                    position_ids=torch.tensor([*range(length), *block])[None], attention_mask=visible[None, None],
                ).logits[0]  # fmt: skip
            logits[:, MASK] = -torch.inf
            p = logits.float().softmax(-1)
            masks = [i for i in block if int(ids[i]) == MASK]
            by_confidence = sorted(masks, key=lambda i: -float(p[i].max()))
            cap = min(max(7 * len(masks) // 10, 5), 20)
            chosen = [i for i in by_confidence if float(p[i].max()) > accept][:cap] or by_confidence[:1]
            belief = {i: float(p[length + j, ids[i]]) for j, i in enumerate(block) if i not in masks}
            doubted = sorted((i for i in belief if belief[i] < believe), key=belief.get) if len(chosen) > 1 else []
            doubted = doubted[: accepted - 1] if len(doubted) >= accepted else doubted
            ids = ids.clone()
            ids[chosen] = p[chosen].argmax(-1)
            ids[doubted] = MASK
            accepted, masked_again = len(chosen), masked_again + len(doubted)
            history.append(ids)
    return torch.stack(history), masked_again


def test_shadow_positions(tiny_llada):
    """Each row of a padded batch takes the steps of the rule as it is written down for one row."""
    out, again = run(tiny_llada, **VERIFIED), 0
    for row, start in ((0, 2), (1, 0), (2, 0)):
        expected, count = wino_by_hand(tiny_llada, PROMPTS[row, start:], NEW, 8, 0.02, 0.015)
        steps = len(expected)
        assert torch.equal(out.history[:steps, row, start:], expected)
        assert (out.history[steps:, row, start:] == expected[-1]).all() and int(out.forwards[row]) == steps - 1
        again += count
    assert again > 3 and int(out.forwards.min()) != int(out.forwards.max())


def test_drafts_change_the_forwards_and_not_the_text(own_parts, tiny_llada):
    one_by_one = run(tiny_llada, decode_type="llada", block_length=8, steps=NEW)
    out = run(tiny_llada, **DRAFTED)
    assert torch.equal(out.sequences, one_by_one.sequences)
    assert int(one_by_one.forwards.min()) == NEW > int(out.forwards.max())
    assert int(run(tiny_llada, **DRAFTED, drafts=1).forwards.sum()) > int(out.forwards.sum())


@pytest.mark.parametrize("settings", [VERIFIED, DRAFTED], ids=["wino", "drafted"])
def test_eager_attention_guidance_and_compiled_forwards(own_parts, tiny_llada, settings):
    plain, model = run(tiny_llada, **settings), copy.deepcopy(tiny_llada)
    config = CompileConfig(fullgraph=True, mode=None, backend="eager")
    torch._dynamo.reset()
    assert torch.equal(run(model, **settings, compile=True, compile_config=config).history, plain.history)
    model.set_attn_implementation("eager")
    assert torch.equal(run(model, **settings).history, plain.history)
    guided = run(tiny_llada, **settings, guidance_scale=1.5)
    alone = run(tiny_llada, PROMPTS[:1, 2:], **settings, guidance_scale=1.5)
    assert torch.equal(guided.sequences[0, 2:], alone.sequences[0])


def test_what_cannot_be_is_refused(tiny_llada):
    with pytest.raises(SettingError, match="computes positions beside it"):
        run(tiny_llada, **VERIFIED, cache_implementation="window")
    model = copy.deepcopy(tiny_llada)
    model.supports_canvas_cache = False
    with pytest.raises(SettingError, match="a mask for each query"):
        run(model, **VERIFIED)


def growing_by_hand(model, prompt, new_tokens, unsure, growth):
    """One row, on a canvas that is as long as it is."""
    ids, forwards, longest = torch.cat([prompt, torch.full((4,), MASK)]), 0, len(prompt) + new_tokens
    while (ids == MASK).any():
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].float()
        logits[:, MASK] = -torch.inf
        confidence, token = logits.softmax(-1).max(-1)
        best = confidence.masked_fill(ids != MASK, -1).argmax()
        ids[best], forwards = token[best], forwards + 1
        if confidence[best] < unsure:
            ids = torch.cat([ids, torch.full((min(growth, longest - len(ids)),), MASK)])
    return ids, forwards


@pytest.mark.parametrize("cache", [{}, dict(cache_implementation="window", cache_refresh_interval=1)], ids=str)
def test_a_rule_chooses_the_length(own_parts, tiny_llada, cache):
    """Masks behind a row's end are neither seen nor open; each row of a batch gets as long as it would alone."""
    lengths = set()
    for unsure in (0.05, 0.1, 0.15):
        out = run(tiny_llada, decode_type="growing", unsure=unsure, **cache)
        for row, start in ((0, 2), (1, 0), (2, 0)):
            ids, forwards = growing_by_hand(tiny_llada, PROMPTS[row, start:], NEW, unsure, 3)
            end = start + len(ids)
            assert torch.equal(out.sequences[row, start:end], ids) and (out.sequences[row, end:] == PAD).all()
            assert int(out.forwards[row]) == forwards and out.finish_reason[row] == "length"
            lengths.add(len(ids) - len(PROMPTS[row, start:]))
    assert min(lengths) < NEW // 2 and NEW in lengths and len(lengths) > 2
