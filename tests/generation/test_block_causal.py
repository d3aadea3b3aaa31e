"""A model that declares block-causal attention: what its positions see, blocks that lie where its own do, and a prefix
cache that is exact."""

import copy
import itertools

import pytest
import torch

from conv_dlm.generation import BlockCausal, SettingError

MASK, EOS, PAD = 3, 2, 0
BLOCK = 8
PROMPTS = torch.tensor([[PAD, PAD, 1, 40, 50, 60, 70, 80, 90, 91, 92], [1, 44, MASK, MASK, 80, 81, 82, 83, 84, 85, 86]])


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request, tiny_llada):
    model = copy.deepcopy(tiny_llada)
    model.set_attn_implementation(request.param)
    model.attention_pattern = BlockCausal(BLOCK)
    return model


def run(model, prompts=PROMPTS, **keywords):
    keywords = dict(max_new_tokens=30, eos_token_id=None, pad_token_id=PAD, block_length=BLOCK) | keywords
    return model.generate(
        prompts, attention_mask=(prompts != PAD).long(), return_dict_in_generate=True, output_history=True,
        generator=[torch.Generator().manual_seed(row) for row in range(len(prompts))], **keywords,
    )  # fmt: skip


def logits_by_hand(model, ids):
    """Of one row without padding, by a mask [1, 1, L, L] that is written out."""
    block = torch.arange(len(ids)) // BLOCK
    visible = (block[None, :] <= block[:, None])[None, None]
    if model.config._attn_implementation == "eager":
        visible = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = model(input_ids=ids[None], attention_mask=visible).logits[0].float()
    logits[:, MASK] = -torch.inf
    return logits


def test_positions_see_the_blocks_up_to_their_own(model):
    """Every committed token is the best one by a forward over the row with that mask, in blocks from position 0."""
    out = run(model, decode_type="threshold", threshold=0.3)
    for row, start in ((0, 2), (1, 0)):
        for step, canvas in enumerate(out.history[:-1]):
            logits = logits_by_hand(model, canvas[row, start:])
            now = out.unmasked_at[row, start:] == step
            assert torch.equal(logits.argmax(-1)[now], out.sequences[row, start:][now])
            first_mask = int((canvas[row, start:] == MASK).int().argmax())
            if now.any():  # all of a step are of the first block that has a mask, from the text's first position
                assert set((now.nonzero().flatten() // BLOCK).tolist()) == {first_mask // BLOCK}


def test_the_prefix_cache_is_exact_and_computes_the_current_block_alone(model):
    settings = dict(decode_type="threshold", threshold=0.3)
    plain, shapes = run(model, **settings), []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    cached = run(model, **settings, cache_implementation="block")
    handle.remove()
    for name in ("sequences", "unmasked_at", "forwards", "history"):
        assert torch.equal(plain[name], cached[name])
    assert max(shapes[-8:]) <= 2 * BLOCK  # of 41: the block, and the one before it as long as its last token is new
    alone = run(model, PROMPTS[:1, 2:], **settings, cache_implementation="block")
    assert torch.equal(alone.sequences[0], cached.sequences[0, 2:])


def test_without_a_cache_nothing_behind_the_current_block_is_computed(model):
    lengths = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    run(model, PROMPTS[1:], decode_type="threshold", threshold=0.3)
    handle.remove()
    assert lengths == sorted(lengths) and lengths[0] == BLOCK and set(lengths) == {8, 16, 24, 32, 40, 41}


@pytest.mark.parametrize("decode_type", ["conv", "llada", "semi_ar", "remdm", "editing", "pc_sampler"])
def test_other_types_work_with_it_too(model, decode_type):
    settings = dict(decode_type=decode_type)
    settings |= {"threshold": 0.1, "editing_threshold": 0.02} if decode_type == "editing" else {"steps": 20}
    settings |= {} if decode_type in ("llada", "semi_ar", "editing", "pc_sampler") else {"block_length": None}
    plain, cached = run(model, **settings), run(model, **settings, cache_implementation="block")
    assert torch.equal(plain.sequences, cached.sequences) and torch.equal(plain.unmasked_at, cached.unmasked_at)
    for row, start in ((0, 2), (1, 0)):  # one block after the other; only the last step fills what is left anywhere
        steps = out_of_blocks(plain, row, start)
        assert all(max(before) < min(after) for before, after in itertools.pairwise(steps))


def out_of_blocks(out, row, start):
    """The steps that unmasked something in each of the model's blocks of a row, but for the last step."""
    at = out.unmasked_at[row, start:].split(BLOCK)
    steps = [set(block[block >= 0].tolist()) - {len(out.history) - 2, len(out.history) - 1} for block in at]
    return [block for block in steps if block]


@pytest.mark.parametrize("decode_type", ["freedave_threshold", "wino", "lopa"])
def test_what_is_computed_beside_the_canvas_sees_no_later_block(model, decode_type):
    """Drafts are right; and a row ends as it does where nothing follows its first blocks."""
    settings = {"threshold": 0.08} if "freedave" in decode_type else {}
    settings |= {"verify_threshold": 0.05} if decode_type == "wino" else {}
    settings |= {"block_length": None, "threshold": 0.2, "align_blocks": True} if decode_type == "lopa" else {}
    out = run(model, decode_type=decode_type, **settings)
    if "freedave" in decode_type:
        plain = run(model, decode_type="threshold", **settings)
        assert torch.equal(out.sequences, plain.sequences) and (out.forwards <= plain.forwards).all()
    else:
        alone = run(model, PROMPTS[:1, 2:], decode_type=decode_type, **settings)
        assert torch.equal(alone.unmasked_at[0], out.unmasked_at[0, 2:])


@pytest.mark.parametrize("decode_type", ["freedave_threshold", "wino", "lopa"])
def test_what_is_computed_beside_the_canvas_reads_shifted_logits(model, decode_type):
    """Drafts are right, rows on their own; a position is predicted from its left neighbour, of the block before too."""
    settings = {"shift_logits": True} | ({"verify_threshold": 0.05} if decode_type == "wino" else {"threshold": 0.08})
    settings |= {"block_length": None} if decode_type == "lopa" else {}
    out = run(model, decode_type=decode_type, **settings)
    if "freedave" in decode_type:
        plain = run(model, decode_type="threshold", **settings)
        assert torch.equal(out.sequences, plain.sequences) and (out.forwards <= plain.forwards).all()
    alone = run(model, PROMPTS[:1, 2:], decode_type=decode_type, **settings)
    assert torch.equal(alone.unmasked_at[0], out.unmasked_at[0, 2:])


@pytest.mark.parametrize("shifted", [False, True])
def test_several_of_its_blocks_in_flight(model, shifted):
    """Blocks open before those in front of them are there, and no position sees a later block: so the cache is exact,
    and every token is the best one of a forward over the row with the mask written out."""
    settings = dict(decode_type="d2f", threshold=0.2, block_add_threshold=0.3, block_length=None, shift_logits=shifted)
    plain, cached = run(model, **settings), run(model, **settings, cache_implementation="block")
    for name in ("sequences", "unmasked_at", "forwards", "history"):
        assert torch.equal(plain[name], cached[name])
    for row, start in ((0, 2), (1, 0)):
        for step, canvas in enumerate(plain.history[:-1]):
            now = plain.unmasked_at[row, start:] == step
            best = logits_by_hand(model, canvas[row, start:]).argmax(-1)
            best = best.roll(1) if shifted else best
            assert torch.equal(best[now], plain.sequences[row, start:][now])
        steps = out_of_blocks(plain, row, start)
        assert any(max(before) > min(after) for before, after in itertools.pairwise(steps))
    alone = run(model, PROMPTS[:1, 2:], **settings)
    assert torch.equal(alone.unmasked_at[0], plain.unmasked_at[0, 2:])


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"decode_type": "slide"}, "decode_type"), ({"decode_type": "multiblock", "block_length": None}, "decode_type"),
     ({"decode_type": "d2f", "flight_length": 4, "block_length": None}, "flight_length"),
     ({"decode_type": "saber"}, "decode_type"), ({"decode_type": "ccd"}, "decode_type"),
     ({"decode_type": "guided"}, "decode_type"), ({"decode_type": "speculative"}, "decode_type"),
     ({"decode_type": "threshold", "exit_schedule": "linear"}, "exit_schedule"),
     ({"decode_type": "threshold", "block_length": 2 * BLOCK}, "block_length")],
)  # fmt: skip
def test_what_denoises_more_than_a_block_at_once_is_refused(model, settings, field):
    with pytest.raises(SettingError) as error:
        run(model, **settings)
    assert error.value.field == field
    assert "block" in str(error.value)


def test_a_bidirectional_model_has_no_exact_cache(tiny_llada):
    with pytest.raises(SettingError, match="declares no such `attention_pattern`"):
        run(tiny_llada, decode_type="threshold", cache_implementation="block")
