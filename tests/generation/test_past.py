"""Keys and values from one call to the next: the same text, and only what is new is computed."""

import copy

import pytest
import torch

import conv_dlm
from conv_dlm.generation import BlockCausal, SettingError

MASK, PAD = 3, 0
BLOCK = 8
FIRST = ([1, 40, 50, 60, 70, 80, 90, 91, 92, 93, 94, 95], [1, 44, 80, 81])


@pytest.fixture
def model(tiny_llada):
    model = copy.deepcopy(tiny_llada)
    model.attention_pattern = BlockCausal(BLOCK)
    return model


def run(model, rows, **keywords):
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    keywords = dict(decode_type="threshold", threshold=0.3, cache_implementation="block", eos_token_id=None) | keywords
    return model.generate(
        ids, attention_mask=mask, return_dict_in_generate=True, max_new_tokens=20,
        pad_token_id=PAD, generator=[torch.Generator().manual_seed(len(row)) for row in rows], **keywords,
    )  # fmt: skip


def texts(out, rows):
    """Of prompts, the rows without padding."""
    padding = [max(map(len, rows)) - len(row) for row in rows]
    return [row[start:] for row, start in zip(out.sequences.tolist(), padding, strict=True)]


def computed_positions(model):
    found = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return found


@pytest.mark.parametrize(
    "settings",
    [{}, {"shift_logits": True}, {"decode_type": "conv", "steps": 9, "threshold": None}, {"align_blocks": True}],
)
def test_a_second_turn_computes_what_is_new(model, settings):
    rows, past, computed = [list(row) for row in FIRST], conv_dlm.Past(), computed_positions(model)
    saved = []
    for turn in range(3):
        plain, without = run(model, rows, **settings), sum(computed)
        computed.clear()
        out, needed = run(model, rows, past=past, **settings), sum(computed)
        computed.clear()
        assert torch.equal(out.sequences, plain.sequences) and torch.equal(out.unmasked_at, plain.unmasked_at)
        assert out.past is past
        for ids, text in zip(past.ids, texts(out, rows), strict=True):
            assert ids == text[: len(ids)] and len(ids) >= len(text) - 2 * BLOCK
            assert settings.get("align_blocks") or len(ids) % BLOCK == 0
        saved.append(without - needed)
        rows = [[*text, 100 + turn, 7, 9] for text in texts(out, rows)]
    assert saved[0] == 0
    if not settings.get("align_blocks"):  # whose blocks lie elsewhere in another turn
        assert saved[2] > saved[1] > 0


def test_what_differs_is_computed_anew(model):
    """A row that was edited, one that became shorter, and one that is the same."""
    past = conv_dlm.Past()
    rows = [*FIRST, list(range(20, 50))]
    answers = texts(run(model, rows, past=past), rows)
    edited = [*answers[0][:3], 77, *answers[0][4:]]
    again = [edited, answers[1][:9], [*answers[2], 5]]
    assert torch.equal(run(model, again, past=past).sequences, run(model, again).sequences)
    other = [[5, 6], [7, 8], [9]]
    assert torch.equal(run(model, other, past=past).sequences, run(model, other).sequences)


def test_rows_that_end_early_are_kept_too(model):
    past = conv_dlm.Past()
    end = int(run(model, FIRST).sequences[0, -18])
    out = run(model, FIRST, past=past, eos_token_id=end, eos_fill=True)
    assert out.finish_reason[0] == "eos"
    again = [[*text, 9, 9] for text in texts(out, FIRST)]
    assert torch.equal(run(model, again, past=past).sequences, run(model, again).sequences)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"past": {}}, "is a dict"),
        ({"cache_implementation": None}, "with `cache_implementation='block'`"),
        ({"cache_implementation": "sub_block", "block_length": 4}, "with `cache_implementation='block'`"),
        ({"guidance_scale": 2.0}, "guidance compares"),
        ({"past_key_values": 1}, "from left to right; pass `past=conv_dlm.Past"),
    ],
)
def test_what_would_not_be_right_is_refused(model, keywords, message):
    with pytest.raises(SettingError, match=message):
        run(model, FIRST, **{"past": conv_dlm.Past()} | keywords)


def test_it_belongs_to_a_model_and_a_batch(model, tiny_llada):
    past = conv_dlm.Past()
    run(model, FIRST, past=past)
    with pytest.raises(SettingError, match="has 2 rows, and the batch has 1"):
        run(model, FIRST[:1], past=past)
    with pytest.raises(SettingError, match="is of another model"):
        run(copy.deepcopy(model), FIRST, past=past)
